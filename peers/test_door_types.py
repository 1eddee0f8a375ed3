"""The door's script is typed, and what browsers get is made of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from peers.contract import ROOT

STATIC = ROOT / "cms" / "door" / "static"
PROGRAMS = ROOT / "peers" / "npm" / "node_modules" / ".bin"


def run(*command: str | Path) -> tuple[int, str]:
    """A command to its end."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_types() -> None:
    """C{tsc} finds nothing, as strict as it can be."""
    project = ROOT / "peers" / "npm" / "tsconfig.json"
    assert run(PROGRAMS / "tsc", "--noEmit", "--project", project) == (0, "")


def test_types_are_checked(tmp_path: Path) -> None:
    """It would find something."""
    (tmp_path / "wrong.js").write_text(
        "/** @param {number} a */\nexport const f = (a) => a.nothing;\n"
    )
    (tmp_path / "tsconfig.json").write_text(
        f'{{"extends": "{ROOT}/peers/npm/tsconfig.json", "include": ["*.js"], "exclude": []}}'
    )
    status, said = run(PROGRAMS / "tsc", "--noEmit", "--project", tmp_path)
    assert status != 0
    assert "nothing" in said


def test_bundle(tmp_path: Path) -> None:
    """F{bundle.js} is what .ci/bundle makes of the sources, byte for byte."""
    made = tmp_path / "bundle.js"
    assert run(ROOT / ".ci" / "bundle", made)[0] == 0
    same = made.read_bytes() == (STATIC / "bundle.js").read_bytes()
    assert same, "run .ci/bundle, and commit cms/door/static/bundle.js"
