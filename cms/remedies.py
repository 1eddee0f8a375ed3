"""
What people see when a fault happens, in the words that they search for, and the
command, record or setting that mends it, ready to be copied.

The third part of each entry of the catalogue in L{cms.errors} and
L{cms.doubts}, by its name.  Braces are filled in from the evidence.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Remedy:
    """
    @ivar symptoms: As logs, status pages and people word it, the most usual
        first.
    @ivar mend: Lines to copy; what is not known shows as C{<name>}.
    """

    symptoms: tuple[str, ...] = ()
    mend: str = ""


REMEDIES: dict[str, Remedy] = {}
