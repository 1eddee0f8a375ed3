"""Redis, the engine of a cluster, and its Sentinels."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.tools import require

PACKAGE = "redis-server"


class Redis:
    """
    One Redis, on a loopback port, which keeps nothing on disk.

    @ivar process: Once it was started.
    """

    def __init__(
        self,
        processes: Processes,
        *options: str,
        name: str = "redis",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param environment: What is added to its environment.
        @param options: Lines of its file; C{port 0} and C{tls-port} for TLS alone.
        """
        self.port = free_port()
        self.name = name
        self._processes = processes
        self._options = options
        self._environment = {**os.environ, **(environment or {})}
        self._directory = processes.make_directory(name)
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """For C{cluster.engine}."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> None:
        """Start it, perhaps again, and wait until it listens."""
        lines = [f"port {self.port}", "bind 127.0.0.1", 'save ""', "appendonly no"]
        lines += [f"dir {self._directory}", *self._options, *more]
        file = self._directory / "redis.conf"
        file.write_text("\n".join(line.format(port=self.port) for line in lines) + "\n")
        command = [require("redis-server", PACKAGE), str(file)]
        self.process = self._processes.start(
            self.name, command, cwd=self._directory, env=self._environment
        )
        wait_until(lambda: listens(self.port), 10, "Redis to listen")

    def command(self, *words: str) -> str:
        """C{redis-cli}; what it answers."""
        command = [require("redis-cli", "redis-tools"), "-p", str(self.port), *words]
        status, output = self._processes.run(f"{self.name}-cli", command)
        assert status == 0, output
        return output.strip()

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()

    def freeze(self) -> None:
        """Stop its process."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.signal(signal.SIGCONT)


def password_file(folder: Path, password: str) -> str:
    """A file that holds it; its path."""
    file = folder / "redis.password"
    file.write_text(f"{password}\n")
    return str(file)


class Sentinels:
    """
    Three Sentinels over a master and its replica, called C{cms}.

    @ivar master: The one that is it at first.
    @ivar replica: The other.
    @ivar ports: Of the Sentinels.
    @ivar processes: Theirs, once they were started.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.master = Redis(processes, name="redis-one")
        self.replica = Redis(processes, f"replicaof 127.0.0.1 {self.master.port}", name="redis-two")
        self.ports = [free_port() for _ in range(3)]
        self.processes: list[Process] = []

    @property
    def address(self) -> str:
        """For C{cluster.engine}."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"sentinel://{hosts}/cms"

    def start(self) -> None:
        """Start all, and wait until the Sentinels know each other and the replica."""
        self.master.start()
        self.replica.start()
        for number, port in enumerate(self.ports):
            directory = self._processes.make_directory(f"sentinel-{number}")
            file = directory / "sentinel.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor cms 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds cms 2000\n"
                "sentinel failover-timeout cms 6000\n"
            )
            command = [require("redis-server", PACKAGE), str(file), "--sentinel"]
            name = f"sentinel-{number}"
            self.processes.append(self._processes.start(name, command, cwd=directory))
        for port in self.ports:
            wait_until(lambda: listens(port), 10, "a Sentinel to listen")  # noqa: B023
            wait_until(lambda: self._is_ready(port), 30, "a Sentinel to know all")  # noqa: B023

    def _is_ready(self, port: int) -> bool:
        command = [require("redis-cli", "redis-tools"), "-p", str(port)]
        _, output = self._processes.run("sentinel-cli", [*command, "info", "sentinel"])
        return "slaves=1,sentinels=3" in output
