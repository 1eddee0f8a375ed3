"""
What a daemon tells systemd: sd_notify(3) and the watchdog.

Without C{NOTIFY_SOCKET} in the environment nothing is sent, as for a daemon
started by hand.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from cms.process.logs import Logger

MOST_STATUS: Final = 512  # characters
Send = Callable[[bytes], object]


def notify_socket(environ: Mapping[str, str]) -> Send | None:
    """
    A function that sends a message to the service manager.

    @return: C{None} if there is no service manager.  The function raises C{OSError}
        if the message cannot be sent, and never waits.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return None
    where = "\0" + address[1:] if address[0] == "@" else address
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.setblocking(False)
    return lambda message: manager.sendto(message, where)


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """
    Seconds between two watchdog messages: half of what sd_watchdog_enabled(3) allows.

    @return: C{None} if the watchdog is off.
    """
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    allowed = environ.get("WATCHDOG_USEC", "")
    return int(allowed) / 2_000_000 if allowed.isdecimal() and int(allowed) else None


class ServiceManager(Service):
    """
    Tells systemd that the daemon is ready, its status, and that it is alive.

    Add it to the daemon's service after everything that must be ready.

    @param status: What the daemon is doing, on one line.
    @param send: See L{notify_socket}.
    @param monotonic: C{CLOCK_MONOTONIC} in seconds.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        status: Callable[[], str],
        *,
        environ: Mapping[str, str] = os.environ,
        send: Send | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._send = send or notify_socket(environ)
        self._monotonic = monotonic
        self._shown = ""
        self._interval = watchdog_interval(environ, os.getpid())
        self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
        self._watchdog.clock = clock

    def startService(self) -> None:
        """Everything before this service has started."""
        super().startService()
        self._tell("READY=1")
        self.refresh()
        if self._interval is not None and self._send is not None:
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        """Tell systemd that the daemon stops; watchdog messages go on until the end."""
        super().stopService()
        self._tell("STOPPING=1")

    def refresh(self, *_: object) -> None:
        """Send the status if it has changed."""
        if self._send is None:
            return
        status = " ".join(self._status().split())[:MOST_STATUS] if self.running else ""
        if status and status != self._shown:
            self._shown = status
            self._tell(f"STATUS={status}")

    def reloading(self, reload: Callable[[], Any]) -> None:
        """Run a reload between the two messages that sd_notify(3) asks for."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic() * 1_000_000)}")
        try:
            reload()
        finally:
            self._tell("READY=1")

    def _tell(self, message: str) -> None:
        if self._send is None:
            return
        try:
            self._send(message.encode())
        except OSError as problem:
            self.log.warn("systemd was not told {what}: {why}", what=message[:40], why=problem)
