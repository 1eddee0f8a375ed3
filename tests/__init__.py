"""
The unit tests.

What they generate is judged by what it shows, never by how long it took.

trial fails a test that logs a failure which it does not expect (see its
C{flushLoggedErrors}).  Here a line that is logged as an error is such a failure too.
"""

from __future__ import annotations

from typing import cast

from hypothesis import HealthCheck, settings
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


class LoggedError(Exception):
    """A line of level error or critical."""


_log = Logger()


def _fail(event: LogEvent) -> None:
    level = event.get("log_level")
    seen = "log_failure" in event or "failure" in event  # by trial itself
    if level is not None and level >= LogLevel.error and not seen:
        _log.failure("an error was logged", Failure(LoggedError(formatEvent(event))))


globalLogPublisher.addObserver(cast("ILogObserver", _fail))  # any callable will do
