"""What is asked of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from heapq import nlargest

from attrs import field, frozen

from cms.record.names import may_be, shown_name
from cms.record.steps import Entry
from cms.xmlstream.jid import MalformedJID, parse_jid

MOST = 1_000
_AGO = re.compile(r"([0-9]{1,6})\s*(s|min|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


@frozen
class Wanted:
    """
    Which entries.

    @ivar user: A local part, or an address, as people write it.
    @ivar name: The same as entries have it.
    @ivar login: The ID of a log-in.
    @ivar attempt: The ID of an attempt of a link, or of a link.
    @ivar since: Seconds since the epoch.
    @ivar most: The newest so many.
    """

    user: str = ""
    login: str = ""
    attempt: str = ""
    since: float = 0.0
    most: int = MOST
    name: str = field(init=False)

    @name.default
    def _prepared(self) -> str:
        name = self.user.partition("@")[0]
        try:
            return parse_jid(f"{name}@localhost").user or name
        except MalformedJID:
            return name

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Of which each line that is wanted holds one; none: any may be wanted."""
        if self.login or self.attempt:
            return (json.dumps(self.login or self.attempt).encode(),)
        if not self.user:
            return ()
        both = (self.name, shown_name(self.name, known=False))
        return tuple(json.dumps(each, ensure_ascii=False).encode() for each in both)

    def holds(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        if self.user and not may_be(str(entry.get("user", "")), self.name):
            return False
        if self.login and entry.get("login") != self.login:
            return False
        return not self.attempt or self.attempt in (entry.get("attempt"), entry.get("link"))

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those, the oldest first; of a millisecond by their steps, whatever file has them."""
        found = enumerate(each for each in entries if each["at"] >= self.since and self.holds(each))
        # Not all of them are in memory at once.
        keyed = ((each["at"], each.get("step") or 0, number, each) for number, each in found)
        return [each for *_, each in reversed(nlargest(self.most, keyed))]


def moment_of(text: str, now: float) -> float:
    """
    A moment as people write it: C{1h}, C{30min}, C{2d} ago, or as RFC 3339 writes it.

    @return: Seconds since the epoch.
    @raise ValueError: it is none.
    """
    ago = _AGO.fullmatch(text.strip().removeprefix("-"))
    if ago is not None:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
