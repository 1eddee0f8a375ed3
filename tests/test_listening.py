"""Listeners, on loopback."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port as TCPPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port as UNIXPort
from twisted.trial.unittest import SynchronousTestCase

from cms.process.endpoints import BACKLOG, expand, open_listener
from tests.support import new_folder


class RealPorts(MemoryReactorClock):
    """Listens for real, and accepts nothing: nobody turns it."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """From C{IReactorTCP}."""
        return self._started(TCPPort(port, factory, backlog, interface, self))

    def listenUNIX(
        self,
        address: bytes,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> Any:
        """From C{IReactorUNIX}."""
        return self._started(UNIXPort(address, factory, backlog, mode, self, wantPID))

    def _started(self, port: Any) -> Any:
        port.startListening()
        return port


class BacklogTests(SynchronousTestCase):
    """How many may come at the same moment."""

    def open(self, description: str) -> Any:
        """A listener that accepts nothing."""
        factory = Factory.forProtocol(Protocol)
        port: Any
        (port,) = open_listener(RealPorts(), "f", "listen.x", description, factory)
        self.addCleanup(port.socket.close)
        return port

    def test_asked(self) -> None:
        """The kernel is asked for it by every kind of listener, and by nobody for less."""
        asked: list[int] = []

        class Counted(socket.socket):
            def listen(self, backlog: int = -1, /) -> None:
                asked.append(backlog)
                super().listen(backlog)

        self.patch(socket, "socket", Counted)
        path = str(new_folder(self) / "s")
        for description in (
            "tcp:0:interface=127.0.0.1",
            "tcp6:0:interface=\\:\\:1",
            f"unix:{path}",
        ):
            self.open(description)
        self.assertEqual([BACKLOG] * 3, asked)

    def test_many_at_once(self) -> None:
        """200 connect before one is accepted, none of them waiting for the kernel to try again."""
        port = self.open("tcp:0:interface=127.0.0.1")
        for _ in range(200):
            peer = socket.socket()
            self.addCleanup(peer.close)
            peer.settimeout(0.5)  # whoever finds no place tries again after 1 s
            peer.connect(("127.0.0.1", port.getHost().port))

    def test_own(self) -> None:
        """What the operator wrote stays, by name or by place."""
        for own in (
            "tcp:1:backlog=5",
            "tcp:1:interface=127.0.0.1:backlog=5",
            "tcp:1:127.0.0.1:5",
            "unix:/x:backlog=5",
            "systemd:domain=INET:name=x",
        ):
            self.assertEqual([own], expand(own))
        self.assertEqual([f"tcp:1:127.0.0.1:backlog={BACKLOG}"], expand("tcp:1:127.0.0.1"))
        self.assertEqual([f"unix:/a\\:backlog=3:backlog={BACKLOG}"], expand("unix:/a\\:backlog=3"))
