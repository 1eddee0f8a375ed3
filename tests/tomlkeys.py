"""The keys of a configuration file, and what may be written for one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any

from hypothesis import strategies as st

from cms.configuration.kinds import Inline, Section
from cms.configuration.section import settings_of


def every_key(section: type, prefix: str = "") -> Iterator[str]:
    """All keys, with the tables that they are in."""
    for _, name, made in settings_of(section):
        if isinstance(made.kind, Section) and not isinstance(made.kind, Inline):
            yield from every_key(made.kind.section, f"{prefix}{name}.")
        else:
            yield from (f"{prefix}{key}" for key in made.kind.keys(name))


def changed(table: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of a file's tables with another value for one key."""
    first, _, rest = key.partition(".")
    inner = table.get(first, {})
    return {**table, first: changed(inner, rest, value) if rest else value}


_LEAVES = (
    st.text(max_size=30)
    | st.sampled_from(["", "/", "\0", "[::1]", "a" * 5_000, "tcp:1", "unix:/x", "127.0.0.1:x"])
    | st.integers()
    | st.sampled_from([10**30, 10**400, -(10**400)])
    | st.floats()
    | st.booleans()
    | st.sampled_from([datetime.now(UTC), date(1, 1, 1), time(1)])
)
# What tomllib makes of a file.
TOML_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
