"""
Where log lines go and what they look like: text, or one JSON object a line with the
fields of the event; standard output, or a file that others may rotate.

Lines that belong together have an ID in common, the same on both sides of a link
(docs/operate.md lists the IDs).  An ID is a hash of a value that both sides know, so
that a reader of the log cannot use it on the wire.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.logger import Logger as TwistedLogger
from zope.interface import provider

from cms.signalflow import counted

LEVELS = ("debug", "info", "warn", "error")
AT_ONCE = 100  # lines about unauthenticated peers, then one a second
IDS = ("attempt_id", "link_id", "connection_id", "login_id")
_silent: set[Any] = set()  # of LogLevel's constants


class Out(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Logger(TwistedLogger):
    """
    Twisted's, but a level that L{quieten} has silenced costs nothing: no event is made.
    """

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:  # noqa: A002
        """See L{twisted.logger.Logger.emit}."""
        if level not in _silent:
            super().emit(level, format, **kwargs)


def wanted(level: Any) -> bool:
    """
    Whether events of this level are logged.  Ask this first where composing the line
    costs too much.

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


class LineLimiter:
    """
    Limits lines that any peer can cause by one connection each: L{AT_ONCE} are written,
    then one a second.  So a flood of connections does not fill the disk.

    @param clock: In seconds.
    """

    log = Logger()

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._level = 0.0
        self._looked = clock()
        self._left_out = 0

    def allows(self) -> bool:
        """Whether one more line may be written; logs first how many were left out."""
        now = self._clock()
        self._level = max(0.0, self._level - (now - self._looked))
        self._looked = now
        if self._level > AT_ONCE - 1:
            self._left_out += 1
            return False
        self._level += 1
        count, self._left_out = self._left_out, 0
        if count:
            lines = counted(count, "line")
            self.log.warn("left out {lines} about unauthenticated peers", lines=lines)
        return True


class LogFile:
    """
    A log file that a rotation may move away, or truncate after a copy.

    Each write goes to the current end of the file.  If the file was moved, a new one is
    opened under its name: logrotate needs neither C{copytruncate} nor a signal.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._file = self._open()

    def _open(self) -> TextIO:
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")

    def write(self, text: str, /) -> None:
        """
        @raise OSError: the file cannot be written.
        """
        try:
            moved = not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            moved = True
        if moved:
            opened = self._open()
            self._file.close()
            self._file = opened
        self._file.write(text)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def text_observer(out: Out) -> ILogObserver:
    """
    An observer that writes lines for people to C{out}, as Twisted does, with the IDs
    of what a line belongs to at its end.
    """

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text is None:
            return
        ids = " ".join(f"{name}={event[name]}" for name in IDS if event.get(name))
        out.write(f"{text.rstrip()} [{ids}]\n" if ids else text)
        out.flush()

    return cast("ILogObserver", observe)


def json_observer(out: Out) -> ILogObserver:
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


_chosen: tuple[str, str | None] = ("text", None)


def choose(form: str, file: str | None) -> None:
    """
    Say what L{chosen} is to give.

    @param form: C{"text"} or C{"json"}.
    @param file: Its path; C{None} is standard output.
    """
    global _chosen  # noqa: PLW0603 - twistd calls its logger without an argument
    _chosen = form, file


def _worth_a_line(event: LogEvent) -> Any:
    """
    Drop the lines that Twisted's old logging writes whenever a socket is opened or closed
    (four for each DNS query).  Its errors and warnings stay.
    """
    told = event.get("log_namespace") == "log_legacy" and "warning" not in event
    small = told and event.get("log_level", LogLevel.info) <= LogLevel.info
    return PredicateResult.no if small else PredicateResult.yes


def chosen() -> ILogObserver:
    """For twistd's C{--logger}: the observer that L{choose} has chosen."""
    form, file = _chosen
    out: Out = sys.stdout
    if file is not None:
        try:
            out = LogFile(file)
        except OSError as problem:
            sys.stderr.write(
                f"--logfile {file}: {problem.strerror}."
                " Cure: name a file in a folder that this user may write to.\n"
            )
            raise SystemExit(1) from None
    observer = json_observer(out) if form == "json" else text_observer(out)
    return FilteringLogObserver(observer, [cast("ILogFilterPredicate", _worth_a_line)])
