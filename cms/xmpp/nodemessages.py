"""
What the nodes of a cluster say to each other about sessions and links, as bytes.

Stanzas travel as the bytes that they are, with the receiver's address before them; the rest is
rare, and JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from cms.cluster.entries import Unreadable, message
from cms.xmlstream.joined import Joined

DELIVER: Final = 1
SESSION: Final = 2
SESSION_END: Final = 3
PRESENCE: Final = 4
DIRECTED: Final = 5
COPIES: Final = 6
END_SESSION: Final = 7  # asks the session's node to end it
LINK: Final = 8
LINK_END: Final = 9
END_LINK: Final = 10
ASK: Final = 11
PROBE: Final = 12
ANSWER: Final = 13
BEGIN: Final = 15  # all there is follows
ALL: Final = 14  # that is all there is: what was not named has ended
AGAIN: Final = 16  # what was refused is perhaps free now: tell all again
HOLD: Final = 17  # asks the node of a client to read it no further, or on again
TAKE: Final = 20  # asks for a session whose client has come here
HANDED: Final = 21  # a session, whole
HAS_IT: Final = 22
STATE: Final = 26  # of the node itself: whether it is drained
LEFT: Final = 27  # a link that is to go to another node: how much of it was handled
QUESTIONS: Final = (ASK, PROBE, TAKE)
ROWS: Final = 24  # of contacts and blocked addresses
DIGESTS: Final = 25  # of all of these

_encode = json.JSONEncoder(separators=(",", ":")).encode
_COUNT = struct.Struct("!HI")


def deliver(to: bytes, source: bytes, raws: Sequence[bytes]) -> bytes:
    """
    Stanzas for one receiver.

    @param to: Its full address, or a component's.
    @param source: The lane in which they wait there.
    """
    sizes = struct.pack(f"!{len(raws)}I", *map(len, raws))
    return message(DELIVER, to, _COUNT.pack(len(source), len(raws)), source, sizes, *raws)


def delivered(body: memoryview) -> tuple[bytes, Joined]:
    """
    Lane and stanzas of what L{deliver} made.

    @raise Unreadable: it did not.
    """
    try:
        length, number = _COUNT.unpack_from(body)
        at = _COUNT.size + length
        source = bytes(body[_COUNT.size : at])
        sizes = struct.unpack_from(f"!{number}I", body, at)
    except (struct.error, MemoryError) as problem:
        raise Unreadable(str(problem)) from None
    at += 4 * number
    if at + sum(sizes) != len(body):
        raise Unreadable("stanzas of another length")
    return source, Joined(bytes(body[at:]), sizes)


def told(kind: int, name: str, **facts: object) -> bytes:
    """A message about a session or a link."""
    return message(kind, name.encode(), _encode(facts).encode())


class Facts:
    """
    The facts of such a message.

    @raise Unreadable: they are none, or one is missing or of another kind.
    """

    def __init__(self, body: bytes | memoryview) -> None:
        try:
            facts = json.loads(str(body, "utf-8"))
        except (ValueError, RecursionError) as problem:
            raise Unreadable(str(problem)) from None
        if not isinstance(facts, dict):
            raise Unreadable("no facts")
        self._facts: dict[str, Any] = facts

    def _one(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self._facts.get(key)
        if not isinstance(value, kind):
            raise Unreadable(f"{key} is missing, or of another kind")
        return value

    def text(self, key: str) -> str:
        """A string."""
        return str(self._one(key, str))

    def number(self, key: str) -> float:
        """A number."""
        return float(self._one(key, (int, float)))

    def whole(self, key: str) -> int:
        """A whole number."""
        return int(self._one(key, int))

    def flag(self, key: str) -> bool:
        """Yes or no."""
        return bool(self._one(key, bool))

    def says(self, key: str) -> bool:
        """Yes; no if it is not there, as an older version does not know it."""
        return self._facts.get(key) is True

    def all(self, key: str) -> list[Any]:
        """Whatever; who asks looks at each."""
        return list(self._one(key, list))

    def mapping(self, key: str) -> dict[str, Any]:
        """Whatever, by name."""
        return dict(self._one(key, dict))

    def texts(self, key: str) -> tuple[str, ...]:
        """Strings."""
        return tuple(str(each) for each in self._one(key, list))
