"""Firefox without a window, driven over WebDriver BiDi, which it speaks itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.tools import require

SECONDS = 30.0
START_SECONDS = 60.0  # with a profile that is made for it, on a busy machine
ENTER = "\ue007"


class Firefox:
    """
    One window with a profile of its own.

    @ivar complaints: What pages threw, and what the policy stopped.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.complaints: list[str] = []
        # The CA is made for the test: what the certificates say is tested elsewhere.
        self.ask("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        (tree,) = self.ask("browsingContext.getTree")["contexts"]
        self._context = tree["context"]
        self.ask("session.subscribe", events=["log.entryAdded"])

    def ask(self, method: str, **params: Any) -> Any:
        """A command, and its result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        self._connection.send(json.dumps(asked))
        while True:
            said = json.loads(self._connection.recv(SECONDS))
            if said.get("method") == "log.entryAdded" and said["params"]["level"] == "error":
                self.complaints.append(str(said["params"]["text"]))
            if said.get("id") == self._number:
                assert said["type"] == "success", (method, said)
                return said["result"]

    def open(self, url: str) -> None:
        """Go to a page."""
        self.ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def reload(self) -> None:
        """The page."""
        self.ask("browsingContext.reload", context=self._context, wait="complete")

    def run(self, expression: str) -> Any:
        """The value of an expression: text, a number, a truth or nothing."""
        said = self.ask(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        assert said["type"] == "success", said
        return said["result"].get("value")

    def text(self, css: str) -> str:
        """What an element says, or nothing while there is none."""
        return str(self.run(f"document.querySelector({json.dumps(css)})?.textContent ?? ''"))

    def wait_for(self, css: str, part: str = "") -> None:
        """Until there is an element that says something."""
        there = f"document.querySelector({json.dumps(css)}) !== null"
        wait_until(lambda: self.run(there) and part in self.text(css), SECONDS, f"{css}: {part}")

    def fill(self, css: str, text: str) -> None:
        """Write over what a field holds."""
        self.wait_for(css)
        there = f"document.querySelector({json.dumps(css)})"
        self.run(f"{there}.focus(), {there}.select()")
        self.press(text)

    def press(self, keys: str) -> None:
        """On the keyboard."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": strokes}]
        self.ask("input.performActions", context=self._context, actions=actions)


@contextmanager
def firefox(processes: Processes, folder: Path) -> Iterator[Firefox]:
    """A browser, which is ended with all its processes."""
    profile, port = folder / "firefox", free_port()
    profile.mkdir()
    # Nothing of it looks for anything outside this host.
    quiet = ("app.normandy.enabled", "network.captive-portal-service.enabled")
    lines = [f'user_pref("{name}", false);\n' for name in quiet]
    (profile / "user.js").write_text("".join(lines))
    command = [
        *(require("firefox-esr", "firefox-esr"), "--headless", "--no-remote"),
        *("--profile", str(profile), "--remote-debugging-port", str(port), "about:blank"),
    ]
    process = processes.start(
        "firefox", command, cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    )
    process.wait_for("WebDriver BiDi listening", START_SECONDS)
    with connect(f"ws://127.0.0.1:{port}/session", max_size=None) as connection:
        yield Firefox(connection)
    process.stop()
