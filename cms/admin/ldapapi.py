"""
The operations on user directories: C{ldapServers}, C{ldapMappings}, C{ldapSources} and
C{ldapSyncs}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import frozen

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.directoriesapi import ALLOW_REMOVAL, COUNTS
from cms.admin.interfaces import Facts, Page, Selection
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Done, Listing, Reply
from cms.web.forms import Parameter
from cms.web.refusal import Refused

SYNCS = f"{API}/ldapSyncs"
MOST_PEM = 32_000  # characters of trusted CAs; a body has at most 64 KiB
SOURCE = {"enum": ["file", "api"]}


class LdapRole(Protocol):
    """
    What the administration asks of the directories.

    A kind is the name of its list, such as C{ldapServers}.  Parameters have the names of
    the API.
    """

    async def ldap_objects(self, kind: str, selection: Selection) -> Page:
        """Those of a kind, those of the configuration file first."""
        ...

    async def ldap_object(self, kind: str, id_: str) -> tuple[str, Facts]:
        """One of them, without its password."""
        ...

    async def add_ldap_object(self, kind: str, form: Mapping[str, str]) -> str:
        """The id of the new one."""
        ...

    async def change_ldap_object(self, kind: str, id_: str, form: Mapping[str, str]) -> None:
        """Set what is given."""
        ...

    async def delete_ldap_object(self, kind: str, id_: str) -> None:
        """Delete it, if nothing refers to it."""
        ...

    async def ldap_syncs(self, selection: Selection) -> Page:
        """Those that were begun here, and the last of each source; the newest first."""
        ...

    async def ldap_sync(self, id_: str) -> tuple[str, Facts]:
        """One of them."""
        ...

    async def start_ldap_sync(self, source: str, *, allow_removal: bool) -> str:
        """
        Begin one; the answer does not wait for its end.

        @param source: The id of a source; empty for all.
        @param allow_removal: However many users are gone or disabled.
        @return: The id of the sync.
        """
        ...


@frozen
class _Kind:
    """
    A kind of object.

    @ivar path: The last part of its address; also the name of its list.
    @ivar form: The parameters of C{POST}; those of C{PUT} are the same, none required.
    @ivar shown: Further properties of answers.
    @ivar reasons: For refusals of C{POST} and C{PUT}.
    """

    path: str
    item: str
    title: str
    form: tuple[Parameter, ...]
    shown: Mapping[str, schemas.Schema]
    reasons: tuple[str, ...] = ()

    @property
    def schema(self) -> schemas.Schema:
        """Of one object."""
        kinds = {"boolean": schemas.TRUTH, "integer": schemas.WHOLE, "string": schemas.TEXT}
        given = {p.name: kinds[p.kind] for p in self.form if not p.secret}
        properties = {"id": schemas.TEXT, **given, **self.shown, "source": SOURCE}
        return schemas.record(properties, "id", "source")

    @property
    def gone(self) -> str:
        """The reason when there is no such object."""
        return f"{self.item}DoesNotExist"


_PEM = "CAs in PEM that its certificate is checked against; empty: the system's."
SERVER = _Kind(
    *("ldapServers", "ldapServer", "an LDAP server"),
    form=(
        Parameter("address", "Its host name, or IP address.", required=True, least=1, most=253),
        Parameter(
            "portNumber", "Else 636 with secure, and 389 without.", "integer", least=1, most=65535
        ),
        Parameter("username", "The DN of our account; empty: nobody's."),
        Parameter("password", "Its password.", secret=True),
        Parameter("secure", "TLS from the first byte; false: STARTTLS.", "boolean"),
        Parameter("trust", _PEM, most=MOST_PEM, lines=True),
    ),
    shown={},
)
MAPPING = _Kind(
    *("ldapMappings", "ldapMapping", "a mapping of attributes"),
    form=(
        Parameter("jidMapping", "Makes the address: $uid$@domain.", required=True, least=1),
        Parameter("nameMapping", "Makes the name that people read: $cn$."),
        Parameter("authenticationMapping", "Makes the name to bind as; empty: the entry's DN."),
        Parameter("pictureAttribute", "Has the picture that is shown; empty: none is."),
    ),
    shown={},
)
_SOURCE = _Kind(
    *("ldapSources", "ldapSource", "a source of users"),
    form=(
        Parameter("server", "The id of an ldapServer.", required=True, least=1, most=36),
        Parameter("mapping", "The id of an ldapMapping.", required=True, least=1, most=36),
        Parameter("baseDn", "The DN below which the users are.", required=True, least=1),
        Parameter("filter", "Which entries are users (RFC 4515)."),
        Parameter("groupsBaseDn", "The DN below which groups of contacts are; empty: none."),
        Parameter("groupsFilter", "Which entries are such groups (RFC 4515)."),
        Parameter(
            "newPasswordEnds", "A new password ends sessions; true when left out.", "boolean"
        ),
    ),
    shown={"name": schemas.TEXT},
    reasons=("ldapServerDoesNotExist", "ldapMappingDoesNotExist"),
)
KINDS = (SERVER, MAPPING, _SOURCE)
NUMBERS = {name: f"num{name[0].upper()}{name[1:]}" for name in COUNTS}  # as L{SYNC} has them
SYNC = schemas.record(
    {
        "id": schemas.TEXT,
        "ldapSource": schemas.TEXT,
        "state": {"enum": ["inProgress", "complete", "failed"]},
        "begun": schemas.TIME,
        "ended": schemas.TIME,
        **dict.fromkeys(NUMBERS.values(), schemas.WHOLE),
        "problem": schemas.FAULT,
    },
    *("id", "state", "begun"),
)


class LdapOperations:
    """The operations, on any implementation of the role."""

    def __init__(self, role: LdapRole) -> None:
        self._role = role

    def operations(self) -> list[Operation]:
        """All of them."""
        every = [operation for kind in KINDS for operation in self._of(kind)]
        return [*every, *self._of_syncs()]

    def _of(self, kind: _Kind) -> Sequence[Operation]:
        every, one = f"{API}/{kind.path}", f"{API}/{kind.path}/{{id}}"
        name = kind.item[0].upper() + kind.item[1:]
        asked = _Asked(self._role, kind, every)
        fixed = (kind.gone, f"{kind.item}IsInFile")
        return [
            Operation(
                "GET",
                every,
                f"list{name}s",
                f"All of kind {kind.item}: {kind.title}.",
                asked.list,
                query=SELECTION,
                answers=schemas.listing(kind.path, kind.item, kind.schema),
            ),
            Operation(
                "POST",
                every,
                f"add{name}",
                f"Make {kind.title}.",
                asked.add,
                form=kind.form,
                reasons=(*kind.reasons, "limitReached"),
            ),
            Operation(
                "GET",
                one,
                f"get{name}",
                f"Show {kind.title}.",
                asked.show,
                answers=schemas.named(kind.item, kind.schema),
                reasons=(kind.gone,),
            ),
            Operation(
                "PUT",
                one,
                f"change{name}",
                f"Change {kind.title}; what is left out stays as it is.",
                asked.change,
                form=tuple(p.optional for p in kind.form),
                reasons=(*fixed, *kind.reasons, "nothingToChange"),
            ),
            Operation(
                "DELETE",
                one,
                f"delete{name}",
                f"Delete {kind.title} to which nothing refers.",
                asked.delete,
                reasons=(*fixed, f"{kind.item}InUse"),
            ),
        ]

    def _of_syncs(self) -> Sequence[Operation]:
        return [
            Operation(
                "GET",
                SYNCS,
                "listLdapSyncs",
                "The last syncs, the newest first.",
                self.list_syncs,
                query=SELECTION,
                answers=schemas.listing("ldapSyncs", "ldapSync", SYNC),
            ),
            Operation(
                "POST",
                SYNCS,
                "addLdapSync",
                "Begin a sync of one source, or of all; GET says what becomes of it.",
                self.start_sync,
                form=(
                    Parameter("ldapSource", "The id of a source; else all.", least=1, most=36),
                    ALLOW_REMOVAL,
                ),
                reasons=("ldapSourceDoesNotExist",),
            ),
            Operation(
                "GET",
                f"{SYNCS}/{{id}}",
                "getLdapSync",
                "One sync.",
                self.show_sync,
                answers=schemas.named("ldapSync", SYNC),
                reasons=("ldapSyncDoesNotExist",),
            ),
        ]

    async def list_syncs(self, call: Call) -> Reply:
        """GET ldapSyncs."""
        page = await self._role.ldap_syncs(selection(call.query))
        return Listing("ldapSyncs", "ldapSync", page.items, page.total)

    async def start_sync(self, call: Call) -> Reply:
        """POST ldapSyncs."""
        allowed = call.form.get("allowRemoval") == "true"
        source = call.form.get("ldapSource", "")
        id_ = await self._role.start_ldap_sync(source, allow_removal=allowed)
        return Done(f"{SYNCS}/{id_}")

    async def show_sync(self, call: Call) -> Reply:
        """GET ldapSyncs/id."""
        id_, facts = await self._role.ldap_sync(call.ids["id"])
        return Document("ldapSync", facts, id_)


class _Asked:
    """The five operations of a kind."""

    def __init__(self, role: LdapRole, kind: _Kind, path: str) -> None:
        self._role = role
        self._kind = kind
        self._path = path

    async def list(self, call: Call) -> Reply:
        """GET all."""
        page = await self._role.ldap_objects(self._kind.path, selection(call.query))
        return Listing(self._kind.path, self._kind.item, page.items, page.total)

    async def add(self, call: Call) -> Reply:
        """POST."""
        id_ = await self._role.add_ldap_object(self._kind.path, call.form)
        return Done(f"{self._path}/{id_}")

    async def show(self, call: Call) -> Reply:
        """GET one."""
        id_, facts = await self._role.ldap_object(self._kind.path, call.ids["id"])
        return Document(self._kind.item, facts, id_)

    async def change(self, call: Call) -> Reply:
        """PUT."""
        if not call.form:
            raise Refused("nothingToChange", "no parameter is given", "Give what is to change.")
        await self._role.change_ldap_object(self._kind.path, call.ids["id"], call.form)
        return Done()

    async def delete(self, call: Call) -> Reply:
        """DELETE."""
        await self._role.delete_ldap_object(self._kind.path, call.ids["id"])
        return Done()
