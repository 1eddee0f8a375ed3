"""
A fault that one side tells the other, for programs: its name in the catalogue, how many
seconds it lasts, and its step in the signal flow.

A stream error carries it as an application-specific condition (RFC 6120 4.9.4), and so does
a stanza's (8.3.2).  A SASL
failure cannot hold one (RFC 6120 6.5), and clients would take an unknown element for the
condition.  So there it is in attributes, which clients ignore.  The text is for people
only; no program parses it.
"""

from __future__ import annotations

import re

from attrs import frozen
from twisted.words.xish.domish import Element

from cms.signalflow import StepError
from cms.xmlstream import ns

_NAME = (ns.FAULT, "name")
_SECONDS, _STEP = "seconds", "step"
_NUMBER = re.compile("[0-9]{1,6}", re.ASCII)


@frozen
class ToldFault:
    """
    A fault as a peer sent it; it may be anything.

    @ivar name: Empty if there is none.
    @ivar seconds: 0 if it is not told.
    @ivar step: Likewise.
    """

    name: str = ""
    seconds: int = 0
    step: int = 0


NONE = ToldFault()


def told(fault: StepError, seconds: int = 0) -> Element:
    """The condition for a fault that was found."""
    return as_condition(ToldFault(fault.fault, seconds, int(fault.step)))


def as_condition(fault: ToldFault) -> Element:
    """The condition for the error of a stream or a stanza."""
    element = Element((ns.FAULT, fault.name))
    for key, number in ((_SECONDS, fault.seconds), (_STEP, fault.step)):
        if number:
            element[key] = str(number)
    return element


def of_condition(condition: Element | None) -> ToldFault:
    """What a stream error's application-specific condition tells."""
    if condition is None or condition.uri != ns.FAULT:
        return NONE
    seconds, step = map(condition.getAttribute, (_SECONDS, _STEP))
    return ToldFault(condition.name, _number(seconds), _number(step))


def mark(failure: Element, fault: ToldFault) -> None:
    """Put it into a SASL failure."""
    failure[_NAME] = fault.name
    for key, number in ((_SECONDS, fault.seconds), (_STEP, fault.step)):
        if number:
            failure[ns.FAULT, key] = str(number)


def of_mark(failure: Element) -> ToldFault:
    """What a failure of SASL tells."""
    name = failure.getAttribute(_NAME)
    if not name:
        return NONE
    seconds, step = (failure.getAttribute((ns.FAULT, key)) for key in (_SECONDS, _STEP))
    return ToldFault(name, _number(seconds), _number(step))


def _number(text: str | None) -> int:
    return int(text) if text and _NUMBER.fullmatch(text) else 0
