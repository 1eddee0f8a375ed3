"""A client of a daemon's administration, over its UNIX socket."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cms.control.place import socket_path
from peers.network import wait_until

_SECONDS = 30.0


class _Connection(HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        super().__init__("cms", timeout=_SECONDS)
        self._state_dir = state_dir

    def connect(self) -> None:
        """Over the socket, however long its path is."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with socket_path(self._state_dir) as path:
            self.sock.connect(path)


class Administration:
    """
    What the owner of a state directory may do.

    A daemon that is not there raises C{OSError}.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def ask(self, method: str, path: str, **form: str) -> tuple[int, str]:
        """Status and body."""
        connection = _Connection(self._state_dir)
        try:
            headers = {"Accept": "application/json"}
            if form:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, urlencode(form) if form else None, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """What a GET of an object below C{/api/v1} says, which must succeed."""
        status, body = self.ask("GET", f"/api/v1/{path}")
        assert status == 200, body
        return json.loads(body)

    def sync(self, **form: str) -> dict[str, Any]:
        """Sync the directories, and wait for the end: the newest sync."""
        status, body = self.ask("POST", "/api/v1/ldapSyncs", **form, allowRemoval="false")
        assert status == 200, body

        def newest() -> dict[str, Any]:
            found: dict[str, Any] = self.get("ldapSyncs")["ldapSyncs"]["ldapSync"][0]
            return found

        wait_until(lambda: newest()["state"] != "inProgress", 20.0, "the end of a sync")
        return newest()

    def is_there(self) -> bool:
        """Whether a daemon answers."""
        try:
            self.ask("GET", "/healthz")
        except OSError:
            return False
        return True

    def wait(self, seconds: float) -> float:
        """Wait until a daemon answers; how long it took."""
        return wait_until(self.is_there, seconds, "the administration")

    def health(self) -> int:
        """The status of C{/healthz}."""
        return self.ask("GET", "/healthz")[0]

    def wait_for_health(self, status: int, seconds: float) -> float:
        """Wait for a status of C{/healthz}."""
        return wait_until(lambda: self.health() == status, seconds, f"healthz to say {status}")
