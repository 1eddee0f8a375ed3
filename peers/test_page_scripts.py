"""
What the pages of the door do below their screens, in node: C{peers/page} has the tests, with
a page, a clock, a network and a server of their own, so that each cut is where it should be.
"""

from __future__ import annotations

import re
import subprocess

from peers.contract import ROOT
from peers.tools import require

_SECONDS = 240.0
_FOLDER = ROOT / "peers" / "page"


def test_session_and_room() -> None:
    """Log-in, resumption and the room, by node's own test runner."""
    files = sorted(map(str, _FOLDER.glob("*.test.mjs")))
    done = subprocess.run(
        [require("node", "nodejs"), "--test", "--test-reporter=tap", *files],
        capture_output=True,
        check=False,
        timeout=_SECONDS,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= len(files), done.stdout
