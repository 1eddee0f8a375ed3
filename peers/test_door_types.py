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
    """They are what .ci/bundle makes of the sources, byte for byte."""
    assert run(ROOT / ".ci" / "bundle", tmp_path)[0] == 0
    for name in ("bundle.js", "bundle.css"):
        same = (tmp_path / name).read_bytes() == (STATIC / name).read_bytes()
        assert same, f"run .ci/bundle, and commit cms/door/static/{name}"
