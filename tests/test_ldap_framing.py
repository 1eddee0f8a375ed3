"""What an LDAP server sends, cut into messages; entries that are too large are passed over."""

from __future__ import annotations

import sansldap
from hypothesis import given, settings
from hypothesis import strategies as st
from sansldap import PartialAttribute
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.ldap.framing import MOST_HEAD, MOST_OTHER, Frames, NoLdap, TooLarge

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
        claimed = b"\x30\x84\x7f\xff\xff\xff" + head[2 + (head[1] & 0x7F) :]
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
