"""Whether a running server may open enough files for its connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cms import faults
from cms.audit.finding import Finding
from cms.process.openfiles import judge
from cms.signalflow import Step

NEARLY = 3  # files that may be free at the moment of the question


def judge_files(file: Path, status: Mapping[str, Any]) -> Iterator[Finding]:
    """
    Whether the running server may open enough files for its connections.

    @param file: The configuration file.
    @param status: The server's status.
    """
    used, most = int(status.get("openFiles", 0)), int(status.get("mostFiles", 0))
    if not most:
        return  # an older server
    about = "the running server's files"
    evidence = {"open": str(used), "most": str(most)}
    asked, given = int(status.get("wantedPlaces", 0)), int(status.get("places", 0))
    warning = judge(file, "most_connections", asked, given, most)
    if used + NEARLY >= most:
        fault = faults.FILES_RUN_OUT.error(limit=most)
        yield Finding(fault.step, "failed", about, 0.0, evidence, "", fault)
    elif warning is not None:
        yield Finding(warning.step, "warning", about, 0.0, evidence, "", warning)
    else:
        yield Finding(Step.CONFIGURATION, "passed", about, evidence=evidence)
