"""Log lines for machines: one JSON object a line, with the fields of the event."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import provider


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
