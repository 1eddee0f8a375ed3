"""Opening listeners from the endpoint strings of a configuration; errors name the key."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from cms import faults
from cms.process.proxy import Network, ProxiedFactory
from cms.signalflow import StepError

PROXIED = "haproxy:"  # before an endpoint string: the PROXY protocol is spoken there
KINDS = ("tcp", "tcp6", "unix", "systemd")
BACKLOG = 1_024  # connections that wait to be accepted; Twisted's own is 50


def check_plain(key: str, description: str, file: object) -> None:
    """
    A listener without TLS must be reachable from this host only.  L{open_listener}
    checks sockets that systemd passes.

    @raise ConfigurationError: it could be reached from elsewhere.
    """
    kind, _, rest = description.removeprefix(PROXIED).partition(":")
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
    raise _reachable(file, key, description)


def _reachable(file: object, key: str, description: str) -> StepError:
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key=key,
        problem=f"{description} has no TLS and could be reached from another host",
        mend="Add :interface=127.0.0.1, or use a unix: socket, or a listener with TLS.",
    )


def check_kind(key: str, description: str, file: object) -> None:
    """
    @raise ConfigurationError: the string is not an endpoint, or of a kind that is refused.
    """
    kind = description.removeprefix(PROXIED).partition(":")[0]
    if kind in KINDS:
        return
    mend = 'Write a Twisted endpoint string, such as "tcp:5223".'
    if kind in ("ssl", "tls"):
        mend = f'Write tcp: in place of {kind}:, such as "tcp:5223"; TLS is ours, see [tls].'
    elif kind == "haproxy":
        mend = "Write haproxy: once."
    problem = f'"{description}" is no endpoint that can be used here ({kind}: is none of'
    problem += f" {', '.join(KINDS)}, with or without haproxy: before it)"
    raise faults.CONFIGURATION_VALUE.error(file=file, key=key, problem=problem, mend=mend)


def expand(description: str) -> list[str]:
    """
    The endpoint strings behind one of the configuration, without L{PROXIED}.

    C{tcp:PORT} without an interface means all addresses of this host, while Twisted
    listens on IPv4 only.  A socket on C{::} accepts both families, unless the kernel
    has no IPv6 or separates them.  Then the second string is used.
    """
    description = description.removeprefix(PROXIED)
    texts = [description]
    if re.fullmatch(r"tcp:\d+", description):
        texts = [f"tcp6:{description.removeprefix('tcp:')}:interface=\\:\\:", description]
    return [_with_backlog(text) for text in texts]


def _with_backlog(text: str) -> str:
    """The endpoint string with L{BACKLOG}, unless it names one, by name or by place."""
    parts = re.split(r"(?<!\\):", text)
    named = [part for part in parts if re.search(r"(?<!\\)=", part)]
    if (
        parts[0] not in ("tcp", "tcp6", "unix")
        or any(part.startswith("backlog=") for part in named)
        or len(parts) - len(named) > 3
    ):
        return text
    return f"{text}:backlog={BACKLOG}"


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
    check_kind(key, description, file)
    if description.startswith(PROXIED):
        factory = ProxiedFactory(reactor, factory, key, proxies)
    opened: list[IListeningPort] = []
    failures: list[Failure] = []
    for text in expand(description):
        try:
            endpoint = serverFromString(reactor, text)
        except Exception as problem:  # noqa: BLE001 - each parser, and each plugin, has its own
            raise _bad(file, key, description, problem) from None
        if isinstance(endpoint, AdoptedStreamServerEndpoint):
            _judge_inherited(file, key, description, endpoint)
        endpoint.listen(factory).addCallbacks(opened.append, failures.append)
        if failures and not _lacks_ipv6(failures[0]):
            break
    if not opened:
        why = failures[0].getErrorMessage().rstrip(".")
        raise faults.LISTEN_FAILED.error(file=file, key=key, endpoint=description, problem=why)
    return opened


def _judge_inherited(
    file: object, key: str, description: str, endpoint: AdoptedStreamServerEndpoint
) -> None:
    """Check that a socket of systemd is what the file says, and local if it must be."""
    with socket.socket(fileno=os.dup(endpoint.fileno)) as copy:  # as the kernel says
        family = copy.family
        host = "" if family == socket.AF_UNIX else copy.getsockname()[0].partition("%")[0]
    if family != endpoint.addressFamily:
        raise _bad(file, key, description, "the socket is of another domain")
    if key.endswith("_plain") and host and not ip_address(host).is_loopback:
        raise _reachable(file, key, description)


def _bad(file: object, key: str, description: str, problem: object) -> StepError:
    if isinstance(problem, LookupError) and description.startswith("systemd:"):
        return faults.CONFIGURATION_VALUE.error(
            file=file,
            key=key,
            problem=f"{description}: systemd has handed over no such socket",
            mend="Start it by a socket unit whose FileDescriptorName= is the name here.",
        )
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key=key,
        problem=f'"{description}" is no endpoint ({problem})',
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
