"""
The tables of docs/configuration.md, made of the classes that the files are read by.

    python -m cms.configuration.document docs/configuration.md

writes them anew.  The page itself says where a table stands, and of which class it is::

    <!-- keys: cms.xmpp.config.XmppConfig -->
    (the table)
    <!-- end of keys -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import NOTHING

from cms.configuration.kinds import Inline, Section
from cms.configuration.section import Setting, settings_of

_PLACE = re.compile(r"(<!-- keys: ([\w.]+)\.(\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_HEAD = "| key | default | values | meaning |\n| --- | --- | --- | --- |\n"


def page(text: str) -> str:
    """A page with its tables as they are to be now."""

    def made(found: re.Match[str]) -> str:
        section = getattr(import_module(found[2]), found[3])
        return f"{found[1]}{_HEAD}{''.join(rows(section))}{found[4]}"

    return _PLACE.sub(made, text)


def rows(section: type, prefix: str = "") -> Iterator[str]:
    """A line of the table for each key; keys of inner tables come after the others."""
    inner: list[tuple[type, str]] = []
    for _, name, made in settings_of(section):
        if isinstance(made.kind, Inline):
            yield from rows(made.kind.section, prefix)
        elif isinstance(made.kind, Section):
            inner.append((made.kind.section, f"{prefix}{name}."))
        else:
            keys = ", ".join(f"`{prefix}{key}`" for key in made.kind.keys(name))
            default, meaning = _default(made), f"{made.kind.unit} {made.meaning}".strip()
            if made.why:
                meaning += f". Why {default}: {made.why}"
            cells = keys, default, made.kind.describe(), meaning
            yield f"| {' | '.join(cells)} |\n"
    for one, before in inner:
        yield from rows(one, before)


def _default(made: Setting) -> str:
    if made.shown is not None:
        return made.shown
    return "required" if made.default is NOTHING else _toml(made.default)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"{value:.10g}"
    return f'`"{value}"`' if isinstance(value, str) else f"`{list(value)}`"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        file = Path(argument)
        file.write_text(page(file.read_text("utf-8")), "utf-8")
