"""
The interface by which the server's protocol modules report events.

They do not know metrics; C{cms/xmpp/metrics.py} implements the interface.  Stanzas are not
reported here: streams count them themselves (L{cms.xmlstream.traffic}).
"""

from __future__ import annotations

from typing import Protocol

from cms.signalflow import Attempt, StepRecord
from cms.xmpp.links import Link


class Observer(Protocol):
    """Called as things happen; it must not raise."""

    def registration_step(self, attempt: Attempt, record: StepRecord) -> None:
        """A step of a component's registration began or ended."""
        ...

    def link_ended(self, link: Link) -> None:
        """A link that was up has ended."""
        ...

    def login_decided(self, seconds: float) -> None:
        """
        Step 12 ended on this side, with success or failure.

        @param seconds: Since the client's C{<auth/>}.
        """
        ...

    def login_refused(self, reason: str) -> None:
        """@param reason: A fault's name, or a SASL condition (RFC 6120 6.5)."""
        ...

    def login_ended(self, mechanism: str, result: str) -> None:
        """
        A client's attempt to log in ended.

        @param mechanism: As the client named it.
        @param result: C{success}, C{abandoned}, or a SASL condition.
        """
        ...

    def stream_refused(self, condition: str) -> None:
        """
        A client's stream was ended because of an error of the client.

        @param condition: Of RFC 6120 4.9.3; never a peer's own words.
        """
        ...


class NoObserver:
    """An observer that does nothing."""

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
