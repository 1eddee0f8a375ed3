"""
Elements to frames: what leaves over a WebSocket (RFC 7395 3.3).

Elements are made for a stream whose header has declared C{jabber:client} and the prefix
C{stream}.  A frame has no header before it, so it declares what it uses itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cms.xmlstream import ns
from cms.xmlstream.gathering import Gathering

_NAME = re.compile(rb"<([a-z]+:)?[^\s/>]+")
_STANZA = re.compile(rb"<(?:message|presence|iq)(?=[\s/>])(?! xmlns=)")
_START_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(rb"([^\s=\"'<>/]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")  # its name
_CLIENT: Final = f" xmlns='{ns.CLIENT}'".encode()
_STREAM: Final = f" xmlns:stream='{ns.STREAMS}'".encode()


def declared(element: bytes) -> bytes:
    """The element, which is well-formed within a client's stream, as a document of its own."""
    stanza = _STANZA.match(element)
    declares = b"" if stanza is None else _CLIENT
    if b"stream:" in element:
        start = _START_TAG.match(element)
        if start is not None and b"xmlns:stream" not in _ATTRIBUTE.findall(start[0]):
            declares += _STREAM
    if not declares:
        return element
    name = stanza or _NAME.match(element)
    assert name is not None  # noqa: S101 - it is an element
    end = name.end()
    return b"".join((element[:end], declares, element[end:]))


def framed(element: bytes) -> bytes:
    """The element in a text frame, which a server does not mask (RFC 6455 5.2)."""
    text = declared(element)
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), text)


def _joined(elements: Iterable[bytes]) -> bytes:
    return b"".join(map(framed, elements))


class FramedGathering(Gathering):
    """The way out of a WebSocket; L{write} takes frames."""

    __slots__ = ()

    join = staticmethod(_joined)

    def put(self, element: bytes) -> None:
        """Send one element in a frame."""
        self.write(framed(element))
