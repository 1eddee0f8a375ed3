"""Guessing secrets and passwords: slowed, then refused, for each source."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from ipaddress import ip_address, ip_network

from attrs import define
from twisted.internet.interfaces import IReactorTime

FREE_FAILURES = 2  # a typing error costs nobody a wait
MAX_DELAY = 8.0  # seconds
REFUSED_AFTER = 10
FORGET_AFTER = 60.0  # seconds without a failure


LOCAL = "local"


@lru_cache(maxsize=4_096)
def network_of(host: str) -> str:
    """
    Whom an address stands for: itself, its /64 for IPv6 (one customer has so
    many), or L{LOCAL} for this host.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return LOCAL if host == "local" else host
    if address.is_loopback:
        return LOCAL
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else host


@define
class _Record:
    failures: int
    last: float


class Throttle:
    """
    Counts the failures of each address.

    The table is bounded: beyond C{most} addresses the one that failed longest
    ago is forgotten.
    """

    def __init__(self, clock: IReactorTime, *, most: int = 10_000) -> None:
        self._clock = clock
        self._most = most
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def failed(self, host: str) -> float:
        """
        Note a failure.

        @return: How long the answer should wait, in seconds.
        """
        host = network_of(host)
        record = self._current(host) or _Record(0, 0.0)
        record.failures += 1
        record.last = self._clock.seconds()
        self._records[host] = record
        self._records.move_to_end(host)
        if len(self._records) > self._most:
            self._records.popitem(last=False)
        excess = record.failures - FREE_FAILURES
        return 0.0 if excess <= 0 else float(min(MAX_DELAY, 2.0 ** (excess - 2)))

    def succeeded(self, host: str) -> None:
        """The address proved that it belongs here."""
        self._records.pop(network_of(host), None)

    def refused_for(self, host: str) -> float:
        """
        Seconds for which the address is not heard; 0.0 when it is.

        This host itself is always heard: behind such an address may be a proxy,
        and everybody who comes through it.
        """
        host = network_of(host)
        if host == LOCAL:
            return 0.0
        record = self._current(host)
        if record is None or record.failures < REFUSED_AFTER:
            return 0.0
        return record.last + FORGET_AFTER - self._clock.seconds()

    def _current(self, host: str) -> _Record | None:
        record = self._records.get(host)
        if record is not None and record.last + FORGET_AFTER <= self._clock.seconds():
            del self._records[host]
            return None
        return record
