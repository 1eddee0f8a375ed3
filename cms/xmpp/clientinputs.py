"""The inputs of the machine of a client's negotiation; L{cms.xmpp.clientstates} has the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream.stanza import Stanza
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.resumption import Resumable


class Inputs(Protocol):
    """What can happen to a client's stream before it is bound."""

    def shielded(self) -> None:
        """It is a plain listener, where a proxy terminates TLS."""

    def begin_tls(self) -> None:
        """TLS begins, at once or because the client asked for it."""

    def secured(self) -> None:
        """The TLS handshake is complete."""

    def header(self) -> None:
        """The client opened a stream whose header is good."""

    def stanza(self, stanza: Stanza) -> None:
        """The client sent an element."""

    def came(self) -> None:
        """There is a Callbridge."""

    def nobody(self) -> None:
        """No Callbridge came in time."""

    def began(self) -> None:
        """The client began to log in."""

    def began_inline(self) -> None:
        """It began to log in by SASL2 (XEP-0388)."""

    def refused(self) -> None:
        """The log-in failed; the client may try again."""

    def logged_in(self) -> None:
        """The Callbridge has accepted the log-in."""

    def bind(self, full: JID, answer: Callable[[ClientSession], Stanza | None]) -> None:
        """The client's resource may be bound."""

    def resume(self, session: Resumable, answer: bytes) -> None:
        """The client gets back a session that it had."""

    def ended(self) -> None:
        """The stream is closed, by either side."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
