"""The listeners of the XMPP server: opened together, or the start is stopped."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from cms.errors import CONFIGURATION_VALUE, LISTEN_FAILED
from cms.signalflow import StepError
from cms.throttle import LOCAL, network_of
from cms.xmlstream.stream import XMLStream, plain_host
from cms.xmlstream.traffic import Traffic

BACKLOG = 1_024


@define(eq=False)
class StreamFactory(Factory):
    """
    Makes the streams of one listener, within bounds.

    @ivar make: Makes a stream.
    @ivar kind: Its key in the configuration.
    @ivar refused: How many connections were closed at once.
    @ivar carried: What its streams that have ended have carried.
    @ivar most: Connections at a time.
    @ivar most_per_host: Of those, from one address (a /64 of IPv6); what
        reaches us through a proxy on this host is not counted this way.
    """

    make: Callable[[], XMLStream]
    most: int
    most_per_host: int
    kind: str = ""
    refused: int = 0
    carried: Traffic = field(factory=Traffic)
    streams: set[XMLStream] = field(factory=set)
    hosts: Counter[str] = field(factory=Counter)
    log: Logger = field(factory=Logger)
    noisy: bool = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A stream for a connection, C{None} (which closes it) beyond the bounds."""
        host = plain_host(str(getattr(addr, "host", "local")))
        network = network_of(host)
        crowded = network != LOCAL and self.hosts[network] >= self.most_per_host
        if len(self.streams) >= self.most or crowded:
            self.refused += 1
            self.log.warn("connection from {host} refused: too many are open", host=host)
            return None
        stream = self.make()
        stream.factory = self
        self.streams.add(stream)
        self.hosts[network] += 1

        def forget(_: None) -> None:
            self.streams.discard(stream)
            self.carried.add(stream)
            self.hosts[network] -= 1
            if not self.hosts[network]:
                del self.hosts[network]

        stream.ended.addCallback(forget)
        return stream


def check_plain(key: str, description: str, file: object) -> None:
    """
    A listener without TLS may only be reached from this host.  A socket that
    systemd hands over is judged when it is there, by L{Listeners.open}.

    @raise ConfigurationError: it could be reached from elsewhere.
    """
    kind, _, rest = description.partition(":")
    interface = re.search(r"(?<!\\)(?::|^)interface=((?:\\.|[^:\\])*)", rest)
    if kind in ("unix", "systemd"):
        return
    try:
        address = (interface[1] if interface else "").replace("\\:", ":")
        # Twisted would take the last of two interfaces.
        once = rest.count("interface=") == 1
        if once and kind in ("tcp", "tcp6") and ip_address(address).is_loopback:
            return
    except ValueError:
        pass
    raise _reachable(key, description, file)


def _reachable(key: str, description: str, file: object) -> StepError:
    return CONFIGURATION_VALUE.error(
        file=file,
        key=key,
        problem=f"{description} has no TLS and could be reached from another host",
        mend="Add :interface=127.0.0.1, or use a unix: socket, or a listener with TLS.",
    )


def _inherited(endpoint: AdoptedStreamServerEndpoint) -> tuple[bool, bool]:
    """Of a socket of systemd's: is it of the family named, and is it local, as the kernel says?"""
    with socket.socket(fileno=os.dup(endpoint.fileno)) as copy:
        unix = copy.family == socket.AF_UNIX
        local = unix or ip_address(copy.getsockname()[0].partition("%")[0]).is_loopback
        return copy.family == endpoint.addressFamily, local


def expand(description: str) -> list[str]:
    """
    The endpoint strings behind one of the configuration.

    C{tcp:PORT} without an interface means all addresses of this host.  Twisted
    takes it for IPv4 only; a socket on C{::} takes both families, unless the
    kernel has no IPv6 or keeps the two apart, when the second string serves.
    """
    if re.fullmatch(r"tcp:\d+", description):
        return [f"tcp6:{description.removeprefix('tcp:')}:interface=\\:\\:", description]
    return [description]


class Listeners:
    """
    Opens the listeners of a server.

    @param file: The configuration file, for messages.
    """

    log = Logger()

    def __init__(self, reactor: Any, file: object) -> None:
        self._reactor = reactor
        self._file = file
        self._ports: list[IListeningPort] = []
        self.factories: list[StreamFactory] = []

    def open(self, kind: str, description: str, factory: StreamFactory) -> None:
        """
        Open one listener.

        @raise ConfigurationError: the endpoint cannot be read, or bound.
        """
        key = f"listen.{kind}"
        opened: list[IListeningPort] = []
        failures: list[Failure] = []
        for text in expand(description):
            try:
                endpoint = serverFromString(self._reactor, text)
            except Exception as problem:  # noqa: BLE001 - each parser, and each plugin, has its own
                raise self._bad(key, description, problem) from None
            if isinstance(endpoint, AdoptedStreamServerEndpoint):
                self._judge_inherited(kind, description, endpoint)
            endpoint.listen(factory).addCallbacks(opened.append, failures.append)
            if failures and not _lacks_ipv6(failures[0]):
                break
        if not opened:
            why = failures[0].getErrorMessage().rstrip(".")
            raise LISTEN_FAILED.error(file=self._file, key=key, endpoint=description, problem=why)
        self._ports.extend(opened)
        for port in opened:
            self.log.info("{kind} listener ready on {at}", kind=kind, at=_show(port.getHost()))
        self.factories.append(factory)

    def _judge_inherited(
        self, kind: str, description: str, endpoint: AdoptedStreamServerEndpoint
    ) -> None:
        fits, local = _inherited(endpoint)
        if not fits:
            raise self._bad(f"listen.{kind}", description, "the socket is of another domain")
        if kind.endswith("_plain") and not local:
            raise _reachable(f"listen.{kind}", description, self._file)

    def _bad(self, key: str, description: str, problem: object) -> StepError:
        if isinstance(problem, LookupError) and description.startswith("systemd:"):
            return CONFIGURATION_VALUE.error(
                file=self._file,
                key=key,
                problem=f"{description}: systemd has handed over no such socket",
                mend="Start it by a socket unit whose FileDescriptorName= is the name here.",
            )
        return CONFIGURATION_VALUE.error(
            file=self._file,
            key=key,
            problem=f'"{description}" is no endpoint ({problem})',
            mend='Write a Twisted endpoint string, such as "tcp:5223".',
        )

    def close(self) -> Deferred[object]:
        """Accept no more connections."""
        ports, self._ports = self._ports, []
        closing = [Deferred.fromCoroutine(_stop(port)) for port in ports]
        return gatherResults(closing, consumeErrors=True)  # type: ignore[return-value]


def _lacks_ipv6(failure: Failure) -> bool:
    error = getattr(failure.value, "socketError", None)
    return getattr(error, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


async def _stop(port: IListeningPort) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping


def _show(address: IAddress) -> str:
    host = getattr(address, "host", None)
    if host is None:
        return str(getattr(address, "name", address))
    return f"{host} port {getattr(address, 'port', '?')}"
