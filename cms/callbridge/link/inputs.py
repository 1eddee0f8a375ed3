"""
What can happen to the link, and what it is made of.

L{cms.callbridge.link.machine} is the table of the inputs, L{cms.callbridge.link.core} what
they bring about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from cms.callbridge.config import LinkSettings
from cms.callbridge.link.managedstream import Registrant
from cms.callbridge.link.registration import ComponentRegistration
from cms.discovery.lookup import Found, Target
from cms.xmlstream.stanza import Stanza


class Discovery(Protocol):
    """Finds targets and addresses: L{cms.discovery.lookup.Finder}."""

    def targets(self, domain: str) -> Deferred[Found]:
        """Step 4."""
        ...

    def addresses(self, target: Target) -> Deferred[Found]:
        """Step 5."""
        ...


class Connector(Protocol):
    """Step 6: a stream to one of a target's addresses."""

    def connect(
        self,
        registrant: Registrant,
        settings: LinkSettings,
        target: Target,
        addresses: tuple[str, ...],
        last: tuple[str, ...],
    ) -> Deferred[tuple[ComponentRegistration, str]]:
        """Fires with the stream and the address; fails with C{ConnectError}."""
        ...


class Traffic(Protocol):
    """The user of an active link: L{cms.callbridge.link.handlers.LinkTraffic}."""

    def sent_before(self, stream: ComponentRegistration, stanzas: Sequence[bytes]) -> None:
        """
        The link before this one ended with these, which the server never got; L{link_up}
        follows.
        """

    def link_up(self, stream: ComponentRegistration) -> None:
        """The link is active."""

    def link_down(self) -> None:
        """It has ended."""

    def received(self, stanza: Stanza) -> None:
        """The server sent a stanza."""


class Inputs(Protocol):
    """The inputs of the machine."""

    # from the owner

    def start(self) -> None:
        """The owner wants a link."""

    def halt(self) -> None:
        """End the attempt or the link."""

    # from what the core does

    def begin(self) -> None:
        """Begin an attempt."""

    def found(self) -> None:
        """Steps 3 and 4 are done: there is a target to try."""

    def broken(self) -> None:
        """The connection of an active link was lost, and the link can be resumed."""

    def again(self) -> None:
        """The server could not be reached for that; there is time for another attempt."""

    def resumed(self) -> None:
        """The link goes on over a new connection."""

    def resolved(self, found: Found) -> None:
        """Step 5 is done: it has addresses."""

    def connected(self, stream: ComponentRegistration) -> None:
        """Step 6 is done."""

    def registered(self) -> None:
        """Step 10 is done."""

    def confirmed(self) -> None:
        """The server has all that it asked for."""

    def try_next(self) -> None:
        """This target failed and there is another."""

    def rest(self) -> None:
        """No target is left in this attempt, or the link ended."""

    def halted(self) -> None:
        """Everything has ended, and no attempt follows."""
