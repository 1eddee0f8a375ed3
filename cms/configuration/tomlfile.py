"""A configuration file, and a place in it that a complaint can name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cms import faults
from cms.signalflow import StepError
from cms.state.textencoding import Unreadable, plain_text

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


@frozen
class Place:
    """
    Where a value stands.

    @ivar key: With the tables that it is in, as C{tls.key}; empty for the file itself.
    """

    file: Path
    key: str = ""

    def inner(self, name: str) -> Place:
        """The place of a key of this table."""
        return Place(self.file, f"{self.key}.{name}" if self.key else name)

    def wrong(self, problem: str, mend: str) -> StepError:
        """The complaint about what stands here."""
        return faults.CONFIGURATION_VALUE.error(
            file=self.file, key=self.key, problem=problem, mend=mend
        )

    def named(self, error: StepError) -> StepError:
        """A failure that what stands here led to, with this place named."""
        cause = f"{self.file}: {self.key}: {error.cause}"
        seen = {**error.evidence, "key": self.key}
        return type(error)(error.fault, error.step, cause, error.cure, seen, mend=error.mend)


def read_toml(file: Path) -> dict[str, Any]:
    """
    What a file holds.

    @raise ConfigurationError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(plain_text(file.read_bytes()))
    except OSError as problem:
        raise faults.CONFIGURATION_FILE.error(file=file, problem=problem.strerror) from None
    except Unreadable as problem:
        raise faults.CONFIGURATION_ENCODING.error(
            file=file, problem=problem.problem, mend=problem.mend
        ) from None
    except ValueError as problem:  # TOMLDecodeError, and what int() says of 5,000 digits
        raise faults.CONFIGURATION_FILE.error(
            file=file, problem=f"it is not TOML: {problem}"
        ) from None
    except RecursionError:
        raise faults.CONFIGURATION_FILE.error(
            file=file, problem="it is not TOML: its lists or tables nest too deep"
        ) from None


def is_of_other_role(
    table: Mapping[str, object], ours: Iterable[str], others: Iterable[str]
) -> bool:
    """Whether a file has keys that only the other role's has, and none of ours."""
    return not any(key in table for key in ours) and any(key in table for key in others)
