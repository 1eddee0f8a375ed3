"""Prometheus (Debian's prometheus), which scrapes both daemons as docs/metrics.md says."""

from __future__ import annotations

import http.client
import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from peers.certs import Certificates
from peers.contract import ROOT
from peers.daemons import Daemon
from peers.network import free_port
from peers.processes import Processes
from peers.tools import require


class Prometheus:
    """
    One server.  The daemons must have been started: their first accounts are used.

    @param daemons: For each job of the documentation, the daemon, the port of
        its C{listen.api} and the name in its certificate.
    """

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        daemons: dict[str, tuple[Daemon, int, str]],
    ) -> None:
        self._processes = processes
        self._directory = processes.make_directory("prometheus")
        self.port = free_port()
        shutil.copy(ROOT / "docs" / "alerts.yml", self._directory)
        jobs = self._documented_jobs()
        assert set(jobs) == set(daemons)
        text = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\n"
        text += "scrape_configs:\n"
        for job, (daemon, port, name) in daemons.items():
            text += self._adapted(jobs[job], daemon, port, name, certificates.trust)
        self._file = self._directory / "prometheus.yml"
        self._file.write_text(text)

    @staticmethod
    def _documented_jobs() -> dict[str, str]:
        text = (ROOT / "docs" / "metrics.md").read_text()
        found = re.search(r"```yaml\nscrape_configs:\n(.*?)```", text, re.DOTALL)
        assert found is not None
        jobs = re.split(r"^(?=  - job_name)", found[1], flags=re.MULTILINE)[1:]
        return {job.split()[2]: job for job in jobs}

    @staticmethod
    def _adapted(job: str, daemon: Daemon, port: int, name: str, trust: Path) -> str:
        password = daemon.directory / "state" / "admin.password"
        for pattern, own in (
            (r"targets: \[[^]]*\]", f'targets: ["127.0.0.1:{port}"]'),
            (r"/etc/prometheus/cms\.password", str(password)),
            (r"ca_file: [^}]*", f"ca_file: {trust}, server_name: {name}"),
        ):
            job, count = re.subn(pattern, own, job)
            assert count == 1, (pattern, job)
        return job

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            require("prometheus", "prometheus"),
            f"--config.file={self._file}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        process = self._processes.start("prometheus", command, cwd=self._directory)
        process.wait_for("Server is ready to receive web requests", 30.0)

    def get(self, path: str) -> Any:
        """The data of an answer of its API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20.0)
        try:
            connection.request("GET", f"/api/v1/{path}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", (path, answer)
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now."""
        found: list[dict[str, Any]] = self.get(f"query?query={quote(expression)}")["result"]
        return found

    def firing(self) -> set[str]:
        """The names of alerts that fire, or would if they lasted."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"]}
