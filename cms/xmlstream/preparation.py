"""
Stringprep (RFC 3454) at a cost that is bounded.

Python's tables are used character by character, at some microseconds each, and one
character can become 18.  So an address of 3 kB took 70 ms, and any peer could send one.
Here mapping, normalising and the search for prohibited characters are one pass each,
outside Python code.  Texts that are too long, before or after, are refused.
"""

from __future__ import annotations

import re
import stringprep
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from itertools import chain, groupby
from unicodedata import ucd_3_2_0 as unicodedata

from attrs import define

MAX_PART = 1_023  # bytes of each part of an address, RFC 7622 3.1
MAX_SECRET = 4_096  # bytes of a password, which comes in one SASL message

# RFC 3454, tables C.1.2 and C.2.2 to C.9, for a character set in a pattern.
_SPACES = "\xa0\u1680\u2000-\u200b\u202f\u205f\u3000"
_CONTROLS = (
    "\x80-\x9f\u06dd\u070f\u180e\u200c\u200d\u2028\u2029\u2060-\u2063\u206a-\u206f\ufeff"
    "\ufff9-\ufffc\U0001d173-\U0001d17a"
)
_PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_NO_CHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_OTHERS = (
    "\ud800-\udfff\ufff9-\ufffd\u2ff0-\u2ffb\u0340\u0341\u200e\u200f\u202a-\u202e\u206a-\u206f"
    "\U000e0001\U000e0020-\U000e007f"
)
_PROHIBITED = _SPACES + _CONTROLS + _PRIVATE + _NO_CHARACTERS + _OTHERS
# The ranges in which Unicode 3.2 has characters.
_ASSIGNED = ((0, 0x30000), (0xE0000, 0xE0100))
_NEVER_ASSIGNED = "\U00030000-\U000dffff\U000e0100-\U000effff"


class PreparationError(ValueError):
    """The text is too long, empty, or holds what its profile prohibits."""


@define(slots=False, eq=False)
class Profile:
    """
    A profile of stringprep.

    @ivar ascii: The ASCII characters that it prohibits, for a character set in a pattern.
    @ivar folds: Whether upper case becomes lower case (table B.2).
    @ivar spaces: Whether every space becomes an ASCII space (RFC 4013 2.1).
    @ivar unassigned: Whether code points that Unicode 3.2 does not have are allowed.
    """

    ascii: str
    folds: bool = False
    spaces: bool = False
    unassigned: bool = False

    def prepare(self, text: str, most: int = MAX_PART) -> str:
        """
        The prepared text.

        @param most: Bytes that it may have, before and after.
        @raise PreparationError: it has more, or none, or cannot be prepared.
        """
        check_length(text, most)
        if text.isascii():
            prepared = text.lower() if self.folds else text
            prohibited = self._prohibited_ascii
        else:
            prepared = unicodedata.normalize("NFKC", text.translate(self._mapping))
            check_length(prepared, most)
            prohibited = self._prohibited
        if prohibited.search(prepared):
            raise PreparationError("it holds a character that is not allowed")
        return prepared

    @cached_property
    def _prohibited_ascii(self) -> re.Pattern[str]:
        return re.compile(f"[{self.ascii}]")

    @cached_property
    def _prohibited(self) -> re.Pattern[str]:
        unassigned = "" if self.unassigned else _tables()[1]
        return re.compile(f"[{self.ascii}{_PROHIBITED}{unassigned}]")

    @cached_property
    def _mapping(self) -> Mapping[int, str | None]:
        mapping: dict[int, str | None] = dict(_tables()[0]) if self.folds else {}
        mapping |= dict.fromkeys(filter(lambda n: stringprep.in_table_b1(chr(n)), range(0x10000)))
        if self.spaces:
            mapping |= {n: " " for n in range(0x80, 0x10000) if stringprep.in_table_c12(chr(n))}
        return mapping


def check_length(text: str, most: int) -> None:
    """
    @raise PreparationError: the text has more bytes than C{most}, or none.
    """
    try:
        good = 0 < len(text) <= most and len(text.encode()) <= most
    except UnicodeEncodeError:
        raise PreparationError("it holds a character that is not allowed") from None
    if not good:
        raise PreparationError("it is empty or too long")


def check_direction(text: str) -> None:
    """
    The rules for text written from right to left (RFC 3454 6).

    @raise PreparationError: they are broken.
    """
    right_to_left, left_to_right = _tables()[2:]
    if text.isascii() or not right_to_left.search(text):
        return
    ends = right_to_left.match(text[0]) and right_to_left.match(text[-1])
    if not ends or left_to_right.search(text):
        raise PreparationError("it mixes directions of writing")


@cache
def _tables() -> tuple[Mapping[int, str], str, re.Pattern[str], re.Pattern[str]]:
    """
    Table B.2, then A.1, D.1 and D.2; made once, for the first text that is not ASCII.
    """
    characters = [*map(chr, chain.from_iterable(range(*ends) for ends in _ASSIGNED))]
    mapping = {ord(c): stringprep.map_table_b2(c) for c in filter(_may_fold, characters)}
    unassigned = _set(zip(characters, map(unicodedata.category, characters), strict=True), "Cn")
    directions = [*zip(characters, map(unicodedata.bidirectional, characters), strict=True)]
    return (
        mapping,
        unassigned + _NEVER_ASSIGNED,
        re.compile(f"[{_set(directions, 'R', 'AL')}]"),
        re.compile(f"[{_set(directions, 'L')}]"),
    )


def _may_fold(character: str) -> bool:
    normal = unicodedata.normalize("NFKC", character)
    return (
        normal.lower() != normal
        or character.lower() != character
        or ord(character) in stringprep.b3_exceptions
    )


def _set(properties: Iterable[tuple[str, str]], *wanted: str) -> str:
    """The characters that have one of the properties, for a character set in a pattern."""
    found = ""
    for there, group in groupby(properties, lambda pair: pair[1] in wanted):
        if there:
            first, *others = (character for character, _ in group)
            found += f"{re.escape(first)}-{re.escape(others[-1] if others else first)}"
    return found


NODEPREP = Profile(ascii="\\x00-\\x20\"&'/:<>@\\x7f", folds=True)  # RFC 6122 appendix A
RESOURCEPREP = Profile(ascii="\\x00-\\x1f\\x7f")  # RFC 6122 appendix B
# RFC 3491, with the characters that the rules for host names leave of ASCII.
NAMEPREP = Profile(ascii="\\x00-,/:-@\\[-`{-\\x7f", folds=True, unassigned=True)
SASLPREP = Profile(ascii="\\x00-\\x1f\\x7f", spaces=True, unassigned=True)  # RFC 4013
