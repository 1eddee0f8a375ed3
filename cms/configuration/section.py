"""
The tables of a configuration file as classes.

A class of attrs whose attributes are made by L{setting} says all there is to say of its
keys: kind and bounds, default and why that, meaning.  L{read_section} reads a table by it,
F{document.py} makes the tables of docs/configuration.md of it.  docs/design/configuration.md
says why no library does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

from attrs import NOTHING, Factory, field, fields, frozen

from cms.configuration.tomlfile import Place

_T = TypeVar("_T")
_D = TypeVar("_D")
_KEY = "setting"  # in the metadata of an attribute
Values = Mapping[str, Any]  # a table of TOML
Given = Mapping[str, Any]  # what was read of a section so far, by attribute


class Kind(Generic[_T]):
    """
    What may be written for a key.

    @ivar what: What it is, in few words.
    @ivar unit: Of a number.
    """

    what: str = ""
    unit: str = ""

    def describe(self) -> str:
        """The same with bounds, for docs/configuration.md."""
        return self.what

    def keys(self, name: str) -> tuple[str, ...]:
        """The keys of the table that are taken for the key C{name}."""
        return (name,)

    def is_in(self, table: Values, name: str) -> bool:
        """Whether the table says anything of it, so that the default does not count."""
        return any(key in table for key in self.keys(name))

    def take(self, table: Values, name: str, place: Place, given: Given) -> _T:
        """
        Read the key C{name} of a table that has it.

        @param place: Of the table.
        @raise ConfigurationError: naming the file, the key and the cure.
        """
        return self.read(table[name], place.inner(name))

    def read(self, value: object, place: Place) -> _T:
        """
        Read a value of TOML.

        @raise ConfigurationError: it is not of this kind.
        """
        raise NotImplementedError

    def missing(self, name: str) -> tuple[str, str]:
        """Problem and cure where a key that must be there is not."""
        return "it is missing", "Add it; docs/configuration.md describes it."


@frozen
class Setting:
    """
    One key of a file.

    @ivar name: As it is in the file.
    @ivar default: As the attribute has it; C{NOTHING}: the key must be there.
    @ivar written: In its place: makes of what was read before a default as it would
        stand in the file, which is read like one that does.
    @ivar why: The default's reason.
    @ivar shown: The default in words, where its value does not say it.
    """

    kind: Kind[Any]
    meaning: str
    default: Any = Factory(lambda: NOTHING)
    written: Callable[[Given], object] | None = None
    name: str = ""
    why: str = ""
    shown: str | None = None


@overload
def setting(kind: Kind[_T], meaning: str, *, name: str = "", shown: str | None = None) -> _T: ...


@overload
def setting(
    kind: Kind[_T],
    meaning: str,
    *,
    default: _D,
    why: str = "",
    name: str = "",
    shown: str | None = None,
) -> _T | _D: ...


@overload
def setting(
    kind: Kind[_T],
    meaning: str,
    *,
    written: Callable[[Given], object],
    name: str = "",
    shown: str | None = None,
) -> _T: ...


def setting(kind: Kind[Any], meaning: str, **rest: Any) -> Any:
    """
    An attribute that is read from the file; see L{Setting}.

    @param name: Left out: the attribute's name.
    """
    made = Setting(kind, meaning, **rest)
    return field(default=made.default, metadata={_KEY: made})


def settings_of(section: type) -> Iterator[tuple[str, str, Setting]]:
    """Each attribute that is read from the file, its key there, and what it may be."""
    for attribute in fields(section):
        made = attribute.metadata.get(_KEY)
        if made is not None:
            yield attribute.name, made.name or attribute.name, made


def keys_of(section: type) -> list[str]:
    """All keys of a section's table."""
    return [key for _, name, made in settings_of(section) for key in made.kind.keys(name)]


def read_section(section: type[_T], table: Values, place: Place, **known: object) -> _T:
    """
    Read a table.

    @param known: Attributes that are not in the file.
    @raise ConfigurationError: naming the file, the key and the cure.
    """
    keys = keys_of(section)
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            mend = f"Write {near[0]}" if near else "Correct its spelling"
            raise place.inner(key).wrong("this key is not known", f"{mend}, or remove it.")
    given = dict(known)
    for attribute, name, made in settings_of(section):
        if made.kind.is_in(table, name):
            given[attribute] = made.kind.take(table, name, place, given)
        elif made.written is not None:
            given[attribute] = made.kind.read(made.written(given), place.inner(name))
        elif made.default is NOTHING:
            raise place.inner(name).wrong(*made.kind.missing(name))
        else:
            given[attribute] = made.default
    return section(**given)
