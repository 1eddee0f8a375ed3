"""
The parts of an entry of the catalogue: L{Fault}, the exceptions that it makes, and the sides
on which it can occur.

C{FAULT.error(...)} makes the exception; its class says who can act on it.  Cause and cure are
written once, in the entry.  The log, the status page and C{cms check} show the same object.
"""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from attrs import evolve, field, frozen

from cms.signalflow import Step, StepError, counted, printable


class ConfigurationError(StepError):
    """This machine's own settings or files are wrong."""


class DiscoveryError(StepError):
    """DNS did not lead to an address (steps 3 to 5)."""


class ConnectError(StepError):
    """No TCP connection could be made (step 6)."""


class TrustError(StepError):
    """The peer's certificate or TLS was refused (steps 7 and 8)."""


class RegistrationError(StepError):
    """The XMPP server did not accept the registration (steps 9 and 10)."""


class CredentialsRefused(RegistrationError):
    """The XMPP server refused this unique ID or secret: trying another target,
    or hurrying, would not help."""


class LinkError(StepError):
    """An active link ended (step 11)."""


class LoginError(StepError):
    """A client's log-in could not be served (steps 1 and 12)."""


class DirectoryFault(StepError):
    """A user directory cannot be asked, or cannot be believed (steps 2 and 12)."""


class StepWarning(StepError):
    """A warning: it works, but should be put right.  It never stops anything."""


class Side(enum.Flag):
    """
    Where a fault can occur.  C{/metrics} of a daemon has a series for each failure that
    it counts, and for no other.
    """

    LINK = enum.auto()
    """The Callbridge's attempts at its link, and the link: counted there."""
    CALLBRIDGE = enum.auto()
    """Other parts of a Callbridge: start, settings, API, status."""
    REGISTRATION = enum.auto()
    """The XMPP server, of a component and its link: counted there as C{registration}."""
    LOGIN = enum.auto()
    """The XMPP server, of a client's log-in: counted there as C{login}."""
    SERVER = enum.auto()
    """Other parts of an XMPP server: start, settings, API, status, checks of its own set-up."""
    CHECK = enum.auto()
    """C{cms check}."""
    COMMAND = enum.auto()
    """The other commands of C{cms}."""

    CONFIGURED = CALLBRIDGE | SERVER | CHECK | COMMAND
    """Wherever a configuration is read, with the files that it names."""


# Passed with the evidence, but our own words, not something seen.
_WORDS = ("advice", "mend")

_PLAIN = re.compile(r"[\w.:@%+,/=\[\]-]*")
_SHELL = re.compile(r"[a-z][a-z0-9_]*( [^=]|$)")  # a command; key = value is a setting


class Seen(str):
    """A piece of evidence in a text; C{{count:entry|entries}} is a number with its noun."""

    __slots__ = ()

    def __format__(self, nouns: str) -> str:
        noun, _, plural = nouns.partition("|")
        return counted(self, noun, plural) if noun else str(self)


class _Evidence(dict[str, str]):
    """Evidence that replaces a missing value by its name, for the reader to fill in."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


def _copied(template: str, seen: dict[str, str]) -> str:
    """
    The lines to copy, with the evidence filled in.  Evidence may hold text of peers, so values
    in shell commands are quoted; a value that cannot be quoted is left for the reader to
    fill in.
    """
    lines = []
    for line in template.split("\n"):
        command, mark, comment = line.partition("     # ")
        quotes = _SHELL.match(command) is not None and not set("\"'") & set(command)
        fit = {
            key: value if _PLAIN.fullmatch(value) else shlex.quote(value)
            for key, value in seen.items()
            if quotes or _PLAIN.fullmatch(value)
        }
        lines.append(
            command.format_map(_Evidence(fit)) + mark + comment.format_map(_Evidence(seen))
        )
    return "\n".join(lines)


@frozen
class Fault:
    """
    One entry of the catalogue.

    @ivar name: Stable, for C{cms explain} and alerts.
    @ivar kind: The exception that it makes; L{StepWarning} for a warning.
    @ivar step: The step at which it occurs; use L{at} if it occurs at another one.
    @ivar on: The sides on which it can occur.
    @ivar symptoms: As logs, status pages and people word it, the most usual first.
    @ivar cause: A format string over the evidence.
    @ivar cure: A format string over the evidence.
    @ivar mend: The command, record or setting that mends it, to be copied; a format string
        over the evidence.  C{<name>} in it stands for a value that is not known.
    """

    name: str
    kind: type[StepError] = field(repr=False)
    step: Step
    on: Side = field(repr=False, kw_only=True)
    symptoms: tuple[str, ...] = field(repr=False, kw_only=True)
    cause: str = field(repr=False, kw_only=True)
    cure: str = field(repr=False, kw_only=True)
    mend: str = field(repr=False, kw_only=True, default="")

    def error(self, **evidence: object) -> StepError:
        """
        The exception for this fault.

        @param evidence: What was seen, at least each name that the cause and
            the cure mention.
        @raise KeyError: when one of those is missing.
        """
        seen = {key: printable(str(value)) for key, value in evidence.items()}
        told = {key: Seen(value) for key, value in seen.items()}
        return self.kind(
            self.name,
            self.step,
            self.cause.format_map(told),
            self.cure.format_map(told),
            {key: value for key, value in seen.items() if key not in _WORDS},
            mend=_copied(self.mend, seen),
        )

    def at(self, step: Step) -> Fault:
        """The same entry at the step where it happened, if that is another one."""
        return evolve(self, step=step)

    @property
    def is_warning(self) -> bool:
        """Whether it is a warning and not a failure."""
        return issubclass(self.kind, StepWarning)


def whole(*steps: ModuleType) -> Mapping[str, Fault]:
    """
    The entries of these modules by name, not to be changed.

    @raise ValueError: two of them have the same name.
    """
    found: dict[str, Fault] = {}
    for step in steps:
        for value in vars(step).values():
            if isinstance(value, Fault) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two faults are named {value.name}")
    return MappingProxyType(found)
