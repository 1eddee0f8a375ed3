"""Runs C{cms check} as its users do, and reads its report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from jsonschema import Draft202012Validator

from peers.daemons import daemon_environment
from peers.processes import Processes
from peers.tools import script

STAGE_SECONDS = 1.0  # for each stage of a check, in these tests
_RUN_SECONDS = 40.0
_ROOT = Path(__file__).parent.parent
SCHEMA = Draft202012Validator(json.loads((_ROOT / "docs" / "check.schema.json").read_text("utf-8")))


@frozen
class Said:
    """One thing that failed, or a warning."""

    fault: str
    step: int
    cause: str
    cure: str
    mend: str


@frozen
class Checked:
    """
    What a run of C{cms check} said.

    @ivar report: The whole, as C{--json} gives it.
    @ivar seconds: From the start of the process to its end.
    """

    status: int
    report: dict[str, Any]
    seconds: float

    def _said(self, result: str) -> list[Said]:
        return [
            Said(*(finding[key] for key in ("fault", "step", "cause", "cure", "mend")))
            for finding in self.report["findings"]
            if finding["result"] == result
        ]

    @property
    def failures(self) -> list[Said]:
        """What failed."""
        return self._said("failed")

    @property
    def warnings(self) -> list[Said]:
        """What works, and should be put right."""
        return self._said("warning")

    @property
    def passed(self) -> set[int]:
        """The steps that passed at least once."""
        return {f["step"] for f in self.report["findings"] if f["result"] == "passed"}

    @property
    def notes(self) -> str:
        """All that was said beside evidence."""
        return "\n".join(finding["note"] for finding in self.report["findings"])


def run_check(
    processes: Processes,
    arguments: Iterable[str],
    *,
    text: str = "",
    command: Iterable[str] = (),
    seconds: float | None = STAGE_SECONDS,
) -> Checked:
    """
    Run it with C{--json}.

    @param text: Its standard input.
    @param command: What goes before C{cms}, such as C{faketime}.
    @param seconds: For each stage; C{None} leaves it to C{cms check}.
    """
    timeout = ["--timeout", str(seconds)] if seconds is not None else []
    whole = [*command, *script("cms"), "check", "--json", *timeout, *arguments]
    began = time.monotonic()
    status, output = processes.run(
        "cms-check", whole, text=text, seconds=_RUN_SECONDS, env=daemon_environment()
    )
    took = time.monotonic() - began
    assert "Traceback" not in output, output
    assert output.startswith("{"), output
    report = json.loads(output)
    SCHEMA.validate(report)
    return Checked(status, report, took)
