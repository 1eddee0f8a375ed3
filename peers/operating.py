"""What docs/operate.md says to type, and a place to type it in."""

from __future__ import annotations

import json
import os
import re
import signal
import textwrap
from collections.abc import Mapping
from pathlib import Path

from peers.contract import ROOT
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.network import free_port
from peers.processes import Process, Processes
from peers.tools import require, script


def block(name: str, how: str = "tested", page: str = "operate.md") -> str:
    """The lines of a page of F{docs}, docs/operate.md, that are marked with this name."""
    text = (ROOT / "docs" / page).read_text()
    mark = rf"^( *)<!-- {how}: {name} -->\n\1```\w*\n(.*?)^\1```$"
    found = re.search(mark, text, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    return textwrap.dedent(found[2])


def make_samples(processes: Processes, commands: str) -> Path:
    """The sample configurations, with what the documentation says to make for them."""
    require("openssl", "openssl")
    directory = processes.make_directory("samples")
    ports: dict[str, str] = {}
    for file in (ROOT / "examples").glob("*.toml"):
        # The samples' ports may be taken on this machine.
        text = re.sub(
            r"(?<=:)\d{4}\b",
            lambda port: ports.setdefault(port[0], str(free_port())),
            file.read_text(),
        )
        (directory / file.name).write_text(text)
    (directory / "ports.json").write_text(json.dumps(ports))
    shell = ["sh", "-e", "-c", commands]
    status, output = processes.run("make", shell, cwd=directory, env=script_environment())
    assert status == 0, output
    return directory


def script_environment() -> dict[str, str]:
    """One in which C{cms} and C{twistd} are found by name."""
    path = os.pathsep.join([str(Path(script("twistd")[0]).parent), os.environ["PATH"]])
    return {**daemon_environment(), "PATH": path}


def moved_clock(clock: Path) -> dict[str, str]:
    """
    An environment in which the wall clock is moved, and nothing that waits for time notices.

    @param clock: A new file, which says by how much, such as C{+15d}; nothing at first.
    """
    require("faketime", "faketime")
    clock.write_text("+0")
    return {
        "LD_PRELOAD": str(next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def run_block(processes: Processes, name: str, directory: Path) -> Process:
    """Start what a block of the documentation says."""
    command = ["sh", "-c", f"exec {block(name).strip()}"]
    return processes.start(name, command, cwd=directory, env=script_environment())


class Host:
    """
    A host as the page has it, in a folder of a test.

    @ivar units: The daemons that systemd runs, by name.
    @ivar environment: Of what is typed.
    @ivar places: What stands for the page's files and folders.
    """

    def __init__(
        self,
        processes: Processes,
        units: Mapping[str, XmppServer | Callbridge],
        places: Mapping[str, object],
        name: str = "host",
    ) -> None:
        self._processes = processes
        self.units = units
        self.folder = processes.make_directory(name)
        tools = self.folder / "bin"
        for folder in (tools, self.folder / "run"):
            folder.mkdir()
        sudo = tools / "sudo"
        sudo.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')  # the tests' user is the daemons' too
        sudo.chmod(0o755)
        self.places = {
            "/opt/cms/bin/cms": script("cms")[0],
            "/run/": f"{self.folder}/run/",
            **{f"-o {name} ": "" for name in units},
            **places,
        }
        path = os.pathsep.join([str(tools), script_environment()["PATH"]])
        self.environment = {**script_environment(), "PATH": path}

    def types(self, text: str, *, status: int = 0, answer: str = "") -> str:
        """Type lines, one after the other; what they print."""
        output, typed = "", ""
        for line in [*text.splitlines(), ""]:
            command, _, rest = line.partition(" ")
            if command == "systemctl" or not line:
                output += self._run(typed, status, answer)
                typed = ""
                self._control(*rest.split())
            else:
                typed += f"{line}\n"
        return output

    def _run(self, typed: str, status: int, answer: str) -> str:
        if not typed:
            return ""
        for page, here in self.places.items():
            typed = typed.replace(page, str(here))
        ended, output = self._processes.run(
            "typed",
            ["sh", "-e", "-c", typed],
            text=answer,
            cwd=self.folder,
            env=self.environment,
        )
        assert ended == status, output
        return output

    def _control(self, *words: str) -> None:
        """As far as the page uses C{systemctl}."""
        for unit in (word for word in words if word in self.units):
            if words[0] == "reload":
                self.units[unit].process.signal(signal.SIGHUP)
                self.units[unit].process.wait_for("were read again", 10.0)
            if words[0] in ("stop", "disable", "restart"):
                self.units[unit].process.stop()
            if words[0] in ("start", "enable", "restart"):
                self.units[unit].start()
