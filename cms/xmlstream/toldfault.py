"""
A fault that one side tells the other, for programs: its name in the catalogue, and for how
many seconds it holds.

A stream error carries it as an application-specific condition (RFC 6120 4.9.4).  A failure
of SASL has no place for one (RFC 6120 6.5), and clients take an element that they do not
know for the condition; there it is in attributes, which they ignore.  The text beside it is
for people, and nothing is read out of it.
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
    What a peer says; it may be anything.

    @ivar name: Empty where it tells none.
    @ivar seconds: 0 where it does not say.
    """

    name: str = ""
    seconds: int = 0


NONE = ToldFault()


def as_condition(fault: ToldFault) -> Element:
    """For a stream error."""
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
    """For a failure of SASL."""
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
