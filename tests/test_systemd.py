"""What systemd is told, and the sockets that it hands over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

from twisted.internet import endpoints
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.process.startup import supervise
from cms.process.systemd import ServiceManager, notify_socket, watchdog_interval
from cms.protection.connections import Limits
from cms.xmpp.listeners import Listeners, StreamFactory
from tests import test_callbridge_service as callbridge_service
from tests.support import new_folder


class NotifyTests(SynchronousTestCase):
    """The messages."""

    def setUp(self) -> None:
        """A manager that listens, and a daemon with something to say."""
        self.clock = Clock()
        self.sent: list[str] = []
        self.status = "one"

    def manager(self, **environ: str) -> ServiceManager:
        """The service under test."""
        return ServiceManager(
            self.clock,
            lambda: self.status,
            environ=environ,
            send=lambda message: self.sent.append(message.decode()),
            monotonic=lambda: 12.5,
        )

    def take(self) -> list[str]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent

    def test_life(self) -> None:
        """Ready, a status whenever it is another, stopping."""
        manager = self.manager()
        manager.refresh()
        manager.startService()
        self.assertEqual(["READY=1", "STATUS=one"], self.take())
        manager.refresh()
        self.assertEqual([], self.take())
        self.status = "two\nlines "
        manager.refresh("whatever")
        self.assertEqual(["STATUS=two lines"], self.take())
        manager.stopService()
        self.status = "late"
        manager.refresh()
        self.assertEqual(["STOPPING=1"], self.take())
        self.clock.advance(1000)
        self.assertEqual([], self.take())

    def test_reload(self) -> None:
        """The reload is announced, and ends whatever happens in it."""
        manager = self.manager()
        manager.reloading(lambda: self.sent.append("it"))
        self.assertEqual(
            ["RELOADING=1\nMONOTONIC_USEC=12500000", "it", "READY=1"],
            self.take(),
        )
        self.assertRaises(ZeroDivisionError, manager.reloading, lambda: 1 / 0)
        self.assertEqual("READY=1", self.take()[-1])

    def test_watchdog(self) -> None:
        """A sign of life at half the time that is allowed, also while it stops."""
        manager = self.manager(WATCHDOG_USEC="3000000")
        manager.startService()
        self.take()
        self.clock.advance(1.4)
        self.assertEqual([], self.take())
        self.clock.advance(0.1)
        self.assertEqual(["WATCHDOG=1"], self.take())
        manager.stopService()
        self.clock.advance(1.5)
        self.assertEqual(["STOPPING=1", "WATCHDOG=1"], self.take())

    def test_watchdog_of_another(self) -> None:
        """The variables may be a parent's, or nonsense."""
        self.assertEqual(1.5, watchdog_interval({"WATCHDOG_USEC": "3000000"}, 7))
        yes = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}
        self.assertEqual(1.5, watchdog_interval(yes, 7))
        self.assertIsNone(watchdog_interval(yes, 8))
        for nothing in ("", "x", "0"):
            self.assertIsNone(watchdog_interval({"WATCHDOG_USEC": nothing}, 7))

    def test_nobody_listens(self) -> None:
        """Without a socket nothing is sent; with one that is gone, the log says so."""
        self.assertIsNone(notify_socket({}))
        self.assertIsNone(notify_socket({"NOTIFY_SOCKET": "vsock:1"}))
        ServiceManager(self.clock, str, environ={"WATCHDOG_USEC": "2"}).startService()
        self.assertEqual([], self.clock.getDelayedCalls())
        gone = {"NOTIFY_SOCKET": str(new_folder(self) / "gone")}
        ServiceManager(self.clock, str, environ=gone).startService()

    def test_sockets(self) -> None:
        """A path, or a name of the abstract kind."""
        for address in (str(new_folder(self) / "s"), f"@cms-test-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(address.replace("@", "\0"))
                manager.settimeout(5)
                send = notify_socket({"NOTIFY_SOCKET": address})
                assert send is not None
                send(b"READY=1")
                self.assertEqual(b"READY=1", manager.recv(100))


class StatusTests(SynchronousTestCase):
    """What the Callbridge says about its link."""

    def test_callbridge(self) -> None:
        """The status changes with state and step."""
        case = callbridge_service.ServiceTests()
        case.setUp()
        self.addCleanup(case.doCleanups)
        said: list[str] = []
        daemon = case.daemon(callbridge_service.UNPROTECTED)
        supervise(daemon, case.reactor)
        daemon.on_change.append(lambda: said.append(daemon.describe()))
        self.assertIn("stopped", daemon.describe())
        daemon.startService()
        self.assertIn("step 6 connect: attempt 1", said[-1])
        transport = case.register()
        self.assertEqual("step 11 active: the link to 192.0.2.1:5555 is up", said[-1])
        transport.lose()
        self.assertRegex(said[-1], "^waiting; step 11 active failed: .*192.0.2.1:5555")
        self.assertTrue(any("step 9" in text or "step 10" in text for text in said), said)


class InheritedTests(SynchronousTestCase):
    """Listeners on sockets that systemd has opened."""

    def setUp(self) -> None:
        """Sockets of each family."""
        self.listeners = Listeners(Adopting(), "xmpp.toml")
        sockets = list(self.sockets())
        # Copies, because a socket that was handed over is closed when it is taken.
        copies = [os.dup(each.fileno()) for each in sockets]
        fds = ListenFDs(copies, ["everywhere", "local", "path"])
        self.patch(endpoints._SystemdParser, "_sddaemon", fds)
        for each in sockets:
            self.addCleanup(each.close)

    def sockets(self) -> Iterator[socket.socket]:
        """One that everybody reaches, one on loopback, one in the file system."""
        for family, where in (
            (socket.AF_INET, ("0.0.0.0", 0)),
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, str(new_folder(self) / "s")),
        ):
            one = socket.socket(family)
            one.bind(where)
            one.listen()
            yield one

    def open(self, kind: str, *names: str, domain: str = "INET") -> None:
        """Open a listener on these."""
        factory = StreamFactory(
            lambda: self.fail("nobody connects"), Limits.of(1), float, kind=kind
        )
        self.listeners.open([f"systemd:domain={domain}:name={name}" for name in names], factory)

    def test_good(self) -> None:
        """With TLS any; without only what nobody else reaches."""
        self.open("component", "everywhere")
        self.open("component_plain", "local")
        self.open("component_plain", "path", domain="UNIX")

    def test_several(self) -> None:
        """Listeners of one key have one limit, and their streams are looked at once."""
        self.open("component", "everywhere", "local")
        self.open("client")
        self.assertEqual(["component"], [each.kind for each in self.listeners.factories])

    def test_refused(self) -> None:
        """What others reach, whatever the file calls it, and what is not there."""
        for kind, name, domain, words in (
            ("client_plain", "everywhere", "INET", "could be reached"),
            ("client_plain", "everywhere", "UNIX", "another domain"),
            ("client", "path", "INET", "another domain"),
            ("client", "missing", "INET", "no such socket"),
        ):
            with self.assertRaisesRegex(faults.ConfigurationError, words):
                self.open(kind, name, domain=domain)


class Adopting(MemoryReactor):
    """A reactor that takes over sockets."""

    def adoptStreamPort(self, fileno: int, family: int, factory: Any) -> Any:
        """Like a real one, without listening."""
        return self.listenTCP(0, factory)
