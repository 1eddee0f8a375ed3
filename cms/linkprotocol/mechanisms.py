"""The SASL mechanisms that are called by their names."""

from __future__ import annotations

_NAMED = frozenset(
    {
        "ANONYMOUS",
        "EXTERNAL",
        "PLAIN",
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-512",
        "SCRAM-SHA-512-PLUS",
    }
)


def mechanism_label(name: str) -> str:
    """
    A mechanism's name for a figure or a record, of which there are only so many.

    @param name: As a client sent it.
    @return: C{other} where the client made it up.
    """
    return name if name in _NAMED else "other"
