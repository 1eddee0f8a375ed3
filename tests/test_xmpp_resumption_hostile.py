"""Sessions without a connection, and who would make use of them, or suffers by them."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.process.logs import Logger
from cms.xmlstream.flow import SEND_LIMITS
from cms.xmlstream.management import MOST_AWAY, WINDOW_STANZAS
from cms.xmlstream.stanza import Stanza
from cms.xmpp import forward
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.undelivered import A_TURN, Undelivered
from tests.test_xmpp_resumption import ASK, BIND, ENABLE, SM, ManagementTests, ids, message
from tests.test_xmpp_service import CONFIGURATION, Daemon
from tests.xmppserver import DOMAIN, Peer

ALICE, BOB = f"alice@{DOMAIN}/r", f"bob@{DOMAIN}/r"


def numbers(heard: str) -> list[int]:
    """The numbers of the messages, in their order."""
    return [int(number) for number in re.findall(r"id='m(\d+)'", heard)]


class EnabledTests(ManagementTests):
    """Alice manages her stream from the beginning."""

    def setUp(self) -> None:
        """She has nothing yet."""
        super().setUp()
        self.told: list[Any] = []
        self.enable()

    def fill(self, first: int, last: int) -> None:
        """Bob sends many, some at a time."""
        for start in range(first, last, 10):
            self.bob.say("".join(message(n) for n in range(start, min(last, start + 10))))

    def bind(self, user: str = "alice", resource: str = "r") -> Peer:
        """Somebody logs in and binds a resource; its peer heard nothing yet."""
        self.told += self.notices()
        client = self.server.logged_in(self.callbridge, user)
        client.say(BIND.replace("<resource>r", f"<resource>{resource}"))
        return client


class HalfDeadTests(EnabledTests):
    """A network that is gone without a word."""

    def test_full_window(self) -> None:
        """Who says nothing any more is away, however much was on its way; nothing is lost."""
        self.fill(0, WINDOW_STANZAS + 10)
        self.assertEqual(WINDOW_STANZAS, len(numbers(self.alice.heard())))
        for _ in range(int(SEND_LIMITS.stall_timeout)):
            self.server.clock.advance(1)
            self.told += self.notices()
        self.assertTrue(self.alice.lost)
        self.assertEqual(1, self.server.clients.resumptions.away)
        self.fill(WINDOW_STANZAS + 10, WINDOW_STANZAS + 20)
        self.assertEqual([], self.bob.received())
        client = self.resume(5)
        got = numbers(client.heard())
        client.say(f"<a {SM} h='{WINDOW_STANZAS}'/>")
        got += numbers(client.heard())
        self.assertEqual(list(range(5, WINDOW_STANZAS + 20)), got)
        self.assertEqual([], self.bob.received())
        self.assertEqual([], self.told + self.notices())

    def test_reads_on(self) -> None:
        """Who reads and speaks but acknowledges nothing ends in time, however it reads."""
        self.fill(0, WINDOW_STANZAS + 1)
        self.alice.heard()
        seconds = 0
        while not self.alice.lost and seconds < 40:
            seconds += 1
            self.alice.transport.stop_reading()
            self.alice.say(ASK * 2_000)
            self.server.clock.pump([0.01] * 80)
            if not self.alice.lost:
                self.alice.transport.read()  # what it had not read drains
            self.server.clock.advance(0.2)
            self.told += self.notices()
        self.assertAlmostEqual(SEND_LIMITS.stall_timeout, seconds, delta=2)
        self.assertEqual(0, self.server.clients.resumptions.away)
        self.assertEqual([ALICE], [n.jid for n in self.told])


class EndTests(EnabledTests):
    """How sessions end that are away, or would be."""

    def test_fault_of_ours(self) -> None:
        """A stanza that brings about a fault of ours ends the session: it would come again."""

        def fail(stanza: Stanza, source: object = None) -> None:
            raise RuntimeError("a fault")

        self.patch(self.server.router, "route", fail)
        self.alice.say(message(1, f"nobody@{DOMAIN}"))
        self.assertIn("<internal-server-error", self.alice.heard())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual(0, self.server.clients.resumptions.away)
        self.assertEqual([ALICE], [n.jid for n in self.notices()])

    def handled(self) -> str | None:
        """How many stanzas she is told that were handled, of the session that has ended."""
        self.notices()
        heard = self.resume(0).heard()
        self.assertIn("<item-not-found", heard)
        found = re.search(r"<failed [^>]* h='(\d+)'", heard)
        return found and found[1]

    def test_error_amid_a_read(self) -> None:
        """What was handled of it is told: it would come twice, or what was not would be lost."""
        to_bob = [message(number, BOB) for number in range(6)]
        bad = f"<message from='{BOB}' to='{BOB}'/>"
        self.alice.say("".join([*to_bob[:3], bad, *to_bob[3:]]))
        self.assertIn("<invalid-from", self.alice.heard())
        self.assertEqual(["m0", "m1", "m2"], ids(self.bob.received()))
        self.assertEqual("4", self.handled())

    def test_error_amid_turns(self) -> None:
        """The same when the read takes several turns."""
        pings = (
            f"<iq type='get' id='p' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>"
            * forward.A_TURN
        )
        self.alice.say(pings + message(0, BOB) + f"<message from='{BOB}'/>" + message(1, BOB))
        self.server.clock.advance(0)
        self.assertIn("<invalid-from", self.alice.heard())
        self.assertEqual(["m0"], ids(self.bob.received()))
        self.assertEqual(str(forward.A_TURN + 2), self.handled())

    def test_fault_of_ours_amid_a_read(self) -> None:
        """The same, with what brought it about: it would do so again."""

        def fail(stanza: Stanza, source: object = None) -> None:
            raise RuntimeError("a fault")

        self.patch(self.server.router, "route", fail)
        self.alice.say(message(0, BOB) + message(1, f"nobody@{DOMAIN}") + message(2, BOB))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual(["m0"], ids(self.bob.received()))
        self.assertEqual("2", self.handled())

    def test_ends_by_what_she_sends(self) -> None:
        """A session that is ended by its own stanzas, to itself, has counted them."""
        (session,) = self.server.sessions.of(f"alice@{DOMAIN}")
        deliver: Any = session.deliver

        def end(raws: list[bytes], source: object) -> object:
            session.end()
            return deliver(raws, source)

        self.patch(session, "deliver", end)
        self.alice.say(message(0, BOB) + message(1, ALICE))
        self.assertEqual("2", self.handled())

    def test_replaced_while_the_old_connection_goes(self) -> None:
        """A session whose connection is being dropped is away already: it ends when replaced."""
        self.patch(self.alice.transport, "abortConnection", lambda: None)
        self.alice.stream.pauseProducing()
        self.alice.stream.too_slow()
        self.assertEqual(1, self.server.clients.resumptions.away)
        self.to_alice(1)
        client = self.bind()
        self.assertIn(ALICE, client.heard())
        self.assertEqual(["SessionEnd", "SessionBegin"], [type(n).__name__ for n in self.notices()])
        self.assertEqual(["m1"], ids(self.bob.received()))
        self.alice.transport.lose()
        self.server.clock.advance(self.seconds + 1)
        self.assertEqual([], self.notices())
        self.to_alice(2)
        self.assertEqual(["m2"], ids(client.received()))

    def test_administrator(self) -> None:
        """Ended by an administrator while it is away: it cannot be resumed."""
        self.cut()
        self.to_alice(1)
        (session,) = self.server.sessions.of(f"alice@{DOMAIN}")
        session.end()
        self.assertEqual([(ALICE, "closed")], [(n.jid, n.reason) for n in self.notices()])
        self.assertEqual(["m1"], ids(self.bob.received()))
        self.assertIn("<item-not-found", self.resume(0).heard())
        self.assertEqual(0, self.server.clients.resumptions.away)

    def test_nothing_keeps_it(self) -> None:
        """An ended session is freed at once, an inactive one too."""
        # Who has not begun to log keeps each event, with the session that it comes from.
        self.patch(ClientSession, "log", Logger(observer=LogPublisher()))
        self.alice.say("<inactive xmlns='urn:xmpp:csi:0'/>")
        (session,) = self.server.sessions.of(f"alice@{DOMAIN}")
        gone = weakref.ref(session)
        del session
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.cut()
        self.server.clock.advance(self.seconds)
        self.alice.transport.protocol = self.alice.transport.producer = None  # as TCP's are
        del self.alice
        self.assertIsNone(gone())

    def test_many_undelivered(self) -> None:
        """What nobody acknowledged is given back in parts, all of it, in its order."""
        self.fill(0, WINDOW_STANZAS)
        self.alice.heard()
        self.cut()
        self.fill(WINDOW_STANZAS, WINDOW_STANZAS + MOST_AWAY)
        self.assertEqual([], self.bob.received())
        self.server.clock.advance(self.seconds)
        got = ids(self.bob.received())
        self.assertEqual([f"m{n}" for n in range(WINDOW_STANZAS + MOST_AWAY)], got)

    def test_unmanaged_and_too_slow(self) -> None:
        """What waits for a client that does not read comes back when it is ended."""
        self.bob.transport.stop_reading()
        carol = self.server.bound(self.callbridge, "carol")
        body = "x" * 1_000
        said = range(300)
        for number in said:
            carol.say(message(number, BOB).replace("<body>x", f"<body>{body}"))
        arrived = numbers(self.bob.transport.take())
        for _ in range(int(SEND_LIMITS.stall_timeout)):
            self.server.clock.advance(1)
        self.assertTrue(self.bob.lost)
        back = [int((s.id or "m-1")[1:]) for s in carol.received() if s.type == "error"]
        self.assertEqual(list(said), arrived + back)
        self.assertGreater(len(back), 100)
        self.assertNotIn("<message", self.bob.transport.take())


class PlacesTests(EnabledTests):
    """How many are away."""

    def test_resources(self) -> None:
        """Who lost all his sessions logs in again: the one that is away for longest ends."""
        self.server.sessions.most_per_user = 3
        others = [self.bind(resource=name) for name in ("a", "b")]
        for other in others:
            other.say(ENABLE)
            other.heard()
        full = self.bind(resource="c")
        self.assertIn("<resource-constraint", full.heard())
        others[0].transport.lose()
        self.cut()
        client = self.bind(resource="c")
        self.assertIn(f"alice@{DOMAIN}/c", client.heard())
        self.assertEqual(
            [("SessionEnd", f"alice@{DOMAIN}/a"), ("SessionBegin", f"alice@{DOMAIN}/c")],
            [(type(n).__name__, n.jid) for n in self.notices()],
        )
        self.assertIn("<resumed ", self.resume(0).heard())

    def test_most(self) -> None:
        """Of one more than may be away, the one that is away for longest ends."""
        self.server.clients.resumptions._most_away = 2
        clients = [self.bind("carol", f"c{n}") for n in range(3)]
        for client in clients:
            client.say(ENABLE)
        self.notices()
        for client in clients:
            client.transport.lose()
            self.server.clock.advance(1)
        self.assertEqual([f"carol@{DOMAIN}/c0"], [n.jid for n in self.notices()])
        self.assertEqual(2, self.server.clients.resumptions.away)
        self.assertEqual(1, self.server.clients.resumptions.crowded_out)

    def test_ten_thousand(self) -> None:
        """What is sent to one who is away is kept within limits; the rest comes back at once."""
        self.cut()
        self.fill(0, 10_000)
        back = ids(self.bob.received())
        self.assertEqual([f"m{n}" for n in range(MOST_AWAY, 10_000)], back)
        self.assertFalse(self.bob.stream.held)
        (session,) = self.server.sessions.of(f"alice@{DOMAIN}")
        self.assertLess(session.kept_bytes, SEND_LIMITS.size)
        self.assertEqual(list(range(MOST_AWAY)), numbers(self.resume(0).heard()))


class OtherwiseTests(EnabledTests):
    """Who else has to do with it."""

    def test_two_at_once(self) -> None:
        """Two connections resume it: the later has it, the earlier ends with conflict."""
        self.to_alice(1, 2)
        self.alice.heard()
        self.cut()
        one, other = (self.server.logged_in(self.callbridge) for _ in range(2))
        for client in (one, other):
            client.say(f"<resume {SM} h='1' previd='{self.previd}'/>")
        self.assertEqual([2], numbers(one.heard()))
        self.assertTrue(one.lost)
        self.assertEqual([2], numbers(other.heard()))
        self.to_alice(3)
        self.assertEqual(["m3"], ids(other.received()))
        self.assertEqual([], self.notices())

    def test_resumed_and_bound(self) -> None:
        """Who has bound does not resume, and who has resumed does not bind."""
        self.cut()
        client = self.bind(resource="other")
        client.say(f"<resume {SM} h='0' previd='{self.previd}'/>")
        heard = client.heard()
        self.assertIn("other</jid>", heard)
        self.assertIn("<unexpected-request", heard)
        self.notices()
        client = self.server.logged_in(self.callbridge)
        client.say(f"<resume {SM} h='0' previd='{self.previd}'/>" + BIND + message(1, BOB) + ASK)
        heard = client.heard()
        self.assertIn("<resumed ", heard)
        self.assertIn("<service-unavailable", heard)
        self.assertEqual(["m1"], ids(self.bob.received()))
        self.assertIn(f"<a {SM} h='2'/>", heard)

    def test_broadcast(self) -> None:
        """A session that is resumed amid a broadcast gets it once, in its place."""
        self.alice.say("<presence/>")
        other = self.bind(resource="o")
        other.say("<presence/>")
        other.heard()
        self.alice.say(f"<a {SM} h='2'/>")
        self.cut()
        for number in range(3):
            other.say(f"<presence><status>{number}{'x' * 200}</status></presence>")
            if number == 1:
                self.notices()
                self.alice = self.resume(2)
        got = re.findall(r"<status>(\d)", self.alice.heard())
        self.assertEqual(["0", "1", "2"], got)

    def test_directed_presence(self) -> None:
        """Who got its presence is told when it ends, not while it is away."""
        self.alice.say(f"<presence to='{BOB}'/>")
        self.bob.heard()
        self.cut()
        self.assertEqual([], self.bob.received())
        self.server.clock.advance(self.seconds)
        (gone,) = [s for s in self.bob.received() if s.name == "presence"]
        self.assertEqual(("presence", "unavailable", ALICE), (gone.name, gone.type, gone.sender))

    def test_component(self) -> None:
        """A room's presence and messages wait in their order, and the link is not held."""
        room = self.server.register("echo")
        self.cut()
        for number in range(5):
            room.say(
                f"<presence from='room@echo.{DOMAIN}/n{number}' to='{ALICE}' id='m{number}'/>"
                f"<message from='room@echo.{DOMAIN}/n{number}' to='{ALICE}' id='m1{number}'/>"
            )
        self.assertFalse(room.stream.held)
        expected = [n for number in range(5) for n in (number, 10 + number)]
        self.assertEqual(expected, numbers(self.resume(0).heard()))

    def test_component_floods(self) -> None:
        """While her window is full she is read, or nothing could open it again."""
        room = self.server.register("echo")
        total, body = WINDOW_STANZAS + 1_500, f"<body>{'x' * 150}</body>"
        for first in range(0, total, 10):
            room.say(
                "".join(
                    f"<message from='room@echo.{DOMAIN}' to='{ALICE}' id='m{n}'>{body}</message>"
                    for n in range(first, first + 10)
                )
            )
        got = numbers(self.alice.heard())
        self.assertLess(len(got), total)
        while len(got) < total:
            self.assertFalse(self.alice.stream.held)
            self.alice.say(f"<a {SM} h='{len(got)}'/>")
            more = numbers(self.alice.heard())
            self.assertTrue(more)
            got += more
        self.assertEqual(list(range(total)), got)

    def test_two_that_flood_each_other(self) -> None:
        """Neither waits for the other's acknowledgements and so withholds its own."""
        self.bob.say(ENABLE)
        self.bob.heard()
        body = f"<body>{'x' * 150}</body>"
        for number in range(2 * WINDOW_STANZAS):
            for peer, to in ((self.alice, BOB), (self.bob, ALICE)):
                if not peer.stream.held:
                    peer.say(message(number, to).replace("<body>x</body>", body))
        for peer in (self.alice, self.bob):
            self.assertFalse(peer.stream.held)
            got = len(numbers(peer.transport.take()))
            self.assertGreater(got, WINDOW_STANZAS // 2)
            peer.say(f"<a {SM} h='{got}'/>")
            self.assertTrue(numbers(peer.transport.take()))

    def test_link_lost_and_back(self) -> None:
        """A Callbridge that comes back is told of who is away, and not of who has ended."""
        self.cut()
        other = self.server.bound(self.callbridge, "carol")
        other.say(ENABLE)
        other.transport.lose()
        self.callbridge.transport.lose()
        self.server.clock.advance(self.seconds / 2)
        self.callbridge = self.server.callbridge()
        told = self.notices()
        self.assertEqual(
            {(ALICE, True), (f"carol@{DOMAIN}/r", True), (BOB, True)},
            {(n.jid, n.resumed) for n in told},
        )
        self.callbridge.transport.lose()
        self.server.clock.advance(self.seconds / 2)  # nobody is there to be told of the end
        self.callbridge = self.server.callbridge()
        self.assertEqual([BOB], [n.jid for n in self.notices()])
        self.assertEqual([], self.flushLoggedErrors())

    def test_acknowledges_backwards(self) -> None:
        """Less than before is more than was sent: the stream ends, and the session with it."""
        self.to_alice(1, 2, 3)
        self.alice.heard()
        self.alice.say(f"<a {SM} h='2'/><a {SM} h='2'/>")
        self.assertFalse(self.alice.lost)
        self.alice.say(f"<a {SM} h='1'/>")
        self.assertIn("<handled-count-too-high ", self.alice.heard())
        self.assertEqual(["m3"], ids(self.bob.received()))

    def test_flood_of_requests(self) -> None:
        """Each is answered, in turns, and others are served meanwhile."""
        self.alice.say(ASK * 1_000)
        self.to_alice(1)
        heard = self.alice.transport.take()
        self.assertEqual([1], numbers(heard))
        self.assertLess(heard.count("<a "), 100)
        self.server.clock.pump([0] * 100)
        self.assertEqual(1_000, (heard + self.alice.transport.take()).count(f"<a {SM} h='0'/>"))


class UndeliveredTests(SynchronousTestCase):
    """What nobody has acknowledged, and the turns in which it is given back."""

    def test_turns(self) -> None:
        """A part at once, the rest in the turns that follow; one that fails stops no other."""
        clock, back = Clock(), list[bytes]()

        def give_back(raw: bytes) -> None:
            back.append(raw)
            if raw == b"7":
                raise RuntimeError("a fault")

        undelivered = Undelivered(clock, give_back)
        all_of_them = [b"%d" % number for number in range(2 * A_TURN)]
        undelivered.add(all_of_them[:-1])
        self.assertEqual(all_of_them[:A_TURN], back)
        undelivered.add(all_of_them[-1:])
        self.assertEqual(A_TURN, len(back))
        clock.advance(0)
        self.assertEqual(all_of_them, back)
        self.assertEqual([], clock.getDelayedCalls())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_finished(self) -> None:
        """At the end of the server there is one turn for all."""
        clock, back = Clock(), list[bytes]()
        undelivered = Undelivered(clock, back.append)
        undelivered.add([b"x"] * A_TURN * 3)
        undelivered.finish()
        self.assertEqual(A_TURN * 3, len(back))
        self.assertEqual([], clock.getDelayedCalls())


class StopTests(SynchronousTestCase):
    """The server stops while sessions are away."""

    def test_stopped(self) -> None:
        """They end as the others do: the Callbridge is told, senders too, and nothing is left."""
        daemon = Daemon(self, CONFIGURATION)
        callbridge = daemon.callbridge()
        alice = daemon.bound(callbridge, "alice")
        alice.say(ENABLE)
        alice.transport.lose()
        daemon.reactor.advance(1)
        self.assertEqual(1, daemon.service.resumptions.away)
        callbridge.say(f"<message from='cb1.{DOMAIN}' to='{ALICE}' id='m1'/>")
        stopped = daemon.service.stopService()
        told = callbridge.received()
        self.assertEqual(
            [lp.SessionEnd(ALICE, "shutdown")],
            [lp.parse(s.child) for s in told if s.name == "iq"],
        )
        self.assertEqual([("m1", "error")], [(s.id, s.type) for s in told if s.name == "message"])
        callbridge.transport.lose()
        self.successResultOf(stopped)
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual([], [c for c in daemon.reactor.getDelayedCalls() if c.active()])
