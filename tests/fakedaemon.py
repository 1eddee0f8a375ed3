"""A daemon's administration on a UNIX socket, as much of it as the commands ask for."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from unittest import TestCase
from urllib.parse import parse_qsl


class FakeDaemon:
    """
    Answers from a table, and remembers what it was asked.

    @ivar answers: For a method and path the status and what is sent as JSON;
        bytes are sent as they are.
    @ivar asked: Method, path and form of each request.
    @ivar until: The Unix time until which each waits.
    """

    def __init__(self, test: TestCase, state_dir: Path) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.until: list[float] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        state_dir.mkdir(exist_ok=True)
        self.path = state_dir / "admin.sock"
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "local"

            def log_message(self, *arguments: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                path, _, query = self.path.partition("?")
                asked = dict(parse_qsl(query)) | dict(parse_qsl(body, keep_blank_values=True))
                assert self.headers["Accept"] == "application/json"
                daemon.until.append(float(self.headers["X-Until"]))
                daemon.asked.append((self.command, path, asked))
                status, answer = daemon.answers.get((self.command, path), (200, {}))
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *arguments: object) -> None:
                """A client that went away is no matter."""

        server = Server(str(self.path), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        test.addCleanup(stop)

    def get(self, path: str, answer: object, status: int = 200) -> None:
        """What is at C{/api/v1/<path>}."""
        self.answers["GET", f"/api/v1/{path}"] = status, answer

    def changes(self) -> list[tuple[str, str, dict[str, str]]]:
        """What it was asked to change."""
        return [asked for asked in self.asked if asked[0] != "GET"]
