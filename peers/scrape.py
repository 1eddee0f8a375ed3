"""The figures of a running daemon, as Prometheus gets them."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from peers.daemons import Daemon


class _Local(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20.0)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Figures:
    """
    One scrape, over the daemon's administration socket.

    @ivar text: As it came.
    """

    def __init__(self, daemon: Daemon) -> None:
        connection = _Local(daemon.directory / "state" / "admin.sock")
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            self.text = answer.read().decode()
            self.content_type = answer.getheader("Content-Type")
            assert answer.status == 200, self.text
        finally:
            connection.close()

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the series with this name and, among others, these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
