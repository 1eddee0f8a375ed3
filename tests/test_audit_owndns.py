"""C{cms check --server}: where the server's own name leads, and who can reach its listeners."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.audit.owndns import audit_addresses, audit_records
from cms.audit.ownserver import OwnServer
from cms.discovery.resolver import DNS
from cms.trust.files import PEMFiles
from tests.fakedns import FakeResolver, a

HOST = "xmpp1.meet.example.com"
PUBLIC = "192.0.2.7"


def server_with(**listen: list[str]) -> OwnServer:
    """A server with these listeners."""
    return OwnServer(
        file=Path("xmpp.toml"),
        domain="meet.example.com",
        hostname=HOST,
        state_dir=Path("state"),
        files=PEMFiles("xmpp.toml", None, None, None),
        listen=listen,
        secrets={},
    )


class RecordTests(SynchronousTestCase):
    """The records to copy are for this very server."""

    def test_absent(self) -> None:
        """With its name, and the ports that it listens on."""
        server = server_with(component=["tcp:5999"], client=["tcp:5888"])
        dns = DNS(FakeResolver({}), "the test", Clock())
        auditing = Deferred.fromCoroutine(audit_records(server, dns, Random(1)))
        found = [r.problem for r in self.successResultOf(auditing) if r.problem is not None]
        self.assertEqual(
            [
                f"_xmpp-component._tcp.meet.example.com. 300 IN SRV 10 10 5999 {HOST}.",
                f"_xmpp-client._tcp.meet.example.com. 300 IN SRV 10 10 5888 {HOST}.",
            ],
            [problem.mend for problem in found],
        )


class ReachTests(SynchronousTestCase):
    """The host has one address of its own, L{PUBLIC}."""

    def warnings(self, interface: str, address: str) -> list[tuple[str, str]]:
        """Fault and cause of each warning for listeners on an interface."""
        where = f":interface={interface}" if interface else ""
        server = server_with(component=[f"tcp:5223{where}"], client=[f"tcp:5222{where}"])
        dns = DNS(FakeResolver({HOST: [a(address)]}), "the test", Clock())
        auditing = audit_addresses(server, dns, Random(1), lambda ip: ip in (PUBLIC, "127.0.0.1"))
        results = self.successResultOf(Deferred.fromCoroutine(auditing))
        return [(r.problem.fault, r.problem.cause) for r in results if r.problem is not None]

    def test_local_listeners(self) -> None:
        """Others are sent to ports that are open on this host alone."""
        told = self.warnings("127.0.0.1", PUBLIC)
        self.assertEqual(["own-listener-local"] * 2, [fault for fault, _ in told])
        self.assertIn("_xmpp-component._tcp.meet.example.com sends others to port 5223", told[0][1])
        self.assertIn("_xmpp-client._tcp.meet.example.com sends others to port 5222", told[1][1])

    def test_open_listeners(self) -> None:
        """Nobody is accused for listeners on all addresses, or on the right one."""
        self.assertEqual([], self.warnings("", PUBLIC))
        self.assertEqual([], self.warnings(PUBLIC, PUBLIC))

    def test_single_box(self) -> None:
        """Where DNS leads to loopback nobody is sent in vain."""
        self.assertEqual([], self.warnings("127.0.0.1", "127.0.0.1"))

    def test_elsewhere(self) -> None:
        """A name that leads to another host is told, and no more than that."""
        told = self.warnings("127.0.0.1", "192.0.2.8")
        self.assertEqual(["own-host-elsewhere"], [fault for fault, _ in told])
        self.assertIn("192.0.2.8", told[0][1])
