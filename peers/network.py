"""Free ports and waiting, on loopback only."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

POLL_SECONDS = 0.01
PATIENCE = 3  # for a machine that is busy with something else

# Below what the kernel gives to outgoing connections, so that no connection
# takes a port between its choice and its use.
_FIRST, _LAST, _BLOCK = 20_000, 32_000, 100
_blocks = list(range(_FIRST, _LAST, _BLOCK))
random.SystemRandom().shuffle(_blocks)
_ports: list[int] = []
_claims: list[socket.socket] = []


def has_ipv6() -> bool:
    """Whether C{::1} can be used here."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as attempt:
            attempt.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_port() -> int:
    """
    A port that is free for TCP and UDP on all loopback addresses; never given twice, by no
    process that asks here.
    """
    while True:
        if not _ports:
            _ports.extend(_claim())
        port = _ports.pop()
        if is_free(port):
            return port


def _claim() -> range:
    """
    Ports that no other process of the tests has, until this one ends: a name in the abstract
    namespace of sockets, which belongs to the same network namespace as ports do.
    """
    while _blocks:
        first = _blocks.pop()
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0cms-tests-ports-{first}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return range(first, first + _BLOCK)
    raise AssertionError(f"no ports are left between {_FIRST} and {_LAST}")


def is_free(port: int) -> bool:
    """Whether nothing holds a port on any loopback address."""
    families = [(socket.AF_INET, "127.0.0.1")]
    if has_ipv6():
        families.append((socket.AF_INET6, "::1"))
    for family, host in families:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as attempt:
                try:
                    attempt.bind((host, port))
                except OSError:
                    return False
    return True


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """
    Wait for a condition, L{PATIENCE} times as long as it may take here.

    @return: How many seconds it took.
    @raise AssertionError: it was not met in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE * seconds:
            raise AssertionError(f"waited {PATIENCE * seconds:g} s for {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
