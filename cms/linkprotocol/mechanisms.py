"""The SASL mechanisms whose names may be labels of metrics."""

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
    A mechanism's name as a label of a metric or a key of a record, both of which are bounded.

    @param name: As a client sent it.
    @return: C{other} for an unknown name.
    """
    return name if name in _NAMED else "other"
