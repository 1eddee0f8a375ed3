"""Programs that want a desktop: an X server without a screen, and a message bus for each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.network import wait_until
from peers.processes import Process, Processes
from peers.tools import require

_START_SECONDS = 60.0


class Desktop:
    """
    One X server.

    @ivar environment: What its programs need to find it.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        directory = processes.make_directory("desktop")
        read, write = os.pipe()
        os.set_inheritable(write, True)
        xvfb = require("Xvfb", "xvfb")
        command = [
            xvfb,
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "1280x1024x24",
            "-nolisten",
            "tcp",
            "-noreset",  # it would start anew after each xdotool, and refuse who comes meanwhile
        ]
        self.process = processes.start("xvfb", command, cwd=directory, pass_fds=(write,))
        os.close(write)
        try:
            self.display = f":{_line(read)}"
        finally:
            os.close(read)
        self.environment = {"DISPLAY": self.display, "GDK_BACKEND": "x11", "GSK_RENDERER": "cairo"}

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path
    ) -> Process:
        """Start a program with a message bus of its own, whose address is in F{bus} of C{cwd}."""
        session = require("dbus-run-session", "dbus-daemon")
        told = 'printf %s "$DBUS_SESSION_BUS_ADDRESS" >bus; exec "$@"'
        whole = [session, "--", "/bin/sh", "-c", told, "sh", *command]
        return self._processes.start(name, whole, cwd=cwd, env={**env, **self.environment})

    def xdotool(self, *words: str) -> str:
        """What xdotool answers; empty when it finds nothing."""
        done = subprocess.run(
            [require("xdotool", "xdotool"), *words],
            capture_output=True,
            check=False,
            timeout=_START_SECONDS,
            text=True,
            env={**os.environ, **self.environment},
        )
        return done.stdout

    def type(self, text: str) -> None:
        """Where the focus is."""
        self.xdotool("type", "--delay", "30", text)

    def press(self, *keys: str) -> None:
        """Keys by X's names, such as C{shift+Tab}."""
        self.xdotool("key", "--delay", "60", *keys)

    def window(self, title: str) -> str:
        """The window of that title, once it is there."""
        found: list[str] = []

        def seen() -> bool:
            found[:] = self.xdotool("search", "--onlyvisible", "--name", title).split()
            return bool(found)

        wait_until(seen, 60.0, f"the window {title}")
        return found[0]


def _line(descriptor: int) -> str:
    text = b""
    while not text.endswith(b"\n"):
        more = os.read(descriptor, 16)
        assert more, "Xvfb did not start"
        text += more
    return text.decode().strip()
