"""The listeners of the administration: what is opened, and what stops the start."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.accounts import ACCOUNTS, PASSWORD
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.service import AdminService, AdminSettings
from cms.control.place import LOCK, SOCKET, UNTIL, socket_path
from cms.process.endpointstrings import BACKLOG
from cms.trust.issue import CertificateAuthority
from tests import LoggedError
from tests.adminclient import FakeCallbridge
from tests.support import new_folder

RECONNECT = "/api/v1/system/configuration/xmpp/reconnect"


class Port:
    """A port in memory that can be told not to accept."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def getHost(self) -> Any:
        """Where it is."""
        return self.address

    def stopListening(self) -> None:
        """The end."""


class AdminServiceTests(SynchronousTestCase):
    """One daemon's."""

    def setUp(self) -> None:
        """A folder with a certificate."""
        self.folder = new_folder(self)
        self.reactor: Any = MemoryReactorClock()
        self.unix: list[tuple[str, int]] = []
        self.factories: list[Any] = []
        self.patch(self.reactor, "listenUNIX", self.listen_unix)
        issued = CertificateAuthority("CA").issue("cb1", ["cb1.example.com"])
        (self.folder / "crt").write_bytes(issued.certificate)
        (self.folder / "key").write_bytes(issued.key)
        self.settings = AdminSettings(
            file=self.folder / "callbridge.toml",
            state_dir=self.folder / "state",
            certificate=self.folder / "crt",
            key=self.folder / "key",
        )

    def listen_unix(self, path: str, factory: Any, backlog: int, mode: int) -> Port:
        """In place of the reactor's."""
        self.assertEqual(BACKLOG, backlog)
        self.unix.append((path, mode))
        self.factories.append(factory)
        return Port(path)

    def service(self, **changed: Any) -> AdminService:
        """The administration with other settings."""
        self.callbridge = FakeCallbridge()
        operations = operations_of_callbridge(self.callbridge, self.reactor)
        settings = evolve(self.settings, **changed)
        service = AdminService(self.reactor, settings, operations)
        self.addCleanup(service.stopService)
        return service

    def test_socket_alone(self) -> None:
        """Without a listener there is the socket, for its owner, and no account."""
        self.service().open()
        path = str(self.folder / "state" / SOCKET)
        self.assertEqual([(path, 0o600)], self.unix)
        self.assertEqual([], self.reactor.tcpServers)
        self.assertEqual([LOCK], os.listdir(self.folder / "state"))
        self.assertEqual(0o700, stat.S_IMODE((self.folder / "state").stat().st_mode))

    def test_too_late(self) -> None:
        """What a command has given up while the daemon hung is not done when it goes on."""
        self.service().open()
        table = (("9.5", b"200 OK"), ("", b"200 OK"), ("soon", b"400"), ("8", b"503"))
        self.reactor.advance(9)
        for until, expected in table:
            given = f"{UNTIL}: {until}\r\n" if until else ""
            sent = f"POST {RECONNECT} HTTP/1.1\r\nHost: cms\r\n{given}\r\n"
            protocol, transport = self.factories[0].buildProtocol(None), StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(sent.encode())
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 " + expected), until)
        self.assertEqual([("reconnect", False)] * 2, self.callbridge.calls)

    def test_listeners(self) -> None:
        """HTTPS where it is said, plain on this host; the first account is made."""
        self.service(
            api=("tcp:8445:interface=192.0.2.1",), api_plain=("tcp:8446:interface=127.0.0.1",)
        ).open()
        self.assertEqual([8445, 8446], [server[0] for server in self.reactor.tcpServers])
        self.assertTrue((self.folder / "state" / ACCOUNTS).exists())
        self.assertTrue((self.folder / "state" / PASSWORD).exists())

    def test_wrong(self) -> None:
        """Each names the key."""
        table: list[tuple[str, dict[str, Any]]] = [
            ("tls.certificate", {"api": ("tcp:1",), "certificate": None, "key": None}),
            ("tls.key", {"api": ("tcp:1",), "key": None}),
            ("listen.api_plain", {"api_plain": ("tcp:1",)}),
            ("listen.api_plain", {"api_plain": ("tcp:1:interface=0.0.0.0",)}),
        ]
        for key, changed in table:
            error = self.assertRaises(faults.ConfigurationError, self.service, **changed)
            self.assertIn(key, error.cause)
        error = self.assertRaises(faults.ConfigurationError, self.service(api=("nonsense:1",)).open)
        self.assertIn("listen.api", error.cause)

    def test_second_daemon(self) -> None:
        """Not on the same directory, until the first has let go."""
        first, second = self.service(), self.service()
        first.open()
        error = self.assertRaises(faults.ConfigurationError, second.open)
        self.assertIn("another daemon", error.cause)
        self.assertEqual(1, len(self.unix))
        self.successResultOf(first.stopService())
        second.open()
        self.assertEqual(2, len(self.unix))

    def test_stale_socket(self) -> None:
        """What a dead daemon left is replaced."""
        state = self.folder / "state"
        state.mkdir()
        (state / SOCKET).touch()
        self.service().open()
        self.assertFalse((state / SOCKET).exists())  # the fake reactor makes none

    def test_directory_that_cannot_be_used(self) -> None:
        """The start is stopped."""
        (self.folder / "state").touch()
        error = self.assertRaises(faults.ConfigurationError, self.service().open)
        self.assertIn("state_dir", error.cause)

    def test_long_path(self) -> None:
        """A path that is too long for the kernel is reached by another one."""
        long = self.folder.joinpath(*["x" * 50] * 3)
        self.service(state_dir=long).open()
        ((path, _),) = self.unix
        self.assertLessEqual(len(path), 107)
        self.assertEqual(os.stat(long), os.stat(Path(path).parent))
        with socket_path(long) as client:
            self.assertLessEqual(len(client), 107)
            self.assertEqual(os.stat(long), os.stat(Path(client).parent))

    def test_reload(self) -> None:
        """Keys and accounts are read again; what is wrong is said, and nothing changes."""
        service = self.service(api=("tcp:8445",))
        service.open()
        service.reload()
        (self.folder / "state" / ACCOUNTS).write_text("{")
        service.reload()
        (error,) = self.flushLoggedErrors(LoggedError)
        self.assertIn("admin-accounts.json: accounts: it is damaged", str(error.value))

    def test_start_fails(self) -> None:
        """One line and the exit status."""
        service = self.service(api=("nonsense:1",))
        said: list[str] = []
        self.patch(sys, "stderr", Said(said))
        self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertIn("listen.api", "".join(said))


class Said:
    """A file that remembers."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def write(self, text: str) -> None:
        """Remember."""
        self._said.append(text)
