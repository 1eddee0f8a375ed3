"""
Mappings in the form that the field knows: C{"$sAMAccountName$@meet.example.com"}.

Between two C{$} stands the name of an attribute, whose first value is put there; all else
is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from attrs import frozen
from sansldap import FilterAnd, FilterEquality, FilterOr, LDAPFilter

Entry = Mapping[str, tuple[bytes, ...]]  # by attribute, in lower case
ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")  # RFC 4512 2.5, without options and OIDs
MOST_WAYS = 16  # in which a name is taken apart
MOST_TRIES = 1_000  # to cut it, whether something comes of it or not


class Lacking(Exception):
    """
    An entry has no usable value for a mapping.

    @ivar attribute: Which it lacks.
    """

    def __init__(self, attribute: str) -> None:
        super().__init__(attribute)
        self.attribute = attribute


@frozen
class Template:
    """
    A mapping.

    @ivar parts: Text and names of attributes in turn; begins and ends with text.
    """

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "$".join(self.parts)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Those that it needs."""
        return self.parts[1::2]

    def fill(self, entry: Entry) -> str:
        """
        What the mapping makes of an entry.

        @raise Lacking: it has no value for an attribute, or none in UTF-8.
        """
        made = [self.parts[0]]
        for attribute, text in zip(self.parts[1::2], self.parts[2::2], strict=True):
            values = entry.get(attribute.lower(), ())
            try:
                value = values[0].decode() if values else ""
            except UnicodeDecodeError:
                value = ""
            if not value:
                raise Lacking(attribute)
            made += (value, text)
        return "".join(made)

    def ways(self, text: str) -> Iterator[dict[str, str]]:
        """
        The values from which the mapping makes a text, without regard to case; at most
        L{MOST_WAYS}, since C{$givenName$.$sn$} of C{a.b.c.d} has several.
        """
        return islice(self._ways(text, self.parts, iter(range(MOST_TRIES))), MOST_WAYS)

    def _ways(
        self, text: str, parts: tuple[str, ...], tries: Iterator[int]
    ) -> Iterator[dict[str, str]]:
        before, rest = parts[0], parts[1:]
        if text[: len(before)].lower() != before.lower():
            return
        text = text[len(before) :]
        if not rest:
            if not text:
                yield {}
            return
        attribute, after = rest[0], rest[1]
        if len(rest) == 2:  # only the end is left
            cut = len(text) - len(after)
            if cut > 0 and text[cut:].lower() == after.lower():
                yield {attribute: text[:cut]}
            return
        if not after:  # nothing says where one value ends
            return
        end = text.lower().find(after.lower(), 1)
        while end > 0 and next(tries, None) is not None:
            for others in self._ways(text[end:], rest[1:], tries):
                if others.get(attribute, text[:end]) == text[:end]:
                    yield {attribute: text[:end], **others}
            end = text.lower().find(after.lower(), end + 1)


def entries_of(address: str, mapping: Template) -> LDAPFilter | None:
    """What finds the entries of which the mapping makes an address; C{None}: none can be."""
    ways: list[LDAPFilter] = [
        _all([FilterEquality(name, value.encode()) for name, value in values.items()])
        for values in mapping.ways(address)
    ]
    if not ways:
        return None
    return ways[0] if len(ways) == 1 else FilterOr(ways)


def _all(filters: Sequence[LDAPFilter]) -> LDAPFilter:
    return filters[0] if len(filters) == 1 else FilterAnd(list(filters))


def parse_template(text: str) -> Template:
    """
    @raise ValueError: with a plain sentence, when it is no mapping.
    """
    parts = text.split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f'"{text}" has a $ without another: attributes are written $name$')
    for attribute in parts[1::2]:
        if not ATTRIBUTE.fullmatch(attribute):
            raise ValueError(f'"${attribute}$" holds no name of an attribute')
    if len(parts) == 1:
        raise ValueError(f'"{text}" names no attribute, so all would get the same')
    return Template(tuple(parts))


def escape_dn_value(value: str) -> str:
    """A value as it stands in a DN (RFC 4514 2.4)."""
    return re.sub(r'([\\"+,;<>=]|^[ #]| \Z)', r"\\\1", value).replace("\0", "\\00")
