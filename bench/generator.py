"""The load generator of C{load.c}: built, and run on a core of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from peers.contract import ROOT
from peers.processes import Process, Processes

SOURCE = ROOT / "bench" / "load.c"
PROGRAM = ROOT / "build" / "load"

DRAIN_SECONDS = 120.0
"""Beyond a run's own time: for its streams to come up, and for what is outstanding."""

Values = dict[str, Any]
"""What one run gave, by the names that C{load.c} prints."""


class GeneratorFailed(Exception):
    """The generator could not do its work; the text says what the server said."""


def build() -> Path:
    """Compile the generator, unless it is younger than its source."""
    PROGRAM.parent.mkdir(exist_ok=True)
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", str(PROGRAM), str(SOURCE)]
        subprocess.run([*command, "-lssl", "-lcrypto"], check=True, timeout=120)
    return PROGRAM


def _last_object(output: str) -> Values:
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            values: Values = json.loads(line)
            if "error" in values:
                raise GeneratorFailed(values["error"])
            return values
    raise GeneratorFailed(f"it said nothing; its output was: {output[-300:]!r}")


def run(processes: Processes, arguments: list[str], seconds: float) -> Values:
    """
    One run to its end.

    @param seconds: How long it measures, warm-up included.
    @raise GeneratorFailed: it could not begin, or nothing came of it.
    """
    _, output = processes.run("load", [str(PROGRAM), *arguments], seconds=seconds + DRAIN_SECONDS)
    values = _last_object(output)
    if not values["rate"]:
        why = values.get("failure") or "and none failed; is the run too short?"
        raise GeneratorFailed(f"nothing came of it: {why}")
    return values


class Idle:
    """Connections that do nothing while this context lasts."""

    def __init__(self, processes: Processes, arguments: list[str], seconds: float = 300.0) -> None:
        self._processes = processes
        self._arguments = arguments
        self._seconds = seconds
        self._process: Process | None = None

    def __enter__(self) -> Values:
        """Open them all; how many there are, and how long it took."""
        command = [str(PROGRAM), "idle", *self._arguments]
        self._process = self._processes.start("idle", command)
        try:
            self._process.wait_for("}\n", self._seconds)
        except AssertionError as problem:
            self._process.kill()
            raise GeneratorFailed(f"{problem}: {self._process.output[-300:]}") from None
        try:
            return _last_object(self._process.output)
        except GeneratorFailed:
            self._process.kill()
            raise

    def __exit__(self, *_: object) -> None:
        """Close them."""
        assert self._process is not None
        self._process.close_input()
        try:
            self._process.wait_for_exit(30.0)
        finally:
            self._process.kill()

    def lost(self) -> int:
        """After the end: how many the server closed by itself."""
        assert self._process is not None
        return int(_last_object(self._process.output).get("lost", 0))
