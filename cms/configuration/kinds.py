"""What may be written in a configuration file, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from attrs import field, frozen

from cms.configuration.section import Given, Kind, Values, keys_of, read_section
from cms.configuration.tomlfile import Place, Secret
from cms.signalflow import StepError
from cms.state.folder import mend_unread
from cms.state.textencoding import Unreadable, read_secret
from cms.xmlstream.jid import MalformedJID, parse_jid

_T = TypeVar("_T")


class Variant(Protocol):
    """
    What a table of a list is read as.

    @ivar name: Unlike that of the others in the list.
    """

    @property
    def name(self) -> str: ...

    def problem(self) -> tuple[str, str, str] | None:
        """What its keys together have wrong: the key to name, problem and cure."""
        ...


_V = TypeVar("_V", bound=Variant)


def _checked(value: object, kind: type[_T], what: str, place: Place) -> _T:
    """The value, which is of this kind of TOML; C{true} is no number."""
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise place.wrong(f"it is not {what}", f"Write {what}.")
    return value


class Text(Kind[str]):
    """Any string."""

    what = "a string in quotes"

    def read(self, value: object, place: Place) -> str:
        """See L{Kind.read}."""
        return _checked(value, str, self.what, place)


class Flag(Kind[bool]):
    """C{true} or C{false}."""

    what = "true or false"

    def read(self, value: object, place: Place) -> bool:
        """See L{Kind.read}."""
        return _checked(value, bool, self.what, place)


@frozen
class _Bounded(Kind[_T]):
    """
    A number within bounds.

    @ivar unit: Of what: seconds, bytes.
    """

    least: float
    most: float
    unit: str = ""

    def describe(self) -> str:
        """See L{Kind.describe}."""
        return f"{self.least} to {self.most}"

    def _within(self, value: object, place: Place) -> float:
        number: float = _checked(value, (int | float), self.what, place)  # type: ignore[arg-type]
        if not self.least <= number <= self.most:
            # Of a few million digits Python makes no text, and nobody would read it.
            said = number if -(10**20) < number < 10**20 else "the number"
            raise place.wrong(
                f"{said} is out of range", f"Choose from {self.least} to {self.most}."
            )
        return number


class Seconds(_Bounded[float]):
    """A time within bounds."""

    what = "a number"

    def __init__(self, least: float, most: float) -> None:
        super().__init__(least, most, "seconds")

    def read(self, value: object, place: Place) -> float:
        """See L{Kind.read}."""
        return float(self._within(value, place))


class Count(_Bounded[int]):
    """A whole number within bounds."""

    what = "a whole number"

    def read(self, value: object, place: Place) -> int:
        """See L{Kind.read}."""
        number = self._within(value, place)
        if number != int(number):
            raise place.wrong(f"it is not {self.what}", f"Write {self.what}.")
        return int(number)


class Part(_Bounded[float]):
    """A part of a whole, from 0 to 1."""

    what = "a number"

    def __init__(self) -> None:
        super().__init__(0, 1)

    def read(self, value: object, place: Place) -> float:
        """See L{Kind.read}."""
        return float(self._within(value, place))


class Choice(Kind[_T]):
    """One of a few words."""

    def __init__(self, *words: _T) -> None:
        self._words = words

    def describe(self) -> str:
        """See L{Kind.describe}."""
        return ", ".join(f"`{word}`" for word in self._words)

    def read(self, value: object, place: Place) -> _T:
        """See L{Kind.read}."""
        text = _checked(value, str, Text.what, place)
        for word in self._words:
            if word == text:
                return word
        choices = ", ".join(map(str, self._words))
        raise place.wrong(f'"{text}" is none of them', f"Choose of {choices}.")


class PathTo(Kind[Path]):
    """A path, counted from the folder of the file."""

    what = "a path in quotes"

    def read(self, value: object, place: Place) -> Path:
        """See L{Kind.read}."""
        text = _checked(value, str, self.what, place)
        if "\0" in text:
            raise place.wrong("a path holds no NUL", "Write the path without it.")
        return place.file.parent / text


class Domain(Kind[str]):
    """A domain, prepared as the domain part of an address (RFC 6122 2.2)."""

    what = "a domain"

    def read(self, value: object, place: Place) -> str:
        """See L{Kind.read}."""
        text = _checked(value, str, Text.what, place)
        if not text.strip("."):
            raise place.wrong("it is empty", "Write a domain name.")
        try:
            jid = parse_jid(text.rstrip("."))
        except MalformedJID as problem:
            raise place.wrong(f'"{text}": {problem}', "Write a domain name.") from None
        if jid.user is not None or jid.resource is not None:
            raise place.wrong(f'"{text}" is more than a domain', "Write the domain alone.")
        return str(jid.host)


@frozen
class Parsed(Kind[_T], Generic[_T]):
    """
    A string that something else reads.

    @ivar parse: Raises C{ValueError} for what it cannot read, or a L{StepError}.
    @ivar mend: The cure.
    @ivar inner: Reads it before.
    """

    parse: Callable[[str], _T]
    mend: str
    inner: Kind[str] = field(factory=Text)

    def describe(self) -> str:
        """See L{Kind.describe}."""
        return self.inner.describe()

    def read(self, value: object, place: Place) -> _T:
        """See L{Kind.read}."""
        text = self.inner.read(value, place)
        try:
            return self.parse(text)
        except StepError as error:
            raise place.named(error) from None
        except ValueError as problem:
            raise place.wrong(str(problem), self.mend) from None


@frozen
class Many(Kind[tuple[_T, ...]], Generic[_T]):
    """
    A list of strings.

    @ivar each: The kind of each.
    @ivar called: What these are called.
    """

    each: Kind[_T]
    called: str
    what = "a list of strings"

    def describe(self) -> str:
        """See L{Kind.describe}."""
        return f"a list of {self.called}"

    def read(self, value: object, place: Place) -> tuple[_T, ...]:
        """See L{Kind.read}."""
        every = _checked(value, list, self.what, place)
        if not all(isinstance(each, str) for each in every):
            raise place.wrong(f"it is not {self.what}", f"Write {self.what}.")
        return tuple(self.each.read(each, place) for each in every)


@frozen
class SecretOf(Kind[Secret]):
    """
    The secret in a key, or in the file that the same key with C{_file} names; one of them.

    @ivar mend: The cure of an empty one.
    """

    mend: str = "Give the secret of this Callbridge."
    what = "a string, or the path of a file that holds it alone"

    def keys(self, name: str) -> tuple[str, ...]:
        """See L{Kind.keys}."""
        return name, f"{name}_file"

    def missing(self, name: str) -> tuple[str, str]:
        """See L{Kind.missing}."""
        return "it is missing", f"Give either {name} or {name}_file."

    def take(self, table: Values, name: str, place: Place, given: Given) -> Secret:
        """See L{Kind.take}."""
        here, in_file = place.inner(name), place.inner(f"{name}_file")
        if name in table and f"{name}_file" in table:
            raise here.wrong(f"{name}_file is given as well", self.missing(name)[1])
        if name in table:
            return self.read(table[name], here)
        return self.read(
            self._of_file(PathTo().read(table[f"{name}_file"], in_file), in_file), here
        )

    def read(self, value: object, place: Place) -> Secret:
        """See L{Kind.read}."""
        text = _checked(value, str, Text.what, place)
        if not text:
            raise place.wrong("the secret is empty", self.mend)
        return Secret(text)

    def _of_file(self, path: Path, place: Place) -> str:
        try:
            return read_secret(path)
        except OSError as problem:
            mend = "Name a file that this user can read and that holds the secret alone."
            raise place.wrong(f"{path}: {problem.strerror}", mend_unread(problem, mend)) from None
        except Unreadable as problem:
            raise place.wrong(f"{path} {problem.problem}", problem.mend) from None


@frozen
class Section(Kind[_T], Generic[_T]):
    """A table of its own; left out, it is empty."""

    section: type[_T]
    what = "a table"

    def is_in(self, table: Values, name: str) -> bool:
        """Always: what is missing is said of its own keys."""
        return True

    def take(self, table: Values, name: str, place: Place, given: Given) -> _T:
        """See L{Kind.take}."""
        return self.read(table.get(name, {}), place.inner(name))

    def read(self, value: object, place: Place) -> _T:
        """See L{Kind.read}."""
        return read_section(self.section, _checked(value, dict, self.what, place), place)


class MaybeSection(Section[_T]):
    """A table of its own; left out, there is no such thing."""

    def is_in(self, table: Values, name: str) -> bool:
        """Whether it is there, be it empty."""
        return name in table


class Inline(Section[_T]):
    """A section whose keys are those of the table that it is in."""

    def keys(self, name: str) -> tuple[str, ...]:
        """See L{Kind.keys}."""
        return tuple(keys_of(self.section))

    def take(self, table: Values, name: str, place: Place, given: Given) -> _T:
        """See L{Kind.take}."""
        ours = {key: table[key] for key in self.keys(name) if key in table}
        return read_section(self.section, ours, place)


@frozen
class Tables(Kind[dict[str, _T]], Generic[_T]):
    """A table of tables that are alike, with names that the operator gives."""

    section: type[_T]
    what = "a table"

    def read(self, value: object, place: Place) -> dict[str, _T]:
        """See L{Kind.read}."""
        table: dict[str, Any] = _checked(value, dict, self.what, place)
        each = Section(self.section)
        return {name: each.read(inner, place.inner(name)) for name, inner in table.items()}


@frozen
class Variants(Kind[tuple[_V, ...]], Generic[_V]):
    """
    A list of tables, each of which says by its key C{kind} what it is.

    @ivar sections: By that word.
    """

    sections: Mapping[str, type[_V]]
    what = "a list of tables"

    def read(self, value: object, place: Place) -> tuple[_V, ...]:
        """See L{Kind.read}."""
        every = _checked(value, list, self.what, place)
        found: list[_V] = []
        for number, table in enumerate(every, 1):
            at = Place(place.file, f"{place.key}[{number}]")
            one = self._one(_checked(table, dict, "a table", at), at)
            if any(other.name == one.name for other in found):
                raise at.inner("name").wrong(
                    f'another is called "{one.name}" as well', "Give each a name of its own."
                )
            found.append(one)
        return tuple(found)

    def _one(self, table: Values, place: Place) -> _V:
        kind = Choice(*self.sections)
        if "kind" not in table:
            raise place.inner("kind").wrong("it is missing", f"Choose of {kind.describe()}.")
        section = self.sections[kind.read(table["kind"], place.inner("kind"))]
        rest = {key: value for key, value in table.items() if key != "kind"}
        one = read_section(section, rest, place)
        wrong = one.problem()
        if wrong is not None:
            key, problem, mend = wrong
            raise place.inner(key).wrong(problem, mend)
        return one
