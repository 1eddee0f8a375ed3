"""The XMPP server behind its administration, and its side of the signal flow."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.commonapi import API
from cms.admin.interfaces import moment
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.linkprotocol import login as lp
from cms.signalflow import Step
from cms.xmlstream import ns
from cms.xmlstream.flow import SEND_LIMITS
from cms.xmpp.administration import XmppAdministration, make_administration
from cms.xmpp.config import read_config
from cms.xmpp.daemon import XmppService
from cms.xmpp.flowrecord import KEEP, ServerFlow
from tests.adminclient import Client, front, new_clock
from tests.clustersimulation import Cluster
from tests.support import new_folder
from tests.test_callbridge_settings import Pool
from tests.xmppserver import DOMAIN, Peer, Server

CONFIG = f"""
domain = "{DOMAIN}"
hostname = "xmpp1.{DOMAIN}"
[listen]
component_plain = ["tcp:5347:interface=127.0.0.1"]
[callbridges]
cb1 = {{ secret = "one" }}
"""


class Running(Server):
    """The daemon's own parts, driven as the tests drive those in memory."""

    def __init__(self, daemon: XmppService) -> None:
        super().__init__()
        self.components, self.clients = daemon._component, daemon._client


class AdministrationTests(SynchronousTestCase):
    """A daemon whose listeners are the test."""

    def setUp(self) -> None:
        """A daemon and its API."""
        folder = new_folder(self)
        self.file = folder / "xmpp.toml"
        self.file.write_text(CONFIG)
        self.reactor: Any = Pool()
        self.reactor.advance(1_700_000_000)
        self.daemon = XmppService(read_config(self.file), self.reactor)
        self.daemon.running = True
        role = XmppAdministration(self.daemon, self.reactor)
        operations = operations_of_xmpp_server(role, self.reactor, self.daemon.metrics)
        self.client = Client(self, front(operations, self.reactor))
        self.server = Running(self.daemon)

    def get(self, path: str) -> Any:
        """An object as JSON."""
        answer = self.client.ask("GET", f"{API}/{path}", accept="application/json")
        self.assertEqual(200, answer.status, answer.body)
        return json.loads(answer.body)

    def refusal(self, method: str, path: str, body: str = "") -> str:
        """The reason."""
        answer = self.client.ask(method, f"{API}/{path}", body)
        self.assertEqual(400, answer.status, answer.body)
        return answer.body.decode()[38:-20]

    def test_cluster(self) -> None:
        """A server that is to be in a cluster is healthy when it is in; status says so."""
        self.assertNotIn("cluster", self.get("system/status")["status"])
        self.server.callbridge()
        cluster = Cluster()
        server = cluster.server("one")
        self.daemon.cluster = server.clustering
        self.assertEqual(200, self.client.ask("GET", "/healthz").status)
        self.assertEqual("in", self.get("system/status")["status"]["cluster"]["state"])
        server.engine.disconnect()
        cluster.run(0.5)
        answer = self.client.ask("GET", "/healthz")
        self.assertEqual(503, answer.status)
        self.assertIn(b"cut off from the other servers", answer.body)
        self.assertEqual(1, len(self.flushLoggedErrors()))

    def test_health(self) -> None:
        """With a Callbridge; a component that decides nothing is none."""
        self.assertEqual(503, self.client.ask("GET", "/healthz").status)
        peer = self.server.register("cb1")
        self.assertEqual(503, self.client.ask("GET", "/healthz").status)
        (question,) = peer.received()
        peer.answer(question, lp.Mechanisms(("PLAIN",)))
        self.assertEqual(200, self.client.ask("GET", "/healthz").status)
        peer.stream.pauseProducing()
        self.assertEqual(200, self.client.ask("GET", "/healthz").status)
        self.reactor.advance(SEND_LIMITS.patience)
        answer = self.client.ask("GET", "/healthz")
        self.assertEqual(503, answer.status)
        self.assertIn(b"step 11 active: cb1.meet.example.com does not keep up", answer.body)
        peer.stream.resumeProducing()
        self.assertEqual(200, self.client.ask("GET", "/healthz").status)

    def test_callbridges(self) -> None:
        """Those that are known, and what their links are."""
        self.server.callbridge("cb1")
        (bridge,) = self.get("callBridges")["callBridges"]["callBridge"]
        self.assertEqual(
            ("cb1", f"cb1.{DOMAIN}", "file"),
            (bridge["name"], bridge["component"], bridge["source"]),
        )
        self.assertEqual(
            ("active", "2023-11-14T22:13:20.020Z", ["PLAIN"]),
            (bridge["state"], bridge["since"], bridge["mechanisms"]),
        )
        self.assertLess(100, bridge["bytesReceived"])
        self.assertIn("192.0.2.7", bridge["address"])
        status = self.get("system/status")["status"]
        self.assertEqual(
            (1, 1, 11), (status["callBridgesKnown"], status["callBridgesActive"], status["step"])
        )

    def test_add_rotate_delete(self) -> None:
        """A secret works from the answer on, beside the old one for a while; then the link ends."""
        one = "callBridges/cb2"
        made = self.client.ask("POST", f"{API}/callBridges", "name=CB2", accept="application/json")
        secret = json.loads(made.body)["callBridge"]["secret"]
        first = self.connect("cb2", secret)
        self.assertFalse(first.lost)
        self.assertEqual("callBridgeAlreadyExists", self.refusal("POST", "callBridges", "name=cb2"))
        turned = self.client.ask(
            "PUT",
            f"{API}/{one}",
            "regenerateSecret=true&overlapSeconds=60",
            accept="application/json",
        )
        self.assertNotEqual(secret, json.loads(turned.body)["callBridge"]["secret"])
        self.assertEqual(2, self.get(one)["callBridge"]["secrets"])
        self.reactor.advance(61)
        self.daemon.callbridges.expire()
        self.assertIn("not-authorized", first.heard())
        self.assertEqual(
            200, self.client.ask("PUT", f"{API}/{one}", "secret=s3cret-of-ours").status
        )
        second = self.connect("cb2", "s3cret-of-ours")
        self.assertEqual(200, self.client.ask("DELETE", f"{API}/{one}").status)
        self.assertIn("host-gone", second.heard())
        self.assertEqual("callBridgeDoesNotExist", self.refusal("GET", one))

    def connect(self, name: str, secret: str) -> Peer:
        """A registered component."""
        peer = self.server.component()
        peer.register(f"{name}.{DOMAIN}", secret)
        return peer

    def test_refused(self) -> None:
        """Each with its reason."""
        for method, path, body, reason in (
            ("POST", "callBridges", "name=cb1", "callBridgeAlreadyExists"),
            ("POST", "callBridges", "name=a@b", "nameInvalid"),
            ("POST", "callBridges", f"name={DOMAIN}", "nameInvalid"),
            ("POST", "callBridges", "name=cb3&secret=short", "secretInvalid"),
            ("PUT", "callBridges/cb1", "regenerateSecret=true", "callBridgeIsInFile"),
            ("DELETE", "callBridges/cb1", "", "callBridgeIsInFile"),
            ("DELETE", "callBridges/cb9", "", "callBridgeDoesNotExist"),
            ("DELETE", "clients/x", "", "clientDoesNotExist"),
        ):
            self.assertEqual(reason, self.refusal(method, path, body), (path, body))

    def test_clients(self) -> None:
        """Listed, found, ended."""
        callbridge = self.server.callbridge("cb1")
        alice = self.server.bound(callbridge)
        self.server.bound(callbridge, "bob")
        listed = self.get("clients")["clients"]
        self.assertEqual(2, listed["total"])
        sent = self.client.send("GET", f"{API}/clients?filter=ALICE", accept="application/json")
        self.reactor.advance(0)
        self.client.http.flush()
        found = json.loads(self.client.read(sent).body)["clients"]
        self.assertEqual(1, found["total"])
        (session,) = found["client"]
        self.assertEqual(
            (f"alice@{DOMAIN}/r", f"cb1.{DOMAIN}", False),
            (session["jid"], session["callBridge"], session["available"]),
        )
        path = f"{API}/clients/{session['id']}"
        self.assertEqual(200, self.client.ask("GET", path).status)
        self.assertEqual(200, self.client.ask("DELETE", path).status)
        self.assertIn("ended by an administrator", alice.heard())
        (ended,) = callbridge.received()
        message = lp.parse(ended.element.firstChildElement())
        self.assertEqual(lp.SessionEnd(f"alice@{DOMAIN}/r", "closed"), message)
        self.assertEqual("clientDoesNotExist", self.refusal("DELETE", f"clients/{session['id']}"))
        self.assertEqual(1, self.get("clients")["clients"]["total"])

    def test_by_address(self) -> None:
        """Of a user, with and without the domain, and of one resource; told, and ended."""
        callbridge = self.server.callbridge()
        ours = {r: self.server.bound(callbridge, "alice", r) for r in ("r", "phone")}
        bob = self.server.bound(callbridge, "bob", "r")
        for address, number in (("alice", 2), (f"ALICE@{DOMAIN}", 2), ("alice/phone", 1)):
            found = self.get(f"clients?jid={address}")["clients"]
            self.assertEqual((number, number), (found["total"], len(found["client"])))
        for address in ("a b", "alice@example.org"):
            self.assertEqual("jidInvalid", self.refusal("DELETE", f"clients?jid={address}"))
        told = self.client.ask(
            *("POST", f"{API}/clientMessages", "jid=all&text=Soon+%3Cback%3E"),
            accept="application/json",
        )
        self.assertEqual({"clients": {"told": 3}}, json.loads(told.body))
        for client in (*ours.values(), bob):
            (message,) = client.received()
            self.assertEqual((DOMAIN, None), (message.sender, message.type))
            self.assertEqual("Soon <back>", str(message.element.body))
        ended = self.client.ask("DELETE", f"{API}/clients?jid=alice", accept="application/json")
        self.assertEqual({"clients": {"ended": 2}}, json.loads(ended.body))
        self.assertIn("policy-violation", ours["r"].heard())
        self.assertEqual(1, self.get("clients")["clients"]["total"])

    def test_client_away(self) -> None:
        """A client without a connection is listed as that, and counted among the clients."""
        callbridge = self.server.callbridge("cb1")
        alice = self.server.bound(callbridge)
        alice.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        bob = self.server.bound(callbridge, "bob")
        said = f"<message to='alice@{DOMAIN}/r' type='chat' id='m1'><body>x</body></message>"
        for lost, connected in ((False, True), (True, False)):
            if lost:
                alice.transport.lose()
                bob.say(said)
            found = self.get("clients")["clients"]["client"]
            told = {one["jid"]: one["connected"] for one in found}
            self.assertEqual({f"alice@{DOMAIN}/r": connected, f"bob@{DOMAIN}/r": True}, told)
            status = self.get("system/status")["status"]
            self.assertEqual((2, int(lost)), (status["clients"], status["clientsAway"]))
            stamped = len(said) + len(f" from='bob@{DOMAIN}/r'")
            self.assertEqual(lost * stamped, status["clientsAwayBytes"])

    def test_kept_for_client(self) -> None:
        """Since when it is without a connection, and how much is kept for it."""
        callbridge = self.server.callbridge("cb1")
        alice = self.server.bound(callbridge)
        alice.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        bob = self.server.bound(callbridge, "bob")
        alice.transport.lose()
        (session,) = self.daemon.resumptions.away_longest(1)
        to = f"alice@{DOMAIN}/r"
        bob.say(f"<message to='{to}'/>")
        raw = f"<message from='bob@{DOMAIN}/r' to='{to}'/>"
        gone = self.reactor.seconds() - session.away_seconds
        kept = {"awaySince": moment(gone), "keptBytes": len(raw)}
        self.reactor.advance(7.0)
        self.assertLessEqual(7.0, session.away_seconds)
        found = {one["jid"]: one for one in self.get("clients")["clients"]["client"]}
        self.assertEqual(kept, {key: found[to].get(key) for key in kept})
        self.assertEqual(set(), set(kept) & set(found[f"bob@{DOMAIN}/r"]))
        status = self.get("system/status")["status"]
        self.assertEqual(len(raw), status["clientsAwayBytes"])
        self.assertEqual([{"jid": to, **kept}], status["clientsAwayLongest"])

    def test_signal_flow(self) -> None:
        """Registrations and log-ins by step, with cause and cure, and no secret."""
        stranger = self.server.component()
        stranger.open(to=f"cb8.{DOMAIN}", version="")
        callbridge = self.server.callbridge("cb1")
        self.server.bound(callbridge)
        attempts = self.get("system/signalflow")["signalFlow"]["attempt"]
        self.assertEqual(["login", "link", "link"], [a["kind"] for a in attempts])
        login, good, bad = attempts
        self.assertEqual([12], [s["step"] for s in login["steps"]])
        self.assertEqual(f"cb1.{DOMAIN}", login["steps"][0]["evidence"]["callbridge"])
        self.assertEqual([9, 10, 11], [s["step"] for s in good["steps"]])
        self.assertEqual("running", good["steps"][-1]["result"])
        self.assertEqual("peer-unknown-id", bad["failure"]["fault"])
        self.assertEqual(
            "peer-unknown-id", self.get("system/status")["status"]["lastFailure"]["fault"]
        )

    def test_refused_logins(self) -> None:
        """By this server, by the Callbridge, and by the client's own fault."""
        self.server.client().open()
        self.reactor.advance(8)
        callbridge = self.server.callbridge("cb1")
        client = self.server.client()
        client.open()
        client.authenticate()
        (start,) = callbridge.received()
        message: Any = lp.parse(start.element.firstChildElement())
        callbridge.answer(start, lp.Failed(message.exchange, "not-authorized"))
        client.say(f"<auth xmlns='{ns.SASL}' mechanism='NONE'/>")
        flow = self.get("system/signalflow?kind=login")["signalFlow"]
        faults = [(a["reached"], a["failure"]["fault"]) for a in flow["attempt"]]
        self.assertEqual(
            [(12, "login-unusable"), (12, "login-refused"), (1, "no-callbridge")], faults
        )

    def test_link_that_ends(self) -> None:
        """The record of a link says how it ended."""
        peer = self.server.callbridge("cb1")
        peer.transport.lose()
        (attempt,) = self.get("system/signalflow")["signalFlow"]["attempt"]
        self.assertEqual((11, "passed"), (attempt["reached"], attempt["steps"][-1]["result"]))
        self.assertIn("ended", attempt["steps"][-1]["evidence"])

    def test_wiring(self) -> None:
        """The listener needs a certificate."""
        self.file.write_text(CONFIG.replace("[listen]", '[listen]\napi = ["tcp:8445"]'))
        daemon = XmppService(read_config(self.file), Pool())
        error = self.assertRaises(
            faults.ConfigurationError, make_administration, daemon, self.reactor
        )
        self.assertIn("tls.certificate", error.cause)


class FlowTests(SynchronousTestCase):
    """The record is bounded."""

    def test_bounds(self) -> None:
        """Strangers and guessers push out nobody else."""
        flow = ServerFlow(new_clock())
        known = flow.connected()
        flow.named(known)
        flow.logged_in("a@b/c", "192.0.2.1", "cb1")
        for _ in range(3 * KEEP):
            flow.connected()
            flow.login_failed("192.0.2.1", "not-authorized", "cb1", None)
        self.assertEqual(1 + KEEP, len(list(flow.registrations())))
        self.assertIn(known, list(flow.registrations()))
        logins = list(flow.logins())
        self.assertEqual(1 + KEEP, len(logins))
        self.assertEqual(1, len([a for a in logins if a.failure is None]))
        self.assertEqual({Step.LOGIN}, {a.reached for a in logins})
