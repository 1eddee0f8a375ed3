"""IQ requests of ours that wait for their answer (RFC 6120 8.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, exceptionFromStanza

from cms.xmlstream.stanza import Stanza


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
        self._open: dict[tuple[str, str | None], Deferred[Stanza]] = {}

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
            return _failed(RequestLost())
        if len(self._open) >= self._most:
            return _failed(TooManyRequests())
        identifier = f"c{next(self._ids)}"
        request.element["id"] = identifier
        key = (identifier, request.to)
        answer: Deferred[Stanza] = Deferred()
        self._open[key] = answer
        answer.addBoth(self._close, key)
        answer.addTimeout(timeout, self._clock)
        self._send(request)
        return answer

    def _close(self, result: object, key: tuple[str, str | None]) -> object:
        self._open.pop(key, None)
        return result

    def take(self, stanza: Stanza) -> bool:
        """Deliver an IQ answer; C{False} when nobody asked for it."""
        if not stanza.is_answer or stanza.id is None:
            return False
        answer = self._open.get((stanza.id, stanza.sender))
        if answer is None:
            return False
        if stanza.type == "error":
            answer.errback(Failure(_error(stanza)))
        else:
            answer.callback(stanza)
        return True

    def lost(self) -> None:
        """The stream has ended: nothing more will be answered."""
        self._lost = True
        for answer in list(self._open.values()):
            answer.errback(Failure(RequestLost()))


def _error(stanza: Stanza) -> StanzaError:
    try:
        error: StanzaError = exceptionFromStanza(stanza.element)
    except KeyError:  # a legacy code that twisted.words does not know
        return StanzaError("undefined-condition", type="cancel")
    return error


def _failed(error: Exception) -> Deferred[Stanza]:
    deferred: Deferred[Stanza] = Deferred()
    deferred.errback(Failure(error))
    return deferred
