"""Listeners, on loopback."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port as TCPPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Port as UNIXPort
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.process.endpoints import expand, make_endpoint, open_listener
from cms.process.endpointstrings import BACKLOG, NoEndpoint, check_plain, parse_endpoint
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


class Adopting(RealPorts):
    """Takes sockets that listen already."""

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> Any:
        """From C{IReactorSocket}."""
        port = TCPPort._fromListeningDescriptor(self, fd, family, factory)
        return self._started(port)


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
            "tcp:1:backlog=5:interface=127.0.0.1",
            "tcp:1:interface=127.0.0.1:backlog=5",
            "tcp:1:127.0.0.1:5",
            "tcp6:1:5",
            "unix:/x:backlog=5",
            "unix:/x:600:5",
        ):
            (endpoint,) = expand(parse_endpoint(own))
            self.assertEqual(5, endpoint.backlog, own)
        for usual in ("tcp:1:127.0.0.1", "unix:/a\\:backlog\\=3", "tcp6:1"):
            (endpoint,) = expand(parse_endpoint(usual))
            self.assertEqual(BACKLOG, endpoint.backlog, usual)


class SharedTests(SynchronousTestCase):
    """A port of several processes, each of which says so."""

    def open(self, description: str) -> Any:
        """The first of the listeners that this opens."""
        ports: list[Any] = open_listener(Adopting(), "f", "listen.x", description, Factory())
        for port in ports:
            self.addCleanup(port.socket.close)
        return ports[0], len(ports)

    def test_both(self) -> None:
        """Both listen, on each family once."""
        for where in (":interface=127.0.0.1", "", ":interface=localhost"):
            first, number = self.open(f"tcp:0{where}:reuseport=1")
            self.assertEqual(1, number)
            again, _ = self.open(f"tcp:{first.getHost().port}{where}:reuseport=1")
            self.assertEqual(first.getHost(), again.getHost())

    def test_alone(self) -> None:
        """Where one of the two does not say so, it is the mistake that it always was."""
        for one, other in (("", ":reuseport=1"), (":reuseport=1", "")):
            first, _ = self.open(f"tcp:0:interface=127.0.0.1{one}")
            port = first.getHost().port
            error = self.assertRaises(
                faults.LISTEN_FAILED.kind, self.open, f"tcp:{port}:interface=127.0.0.1{other}"
            )
            self.assertIn("already in use", error.cause)

    def test_read(self) -> None:
        """It is written out, and off elsewhere."""
        self.assertTrue(parse_endpoint("tcp:1:reuseport=1").is_shared)
        self.assertFalse(parse_endpoint("tcp:1:reuseport=0").is_shared)
        self.assertFalse(parse_endpoint("tcp6:1").is_shared)
        for wrong in ("tcp:1:reuseport=2", "tcp:1:a:5:1", "unix:/x:reuseport=1"):
            self.assertRaises(NoEndpoint, parse_endpoint, wrong)


class Recorder:
    """A reactor that notes what it is to listen on."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> None:
        """From C{IReactorTCP}."""
        self.asked.append((port, interface, backlog))

    def listenUNIX(self, address: str, factory: Any, backlog: int, mode: int, wantPID: int) -> None:
        """From C{IReactorUNIX}."""
        self.asked.append((address, mode, bool(wantPID), backlog))


PARTS = st.sampled_from(
    [
        "0",
        "1",
        "5223",
        "70000",
        "-1",
        "x",
        "",
        "127.0.0.1",
        "\\:\\:1",
        "::",
        "/run/x",
        "a\\\\b",
        "=",
    ]
) | st.text(alphabet="1:=\\a.", max_size=6)
NAMES = st.sampled_from(
    ["", "port=", "interface=", "backlog=", "address=", "mode=", "lockfile=", "x="]
)
STRINGS = st.builds(
    lambda kind, parts: ":".join([kind, *(name + part for name, part in parts)]),
    st.sampled_from(["tcp", "tcp6", "unix"]),
    st.lists(st.tuples(NAMES, PARTS), max_size=4),
)


class ReadingTests(SynchronousTestCase):
    """Endpoint strings."""

    def listened(self, endpoint: Any, reactor: Recorder) -> tuple[Any, ...]:
        """What a reactor is asked for by this endpoint."""
        endpoint.listen(Factory()).addErrback(lambda _: None)
        return reactor.asked[0]

    @given(STRINGS)
    def test_as_twisted(self, text: str) -> None:
        """What is read is what Twisted reads, but for the backlog where none is written."""
        try:
            said = parse_endpoint(text)
        except NoEndpoint as problem:
            self.assertTrue(problem.mend)
            return
        ours, theirs = Recorder(), Recorder()
        *asked, backlog = self.listened(make_endpoint(ours, said), ours)
        *expected, usual = self.listened(serverFromString(theirs, text), theirs)
        self.assertEqual(expected, asked)
        self.assertIn((usual, backlog), [(backlog, backlog), (50, BACKLOG)])

    def test_values(self) -> None:
        """Kind, host, port, path, and who reaches it."""
        for text, kind, host, port, path, local in (
            ("tcp:5223", "tcp", "", 5223, "", False),
            ("tcp:port=1:interface=127.0.0.1", "tcp", "127.0.0.1", 1, "", True),
            ("tcp:1:interface=localhost", "tcp", "localhost", 1, "", True),
            ("tcp6:1", "tcp6", "::", 1, "", False),
            ("tcp6:1:interface=\\:\\:1", "tcp6", "::1", 1, "", True),
            ("unix:/run/a\\:b", "unix", "", None, "/run/a:b", True),
            ("unix:address=/run/a=b", "unix", "", None, "/run/a=b", True),
            ("systemd:domain=INET6:name=x", "systemd", "", None, "", False),
        ):
            for proxied in (False, True):
                said = parse_endpoint(f"haproxy:{text}" if proxied else text)
                read = said.kind, said.host, said.port, said.path, said.is_local, said.is_proxied
                self.assertEqual((kind, host, port, path, local, proxied), read)

    def test_not_bound(self) -> None:
        """What the kernel, or the look-up of a name, does not take is a complaint too."""
        long = f"unix:{new_folder(self)}/{'a' * 200}"  # Twisted leaves its lock file
        for text in ("tcp:0:interface=x.invalid", long, "unix:/proc/x"):
            args = (RealPorts(), "x.toml", "listen.client", text, Factory())
            error = self.assertRaises(faults.ConfigurationError, open_listener, *args)
            self.assertEqual("listen-failed", error.fault, text)

    def test_refused(self) -> None:
        """What Twisted would not take, or take by half, is told apart."""
        for text, words in (
            ("tcp", "its port is missing"),
            ("tcp:", '"" is no port'),
            ("tcp:x", '"x" is no port'),
            ("tcp:65536", '"65536" is no port'),
            ("tcp:1:interface=a:interface=b", "its interface is there twice"),
            ("tcp:1:a:port=2", "its port is there twice"),
            ("tcp:1:host=a", '"host=" is none of port, interface, backlog'),
            ("tcp:1:a:2:3", '"3" is one part too many'),
            ("unix:", "its address is missing"),
            ("unix:/x:mode=999", '"999" is no mode'),
            (f"tcp:1:{'ü' * 64}", "is no interface"),
            ("unix:/x\\", "a backslash is its last sign"),
            ("unix:a\0b", "a NUL is in its address"),
            ("tcp=1", "tcp=1: is none of tcp, tcp6, unix, systemd"),
        ):
            problem = self.assertRaises(NoEndpoint, parse_endpoint, text)
            self.assertIn(words, str(problem))

    @given(st.sampled_from(["client", "client_plain"]), st.text() | STRINGS)
    def test_any_text(self, kind: str, text: str) -> None:
        """Whatever stands there, it is listened on, or refused with the key and a cure."""
        try:
            if kind.endswith("_plain"):
                check_plain(f"listen.{kind}", text, "x.toml")
            opened = open_listener(
                MemoryReactorClock(), "x.toml", f"listen.{kind}", text, Factory()
            )
        except faults.ConfigurationError as error:
            self.assertTrue(error.cause.startswith(f"x.toml: listen.{kind}: "), error.cause)
            self.assertTrue(error.cure)
        else:
            self.assertIn(len(opened), (1, 2))
