"""Stringprep: the same as the tables of Python and Twisted, at another price."""

from __future__ import annotations

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Any

import idna
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber import xmpp_stringprep
from twisted.words.protocols.jabber.jid import JID, InvalidFormat

from cms.callbridge.passwords.saslprep import SASLPrepError, saslprep
from cms.xmlstream import jid, preparation
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.preparation import (
    MAX_PART,
    MAX_SECRET,
    NODEPREP,
    RESOURCEPREP,
    PreparationError,
    Profile,
    check_direction,
)
from tests.xmppserver import Server

# The character that becomes eighteen.
EXPANDS = "\ufdfa"
REFERENCES = ((NODEPREP, xmpp_stringprep.nodeprep), (RESOURCEPREP, xmpp_stringprep.resourceprep))
# Letters, marks, digits and signs of many scripts, what is mapped, and what is prohibited.
ALPHABET = (
    "abAZ09.-_ @/&'\xdf\xe4\xc4\xad\u0130\u0390\u01c5\u0301\u0323\u05d0\u0628\u0660\u200b\u200d"
    "\u2024\u2026\u2100\u2126\u212a\u3002\uff0e\uff21\ufb01\ufdfa\ufeff\ufffd\ufffe\ue000\u0221"
    "\u4e2d\uac00\u1100\u1161\U00010400\U0001d400\U0001f600\U000e0041\xa0\u3000\x7f\x01\ud800"
)


def prepared(profile: Profile, text: str) -> str | None:
    """What we make of it; C{None} if nothing."""
    try:
        result = profile.prepare(text)
        check_direction(result)
    except PreparationError:
        return None
    return result


def by_twisted(profile: Any, text: str) -> str | None:
    """What the reference makes of it."""
    try:
        return str(profile.prepare(text)) or None
    except (UnicodeError, IndexError):
        return None


def address(read: Callable[[str], JID], text: str) -> tuple[str | None, ...] | None:
    """An address as somebody reads it."""
    try:
        found = read(text)
    except (MalformedJID, InvalidFormat, UnicodeError, IndexError, RuntimeError):
        return None
    return found.user or None, found.host.removesuffix("."), found.resource or None


class SameTests(SynchronousTestCase):
    """Nothing but the price is another."""

    def test_characters(self) -> None:
        """Each character, or at least each of its neighbours."""
        for number in (*range(0x600), *range(0x600, 0x30000, 13), *range(0xE0000, 0xE0200, 3)):
            for profile, reference in REFERENCES:
                found = prepared(profile, chr(number))
                self.assertEqual(by_twisted(reference, chr(number)), found, hex(number))

    @settings(max_examples=800, deadline=None)
    @given(st.one_of(st.text(ALPHABET, max_size=8), st.text(max_size=8)))
    def test_parts(self, text: str) -> None:
        """Texts."""
        for profile, reference in REFERENCES:
            self.assertEqual(by_twisted(reference, text), prepared(profile, text), text)

    @settings(max_examples=1_500, deadline=None)
    @given(st.text(ALPHABET, max_size=12))
    @example("a@b\u3002c/d")
    @example("a@\u05d0.b")
    @example("a@\u05d0b")
    @example("a@b.-c")
    @example("a@b\u2024c")
    @example("\u2100")
    @example("a@\xad.b")
    def test_addresses(self, text: str) -> None:
        """Addresses, but for their final dots, which Twisted keeps, and empty parts."""
        bare, slash, resource = text.partition("/")
        local, at, domain = bare.rpartition("@")
        if (at and not local) or (slash and not resource):
            self.assertRaises(MalformedJID, parse_jid, text)
            return
        theirs = address(JID, text)
        if theirs and ((at and not theirs[0]) or (slash and not theirs[2]) or not theirs[1]):
            theirs = None  # a part is empty now
        if domain.endswith(("..", "\u3002.", ".\u3002")):
            return
        self.assertEqual(theirs, address(parse_jid, text), text)


class Counter:
    """Counts what it is given to work on."""

    def __init__(self) -> None:
        self.characters = 0

    def normalize(self, form: Any, text: str) -> str:
        """In place of C{unicodedata}."""
        self.characters += len(text)
        return unicodedata.ucd_3_2_0.normalize(form, text)


class PriceTests(SynchronousTestCase):
    """What a stranger's text may cost, in characters that are looked at."""

    def setUp(self) -> None:
        """Count, with all tables made."""
        prepared(NODEPREP, "\xe4")
        saslprep("\xe4")
        self.counter = Counter()
        self.patch(preparation, "unicodedata", self.counter)

    def refused(self, text: str, most: int) -> None:
        """It is no address, and so much work was done to know it, each time."""
        for _ in range(2):
            self.counter.characters = 0
            self.assertRaises(MalformedJID, parse_jid, text)
            self.assertLessEqual(self.counter.characters, most)

    def test_too_long(self) -> None:
        """What is too long in bytes is not looked at, whichever part it is."""
        long = MAX_PART // 3 + 1
        for text in (
            f"{chr(0xFDF0) * MAX_PART}@d/{EXPANDS * MAX_PART}",
            f"a@b/{EXPANDS * long}",
            f"{EXPANDS * long}@b",
            EXPANDS * long,
            "\xe4@\xe4/" + "\xe4" * 512,
            "\xe4" * 512 + "@\xe4",
        ):
            self.refused(text, 0)

    def test_of_a_stranger(self) -> None:
        """Whoever connects is answered without any work for such addresses."""
        to = f"{chr(0xFDF0) * 1_000}@d/{EXPANDS * 1_000}"
        for peer in (Server().client(), Server().component()):
            self.assertIn("<host-unknown ", peer.open(to=to))
            self.assertEqual(0, self.counter.characters)

    def test_expanding(self) -> None:
        """What becomes too long is normalised once, and not looked at any further."""
        part = EXPANDS * (MAX_PART // 3)
        self.patch(Profile, "_prohibited", property(lambda _: self.fail("looked for")))
        self.refused(f"a@b/{part}", len(part))
        self.refused(f"{part}@b", len(part))
        self.refused(part, len(part))

    def test_no_table_is_asked(self) -> None:
        """Nothing is done for each character: the tables are read when they are made."""
        for name in [n for n in dir(stringprep) if "table" in n]:
            self.patch(stringprep, name, lambda c: self.fail("asked"))
        local, resource = "\u0416" * 511, "\u4e2d" * 341
        self.assertEqual("\u0436" * 511, parse_jid(f"{local}@b\xfcch\xe9r.\u05d0/{resource}").user)
        self.refused(f"{local}\uffff@b", 512)

    def test_long_addresses_are_not_kept(self) -> None:
        """The memory for addresses is bounded in bytes."""
        before = jid._remembered.cache_info().currsize
        for number in range(10):
            self.assertEqual("b", parse_jid(f"a@b/{number}{'r' * 256}").host)
        self.assertEqual(before, jid._remembered.cache_info().currsize)

    def test_a_labels(self) -> None:
        """Labels of DNS are read only of what DNS can have."""
        asked: list[str] = []

        def decode(label: str) -> str:
            asked.append(label)
            return idna.core.decode(label)

        self.patch(idna, "decode", decode)
        self.assertEqual("b\xfccher.example", parse_jid("xn--bcher-kva.example").host)
        asked.clear()
        jid._shown_label.cache_clear()
        self.assertRaises(MalformedJID, parse_jid, "xn--bcher-kva." * 70 + "example")
        self.assertEqual([], asked)
        host = parse_jid(f"xn--{'a' * 60}.xn--bcher-kva." + "xn--a." * 20 + "example").host
        self.assertEqual(["xn--bcher-kva", "xn--a"], asked)
        self.assertIn(".b\xfccher.xn--a.", host)

    def test_passwords(self) -> None:
        """Passwords and user names of a log-in."""
        for text, most in ((EXPANDS * MAX_SECRET, 0), (EXPANDS * (MAX_SECRET // 3), MAX_SECRET)):
            self.counter.characters = 0
            self.assertRaises(SASLPrepError, saslprep, text)
            self.assertLessEqual(self.counter.characters, most)
        self.assertEqual("a" * MAX_SECRET, saslprep("a" * MAX_SECRET))
