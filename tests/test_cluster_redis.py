"""The connections to Redis, over a network in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import hiredis
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from cms.cluster.connecting import Connector, EngineSettings
from cms.cluster.engine import EngineAway, Entry, Member
from cms.cluster.inbox import AHEAD
from cms.cluster.redisengine import ANSWER_ENTRIES, ANSWER_SECONDS, RedisEngine
from cms.signalflow import StepError
from tests.fakenetwork import Network

HOST, PORT = "192.0.2.6", 6379
ENTRY = b"*1\r\n*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nd\r\n$2\r\nab\r\n"
CREATE = [b"XGROUP", b"CREATE"]
NOTHING = b"*-1\r\n"
INFO = b"redis_version:7.0.15\r\nrole:master\r\n"


def settings(**more: object) -> EngineSettings:
    """Of one Redis without TLS and password."""
    usual: dict[str, object] = {
        "file": "xmpp.toml",
        "shown": f"redis://{HOST}:{PORT}/0",
        "hosts": ((HOST, PORT),),
        "master": "",
        "database": 0,
        "tls": False,
        "user": "",
        "password": "",
        "trust": Path("/nowhere"),
    }
    return EngineSettings(**(usual | more))  # type: ignore[arg-type]


@implementer(IReactorPluggableNameResolver)
class Named(Network):
    """A network that knows addresses by themselves."""

    @property
    def nameResolver(self) -> Named:
        """Itself."""
        return self

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any) -> None:
        """It is an address."""
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        receiver.resolutionComplete()

    def installNameResolver(self, resolver: Any) -> Any:
        """Not asked for."""


class Scripted(Protocol):
    """
    A Redis that knows some commands.

    @ivar answers: To each.
    """

    answers: ClassVar[dict[bytes, bytes]] = {
        b"INFO": b"$%d\r\n%s\r\n" % (len(INFO), INFO),
        b"CLIENT": b"+OK\r\n",
        b"XGROUP": b"+OK\r\n",
        b"XADD": b"$3\r\n1-1\r\n",
    }

    def connectionMade(self) -> None:
        """Read commands."""
        self._reader = hiredis.Reader()
        self._silent = False
        self.took: list[list[bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        """Answer each, unless nothing is to be answered."""
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            assert isinstance(command, list), command
            self.took.append(command)
            silent, self._silent = self._silent, command == [b"CLIENT", b"REPLY", b"SKIP"]
            if not (silent or self._silent) and command[0] in self.answers:
                assert self.transport is not None
                self.transport.write(self.answers[command[0]])


class Jealous(Scripted):
    """One that does not let its user ask for silence."""

    answers: ClassVar[dict[bytes, bytes]] = {
        **Scripted.answers,
        b"CLIENT": b"-NOPERM this user has no permissions to run the 'client|reply' command\r\n",
    }


class ConnectionTests(SynchronousTestCase):
    """From start to stop."""

    def setUp(self) -> None:
        """Nobody listens yet."""
        self.network = Named()
        self.troubles: list[StepError] = []
        self.made: list[Scripted] = []
        self.engine = RedisEngine(
            self.network,
            Connector(self.network, settings()),
            domain="example.com",
            lease=6.0,
            random=Random(1).randbytes,
            jitter=Random(1),
        )
        self.engine.on_trouble.append(self.troubles.append)

    def test_connects(self) -> None:
        """It is tried until somebody is there."""
        self.network.refuse(HOST, PORT)
        self.engine.start()
        self.network.pump([0.1] * 20)
        self.assertEqual("engine-unreachable", self.troubles[0].fault)
        self.network.servers[HOST, PORT] = Scripted
        self.network.pump([0.1] * 40)
        self.assertTrue(self.engine.is_connected)
        self.successResultOf(self.stopping())
        self.assertFalse(self.engine.is_connected)

    def stopping(self) -> Deferred[None]:
        """The end of it."""
        return Deferred.fromCoroutine(self.engine.stop())

    def test_stopped_at_any_moment(self) -> None:
        """While it connects to who does not answer, waits for an answer, or between two tries."""
        for server, seconds in ((None, 0.5), (Protocol, 0.5), (None, 2.2)):
            self.setUp()
            if server is not None:
                self.network.servers[HOST, PORT] = server
            self.engine.start()
            self.network.pump([0.1] * round(seconds * 10))
            self.successResultOf(self.stopping())
            self.network.pump([0.1] * 50)
            self.assertFalse(self.engine.is_connected)

    def connect(self, kind: type[Scripted]) -> Scripted:
        """The engine is connected; what is at the other end of its commands."""

        def make() -> Scripted:
            self.made.append(kind())
            return self.made[-1]

        self.network.servers[HOST, PORT] = make
        self.engine.start()
        self.network.pump([0.1] * 10)
        self.assertTrue(self.engine.is_connected)
        return self.made[0]

    def append(self, number: int) -> list[Deferred[bool] | None]:
        """Entries for a member, and what is known of each."""
        member = Member("two", "", 7, {})
        sent = [self.engine.append(member, b"a", b"b") for _ in range(number)]
        self.network.pump([0.0] * 3)
        return sent

    def test_few_entries_are_answered(self) -> None:
        """One of many, or after a while: an answer to each would be a turn of the reactor more."""
        redis = self.connect(Scripted)
        redis.took.clear()
        first, *rest = self.append(ANSWER_ENTRIES)
        assert first is not None
        self.assertTrue(self.successResultOf(first))
        self.assertEqual([None] * (ANSWER_ENTRIES - 1), rest)
        entry = [b"XADD", b"cms:in:two:7", b"NOMKSTREAM", b"*", b"d", b"ab"]
        skip = [b"CLIENT", b"REPLY", b"SKIP"]
        self.assertEqual([entry, *[skip, entry] * (ANSWER_ENTRIES - 1)], redis.took)
        (next_,) = self.append(1)
        assert next_ is not None
        self.assertEqual([None], self.append(1))
        self.network.pump([ANSWER_SECONDS])
        (later,) = self.append(1)
        assert later is not None
        self.assertTrue(self.successResultOf(later))
        self.successResultOf(self.stopping())

    def test_silence_is_refused(self) -> None:
        """Then each is answered."""
        redis = self.connect(Jealous)
        for sent in self.append(3):
            assert sent is not None
            self.assertTrue(self.successResultOf(sent))
        self.assertNotIn([b"CLIENT", b"REPLY", b"SKIP"], redis.took)
        self.successResultOf(self.stopping())

    def read(self, after: bytes = b"0") -> Deferred[Sequence[Entry]]:
        """The next entries."""
        found = self.engine.read("one", 7, after)
        self.network.pump([0.0] * 3)
        return found

    def answer(self, text: bytes) -> None:
        """What waits for the inbox answers."""
        transport = self.made[-1].transport
        assert transport is not None
        transport.write(text)
        self.network.pump([0.0] * 3)

    def test_read_ahead(self) -> None:
        """Entries come without being asked for just then."""
        self.connect(Scripted)
        inbox = self.made[-1]
        read = self.read()
        group, key = b"1", b"cms:in:one:7"
        begun = [[b"XGROUP", b"DESTROY", key, b"0"], [*CREATE, key, group, b"0"]]
        self.assertEqual(begun, inbox.took[:2])
        asked = inbox.took[2:]
        self.assertEqual([asked[0]] * AHEAD, asked)
        self.assertEqual([b"XREADGROUP", b"GROUP", group], asked[0][:3])
        self.assertEqual([b"STREAMS", key, b">"], asked[0][-3:])
        inbox.took.clear()
        for number in range(AHEAD // 2):
            self.answer(ENTRY)
            self.assertEqual([(b"1-1", b"ab")], self.successResultOf(read))
            self.assertEqual([], inbox.took, number)
            read = self.read(b"1-1")
        self.assertEqual([asked[0]] * (AHEAD // 2), inbox.took)
        self.answer(NOTHING)
        self.assertEqual((), self.successResultOf(read))
        self.successResultOf(self.stopping())

    def test_nothing_for_long(self) -> None:
        """Each reading has its time after the one before; an engine that says nothing is away."""
        self.connect(Scripted)
        read = self.read()
        for _ in range(3 * AHEAD):
            self.network.pump([0.25] * 4)
            self.answer(NOTHING)
            self.successResultOf(read)
            read = self.read()
        self.assertEqual(1, self.engine.connections)
        self.network.pump([0.25] * 13)
        self.failureResultOf(read, EngineAway)
        self.network.pump([0.25] * 4)
        self.assertEqual(2, self.engine.connections)
        read = self.read(b"3-1")
        self.assertEqual([b"XGROUP", b"DESTROY", b"cms:in:one:7", b"1"], self.made[-1].took[0])
        self.assertEqual(
            [b"XGROUP", b"CREATE", b"cms:in:one:7", b"2", b"3-1"], self.made[-1].took[1]
        )
        self.successResultOf(self.stopping())
        self.network.pump([0.0])
        self.failureResultOf(read, EngineAway)

    def test_may_not_read(self) -> None:
        """Who cannot read his inbox is told so, and is not connected."""
        self.connect(Scripted)
        read = self.read()
        refused = b"-NOPERM this user has no permissions to run the 'xreadgroup' command\r\n"
        self.answer(refused * AHEAD)
        self.failureResultOf(read, EngineAway)
        self.assertEqual(["engine-refused"], [trouble.fault for trouble in self.troubles])
        self.assertFalse(self.engine.is_connected)
        self.successResultOf(self.stopping())

    def test_inbox_is_gone(self) -> None:
        """It is asked for anew, in vain, until the node has joined again."""
        self.connect(Scripted)
        read = self.read()
        self.answer(b"-NOGROUP No such key\r\n" * AHEAD)
        self.failureResultOf(read, EngineAway)
        self.made[-1].took.clear()
        read = self.read()
        self.assertEqual(b"CREATE", self.made[-1].took[1][1])
        self.assertEqual(1, self.engine.connections)
        self.successResultOf(self.stopping())
        self.network.pump([0.0])
        self.failureResultOf(read, EngineAway)
