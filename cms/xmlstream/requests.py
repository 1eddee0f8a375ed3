"""Our own IQ requests that wait for their answers (RFC 6120 8.2.3)."""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, exceptionFromStanza
from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.stanza import Stanza

SOON = 0.05  # seconds that a request may be late
_RANDOM = 12  # bytes of each id: a peer that knows one id must not guess another


class TooManyRequests(Exception):
    """Too many requests to the peer are unanswered, or the peer does not read them."""


class RequestLost(Exception):
    """The stream ended before the answer came."""


@frozen(eq=False)
class _Open:
    """
    A request that is not answered yet.

    @ivar asked: The address whose answer counts; C{None} for the server, or the account
        that the stream belongs to (RFC 6120 10.3.3).
    @ivar asking: The address that the answer must be for.
    """

    answer: Deferred[Stanza]
    due: float
    asked: str | None
    asking: str


class Requests:
    """
    The open requests of one stream.

    An answer counts only if its id, its sender and its addressee fit.  Stanzas of many
    users come over the stream.  A user could make the asked party answer him, with an id
    that he chose; that answer has another addressee.  Ids cannot be guessed.

    An answer without C{to} is for this end of the stream (RFC 6120 8.1.1.1, 10.3), because
    only the party at the other end can send one.

    @param own: The asker's address, if the request has none: the component's, or the
        client's account.  Answers to a client may be addressed to its resource.
    @param random: Makes that many unpredictable bytes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[Stanza], object],
        *,
        own: str,
        most: int = 10_000,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._send = send
        self._own = own
        self._most = most
        self._random = random
        self._lost = False
        self._open: dict[str, _Open] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> frozenset[str]:
        """The ids of those that are not answered."""
        return frozenset(self._open)

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
        identifier = self._random(_RANDOM).hex()
        request.identify(identifier)
        answer: Deferred[Stanza] = Deferred(lambda _: self._forget(identifier))
        due = self._clock.seconds() + timeout
        self._open[identifier] = _Open(answer, due, request.to, request.sender or self._own)
        self._watch(due)
        self._send(request)
        return answer

    def _forget(self, identifier: str) -> None:
        self._open.pop(identifier, None)

    def _watch(self, due: float) -> None:
        """One timer serves all requests, since most are answered long before they are due."""
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
        elif timer.getTime() > due:
            timer.cancel()
            self._timer = None
            self._watch(due)

    def _look(self) -> None:
        now = self._clock.seconds()
        for identifier, waiting in list(self._open.items()):
            if waiting.due <= now and identifier in self._open:
                self._forget(identifier)
                waiting.answer.errback(Failure(DeferredTimeout("no answer in time")))
        if self._open:  # one timer for many requests to a silent peer
            self._watch(max(min(w.due for w in self._open.values()), now + SOON))

    def take(self, stanza: Stanza) -> bool:
        """Deliver an IQ answer; C{False} if it answers no request of ours."""
        identifier = stanza.id
        if identifier is None or identifier not in self._open or not stanza.is_answer:
            return False
        waiting = self._open[identifier]
        if not (self._is_from(stanza, waiting.asked) and _is_for(stanza, waiting.asking)):
            return False
        self._forget(identifier)
        if stanza.type == "error":
            waiting.answer.errback(Failure(_error(stanza)))
        else:
            waiting.answer.callback(stanza)
        return True

    def _is_from(self, stanza: Stanza, asked: str | None) -> bool:
        sender = stanza.sender
        if sender == asked:
            return True
        if asked is not None:
            return _same(sender, asked)
        # RFC 6120 8.1.2.1: on a client's own stream the server speaks for the account too
        return sender is None or _is_home(sender, self._own)

    def lost(self) -> None:
        """The stream has ended: nothing more will be answered."""
        self._lost = True
        self._send = _nobody  # no cycle: the stream is freed without the garbage collector
        self.give_up()

    def give_up(self) -> None:
        """Wait for no answer to what was asked until now, as if the stream had ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        while self._open:
            waiting = self._open.pop(next(iter(self._open)))
            waiting.answer.errback(Failure(RequestLost()))


def _nobody(stanza: Stanza) -> None:
    """Stands for the stream's send when the stream has ended."""


def _is_for(stanza: Stanza, asking: str) -> bool:
    to = stanza.to
    if to is None or to == asking:
        return True
    addressee, own = _parsed(to), _parsed(asking)
    return addressee is not None and own in (addressee, addressee.userhostJID())


def _is_home(sender: str, own: str) -> bool:
    """Whether it is the server or the account of C{own}."""
    home, claimed = _parsed(own), _parsed(sender)
    if home is None or claimed is None:
        return False
    return bool(claimed.host == home.host) and claimed.user in (None, home.user)


def _same(one: str | None, other: str) -> bool:
    """Whether two addresses are the same after preparation."""
    address = None if one is None else _parsed(one)
    return address is not None and address == _parsed(other)


def _parsed(address: str) -> JID | None:
    try:
        return parse_jid(address)
    except MalformedJID:
        return None


def _error(stanza: Stanza) -> StanzaError:
    try:
        error: StanzaError = exceptionFromStanza(stanza.element)
    except KeyError:  # a legacy code that twisted.words does not know
        return StanzaError("undefined-condition", type="cancel")
    return error
