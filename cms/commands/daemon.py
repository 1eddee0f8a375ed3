"""
A running daemon, asked through the UNIX socket in its state directory.

The command line is one request after the other, so the standard library's HTTP
client on that socket is all it takes.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from cms.commands.common import Complaint, Wrong
from cms.signalflow import printable

SOCKET = "admin.sock"
TIMEOUT = 10.0  # seconds for each of: connecting, sending, and what is received next
MOST_BYTES = 16 * 1024 * 1024
PAGE = 200  # entries of a list at a time


# The API's cures name its methods; who types commands has commands.
_CURES = {
    "callBridgeDoesNotExist": "cms xmpp callbridge list shows them.",
    "callBridgeAlreadyExists": "cms xmpp callbridge rotate changes its secret.",
    "userDoesNotExist": "cms callbridge user list shows them.",
    "userAlreadyExists": "cms callbridge user passwd changes its password.",
    "notFound": "Bring the command and the daemon to the same version.",
    "methodNotAllowed": "Bring the command and the daemon to the same version.",
    "unknownParameter": "Bring the command and the daemon to the same version.",
    "internalError": "See the daemon's log: journalctl -u cms-xmpp or -u cms-callbridge.",
}


class NoAnswer(Wrong):
    """Something is at the socket, but it does not answer as a daemon does."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(
            f"the daemon at {path} does not answer ({printable(str(problem))})."
            " Cure: look at its log and its load, or stop it; the command then works on the"
            " state directory."
        )


class RefusedByDaemon(Wrong):
    """
    The daemon refused what was asked.

    @ivar reason: The name of the refusal, such as C{callBridgeDoesNotExist}.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket, however long the path of its folder is."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect; a socket's address has room for some hundred bytes only."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        try:
            folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
            finally:
                os.close(folder)
        except OSError:
            self.sock.close()
            raise


class Daemon:
    """
    A daemon that runs.

    @ivar path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, state_dir: Path) -> Daemon | None:
        """
        The daemon of a state directory, if it runs.

        @raise Complaint: this user may not ask it.
        """
        path = state_dir / SOCKET
        connection = _UnixConnection(path)
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        except PermissionError as problem:
            raise Complaint(
                f"{path}: {problem.strerror}. Cure: run the command as the user of the daemon."
            ) from None
        except OSError as problem:
            raise NoAnswer(path, problem) from None
        finally:
            connection.close()
        return cls(path)

    def get(self, path: str, **query: object) -> Any:
        """What is at C{/api/v1/<path>}."""
        return self._ask("GET", path, query)

    def health(self) -> dict[str, Any]:
        """
        Whether it does its job: C{healthy}, C{step}, C{name}, and C{cause} and
        C{cure} where that is known.
        """
        status, content = self._send("GET", "/healthz")
        answer = _json(content)
        if not isinstance(answer, dict) or "healthy" not in answer:
            raise NoAnswer(self.path, f"HTTP status {status}")
        return answer

    def all(self, path: str, listing: str, item: str) -> list[dict[str, Any]]:
        """A whole list, however many pages it has."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(found))[listing]
            found += page[item]
            if not page[item] or len(found) >= page["total"]:
                return found

    def post(self, path: str, **form: object) -> Any:
        """Make something."""
        return self._ask("POST", path, {}, form)

    def put(self, path: str, **form: object) -> Any:
        """Change something."""
        return self._ask("PUT", path, {}, form)

    def delete(self, path: str) -> Any:
        """Delete something."""
        return self._ask("DELETE", path, {})

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        form: Mapping[str, object] | None = None,
    ) -> Any:
        address = f"/api/v1/{path}" + (f"?{urlencode(query)}" if query else "")
        status, content = self._send(method, address, form)
        answer = _json(content)
        if status != HTTPStatus.OK:
            self._refused(status, answer)
        if answer is None:
            raise NoAnswer(self.path, "it is not JSON")
        return answer

    def _send(
        self, method: str, address: str, form: Mapping[str, object] | None = None
    ) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"}
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = _UnixConnection(self.path)
        try:
            connection.request(method, address, body, headers)
            response = connection.getresponse()
            return response.status, response.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as problem:
            raise NoAnswer(self.path, problem or type(problem).__name__) from None
        finally:
            connection.close()

    def _refused(self, status: int, answer: object) -> NoReturn:
        details = answer.get("failureDetails") if isinstance(answer, dict) else None
        if not isinstance(details, dict):
            raise NoAnswer(self.path, f"HTTP status {status}")
        reason, cause = str(details.get("reason", "")), str(details.get("cause", ""))
        text = cause or f"the daemon refused: {reason}"
        cure = _CURES.get(reason, details.get("cure"))
        raise RefusedByDaemon(
            reason, printable(text.rstrip(".") + (f". Cure: {cure}" if cure else ""))
        )


def _json(content: bytes) -> Any:
    """What was sent; C{None} when it is not JSON."""
    try:
        return json.loads(content) if content.strip() else {}
    except ValueError:
        return None


def segment(text: str) -> str:
    """A part of a path, whatever characters it has."""
    return quote(text, safe="")


def where_text(role: str, daemon: Daemon | None, state_dir: Path) -> str:
    """Where something was done, for people."""
    if daemon is not None:
        return f"by the running {role} ({daemon.path})"
    return f"in {state_dir} (no {role} runs on it)"
