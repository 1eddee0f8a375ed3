"""Twisted's HTTP server, with limits."""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site

from cms.web.forwarded import HEADER, Forwarded
from cms.web.framing import BadFraming, Head
from cms.web.root import Root

MOST_BODY = 64 * 1024  # bytes of a request's body
MOST_RAW = 2 * MOST_BODY  # bytes of a body as it is sent, with sizes and extensions of chunks
MOST_HEADERS = 8 * 1024  # bytes of its head
IDLE = 30.0  # seconds that a connection may stay idle
DEADLINE = 30.0  # seconds for one whole request to arrive, the TLS handshake included


class LimitedRequest(Request):
    """A request whose body is short."""

    _refused = False
    content: BytesIO

    def __init__(self, channel: HTTPChannel, *arguments: Any, **named: Any) -> None:
        named["parsePOSTFormSubmission"] = False  # the route that expects a form reads it
        super().__init__(channel, *arguments, **named)

    def gotLength(self, length: int | None) -> None:
        """From the channel: the head is complete."""
        self.content = BytesIO()
        if length is not None and length > MOST_BODY:
            self._refuse()

    def getClientAddress(self) -> IAddress:
        """Of the client, if its proxy is believed; see L{cms.web.forwarded}."""
        connected: IAddress = super().getClientAddress()
        forwarded: Forwarded | None = cast("Any", self.site).forwarded
        if forwarded is None:
            return connected
        return forwarded.client_of(connected, self.requestHeaders.getRawHeaders(HEADER))

    def handleContentChunk(self, data: bytes) -> None:
        """From the channel: a part of the body."""
        if self._refused:
            return
        if self.content.tell() + len(data) > MOST_BODY:
            self._refuse()
        else:
            self.content.write(data)

    def upgrade(self, head: bytes, protocol: IProtocol) -> None:
        """
        Answer with these bytes, which switch to another protocol (RFC 9110 7.8).  When the
        request is finished, the connection is that protocol's.  The request must have no body,
        and must be finished before anything else is read.
        """
        channel: Any = self.channel
        self.setResponseCode(101)  # for the log
        self.startedWriting = 1  # so that nothing else is
        channel.transport.write(head)
        channel.successor, channel.client = protocol, self.getClientAddress()

    def _refuse(self) -> None:
        """Answer before the body is complete, and ignore the rest."""
        self._refused = True
        channel: Any = self.channel
        raw = channel.site.too_long
        channel.deaf = True
        channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\n"
            b"content-type: %b\r\ncontent-length: %d\r\n\r\n"
            % (raw.content_type.encode(), len(raw.body))
            + raw.body
        )
        channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """From the channel: the body is complete."""
        if not self._refused:
            super().requestReceived(command, path, version)


class LimitedChannel(HTTPChannel):
    """
    A connection with time limits for requests; an incomplete request is not processed.

    @ivar deaf: Whether everything that comes is ignored.
    @ivar successor: To whom the connection belongs after the request that is being answered.
    @ivar client: From whom that request came.
    """

    totalHeadersSize = MOST_HEADERS
    maxHeaders = 100
    abortTimeout = 5
    deaf = False
    successor: IProtocol | None = None
    client: IAddress | None = None
    _handed_over = False
    _head: Head | None = None
    _raw = 0
    _unfinished = b""
    _working = False
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """The first request is due."""
        super().connectionMade()
        self._expect()

    def dataReceived(self, data: bytes) -> None:
        """Part of a request."""
        if self.deaf:
            return
        if not self._working:
            self._expect()
        unfinished, self._unfinished = self._unfinished, b""
        super().dataReceived(unfinished + data)
        if not self.line_mode or self.deaf:
            return
        self._unfinished = self.clearLineBuffer()
        if b"\n" in self._unfinished:  # alone, or it would have ended a line
            self._refuse()

    def lineReceived(self, line: bytes) -> None:
        """A line of a head.  It is checked before Twisted does, which reads on after errors."""
        if self.deaf:
            return
        try:
            if self._head is not None:
                self._head.add(line) if line else self._head.end()
            elif line and self.persistent:
                self._head = Head.begin(line)
                line = self._head.line
        except BadFraming:
            self._refuse()
        else:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Part of a body, or data that came while a request is processed."""
        if self.deaf:
            return
        if self._handed_over:
            assert self.successor is not None  # noqa: S101 - it is who has the connection
            self.successor.dataReceived(data)  # it came in the same read
            return
        if not self._working:
            self._raw += len(data)
            if self._raw > MOST_RAW:
                self._refuse()
                return
        super().rawDataReceived(data)

    def _refuse(self) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.loseConnection()

    def loseConnection(self) -> None:
        """
        Hear no more: Twisted, which refuses requests by this too, would read on after it
        and work on what it reads.
        """
        self.deaf = True
        super().loseConnection()

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.callLater(DEADLINE, self._late)

    def _late(self) -> None:
        self._deadline = None
        self.forceAbortClient()

    def allContentReceived(self) -> None:
        """A request is complete."""
        self._expect_no_more()
        self._head, self._raw, self._working = None, 0, True
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """It is answered."""
        if self.successor is not None:
            self._hand_over(self.successor)
            return
        if self.persistent:
            self._working = False
        super().requestDone(request)

    def _hand_over(self, protocol: IProtocol) -> None:
        """HTTP has ended: its limits, its producer, and its share of the thread's time."""
        transport: Any = self.transport
        self._handed_over = True
        self.requests.clear()
        transport.unregisterProducer()
        network = transport.hand_over(protocol)
        if self.client != network.getPeer():  # its proxy says for whom it speaks
            network.getPeer = lambda client=self.client: client
        protocol.makeConnection(network)
        self.transport = None

    def _expect_no_more(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The end."""
        self._expect_no_more()
        super().connectionLost(reason)


class LimitedSite(Site):
    """
    A site of such connections.  The root writes the access log.

    @ivar too_long: See L{cms.web.application.Application}.
    @ivar forwarded: Finds the clients of proxies, where these name them in a header.
    """

    protocol = LimitedChannel  # type: ignore[assignment]
    requestFactory = LimitedRequest
    noisy = False

    def __init__(self, root: Root, reactor: Any, forwarded: Forwarded | None = None) -> None:
        super().__init__(root, timeout=IDLE, reactor=reactor)
        self.forwarded = forwarded
        self.too_long = root.application.too_long
        self.displayTracebacks = False

    def log(self, request: object) -> None:
        """Does nothing: see L{cms.web.root.Root}."""
