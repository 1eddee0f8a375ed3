"""Addresses that need no preparation are read without it, to the same result."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import jid
from cms.xmlstream.jid import MalformedJID
from cms.xmlstream.preparation import MAX_PART

_TEXTS = st.text(alphabet="abA1.-_@/ !&'~xn:\x7f\t\xdf", max_size=14)
_NOTHING = re.compile("(?!)")


class PreparedTests(SynchronousTestCase):
    """The short cut of L{parse_jid}."""

    def read(self, text: str, prepared: re.Pattern[str]) -> tuple[str | None, ...] | None:
        """An address as one of the two ways reads it; C{None} when it is none."""
        patched = self.patch(jid, "_PREPARED", prepared)
        try:
            found = jid._parse(text)
        except MalformedJID:
            return None
        finally:
            patched.restore()
        return found.user, found.host, found.resource

    @given(_TEXTS, st.sampled_from(("", "a@b/", "x@")))
    @example("a" * 63 + ".b", "")
    @example("a" * 64 + ".b", "")
    @example("a-.b", "")
    @example("-a.b", "")
    @example("xn--bcher-kva.example", "x@")
    @example("a." * 511 + "b", "")
    @example("a." * 511 + "bc", "")
    @example("a" * 256 + "@b", "")
    @example("a" * 257 + "@b", "")
    @example("r" * 256, "a@b/")
    def test_same(self, text: str, before: str) -> None:
        """Whatever the address, both ways read it alike."""
        text = before + text
        self.assertEqual(self.read(text, _NOTHING), self.read(text, jid._PREPARED))

    @given(_TEXTS, st.sampled_from(("", "a@b/", "x@")))
    @example("\xe4@b/@/c", "")
    def test_again(self, text: str, before: str) -> None:
        """An address that was prepared is read again from its text."""
        try:
            found = jid.parse_jid(before + text)
        except MalformedJID:
            return
        self.assertEqual(found, jid.prepared_jid(found.full()))

    def test_usual(self) -> None:
        """The usual addresses take the short cut."""
        for text in ("meet.example.com", "cb1.meet.example.com", "a.b_c@meet.example.com/x y=/@"):
            self.assertIsNotNone(jid._PREPARED.fullmatch(text), text)
        self.assertLessEqual(len("a." * 511 + "b"), MAX_PART)
