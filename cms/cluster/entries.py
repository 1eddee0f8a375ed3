"""
The entries of an inbox, and the messages in them, as bytes.

An entry says who sent it and where it stands in what he sends.  It carries messages for this
node in their order, or an acknowledgement.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

DATA: Final = 1  # messages, numbered
ACKNOWLEDGED: Final = 2  # all up to this number have come
MISSING: Final = 3  # nothing after this number counts until it comes; 0: from the beginning

_ENTRY = struct.Struct("!BQ8sQB")
_MESSAGE = struct.Struct("!BHI")
TOKEN_BYTES: Final = 8
MOST_NAME: Final = 0xFFFF  # bytes


class Unreadable(Exception):
    """It is no entry, or no message, of ours."""


class Numbered(NamedTuple):
    """
    One entry.

    @ivar kind: One of the above.
    @ivar generation: Its sender's.
    @ivar token: Stands for the numbering: there is a new one when it begins again at 1.
    """

    kind: int
    sender: str
    generation: int
    token: bytes
    number: int
    data: bytes | memoryview = b""

    def head(self) -> bytes:
        """What stands before its data in the inbox."""
        name = self.sender.encode()
        return _ENTRY.pack(self.kind, self.generation, self.token, self.number, len(name)) + name

    def to_bytes(self) -> bytes:
        """As it is in the inbox."""
        return self.head() + self.data


def read_entry(raw: bytes) -> Numbered:
    """
    Its data are not copied.

    @raise Unreadable: it is none.
    """
    try:
        kind, generation, token, number, length = _ENTRY.unpack_from(raw)
        rest = _ENTRY.size + length
        name = raw[_ENTRY.size : rest].decode()
    except (struct.error, UnicodeDecodeError) as problem:
        raise Unreadable(str(problem)) from None
    if kind not in (DATA, ACKNOWLEDGED, MISSING) or len(raw) < rest:
        raise Unreadable(f"kind {kind}")
    return Numbered(kind, name, generation, token, number, memoryview(raw)[rest:])


def message(kind: int, name: bytes, *body: bytes) -> bytes:
    """
    One message.

    @param kind: Up to 255; what it means is not known here.
    @param name: Whom it is for, or of whom it speaks; up to L{MOST_NAME}.
    @param body: In one or more pieces.
    """
    return b"".join((_MESSAGE.pack(kind, len(name), sum(map(len, body))), name, *body))


def read_messages(data: bytes | memoryview) -> Iterator[tuple[int, bytes, memoryview]]:
    """
    Kind, name and body of each; the bodies are not copied.

    @raise Unreadable: what follows is none.
    """
    at, end, data = 0, len(data), memoryview(data)
    while at < end:
        try:
            kind, name, body = _MESSAGE.unpack_from(data, at)
        except struct.error as problem:
            raise Unreadable(str(problem)) from None
        at += _MESSAGE.size
        if at + name + body > end:
            raise Unreadable("a message is cut off")
        yield kind, bytes(data[at : at + name]), data[at + name : at + name + body]
        at += name + body
