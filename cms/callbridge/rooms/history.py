"""What was said in a room, for who comes later (XEP-0045 7.2.13)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import frozen
from twisted.words.xish.domish import Element

from cms.xmlstream import ns

MOST_MESSAGES = 50
MOST_BYTES = 65_536  # of one room
_NUMBER = re.compile("[0-9]{1,9}")


@frozen
class Wanted:
    """
    How much of it somebody wants.

    @ivar stanzas: At the most.
    @ivar characters: Likewise, all told.
    @ivar since: Not before this time, seconds since the epoch.
    """

    stanzas: int = MOST_MESSAGES
    characters: int = MOST_BYTES
    since: float = 0.0


def wanted(x: Element, now: float) -> Wanted:
    """
    What the C{<history/>} of a join asks for; what cannot be read is passed over.

    @param x: The C{<x/>} of the join.
    """
    for child in x.elements(ns.MUC, "history"):
        since = _moment(child.getAttribute("since"))
        seconds = _number(child.getAttribute("seconds"))
        if seconds is not None:
            since = max(since, now - seconds)
        stanzas = _number(child.getAttribute("maxstanzas"))
        characters = _number(child.getAttribute("maxchars"))
        return Wanted(
            MOST_MESSAGES if stanzas is None else stanzas,
            MOST_BYTES if characters is None else characters,
            since,
        )
    return Wanted()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _moment(text: str | None) -> float:
    """XEP-0082; 0.0 where there is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def stamp(seconds: float) -> str:
    """A time (seconds since the epoch) as XEP-0082 has it."""
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


class History:
    """The last messages of a room, bounded in number and bytes."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, tuple[bytes, bytes]]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, at: float, stanza: tuple[bytes, bytes]) -> None:
        """
        Keep one, and forget the oldest beyond the bounds.

        @param stanza: As L{Roll<cms.callbridge.rooms.copies.Roll>} has it.
        """
        self._held.append((at, stanza))
        self._bytes += len(stanza[1])
        while len(self._held) > MOST_MESSAGES or self._bytes > MOST_BYTES:
            self._bytes -= len(self._held.popleft()[1][1])

    def what(self, wanted: Wanted) -> Sequence[tuple[bytes, bytes]]:
        """The newest that somebody wants, the oldest of them first."""
        found: list[tuple[bytes, bytes]] = []
        characters = wanted.characters
        for at, stanza in reversed(self._held):
            characters -= len(stanza[1])
            if len(found) >= wanted.stanzas or characters < 0 or at < wanted.since:
                break
            found.append(stanza)
        return found[::-1]
