"""Run every part of a clean-up, and call every listener, even if one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVarTuple

from twisted.logger import Logger

_Told = TypeVarTuple("_Told")


def run_all(log: Logger, what: str, *parts: Callable[[], object]) -> None:
    """
    Call every part of a clean-up.  If one fails, that is logged and the others are still called.

    @param what: What ends, for the log.
    """
    for part in parts:
        try:
            part()
        except Exception:  # noqa: BLE001 - the other parts must be done as well
            log.failure("unexpected error at the end of {what}", what=what)


def call_all(log: Logger, listeners: Iterable[Callable[[*_Told], object]], *told: *_Told) -> None:
    """Call every listener.  If one fails, that is logged and the others are still called."""
    for listener in tuple(listeners):
        try:
            listener(*told)
        except Exception:  # noqa: BLE001 - the others must hear of it
            log.failure("unexpected error in {listener}", listener=_name(listener))


def _name(listener: Callable[..., object]) -> str:
    return str(getattr(listener, "__qualname__", type(listener).__qualname__))
