"""One SASL exchange, whoever writes it."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.xmpp.loginrelay import Refusal
from cms.xmpp.saslexchange import SaslExchange
from tests.xmppserver import DOMAIN, Server


class Writer:
    """An L{Authenticator<cms.xmpp.saslexchange.Authenticator>} that writes no XML."""

    peer_text, peer_host, channel_binding = "198.51.100.9 port 1", "198.51.100.9", None
    claimed: str | None = None

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.ids: dict[str, str] = {}

    def waits(self, does: bool) -> None:
        """Note it."""
        self.told.append(("waits", does))

    def relayed(self, exchange_id: str) -> None:
        """Note the ID."""
        self.ids["login_id"] = exchange_id

    def challenged(self, payload: bytes | None) -> None:
        """Note it."""
        self.told.append(("challenged", payload))

    def succeeded(self, success: lp.Success, callbridge: str) -> None:
        """Note who is logged in."""
        self.told.append(("succeeded", success.jid, callbridge))

    def refused(self, refusal: Refusal) -> None:
        """Note why."""
        self.told.append(("refused", refusal.condition))

    def unserved(self, refusal: Refusal) -> None:
        """Note why."""
        assert refusal.fault is not None
        self.told.append(("unserved", refusal.fault.fault))

    def broken(self, failure: Failure) -> None:
        """Nothing of that is expected."""
        raise AssertionError(failure)


class ExchangeTests(SynchronousTestCase):
    """L{SaslExchange}."""

    def setUp(self) -> None:
        """A server with a Callbridge, and somebody who logs in."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.writer = Writer()
        self.exchange = self.new()

    def new(self) -> SaslExchange:
        """An exchange that has not begun."""
        return SaslExchange(self.server.clients, self.writer, "PLAIN")

    def begin(self) -> Any:
        """Begin; what the Callbridge is asked."""
        self.exchange.begin(b"\0alice\0x")
        (asked,) = self.callbridge.received()
        return asked

    def answer(self, asked: Any, kind: Any, *more: Any) -> None:
        """The Callbridge answers."""
        self.callbridge.answer(asked, kind(lp.parse(asked.child).exchange, *more))  # type: ignore[union-attr]

    def messages(self) -> list[str]:
        """Of what kinds the messages are that the Callbridge has got since."""
        return [type(lp.parse(stanza.child)).__name__ for stanza in self.callbridge.received()]

    def test_steps(self) -> None:
        """A challenge, a response, and the account."""
        self.answer(self.begin(), lp.Challenge, b"who?")
        self.exchange.respond(b"me")
        (asked,) = self.callbridge.received()
        self.answer(asked, lp.Success, f"alice@{DOMAIN}")
        expected = ("succeeded", f"alice@{DOMAIN}", f"cb1.{DOMAIN}")
        self.assertEqual([("challenged", b"who?"), expected], self.writer.told)

    def test_out_of_turn(self) -> None:
        """A response while the Callbridge decides ends it there and here; its answer is late."""
        for say in (lambda e: e.respond(b"x"), lambda e: e.unreadable("incorrect-encoding")):
            self.setUp()
            asked = self.begin()
            say(self.exchange)
            self.assertEqual([("refused", "malformed-request")], self.writer.told)
            self.assertEqual(["Abort"], self.messages())
            self.answer(asked, lp.Success, f"alice@{DOMAIN}")
            self.assertEqual(1, len(self.writer.told))

    def test_unreadable(self) -> None:
        """A response that was due and cannot be read."""
        self.answer(self.begin(), lp.Challenge, b"who?")
        self.exchange.unreadable("incorrect-encoding")
        self.assertEqual(("refused", "incorrect-encoding"), self.writer.told[-1])
        self.assertEqual(["Abort"], self.messages())

    def test_gone(self) -> None:
        """Of a client that is gone the Callbridge hears; nobody is told what it says."""
        for steps in range(2):
            self.setUp()
            asked = self.begin()
            if steps:
                self.answer(asked, lp.Challenge, b"who?")
            self.exchange.leave()
            self.assertEqual(["Abort"], self.messages())
            if not steps:
                self.answer(asked, lp.Failed, "not-authorized")
            self.assertEqual(steps, len(self.writer.told))

    def test_waits(self) -> None:
        """Without a Callbridge it waits for one, or until nobody came, or it is ended."""
        self.callbridge.transport.lose()
        self.exchange.begin(None)
        self.callbridge = self.server.callbridge("cb2")
        self.assertEqual([("waits", True), ("waits", False)], self.writer.told)
        self.assertEqual(["Start"], self.messages())
        for end, more, last in (
            ("nobody", (), ("unserved", "no-callbridge")),
            ("refuse", ("aborted",), ("refused", "aborted")),
            ("respond", (b"",), ("refused", "malformed-request")),
            ("leave", (), ("waits", False)),
        ):
            self.setUp()
            self.callbridge.transport.lose()
            self.exchange.begin(None)
            if end == "nobody":
                self.server.clock.advance(8)
            else:
                getattr(self.exchange, end)(*more)
            self.assertEqual([("waits", True), ("waits", False)], self.writer.told[:2])
            self.assertEqual(last, self.writer.told[-1])
            self.assertEqual(0, len(self.server.waiting_room))

    def test_refused_at_once(self) -> None:
        """Nobody is asked."""
        self.exchange.refuse("invalid-mechanism")
        self.assertEqual([("refused", "invalid-mechanism")], self.writer.told)
        self.assertEqual([], self.messages())
