"""
The header of the PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2), read
without I/O.

Twisted has a reader for it.  But that reader takes a first read of less than eight bytes
for no header, does not know LOCAL of version 2, and has no limit of bytes or time: a peer
could keep a connection and its memory for ever.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6

from attrs import frozen

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
BEGINNING = b"PROXY "  # of version 1
MOST_V1 = 107  # bytes, with the line's end
MOST_V2 = 2_048  # bytes after the first 16: addresses and TLVs
_FIXED = 16
_FAMILIES = {1: (socket.AF_INET, 12), 2: (socket.AF_INET6, 36), 3: (socket.AF_UNIX, 216)}


class NoProxyHeader(ValueError):
    """The bytes are no such header; the text says why."""


@frozen
class ProxyHeader:
    """
    What a header says.

    @ivar source: IP address and port of the client; C{None} for a health check of the
        proxy itself and for a client of a UNIX socket.
    @ivar rest: The bytes after the header.
    """

    source: tuple[str, int] | None
    rest: bytes


def begins_header(data: bytes) -> bool:
    """Whether bytes begin with a header, or with a part of its beginning."""
    return len(data) >= len(BEGINNING) and data.startswith((BEGINNING, SIGNATURE[: len(data)]))


def read_header(data: bytes) -> ProxyHeader | None:
    """
    Read a header of either version.

    @param data: All that has come; bytes may follow the header.
    @return: C{None} while it is not complete.
    @raise NoProxyHeader: it will never be one.
    """
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if data.startswith(BEGINNING):
        return _read_v1(data)
    if SIGNATURE.startswith(data) or BEGINNING.startswith(data):
        return None
    raise NoProxyHeader("it does not begin as one")


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, rest = data.partition(b"\r\n")
    if len(line) + 2 > MOST_V1:
        raise NoProxyHeader(f"its line is longer than {MOST_V1} bytes")
    if not end:
        return None
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise NoProxyHeader("its line is not ASCII") from None
    if words[1] == "UNKNOWN":
        return ProxyHeader(None, rest)
    kinds = {"TCP4": IPv4, "TCP6": IPv6}
    if words[1] not in kinds or len(words) != 6:
        raise NoProxyHeader("its line cannot be read")
    kind = kinds[words[1]]
    try:
        source, _ = kind(words[2]), kind(words[3])
    except ValueError:
        raise NoProxyHeader("it holds no two addresses") from None
    return ProxyHeader((str(source), _port(words[4], words[5])), rest)


def _port(*texts: str) -> int:
    """The first of them; all must be ports."""
    if not all(text.isdecimal() and len(text) <= 5 and int(text) <= 65_535 for text in texts):
        raise NoProxyHeader("it holds no two ports")
    return int(texts[0])


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family, size = struct.unpack("!BBH", data[12:_FIXED])
    if command not in (0x20, 0x21):
        raise NoProxyHeader(f"version and command are {command:#x}")
    if size > MOST_V2:
        raise NoProxyHeader(f"it is longer than {MOST_V2} bytes")
    if len(data) < _FIXED + size:
        return None
    told, rest = data[_FIXED : _FIXED + size], data[_FIXED + size :]
    kind, transport = family >> 4, family & 15
    if command == 0x20 or (kind, transport) == (0, 0):  # LOCAL, UNSPEC
        return ProxyHeader(None, rest)
    if kind not in _FAMILIES or transport != 1:
        raise NoProxyHeader(f"family and transport are {family:#x}")
    which, least = _FAMILIES[kind]
    if size < least:
        raise NoProxyHeader("its addresses are cut off")
    if which is socket.AF_UNIX:
        return ProxyHeader(None, rest)
    half = 4 if which is socket.AF_INET else 16
    (port,) = struct.unpack("!H", told[2 * half : 2 * half + 2])
    return ProxyHeader((socket.inet_ntop(which, told[:half]), port), rest)
