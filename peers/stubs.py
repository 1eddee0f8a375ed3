"""Servers that go wrong on purpose: each a thread that serves one kind of trouble."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from peers.certs import Pair
from peers.network import free_port

Trouble = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(trouble: Trouble, host: str = "127.0.0.1", port: int | None = None) -> Iterator[int]:
    """
    Serve a kind of trouble on a loopback port.

    @param trouble: Called with each connection, which is closed afterwards.
    @param port: A free one unless it is given.
    """
    port = port or free_port()
    over = threading.Event()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        listener.settimeout(0.1)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                connection.settimeout(0.2)
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                trouble(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def filtered_port() -> Iterator[int]:
    """A port that drops every SYN, as a firewall does: its backlog is full."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


def shows_for(name: str, pair: Pair) -> Callable[[ssl.SSLContext], None]:
    """For L{tls}: another certificate for whoever asks for a name (SNI)."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(pair.certificate, pair.key)

    def choose(connection: ssl.SSLObject, asked: str | None, _: ssl.SSLContext) -> None:
        if asked == name:
            connection.context = other

    def adjust(context: ssl.SSLContext) -> None:
        context.sni_callback = choose

    return adjust


def silent(connection: socket.socket) -> None:
    """Read everything, say nothing."""
    while True:
        with contextlib.suppress(TimeoutError):
            if not connection.recv(65536):
                return


def says(data: bytes) -> Trouble:
    """Say something, then be silent."""

    def trouble(connection: socket.socket) -> None:
        connection.sendall(data)
        silent(connection)

    return trouble


def resets(connection: socket.socket) -> None:
    """Reset the connection at the first bytes, as a middlebox does."""
    connection.settimeout(20)
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tls(
    pair: Pair,
    inside: Trouble,
    trust: Path | None = None,
    adjust: Callable[[ssl.SSLContext], None] | None = None,
) -> Trouble:
    """
    The same inside TLS.

    @param trust: Demand a certificate that this CA has signed.
    @param adjust: Changes the TLS context, before the certificate is loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if adjust is not None:
        adjust(context)
    context.load_cert_chain(pair.certificate, pair.key)
    if trust is not None:
        context.load_verify_locations(trust)
        context.verify_mode = ssl.CERT_REQUIRED

    def trouble(connection: socket.socket) -> None:
        connection.settimeout(20)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.settimeout(0.2)
            inside(wrapped)

    return trouble


@contextlib.contextmanager
def tls_proxy(pair: Pair, plain_port: int) -> Iterator[int]:
    """A TLS proxy before a port of loopback that has none."""

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(TimeoutError):
                    data = source.recv(65536)
                    if not data:
                        break
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def inside(secure: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", plain_port), timeout=0.2) as plain:
            back = threading.Thread(target=forward, args=(plain, secure), daemon=True)
            back.start()
            forward(secure, plain)
            back.join(5)

    with server(tls(pair, inside)) as port:
        yield port
