"""
A TCP proxy on loopback that delays what it passes on, and cuts connections at random bytes.

Settings come as the first line of standard input, commands as further ones; what happens is
written to standard output, one JSON object a line.  Until the command C{cut} it only delays,
and so it does again after so many cuts.  A port that leads to several leads to any of them with
each connection.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

reactor: Any = _reactor
_KINDS = ("rst", "fin", "silent", "client gone", "server gone")  # and "dead", for ever
_MEAN_BYTES = 9_000  # of one direction, before a connection is cut
_MOST_DELAY = 0.01  # seconds for each piece
_MOST_SILENCE = 0.4  # seconds that a half-dead connection stays


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Cutter:
    """
    All connections, and how often which kind of cut was made.

    @param settings: What the test asked for; C{kinds} are those that may be made, C{silence}
        the most seconds that a half-dead connection stays, and C{least_bytes} are never cut.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.random = Random(settings["seed"])
        self.most = settings["cuts"]
        self.mean_bytes = settings.get("mean_bytes", _MEAN_BYTES)
        self.least_bytes = settings.get("least_bytes", 0)
        self.silence = settings.get("silence", _MOST_SILENCE)
        self.kinds = settings.get("kinds", _KINDS)
        self.is_cutting = False
        self.cuts = dict.fromkeys(self.kinds, 0)

    def more(self, settings: dict[str, Any]) -> None:
        """Cut from now on, as was asked for at first unless something else is asked for."""
        self.most = settings.get("cuts", self.most)
        self.silence = settings.get("silence", self.silence)
        self.kinds = settings.get("kinds", self.kinds)
        self.cuts = dict.fromkeys(self.kinds, 0)
        self.is_cutting = True

    def plan(self) -> tuple[int, int]:
        """For one connection: the direction, and after how many bytes of it it is cut."""
        more = int(self.random.expovariate(1 / self.mean_bytes))
        return self.random.randrange(2), self.least_bytes + more

    def note(self, kind: str) -> None:
        """One was cut."""
        self.cuts[kind] += 1
        if sum(self.cuts.values()) >= self.most:
            self.is_cutting = False
            tell("enough", cuts=self.cuts)


class Pair:
    """One connection of a client, and that to the server."""

    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self.ends: list[End | None] = [None, None]  # the client's, the server's
        self._passed = [0, 0]
        self._due = [0.0, 0.0]
        self._pieces: tuple[deque[bytes], deque[bytes]] = deque(), deque()
        self._is_cut = False
        self._plan = cutter.plan()

    def read(self, number: int, data: bytes) -> None:
        """Pass on what one end sent, a little later, as far as it gets."""
        if self._is_cut:
            return
        direction, after = self._plan
        cut = self._cutter.is_cutting and direction == number
        cut = cut and self._passed[number] + len(data) > after
        if cut:
            data = data[: max(0, after - self._passed[number])]
            self._is_cut = True
        self._passed[number] += len(data)
        now = reactor.seconds()
        delay = self._cutter.random.random() * _MOST_DELAY
        self._due[number] = due = max(self._due[number], now + delay)
        # Calls of the same moment come in no order, pieces do.
        self._pieces[number].append(data)
        reactor.callLater(due - now, self._write, number, cut)

    def _write(self, number: int, cut: bool) -> None:
        data = self._pieces[number].popleft()
        end = self.ends[1 - number]
        if end is not None and data:
            end.transport.write(data)
        if cut:
            kind = self._cutter.random.choice(self._cutter.kinds)
            self._cutter.note(kind)
            reactor.callLater(0.001, self._cut, kind)  # after all that was due before

    def _cut(self, kind: str) -> None:
        client, server = self.ends
        if kind == "dead":
            return  # whoever finds out ends it
        at_once = [client, server]
        later: list[End | None] = []
        if kind in ("silent", "client gone", "server gone"):
            at_once = {"silent": [], "client gone": [client], "server gone": [server]}[kind]
            later = [end for end in (client, server) if end not in at_once]
        for end in at_once:
            _end(end, abruptly=kind != "fin")
        if later:
            silence = self._cutter.random.random() * self._cutter.silence
            for end in later:
                reactor.callLater(silence, _end, end, abruptly=True)

    def lost(self, number: int, reason: Failure) -> None:
        """One end closed by itself: so does the other, after what is on its way."""
        self.ends[number] = None
        if not self._is_cut:
            abruptly = not reason.check(ConnectionDone)
            due = max(0.0, self._due[number] - reactor.seconds()) + 0.001
            other = self.ends[1 - number]
            reactor.callLater(due, _end, other, abruptly=abruptly)


def _end(end: End | None, *, abruptly: bool) -> None:
    if end is not None and end.transport is not None:
        if abruptly:
            end.transport.abortConnection()
        else:
            end.transport.loseConnection()


class End(Protocol):
    """One end of a pair: 0 is the client's, 1 the server's."""

    transport: Any

    def __init__(self, pair: Pair, number: int, port: int = 0) -> None:
        self._pair = pair
        self._number = number
        self._port = port

    def connectionMade(self) -> None:
        """A client's: connect to the server.  The server's: let the client speak."""
        self.transport.setTcpNoDelay(True)
        self._pair.ends[self._number] = self
        client = self._pair.ends[0]
        if self._number == 0:
            self.transport.pauseProducing()
            factory = ClientFactory.forProtocol(lambda: End(self._pair, 1))
            factory.noisy = False
            reactor.connectTCP("127.0.0.1", self._port, factory)
        elif client is None:
            self.transport.abortConnection()
        else:
            client.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """See L{Pair.read}."""
        self._pair.read(self._number, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See L{Pair.lost}."""
        self._pair.lost(self._number, reason)


class Commands(LineOnlyReceiver):
    """Standard input."""

    delimiter = b"\n"
    cutter: Cutter | None = None

    def lineReceived(self, line: bytes) -> None:
        """The settings, then commands."""
        said = json.loads(line)
        if self.cutter is None:
            self.cutter = cutter = Cutter(said)
            host = said.get("host", "127.0.0.1")
            for port, target in said["ports"]:
                factory = Factory.forProtocol(_front(cutter, target))
                factory.noisy = False
                reactor.listenTCP(port, factory, interface=host)
            tell("ready")
        elif said["do"] == "cut":
            self.cutter.more(said)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The test is over."""
        if reactor.running:
            reactor.stop()


def _front(cutter: Cutter, target: int | list[int]) -> Any:
    targets = [target] if isinstance(target, int) else target
    return lambda: End(Pair(cutter), 0, cutter.random.choice(targets))


if __name__ == "__main__":
    StandardIO(Commands())
    reactor.run()
