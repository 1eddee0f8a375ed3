"""
What an LDAP server sends, cut into messages before they are read (RFC 4511 4.1.1, 5.1).

Who may write to an entry decides how large it is, and sansldap takes some 10 us for each value:
a picture of a million small values would hold the reactor for ten seconds.  So an entry is
looked at from outside first.  One that is too large is passed over and named: it is that
entry's fault, and not the server's.

What a server alone decides is looked at as well: sansldap takes a time that grows with the square
of the length of a number or a tag, and keeps each result code for ever that it does not know.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

MOST_HEAD: Final = 4_096  # bytes that are kept of an entry that is passed over
MOST_OTHER: Final = 1 << 14  # bytes of a message that is no entry
MOST_PASSED: Final = 1 << 26  # bytes of an entry that is passed over
MOST_BESIDE: Final = 1 << 10  # bytes of a message beside its entry, or its URIs
_SMALL = 2_000  # bytes of a message that takes no time, whatever is in it
_MOST_DEPTH, _MOST_ELEMENTS = 8, 2_000  # of a message that is no entry
_MOST_CODE = 0xFFFF  # of a result; those of RFC 4520 3.8 end far below
_SEQUENCE, _INTEGER, _OCTETS, _SET = 0x30, 0x02, 0x04, 0x31
_ENTRY, _ENUMERATED, _CONSTRUCTED, _LONG_TAG = 0x64, 0x0A, 0x20, 0x1F
_RESULTS = frozenset({0x61, 0x65, 0x78})  # of a bind, a search, an extended operation
_HEADER = 6  # bytes at most: the tag, and a length in up to four octets
_MOST_ID = 4  # bytes of a message ID, which is at most 2**31 - 1, and of a result code


class NoLdap(ValueError):
    """What was sent is no message, or none that is read; the text is ours."""


@frozen
class TooLarge:
    """
    An entry that is passed over.

    @ivar dn: Its name; empty if that is too long itself.
    @ivar problem: How it is too large, in a few words.
    """

    dn: str
    problem: str


class Frames:
    """Cuts the bytes of one connection."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._passing = 0  # bytes that belong to an entry that is passed over

    def feed(self, data: bytes, most_bytes: int, most_values: int) -> list[bytes | TooLarge]:
        """
        The messages that are whole, and entries that are too large, in their order.

        @param most_bytes: Of an entry.
        @param most_values: Of all its attributes together.
        @raise NoLdap: that can be no message, or is too long for one.
        """
        found: list[bytes | TooLarge] = []
        passed = min(self._passing, len(data))
        self._passing -= passed
        held = self._held
        held += memoryview(data)[passed:]
        at = 0
        while (length := _length(held, at)) is not None:
            start, size = length
            end = start + size
            if end - at > min(MOST_OTHER, most_bytes):
                if len(held) - at < min(MOST_HEAD, end - at):
                    break
                name = _name(bytes(held[at : at + MOST_HEAD]), start - at)
                if name is None:
                    raise NoLdap(f"a message is longer than {MOST_OTHER} bytes")
                if end - at > MOST_PASSED:
                    raise NoLdap(f"an entry is longer than {MOST_PASSED} bytes")
                if end - at > most_bytes:
                    found.append(TooLarge(name, f"it is longer than {most_bytes} bytes"))
                    self._passing = max(0, end - len(held))
                    at = min(end, len(held))
                    continue
            if len(held) < end:
                break
            found.append(_looked_at(bytes(held[at:end]), start - at, most_values))
            at = end
        del held[:at]
        return found


def _looked_at(message: bytes, start: int, most_values: int) -> bytes | TooLarge:
    begin, at = _inner(message, start, _INTEGER)
    if at - begin > _MOST_ID or at >= len(message):
        raise NoLdap("a message has no ID that LDAP knows")
    tag = message[at]
    if tag in _RESULTS:
        begin, end = _inner(message, _inner(message, at, tag)[0], _ENUMERATED)
        code = message[begin:end]
        if not 0 < len(code) <= _MOST_ID or int.from_bytes(code, "big") > _MOST_CODE:
            raise NoLdap("a result has no code that LDAP knows")
    if len(message) <= min(_SMALL, 2 * most_values):  # nothing in it takes long
        return message
    begin, end = _inner(message, at, tag)
    if tag not in _RESULTS and len(message) - end > MOST_BESIDE:
        raise NoLdap(f"there are more than {MOST_BESIDE} bytes beside what was asked for")
    if tag != _ENTRY:
        _walk(message, at)
    elif _has_more(message, begin, end, most_values):
        return TooLarge(_name(message, start) or "", f"it has more than {most_values} values")
    return message


def _walk(message: bytes, at: int) -> None:
    """
    @raise NoLdap: a message that is no entry would take long to read.
    """
    left = _MOST_ELEMENTS
    todo = [(at, len(message), 0)]
    while todo:
        begin, end, depth = todo.pop()
        while begin < end:
            left -= 1
            octet = message[begin]
            inner, last = _inner(message, begin, octet)
            if octet & _LONG_TAG == _LONG_TAG or last > end or not left or depth > _MOST_DEPTH:
                raise NoLdap("a message is of no form that LDAP has")
            if octet & _CONSTRUCTED:
                todo.append((inner, last, depth + 1))
            begin = last


def _length(held: bytes | bytearray, at: int, tag: int = _SEQUENCE) -> tuple[int, int] | None:
    """
    Where the content of an element begins, and its length; C{None}: that has not come yet.

    @raise NoLdap: it is another one, or its length is of no form that LDAP has.
    """
    if at >= len(held):
        return None
    if held[at] != tag:
        raise NoLdap("something else comes where a message begins")
    if at + 1 >= len(held):
        return None
    first = held[at + 1]
    if first < 0x80:
        return at + 2, first
    octets = first & 0x7F
    if not 1 <= octets <= _HEADER - 2:
        raise NoLdap("a length is of no form that LDAP has")
    start = at + 2 + octets
    if start > len(held):
        return None
    return start, int.from_bytes(held[at + 2 : start], "big")


def _inner(held: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of an element begins, and where it ends."""
    found = _length(held, at, tag)
    if found is None:
        raise NoLdap("an element is cut")
    return found[0], sum(found)


def _name(message: bytes, start: int) -> str | None:
    """The DN of an entry, of which the beginning is enough; C{None}: it is no entry."""
    _, at = _inner(message, start, _INTEGER)
    if at >= len(message) or message[at] != _ENTRY:
        return None
    at, _ = _inner(message, at, _ENTRY)
    begin, end = _inner(message, at, _OCTETS)
    return message[begin:end].decode(errors="replace") if end <= len(message) else ""


def _has_more(message: bytes, at: int, last: int, most: int) -> bool:
    """
    Whether an entry has more than so many values, attributes without one counted too.

    @raise NoLdap: it has no form that is read, or too much beside its attributes.
    """
    _, at = _inner(message, at, _OCTETS)
    at, end = _inner(message, at, _SEQUENCE)
    if last - end > MOST_BESIDE or end > last:
        raise NoLdap(f"there are more than {MOST_BESIDE} bytes beside what was asked for")
    count = 0
    while at < end:
        at, _ = _inner(message, at, _SEQUENCE)
        _, at = _inner(message, at, _OCTETS)
        at, values = _inner(message, at, _SET)
        count += 1
        while at < values:
            _, at = _inner(message, at, _OCTETS)
            count += 1
            if count > most:
                return True
    return False
