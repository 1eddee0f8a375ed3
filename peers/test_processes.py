"""The net under the tests that run a program of ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from peers.network import free_port
from peers.processes import Processes, children, logged_errors

LOG = """\
2026-11-28T15:39:36+0000 [-] Site starting on 26957
2026-11-28T15:39:36+0000 [cms.a#info] an #error] or "level": "critical" within the text
2026-11-28T15:39:36+0000 [cms.a#error] not reloaded: why
2026-11-28T15:39:36+0000 [cms.a#critical] unexpected error
\tTraceback (most recent call last):
\tZeroDivisionError: division by zero

2026-11-28T15:39:36+0000 [cms.a#warn] a warning
2026-11-28T15:39:36+0000 [-] Unhandled Error
\tTraceback (most recent call last):
{"time": "2026", "level": "error", "message": "in JSON"}
{"time": "2026", "level": "info", "message": "in JSON"}
"""


def test_what_counts() -> None:
    """Levels, tracebacks and what nobody handled, each with its lines."""
    found = [entry.splitlines()[0][25:50] for entry in logged_errors(LOG)]
    assert found == [
        "[cms.a#error] not reloade",
        "[cms.a#critical] unexpect",
        "[-] Unhandled Error",
        ' "error", "message": "in ',
    ]
    assert "ZeroDivisionError" in logged_errors(LOG)[1]


def test_verdict(tmp_path: Path) -> None:
    """An error fails the test, an expected one does not, a missing one does again."""
    program = tmp_path / "cms"
    program.write_text("#!/bin/sh\necho '2026-11-28T15:39:36+0000 [cms.a#error] it fell'\n")
    program.chmod(0o700)
    processes = Processes(tmp_path)
    processes.judge()
    processes.run("cms", [str(program)])
    with pytest.raises(AssertionError, match="it fell"):
        processes.judge()
    processes.expect_error("it fell")
    processes.judge()
    processes.expect_error("it burnt")
    with pytest.raises(AssertionError, match="it burnt"):
        processes.judge()
    processes.stop_all()


def test_children(tmp_path: Path) -> None:
    """What a module shares is ended and judged at its end, too."""
    program = tmp_path / "cms"
    program.write_text(
        "#!/bin/sh\necho '2026-11-28T15:39:36+0000 [cms.a#error] it fell'\nsleep 60\n"
    )
    program.chmod(0o700)
    shared = children(tmp_path)
    process = shared.__enter__().start("cms", [str(program)])
    process.wait_for("it fell", 30.0)
    with pytest.raises(AssertionError, match="it fell"):
        shared.__exit__(None, None, None)
    assert not process.running


def test_ports(processes: Processes) -> None:
    """Two processes that choose ports side by side choose others."""
    ask = "import time; from peers.network import free_port as port"
    ask += "; print([port() for _ in range(250)], flush=True); time.sleep(60)"
    choosers = [processes.start(f"chooser-{n}", [sys.executable, "-c", ask]) for n in range(2)]
    for each in choosers:
        each.wait_for("]", 30.0)
    one, other = [set(json.loads(each.output)) for each in choosers]
    assert [len(one), len(other)] == [250, 250]
    assert not one & other
    assert free_port() not in one | other
