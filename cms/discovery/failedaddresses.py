"""Addresses that accept a connection and then fail: the other addresses are tried first."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from cms.discovery.lookup import Target

MOST_REMEMBERED = 128


@define
class FailedAddresses:
    """
    Addresses that failed after TCP was connected, the oldest failure first.

    Happy Eyeballs (RFC 8305) prefers the address that accepts first.  So a broken
    address could win each attempt, and the others would never be tried.
    """

    _failed: dict[tuple[str, str], None] = field(factory=dict)

    def note(self, target: Target, address: str) -> None:
        """It failed, now."""
        key = str(target), address
        self._failed.pop(key, None)
        self._failed[key] = None
        if len(self._failed) > MOST_REMEMBERED:
            del self._failed[next(iter(self._failed))]

    def forgive(self, target: Target, address: str) -> None:
        """It works."""
        self._failed.pop((str(target), address), None)

    def clear(self) -> None:
        """Forget all."""
        self._failed.clear()

    def divide(
        self, target: Target, addresses: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """
        The addresses to try, and those to try only if none of the first can be
        connected to.

        @return: If all have failed before, the first is the one whose failure is the
            oldest, and the second are the others.
        """
        order = {key: number for number, key in enumerate(self._failed)}
        failed = [a for a in addresses if (str(target), a) in order]
        failed.sort(key=lambda address: order[str(target), address])
        good = [a for a in addresses if (str(target), a) not in order]
        split = 0 if good else 1
        return (*good, *failed[:split]), tuple(failed[split:])
