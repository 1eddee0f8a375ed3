"""Stream management of clients (XEP-0198 1.6): counted, kept, resumed, answered for."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cms.diagram.sequence import messages
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.flow import DRAIN_BYTES, SEND_LIMITS
from cms.xmlstream.gathering import GATHERED_BYTES
from cms.xmlstream.management import ASK_SECONDS, ASK_STANZAS, WINDOW_STANZAS
from cms.xmlstream.replies import result_reply
from cms.xmlstream.stanza import Stanza
from tests.xmppserver import DOMAIN, Peer, Server

SM = f"xmlns='{ns.MANAGEMENT}'"
ENABLE = f"<enable {SM} resume='true'/>"
ASK = f"<r {SM}/>"
BIND = f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>r</resource></bind></iq>"


def message(number: int, to: str = f"alice@{DOMAIN}/r", more: str = " type='chat'") -> str:
    """A message with a number."""
    return f"<message to='{to}' id='m{number}'{more}><body>x</body></message>"


def ids(stanzas: list[Stanza]) -> list[str | None]:
    """Their ids, of messages."""
    return [s.id for s in stanzas if s.name == "message"]


class ManagementTests(SynchronousTestCase):
    """What every test of it begins with."""

    seconds = 60.0

    def setUp(self) -> None:
        """Alice manages her stream; Bob does not."""
        self.server = Server(resume=self.seconds)
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge)
        self.bob = self.server.bound(self.callbridge, "bob")
        self.previd = ""

    def enable(self) -> str:
        """Enable it; what the server answers."""
        self.alice.say(ENABLE)
        heard = self.alice.heard()
        found = re.search(r" id='([^']+)'", heard)
        self.previd = found[1] if found else ""
        return heard

    def to_alice(self, *numbers: int) -> None:
        """Bob sends messages with these numbers."""
        for number in numbers:
            self.bob.say(message(number))

    def cut(self) -> None:
        """Alice's connection breaks."""
        self.alice.transport.lose()

    def resume(self, handled: int, *, previous: str | None = None, user: str = "alice") -> Peer:
        """Log in again and ask for the session."""
        client = self.server.logged_in(self.callbridge, user)
        client.say(f"<resume {SM} h='{handled}' previd='{previous or self.previd}'/>")
        return client

    def notices(self) -> list[Any]:
        """What the Callbridge is told of sessions."""
        told: list[Any] = []
        for stanza in self.callbridge.received():
            self.callbridge.say(result_reply(stanza).raw.decode())
            if stanza.payload != (ns.PING, "ping"):
                notice = lp.parse(stanza.child)
                told += list(notice.notices) if isinstance(notice, lp.Sessions) else [notice]
        return told


class EnableTests(ManagementTests):
    """XEP-0198 3."""

    def test_offered(self) -> None:
        """After the log-in, with the binding, and not before."""
        early = re.sub("<authentication.*</authentication>", "", self.server.client().open())
        self.assertIn("<mechanisms", early)
        self.assertNotIn(ns.MANAGEMENT, early)
        client = self.server.logged_in(self.callbridge)
        self.assertIn(f"<sm xmlns='{ns.MANAGEMENT}'/>", client.offered)

    def test_enabled(self) -> None:
        """With an id that nobody guesses, and the seconds that the session is kept."""
        heard = self.enable()
        self.assertRegex(heard, rf"^<enabled {SM} id='[\w-]{{22,}}' resume='true' max='60'/>$")
        first = self.previd
        self.setUp()
        self.enable()
        self.assertNotEqual(first, self.id)

    def test_without_resumption(self) -> None:
        """Who does not ask to resume is acknowledged only."""
        self.alice.say(f"<enable {SM}/>")
        self.assertEqual(f"<enabled {SM}/>", self.alice.heard())
        self.to_alice(1)
        self.alice.heard()
        self.cut()
        self.assertEqual([f"alice@{DOMAIN}/r"], [n.jid for n in self.notices()])
        self.assertEqual(["m1"], ids(self.bob.received()))

    def test_out_of_order(self) -> None:
        """What comes out of order is refused, and the stream goes on."""
        self.alice.say(ASK)
        self.assertIn(f"<failed {SM}><unexpected-request", self.alice.heard())
        self.alice.say(f"<a {SM} h='0'/>")
        self.assertIn(f"<failed {SM}><unexpected-request", self.alice.heard())
        self.enable()
        for said in (ENABLE, f"<resume {SM} previd='{self.previd}' h='0'/>"):
            self.alice.say(said)
            self.assertIn(f"<failed {SM}><unexpected-request", self.alice.heard())
        unbound = self.server.logged_in(self.callbridge)
        unbound.say(ENABLE)
        self.assertIn(f"<failed {SM}><unexpected-request", unbound.heard())
        unbound.say(BIND.replace("<resource>r", "<resource>other"))
        self.assertIn("other</jid>", unbound.heard())
        self.to_alice(1)
        self.assertEqual(["m1"], ids(self.alice.received()))

    def test_malformed(self) -> None:
        """C{h} that is no counter, a resumption without one: refused, and nothing is lost."""
        self.enable()
        self.cut()
        for said in (
            f"<resume {SM} previd='{self.previd}'/>",
            f"<resume {SM} previd='{self.previd}' h='x'/>",
            f"<resume {SM} previd='{self.previd}' h='-1'/>",
            f"<resume {SM} previd='{self.previd}' h='4294967296'/>",
            f"<resume {SM} h='0'/>",
        ):
            client = self.server.logged_in(self.callbridge)
            client.say(said)
            self.assertIn(f"<failed {SM}><bad-request", client.heard())
        self.assertIn("<resumed", self.resume(0).heard())


class CountTests(ManagementTests):
    """XEP-0198 4."""

    def test_handled(self) -> None:
        """Stanzas are counted from C{enable} on, each kind, and nothing else."""
        self.to_alice(1)
        self.alice.say("<presence/>" + ENABLE + message(2, f"bob@{DOMAIN}/r") + ASK)
        self.alice.say(f"<iq type='get' id='p'><ping xmlns='{ns.PING}'/></iq>{ASK}{ASK}")
        self.alice.say("<presence/> <iq type='result' id='1'/>" + ASK)
        self.assertEqual(
            ["1", "2", "2", "4"], re.findall(r"<a [^>]*h='(\d+)'/>", self.alice.heard())
        )

    def test_asked_by_number(self) -> None:
        """After so many stanzas the server asks."""
        self.enable()
        self.to_alice(*range(ASK_STANZAS - 1))
        self.assertNotIn("<r ", self.alice.transport.take())
        self.to_alice(ASK_STANZAS)
        self.assertIn(ASK, self.alice.transport.take())

    def test_asked_by_time(self) -> None:
        """And after some time; but who has acknowledged all is left alone."""
        self.enable()
        self.to_alice(1)
        self.alice.transport.take()
        self.server.clock.advance(ASK_SECONDS)
        self.assertEqual(ASK, self.alice.transport.take())
        self.alice.say(f"<a {SM} h='1'/>")
        self.server.clock.advance(ASK_SECONDS * 2)
        self.assertEqual("", self.alice.transport.take())

    def test_too_many(self) -> None:
        """What was never sent cannot be acknowledged: the stream ends, the session too."""
        self.enable()
        self.to_alice(1)
        self.alice.heard()
        self.alice.say(f"<a {SM} h='2'/>")
        heard = self.alice.heard()
        self.assertIn("<undefined-condition ", heard)
        self.assertIn(f"<handled-count-too-high {SM} h='2' send-count='1'/>", heard)
        self.assertTrue(self.alice.lost)
        self.assertEqual([f"alice@{DOMAIN}/r"], [n.jid for n in self.notices()])

    def test_window(self) -> None:
        """Who never acknowledges gets so much; the rest waits, and then the session ends."""
        self.enable()
        for first in range(0, WINDOW_STANZAS + 10, 10):
            self.bob.say("".join(message(n) for n in range(first, first + 10)))
        got = ids(self.alice.received())
        self.assertEqual([f"m{n}" for n in range(WINDOW_STANZAS)], got)
        self.alice.say(f"<a {SM} h='10'/>")
        self.assertEqual(
            [f"m{n}" for n in range(WINDOW_STANZAS, WINDOW_STANZAS + 10)],
            ids(self.alice.received()),
        )
        told = []
        for _ in range(int(SEND_LIMITS.stall_timeout)):
            self.assertFalse(self.alice.lost)
            self.server.clock.advance(1)
            told += self.notices()
            self.alice.say(" ")  # she is there
        self.assertTrue(self.alice.lost)
        self.assertEqual([f"alice@{DOMAIN}/r"], [n.jid for n in told])
        self.assertEqual(WINDOW_STANZAS, len(ids(self.bob.received())))


class ResumeTests(ManagementTests):
    """XEP-0198 5."""

    def setUp(self) -> None:
        """Alice has three messages and has acknowledged one."""
        super().setUp()
        self.enable()
        self.alice.say("<presence><priority>3</priority></presence>")
        self.alice.heard()
        self.to_alice(1, 2, 3)
        self.assertEqual(["m1", "m2", "m3"], ids(self.alice.received()))
        self.alice.say(f"<a {SM} h='2'/>")  # her own presence was the first

    def test_resumed(self) -> None:
        """What was not handled comes again, then what came meanwhile, in its order."""
        self.cut()
        self.to_alice(4, 5)
        client = self.resume(3)
        heard = client.heard()
        self.assertIn(f"<resumed {SM} previd='{self.previd}' h='1'/>", heard)
        self.alice = client
        self.assertEqual(["m3", "m4", "m5"], re.findall("id='(m[0-9]+)'", heard))
        self.to_alice(6)
        self.assertEqual(["m6"], ids(self.alice.received()))
        self.assertEqual([], self.notices())
        self.assertEqual([], self.bob.received())
        session = next(iter(self.server.sessions.of(f"alice@{DOMAIN}")))
        self.assertEqual(3, session.priority)
        self.alice.say(message(7, f"bob@{DOMAIN}/r") + ASK)
        self.assertIn(f"<a {SM} h='2'/>", self.alice.heard())
        (seven,) = self.bob.received()
        self.assertEqual(f"alice@{DOMAIN}/r", seven.sender)

    def test_in_one_piece(self) -> None:
        """The answer, what comes again and what waited leave together: xmpp.js 0.14 needs that."""
        self.cut()
        self.to_alice(*range(4, 24))
        client = self.server.logged_in(self.callbridge)
        written = client.writes()
        client.say(f"<resume {SM} h='2' previd='{self.previd}'/>")
        (whole,) = written
        heard = whole.decode()
        self.assertTrue(heard.startswith("<resumed "), heard)
        self.assertEqual([f"m{n}" for n in range(2, 24)], re.findall("id='(m[0-9]+)'", heard))
        self.assertTrue(heard.endswith(ASK), heard)

    def test_too_much_for_one_piece(self) -> None:
        """What is more than is joined comes in several, in its order, as far as it is read."""
        self.cut()
        body = "x" * 20_000
        for number in range(4, 14):
            self.bob.say(message(number).replace("<body>x", f"<body>{body}"))
        client = self.server.logged_in(self.callbridge)
        written = client.writes()
        client.say(f"<resume {SM} h='4' previd='{self.previd}'/>")
        self.assertLess(1, len(written))
        self.assertLess(max(map(len, written)), GATHERED_BYTES + 2 * DRAIN_BYTES)
        heard = b"".join(written).decode()
        self.assertEqual([f"m{n}" for n in range(4, 14)], re.findall("id='(m[0-9]+)'", heard))

    def test_told(self) -> None:
        """The signal flow and its diagram show who came back, after how long, with what again."""
        self.cut()
        self.server.clock.advance(2.5)
        self.to_alice(4)
        self.notices()
        self.resume(3)
        (attempt,) = (a.as_dict() for a in self.server.flow.logins() if "away" in str(a.as_dict()))
        (step,) = attempt["steps"]
        jid = f"alice@{DOMAIN}/r"
        away = step["evidence"]["away"]
        self.assertRegex(away, r"^2\.\d s$")
        self.assertEqual(
            {"jid": jid, "peer": "198.51.100.9 port 40000", "away": away, "again": "1"},
            step["evidence"],
        )
        asked, told = messages(step, "login")
        self.assertEqual("log-in from 198.51.100.9 port 40000", asked.text)
        self.assertEqual(f"resumed: {jid}, away {away}, 1 sent again", told.text)
        self.assertEqual(("XMPP server", "Client"), (told.source, told.target))

    def test_flow_of_log_ins(self) -> None:
        """However often somebody resumes, the log-ins stay on record."""
        before = [a.as_dict() for a in self.server.flow.logins()]
        for _ in range(60):
            self.cut()
            self.alice = self.resume(4)
        after = [a.as_dict() for a in self.server.flow.logins()]
        self.assertEqual(before, after[: len(before)])
        self.assertEqual(50, len(after) - len(before))

    def test_again_and_again(self) -> None:
        """A session is resumed as often as its connection breaks, with the same id."""
        for number in range(4, 8):
            self.cut()
            self.to_alice(number)
            self.alice = self.resume(number)  # all but the newest
            self.assertEqual([f"m{number}"], re.findall("id='(m[0-9]+)'", self.alice.heard()))

    def test_while_the_old_connection_lives(self) -> None:
        """The new one takes it; the old one ends with conflict, and tells nobody."""
        client = self.resume(4)
        self.assertIn("<resumed ", client.heard())
        self.assertIn("<conflict ", self.alice.heard())
        self.assertTrue(self.alice.lost)
        self.assertEqual([], self.notices())
        self.to_alice(4)
        self.assertEqual(["m4"], ids(client.received()))

    def test_somebody_elses(self) -> None:
        """Another account does not get it, learns nothing, and may bind."""
        self.cut()
        client = self.resume(0, user="mallory")
        self.assertEqual(
            f"<failed {SM}><item-not-found xmlns='{ns.STANZAS}'/></failed>", client.heard()
        )
        client.say(BIND)
        self.assertIn(f"mallory@{DOMAIN}/r", client.heard())
        self.notices()
        self.assertIn("<resumed ", self.resume(4).heard())

    def test_too_many(self) -> None:
        """A resumption that acknowledges what was never sent ends the stream, not the session."""
        self.cut()
        client = self.resume(5)
        self.assertIn(f"<handled-count-too-high {SM} h='5' send-count='4'/>", client.heard())
        self.assertTrue(client.lost)
        self.assertIn("<resumed ", self.resume(4).heard())

    def test_expires(self) -> None:
        """After its time it ends as if it had closed, once, and each is told."""
        self.bob.say(f"<presence to='alice@{DOMAIN}/r'/>")
        self.alice.say(f"<presence to='bob@{DOMAIN}/r'/>")
        self.bob.heard()
        self.alice.heard()
        self.cut()
        self.to_alice(4)
        self.bob.say(message(5, more=" type='error'"))
        self.bob.say(f"<iq type='get' id='q' to='alice@{DOMAIN}/r'><x xmlns='urn:x'/></iq>")
        self.server.clock.advance(self.seconds - 1)
        self.assertEqual([], self.notices())
        self.assertEqual([], self.bob.received())
        self.server.clock.advance(1)
        (end,) = self.notices()
        self.assertEqual((lp.SessionEnd, f"alice@{DOMAIN}/r"), (type(end), end.jid))
        told = self.bob.received()
        self.assertEqual(
            [("message", "m2"), ("message", "m3"), ("message", "m4"), ("iq", "q")],
            [(s.name, s.id) for s in told if s.type == "error"],
        )
        self.assertTrue(
            all("recipient-unavailable" in s.raw.decode() for s in told if s.type == "error")
        )
        self.assertEqual(["unavailable"], [s.type for s in told if s.name == "presence"])
        self.assertEqual([], self.server.clock.getDelayedCalls()[3:])
        client = self.resume(4)
        self.assertEqual(
            f"<failed {SM} h='2'><item-not-found xmlns='{ns.STANZAS}'/></failed>", client.heard()
        )
        client.say(BIND)
        self.assertIn(f"alice@{DOMAIN}/r", client.heard())

    def test_closed(self) -> None:
        """Who closes the stream ends the session at once."""
        self.alice.say("</stream:stream>")
        self.assertEqual([f"alice@{DOMAIN}/r"], [n.jid for n in self.notices()])
        self.assertEqual(["m2", "m3"], ids(self.bob.received()))

    def test_bounded(self) -> None:
        """What has no room while it is away is answered at once; what had is kept."""
        self.cut()
        body = "x" * 4_000
        for number in range(400):
            self.bob.say(message(number).replace("<body>x", f"<body>{body}"))
        refused = [s.id for s in self.bob.received()]
        self.assertTrue(refused)
        self.alice = self.resume(4)
        kept = ids(self.alice.received())
        self.assertEqual([f"m{n}" for n in range(400)], kept + refused)

    def test_a_new_session_of_the_same_resource(self) -> None:
        """Who binds the resource anew ends the one that is away."""
        self.cut()
        self.to_alice(4)
        client = self.server.logged_in(self.callbridge)
        client.say(BIND)
        self.assertIn("<jid>", client.heard())
        self.assertEqual(["m2", "m3", "m4"], ids(self.bob.received()))
        self.assertEqual(["SessionEnd", "SessionBegin"], [type(n).__name__ for n in self.notices()])


class NoResumptionTests(ManagementTests):
    """C{resume.seconds = 0}."""

    seconds = 0.0

    def test_refused(self) -> None:
        """It is enabled without resumption, and nothing is kept."""
        self.assertEqual(f"<enabled {SM}/>", self.enable())
        self.to_alice(1)
        self.alice.heard()
        self.cut()
        self.assertEqual([f"alice@{DOMAIN}/r"], [n.jid for n in self.notices()])
        self.assertEqual(["m1"], ids(self.bob.received()))
