"""A Callbridge ends sessions: its user is disabled, deleted, or has another password."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.directories.store import UserStore, find_end
from cms.callbridge.link.handlers import LinkTraffic, LoginHandler
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.endings import Endings, Outcome
from cms.linkprotocol import ending
from cms.linkprotocol import login as lp
from cms.linkprotocol.login import expect
from cms.xmlstream import ns
from cms.xmlstream.replies import result_reply
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Stanza
from cms.xmpp.endings import MOST_REMEMBERED
from tests import LoggedError
from tests.clustersimulation import Cluster, ClusterServer, full
from tests.support import new_folder, one_stanza
from tests.test_login_authority import MemoryDirectory
from tests.test_xmpp_resumption import ManagementTests
from tests.xmppserver import DOMAIN, Peer, Server

CB1 = f"cb1.{DOMAIN}"
ALICE = f"alice@{DOMAIN}"
BIND = f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>new</resource></bind></iq>"


def ask(callbridge: Peer, jid: str = ALICE, reason: str = "disabled", name: str = "cb1") -> None:
    """A Callbridge says that sessions are over."""
    payload = ending.End(jid, reason).to_xml()
    addresses = f"from='{name}.{DOMAIN}' to='{DOMAIN}'"
    callbridge.say(f"<iq type='set' id='e1' {addresses}>{payload}</iq>")


def answer_of(callbridge: Peer) -> Any:
    """How many have ended, or the condition of the error."""
    (answer,) = [stanza for stanza in callbridge.received() if stanza.id == "e1"]
    if answer.type == "error":
        return str(answer.element.error.firstChildElement().name)
    return expect(ending.parse(answer.child), ending.Ended).sessions


class ServerTests(SynchronousTestCase):
    """The XMPP server is asked."""

    def setUp(self) -> None:
        """Alice has two sessions, and Bob one."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge, "alice", "r")
        self.phone = self.server.bound(self.callbridge, "alice", "phone")
        self.bob = self.server.bound(self.callbridge, "bob", "r")

    def test_all_of_a_user(self) -> None:
        """They end with what clients show, and nobody else's; messages come back."""
        ask(self.callbridge)
        told = self.callbridge.received()
        (answer,) = [stanza for stanza in told if stanza.id == "e1"]
        self.assertEqual(ending.Ended(2), ending.parse(answer.child))
        for client in (self.alice, self.phone):
            heard = client.heard()
            self.assertIn("<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", heard)
            self.assertIn("the account was disabled", heard)
            self.assertIn("<account-disabled xmlns='urn:x-cms:fault:1'/>", heard)
        self.assertEqual(1, len(self.server.sessions))
        self.bob.say(f"<message to='{ALICE}' id='m' type='chat'><body>x</body></message>")
        self.assertIn("service-unavailable", self.bob.heard())
        notices = [lp.parse(stanza.child) for stanza in told if stanza.id != "e1"]
        ended = [n for one in notices for n in getattr(one, "notices", [one])]
        self.assertEqual(
            {lp.SessionEnd(f"{ALICE}/{r}", "closed") for r in ("r", "phone")}, set(ended)
        )

    def test_one(self) -> None:
        """A full address ends that session; after C{reset} its client logs in again."""
        ask(self.callbridge, f"{ALICE}/r", "password")
        self.assertEqual(1, answer_of(self.callbridge))
        self.assertIn("<reset ", self.alice.heard())
        self.assertEqual("", self.phone.heard())

    def test_recorded(self) -> None:
        """The record tells why; C{closed} is for who went by himself."""
        noted = Mock()
        self.patch(type(self.server.flow), "ended", noted)
        ask(self.callbridge, f"{ALICE}/r", "password")
        ask(self.callbridge)
        self.server.sessions.of(f"bob@{DOMAIN}")[0].end()
        told = [(call.args[0], call.args[2]) for call in noted.call_args_list]
        phone, desk, bob = f"{ALICE}/phone", f"{ALICE}/r", f"bob@{DOMAIN}/r"
        self.assertEqual([(desk, "password"), (phone, "disabled"), (bob, "administrator")], told)

    def test_of_another_callbridge(self) -> None:
        """Nobody ends what another has decided."""
        other = self.server.callbridge("cb2")
        ask(other, name="cb2")
        self.assertEqual(0, answer_of(other))
        self.assertEqual("", self.alice.heard())

    def test_amid_a_drain(self) -> None:
        """A Callbridge that is about to go to another server, and decides nothing new, may."""
        link = self.server.links.get(CB1)
        assert link is not None
        self.server.links.quiet(link)
        ask(self.callbridge)
        self.assertEqual(2, answer_of(self.callbridge))

    def test_who_may_not(self) -> None:
        """A component that decides nothing, and a client, are refused; so is what is malformed."""
        echo = self.server.register("echo")
        (question,) = echo.received()
        echo.say(f"<iq type='error' id='{question.id}' from='echo.{DOMAIN}' to='{DOMAIN}'/>")
        ask(echo, name="echo")
        self.assertEqual("forbidden", answer_of(echo))
        self.bob.say(f"<iq type='set' id='e1'>{ending.End(ALICE, 'deleted').to_xml()}</iq>")
        self.assertEqual("forbidden", answer_of(self.bob))
        for broken in ("jid='' reason='x'", "jid='a b@c' reason='x'", f"jid='{ALICE}'"):
            self.callbridge.say(
                f"<iq type='set' id='e1' from='{CB1}' to='{DOMAIN}'>"
                f"<end xmlns='{ending.NS}' {broken}/></iq>"
            )
            self.assertEqual("bad-request", answer_of(self.callbridge))
        self.assertEqual(3, len(self.server.sessions))

    def test_amid_a_log_in(self) -> None:
        """Who has logged in, and bound nothing, binds nothing; who logs in later does."""
        before = self.server.logged_in(self.callbridge)
        bob = self.server.logged_in(self.callbridge, "bob")
        ask(self.callbridge)
        self.assertEqual(2, answer_of(self.callbridge))
        after = self.server.logged_in(self.callbridge)
        for client in (before, bob, after):
            client.say(BIND)
        self.assertIn("<not-authorized ", before.heard())
        self.assertTrue(before.lost)
        for client, user in ((bob, "bob"), (after, "alice")):
            self.assertIn(f"<jid>{user}@{DOMAIN}/new</jid>", client.heard())

    def test_many_ends(self) -> None:
        """What is forgotten counts as ended: it fails closed, and by C{reset}."""
        before = self.server.logged_in(self.callbridge, "carol")
        for number in range(MOST_REMEMBERED + 1):
            ask(self.callbridge, f"u{number}@{DOMAIN}")
            self.callbridge.heard()
        after = self.server.logged_in(self.callbridge, "carol")
        before.say(BIND)
        self.assertIn("<reset ", before.heard())
        after.say(BIND)
        self.assertIn("<jid>carol@", after.heard())


class AwayTests(ManagementTests):
    """A session without its connection."""

    def test_ends(self) -> None:
        """It ends too, is counted, and cannot be resumed."""
        self.enable()
        self.cut()
        self.assertEqual(1, self.server.clients.resumptions.away)
        ask(self.callbridge)
        self.assertEqual(1, answer_of(self.callbridge))
        self.assertEqual(0, self.server.clients.resumptions.away)
        self.assertIn("<item-not-found ", self.resume(0).heard())


class ClusterTests(SynchronousTestCase):
    """The Callbridge is at one server, and its users at both."""

    def setUp(self) -> None:
        """Alice is at each."""
        self.cluster = Cluster()
        self.one, self.two = self.cluster.server("one"), self.cluster.server("two")
        self.callbridge = self.one.callbridge()
        self.cluster.run(0.3)
        self.here = self.one.bound(self.callbridge, "alice", "here")
        self.there = self.log_in(self.two)
        self.there.say(BIND)
        self.run_()
        self.there.transport.take()

    def run_(self, seconds: float = 0.5) -> None:
        """Let time pass; the Callbridge confirms what it is told."""
        self.cluster.run(seconds)

    def answering(self, seconds: int) -> None:
        """The Callbridge answers for so long."""
        for _ in range(seconds):
            self.run_(1.0)
            for told in self.callbridge.received():
                if told.is_request:
                    self.callbridge.say(result_reply(told).raw)

    def log_in(self, server: ClusterServer) -> Peer:
        """Alice has logged in, and bound nothing."""
        client = server.client()
        client.open()
        client.authenticate()
        self.run_()
        (start,) = [s for s in self.callbridge.received() if s.payload == (lp.NS, "start")]
        question = lp.parse(start.child)
        assert isinstance(question, lp.Start)
        self.callbridge.answer(start, lp.Success(question.exchange, ALICE))
        self.run_()
        client.heard()
        client.open()
        return client

    def test_everywhere(self) -> None:
        """Sessions and log-ins at both servers end."""
        amid = self.log_in(self.two)
        self.assertIn(full("alice", "new"), self.one.known)
        ask(self.callbridge)
        self.run_()
        self.assertEqual(2, answer_of(self.callbridge))
        for client in (self.here, self.there):
            self.assertIn("the account was disabled", client.heard())
        amid.say(BIND)
        self.assertIn("the account was disabled", amid.heard())
        self.run_()
        self.assertEqual((set(), set()), (self.one.known, self.two.known))

    def test_unheard(self) -> None:
        """The other server is told again, if the way to it was cut for long."""
        self.cluster.engine_away()
        ask(self.callbridge)
        self.answering(20)
        self.assertEqual({full("alice", "new")}, self.two.own)
        self.cluster.engine_back()
        self.answering(5)
        self.assertEqual(set(), self.two.own)
        self.assertEqual(2, len(self.flushLoggedErrors(LoggedError)))  # each is cut off


class Stream:
    """The stream of a link."""

    link_id = "l1"

    def __init__(self, clock: Clock) -> None:
        self.sent: list[Stanza] = []
        self.requests = Requests(clock, self.sent.append, own=CB1)

    def send(self, stanza: Stanza) -> None:
        """It leaves at once."""
        self.sent.append(stanza)

    @property
    def waiting_bytes(self) -> int:
        """Nothing waits."""
        return 0

    def deliver(self, raws: Any, source: object) -> Any:
        """Nothing is sent to others."""


class CallbridgeTests(SynchronousTestCase):
    """The Callbridge asks."""

    def setUp(self) -> None:
        """A link is up."""
        self.clock = Clock()
        self.directory = MemoryDirectory({"alice": "pencil", "bob": "x"})
        self.authority = Authority(
            *(self.clock, self.directory, DOMAIN),
            random=Random(7),
            over=self._over,
        )
        self.endings = Endings(lambda: self.authority, lambda: (DOMAIN, CB1))
        handler = LoginHandler(self.authority, DOMAIN, None, self.endings)
        self.traffic = LinkTraffic(self.clock, [], handler)
        self.stream: Any = Stream(self.clock)
        self.traffic.link_up(self.stream)

    def _over(self, jid: str, why: str) -> None:
        self.endings.end_one(jid, why)

    def begin(self, jid: str = f"{ALICE}/r", *, resumed: bool = False) -> None:
        """The server names a session."""
        self.authority.note(lp.SessionBegin(jid, "::1", "2026-11-29T00:00:00+00:00", resumed))

    def end(self, reason: str = "disabled") -> Deferred[Outcome]:
        """Alice's sessions end."""
        return self.endings.end("alice", reason)

    def answer(self, content: str, type_: str = "result") -> ending.Message:
        """The server answers the last question; which that was."""
        question = self.stream.sent.pop()
        self.assertEqual((CB1, DOMAIN), (question.sender, question.to))
        self.stream.requests.take(
            one_stanza(
                f"<iq type='{type_}' id='{question.id}' from='{DOMAIN}' to='{CB1}'>{content}</iq>"
            )
        )
        return ending.parse(question.child)

    def test_ended(self) -> None:
        """The server says how many."""
        asked = self.end()
        self.assertEqual(ending.End(ALICE, "disabled"), self.answer(ending.Ended(2).to_xml()))
        self.assertEqual(Outcome(2), self.successResultOf(asked))

    def fault_of(self, asked: Deferred[Outcome]) -> Any:
        """The problem, and how many ended in spite of it."""
        outcome = self.successResultOf(asked)
        assert outcome.problem is not None
        self.assertEqual(0, outcome.sessions)
        return outcome.problem.fault

    def test_foreign_server(self) -> None:
        """One that does not know of it is told of, if there is anything that stays."""
        unavailable = (
            "<error type='cancel'>"
            "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        )
        asked = self.end()
        self.answer(unavailable, "error")
        self.assertEqual(Outcome(), self.successResultOf(asked))
        self.begin()
        asked = self.end()
        self.answer(unavailable, "error")
        self.assertEqual("sessions-stay", self.fault_of(asked))
        asked = self.end()
        self.answer("<x xmlns='urn:x'/>")
        self.assertEqual("sessions-stay", self.fault_of(asked))

    def test_no_link(self) -> None:
        """They end later: it is down, is lost meanwhile, or the server is silent."""
        silent = self.end()
        self.clock.advance(20)
        self.assertEqual("sessions-later", self.fault_of(silent))
        lost = self.end()
        self.stream.requests.lost()
        self.assertEqual("sessions-later", self.fault_of(lost))
        self.traffic.link_down()
        self.assertEqual("sessions-later", self.fault_of(self.end()))

    def test_resumed(self) -> None:
        """The server names its sessions when the link is back: those that are over end."""
        self.directory.ended = {"alice": "deleted"}
        self.begin(resumed=False)
        self.begin(f"bob@{DOMAIN}/r", resumed=True)
        self.assertEqual([], self.stream.sent)
        self.begin(resumed=True)
        self.assertEqual(ending.End(f"{ALICE}/r", "deleted"), self.answer(ending.Ended(1).to_xml()))

    def test_amid_a_log_in(self) -> None:
        """Keys that were read before do not let anybody in after."""
        waiting: list[Deferred[None]] = []

        def before() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        self.directory.before = before
        plain = "\0{}\0pencil".format
        alice = self.authority.start(lp.Start("e1", "PLAIN", plain("alice").encode(), "::1"))
        bob = self.authority.start(lp.Start("e2", "PLAIN", b"\0bob\0x", "::1"))
        self.end()
        self.assertEqual(lp.Failed("e1", "not-authorized"), self.successResultOf(alice))
        waiting[-1].callback(None)
        self.assertIsInstance(self.successResultOf(bob), lp.Success)

    def test_amid_scram(self) -> None:
        """Nor does the proof of an exchange that had begun."""
        first = b"n,,n=alice,r=abcdefgh"
        self.successResultOf(
            self.authority.start(lp.Start("e1", "SCRAM-SHA-256", first, "192.0.2.7"))
        )
        self.end()
        self.assertEqual(0, self.authority.exchanges)
        late = self.successResultOf(self.authority.respond(lp.Response("e1", b"c=biws")))
        self.assertIsInstance(late, lp.Failed)


class StoreTests(SynchronousTestCase):
    """What the store says of a session."""

    def setUp(self) -> None:
        """Alice has a password."""
        self.store = UserStore(new_folder(self))
        self.store.set_password("alice", "x", iterations=1)
        self.before = datetime.now(UTC) - timedelta(seconds=1)
        self.after = datetime.now(UTC) + timedelta(seconds=60)

    def over(self, since: datetime, name: str = "alice") -> str | None:
        """Why it is over."""
        with self.store.open() as connection:
            return find_end(connection.cursor(), name, since)

    def test_reasons(self) -> None:
        """Whoever is disabled, or is none; and what began before the last change."""
        self.assertIsNone(self.over(self.before))
        self.assertEqual("deleted", self.over(self.after, "bob"))
        self.store.set_password("alice", "y", iterations=1)
        self.assertEqual("password", self.over(self.before))
        self.assertIsNone(self.over(self.after))
        self.store.set_disabled("alice", True)
        self.assertEqual("disabled", self.over(self.after))
        self.store.set_disabled("alice", False)
        self.assertEqual("disabled", self.over(self.before))
        self.assertIsNone(self.over(self.after))
        self.store.delete("alice")
        self.store.set_password("alice", "z", iterations=1)
        self.assertEqual("deleted", self.over(self.before))
