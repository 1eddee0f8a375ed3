"""README's "Use it" as a new user follows it: top to bottom, from a fresh copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.contract import LINK_ACTIVE, LISTENER_READY, ROOT
from peers.network import free_port
from peers.processes import Process, Processes
from peers.tools import require

PASSWORD = "correct horse"
MOST_SECONDS = 300.0
_NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", "__pycache__", "build", "dist", "node_modules", "*.egg-info"
)


def blocks() -> list[str]:
    """What is to be typed, a block for each stay at a terminal."""
    section = (ROOT / "README.md").read_text().partition("\n## Use it\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone() -> Iterator[Path]:
    """A fresh copy of the sources, its samples on ports that are free here."""
    folder = Path(tempfile.mkdtemp(prefix="cms-readme-"))
    try:
        copy = folder / "cms"
        shutil.copytree(ROOT, copy, ignore=_NOT_SOURCES)
        yield copy
    finally:
        shutil.rmtree(folder)


class Reader:
    """Somebody who types what the README says."""

    def __init__(self, processes: Processes, clone: Path) -> None:
        self._processes = processes
        self._clone = clone
        self._ports = {port: str(free_port()) for port in ("5222", "5223", "8445", "8446")}
        for sample in (clone / "examples").glob("*.toml"):
            sample.write_text(self._with_free_ports(sample.read_text()))
        hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CMS_CONFIG")
        self._environment = {k: v for k, v in os.environ.items() if k not in hidden}
        require("openssl", "openssl")

    def _with_free_ports(self, text: str) -> str:
        return re.sub(r"(?<=:)\d{4}\b", lambda port: self._ports.get(port[0], port[0]), text)

    def types(self, name: str, text: str, answer: str = "") -> str:
        """A block, to its end."""
        text = text.replace("--server localhost", f"--server localhost:{self._ports['5222']}")
        status, output = self._processes.run(
            name,
            [require("bash", "bash"), "-e", "-c", text],
            text=answer,
            seconds=MOST_SECONDS,
            cwd=self._clone,
            env=self._environment,
        )
        assert status == 0, output
        return output

    def starts(self, name: str, text: str) -> Process:
        """A block whose last line goes on running."""
        before, _, last = text.rstrip().rpartition("\n")
        command = [require("bash", "bash"), "-e", "-c", f"{before}\nexec {last}"]
        return self._processes.start(name, command, cwd=self._clone, env=self._environment)


def test_use_it(processes: Processes, clone: Path) -> None:
    """From C{pip install} to a link that is active and a log-in that succeeds."""
    began = time.monotonic()
    prepare, server, callbridge, use = blocks()
    reader = Reader(processes, clone)
    reader.types("prepare", prepare, f"{PASSWORD}\n{PASSWORD}")
    installed = time.monotonic() - began
    reader.starts("server", server).wait_for(LISTENER_READY.format(listener="client"), 20.0)
    reader.starts("callbridge", callbridge).wait_for(LINK_ACTIVE, 20.0)
    output = reader.types("use", f"cd trial\n. ../env/bin/activate\n{use}", PASSWORD)
    whole = time.monotonic() - began
    assert "Step          : 11 active" in output
    assert "Callbridge : cb1" in output
    assert re.search(r"^Secret +: [A-Za-z0-9]{24}$", output, re.MULTILINE)
    assert "Logged in : alice@meet.example.com/" in output
    assert whole < MOST_SECONDS
    typed = len("".join(blocks()).splitlines())
    print(f"{typed} lines; installed after {installed:.0f} s, logged in after {whole:.0f} s")


def test_every_command_is_known() -> None:
    """Nothing else in the README is typed that no test runs."""
    text = (ROOT / "README.md").read_text()
    typed = re.findall(r"^(?: {4}|)((?:cms|twistd) .*)$", text, re.MULTILINE)
    run = "".join(blocks())
    assert typed
    assert [line for line in typed if line not in run] == []
