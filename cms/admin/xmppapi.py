"""The operations of an XMPP server."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from cms.admin import drainapi, schemas
from cms.admin.clientsapi import AWAY, ClientOperations
from cms.admin.commonapi import API, CommonOperations, Metrics, with_document
from cms.admin.interfaces import XmppServer
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Done, Listing, Reply
from cms.web.forms import Parameter
from cms.web.refusal import Refused

CALLBRIDGES = f"{API}/callBridges"
MOST_OVERLAP = 30 * 86_400  # seconds
USUAL_OVERLAP = 86_400
NAME = Parameter("name", "cb1, or the address of a component.", required=True, least=1, most=253)
SECRET = Parameter("secret", "One that exists already; else one is made.", secret=True, least=1)
REGENERATE = Parameter("regenerateSecret", "true makes another secret.", "boolean")
OVERLAP = Parameter(
    "overlapSeconds", "How long the old secret is accepted as well.", "integer", most=MOST_OVERLAP
)

CALLBRIDGE = schemas.record(
    {
        "id": schemas.TEXT,
        "name": schemas.TEXT,
        "component": schemas.TEXT,
        "source": {"enum": ["file", "administration"]},
        "created": schemas.TIME,
        "state": {"enum": ["active", "away", "not connected"]},
        "address": schemas.TEXT,
        "since": schemas.TIME,
        "mechanisms": {"type": "array", "items": schemas.TEXT},
        "problem": schemas.TEXT,
        "certificate": {"type": "object"},
        "bytesReceived": schemas.WHOLE,
        "bytesSent": schemas.WHOLE,
        "stanzasReceived": schemas.WHOLE,
        "stanzasSent": schemas.WHOLE,
        "linkId": schemas.TEXT,
        "certificateExpires": schemas.TIME,
        "secrets": schemas.WHOLE,
    },
    *("id", "name", "component", "state"),
)
MADE = schemas.record({"id": schemas.TEXT, "name": schemas.TEXT, "secret": schemas.TEXT}, "id")
NODE = schemas.record(
    {
        "node": schemas.TEXT,
        "host": schemas.TEXT,
        "version": schemas.TEXT,
        "generation": schemas.WHOLE,
        "draining": schemas.TRUTH,
        "sessions": schemas.WHOLE,
        "links": schemas.WHOLE,
        "deciding": schemas.WHOLE,
        "waitingBytes": schemas.WHOLE,
        "behindSeconds": schemas.NUMBER,
        "entriesSent": schemas.WHOLE,
        "entriesReceived": schemas.WHOLE,
        "sentAgain": schemas.WHOLE,
    },
    *("node", "generation", "sessions", "links", "waitingBytes", "behindSeconds"),
)
CLUSTER = schemas.record(
    {
        "node": schemas.TEXT,
        "state": {"enum": ["in", "out"]},
        "generation": schemas.WHOLE,
        "draining": schemas.TRUTH,
        "leaseSeconds": schemas.NUMBER,
        "renewedSecondsAgo": schemas.NUMBER,
        "joined": schemas.WHOLE,
        "lostNodes": schemas.WHOLE,
        "engine": schemas.TEXT,
        "engineConnected": schemas.TRUTH,
        "callBridgesAgreed": schemas.TRUTH,
        "problem": schemas.FAULT,
        "nodes": {"type": "array", "items": NODE},
    },
    *("node", "state", "generation", "engine", "engineConnected", "nodes"),
)
COUNTS = {"type": "object", "additionalProperties": schemas.WHOLE}
WEB = schemas.record(
    {"open": schemas.TRUTH, "guests": COUNTS, "refused": COUNTS}, "open", "guests", "refused"
)
STATUS = schemas.record(
    {
        "softwareVersion": schemas.TEXT,
        "uptimeSeconds": schemas.WHOLE,
        "role": {"const": "xmpp"},
        "domain": schemas.TEXT,
        "hostname": schemas.TEXT,
        "step": schemas.WHOLE,
        "stepName": schemas.TEXT,
        "callBridgesKnown": schemas.WHOLE,
        "callBridgesActive": schemas.WHOLE,
        "callBridgesDeciding": schemas.WHOLE,
        "clients": schemas.WHOLE,
        "clientsAway": schemas.WHOLE,
        "clientsAwayBytes": schemas.WHOLE,
        "clientsAwayLongest": {
            "type": "array",
            "items": schemas.record({"jid": schemas.TEXT, **AWAY}, "jid", *AWAY),
        },
        "web": WEB,
        "lacking": {"type": "array", "items": schemas.FAULT},
        "openFiles": schemas.WHOLE,
        "mostFiles": schemas.WHOLE,
        "wantedPlaces": schemas.WHOLE,
        "places": schemas.WHOLE,
        "links": {"type": "array", "items": CALLBRIDGE},
        "cluster": CLUSTER,
        "drain": drainapi.FACTS,
        "lastFailure": schemas.FAULT,
    },
    *("softwareVersion", "uptimeSeconds", "role", "domain", "callBridgesActive", "clients"),
)
GONE = ("callBridgeDoesNotExist",)
FIXED = ("callBridgeIsInFile", "notStored")


class XmppOperations:
    """The operations, on any implementation of the role."""

    def __init__(self, role: XmppServer) -> None:
        self._role = role

    def operations(self) -> list[Operation]:
        """Those that only an XMPP server has."""
        one = f"{CALLBRIDGES}/{{id}}"
        return [
            Operation(
                "GET",
                CALLBRIDGES,
                "listCallBridges",
                "Every Callbridge that is known or connected.",
                self.list_callbridges,
                query=SELECTION,
                answers=schemas.listing("callBridges", "callBridge", CALLBRIDGE),
            ),
            Operation(
                "POST",
                CALLBRIDGES,
                "addCallBridge",
                "Let a Callbridge register; a secret that is made is shown in the answer, once.",
                self.add_callbridge,
                form=(NAME, SECRET),
                answers=schemas.named("callBridge", MADE),
                reasons=("callBridgeAlreadyExists", "notStored"),
            ),
            Operation(
                "GET",
                one,
                "getCallBridge",
                "One Callbridge, by id, name or address.",
                self.show_callbridge,
                answers=schemas.named("callBridge", CALLBRIDGE),
                reasons=GONE,
            ),
            Operation(
                "PUT",
                one,
                "rotateSecret",
                "Give it another secret; one that is made is shown in the answer, once.",
                self.rotate,
                form=(SECRET, REGENERATE, OVERLAP),
                answers=schemas.named("callBridge", MADE),
                reasons=(*GONE, *FIXED, "nothingToChange"),
            ),
            Operation(
                "DELETE",
                one,
                "deleteCallBridge",
                "Forget a Callbridge, and end its link.",
                self.delete_callbridge,
                reasons=(*GONE, *FIXED),
            ),
        ]

    def list_callbridges(self, call: Call) -> Reply:
        """GET callBridges."""
        part = selection(call.query)
        page = part.of(self._role.callbridges(), "component")
        return Listing("callBridges", "callBridge", page.items, page.total)

    async def add_callbridge(self, call: Call) -> Reply:
        """POST callBridges."""
        name = call.form["name"]
        id_, secret = await self._role.add_callbridge(name, call.form.get("secret"))
        return Done(f"{CALLBRIDGES}/{id_}", _made(id_, name, secret))

    def show_callbridge(self, call: Call) -> Reply:
        """GET callBridges/id."""
        id_, facts = self._role.callbridge(call.ids["id"])
        return Document("callBridge", facts, id_)

    async def rotate(self, call: Call) -> Reply:
        """PUT callBridges/id."""
        given, regenerate = call.form.get("secret"), call.form.get("regenerateSecret") == "true"
        if (given is None) != regenerate:
            cure = "Give either secret, or regenerateSecret=true."
            raise Refused("nothingToChange", "it does not say which secret to use", cure)
        overlap = float(call.form.get("overlapSeconds", USUAL_OVERLAP))
        id_, facts = self._role.callbridge(call.ids["id"])
        secret = await self._role.rotate_secret(id_, given, overlap)
        return Done(document=_made(id_, str(facts["name"]), secret))

    async def delete_callbridge(self, call: Call) -> Reply:
        """DELETE callBridges/id."""
        await self._role.delete_callbridge(call.ids["id"])
        return Done()


def _made(id_: str, name: str, secret: str | None) -> Document | None:
    return None if secret is None else Document("callBridge", {"name": name, "secret": secret}, id_)


def operations_of_xmpp_server(
    role: XmppServer,
    clock: IReactorTime,
    metrics: Metrics | None = None,
    *,
    more: Sequence[Operation] = (),
) -> list[Operation]:
    """All operations of an XMPP server's API."""
    common = CommonOperations(role, clock, status_schema=STATUS, metrics=metrics)
    own, clients = XmppOperations(role), ClientOperations(role.clients).operations()
    drain = drainapi.DrainOperations(role).operations()
    every = [*common.operations(), *own.operations(), *clients, *drain, *more]
    return with_document("cms-xmpp", every)
