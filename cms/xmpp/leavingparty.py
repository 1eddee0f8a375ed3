"""
What a link needs so that it can go to another server: it keeps what others have for it, and knows
when all before that was acknowledged (docs/design/drain.md).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.words.protocols.jabber.error import StreamError

from cms.xmlstream import managementelements as elements
from cms.xmlstream.flow import Party
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.management import Ledger
from cms.xmlstream.requests import Requests
from cms.xmlstream.wire import Wire
from cms.xmpp.componentpolicy import ComponentPolicy


class LeavingParty(Party):
    """
    The party of a link.

    @ivar leaves: Whether its component was told to go to another server.
    """

    policy: ComponentPolicy
    wire: Wire
    requests: Requests
    leaves = False
    _keepalive: Keepalive
    _previd: str | None
    _held: Deferred[None] | None = None  # while it holds back
    _left = 0  # of what had been sent before, not acknowledged

    @abstractmethod
    def end_attempt(self, why: str) -> None:
        """See L{ComponentLink<cms.xmpp.componentlink.ComponentLink>}."""

    @abstractmethod
    def shut_down(self) -> None:
        """End it, with C{system-shutdown}."""

    @abstractmethod
    def wait_for_another(self) -> None:
        """It has no connection: it ends if none comes in time."""

    @property
    def previd(self) -> str | None:
        """The id by which its component asks for it, if it manages its link."""
        return self._previd

    @property
    def is_away(self) -> bool:
        """It has no connection now, and may be resumed."""
        return self.is_open and self.carrier is None

    # before it leaves

    def hold_back(self) -> Deferred[None]:
        """
        Keep what others have for it from now on.

        @return: Fires when all that was sent before is acknowledged.
        """
        self._pause(self.clock.seconds())
        held: Deferred[None] = Deferred()
        self._held = held
        self._left = 0 if self.ledger is None else self.ledger.unacknowledged
        if not self._left:
            return succeed(None)
        self.ask()
        return held

    def hold_no_more(self) -> None:
        """It stays after all."""
        if self._held is not None:
            self._held = None
            if not self._blocked:
                self.resume()

    def resume(self) -> None:
        """See L{Party.resume}; only what is ours leaves meanwhile."""
        if self._held is None:
            super().resume()
            return
        self._blocked = False
        if self._backlog is not None:
            self._out.write(self._out.join(self._backlog.take_first()))

    def acknowledged(self, ledger: Ledger, handled: int) -> None:
        """See L{Party.acknowledged}."""
        before = ledger.unacknowledged
        super().acknowledged(ledger, handled)
        if self._held is not None and self._left:
            self._left = max(0, self._left - (before - ledger.unacknowledged))
            if not self._left:
                self._held.callback(None)

    # when it does

    def depart(self) -> Callable[[], object]:
        """
        Hear its connection no more.  From now on it is away, until it is at another server.

        @return: Ends the connection, and says what was handled until now.
        """
        wire, ledger = self.wire, self.ledger
        assert ledger is not None  # noqa: S101 - it has an id
        self._held = None
        self._keepalive.stop()
        self.detach()
        self.requests.lost()
        self.end_attempt("the server is drained")
        self.wait_for_another()
        wire.dismiss(None)

        def close() -> None:
            wire.write(elements.acknowledgement(ledger.handled))
            wire.close(StreamError("system-shutdown"))

        return close

    def moved(self) -> list[bytes]:
        """
        It is at another server; what was sent here and not acknowledged comes back.

        @return: What waits for it.
        """
        ledger = self.ledger
        waiting = self.take_stanzas()[0 if ledger is None else ledger.unacknowledged :]
        self.shut_down()
        return waiting
