"""What a stanza and a log-in cost, in calls of our own functions."""

from __future__ import annotations

import base64
import gc
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import cms
from cms.callbridge.link.handlers import LinkTraffic, LoginHandler
from cms.callbridge.login.authority import Authority
from cms.client.scram import ScramClient
from cms.xmlstream import limits, ns
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream
from cms.xmpp.loginrelay import NOTICE_DELAY
from tests.support import MemoryTransport, header
from tests.test_login_authority import MemoryDirectory
from tests.xmppserver import DOMAIN, Server

OURS = str(Path(cms.__file__).parent)


def called(do: Callable[[], object], below: str = OURS) -> list[CodeType]:
    """Which of our functions are called meanwhile; or those of files below another folder."""
    found: list[CodeType] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(below):
            found.append(frame.f_code)

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # what others have left, coroutines that are closed among them, is not counted
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return found


def calls(do: Callable[[], object], below: str = OURS) -> int:
    """How many they are."""
    return len(called(do, below))


class StanzaTests(SynchronousTestCase):
    """A stanza from one client to another, after the first."""

    def test_stanza(self) -> None:
        """It takes 16 calls, and so do 20 that come together."""
        server = Server()
        callbridge = server.callbridge()
        alice, bob = server.bound(callbridge, "alice"), server.bound(callbridge, "bob")
        message = f"<message to='bob@{DOMAIN}/r' id='1'><body>x</body></message>".encode()
        for _ in range(2):
            alice.say(message)
        for number in (1, 20):
            bob.transport.take()
            read = message * number
            counted = calls(lambda read=read: alice.stream.dataReceived(read))  # type: ignore[misc]
            self.assertEqual(number, bob.transport.take().count("<message"))
            self.assertLessEqual(counted, 16)


class RegistrationTests(SynchronousTestCase):
    """A component that connects, registers and is gone, after the first."""

    def test_registration(self) -> None:
        """It takes 234 calls without a record, whose own tests count the rest."""
        server = Server()

        def register() -> None:
            server.register("echo").stream.connectionLost(Failure(ConnectionDone()))

        register()
        self.assertLessEqual(calls(register), 234)


class CallbridgeEnd(XMLStream):
    """The Callbridge's end of a link, with all that decides log-ins."""

    content_namespace = ns.COMPONENT

    def __init__(self, server: Server) -> None:
        super().__init__(server.clock)
        directory = MemoryDirectory({"alice": "pencil"})
        authority = Authority(server.clock, directory, DOMAIN, random=Random(7))
        self.link_id = "l1"
        self.requests: Any = None  # it asks nothing
        self._traffic = LinkTraffic(server.clock, [], LoginHandler(authority, DOMAIN))
        self._peer = server.register()
        self._transport = MemoryTransport()
        self._transport.connect(self)
        self.send_header({})
        self.dataReceived(header())
        self.splice(limits.COMPONENT)
        self.dataReceived(b" ")
        self._transport.take()
        self._traffic.link_up(self)
        self.pump()

    def stanza_received(self, stanza: Stanza) -> None:
        self._traffic.received(stanza)

    def deliver(self, raws: Any, source: object) -> Any:
        return self.party.deliver(raws, source)

    def send(self, stanza: Stanza) -> None:
        self.party.send(stanza)

    @property
    def waiting_bytes(self) -> int:
        return self.party.waiting_bytes

    def pump(self) -> None:
        """Carry bytes between the daemons until there are none."""
        idle = False
        while not idle:
            self.clock.advance(0)  # type: ignore[attr-defined]
            asked, answered = self._peer.transport.take(), self._transport.take()
            idle = not asked + answered
            if asked:
                self.dataReceived(asked.encode())
            if answered:
                self._peer.stream.dataReceived(answered.encode())


Conversation = Generator[str, str, None]


def text(payload: bytes) -> str:
    """Of a SASL step."""
    return base64.b64encode(payload).decode()


def payload(answer: str) -> bytes:
    """Of what is first in an answer."""
    return base64.b64decode(answer.partition(">")[2].partition("<")[0])


def old_way(mechanism: str) -> Conversation:
    """What a client says until it is bound and its stream is managed, each after an answer."""
    say = header(ns.CLIENT, f" to='{DOMAIN}' version='1.0'").decode()
    yield say
    auth = f"<auth xmlns='{ns.SASL}' mechanism='{mechanism}'>%s</auth>"
    if mechanism == "PLAIN":
        yield auth % text(b"\0alice\0pencil")
    else:
        scram = ScramClient(mechanism, "alice", "pencil", nonce="n" * 12)
        answer = yield auth % text(scram.first())
        yield f"<response xmlns='{ns.SASL}'>{text(scram.final(payload(answer)))}</response>"
    yield say
    yield f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>"
    yield f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>"


def new_way(mechanism: str) -> Conversation:
    """The same by SASL2, with all that is asked for in it."""
    yield header(ns.CLIENT, f" to='{DOMAIN}' version='1.0'").decode()
    enable = f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>"
    authenticate = (
        f"<authenticate xmlns='{ns.SASL2}' mechanism='{mechanism}'>"
        "<initial-response>%s</initial-response>"
        "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>x</software></user-agent>"
        f"<bind xmlns='{ns.BIND2}'><tag>x</tag>{enable}</bind></authenticate>"
    )
    if mechanism == "PLAIN":
        yield authenticate % text(b"\0alice\0pencil")
    else:
        scram = ScramClient(mechanism, "alice", "pencil", nonce="n" * 12)
        answer = yield authenticate % text(scram.first())
        yield f"<response xmlns='{ns.SASL2}'>{text(scram.final(payload(answer)))}</response>"


class LoginTests(SynchronousTestCase):
    """A log-in with all that follows it, over both daemons."""

    def cost(self, way: Callable[[str], Conversation], mechanism: str) -> tuple[int, int]:
        """
        Of a log-in that is not the first.

        @return: How often the client waited for an answer since it chose how to log in,
            and the calls from its connection on.
        """
        server = Server()
        callbridge = CallbridgeEnd(server)

        def log_in() -> tuple[int, int]:
            client = server.client()
            said = [b""]

            def carry() -> None:
                client.stream.dataReceived(said[-1])
                callbridge.pump()

            conversation = way(mechanism)
            say: str | None = next(conversation)
            counted, answer = 0, ""
            while say is not None:
                said.append(say.encode())
                counted += calls(carry)
                answer = client.transport.take()
                try:
                    say = conversation.send(answer)
                except StopIteration:
                    say = None
            server.clock.advance(NOTICE_DELAY)
            counted += calls(callbridge.pump)
            self.assertRegex(answer, f"<enabled xmlns='{ns.MANAGEMENT}' id='[^']+' resume='true'")
            (session,) = server.sessions.of(f"alice@{DOMAIN}")
            session.end()
            callbridge.pump()
            return len(said) - 2, counted

        log_in()
        return log_in()

    def test_old_way(self) -> None:
        """RFC 6120 and XEP-0198: 4 round trips with PLAIN, 5 with SCRAM."""
        for mechanism, trips, most in (("PLAIN", 4, 628), ("SCRAM-SHA-256", 5, 830)):
            made, counted = self.cost(old_way, mechanism)
            self.assertEqual(trips, made)
            self.assertLessEqual(counted, most)

    def test_new_way(self) -> None:
        """SASL2 and Bind 2: one round trip with PLAIN, two with SCRAM."""
        for mechanism, trips, most in (("PLAIN", 1, 511), ("SCRAM-SHA-256", 2, 715)):
            made, counted = self.cost(new_way, mechanism)
            self.assertEqual(trips, made)
            self.assertLessEqual(counted, most)
