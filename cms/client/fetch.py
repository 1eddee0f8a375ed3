"""Single requests of HTTP, as the page in a browser makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

MOST_BODY = 256 * 1024  # bytes of an answer that are read


class NoAnswer(Exception):
    """There was no answer, or none that is HTTP; the text says why."""


@frozen
class Answer:
    """
    An answer.

    @ivar headers: The first of each, by the name in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@implementer(IAgentEndpointFactory)
class Fetcher:
    """
    Makes requests to one server.

    @param connect: Makes an endpoint for each connection.
    @param timeout: Seconds for each request.
    """

    def __init__(
        self, reactor: Any, connect: Callable[[], IStreamClientEndpoint], timeout: float
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._timeout = timeout
        self._agent = Agent.usingEndpointFactory(reactor, self)

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        """From Twisted."""
        return self._connect()

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """
        Make a request.

        @raise NoAnswer: there is none in time.
        """
        sent = Headers({"connection": ["close"]})
        for name, value in (headers or {}).items():
            sent.addRawHeader(name, value)
        asking = Deferred.fromCoroutine(self._ask(method, url, sent, _Sent(body) if body else None))
        timer = self._reactor.callLater(self._timeout, asking.cancel)
        try:
            return await asking
        except Exception as problem:
            if not timer.active():
                raise NoAnswer(f"no answer within {self._timeout:g} s") from None
            if isinstance(problem, CancelledError):
                raise  # by whoever asked
            raise NoAnswer(_words(problem)) from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, method: str, url: str, headers: Headers, body: _Sent | None) -> Answer:
        response: Any = await self._agent.request(method.encode(), url.encode(), headers, body)
        found = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        read = _Body()
        response.deliverBody(read)
        return Answer(response.code, found, await read.over)


@implementer(IBodyProducer)
class _Sent:
    """A short body, sent at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is sent already."""

    resumeProducing = stopProducing = pauseProducing


class _Body(Protocol):
    """Collects a body up to its limit."""

    def __init__(self) -> None:
        self._read = b""
        self.over: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._read += data
        if len(self._read) >= MOST_BODY:
            self._end(self._read[:MOST_BODY])
            transport: Any = self.transport
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self._end(self._read)
        elif not self.over.called:
            self.over.errback(reason)

    def _end(self, body: bytes) -> None:
        if not self.over.called:
            self.over.callback(body)


def _words(problem: Exception) -> str:
    """The reason that is in the middle of Twisted's own."""
    reasons = getattr(problem, "reasons", None)
    if reasons:
        problem = reasons[0].value
    return str(problem).rstrip(".") or type(problem).__name__
