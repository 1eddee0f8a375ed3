"""IQ requests of ours that wait for their answer (RFC 6120 8.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, exceptionFromStanza

from cms.xmlstream.stanza import Stanza

SOON = 0.05  # seconds that a request may be late
_Key = tuple[str, str | None]  # the id, and who was asked


class TooManyRequests(Exception):
    """The peer owes too many answers already."""


class RequestLost(Exception):
    """The stream ended before the answer came."""


class Requests:
    """
    The open requests of one stream.

    An answer counts only if both its id and its sender fit: wokkel's
    C{StreamManager} looks at the id alone, so that anybody who guesses it can
    answer for another.
    """

    def __init__(
        self, clock: IReactorTime, send: Callable[[Stanza], object], *, most: int = 10_000
    ) -> None:
        self._clock = clock
        self._send = send
        self._most = most
        self._ids = count(1)
        self._lost = False
        self._open: dict[_Key, tuple[Deferred[Stanza], float]] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, request: Stanza, timeout: float) -> Deferred[Stanza]:
        """
        Send a request and wait for its answer.

        @param timeout: In seconds.
        @return: Fires with the result; fails with C{StanzaError} when the
            answer is an error, C{TimeoutError} (twisted.internet.defer) when
            none comes, L{RequestLost} when the stream ends and
            L{TooManyRequests} when C{most} are open.
        """
        if self._lost:
            return fail(RequestLost())
        if len(self._open) >= self._most:
            return fail(TooManyRequests())
        identifier = f"c{next(self._ids)}"
        request.identify(identifier)
        key = (identifier, request.to)
        answer: Deferred[Stanza] = Deferred(lambda _: self._forget(key))
        due = self._clock.seconds() + timeout
        self._open[key] = answer, due
        self._watch(due)
        self._send(request)
        return answer

    def _forget(self, key: _Key) -> None:
        self._open.pop(key, None)

    def _watch(self, due: float) -> None:
        """One timer for all: most requests are answered long before they are due."""
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
        elif timer.getTime() > due:
            timer.cancel()
            self._timer = None
            self._watch(due)

    def _look(self) -> None:
        now = self._clock.seconds()
        for key, (answer, due) in list(self._open.items()):
            if due <= now and key in self._open:
                self._forget(key)
                answer.errback(Failure(DeferredTimeout("no answer in time")))
        if self._open:  # many, when a peer falls silent: so not for each of them
            self._watch(max(min(due for _, due in self._open.values()), now + SOON))

    def take(self, stanza: Stanza) -> bool:
        """Deliver an IQ answer; C{False} when nobody asked for it."""
        if not stanza.is_answer or stanza.id is None:
            return False
        waiting = self._open.pop((stanza.id, stanza.sender), None)
        if waiting is None:
            return False
        answer = waiting[0]
        if stanza.type == "error":
            answer.errback(Failure(_error(stanza)))
        else:
            answer.callback(stanza)
        return True

    def lost(self) -> None:
        """The stream has ended: nothing more will be answered."""
        self._lost = True
        self._send = _nobody  # the stream needs no garbage collector to go
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        while self._open:
            answer, _ = self._open.pop(next(iter(self._open)))
            answer.errback(Failure(RequestLost()))


def _nobody(stanza: Stanza) -> None:
    """There is nobody to send to."""


def _error(stanza: Stanza) -> StanzaError:
    try:
        error: StanzaError = exceptionFromStanza(stanza.element)
    except KeyError:  # a legacy code that twisted.words does not know
        return StanzaError("undefined-condition", type="cancel")
    return error
