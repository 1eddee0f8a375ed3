"""
A fault that one side tells the other, for programs: its name in the catalogue, and how many
seconds it lasts.

A stream error carries it as an application-specific condition (RFC 6120 4.9.4).  A SASL
failure cannot hold one (RFC 6120 6.5), and clients would take an unknown element for the
condition.  So there it is in attributes, which clients ignore.  The text is for people
only; no program parses it.
"""

from __future__ import annotations

import re

from attrs import frozen
from twisted.words.xish.domish import Element

from cms.xmlstream import ns

_NAME = (ns.FAULT, "name")
_SECONDS = "seconds"
_NUMBER = re.compile("[0-9]{1,6}", re.ASCII)


@frozen
class ToldFault:
    """
    A fault as a peer sent it; it may be anything.

    @ivar name: Empty if there is none.
    @ivar seconds: 0 if it is not told.
    """

    name: str = ""
    seconds: int = 0


NONE = ToldFault()


def as_condition(fault: ToldFault) -> Element:
    """The condition for a stream error."""
    element = Element((ns.FAULT, fault.name))
    if fault.seconds:
        element[_SECONDS] = str(fault.seconds)
    return element


def of_condition(condition: Element | None) -> ToldFault:
    """What a stream error's application-specific condition tells."""
    if condition is None or condition.uri != ns.FAULT:
        return NONE
    return ToldFault(condition.name, _number(condition.getAttribute(_SECONDS)))


def mark(failure: Element, fault: ToldFault) -> None:
    """Put it into a SASL failure."""
    failure[_NAME] = fault.name
    if fault.seconds:
        failure[ns.FAULT, _SECONDS] = str(fault.seconds)


def of_mark(failure: Element) -> ToldFault:
    """What a failure of SASL tells."""
    name = failure.getAttribute(_NAME)
    if not name:
        return NONE
    return ToldFault(name, _number(failure.getAttribute((ns.FAULT, _SECONDS))))


def _number(text: str | None) -> int:
    return int(text) if text and _NUMBER.fullmatch(text) else 0
