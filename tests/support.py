"""What the tests share: streams over memory, and a reader of what was sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import TestCase

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.words.xish.domish import Element

from cms.xmlstream import limits, ns
from cms.xmlstream.reader import AcknowledgementRead, Event, RequestRead, StanzaRead, TreeReader
from cms.xmlstream.stanza import Stanza

HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='{content}' xmlns:stream='" + ns.STREAMS + "'{rest}>"
)


def header(content: str = ns.COMPONENT, rest: str = "") -> bytes:
    """A stream header."""
    return HEADER.format(content=content, rest=rest).encode()


def element_of(event: Event) -> Stanza | None:
    """The element that a request or an acknowledgement was (XEP-0198 4)."""
    if isinstance(event, RequestRead):
        return Stanza(Element((ns.MANAGEMENT, "r")))
    if isinstance(event, AcknowledgementRead):
        return Stanza(Element((ns.MANAGEMENT, "a"), attribs={"h": str(event.handled)}))
    return None


class TwoClocks(Clock):
    """
    A clock with a wall clock beside it, which somebody may set.

    @ivar offset: What the wall clock is ahead of the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = 1_700_000_000.0

    def wall_seconds(self) -> float:
        """Seconds since the epoch."""
        return self.seconds() + self.offset


class MemoryTransport(StringTransport):
    """
    A transport that loses its connection when it is told to, as TCP does.

    Until L{stop_reading} its peer takes what is written at once.

    @ivar unread: Bytes that the peer has not taken.
    @ivar most_unread: The most that they ever were.
    """

    def __init__(self, host: str = "192.0.2.7", port: int = 40000) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, port))
        self.protocol: Any = None
        self.tls: Any = None
        self.lost = False
        self.reads = True
        self.unread = self.most_unread = 0
        self.bufferSize = 65_536

    def stop_reading(self) -> None:
        """The peer takes nothing more."""
        self.reads = False

    def read(self, *, once: bool = False) -> None:
        """It takes all that is here, and goes on, or not."""
        self.reads = not once
        if self.unread:
            self.unread = 0
            assert self.producer is not None
            self.producer.resumeProducing()

    def write(self, data: bytes) -> None:
        """As C{FileDescriptor} does."""
        super().write(data)
        if not self.reads:
            fitted = self.unread <= self.bufferSize
            self.unread += len(data)
            self.most_unread = max(self.most_unread, self.unread)
            if fitted and self.unread > self.bufferSize and self.producer is not None:
                self.producer.pauseProducing()

    def connect(self, protocol: Any) -> None:
        """Begin."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def startTLS(self, creator: object, normal: bool = True) -> None:
        """Remember that TLS was asked for; C{handshake} completes it."""
        self.tls = creator

    def handshake(self) -> None:
        """The TLS handshake succeeds."""
        self.protocol.handshakeCompleted()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It does not wait anyway."""

    def loseConnection(self) -> None:
        """Close after what was written."""
        super().loseConnection()
        self.lose()

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborting = True
        self.lose(ConnectionAborted())

    def lose(self, reason: Exception | None = None) -> None:
        """The connection goes away."""
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def take(self) -> str:
        """What was written since the last time."""
        text: str = self.value().decode()
        self.clear()
        return text


def stanzas(sent: str, content: str = ns.CLIENT) -> list[Stanza]:
    """The stanzas in what our side sent, with or without its stream header."""
    reader = TreeReader(limits.COMPONENT)
    if "<stream:stream" not in sent:
        reader.feed(header(content))
    return [e.stanza for e in reader.feed(sent.encode()) if isinstance(e, StanzaRead)]


def as_observer(note: Callable[[LogEvent], object]) -> ILogObserver:
    """A function as what a logger calls; any callable will do, whose interface says more."""
    return cast("ILogObserver", note)


def observe_log(test: TestCase, note: Callable[[LogEvent], object]) -> None:
    """Call C{note} with whatever is logged until the end of the test."""
    globalLogPublisher.addObserver(as_observer(note))
    test.addCleanup(globalLogPublisher.removeObserver, as_observer(note))


def new_folder(test: TestCase) -> Path:
    """A folder that is gone after the test, wherever it runs."""
    folder = TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


def one_stanza(xml: str, content: str = ns.CLIENT) -> Stanza:
    """A single stanza from text."""
    (stanza,) = stanzas(xml, content)
    return stanza
