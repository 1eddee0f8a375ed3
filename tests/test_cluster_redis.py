"""The connections to Redis, over a network in memory."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import hiredis
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from cms.cluster.connecting import Connector, EngineSettings
from cms.cluster.redisengine import RedisEngine
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
    """A Redis that knows C{INFO}."""

    def connectionMade(self) -> None:
        """Read commands."""
        self._reader = hiredis.Reader()

    def dataReceived(self, data: bytes) -> None:
        """Answer each."""
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            assert isinstance(command, list), command
            if command[0] == b"INFO":
                assert self.transport is not None
                self.transport.write(b"$%d\r\n%s\r\n" % (len(INFO), INFO))


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
