"""A client of the administration in memory, and roles that say what they are told."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import count
from typing import Any

from attrs import frozen
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource

from cms.admin.accounts import Accounts, Hash
from cms.admin.interfaces import Facts, Health, Page, Recorded, Selection
from cms.admin.operations import Operation
from cms.admin.routes import ApiApplication, Gate, OpenGate
from cms.signalflow import Step
from cms.web.refusal import Refused
from cms.web.root import Root


@frozen
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Document(HTMLParser):
    """
    A page, read as a browser does.

    @ivar tags: Each with its attributes.
    @ivar text: All of it.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class Client:
    """Speaks to a resource through Twisted's own HTTP code, without a network."""

    def __init__(self, test: SynchronousTestCase, root: IResource) -> None:
        self._test = test
        self.http: Any = StubTreq(root)  # which has the names of treq only when it runs

    def send(self, method: str, path: str, body: str | bytes = b"", **headers: str) -> Any:
        """Send a request; gives the Deferred of its response."""
        named = {name.replace("_", "-"): [value] for name, value in headers.items()}
        data = body.encode() if isinstance(body, str) else body
        if data:
            named.setdefault("content-type", ["application/x-www-form-urlencoded"])
        return self.http.request(
            method, f"https://cms{path}", headers=named, data=data or None, allow_redirects=False
        )

    def ask(self, method: str, path: str, body: str | bytes = b"", **headers: str) -> Answer:
        """Send a request that is answered at once."""
        return self.read(self.send(method, path, body, **headers))

    def read(self, sent: Any) -> Answer:
        """The answer to a request that was sent."""
        response = self._test.successResultOf(sent)
        self.http.flush()
        received = {
            name.decode().lower(): values[0].decode()
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(
            response.code, received, self._test.successResultOf(self.http.content(response))
        )


def front(operations: Sequence[Operation], clock: Any, gate: Gate | None = None) -> Root:
    """The root of a listener with these operations."""
    application = ApiApplication(operations)
    return Root(application, application.admission(gate or OpenGate()), count(1), clock)


def basic(name: str, password: str) -> str:
    """An C{Authorization} header."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def accounts(**passwords: str) -> Accounts:
    """Accounts, hashed with few rounds."""
    made = {}
    for name, password in passwords.items():
        key = hashlib.scrypt(password.encode(), salt=b"salt", n=2, r=1, p=1, dklen=32)
        made[name] = Hash(b"salt", 2, 1, 1, key)
    return Accounts(made)


class FakeDaemon:
    """What both roles have."""

    role = "callbridge"

    def __init__(self) -> None:
        self.good = Health(True, Step.ACTIVE)
        self.recorded: list[Recorded] = []

    def health(self) -> Health:
        """As it was told."""
        return self.good

    def status(self) -> Facts:
        """Little."""
        return {"configuration": {}, "link": {"state": "active", "step": 11, "component": "c"}}

    def attempts(self) -> Sequence[Recorded]:
        """As it was told."""
        return self.recorded


class FakeCallbridge(FakeDaemon):
    """A Callbridge with one user."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal

    def configuration(self) -> Facts:
        """Settings."""
        return {
            "uniqueName": "cb1",
            "domain": "meet.example.com",
            "serverAddressOverride": "",
            "source": "file",
        }

    async def configure(self, changes: Mapping[str, str]) -> None:
        """Remember it."""
        self._called("configure", dict(changes))

    async def unconfigure(self) -> None:
        """Remember it."""
        self._called("unconfigure")

    def reconnect(self, *, even_if_up: bool) -> str:
        """Remember it."""
        self._called("reconnect", even_if_up)
        return "begun"

    async def users(self, selection: Selection) -> Page:
        """One."""
        self._called("users", selection)
        return Page([USER], 1)

    async def user(self, id_: str) -> tuple[str, Facts]:
        """The one."""
        if id_ != USER[0]:
            raise Refused("userDoesNotExist", "there is no such user")
        return USER

    async def add_user(self, address: str, password: str) -> str:
        """Remember it."""
        self._called("add_user", address, password)
        return USER[0]

    async def change_user(self, id_: str, password: str | None, disabled: bool | None) -> Facts:
        """Remember it."""
        self._called("change_user", id_, password, disabled)
        return ENDED if disabled else {}

    async def name_user(self, id_: str, shown: str) -> None:
        """Remember it."""
        self._called("name_user", id_, shown)

    async def delete_user(self, id_: str) -> Facts:
        """Remember it."""
        self._called("delete_user", id_)
        return ENDED


USER = (
    "70ca0ed7-4e50-428c-b9ab-4e68faeb86ae",
    {"userJid": "alice@meet.example.com", "created": "2026-01-01T00:00:00Z", "disabled": False},
)
ENDED = {"userJid": "alice@meet.example.com", "sessionsEnded": 2, "problem": None}
CALLBRIDGE = (
    "ce03f08f-547f-4df1-b531-ae3a64a9c18f",
    {"name": "cb1", "component": "cb1.meet.example.com", "state": "active"},
)
DRAIN = {
    "state": "open",
    "secondsLeft": 0,
    "clients": 1,
    "components": 1,
    "given": 0,
    "ended": 0,
    "inCluster": True,
    "takers": 2,
}
CLIENT = ("11111111-547f-4df1-b531-ae3a64a9c18f", {"jid": "alice@meet.example.com/x"})


class FakeXmppServer(FakeDaemon):
    """An XMPP server with one Callbridge and one client."""

    role = "xmpp"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.clients = FakeClients(self.calls)
        self.drains = "open"

    def callbridges(self) -> Iterable[tuple[str, Facts]]:
        """One."""
        return [CALLBRIDGE]

    def callbridge(self, id_: str) -> tuple[str, Facts]:
        """The one."""
        if id_ not in (CALLBRIDGE[0], "cb1"):
            raise Refused("callBridgeDoesNotExist", "there is no such Callbridge")
        return CALLBRIDGE

    async def add_callbridge(self, name: str, secret: str | None) -> tuple[str, str | None]:
        """Remember it."""
        self.calls.append(("add", name, secret))
        return CALLBRIDGE[0], "m4de" if secret is None else None

    async def delete_callbridge(self, id_: str) -> None:
        """Remember it."""
        self.calls.append(("delete", self.callbridge(id_)[0]))

    async def rotate_secret(self, id_: str, secret: str | None, overlap: float) -> str | None:
        """Remember it."""
        self.calls.append(("rotate", id_, secret, overlap))
        return "m4de" if secret is None else None

    # draining

    def drain_facts(self) -> Facts:
        """See L{cms.admin.interfaces.XmppServer.drain_facts}."""
        return {**DRAIN, "state": self.drains}

    def begin_drain(self, seconds: float, *, forced: bool) -> None:
        """See L{cms.admin.interfaces.XmppServer.begin_drain}."""
        self.calls.append(("drain", seconds, forced))
        self.drains = "draining"

    async def cancel_drain(self) -> None:
        """See L{cms.admin.interfaces.XmppServer.cancel_drain}."""
        self.calls.append(("cancel",))
        self.drains = "open"


class FakeClients:
    """The sessions of a server: one."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.session: dict[str, Any] = {**CLIENT[1]}
        self.count = 1

    async def listed(self, selection: Selection, address: str = "") -> Page:
        """As many as told."""
        self.calls.append(("clients", selection, address))
        return Page([(CLIENT[0], self.session)], self.count)

    def show(self, id_: str) -> tuple[str, Facts]:
        """The one."""
        if id_ != CLIENT[0]:
            raise Refused("clientDoesNotExist", "there is no such session")
        return CLIENT[0], self.session

    def end(self, id_: str) -> None:
        """Remember it."""
        self.calls.append(("end", self.show(id_)[0]))

    def end_all(self, address: str) -> int:
        """Remember it."""
        self.calls.append(("end_all", address))
        return 2

    async def tell(self, address: str, text: str) -> int:
        """Remember it."""
        self.calls.append(("tell", address, text))
        return 3


def new_clock(now: float = 1_700_000_000.0) -> Clock:
    """A clock with a date."""
    clock = Clock()
    clock.advance(now)
    return clock
