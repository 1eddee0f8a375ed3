"""Opening listeners from the endpoint strings of a configuration; errors name the key."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from cms import faults
from cms.process.endpointstrings import Endpoint, reachable, read_endpoint
from cms.process.proxy import Network, ProxiedFactory
from cms.process.sharedport import SharedPortEndpoint, takes_both
from cms.signalflow import StepError


def expand(endpoint: Endpoint) -> list[Endpoint]:
    """
    What is opened for an endpoint.

    C{tcp:PORT} without an interface means all addresses of this host, while Twisted
    listens on IPv4 only.  A socket on C{::} accepts both families, unless the kernel
    has no IPv6 or separates them.  Then the second one is used.
    """
    if endpoint.kind == "tcp" and not endpoint.host:
        return [evolve(endpoint, kind="tcp6", host="::"), endpoint]
    return [endpoint]


def make_endpoint(reactor: Any, endpoint: Endpoint) -> Any:
    """
    Twisted's endpoint of this one.

    @return: An C{IStreamServerEndpoint}.
    @raise LookupError: systemd has handed over no such socket.
    """
    host, port, backlog = endpoint.host, endpoint.port, endpoint.backlog
    if endpoint.kind == "unix":
        return UNIXServerEndpoint(
            reactor, endpoint.path, backlog, endpoint.mode, endpoint.is_locked
        )
    if endpoint.kind == "systemd":
        return serverFromString(reactor, endpoint.inherited)
    if endpoint.is_shared:
        return SharedPortEndpoint(reactor, endpoint)
    kind = TCP6ServerEndpoint if endpoint.kind == "tcp6" else TCP4ServerEndpoint
    return kind(reactor, port, backlog, host)


def open_listener(
    reactor: Any,
    file: object,
    key: str,
    description: str,
    factory: IProtocolFactory,
    *,
    proxies: Sequence[Network] = (),
) -> list[IListeningPort]:
    """
    Open what one endpoint string of the configuration says.

    @param file: The configuration file, for messages.
    @param key: The key that holds the string, such as C{listen.api}; one that
        ends with C{_plain} is of a listener without TLS.
    @param proxies: The addresses, besides this host, that may send a PROXY header.
    @raise ConfigurationError: the endpoint cannot be read, or bound.
    """
    said = read_endpoint(key, description, file)
    if said.is_proxied:
        factory = ProxiedFactory(reactor, factory, key, proxies)
    opened: list[IListeningPort] = []
    failures: list[Failure] = []
    for each in expand(said):
        try:
            endpoint = make_endpoint(reactor, each)
        except Exception as problem:  # noqa: BLE001 - systemd's parser has several
            raise _bad(file, key, said, problem) from None
        if isinstance(endpoint, AdoptedStreamServerEndpoint):
            _judge_inherited(file, key, said, endpoint)
        endpoint.listen(factory).addCallbacks(opened.append, failures.append)
        if failures and not _lacks_ipv6(failures[0]):
            break
        if opened and said.is_shared and takes_both(opened[0]):
            break  # the other one would be opened too, where it fails if it is not shared
    if not opened:
        why = failures[0].getErrorMessage().rstrip(".")
        raise faults.LISTEN_FAILED.error(file=file, key=key, endpoint=description, problem=why)
    return opened


def _judge_inherited(
    file: object, key: str, said: Endpoint, endpoint: AdoptedStreamServerEndpoint
) -> None:
    """Check that a socket of systemd is what the file says, and local if it must be."""
    with socket.socket(fileno=os.dup(endpoint.fileno)) as copy:  # as the kernel says
        family = copy.family
        host = "" if family == socket.AF_UNIX else copy.getsockname()[0].partition("%")[0]
    if family != endpoint.addressFamily:
        raise _bad(file, key, said, "the socket is of another domain")
    if key.endswith("_plain") and host and not ip_address(host).is_loopback:
        raise reachable(key, said.text, file)


def _bad(file: object, key: str, said: Endpoint, problem: object) -> StepError:
    if isinstance(problem, LookupError):
        return faults.CONFIGURATION_VALUE.error(
            file=file,
            key=key,
            problem=f"{said.text}: systemd has handed over no such socket",
            mend="Start it by a socket unit whose FileDescriptorName= is the name here.",
        )
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key=key,
        problem=f'"{said.text}" is no endpoint ({problem})',
        mend='Write a Twisted endpoint string, such as "tcp:5223".',
    )


def close_ports(ports: Iterable[IListeningPort]) -> Deferred[Any]:
    """Accept no more connections; fires when the ports are free."""
    closing = [Deferred.fromCoroutine(_stop(port)) for port in ports]
    return gatherResults(closing, consumeErrors=True)


def _lacks_ipv6(failure: Failure) -> bool:
    error = getattr(failure.value, "socketError", None)
    return getattr(error, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


async def _stop(port: IListeningPort) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping


def plain_host(host: str) -> str:
    """An IPv4 address without the mapping that a socket for both families shows it in."""
    return host.removeprefix("::ffff:") if "." in host else host


def show_address(address: IAddress) -> str:
    """An address as the log has it."""
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", address)
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return f"{host} port {getattr(address, 'port', '?')}"
