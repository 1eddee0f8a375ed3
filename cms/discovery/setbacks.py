"""Addresses that take a connection and then lead nowhere: the others go before them."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from cms.discovery.lookup import Target

MOST_REMEMBERED = 128


@define
class Setbacks:
    """
    What failed after TCP was connected, the oldest first.

    Happy Eyeballs (RFC 8305) prefers whoever accepts first, so an address behind
    which nobody speaks would win each round, and keep the others from their turn.
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
        Which addresses to try, and which only if none of those can be connected to.

        @return: Where all have failed, the one whose failure is the oldest is tried
            first, and the others only if it cannot be connected to.
        """
        order = {key: number for number, key in enumerate(self._failed)}
        failed = [a for a in addresses if (str(target), a) in order]
        failed.sort(key=lambda address: order[str(target), address])
        good = [a for a in addresses if (str(target), a) not in order]
        split = 0 if good else 1
        return (*good, *failed[:split]), tuple(failed[split:])
