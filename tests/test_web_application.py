"""The room for HTTP serves an application that has neither accounts nor operations."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.template import tags

from cms.trust.files import PEMFiles
from cms.trust.issue import CertificateAuthority
from cms.trust.server import ServerTrust
from cms.web.application import Application
from cms.web.eventstream import EventStream
from cms.web.forms import Parameter, read_form
from cms.web.html import HTML, PAGE_HEADERS, flat, serve_files
from cms.web.listeners import HTTPListeners
from cms.web.messages import Raw, answer, check_origin, header, trust_peer
from cms.web.pace import BURST, SHARE
from cms.web.refusal import Refused
from cms.web.root import Root
from cms.web.site import DEADLINE, MOST_BODY
from tests import LoggedError
from tests.support import new_folder, observe_log
from tests.test_architecture import MODULES, modules_imported
from tests.test_web_site import Port, Transport

JSON = "application/json"
CALL_ID = Parameter("callId", "Of the meeting.", required=True, least=1, most=9)
WORK = 0.02  # seconds that a look at the meeting takes here
PLACES = 8


class Door(Application):
    """Guests ask for a meeting, and follow who is in it."""

    label = "web request"
    quiet = ("/alive",)
    private = ("/m/",)
    too_long = Raw(b'{"reason": "tooLong"}', JSON)

    def __init__(self, clock: Any, folder: Path) -> None:
        super().__init__()
        self.spent = 0.0
        self.served = 0
        self.events = EventStream(clock, lambda: self.served, self._pieces, timer=self.timer)
        serve_files(self.routes, folder, {"door.css": "text/css; charset=utf-8"})
        self.routes.route("/", methods=["GET"])(self.page)
        self.routes.route("/alive", methods=["GET"])(self.page)
        self.routes.route("/join", methods=["POST"])(self.join)
        self.routes.route("/broken", methods=["GET"])(self.broken)
        self.routes.route("/events", methods=["GET"])(self.follow)

    def timer(self) -> float:
        """A clock that work moves."""
        return self.spent

    async def admit(self, request: Any) -> None:
        """Everybody, but no page of another site."""
        check_origin(request)

    def form(self, request: IRequest, refused: Refused) -> Raw:
        """As a script reads it."""
        body = json.dumps({"reason": refused.reason, "text": refused.cause}).encode()
        return Raw(body, JSON, refused.status, refused.headers)

    async def page(self, request: IRequest) -> bytes:
        """GET /."""
        self.spent += WORK
        self.served += 1
        for name, value in PAGE_HEADERS.items():
            request.setHeader(name, value)
        return answer(request, Raw((await flat(tags.p("Welcome"))).encode(), HTML))

    def join(self, request: IRequest) -> bytes:
        """POST /join."""
        given = read_form(header(request, "content-type"), request.content.read(), (CALL_ID,))
        trust_peer(request)
        return answer(request, Raw(json.dumps(given).encode(), JSON))

    def broken(self, request: IRequest) -> bytes:
        """GET /broken."""
        raise LoggedError("what nobody foresaw")

    async def _pieces(self) -> list[Any]:
        return [tags.p(str(self.served))]

    def follow(self, request: IRequest) -> Deferred[bytes]:
        """GET /events."""
        return self.events.serve(request)


def get(path: str, host: str = "meet.example.com") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def post(body: str, *more: str) -> bytes:
    """A request to join."""
    lines = ["POST /join HTTP/1.1", "Host: meet.example.com", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", body]).encode()


class Reactor(MemoryReactorClock):
    """In memory, with ports that can be told not to accept."""

    def listenTCP(self, port: int, factory: Any, *more: Any, **named: Any) -> Any:
        """From the code under test."""
        super().listenTCP(port, factory, *more, **named)
        return Port()


class DoorTests(SynchronousTestCase):
    """One listener without TLS, as a proxy reaches it, and its application."""

    def setUp(self) -> None:
        """Open it."""
        folder = new_folder(self)
        (folder / "door.css").write_text("p {}")
        (folder / "secret.txt").write_text("not to be served")
        self.logged: list[LogEvent] = []
        observe_log(self, self.logged.append)
        self.reactor: Any = Reactor()
        self.door = Door(self.reactor, folder)
        self.listeners = HTTPListeners(
            self.reactor, "xmpp.toml", timer=self.door.timer, busy=self.reactor.seconds
        )
        self.root = Root(self.door, self.door.admit, count(1), self.reactor)
        self.listeners.open("web_plain", ["tcp:5280:interface=127.0.0.1"], self.root, PLACES)
        ((self.port, self.factory, *_),) = self.reactor.tcpServers
        self.connected: list[Any] = []
        self.addCleanup(self.lose)
        self.addCleanup(self.listeners.close)
        self.addCleanup(self.door.events.stop)

    def connect(self, host: str = "192.0.2.7") -> tuple[Any, Transport]:
        """A connection."""
        peer = IPv4Address("TCP", host, 12345)
        protocol: Any = self.factory.buildProtocol(peer)
        transport = Transport(peerAddress=peer)
        protocol.makeConnection(transport)
        self.connected.append(protocol)
        return protocol, transport

    def lose(self) -> None:
        """All connections."""
        while self.connected:
            self.connected.pop().connectionLost(Failure(ConnectionDone()))

    def ask(self, request: bytes) -> bytes:
        """What comes back for it, on a connection of its own."""
        protocol, transport = self.connect()
        protocol.dataReceived(request)
        said: bytes = transport.value()
        return said

    def lines(self) -> list[str]:
        """What the log has of requests."""
        return [
            formatEvent(event)
            for event in self.logged
            if (event.get("log_format") or "").startswith("web request")
        ]

    def test_served(self) -> None:
        """A page under the policy, a file, and nothing else of its folder."""
        page = self.ask(get("/"))
        self.assertTrue(page.startswith(b"HTTP/1.1 200 OK\r\n"), page)
        self.assertTrue(page.endswith(b"\r\n\r\n<p>Welcome</p>"), page)
        head = page.lower().split(b"\r\n")
        self.assertIn(b"x-request-id: 1", head)
        self.assertIn(b"x-content-type-options: nosniff", head)
        policies = [line for line in head if line.startswith(b"content-security-policy: ")]
        self.assertEqual(1, len(policies))
        self.assertIn(b"script-src 'self'", policies[0])
        self.assertIn(b"p {}", self.ask(get("/static/door.css")))
        self.assertTrue(self.ask(get("/static/secret.txt")).startswith(b"HTTP/1.1 404 "))

    def test_forwarded(self) -> None:
        """Limits and log have the client's address, where its proxy is believed."""
        line = "X-Forwarded-For: 203.0.113.9, 198.51.100.7"
        for kind, believed, host in (
            ("tcp", False, "127.0.0.1"),
            ("tcp", True, "198.51.100.7"),
            ("haproxy:tcp", True, "127.0.0.1"),  # it says it in its own way
        ):
            listeners = HTTPListeners(
                self.reactor, "xmpp.toml", forwarded_for=believed, busy=self.reactor.seconds
            )
            self.addCleanup(listeners.close)
            listeners.open("web_plain", [f"{kind}:5281:interface=127.0.0.1"], self.root, PLACES)
            self.factory = self.reactor.tcpServers[-1][1]
            protocol, _ = self.connect("127.0.0.1")
            if believed and kind != "tcp":
                protocol.dataReceived(b"PROXY TCP4 127.0.0.1 127.0.0.1 5 6\r\n")
                protocol = self.connected[-1].transport.protocol
            protocol.dataReceived(get("/").replace(b"\r\n", f"\r\n{line}\r\n".encode(), 1))
            self.assertIn(f"(from {host}, by -): 200", self.lines()[-1])

    def test_refused(self) -> None:
        """In the form of the application, whoever refuses."""
        other = "Origin: https://elsewhere.example"
        for request, status, reason in (
            (get("/nowhere"), 404, "notFound"),
            (get("/join"), 405, "methodNotAllowed"),
            (post("callId=1234567890"), 400, "callIdInvalid"),
            (post("callId=1", other), 403, "crossSite"),
            (get("/", "a:b:c"), 400, None),
            (get("/m/%E0%A4%A"), 400, "badRequest"),
            (get("/%FF"), 400, "badRequest"),
            (post("x" * (MOST_BODY + 1)), 413, "tooLong"),
        ):
            head, _, body = self.ask(request).partition(b"\r\n\r\n")
            self.assertEqual(str(status), head.split()[1].decode(), head)
            if reason is not None:
                self.assertEqual(reason, json.loads(body)["reason"])
        self.assertTrue(self.ask(post("callId=123")).endswith(b'{"callId": "123"}'))

    def test_unforeseen(self) -> None:
        """The client hears nothing of it, the log all, under the id that both have."""
        answered = self.ask(get("/broken"))
        self.assertIn(b" 500 ", answered)
        self.assertIn(b'"internalError"', answered)
        self.assertNotIn(b"foresaw", answered)
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        self.assertEqual("web request 1: unexpected error", self.lines()[0])

    def test_log(self) -> None:
        """A line for each request, but for those that are asked for all the time."""
        for path in ("/", "/alive", "/nowhere"):
            self.ask(get(path))
        self.assertEqual(
            [
                'web request 1: GET for "/" (from 192.0.2.7, by -): 200 in 0.000 s',
                'web request 3: GET for "/nowhere" (from 192.0.2.7, by -): 404 in 0.000 s',
            ],
            self.lines(),
        )

    def test_private(self) -> None:
        """What follows the beginning of a secret path is in no line, however it was written."""
        for path in ("/m/s3cret", "/M/s3cret", "//m/s3cret", "/%6d%2Fs3cret/more", "/x/m/s3cret"):
            self.ask(get(path))
        lines = self.lines()
        self.assertEqual(5, len(lines))
        self.assertFalse([line for line in lines if "s3cret" in line or "more" in line])
        self.assertEqual(5, len([line for line in lines if line.lower().count('/m/..."') == 1]))

    def test_in_time(self) -> None:
        """A request that does not become whole ends its connection."""
        protocol, transport = self.connect()
        protocol.dataReceived(get("/")[:-2])
        self.reactor.advance(DEADLINE)
        self.assertTrue(transport.disconnecting)

    def test_pace(self) -> None:
        """Of 10 s in which the thread is busy, requests get their share, whoever sends them."""
        protocols = [self.connect(f"192.0.2.{n}") for n in range(4)]
        for _ in range(1_000):
            self.reactor.advance(0.01)
            for protocol, transport in protocols:
                if transport.producerState == "producing":
                    protocol.dataReceived(get("/"))
        most = 10 * SHARE + BURST + len(protocols) * WORK
        self.assertLessEqual(self.door.served, most / WORK)
        self.assertGreaterEqual(self.door.served, 10 * SHARE / WORK - 1)

    def test_places(self) -> None:
        """Strangers make room for each other; whoever was admitted stays."""
        guest, admitted = self.connect()
        guest.dataReceived(post("callId=123"))
        self.assertIn(b" 200 OK", admitted.value())
        strangers = [self.connect()[1] for _ in range(PLACES)]
        self.assertEqual(PLACES - 2, sum(transport.disconnecting for transport in strangers))
        self.assertFalse(admitted.disconnecting)

    def test_events(self) -> None:
        """Who follows hears what changes."""
        protocol, transport = self.connect()
        protocol.dataReceived(get("/events"))
        self.reactor.pump([0.0] * 4)
        self.assertIn(b'data: "<p>0</p>"', transport.value())
        transport.clear()
        self.door.served = 7
        self.reactor.pump([1.0, 0.0])
        self.assertIn(b'data: "<p>7</p>"', transport.value())

    def test_close(self) -> None:
        """Nothing waits for anything any more, though somebody had to."""
        protocol, _ = self.connect()
        for _ in range(10):
            protocol.dataReceived(get("/"))
        self.successResultOf(self.listeners.close())
        self.lose()
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_tls(self) -> None:
        """With a certificate of the daemon's, TLS is spoken and nothing else."""
        folder = new_folder(self)
        issued = CertificateAuthority("CA").issue("xmpp1", ["xmpp1.meet.example.com"])
        (folder / "crt").write_bytes(issued.certificate)
        (folder / "key").write_bytes(issued.key)
        trust = ServerTrust(PEMFiles("xmpp.toml", None, folder / "crt", folder / "key"))
        self.listeners.open("web", ["tcp:5443:interface=192.0.2.1"], self.root, PLACES, trust)
        self.factory = self.reactor.tcpServers[1][1]
        protocol, transport = self.connect()
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        client.set_connect_state()

        def exchange(act: Callable[[], bytes | None]) -> bytes:
            """What the client gets, once everything is at the other end."""
            for _ in range(4):
                with contextlib.suppress(SSL.WantReadError):
                    return act() or b""
                with contextlib.suppress(SSL.WantReadError):
                    protocol.dataReceived(client.bio_read(MOST_BODY))
                self.reactor.advance(0)
                client.bio_write(transport.value())
                transport.clear()
            raise AssertionError("it does not end")

        exchange(client.do_handshake)
        client.send(get("/"))
        said = exchange(lambda: client.recv(MOST_BODY))
        self.assertIn(b"<p>Welcome</p>", said)
        self.assertEqual(1, self.door.served)

    def test_alone(self) -> None:
        """No module of the room leads to the administration, nor to a role."""
        reached = {name for name in MODULES if name.startswith("cms.web.")}
        more = reached
        while more:
            more = set().union(*(modules_imported(name) for name in more)) - reached
            reached |= more
        rooms = {name.split(".")[1] for name in reached}
        self.assertEqual(set(), rooms & {"admin", "callbridge", "xmpp", "xmlstream"})
