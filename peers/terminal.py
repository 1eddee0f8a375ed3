"""Programs that want a terminal: each in a window of one tmux server of the test."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from peers.network import wait_until
from peers.processes import Process, Processes
from peers.tools import require

_COLUMNS, _LINES = 160, 50
_COMMAND_SECONDS = 60.0


class Terminals:
    """A tmux server; what runs in its windows ends with it."""

    def __init__(self, processes: Processes) -> None:
        self._tmux = require("tmux", "tmux")
        # The path of a socket is short; that of a test's directory may be long.
        directory = processes.make_directory("tmux")
        self._socket = directory / "s"
        self.process: Process = processes.start(
            "tmux", [*self._command, "-D", "-f", "/dev/null"], cwd=directory
        )
        wait_until(self._socket.exists, _COMMAND_SECONDS, "tmux")

    @property
    def _command(self) -> list[str]:
        return [self._tmux, "-S", str(self._socket)]

    def open(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Terminal:
        """Start a program in a window of its own."""
        variables = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
        size = ["-x", str(_COLUMNS), "-y", str(_LINES)]
        # A window is a session of its own, and poezio survives the end of its terminal.
        mortal = [require("setpriv", "util-linux"), "--pdeathsig", "KILL", "--", *command]
        self.ask("new-session", "-d", "-s", name, *size, *variables, "--", *mortal)
        self.ask("set-option", "-t", name, "remain-on-exit", "on")
        return Terminal(self, name)

    def ask(self, *words: str) -> str:
        """What tmux answers to a command."""
        done = subprocess.run(
            [*self._command, *words],
            capture_output=True,
            check=False,
            timeout=_COMMAND_SECONDS,
            text=True,
        )
        assert done.returncode == 0, f"tmux {' '.join(words)}: {done.stderr}"
        return done.stdout


class Terminal:
    """One window."""

    def __init__(self, terminals: Terminals, name: str) -> None:
        self._terminals = terminals
        self.name = name

    @property
    def screen(self) -> str:
        """What can be read on it."""
        return self._terminals.ask("capture-pane", "-p", "-t", self.name)

    def write(self, text: str) -> None:
        """Type something."""
        self._terminals.ask("send-keys", "-t", self.name, "-l", "--", text)

    def type(self, text: str) -> None:
        """Type a line, and Enter."""
        self.write(text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, such as C{M-n}."""
        self._terminals.ask("send-keys", "-t", self.name, *keys)
