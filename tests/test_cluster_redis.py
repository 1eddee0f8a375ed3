"""The connections to Redis, over a network in memory."""

from __future__ import annotations

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
from cms.cluster.engine import Member
from cms.cluster.redisengine import ANSWER_ENTRIES, ANSWER_SECONDS, RedisEngine
from cms.signalflow import StepError
from tests.fakenetwork import Network

HOST, PORT = "192.0.2.6", 6379
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
        made: list[Scripted] = []

        def make() -> Scripted:
            made.append(kind())
            return made[-1]

        self.network.servers[HOST, PORT] = make
        self.engine.start()
        self.network.pump([0.1] * 10)
        self.assertTrue(self.engine.is_connected)
        return made[0]

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
