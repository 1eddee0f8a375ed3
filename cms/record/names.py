"""
What of a user's name is shown (docs/design/record.md).

A name that nobody has may be a password that was typed into the wrong field.
"""

from __future__ import annotations

from cms.signalflow import counted

MOST_SHOWN = 1_023


def shown_name(name: str, *, known: bool) -> str:
    """
    @param name: The prepared local part.
    @param known: Whether there is such a user.
    @return: The name; or of one that nobody has its first character and its length, which helps
        who knows what was meant, and nobody else.
    """
    if known or not name:
        return name[:MOST_SHOWN]
    return f"{name[0]}… ({counted(len(name), 'character')})"


def is_whole(shown: str) -> bool:
    """Whether what is shown is the name of a user."""
    return bool(shown) and "…" not in shown


def may_be(shown: str, name: str) -> bool:
    """Whether what is shown may be this name."""
    return shown in (name, shown_name(name, known=False))
