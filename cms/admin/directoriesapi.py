"""The LDAP directories of a Callbridge: what their last syncs found, and a sync on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cms.admin import schemas
from cms.admin.interfaces import Facts
from cms.admin.operations import Call, Operation
from cms.admin.replies import Document, Listing, Reply
from cms.web.forms import Parameter
from cms.web.refusal import Refused

DIRECTORIES = "/api/v1/system/directories"
ALLOW_REMOVAL = Parameter("allowRemoval", "However many users are gone.", "boolean")
LEFT_OUT = schemas.record(
    {"entry": schemas.TEXT, "name": schemas.TEXT, "reason": schemas.TEXT}, "entry", "reason"
)
_COUNTS = ("users", "added", "changed", "removed", "disabled", "leftOut")
DIRECTORY = schemas.record(
    {
        "name": schemas.TEXT,
        "running": schemas.TRUTH,
        "nextSeconds": schemas.WHOLE,
        "ended": schemas.TEXT,
        "succeeded": schemas.TEXT,
        "seconds": schemas.NUMBER,
        **dict.fromkeys(_COUNTS, schemas.WHOLE),
        "problem": schemas.FAULT,
        "leftOutEntries": {"type": "array", "items": LEFT_OUT},
    },
    *("name", "running"),
)
BEGUN = schemas.record({"name": schemas.TEXT, "running": schemas.TRUTH}, "name", "running")


class Synced(Protocol):
    """The LDAP directories."""

    def names(self) -> Sequence[str]:
        """In the order in which users are looked up."""
        ...

    def sync(self, name: str, *, allow_removal: bool) -> None:
        """Begin a sync, or let the one under way go on; what becomes of it is in L{facts}."""
        ...

    def facts(self, name: str, *, whole: bool) -> Facts:
        """
        The last sync of one.

        @param whole: With the entries that were left out.
        """
        ...


class DirectoryOperations:
    """The operations."""

    def __init__(self, synced: Synced) -> None:
        self._synced = synced

    def operations(self) -> list[Operation]:
        """All three."""
        unknown = ("directoryDoesNotExist",)
        return [
            Operation(
                "GET",
                DIRECTORIES,
                "listDirectories",
                "The LDAP directories, and what became of the last sync of each.",
                self.list,
                answers=schemas.listing("directories", "directory", DIRECTORY),
            ),
            Operation(
                "GET",
                f"{DIRECTORIES}/{{name}}",
                "getDirectory",
                "One, with the entries that its last sync left out.",
                self.show,
                answers=schemas.named("directory", DIRECTORY),
                reasons=unknown,
            ),
            Operation(
                "POST",
                f"{DIRECTORIES}/{{name}}/sync",
                "syncDirectory",
                "Begin a sync now.",
                self.sync,
                form=(ALLOW_REMOVAL,),
                answers=schemas.named("directory", BEGUN),
                reasons=unknown,
            ),
        ]

    def list(self, call: Call) -> Reply:
        """GET system/directories."""
        found = [(None, self._synced.facts(name, whole=False)) for name in self._synced.names()]
        return Listing("directories", "directory", found, len(found))

    def show(self, call: Call) -> Reply:
        """GET system/directories/name."""
        return Document("directory", self._synced.facts(self._name(call), whole=True))

    def sync(self, call: Call) -> Reply:
        """POST system/directories/name/sync."""
        name = self._name(call)
        self._synced.sync(name, allow_removal=call.form.get("allowRemoval") == "true")
        return Document("directory", {"name": name, "running": True})

    def _name(self, call: Call) -> str:
        name = call.ids["name"]
        if name not in self._synced.names():
            cure = "Take a name of [[directory]] with kind = ldap."
            raise Refused("directoryDoesNotExist", "there is no LDAP directory of this name", cure)
        return name
