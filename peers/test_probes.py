"""
What connects and says nothing, or not all: balancers, monitors, scanners.

A look at a port is nobody's failure.  After each kind of look, at each listener,
the daemon has logged no error (the fixture C{processes} sees to that) and keeps
nothing: neither a connection nor an attempt.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cms.check.probes.port import client_hello
from peers.api import Administration
from peers.certs import Certificates
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes

LISTENERS = {
    "component": True,  # TLS from the first byte
    "component_plain": False,
    "client": False,
    "client_direct": True,
    "client_plain": False,
    "api": True,
    "api_plain": False,
}
HEADERS = {
    "component": "<stream:stream xmlns='jabber:component:accept' to='cb1.{domain}'"
    " xmlns:stream='http://etherx.jabber.org/streams'>",
    "client": "<stream:stream xmlns='jabber:client' to='{domain}' version='1.0'"
    " xmlns:stream='http://etherx.jabber.org/streams'>",
    "api": "GET /healthz HTTP/1.1\r\nHost: {domain}\r\n",
}

Probe = Callable[[socket.socket, str], None]


def connect(sock: socket.socket, kind: str) -> None:
    """Nothing but a connection."""


def reset(sock: socket.socket, kind: str) -> None:
    """The same, dropped: HAProxy's checks end so."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_a_hello(sock: socket.socket, kind: str) -> None:
    """A part of a ClientHello."""
    sock.sendall(client_hello()[:60])


def hello(sock: socket.socket, kind: str) -> None:
    """A ClientHello, and the answer to it is awaited where there is one."""
    sock.sendall(client_hello())
    if LISTENERS[kind]:
        assert sock.recv(1)


def garbage(sock: socket.socket, kind: str) -> None:
    """Another protocol, and a peer that hears the answer, if there is one."""
    sock.sendall(b"SSH-2.0-probe\r\n")
    with suppress(ConnectionError, TimeoutError):
        sock.settimeout(0.2)
        sock.recv(65536)


def secure(sock: socket.socket, kind: str) -> ssl.SSLSocket:
    """A handshake."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def open_stream(sock: socket.socket, kind: str) -> None:
    """The first words of the listener's own protocol."""
    sock.sendall(HEADERS[kind.partition("_")[0]].format(domain=DOMAIN).encode())


def tls(sock: socket.socket, kind: str) -> None:
    """A handshake, where TLS begins with the first byte."""
    if LISTENERS[kind]:
        secure(sock, kind).close()


def tls_and_header(sock: socket.socket, kind: str) -> None:
    """The same, and a stream that is opened."""
    end = secure(sock, kind) if LISTENERS[kind] else sock
    open_stream(end, kind)
    if not kind.startswith("api"):
        assert end.recv(1)
    end.close()


def starttls(sock: socket.socket, kind: str) -> None:
    """TLS was promised, and nothing follows."""
    open_stream(sock, kind)
    if kind == "client":
        sock.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        heard = b""
        while b"<proceed" not in heard:
            heard += sock.recv(65536)


PROBES = (connect, reset, half_a_hello, hello, garbage, tls, tls_and_header, starttls)


@pytest.fixture
def server(processes: Processes, certificates: Certificates) -> XmppServer:
    """A server with every listener there is."""
    made = XmppServer(processes, certificates, {"cb1": "s3cret"})
    for kind in LISTENERS:
        made.settings["listen"].setdefault(kind, [f"tcp:{free_port()}:interface=127.0.0.1"])
    made.start()
    return made


def port_of(server: XmppServer, kind: str) -> int:
    """The port of a listener."""
    return int(server.settings["listen"][kind][0].split(":")[1])


def connections(server: XmppServer) -> int:
    """How many it holds, by the kernel: established, or closed by the other side alone."""
    ports = {port_of(server, kind) for kind in LISTENERS}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].split(":")[1], 16) in ports and row[3] in ("01", "08") for row in rows)


def test_every_look_at_every_port(server: XmppServer) -> None:
    """Nothing is logged as an error, and nothing stays."""
    administration = Administration(server.directory / "state")
    for kind in LISTENERS:
        for probe in PROBES:
            with socket.create_connection(("127.0.0.1", port_of(server, kind)), 10) as sock:
                probe(sock, kind)
    wait_until(lambda: not connections(server), 15, "the connections to end")
    attempts = administration.get("system/signalflow")["signalFlow"]["attempt"]
    assert attempts
    running = [a for a in attempts if any(s["result"] == "running" for s in a["steps"])]
    assert not running, running
    assert server.process.running
