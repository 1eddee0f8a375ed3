"""Noticing that a peer is gone without having closed its connection (step 11)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from cms.process.logs import Logger
from cms.xmlstream.stanza import Stanza

USER_TIMEOUT = 20.0  # seconds that sent data may stay unacknowledged (RFC 5482)
NOT_SENT = 16_384  # bytes that the kernel accepts beyond those on their way
_TCP = (socket.AF_INET, socket.AF_INET6)
NOT_READ = 65_536  # bytes received that the kernel keeps; Linux doubles it for its own needs


class Listening(Protocol):
    """
    Something that counts the bytes it receives.

    @ivar held: It does not read now, so silence means nothing.
    """

    bytes_received: int

    @property
    def held(self) -> bool: ...


class Keepalive:
    """
    Pings a silent peer, and calls C{dead} if nothing comes.

    Nothing is done for each stanza.  Once an interval the number of bytes received is
    compared with the number before.  Any byte is a sign of life, so an error that
    answers a ping counts too.  A peer that dies just after it sent something is noticed
    within two intervals and one timeout.

    @param interval: Seconds between two comparisons.
    @param timeout: Seconds after a ping in which something must come.
    @param ping: Sends an XEP-0199 ping, or asks in another way.
    @param dead: Called once if nothing came.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        stream: Listening,
        *,
        ping: Callable[[], Deferred[Stanza] | None],
        interval: float,
        timeout: float,
        dead: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._stream = stream
        self._ping = ping
        self._interval = interval
        self._timeout = timeout
        self._dead = dead
        self._heard = 0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._wait()

    def stop(self) -> None:
        """Watch no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _wait(self) -> None:
        self._heard = self._stream.bytes_received
        self._call = self._clock.callLater(self._interval, self._look)

    def _look(self) -> None:
        if self._stream.held or self._stream.bytes_received != self._heard:
            self._wait()
            return
        self._call = self._clock.callLater(self._timeout, self._judge)
        asked = self._ping()
        if asked is not None:
            asked.addErrback(self._unanswered)

    def _unanswered(self, failure: Failure) -> None:
        """Ignore it: an error is a sign of life, and silence is judged by the bytes."""
        self.log.debug("ping: {why}", why=failure.getErrorMessage())

    def _judge(self) -> None:
        if self._stream.held or self._stream.bytes_received != self._heard:
            self._wait()
        else:
            self._call = None
            self._dead()


def watch_socket(transport: object, user_timeout: float = USER_TIMEOUT) -> None:
    """
    Make TCP itself give up a peer that acknowledges nothing, and keep its buffers small.

    A log-in overtakes what waits in our queue, but nothing that waits in the kernel's
    buffers, which would grow to megabytes.

    @param user_timeout: Seconds that sent data may stay unacknowledged.
    """
    handle = _socket_of(transport)
    if handle is not None:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * user_timeout))
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NOT_READ)


def send_at_once(transport: object) -> None:
    """
    Let TCP not wait for the acknowledgement of what was sent before (Nagle's algorithm).

    What a turn of the reactor sends is gathered already.  A client may acknowledge 40 ms later,
    and what comes for it meanwhile would wait as long.
    """
    handle = _socket_of(transport)
    if handle is not None:
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _socket_of(transport: object) -> socket.socket | None:
    handle = getattr(transport, "socket", None)
    is_tcp = isinstance(handle, socket.socket) and handle.family in _TCP
    return handle if is_tcp else None
