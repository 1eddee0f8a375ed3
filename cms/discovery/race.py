"""
Step 6: a TCP connection to whichever address of a target answers first.

Happy Eyeballs (RFC 8305 5) over Twisted's endpoints.  Twisted's own
C{HostnameEndpoint} does the same for a host name, but reports only the last of
several failures.  Here the failure of each address is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.error import TimeoutError as TCPTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from cms import faults
from cms.signalflow import StepError

STAGGER = 0.25  # seconds before the next address is tried beside the last, RFC 8305 5


class Race:
    """
    One race; L{run} it once.

    @param make_protocol: Called for each connection made.  A connection made
        after the race is won is closed.
    @param addresses: At least one, in the order to try.
    @param last: Addresses to try when none of the others could be connected to.
    @param timeout: Seconds that each address has.
    @raise ValueError: there is no address.
    """

    def __init__(
        self,
        reactor: Any,
        make_protocol: Callable[[], Protocol],
        addresses: Sequence[str],
        port: int,
        *,
        timeout: float,
        stagger: float = STAGGER,
        last: Sequence[str] = (),
    ) -> None:
        if not addresses:
            raise ValueError("no address to connect to")
        self._reactor = reactor
        self._make_protocol = make_protocol
        self._left = list(dict.fromkeys(addresses))
        self._last = [address for address in dict.fromkeys(last) if address not in self._left]
        self._port = port
        self._timeout = timeout
        self._stagger = stagger
        self._running: dict[str, Deferred[Any]] = {}
        self._failures: dict[str, StepError] = {}
        self._next: IDelayedCall | None = None
        self._won = False
        self._result: Deferred[tuple[Protocol, str]] = Deferred(self._cancelled)

    def run(self) -> Deferred[tuple[Protocol, str]]:
        """
        @return: Fires with the protocol and the address of the first
            connection.  If there is none, fails with a C{ConnectError} that
            names every address.
        """
        self._start_next()
        return self._result

    def _start_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        if not self._left:
            return
        address = self._left.pop(0)
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(self._reactor, address, self._port, self._timeout)
        self._next = self._reactor.callLater(self._stagger, self._start_next)
        factory = Factory.forProtocol(self._make_protocol)
        factory.noisy = False
        connecting = endpoint.connect(factory)
        self._running[address] = connecting
        connecting.addCallbacks(
            self._connected, self._failed, callbackArgs=(address,), errbackArgs=(address,)
        )

    def _connected(self, protocol: Any, address: str) -> None:
        self._running.pop(address, None)
        if self._won:
            protocol.transport.abortConnection()
            return
        self._won = True
        self._stop()
        self._result.callback((protocol, address))

    def _failed(self, failure: Failure, address: str) -> None:
        self._running.pop(address, None)
        if self._won or failure.check(CancelledError):
            return
        self._failures[address] = self._explain(failure, address)
        if not self._left and not self._running:
            self._left, self._last = self._last, []
        if self._left:
            self._start_next()
        elif not self._running:
            self._stop()
            self._won = True
            self._result.errback(self._most_telling())

    def _explain(self, failure: Failure, address: str) -> StepError:
        seen: dict[str, object] = {"address": address, "port": self._port}
        if failure.check(TCPRefused):
            return faults.CONNECT_REFUSED.error(**seen)
        if failure.check(TCPTimeout):
            return faults.CONNECT_TIMEOUT.error(seconds=self._timeout, **seen)
        problem = failure.getErrorMessage().rstrip(".")
        return faults.CONNECT_UNREACHABLE.error(problem=problem, **seen)

    def _most_telling(self) -> StepError:
        """A refusal tells more than silence, and both tell more than no route."""
        order = (faults.CONNECT_REFUSED, faults.CONNECT_TIMEOUT, faults.CONNECT_UNREACHABLE)
        names = [fault.name for fault in order]
        error = min(self._failures.values(), key=lambda e: names.index(e.fault))
        others = [e.cause for e in self._failures.values() if e is not error]
        if others:
            error.evidence["others"] = " ".join(others)
        return error

    def _stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._left.clear()
        self._last.clear()
        for connecting in list(self._running.values()):
            connecting.cancel()

    def _cancelled(self, _: object) -> None:
        self._won = True
        self._stop()


async def reach(
    reactor: Any, addresses: Sequence[str], port: int, *, timeout: float
) -> StepError | None:
    """Why none of these can be connected to; C{None}: one can, and is left at once."""
    try:
        protocol, _ = await Race(reactor, Protocol, addresses, port, timeout=timeout).run()
    except StepError as problem:
        return problem
    transport: Any = protocol.transport
    transport.abortConnection()
    return None
