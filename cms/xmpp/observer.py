"""
What the server's protocol modules report of what they do.

They know nothing of figures: C{cms/xmpp/metrics.py} is one who observes.  What
happens with every stanza is not reported here; streams count for themselves
(L{cms.xmlstream.traffic}).
"""

from __future__ import annotations

from typing import Protocol

from cms.signalflow import Attempt, StepRecord
from cms.xmpp.links import Link


class Observer(Protocol):
    """Who is told, in the moment it happens; nothing that it raises is expected."""

    def registration_step(self, attempt: Attempt, record: StepRecord) -> None:
        """A step of a component's registration began or ended."""
        ...

    def link_ended(self, link: Link) -> None:
        """A link that was up has ended."""
        ...

    def login_decided(self, seconds: float) -> None:
        """
        Step 12 came to an end on this side, with success or without.

        @param seconds: Since the client's C{<auth/>}.
        """
        ...

    def login_refused(self, reason: str) -> None:
        """@param reason: A fault's name, or a SASL condition (RFC 6120 6.5)."""
        ...

    def login_ended(self, mechanism: str, result: str) -> None:
        """
        A client's try to log in came to an end.

        @param mechanism: As the client named it.
        @param result: C{success}, C{abandoned}, or a SASL condition.
        """
        ...

    def stream_refused(self, condition: str) -> None:
        """
        A client's stream was ended for what the client did.

        @param condition: Of RFC 6120 4.9.3; never a peer's own words.
        """
        ...


class NoObserver:
    """Nobody wants to know."""

    def registration_step(self, attempt: Attempt, record: StepRecord) -> None:
        """See L{Observer}."""

    def link_ended(self, link: Link) -> None:
        """See L{Observer}."""

    def login_decided(self, seconds: float) -> None:
        """See L{Observer}."""

    def login_refused(self, reason: str) -> None:
        """See L{Observer}."""

    def login_ended(self, mechanism: str, result: str) -> None:
        """See L{Observer}."""

    def stream_refused(self, condition: str) -> None:
        """See L{Observer}."""
