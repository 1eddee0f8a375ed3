"""Guest accounts: names that exist for one session only and are not stored."""

from __future__ import annotations

import re
from collections import OrderedDict
from random import Random

_GUEST = re.compile(r"guest[1-9]\d{9}", re.ASCII)


class Guests:
    """
    Hands out guest names, each to one client at a time.

    @param random: Where the digits come from; it must not be guessable.
    @param most: How many names are remembered; then the oldest is forgotten.
    """

    def __init__(self, random: Random, *, most: int = 100_000) -> None:
        self._random = random
        self._most = most
        self._taken: OrderedDict[str, None] = OrderedDict()

    def create(self) -> str:
        """A local part that no guest has, such as C{guest2686566456}."""
        while (name := f"guest{self._random.randrange(10**9, 10**10)}") in self._taken:
            pass
        self._remember(name)
        return name

    def resumed(self, name: str) -> bool:
        """
        A session older than the link has this local part.

        @return: Whether it is a guest's.
        """
        is_guest = _GUEST.fullmatch(name) is not None
        if is_guest:
            self._remember(name)
        return is_guest

    def destroy(self, name: str) -> bool:
        """
        The session of this local part is over.

        @return: Whether it was a guest's.
        """
        return self._taken.pop(name, self) is None

    def clear(self) -> None:
        """Forget all."""
        self._taken.clear()

    def _remember(self, name: str) -> None:
        self._taken[name] = None
        if len(self._taken) > self._most:
            self._taken.popitem(last=False)
