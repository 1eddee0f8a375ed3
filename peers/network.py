"""Free ports and waiting, on loopback only."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

POLL_SECONDS = 0.01

# Below what the kernel gives to outgoing connections, so that no connection
# takes a port between its choice and its use.
_PORTS = list(range(20000, 32000))
random.SystemRandom().shuffle(_PORTS)


def has_ipv6() -> bool:
    """Whether C{::1} can be used here."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as attempt:
            attempt.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that is free for TCP and UDP on all loopback addresses; never given twice."""
    while True:
        port = _PORTS.pop()
        if is_free(port):
            return port


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
    Wait for a condition.

    @return: How many seconds it took.
    @raise AssertionError: it was not met in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
