"""The operations of a Callbridge."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from cms.admin import schemas
from cms.admin.commonapi import API, CommonOperations, Metrics, with_document
from cms.admin.interfaces import Callbridge, Facts
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Done, Listing, Reply
from cms.admin.spacesapi import SpaceOperations, SpacesRole
from cms.web.forms import Parameter
from cms.web.refusal import Refused

XMPP = f"{API}/system/configuration/xmpp"
USERS = f"{API}/users"
SETTINGS = (
    Parameter("uniqueName", "The Callbridge's name, without a domain part.", least=1, most=63),
    Parameter("domain", "The XMPP domain.", least=1, most=253),
    Parameter("sharedSecret", "The secret that the XMPP server holds.", secret=True, least=1),
    Parameter("serverAddressOverride", "host, host:port or [v6]:port; empty means SRV.", most=300),
)
EVEN_IF_UP = Parameter("evenIfUp", "End a link that is up, too: log-ins under way fail.", "boolean")
RECONNECT = schemas.record({"result": {"enum": ["begun", "underWay", "up"]}}, "result")
ADDRESS = Parameter("userJid", "alice or alice@domain.", required=True, least=1)
PASSWORD = Parameter("password", "Kept as SCRAM keys.", required=True, secret=True, least=1)
NEW_PASSWORD = Parameter("password", "Another one.", secret=True, least=1)
DISABLED = Parameter("disabled", "Whether log-ins are refused.", "boolean")
SHOWN = Parameter("displayName", "The name for people; empty: none.", most=200)

# How many guests are known; and how many asked to be admitted, by what became of it.
GUESTS = (
    *("known", "admitted", "returned", "unknown", "passcode", "closed", "link"),
    *("slowed", "over", "crowded", "undecided"),
)
CONFIGURATION = schemas.record(
    {
        "uniqueName": schemas.TEXT,
        "domain": schemas.TEXT,
        "serverAddressOverride": schemas.TEXT,
        "componentAddress": schemas.TEXT,
        "source": {"enum": ["file", "api"]},
    },
    *("uniqueName", "domain", "serverAddressOverride", "source"),
)
STATUS = schemas.record(
    {
        "softwareVersion": schemas.TEXT,
        "uptimeSeconds": schemas.WHOLE,
        "role": {"const": "callbridge"},
        "configuration": CONFIGURATION,
        "rooms": schemas.WHOLE,
        "roomOccupants": schemas.WHOLE,
        "lacking": {"type": "array", "items": schemas.FAULT},
        "directoryProblems": {"type": "array", "items": schemas.FAULT},
        "guests": schemas.record(dict.fromkeys(GUESTS, schemas.WHOLE), *GUESTS),
        "link": schemas.record(
            {
                "state": schemas.TEXT,
                "step": schemas.WHOLE,
                "stepName": schemas.TEXT,
                "component": schemas.TEXT,
                "peer": schemas.TEXT,
                "since": schemas.TIME,
                "nextAttempt": schemas.TIME,
                "nextAttemptSeconds": schemas.WHOLE,
                "unprotected": schemas.TRUTH,
                "problem": schemas.FAULT,
                "lastFailure": schemas.FAULT,
            },
            *("state", "step", "component"),
        ),
    },
    *("softwareVersion", "uptimeSeconds", "role", "configuration", "link"),
)
USER = schemas.record(
    {
        "id": schemas.TEXT,
        "userJid": schemas.TEXT,
        "created": schemas.TIME,
        "disabled": schemas.TRUTH,
        "displayName": schemas.TEXT,
    },
    *("id", "userJid", "created", "disabled", "displayName"),
)

_ENDED = {"userJid": schemas.TEXT, "sessionsEnded": schemas.WHOLE, "problem": schemas.FAULT}
ENDED = schemas.record(_ENDED, "userJid", "sessionsEnded")
DELETED = schemas.record(
    {**_ENDED, "contactsForgotten": schemas.WHOLE, "contactsProblem": schemas.FAULT},
    *("userJid", "sessionsEnded"),
)


class CallbridgeOperations:
    """The operations, on any implementation of the role."""

    def __init__(self, role: Callbridge) -> None:
        self._role = role

    def operations(self) -> list[Operation]:
        """Those that only a Callbridge has."""
        return [*self._of_link(), *self._of_users()]

    def _of_link(self) -> list[Operation]:
        return [
            Operation(
                "GET",
                XMPP,
                "getXmpp",
                "The XMPP server settings, without the secret.",
                self.show,
                answers=schemas.named("xmpp", CONFIGURATION),
            ),
            Operation(
                "PUT",
                XMPP,
                "setXmpp",
                "Change settings; those left out stay as they are.",
                self.change,
                form=SETTINGS,
                reasons=("notStored",),
            ),
            Operation(
                "DELETE",
                XMPP,
                "resetXmpp",
                "Forget what was set here: the configuration file decides again.",
                self.reset,
                reasons=("notStored",),
            ),
            Operation(
                "POST",
                f"{XMPP}/reconnect",
                "reconnect",
                "Begin the next attempt of the link at once.",
                self.reconnect,
                form=(EVEN_IF_UP,),
                answers=schemas.named("reconnect", RECONNECT),
            ),
        ]

    def _of_users(self) -> list[Operation]:
        gone = ("userDoesNotExist",)
        return [
            Operation(
                "GET",
                USERS,
                "listUsers",
                "The users of the local store, by name.",
                self.list_users,
                query=SELECTION,
                answers=schemas.listing("users", "user", USER),
            ),
            Operation(
                "POST",
                USERS,
                "addUser",
                "Add a user.",
                self.add_user,
                form=(ADDRESS, PASSWORD, SHOWN),
                reasons=("userAlreadyExists",),
            ),
            Operation(
                "GET",
                f"{USERS}/{{id}}",
                "getUser",
                "One user, by id or address.",
                self.show_user,
                answers=schemas.named("user", USER),
                reasons=gone,
            ),
            Operation(
                "PUT",
                f"{USERS}/{{id}}",
                "changeUser",
                "Set another password, or close the account, which ends the user's sessions;"
                " or open it again; or set the name for people.",
                self.change_user,
                form=(NEW_PASSWORD, DISABLED, SHOWN),
                answers=schemas.named("user", ENDED),
                reasons=gone,
            ),
            Operation(
                "DELETE",
                f"{USERS}/{{id}}",
                "deleteUser",
                "End an account and the user's sessions; the XMPP server forgets his contacts.",
                self.delete_user,
                answers=schemas.named("user", DELETED),
                reasons=gone,
            ),
        ]

    def show(self, call: Call) -> Reply:
        """GET system/configuration/xmpp."""
        return Document("xmpp", self._role.configuration())

    async def change(self, call: Call) -> Reply:
        """PUT system/configuration/xmpp."""
        if not call.form:
            cure = "Give uniqueName, domain, sharedSecret or serverAddressOverride."
            raise Refused("nothingToChange", "no parameter is given", cure)
        await self._role.configure(call.form)
        return Done()

    async def reset(self, call: Call) -> Reply:
        """DELETE system/configuration/xmpp."""
        await self._role.unconfigure()
        return Done()

    def reconnect(self, call: Call) -> Reply:
        """POST system/configuration/xmpp/reconnect."""
        even_if_up = call.form.get("evenIfUp") == "true"
        return Document("reconnect", {"result": self._role.reconnect(even_if_up=even_if_up)})

    async def list_users(self, call: Call) -> Reply:
        """GET users."""
        page = await self._role.users(selection(call.query))
        return Listing("users", "user", page.items, page.total)

    async def add_user(self, call: Call) -> Reply:
        """POST users."""
        id_ = await self._role.add_user(call.form["userJid"], call.form["password"])
        await self._name(id_, call)
        return Done(f"{USERS}/{id_}")

    async def show_user(self, call: Call) -> Reply:
        """GET users/id."""
        id_, facts = await self._role.user(call.ids["id"])
        return Document("user", facts, id_)

    async def change_user(self, call: Call) -> Reply:
        """PUT users/id."""
        disabled = call.form.get("disabled")
        await self._name(call.ids["id"], call)
        ended = await self._role.change_user(
            call.ids["id"],
            call.form.get("password"),
            None if disabled is None else disabled == "true",
        )
        return _ended(call, ended)

    async def _name(self, id_: str, call: Call) -> None:
        if "displayName" in call.form:
            await self._role.name_user(id_, call.form["displayName"])

    async def delete_user(self, call: Call) -> Reply:
        """DELETE users/id."""
        return _ended(call, await self._role.delete_user(call.ids["id"]))


def _ended(call: Call, facts: Facts) -> Done:
    """
    What became of a user's sessions, if any had to end.  Existing API clients, which read
    XML, await an empty body.
    """
    return Done(document=Document("user", facts) if facts and call.wants_json else None)


def operations_of_callbridge(
    role: Callbridge,
    clock: IReactorTime,
    metrics: Metrics | None = None,
    spaces: SpacesRole | None = None,
    *,
    more: Sequence[Operation] = (),
) -> list[Operation]:
    """All operations of a Callbridge's API; those on spaces only if it has spaces."""
    common = CommonOperations(role, clock, status_schema=STATUS, metrics=metrics)
    own = CallbridgeOperations(role)
    found = [*common.operations(), *own.operations()]
    if spaces is not None:
        found += SpaceOperations(spaces).operations()
    return with_document("cms-callbridge", [*found, *more])
