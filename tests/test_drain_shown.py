"""What operators see of a server that is drained: commands, API, page, health and figures."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.commonapi import API
from cms.admin.drainpages import DrainPages
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.admin.xmpppages import XmppPages
from cms.process.endpoints import open_listener
from cms.process.listening import Listening
from cms.protection.connections import ConnectionLimiter, Limits
from cms.signalflow import StepError
from cms.xmpp.administration import XmppAdministration
from cms.xmpp.config import read_config
from cms.xmpp.daemon import XmppService
from cms.xmpp.metrics import ClusterCollector, DrainCollector
from tests.adminclient import DRAIN, Client, front, new_clock
from tests.clustersimulation import Cluster
from tests.commandline import XMPP, CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.support import new_folder
from tests.test_admin_pages import Form, Names
from tests.test_admin_pages import Server as FakeServer
from tests.test_callbridge_settings import Pool
from tests.test_listening import RealPorts
from tests.test_metrics import Figures
from tests.test_xmpp_administration import CONFIG

JSON = "application/json"


class AdministrationTests(SynchronousTestCase):
    """A daemon that is alone, its listeners in memory."""

    def setUp(self) -> None:
        """It runs."""
        file = new_folder(self) / "xmpp.toml"
        file.write_text(CONFIG)
        self.reactor: Any = Pool()
        self.reactor.advance(1_700_000_000)
        self.daemon = XmppService(read_config(file), self.reactor)
        self.daemon.privilegedStartService()
        self.daemon.running = True
        self.role = XmppAdministration(self.daemon, self.reactor)
        operations = operations_of_xmpp_server(self.role, self.reactor, self.daemon.metrics)
        self.client = Client(self, front(operations, self.reactor))
        self.addCleanup(self.daemon.drain.stop)

    def drain(self, body: str = "") -> Any:
        """By API."""
        answer = self.client.ask("POST", f"{API}/drain", body, accept=JSON)
        self.assertEqual(200, answer.status, answer.body)
        return json.loads(answer.body)["drain"]

    def test_drained(self) -> None:
        """Health, status and systemd say so; one that has nothing is drained soon."""
        facts = self.drain("seconds=600")
        self.assertEqual(("drained", 600, 0), tuple(facts[k] for k in DRAIN if k in KEYS))
        answer = self.client.ask("GET", "/healthz")
        self.assertEqual(503, answer.status)
        self.assertIn(b"is being drained: it takes nothing new", answer.body)
        self.assertEqual("drained: it can be stopped", self.daemon.describe())
        status = json.loads(self.client.ask("GET", f"{API}/system/status", accept=JSON).body)
        self.assertEqual("drained", status["status"]["drain"]["state"])
        figures = Figures(DrainCollector(self.daemon.drain))
        self.assertEqual(2, figures("cms_xmpp_draining"))
        self.assertEqual(0, figures("cms_xmpp_drained_sessions_total", result="given"))

    def test_cancel(self) -> None:
        """It takes what comes again; asked twice, too."""
        changes: list[str] = []
        self.daemon.on_change.append(lambda *_: changes.append(self.daemon.describe()))
        self.drain()
        for _ in range(2):
            self.assertEqual(200, self.client.ask("DELETE", f"{API}/drain").status)
            self.reactor.advance(1.0)
        self.assertIn("listening", changes[-1])
        found = json.loads(self.client.ask("GET", f"{API}/drain", accept=JSON).body)["drain"]
        self.assertEqual("open", found["state"])

    def test_nowhere(self) -> None:
        """In a cluster without others it is refused, unless it must be."""
        cluster = Cluster()
        self.daemon.drain._cluster = cluster.server("one").clustering
        answer = self.client.ask("POST", f"{API}/drain", accept=JSON)
        self.assertEqual(400, answer.status)
        details = json.loads(answer.body)["failureDetails"]
        self.assertEqual("nowhereToGo", details["reason"])
        self.assertIn("no other server of the cluster", details["cause"])
        self.assertEqual(0, self.drain("force=true")["takers"])

    def test_not_opened(self) -> None:
        """A listener that cannot be opened again is named, and it goes on being drained."""
        self.drain()

        async def fails() -> None:
            raise _no_listener()

        self.patch(self.daemon.listeners, "reopen", fails)
        answer = self.client.ask("DELETE", f"{API}/drain", accept=JSON)
        self.assertEqual("notOpened", json.loads(answer.body)["failureDetails"]["reason"])
        self.assertNotEqual("open", self.daemon.drain.state)

    def test_others_see_it(self) -> None:
        """The status and the figures of the other servers."""
        cluster = Cluster()
        one, two = cluster.server("one"), cluster.server("two")
        one.drain.begin(60.0)
        cluster.run(0.5)
        (node,) = two.clustering.status()["nodes"]
        self.assertTrue(node["draining"])
        self.assertTrue(one.clustering.status()["draining"])
        figures = Figures(ClusterCollector(two.clustering))
        self.assertEqual(1, figures("cms_xmpp_cluster_draining", node="one"))


KEYS = ("state", "secondsLeft", "takers")


def _no_listener() -> StepError:
    from cms import faults  # noqa: PLC0415

    told = {"file": "xmpp.toml", "key": "listen.client", "endpoint": "tcp:5222", "problem": "used"}
    return faults.LISTEN_FAILED.error(**told)


class PageTests(SynchronousTestCase):
    """The page."""

    def setUp(self) -> None:
        """On a server that only remembers."""
        clock = new_clock()
        self.server = FakeServer()
        root = front(operations_of_xmpp_server(self.server, clock), clock, Names())
        XmppPages(self.server, clock, more=[DrainPages(self.server)]).add_to(
            root.application.routes
        )
        self.client = Client(self, root)

    def show(self) -> Any:
        """The page."""
        return self.client.ask("GET", "/drain", authorization="alice")

    def post(self, path: str, fields: str = "") -> Any:
        """A form of it."""
        body = f"token={Form(self.show()).token()}&{fields}"
        return self.client.ask("POST", path, body, authorization="alice")

    def test_begin_and_cancel(self) -> None:
        """With the time that was typed; then the page offers to cancel."""
        self.assertIn(b"It takes what comes.", self.show().body)
        self.assertEqual(303, self.post("/drain", "seconds=90&force=true").status)
        self.assertIn(b"It is being drained", self.show().body)
        self.assertEqual(303, self.post("/drain/cancel").status)
        self.assertEqual([("drain", 90.0, True), ("cancel",)], self.server.calls)

    def test_wrong(self) -> None:
        """A time that is none is told on the page."""
        answer = self.post("/drain", "seconds=soon")
        self.assertEqual(400, answer.status)
        self.assertEqual([], self.server.calls)

    def test_token(self) -> None:
        """Nothing happens without the page's token."""
        answer = self.client.ask("POST", "/drain", "seconds=5", authorization="alice")
        self.assertNotEqual(303, answer.status)
        self.assertEqual([], self.server.calls)


class CommandTests(CommandLineTests):
    """C{cms xmpp drain}."""

    def setUp(self) -> None:
        """A server that runs."""
        super().setUp()
        (self.folder / "xmpp.toml").write_text(XMPP)
        self.daemon = FakeDaemon(self, self.folder / "xmpp")
        self.answer("POST", state="draining", secondsLeft=60)
        self.answer("GET", state="drained", given=3)

    def answer(self, method: str, **facts: Any) -> None:
        """What it says of itself."""
        self.daemon.answers[method, f"{API}/drain"] = 200, {"drain": {**DRAIN, **facts}}

    def test_begin(self) -> None:
        """It says what is still here."""
        said = self.said("xmpp", "drain", "--time", "90", "--force")
        self.assertIn("It is being drained, for 60 s more at most", said)
        self.assertEqual([("POST", f"{API}/drain", {"seconds": "90", "force": "true"})], self.asked)

    @property
    def asked(self) -> list[Any]:
        """What it was asked for."""
        return self.daemon.asked

    def test_wait(self) -> None:
        """Until it can be stopped."""
        said = self.said("xmpp", "drain", "--wait")
        self.assertIn("It is drained, and can be stopped: 3 sessions", said)
        facts = json.loads(self.cms("xmpp", "drain", "--wait", "--json").stdout)
        self.assertEqual("drained", facts["state"])

    def test_cancelled_meanwhile(self) -> None:
        """Who waits hears that it was for nothing."""
        self.answer("GET", state="open")
        self.assertIn("it is not drained", self.said("xmpp", "drain", "--wait", status=1))

    def test_alone(self) -> None:
        """The clients of a server that is alone have nowhere to go."""
        self.answer("POST", state="draining", secondsLeft=60, takers=0, inCluster=False)
        self.assertIn("have nowhere to go", self.said("xmpp", "drain"))

    def test_cancel(self) -> None:
        """And nothing else with it."""
        self.answer("GET", state="open")
        self.assertIn("It takes what comes.", self.said("xmpp", "drain", "--cancel"))
        self.said("xmpp", "drain", "--cancel", "--wait", status=2)

    def test_refused(self) -> None:
        """With the cure."""
        details = {"reason": "nowhereToGo", "cause": "nobody is there", "cure": "Start one."}
        self.daemon.answers["POST", f"{API}/drain"] = 400, {"failureDetails": details}
        said = self.said("xmpp", "drain", status=1)
        self.assertIn("nobody is there. Cure: Start one.", said)

    def test_stopped(self) -> None:
        """There is nothing to do."""
        (self.folder / "xmpp.toml").write_text(XMPP.replace('"xmpp"', '"other"'))
        self.assertIn("it can be upgraded now", self.said("xmpp", "drain", status=1))


class ShutTests(SynchronousTestCase):
    """Listeners that are shut for a while, on loopback."""

    def setUp(self) -> None:
        """A port of its own, and a path."""
        self.reactor = RealPorts()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.path = new_folder(self) / "s"
        self.listening = Listening()
        self.limiter = ConnectionLimiter(Limits.of(100), lambda: 0.0, "web")
        self.listen(f"tcp:{self.port}:interface=127.0.0.1", "tcp")
        self.listen(f"unix:{self.path}", "unix")
        self.addCleanup(self.end)

    def end(self) -> None:
        """Nothing listens any more."""
        self.listening.close()
        self.reactor.advance(0)

    def listen(self, description: str, kind: str) -> None:
        """Open one more."""
        factory = Factory.forProtocol(Protocol)

        def opens() -> Any:
            return open_listener(self.reactor, "f", "listen.x", description, factory)

        self.listening.open(opens, self.limiter, kind=kind)

    def is_taken(self) -> bool:
        """Whether the kernel takes a connection to the port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True

    def test_refused(self) -> None:
        """By the kernel, and then not any more; the path stays."""
        self.assertTrue(self.is_taken())
        self.listening.shut()
        self.reactor.advance(0)
        self.assertFalse(self.is_taken())
        self.assertTrue(Path(self.path).exists())
        self.successResultOf(Deferred.fromCoroutine(self.listening.reopen()))
        self.assertTrue(self.is_taken())

    def test_taken_meanwhile(self) -> None:
        """Somebody else has the port now: that is told, and tried again."""
        self.listening.shut()
        self.reactor.advance(0)
        with socket.create_server(("127.0.0.1", self.port)):
            failed = Deferred.fromCoroutine(self.listening.reopen())
            self.assertEqual("listen-failed", self.failureResultOf(failed, StepError).value.fault)
        self.successResultOf(Deferred.fromCoroutine(self.listening.reopen()))
        self.assertTrue(self.is_taken())

    def test_limiter(self) -> None:
        """What comes to a path, or by systemd, is closed at once, and nobody is told of each."""
        self.assertIsNotNone(self.limiter.admit("192.0.2.1"))
        self.listening.shut()
        self.assertIsNone(self.limiter.admit("192.0.2.1"))
        self.assertEqual((0, 1), (self.limiter.refused, self.limiter.taken))
        self.reactor.advance(0)
        self.successResultOf(Deferred.fromCoroutine(self.listening.reopen()))
        self.assertIsNotNone(self.limiter.admit("192.0.2.1"))
