"""The inputs of the machine of a component's registration; L{cms.xmpp.componentstates} has it."""

from __future__ import annotations

from typing import Protocol

from twisted.python.failure import Failure

from cms.configuration.tomlfile import Secret
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Stanza
from cms.xmpp.links import Link


class Inputs(Protocol):
    """What can happen to a component's stream before it is a link."""

    def shielded(self) -> None:
        """It is a plain listener."""

    def secured(self) -> None:
        """The TLS handshake is complete."""

    def header(self, start: StreamStart) -> None:
        """The peer opened its stream."""

    def stanza(self, stanza: Stanza) -> None:
        """The peer sent an element."""

    def welcomed(self) -> None:
        """The header names a component of ours."""

    def contested(self, secret: Secret, older: Link) -> None:
        """The secret is right, but the address has a link already."""

    def probed(self, secret: Secret, older: Link, alive: bool) -> None:
        """The older link was asked whether it is alive."""

    def resumes(self, secret: Secret, older: Link) -> None:
        """The secret is right, and the header names the link that has the address."""

    def proved(self, secret: Secret) -> None:
        """The secret is right and the address is free."""

    def resumed(self) -> None:
        """The older link has gone on over this connection."""

    def refused(self) -> None:
        """We ended the stream."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
