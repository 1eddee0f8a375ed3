"""The operations on the clients of an XMPP server."""

from __future__ import annotations

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.interfaces import Clients, Facts
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Done, Listing, Reply
from cms.web.forms import Parameter

CLIENTS = f"{API}/clients"
MOST_JID = 600  # characters: an address of a request has a limit; longer ones have an id
_ABOUT = "alice or alice@domain: all sessions of this user; or the full address of one"
JID = Parameter("jid", f"{_ABOUT}.", most=MOST_JID)
WHOSE = Parameter("jid", f"{_ABOUT}.", required=True, least=1, most=MOST_JID)
TO = Parameter("jid", f"{_ABOUT}; all: everybody.", required=True, least=1, most=3_071)
TEXT = Parameter("text", "One line.", required=True, least=1, most=4_000)
AWAY = {"awaySince": schemas.TIME, "keptBytes": schemas.WHOLE}  # without a connection
CLIENT = schemas.record(
    {
        "id": schemas.TEXT,
        "jid": schemas.TEXT,
        "address": schemas.TEXT,
        "since": schemas.TIME,
        "callBridge": schemas.TEXT,
        "available": schemas.TRUTH,
        "connected": schemas.TRUTH,
        "guest": schemas.TRUTH,
        "server": schemas.TEXT,
        **AWAY,
    },
    *("id", "jid"),
)
ENDED = schemas.record({"ended": schemas.WHOLE}, "ended")
TOLD = schemas.record({"told": schemas.WHOLE}, "told")


class ClientOperations:
    """The operations, on any implementation."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def operations(self) -> list[Operation]:
        """All of them."""
        one = f"{CLIENTS}/{{id}}"
        gone = ("clientDoesNotExist",)
        return [
            Operation(
                "GET",
                CLIENTS,
                "listClients",
                "The sessions that are logged in, here and at other servers of the cluster.",
                self.list,
                query=(*SELECTION, JID),
                answers=schemas.listing("clients", "client", CLIENT),
            ),
            Operation(
                "DELETE",
                CLIENTS,
                "endClients",
                "End all sessions of an address.",
                self.end_all,
                query=(WHOSE,),
                answers=schemas.named("clients", ENDED),
            ),
            Operation(
                "POST",
                f"{API}/clientMessages",
                "tellClients",
                "Send a message from the server to all sessions of an address, or everybody.",
                self.tell,
                form=(TO, TEXT),
                answers=schemas.named("clients", TOLD),
            ),
            Operation(
                "GET",
                one,
                "getClient",
                "One session.",
                self.show,
                answers=schemas.named("client", CLIENT),
                reasons=gone,
            ),
            Operation(
                "DELETE",
                one,
                "endClient",
                "End a session.",
                self.end,
                reasons=gone,
            ),
        ]

    async def list(self, call: Call) -> Reply:
        """GET clients."""
        page = await self._clients.listed(selection(call.query), call.query.get("jid", ""))
        return Listing("clients", "client", page.items, page.total)

    def end_all(self, call: Call) -> Reply:
        """DELETE clients."""
        return _counted({"ended": self._clients.end_all(call.query["jid"])})

    async def tell(self, call: Call) -> Reply:
        """POST clientMessages."""
        return _counted({"told": await self._clients.tell(call.form["jid"], call.form["text"])})

    def show(self, call: Call) -> Reply:
        """GET clients/id."""
        id_, facts = self._clients.show(call.ids["id"])
        return Document("client", facts, id_)

    def end(self, call: Call) -> Reply:
        """DELETE clients/id."""
        self._clients.end(call.ids["id"])
        return Done()


def _counted(facts: Facts) -> Reply:
    return Document("clients", facts)
