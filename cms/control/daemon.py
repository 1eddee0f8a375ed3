"""
The client of a running daemon's socket, used by commands, checks and diagrams.

A command has nothing else to do while it waits.  So this blocks, with a time limit, and
uses the standard library's HTTP client.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from cms.control.place import SOCKET, UNTIL, socket_path
from cms.signalflow import printable

TIMEOUT = 10.0  # seconds for a whole request
PATIENCE = 3.0  # the same, where the daemon's answer is not essential
MOST_BYTES = 16 * 1024 * 1024
PAGE = 200  # entries of a list at a time


class ControlError(Exception):
    """
    The daemon could not be asked, or refused.

    @ivar problem: What happened, a sentence without its full stop.
    @ivar cure: What mends it; empty if that is not known.
    """

    def __init__(self, problem: str, cure: str = "") -> None:
        self.problem, self.cure = printable(problem), printable(cure)
        super().__init__(f"{self.problem}. Cure: {self.cure}" if cure else self.problem)


class Forbidden(ControlError):
    """This user may not ask the daemon."""

    def __init__(self, path: Path, problem: OSError) -> None:
        super().__init__(
            f"{path}: {problem.strerror}", "run the command as the user of the daemon, or as root."
        )


class NoAnswer(ControlError):
    """Something listens at the socket, but does not answer as a daemon does."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(
            f"the daemon at {path} does not answer ({problem})",
            "look at its log and its load, and restart it if it hangs.",
        )


class NotRunning(NoAnswer):
    """No daemon uses this state directory."""


class Refused(ControlError):
    """
    The daemon refused what was asked.

    @ivar reason: The name of the refusal, such as C{callBridgeDoesNotExist}.
    """

    def __init__(self, reason: str, problem: str, cure: str) -> None:
        super().__init__(problem.rstrip("."), cure)
        self.reason = reason


class _Socket(socket.socket):
    """
    A socket with a time limit for the whole request, however slowly bytes come.

    @ivar left: Gives the seconds left.
    """

    left: Callable[[], float]

    def recv_into(self, *arguments: Any) -> int:
        """
        What the HTTP client reads with.

        @raise TimeoutError: the time is over.
        """
        left = self.left()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket, however long the path of its folder is."""

    def __init__(self, path: Path, left: Callable[[], float]) -> None:
        super().__init__("localhost")
        self._path = path
        self._left = left

    def connect(self) -> None:
        """Connect."""
        self.sock = sock = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.left = self._left
        sock.settimeout(self._left())
        try:
            with socket_path(self._path.parent) as short:
                sock.connect(short)
        except OSError:
            sock.close()
            raise


class Daemon:
    """
    A daemon that runs.

    @ivar path: Its socket.
    @param timeout: Seconds for a request, from connecting to its last byte; else L{TIMEOUT}.
    @param seconds: Monotonic.
    """

    def __init__(
        self,
        state_dir: Path,
        timeout: float | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = state_dir / SOCKET
        self._timeout = TIMEOUT if timeout is None else timeout
        self._seconds = seconds

    @classmethod
    def find(cls, state_dir: Path, timeout: float | None = None) -> Daemon | None:
        """
        The daemon of a state directory, if it runs.

        @raise Forbidden: this user may not ask it.
        @raise NoAnswer: something else is wrong with its socket.
        """
        daemon = cls(state_dir, timeout)
        try:
            daemon._connect().close()
        except NotRunning:
            return None
        return daemon

    def get(self, path: str, **query: object) -> Any:
        """
        What is at C{/api/v1/<path>}.

        @raise ControlError: as each of these methods does; see its kinds.
        """
        return self._ask("GET", path, query)

    def status(self) -> dict[str, Any]:
        """The daemon's status."""
        return self._section("system/status", "status")

    def attempts(self, most: int) -> list[dict[str, Any]]:
        """The last attempts with their steps, the newest first."""
        found = self._section("system/signalflow", "signalFlow", limit=most).get("attempt", [])
        return found if isinstance(found, list) else []

    def health(self) -> dict[str, Any]:
        """
        Whether it does its job: C{healthy}, C{step}, C{name}, and C{cause} and C{cure} if
        they are known.
        """
        status, content = self._send("GET", "/healthz")
        answer = _json(content)
        if not isinstance(answer, dict) or "healthy" not in answer:
            raise NoAnswer(self.path, f"HTTP status {status}")
        return answer

    def all(self, path: str, listing: str, item: str, **query: object) -> list[dict[str, Any]]:
        """A whole list, however many pages it has."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(found), **query)[listing]
            found += page[item]
            if not page[item] or len(found) >= page["total"]:
                return found

    def post(self, path: str, **form: object) -> Any:
        """Make something."""
        return self._ask("POST", path, {}, form)

    def put(self, path: str, **form: object) -> Any:
        """Change something."""
        return self._ask("PUT", path, {}, form)

    def delete(self, path: str, **query: object) -> Any:
        """Delete something."""
        return self._ask("DELETE", path, query)

    def _section(self, path: str, name: str, **query: object) -> dict[str, Any]:
        """The part of an answer with this name."""
        answer = self.get(path, **query)
        section = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(section, dict):
            raise NoAnswer(self.path, f"it says nothing of its {name}")
        return section

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

    def _connect(self) -> _UnixConnection:
        """
        @raise NotRunning: nobody is there.
        """
        ends = self._seconds() + self._timeout
        connection = _UnixConnection(self.path, lambda: ends - self._seconds())
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as problem:
            raise NotRunning(self.path, problem.strerror) from None
        except PermissionError as problem:
            raise Forbidden(self.path, problem) from None
        except OSError as problem:
            raise NoAnswer(self.path, problem) from None
        return connection

    def _send(
        self, method: str, address: str, form: Mapping[str, object] | None = None
    ) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", UNTIL: f"{time.monotonic() + self._timeout:.3f}"}
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = self._connect()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # perhaps it has answered before
                connection.request(method, address, body, headers)
            response = connection.getresponse()
            return response.status, response.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as problem:
            raise NoAnswer(self.path, str(problem) or type(problem).__name__) from None
        finally:
            connection.close()

    def _refused(self, status: int, answer: object) -> NoReturn:
        details = answer.get("failureDetails") if isinstance(answer, dict) else None
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise Refused("bodyTooLong", "that is more than the daemon reads", "Give less.")
        if not isinstance(details, dict):
            raise NoAnswer(self.path, f"HTTP status {status}")
        reason, cause = str(details.get("reason", "")), str(details.get("cause") or "")
        cure = str(details.get("cure") or "")
        raise Refused(reason, cause or f"the daemon refused: {reason}", cure)


def _json(content: bytes) -> Any:
    """The decoded JSON; C{None} if it is none."""
    try:
        return json.loads(content) if content.strip() else {}
    except ValueError:
        return None


def segment(text: str) -> str:
    """A text quoted as a segment of a path."""
    return quote(text, safe="")
