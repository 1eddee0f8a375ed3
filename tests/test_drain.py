"""A server is drained: what it has goes to the others, and nothing is lost or doubled."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.link.backoff import Backoff
from cms.callbridge.link.core import LinkCore
from cms.callbridge.link.machine import Link
from cms.callbridge.link.registration import ComponentRegistration
from cms.configuration.tomlfile import Secret
from cms.discovery.lookup import Found, Target
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp.drain import DRAINED, DRAINING, OPEN, Drain, NowhereToGo
from tests.clustersimulation import STEP, Cluster, ClusterServer, bodies, full
from tests.support import TwoClocks
from tests.test_cluster_nodes import message
from tests.test_link_management import Wire, answer_login
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server

SM = f"xmlns='{ns.MANAGEMENT}'"
ENABLE = f"<enable {SM} resume='true'/>"
CB1 = f"cb1.{DOMAIN}"


class Roaming:
    """
    A Callbridge's own link, which finds the servers of a cluster in their order.

    @ivar heard: The ids of the messages that it has got; each is answered.
    """

    def __init__(self, cluster: Cluster, name: str = "cb1") -> None:
        self.cluster = cluster
        self.address = f"{name}.{DOMAIN}"
        self.clock = TwoClocks()
        self.wires: list[Wire] = []
        self.heard: list[str] = []
        self.again: list[bytes] = []
        self.waits_to_respond = False
        self.is_mute = False  # it acknowledges nothing, and answers nothing
        self.carrier: Any = None
        settings = LinkSettings(
            unique_name=name,
            domain=DOMAIN,
            component=self.address,
            server=None,
            secret=Secret(SECRETS[name]),
            unprotected=True,
        )
        self.core = LinkCore(self.clock, self, self, self, Backoff(Timing(), Random(1)), settings)
        self.link = Link(self.core)
        self.link.start()

    def targets(self, domain: str) -> Deferred[Found]:
        """Step 4."""
        found = [Target(each.name, 5223, False, "SRV") for each in self.cluster.servers]
        return succeed(Found(targets=tuple(found)))

    def addresses(self, target: Target) -> Deferred[Found]:
        """Step 5."""
        return succeed(Found(addresses=("192.0.2.1",)))

    def connect(self, registrant: Any, settings: Any, target: Target, *_: Any) -> Deferred[Any]:
        """Step 6."""
        server = next(each for each in self.cluster.servers if each.name == target.host)
        if server.is_shut or server.is_dead:
            return fail(faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223))
        stream = ComponentRegistration(
            *(self.clock, settings, Timing(), None, registrant), peer=str(target), presents=False
        )
        self.wires.append(Wire(server, stream))
        server.opened.append(self.wires[-1].ends[1])
        return succeed((stream, "192.0.2.1"))

    def sent_before(self, stream: ComponentRegistration, stanzas: Sequence[bytes]) -> None:
        """What the server never got of the link before."""
        self.again += stanzas
        stream.deliver(stanzas, None)

    def link_up(self, stream: ComponentRegistration) -> None:
        """Step 11."""
        self.carrier = stream

    def link_down(self) -> None:
        """The link has ended."""

    def received(self, stanza: Stanza) -> None:
        """Answer."""
        if stanza.name == "message" and stanza.type != "error":
            self.heard.append(stanza.id or "")
            answer = message(stanza.sender or "", f"re{stanza.id}")
            answer = answer.replace("<message", f"<message from='r@{self.address}'")
            self.carrier.deliver((answer.encode(),), stanza.sender)
        elif stanza.is_request:
            self.carrier.send(written_result(stanza, answer_login(stanza)))

    def run(self, seconds: float) -> None:
        """Let time pass for all."""
        for _ in range(max(1, round(seconds / STEP))):
            self.cluster.run(STEP)
            self.clock.advance(STEP)
            for wire in self.wires[-2:]:
                if not self.is_mute:
                    wire.carry()

    @property
    def at(self) -> list[str]:
        """The servers that it is connected to."""
        servers = self.cluster.servers
        return [each.name for each in servers if each.links.own(self.address) is not None]


class DrainStage(SynchronousTestCase):
    """Three servers, a Callbridge that roams, and one that stays at the second and the third."""

    def setUp(self) -> None:
        """Alice manages her stream at the first; Bob is at the second."""
        self.cluster = Cluster()
        names = ("one", "two", "three")
        self.servers = self.one, self.two, self.three = [self.cluster.server(n) for n in names]
        self.roaming = Roaming(self.cluster)
        self.run_(1.0)
        self.assertEqual(["one"], self.roaming.at)
        for server in self.servers:
            server.registry.secrets[f"echo2.{DOMAIN}"] = (Secret("four"),)
        self.cbs = {self.two: self.two.callbridge("cb2"), self.three: self.three.callbridge("echo")}
        self.run_(0.5)
        self.alice = self.login(self.one, "alice")
        self.alice.say(ENABLE)
        (self.previd,) = re.findall(r" id='([^']+)'", self.alice.heard())
        self.bob = self.login(self.two, "bob")
        self.run_(0.5)
        self.bob.heard()

    def run_(self, seconds: float = 0.5) -> None:
        """Let time pass."""
        self.roaming.run(seconds)
        for callbridge in getattr(self, "cbs", {}).values():
            for stanza in callbridge.received():
                if not stanza.is_request:
                    continue
                asked = stanza.child
                if asked is not None and (asked.uri, asked.name) == (lp.NS, "start"):
                    start: Any = lp.parse(asked)
                    user = start.payload.split(b"\0")[1].decode()
                    callbridge.answer(stanza, lp.Success(start.exchange, f"{user}@{DOMAIN}"))
                else:
                    callbridge.say(written_result(stanza, "").raw.decode())

    def until(self, happened: Any, seconds: float = 20.0) -> float:
        """Let time pass until something has happened; how long."""
        passed = 0.0
        while not happened():
            self.run_(STEP)
            passed += STEP
            self.assertLess(passed, seconds)
        return passed

    def prove(self, server: ClusterServer, user: str) -> Peer:
        """A client that logs in."""
        client = server.client()
        client.open()
        client.authenticate(payload=f"\0{user}\0x".encode())
        return client

    def login(self, server: ClusterServer, user: str) -> Peer:
        """One that has bound a resource."""
        client = self.prove(server, user)
        heard = ""
        while "<success" not in heard:
            self.run_(STEP)
            heard += client.heard()
        client.open()
        bind = f"<bind xmlns='{ns.BIND}'><resource>r</resource></bind>"
        client.say(f"<iq type='set' id='b'>{bind}</iq>")
        self.run_(0.3)
        self.assertIn("type='result'", client.heard())
        return client

    def resumed(self, server: ClusterServer, handled: int = 0) -> Peer:
        """Alice comes back."""
        client = self.prove(server, "alice")
        self.run_(0.2)
        client.open()
        client.say(f"<resume {SM} h='{handled}' previd='{self.previd}'/>")
        self.run_(0.3)
        self.assertIn("<resumed", client.transport.value().decode())
        return client

    def where(self, user: str) -> list[str]:
        """The servers that have a session of a user."""
        return [server.name for server in self.servers if full(user) in server.own]


class DrainTests(DrainStage):
    """One of them is drained."""

    def test_everything_goes(self) -> None:
        """The Callbridge, who can resume, and who cannot; then the server is empty."""
        carol = self.login(self.one, "carol")
        self.one.drain.begin(60.0)
        self.assertTrue(self.one.is_shut)
        self.assertEqual(DRAINING, self.one.drain.state)
        passed = self.until(lambda: self.one.drain.state == DRAINED)
        self.assertLess(passed, 15.0)
        self.assertEqual((1, 1), (self.one.drain.given, self.one.drain.ended))
        self.assertIn("<system-shutdown", carol.heard())
        self.assertTrue(self.alice.lost)
        self.assertNotIn("stream:error", self.alice.heard())  # a program would not resume
        self.assertEqual(["two"], self.roaming.at)
        (place,) = self.where("alice")
        self.assertNotEqual("one", place)
        client = self.resumed(self.three)
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.assertEqual(["1"], bodies(client))

    def test_nothing_is_lost(self) -> None:
        """Whoever writes to the Callbridge about then is answered once and in order."""
        writers = {"bob": self.bob, "alice": self.alice}
        heard: dict[str, list[str]] = {name: [] for name in writers}
        got = 0
        for number in range(500):
            for name, client in writers.items():
                if not client.lost:
                    client.say(message(f"r@{CB1}", f"{name}{number}"))
            if number == 40:
                self.one.drain.begin(60.0)
            self.run_(STEP)
            for name, client in list(writers.items()):
                if client.lost:
                    said = number
                    del writers[name]
                    continue
                new = bodies(client)
                heard[name] += new
                got += len(new) * (name == "alice")
        self.assertEqual(["bob"], list(writers))
        client = self.resumed(self.two, got)
        start = client.transport.value().decode()
        handled = int(re.findall(r"<resumed [^>]* h='(\d+)'", start)[0])
        for text in range(handled, said + 1):
            client.say(message(f"r@{CB1}", f"alice{text}"))
        self.run_(3.0)
        heard["alice"] += bodies(client)
        heard["bob"] += bodies(self.bob)
        self.assertEqual([f"rebob{n}" for n in range(500)], heard["bob"])
        self.assertEqual([f"realice{n}" for n in range(said + 1)], heard["alice"])
        self.assertEqual(500 + said + 1, len(self.roaming.heard))
        self.assertEqual(DRAINED, self.one.drain.state)

    def test_what_the_callbridge_says(self) -> None:
        """What it says while its link ends is neither lost nor doubled."""
        said = []
        for number in range(300):
            if number == 50:
                self.one.drain.begin(60.0)
            if self.roaming.link.state == "active":
                said.append(str(number))
                text = message(full("bob"), said[-1]).replace("<message", "<message from='r@%s'")
                self.roaming.carrier.deliver(((text % CB1).encode(),), "r")
            self.run_(STEP)
        self.run_(1.0)
        self.assertEqual(said, bodies(self.bob))
        self.assertEqual(["two"], self.roaming.at)
        self.assertTrue(self.roaming.again)

    def test_log_in_under_way(self) -> None:
        """Its Callbridge stays until it is decided; no new one goes there."""
        asking = self.one.client()
        asking.open()
        asking.say(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'/>")
        self.run_(0.2)
        self.assertIn("<challenge", asking.heard())
        self.one.drain.begin(60.0)
        self.run_(1.0)
        self.assertEqual(["one"], self.roaming.at)
        self.assertEqual((), self.two.links.get(CB1).mechanisms)  # type: ignore[union-attr]
        asking.say(f"<response xmlns='{ns.SASL}'>AGFsaWNlAHg=</response>")
        self.run_(0.2)
        self.assertIn("<success", asking.heard())
        self.run_(1.5)
        self.assertEqual(["two"], self.roaming.at)

    def test_log_ins_of_others(self) -> None:
        """Those at another server, by the Callbridge that goes: none of them is lost."""
        for callbridge in self.cbs.values():
            callbridge.say("</stream:stream>")
        self.cbs.clear()
        self.two.waiting_room._most = 100
        self.run_(0.3)
        for engine in self.cluster.store.engines:
            engine.delay = 0.06
        clients: list[Peer] = []
        told: dict[Peer, str] = {}
        asked: set[Peer] = set()
        for number in range(60):
            if number == 20:
                self.one.drain.begin(60.0)
            clients.append(self.two.client())
            told[clients[-1]] = clients[-1].open()
            for client in clients:
                told[client] += client.transport.take()
                if "<mechanisms" in told[client] and client not in asked:
                    asked.add(client)
                    client.authenticate(payload=b"\0carol\0x")
            self.run_(0.04)
        self.run_(3.0)
        for client in clients:
            told[client] += client.transport.take()
            self.assertNotIn("stream:error", told[client])
            self.assertEqual(client in asked, "<success" in told[client])
        self.assertEqual(["two"], self.roaming.at)

    def test_slow_log_in(self) -> None:
        """One that never goes on keeps nothing here for long."""
        asking = self.one.client()
        asking.open()
        asking.say(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'/>")
        self.one.drain.begin(60.0)
        self.assertLess(self.until(lambda: self.one.drain.state == DRAINED), 20.0)
        self.assertIn("<system-shutdown", asking.heard())

    def test_stranger(self) -> None:
        """Who has not begun to log in is sent away at once."""
        client = self.one.client()
        client.open()
        component = self.one.component()
        component.open(to=f"cb2.{DOMAIN}", version="")
        self.one.drain.begin(60.0)
        for each in client, component:
            self.assertIn("<system-shutdown", each.heard())

    def test_comes_to_resume(self) -> None:
        """Its session is not taken back: its client is sent on."""
        client = self.prove(self.one, "alice")
        self.run_(0.2)
        self.one.drain.begin(60.0)
        self.until(lambda: self.alice.lost)
        client.open()
        client.say(f"<resume {SM} h='0' previd='{self.previd}'/>")
        self.assertIn("<system-shutdown", client.heard())
        self.until(lambda: self.one.drain.state == DRAINED)
        self.assertEqual(1, len(self.where("alice")))

    def test_away(self) -> None:
        """A session without a connection goes along, with what waits for it."""
        self.alice.transport.lose()
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.one.drain.begin(60.0)
        self.until(lambda: self.one.drain.state == DRAINED)
        self.assertEqual(["1"], bodies(self.resumed(self.two)))

    def test_component(self) -> None:
        """One that manages nothing is told by a stream error, and what is for it comes back."""
        other = self.one.component()
        other.register(f"echo2.{DOMAIN}", "four", lambda: self.run_(0.3))
        self.one.drain.begin(60.0)
        self.until(lambda: other.lost)
        self.assertIn("<system-shutdown", other.heard())
        self.bob.say(message(f"x@echo2.{DOMAIN}", "1"))
        self.run_()
        self.assertEqual(["!1"], bodies(self.bob))

    # bad days

    def test_twice(self) -> None:
        """The second time only says how long it takes from now on."""
        self.one.drain.begin(60.0)
        self.run_(1.0)
        self.one.drain.begin(30.0)
        self.assertAlmostEqual(30.0, self.one.drain.seconds_left, 1)
        self.until(lambda: self.one.drain.state == DRAINED)
        self.assertEqual(1, self.one.drain.given)
        self.one.drain.begin(30.0)
        self.run_(0.3)
        self.assertEqual(DRAINED, self.one.drain.state)

    def test_time_is_over(self) -> None:
        """All are drained: nobody takes anything, and what is here in the end is ended."""
        for server in self.servers:
            server.drain.begin(3.0, forced=True)
        self.run_(2.5)
        self.assertFalse(self.alice.lost)
        self.run_(1.0)
        for client in self.alice, self.bob:
            self.assertIn("<system-shutdown", client.heard())
        self.run_(1.0)
        self.assertEqual([DRAINED] * 3, [server.drain.state for server in self.servers])
        self.assertEqual((0, 1), (self.one.drain.given, self.one.drain.ended))

    def test_nowhere(self) -> None:
        """Two at once go to the third; where nobody is left, it is refused."""
        self.one.drain.begin(60.0)
        self.run_(0.3)
        self.two.drain.begin(60.0)
        self.run_(0.3)
        self.assertRaises(NowhereToGo, self.three.drain.begin, 60.0)
        self.assertEqual(OPEN, self.three.drain.state)
        self.until(lambda: self.one.drain.state == self.two.drain.state == DRAINED, 30.0)
        self.assertEqual(["three"], self.where("alice"))
        self.assertEqual(["three"], self.roaming.at)

    def test_cancelled(self) -> None:
        """It takes what comes again; the others hear of it."""
        self.one.drain.begin(60.0)
        self.run_(0.06)
        peer = self.two.node.peers["one"]
        self.assertTrue(self.two.nodes.is_draining(peer))
        self.successResultOf(Deferred.fromCoroutine(self.one.drain.cancel()))
        self.run_(1.0)
        self.assertFalse(self.two.nodes.is_draining(peer))
        self.assertEqual((OPEN, False), (self.one.drain.state, self.one.is_shut))
        self.run_(10.0)
        self.assertEqual(["one"], self.where("alice"))
        self.login(self.one, "carol")
        self.assertEqual(["one"], self.where("carol"))

    def test_cancelled_amid(self) -> None:
        """Amid a hand-over: it is finished, and what is still here stays."""
        others = [self.login(self.one, f"u{number}") for number in range(4)]
        for client in others:
            client.say(ENABLE)
        self.one.drain.begin(60.0)
        self.until(lambda: self.one.drain.given >= 2)
        self.successResultOf(Deferred.fromCoroutine(self.one.drain.cancel()))
        self.run_(10.0)
        lost = sum(client.lost for client in (*others, self.alice))
        self.assertEqual(self.one.drain.given, lost)
        self.assertEqual(5 - lost, len(self.one.sessions))
        handover = self.one.nodes.handover
        self.assertEqual(0, len(handover))
        self.assertEqual(0, sum(map(handover.burden, self.one.node.peers.values())))

    def test_new_node_hears(self) -> None:
        """Who joins meanwhile knows it, and is given what is here."""
        self.one.drain.begin(60.0)
        four = self.cluster.server("four")
        self.run_(0.5)
        self.assertTrue(four.nodes.is_draining(four.node.peers["one"]))

    def test_ends_before_it_goes(self) -> None:
        """Who leaves while the others are told what he said was not given to anybody."""
        self.cluster.take_longer(0.3)
        self.one.drain.begin(60.0)
        handover = self.one.nodes.handover

        def is_leaving() -> bool:
            self.alice.say(message(full("bob"), "m"))
            return bool(handover._leaving)

        self.until(is_leaving)
        self.assertEqual(0, self.one.drain.given)
        (session,) = handover._leaving
        self.assertFalse(handover.may_leave(session))
        self.assertEqual(1, sum(map(handover.burden, self.one.node.peers.values())))
        session.end()
        self.until(lambda: self.one.drain.state == DRAINED, 40.0)
        self.assertEqual((0, 0), (self.one.drain.given, len(handover._leaving)))
        self.assertEqual(0, sum(map(handover.burden, self.one.node.peers.values())))

    def test_receiver_dies(self) -> None:
        """Whoever was to take a session dies: it is here again, and another one takes it."""
        taker: list[ClusterServer] = []
        give = self.one.clustering.give

        def given(session: Any, gone: Any) -> bool:
            done = give(session, gone)
            if done and not taker:
                (move,) = self.one.nodes.handover._moves.values()
                taker.append(self.two if move.remote.peer.member.name == "two" else self.three)
                self.cluster.kill(taker[0])
            return done

        self.patch(self.one.clustering, "give", given)
        self.one.drain.begin(60.0)
        self.until(lambda: self.one.drain.state == DRAINED, 40.0)
        (place,) = [name for name in self.where("alice") if name != taker[0].name]
        self.assertNotEqual("one", place)
        self.assertEqual(2, self.one.drain.given)

    def test_does_not_read(self) -> None:
        """What waits for a client that does not read goes along, in its order."""
        self.alice.stream.pauseProducing()
        for number in range(50):
            self.bob.say(message(full("alice"), str(number)))
        self.run_()
        self.assertEqual([], bodies(self.alice))
        self.one.drain.begin(60.0)
        self.until(lambda: self.one.drain.state == DRAINED)
        self.assertEqual([str(number) for number in range(50)], bodies(self.resumed(self.three)))

    def test_callbridge_does_not_answer(self) -> None:
        """It is not waited for for long; what it has not acknowledged comes back."""
        self.roaming.is_mute = True
        self.bob.say(message(f"r@{CB1}", "1"))
        self.run_(0.2)
        self.one.drain.begin(60.0)
        self.run_(1.0)
        self.bob.say(message(f"r@{CB1}", "2"))
        self.until(lambda: self.one.drain.state == DRAINED, 30.0)
        self.assertEqual(["!1", "!2"], bodies(self.bob))

    def test_link_without_connection(self) -> None:
        """It cannot come back here: what waits for it is there when it is at another server."""
        self.roaming.wires[-1].cut()
        self.one.drain.begin(60.0)
        for number in range(100):
            self.bob.say(message(f"r@{CB1}", str(number)))
            self.run_(STEP)
        self.run_(1.0)
        self.assertEqual(["two"], self.roaming.at)
        self.assertEqual([f"re{number}" for number in range(100)], bodies(self.bob))

    def test_dies_meanwhile(self) -> None:
        """The old server dies while its Callbridge looks for another: nobody waits for it then."""
        self.two.is_shut = self.three.is_shut = True
        self.one.drain.begin(60.0)
        self.run_(1.0)
        self.assertEqual("waiting", self.roaming.link.state)
        self.cluster.kill(self.one)
        self.run_(9.0)
        self.two.is_shut = False
        self.until(lambda: "two" in self.roaming.at)
        self.bob.say(message(f"r@{CB1}", "1"))
        self.run_(0.5)
        self.assertEqual(["re1"], bodies(self.bob))

    def test_cancelled_while_it_waits(self) -> None:
        """A Callbridge that was about to go stays, and decides log-ins again."""
        asking = self.one.client()
        asking.open()
        asking.say(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'/>")
        self.run_(0.2)
        self.one.drain.begin(60.0)
        self.run_(1.0)
        self.successResultOf(Deferred.fromCoroutine(self.one.drain.cancel()))
        self.run_(1.0)
        for server in self.servers:
            link: Any = server.links.get(CB1)
            self.assertEqual((("PLAIN",), False), (link.mechanisms, link.leaves))
        self.bob.say(message(f"r@{CB1}", "1"))
        self.run_()
        self.assertEqual(["re1"], bodies(self.bob))


class BadDaysTests(DrainStage):
    """Something else goes wrong at the same time, at a moment that a seed chooses."""

    def setUp(self) -> None:
        """Each seed has servers of its own."""

    def test_any(self) -> None:
        """Each message is answered once and in order, or comes back; what is there agrees."""
        for seed in range(int(os.environ.get("CMS_SEEDS", "12"))):
            DrainStage.setUp(self)
            self.go(Random(seed))

    def go(self, random: Random) -> None:
        """One of them."""
        self.one.drain.begin(60.0)
        kind = random.choice(("cancel", "engine", "freeze", "drain", "kill"))
        when = random.randint(1, 60)
        heard: list[str] = []
        for number in range(200):
            self.bob.say(message(f"r@{CB1}", str(number)))
            if number == when:
                self.break_(kind)
            if number == when + 80:
                self.mend(kind)
            self.run_(STEP)
            heard += bodies(self.bob)
        self.run_(20.0)
        heard += bodies(self.bob)
        answered = [int(text[2:]) for text in heard if text.startswith("re")]
        returned = [int(text[1:]) for text in heard if text.startswith("!")]
        self.assertEqual(len(set(answered)), len(answered), kind)
        if kind != "engine":  # away for longer than the order is kept
            self.assertEqual(sorted(answered), answered, kind)
        self.assertEqual(len(set(returned)), len(returned), kind)
        if kind != "kill":
            self.assertEqual(set(range(200)), {*answered, *returned}, kind)
            self.assertEqual(set(), {*answered} & {*returned}, kind)
        self.flushLoggedErrors()
        alive = [server for server in self.servers if not server.is_dead]
        self.assertLessEqual(sum(full("alice") in server.own for server in alive), 1)
        for server in alive:
            self.assertEqual(set().union(*(each.own for each in alive)), server.known, kind)
            self.assertEqual(0, len(server.nodes.handover))

    def break_(self, kind: str) -> None:
        """Something goes wrong."""
        if kind == "cancel":
            self.successResultOf(Deferred.fromCoroutine(self.one.drain.cancel()))
        elif kind == "engine":
            self.cluster.engine_away()
        elif kind == "freeze":
            self.three.is_frozen = True
        elif kind == "drain":
            self.three.drain.begin(60.0)
        else:
            self.cluster.kill(self.one)
            for wire in self.roaming.wires:
                if wire.server is self.one:
                    wire.cut()

    def mend(self, kind: str) -> None:
        """It is over."""
        if kind == "engine":
            self.cluster.engine_back()
        self.three.is_frozen = False


class AloneTests(SynchronousTestCase):
    """A server without a cluster."""

    def test_waits(self) -> None:
        """It takes nothing new, and ends the rest when its time is over."""
        server = Server()
        opened: list[Any] = []

        class Doors:
            """Its listeners."""

            is_shut = False

            def shut(self) -> None:
                """Nobody comes in."""
                self.is_shut = True

            async def reopen(self) -> None:
                """Nor yet."""

            def streams(self) -> list[Any]:
                """Of all peers."""
                return [each for each in opened if not each.ended.called]

        doors = Doors()
        callbridge = server.callbridge()
        client = server.bound(callbridge)
        opened += [callbridge.stream, client.stream]
        drain = Drain(server.clock, server.clients, server.links, doors, None)
        drain.begin(30.0)
        server.clock.advance(29.0)
        self.assertTrue(doors.is_shut)
        self.assertFalse(client.lost)
        self.assertEqual(DRAINING, drain.state)
        for _ in range(30):
            server.clock.advance(0.1)
        for each in client, callbridge:
            self.assertIn("<system-shutdown", each.heard())
        self.assertTrue(client.lost)
        self.assertEqual(DRAINED, drain.state)
        drain.stop()
