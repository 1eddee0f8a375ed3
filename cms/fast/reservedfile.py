"""A callback for when Twisted cannot accept a connection for want of file descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import tcp

from cms.fast.needs import Need, lacking

_RESERVATION = "twisted.internet.tcp:_FileDescriptorReservation"
NEEDS = (
    Need("twisted.internet.tcp", "_reservedFD"),
    Need(_RESERVATION, "__enter__", "self"),
    Need(_RESERVATION, "__exit__", "self, excType, excValue, traceback"),
    Need(_RESERVATION, "available", "self"),
    Need(_RESERVATION, "reserve", "self"),
)
ABSENT = lacking("Twisted", NEEDS, "it is not told when files run out; status has their number")


class ToldReservation:
    """
    Twisted's reserved descriptor, with a callback for its use.  If a connection cannot be
    accepted for want of descriptors, Twisted releases it for a moment, accepts the
    connection and closes it.

    @param reserved: Twisted's own.
    @param used: Called each time.
    """

    def __init__(self, reserved: Any, used: Callable[[], object]) -> None:
        self._reserved = reserved
        self._used = used
        self.available, self.reserve = reserved.available, reserved.reserve

    def __enter__(self) -> None:
        self._reserved.__enter__()

    def __exit__(self, *how: Any) -> None:
        self._reserved.__exit__(*how)
        self._used()


def tell_of_use(used: Callable[[], object]) -> None:
    """Call C{used} whenever a connection cannot be accepted for want of files."""
    if ABSENT:
        return
    module: Any = tcp
    if not isinstance(module._reservedFD, ToldReservation):
        module._reservedFD = ToldReservation(module._reservedFD, used)
