"""The user directories of a Callbridge: how they are, what their syncs found, and a sync now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.interfaces import Facts
from cms.admin.operations import Call, Operation
from cms.admin.replies import Document, Listing, Reply
from cms.web.forms import Parameter

DIRECTORIES = f"{API}/system/directories"
ALLOW_REMOVAL = Parameter(
    "allowRemoval", "Whether more users may be removed than most_removed allows.", "boolean"
)
# What a sync counts.
COUNTS = ("users", "added", "changed", "removed", "disabled", "leftOut", "sessionsEnded", "groups")
LEFT_OUT = schemas.record(
    {"entry": schemas.TEXT, "name": schemas.TEXT, "reason": schemas.TEXT}, "entry", "reason"
)
SERVER = schemas.record(
    {"address": schemas.TEXT, "connections": schemas.WHOLE, "problem": schemas.FAULT},
    *("address", "connections"),
)
DIRECTORY = schemas.record(
    {
        "name": schemas.TEXT,
        "kind": {"enum": ["local", "ldap"]},
        "servers": {"type": "array", "items": SERVER},
        "running": schemas.TRUTH,
        "entriesRead": schemas.WHOLE,
        "nextSeconds": schemas.WHOLE,
        "ended": schemas.TEXT,
        "succeeded": schemas.TEXT,
        "seconds": schemas.NUMBER,
        **dict.fromkeys(COUNTS, schemas.WHOLE),
        "problem": schemas.FAULT,
        "leftOutEntries": {"type": "array", "items": LEFT_OUT},
    },
    *("name", "kind", "running"),
)
BEGUN = schemas.record({"name": schemas.TEXT, "running": schemas.TRUTH}, "name", "running")


class DirectoriesRole(Protocol):
    """What the administration asks of the directories."""

    async def all(self) -> Sequence[Facts]:
        """In the order in which users are looked up, without the entries that were left out."""
        ...

    async def one(self, name: str) -> Facts:
        """
        One, with the entries that its last sync left out.

        @raise Refused: there is none of this name.
        """
        ...

    def sync(self, name: str, *, allow_removal: bool) -> None:
        """
        Begin a sync, or let the one under way go on; what becomes of it is in L{one}.

        @raise Refused: there is none of this name, or it is not synchronised.
        """
        ...


class DirectoryOperations:
    """The operations, on any implementation of the role."""

    def __init__(self, role: DirectoriesRole) -> None:
        self._role = role

    def operations(self) -> list[Operation]:
        """All three."""
        one, unknown = f"{DIRECTORIES}/{{name}}", ("directoryDoesNotExist",)
        every = "The directories in their order, and what became of the last sync of each."
        shown, begun = "One, with the entries that its last sync left out.", "Begin a sync now."
        listed = schemas.listing("directories", "directory", DIRECTORY)
        known = schemas.named("directory", DIRECTORY)
        return [
            Operation("GET", DIRECTORIES, "listDirectories", every, self.list, answers=listed),
            Operation("GET", one, "getDirectory", shown, self.show, answers=known, reasons=unknown),
            Operation(
                *("POST", f"{one}/sync", "syncDirectory", begun, self.sync),
                form=(ALLOW_REMOVAL,),
                answers=schemas.named("directory", BEGUN),
                reasons=(*unknown, "directoryIsLocal"),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        """GET system/directories."""
        found = [(None, facts) for facts in await self._role.all()]
        return Listing("directories", "directory", found, len(found))

    async def show(self, call: Call) -> Reply:
        """GET system/directories/name."""
        return Document("directory", await self._role.one(call.ids["name"]))

    def sync(self, call: Call) -> Reply:
        """POST system/directories/name/sync."""
        name = call.ids["name"]
        self._role.sync(name, allow_removal=call.form.get("allowRemoval") == "true")
        return Document("directory", {"name": name, "running": True})
