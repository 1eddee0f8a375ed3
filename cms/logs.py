"""
Log lines for machines: one JSON object a line, with the fields of the event.

What belongs together has an ID in common, the same on both sides of a link;
docs/operate.md lists them.  IDs are made of what both sides know, by a hash,
so that nobody who reads a log can use them on the wire.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.logger import Logger as TwistedLogger
from zope.interface import provider

LEVELS = ("debug", "info", "warn", "error")
_silent: set[Any] = set()  # of LogLevel's constants


class Logger(TwistedLogger):
    """
    Twisted's, but for a level of detail that costs nothing where it is not wanted:
    what L{quieten} has silenced never becomes an event.
    """

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:  # noqa: A002
        """See L{twisted.logger.Logger.emit}."""
        if level not in _silent:
            super().emit(level, format, **kwargs)


def wanted(level: Any) -> bool:
    """
    Whether events of this level are logged: for what is said so often, or with so
    much to compose, that even asking a L{Logger} costs too much.

    @param level: One of C{LogLevel}'s constants.
    """
    return level not in _silent


def quieten(least: str) -> None:
    """
    Log nothing of ours below a level from now on.

    @param least: One of L{LEVELS}.
    """
    _silent.clear()
    _silent.update(
        level for level in LogLevel.iterconstants() if level < LogLevel.lookupByName(least)
    )


def link_id(stream_id: str) -> str:
    """
    Names a link, or the attempt at one, in the logs of both sides.

    @param stream_id: That of the XMPP server's stream header.
    """
    return _short("link", stream_id)


def login_id(exchange: str) -> str:
    """Names a log-in in the logs of both sides."""
    return _short("login", exchange)


def _short(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind} {text}".encode()).hexdigest()[:12]


def json_observer(out: TextIO) -> ILogObserver:
    """An observer that writes to C{out}."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        plain = {
            key: value
            for key, value in event.items()
            if not key.startswith("log_") and isinstance(value, str | int | float | dict)
        }
        failure = event.get("log_failure")
        if failure is not None:
            plain["traceback"] = failure.getTraceback()
        line: dict[str, Any] = {
            **plain,
            "time": datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(),
            "level": getattr(event.get("log_level"), "name", "info"),
            "source": event.get("log_namespace", ""),
            "message": formatEvent(event),
        }
        out.write(json.dumps(line, default=str) + "\n")
        out.flush()

    return cast("ILogObserver", observe)


def json_to_stdout() -> ILogObserver:
    """For twistd's C{--logger}."""
    return json_observer(sys.stdout)
