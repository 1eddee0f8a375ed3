"""
Configuration files, read strictly.

Each getter takes a key away; what is left at the end is unknown.  Every
complaint names the file, the key and the cure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen

from cms import faults
from cms.signalflow import StepError
from cms.state.textencoding import Unreadable, plain_text, read_secret
from cms.xmlstream.jid import MalformedJID, parse_jid

_T = TypeVar("_T")
# The keys that one role's file has and the other's never.
ONLY_CALLBRIDGE = (
    *("unique_name", "shared_secret", "shared_secret_file"),
    *("component_address", "server_address"),
)
ONLY_XMPP_SERVER = ("hostname", "callbridges")


@frozen
class Secret:
    """A shared secret, which never shows itself."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "(secret)"


class Table:
    """
    One table of a TOML file.

    @ivar file: The file, for messages.
    """

    def __init__(self, file: Path, values: dict[str, Any], prefix: str = "") -> None:
        self.file = file
        self._values = dict(values)
        self._prefix = prefix

    @classmethod
    def read(cls, file: Path) -> Table:
        """
        @raise ConfigurationError: the file cannot be read, or is not TOML.
        """
        try:
            return cls(file, tomllib.loads(plain_text(file.read_bytes())))
        except OSError as problem:
            raise faults.CONFIGURATION_FILE.error(file=file, problem=problem.strerror) from None
        except Unreadable as problem:
            raise faults.CONFIGURATION_ENCODING.error(
                file=file, problem=problem.problem, mend=problem.mend
            ) from None
        except tomllib.TOMLDecodeError as problem:
            raise faults.CONFIGURATION_FILE.error(
                file=file, problem=f"it is not TOML: {problem}"
            ) from None

    def wrong(self, key: str, problem: str, mend: str) -> StepError:
        """The complaint about a key."""
        return faults.CONFIGURATION_VALUE.error(
            file=self.file, key=self._prefix + key, problem=problem, mend=mend
        )

    def _take(self, key: str, kind: type[_T], what: str, default: _T | None) -> _T | None:
        value = self._values.pop(key, default)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.wrong(key, f"it is not {what}", f"Write {what}.")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default the key must be there."""
        value = self._take(key, str, "a string in quotes", default)
        if value is None:
            raise self.wrong(key, "it is missing", "Add it; docs/configuration.md describes it.")
        return value

    def has(self, key: str) -> bool:
        """Whether the key is there, and not yet taken."""
        return key in self._values

    def is_of_other_role(self, ours: Iterable[str], others: Iterable[str]) -> bool:
        """Whether it has keys that only the other role's file has, and none of ours."""
        return not any(map(self.has, ours)) and any(map(self.has, others))

    def flag(self, key: str, *, default: bool) -> bool:
        """C{true} or C{false}."""
        return bool(self._take(key, bool, "true or false", default))

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        """A number within bounds."""
        value = self._take(key, (int | float), "a number", default)  # type: ignore[arg-type]
        if not least <= value <= most:  # type: ignore[operator]
            raise self.wrong(key, f"{value} is out of range", f"Choose from {least} to {most}.")
        return float(value)  # type: ignore[arg-type]

    def texts(self, key: str) -> list[str]:
        """A list of strings, empty when the key is left out."""
        values = self._take(key, list, "a list of strings", []) or []
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "it is not a list of strings", "Write a list of strings.")
        return list(values)

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in choices:
            raise self.wrong(key, f'"{value}" is none of them', f"Choose of {', '.join(choices)}.")
        return value

    def path(self, key: str) -> Path | None:
        """A path, counted from the folder of the file."""
        value = self._take(key, str, "a path in quotes", None)
        return None if value is None else self.file.parent / value

    def domain(self, key: str, default: str | None = None) -> str:
        """A domain, prepared as the domain part of an address (RFC 6122 2.2)."""
        text = self.text(key, default)
        if not text.strip("."):
            raise self.wrong(key, "it is empty", "Write a domain name.")
        try:
            jid = parse_jid(text.rstrip("."))
        except MalformedJID as problem:
            raise self.wrong(key, f'"{text}": {problem}', "Write a domain name.") from None
        if jid.user is not None or jid.resource is not None:
            raise self.wrong(key, f'"{text}" is more than a domain', "Write the domain alone.")
        return str(jid.host)

    def parsed(self, key: str, value: str, parse: Callable[[str], _T], mend: str) -> _T:
        """
        What C{parse} makes of a value.

        @raise ConfigurationError: when it raises C{ValueError}.
        """
        try:
            return parse(value)
        except ValueError as problem:
            raise self.wrong(key, str(problem), mend) from None

    def secret(self, key: str) -> Secret:
        """The secret in C{key}, or in the file that C{key_file} names; one of them."""
        value = self._take(key, str, "a string in quotes", None)
        path = self.path(f"{key}_file")
        mend = f"Give either {key} or {key}_file."
        if (value is None) == (path is None):
            problem = "it is missing" if value is None else f"{key}_file is given as well"
            raise self.wrong(key, problem, mend)
        if path is not None:
            value = self._secret_of(f"{key}_file", path)
        if not value:
            raise self.wrong(key, "the secret is empty", "Give the secret of this Callbridge.")
        return Secret(value)

    def _secret_of(self, key: str, path: Path) -> str:
        try:
            return read_secret(path)
        except OSError as problem:
            mend = "Name a file that this user can read and that holds the secret alone."
            raise self.wrong(key, f"{path}: {problem.strerror}", mend) from None
        except Unreadable as problem:
            raise self.wrong(key, f"{path} {problem.problem}", problem.mend) from None

    def table(self, key: str) -> Table:
        """A table within this one, empty when it is left out."""
        values = self._take(key, dict, "a table", {}) or {}
        return Table(self.file, values, f"{self._prefix}{key}.")

    def tables(self) -> dict[str, Table]:
        """All that is left, each a table."""
        return {key: self.table(key) for key in list(self._values)}

    def finish(self) -> None:
        """
        @raise ConfigurationError: a key is left that nobody asked for.
        """
        for key in self._values:
            raise self.wrong(key, "this key is not known", "Correct its spelling, or remove it.")
