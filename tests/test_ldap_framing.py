"""What an LDAP server sends, cut into messages; entries that are too large are passed over."""

from __future__ import annotations

import sansldap
from hypothesis import given, settings
from hypothesis import strategies as st
from sansldap import PartialAttribute
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.ldap.framing import (
    MOST_BESIDE,
    MOST_HEAD,
    MOST_OTHER,
    Frames,
    NoLdap,
    TooLarge,
)

BYTES, VALUES = 200_000, 50


def entry(dn: str, *values: bytes, names: int = 1) -> bytes:
    """As a server writes it; each of so many attributes has all the values."""
    server, client = sansldap.LDAPServer(), sansldap.LDAPClient()
    client.search_request("dc=x")
    server.receive(client.data_to_send())
    attributes = [PartialAttribute(f"a{number}", list(values)) for number in range(names)]
    server.search_result_entry(1, dn, attributes)
    return server.data_to_send()


def done(text: str = "") -> bytes:
    """The end of a search."""
    server, client = sansldap.LDAPServer(), sansldap.LDAPClient()
    client.search_request("dc=x")
    server.receive(client.data_to_send())
    server.search_result_done(1, diagnostics_message=text)
    return server.data_to_send()


def element(tag: int, content: bytes = b"") -> bytes:
    """With a length in two octets (RFC 4511 5.1 takes any definite form)."""
    return bytes((tag, 0x82)) + len(content).to_bytes(2, "big") + content


def message(operation: bytes, beside: bytes = b"", number: bytes = b"\1") -> bytes:
    """As no library would write it."""
    return element(0x30, element(0x02, number) + operation + beside)


def cut(data: bytes, size: int) -> list[bytes | TooLarge]:
    """What comes of it in pieces."""
    frames, found = Frames(), []
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size], BYTES, VALUES)
    return found


class FramesTests(SynchronousTestCase):
    """In whatever pieces it comes."""

    def test_messages(self) -> None:
        """Messages come whole and in order, up to the limits."""
        small = entry("cn=a", b"x")
        largest = entry("cn=b", b"y" * (BYTES - 50))
        most = entry("cn=c", *[b"z"] * (VALUES - 1))
        sent = [small, largest, most, done(), done("w" * (MOST_OTHER - 100))]
        for size in (7, 4_000, 65_536, 1_000_000):
            self.assertEqual(sent, cut(b"".join(sent), size))

    def test_too_large(self) -> None:
        """An entry of too many bytes is named, and what comes after it is read."""
        large = entry("cn=a", b"y" * BYTES)
        known = TooLarge("cn=a", f"it is longer than {BYTES} bytes")
        sent = done() + large + large + done()
        for size in (7, 4_000, len(done() + large), 65_536, 1_000_000):
            self.assertEqual([done(), known, known, done()], cut(sent, size))

    def test_values(self) -> None:
        """So is one of too many values, which would take long to read; empty ones count too."""
        known = TooLarge("cn=a", f"it has more than {VALUES} values")
        for large in (
            *(entry("cn=a", *[value] * VALUES) for value in (b"", b"z", b"z" * 999)),
            entry("cn=a", b"", b"", names=VALUES // 2),
        ):
            self.assertEqual([known, done()], cut(large + done(), 65_536))

    def test_long_name(self) -> None:
        """A name that is too long itself is not told."""
        (known, _) = cut(entry("x" * MOST_HEAD, b"y" * BYTES) + done(), 65_536)
        self.assertEqual(TooLarge("", f"it is longer than {BYTES} bytes"), known)

    def test_kept(self) -> None:
        """Of an entry that is passed over hardly anything is kept, however long it is."""
        frames = Frames()
        head = entry("cn=a", b"y" * BYTES)[:MOST_HEAD]
        claimed = b"\x30\x84\x03\xff\xff\x00" + head[2 + (head[1] & 0x7F) :]
        (known,) = frames.feed(claimed, BYTES, VALUES)
        self.assertEqual(TooLarge("cn=a", f"it is longer than {BYTES} bytes"), known)
        for _ in range(9):
            self.assertEqual([], frames.feed(bytes(BYTES), BYTES, VALUES))
        self.assertEqual(0, len(frames._held))

    def test_other(self) -> None:
        """A message that is no entry is not read if it is so long, nor what is no message."""
        for sent in (
            done("x" * MOST_OTHER),
            b"\x31\x00",
            b"\x30\x80\x02\x01\x01\x00\x00",
            b"\x30\x85\x00\x00\x00\x00\x01x",
            b"HTTP/1.1 400 Bad Request",
        ):
            self.assertRaises(NoLdap, cut, sent, 65_536)

    def test_slow(self) -> None:
        """
        Nothing reaches the library that takes it seconds, in which nobody else is served: numbers
        and tags without an end, elements without number or within each other.
        """
        ok = element(0x0A, b"\0") + element(0x04) * 2
        long_tag, many = b"\xbf" + b"\xff" * 9_000, element(0x85) * 3_000
        nested = b""
        for _ in range(20):
            nested = element(0x30, nested)
        held = element(0x64, element(0x04, b"cn=a") + element(0x30))
        for name, sent in {
            "a code": message(element(0x61, element(0x0A, b"\x7f" * 9_000))),
            "a code that is kept": message(element(0x65, element(0x0A, b"\x01\0\0"))),
            "no code": message(element(0x61)),
            "an empty code": message(element(0x78, element(0x0A))),
            "something else": message(element(0x61, element(0x02, b"\0"))),
            "an ID": message(element(0x61, ok), number=b"\x7f" * 9_000),
            "an ID alone": b"\x30\x03\x02\1\1",
            "a tag": message(element(0x61, ok), long_tag),
            "a tag within": message(element(0x61, ok + b"\x1f" + long_tag[1:])),
            "elements": message(element(0x61, ok + many)),
            "elements beside": message(element(0x65, ok), many),
            "controls": message(element(0x65, ok), element(0xA0, element(0x30) * 3_000)),
            "URIs": message(element(0x73, element(0x04) * 3_000)),
            "beside URIs": message(element(0x73, element(0x04)), bytes(2) * MOST_BESIDE),
            "depth": message(element(0x61, ok + nested)),
            "a tag beside an entry": message(held, long_tag),
            "elements beside an entry": message(held, many),
            "elements in an entry": message(element(0x64, held[4:] + many)),
            "a tag in an entry": message(element(0x64, held[4:-4] + element(0x30, long_tag))),
        }.items():
            self.assertRaises(NoLdap, cut, sent, 65_536)
            self.assertLess(len(sent), MOST_OTHER, name)
        cookie = element(0xA0, element(0x30, element(0x04, b"1.2") + element(0x04, b"c" * 8_000)))
        fit = message(element(0x65, ok), cookie)
        padded = message(element(0x65, element(0x0A, bytes(4)) + ok[6:]))
        for sent in (fit, padded):
            self.assertEqual([sent], cut(sent, 65_536))

    def test_longest(self) -> None:
        """An entry is passed over that somebody may have filled, and not one of 2 GiB."""
        head = element(0x02, b"\1") + b"\x64\x84\x7f\xff\xff\x00" + element(0x04, b"cn=a")
        sent = b"\x30\x84\x7f\xff\xff\x0a" + head + bytes(MOST_HEAD)
        self.assertRaises(NoLdap, cut, sent, 65_536)

    def test_crooked(self) -> None:
        """Values cannot be hidden behind lengths that do not fit."""
        large = bytearray(entry("cn=a", *[b"z"] * 60))
        at = large.rindex(b"a0") - 2  # the tag of its type
        large[at] = 0x05
        self.assertRaises(NoLdap, cut, bytes(large), 65_536)

    @settings(max_examples=80, deadline=None)
    @given(st.binary(max_size=40), st.integers(1, 40))
    def test_anything(self, data: bytes, size: int) -> None:
        """Whatever comes, nothing else is raised, and pieces change nothing."""
        results = []
        for pieces in (size, 1_000):
            try:
                results.append(cut(b"\x30" + data, pieces))
            except NoLdap:
                results.append([])
        if all(results):
            self.assertEqual(*results)
