"""A TCP proxy on loopback that a test can close, or make silent, as a network does."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LINGER_NOT = struct.pack("ii", 1, 0)  # a reset in place of an orderly end


class Road:
    """
    From a port of its own to another.

    @ivar port: Where to connect to.
    @ivar delay: Seconds that whatever passes takes, each way.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passes = threading.Event()
        self._passes.set()
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                if listener.fileno() < 0:
                    return
                client.close()
                continue
            self._pairs.append((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._passes.wait()
                time.sleep(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Every connection ends abruptly."""
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                    end.shutdown(socket.SHUT_RDWR)
                    end.close()
        self._pairs.clear()

    def close(self) -> None:
        """The same, and nobody can connect."""
        # shutdown wakes the thread that accepts; close alone does not
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    @property
    def is_closed(self) -> bool:
        """Whether nobody can connect."""
        return self._listener.fileno() < 0

    def open(self) -> None:
        """Again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def silence(self) -> None:
        """Nothing passes, and nobody is told."""
        self._passes.clear()

    def speak(self) -> None:
        """What was held passes."""
        self._passes.set()


@contextmanager
def road(target: int) -> Iterator[Road]:
    """One for a test."""
    way = Road(target)
    try:
        yield way
    finally:
        way.speak()
        way.close()
