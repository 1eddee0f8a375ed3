"""Two servers of each kind as one service, on the core of one."""

from __future__ import annotations

import json
from typing import Protocol

from bench.servers import Ports, QuickEjabberd, Server, make_callbridge, make_server
from peers.api import Administration
from peers.certs import Certificates, Pair
from peers.contract import DOMAIN, LINK_SECONDS, START_SECONDS
from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.redis import Redis
from peers.tools import require


class Cluster(Server, Protocol):
    """
    Two servers.

    @ivar ports: Of the first, where the Callbridge is.
    @ivar other: Of the second.
    """

    other: Ports

    def apart(self) -> list[Process]:
        """Those that work for both, and are told apart."""


class OurCluster:
    """Two C{twistd cms-xmpp}, their Redis, and a Callbridge at the first."""

    name = "ours, two"

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._redis = Redis(processes)
        made = [make_server(processes, certificates, f"xmpp{number}") for number in (1, 2)]
        self._servers = [server for server, _ in made]
        self.ports, self.other = (ports for _, ports in made)
        for server in self._servers:
            server.settings["cluster"] = {"engine": self._redis.address}
        self._dns, self._callbridge = make_callbridge(processes, certificates, self.ports)

    def start(self) -> None:
        """Start all, and wait until both know each other and log-ins are decided."""
        self._redis.start()
        self._dns.start()
        for daemon in (*self._servers, self._callbridge):
            daemon.launch()
            Administration(daemon.directory / "state").wait(START_SECONDS)
        for server in self._servers:
            Administration(server.directory / "state").wait_for_health(200, LINK_SECONDS)

    def stop(self) -> None:
        """End all."""
        servers = [server.process for server in self._servers]
        for process in (self._callbridge.process, *servers, self._redis.process, self._dns.process):
            if process is not None:
                process.stop()

    def processes(self) -> list[Process]:
        """The servers' and the Callbridge's."""
        return [*(server.process for server in self._servers), self._callbridge.process]

    def apart(self) -> list[Process]:
        """Redis."""
        return [] if self._redis.process is None else [self._redis.process]


_JOINED = "has joined the cluster"


class _JoinedEjabberd(QuickEjabberd):
    """
    One of two, which speak Erlang's distribution without its port mapper: both listen on one
    port, on addresses of their own.
    """

    def __init__(self, processes: Processes, pair: Pair, number: int, port: int) -> None:
        self.host = f"127.0.0.{number}"
        self.node = f"bench@{self.host}"
        self._port = port
        self.name = f"ejabberd-{number}"
        super().__init__(processes, pair)

    def join(self, other: _JoinedEjabberd) -> None:
        """Become one with the other."""
        call = f"ejabberd_cluster:join('{other.node}')"
        say = f'io:format("{_JOINED}: ~p~n", [{call}])'
        self._start(say)
        self.process.wait_for(_JOINED, 60.0)
        assert f"{_JOINED}: ok" in self.process.output, self.process.output[-300:]

    def _start(self, say: str) -> None:
        host = self.host.replace(".", ",")
        command = [
            require("erl", "ejabberd"),
            *("-noinput", "-name", self.node, "-setcookie", "bench"),
            *("-start_epmd", "false", "-erl_epmd_port", str(self._port)),
            *("-kernel", "inet_dist_use_interface", f"{{{host}}}"),
            *("-mnesia", "dir", json.dumps(str(self._directory / "spool"))),
            *("-s", "ejabberd", "-eval", f"{say}."),
        ]
        self.process = self._processes.start(
            self.name, command, cwd=self._directory, env=self._environment()
        )

    def start(self) -> Process:
        """Start it, with its users."""
        self._start(self._register_users().removesuffix("."))
        self.process.wait_for("test users are registered", 60.0)
        self.wait()
        return self.process

    def wait(self) -> None:
        """Until its ports are open."""
        for port in (self.client_port, self.component_port, self.plain_port):
            wait_until(lambda port=port: listens(port), 30.0, f"ejabberd's port {port}")  # type: ignore[misc]


class EjabberdCluster:
    """Two ejabberd, the second of which has joined the first (C{ejabberdctl join_cluster})."""

    name = "ejabberd, two"

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        pair, port = certificates.issue(DOMAIN), free_port()
        self._nodes = [_JoinedEjabberd(processes, pair, number, port) for number in (1, 2)]
        self.ports, self.other = (node.ports for node in self._nodes)

    def start(self) -> None:
        """Start both."""
        one, two = self._nodes
        one.start()
        two.join(one)
        two.wait()

    def stop(self) -> None:
        """End both."""
        for node in self._nodes:
            node.process.stop()

    def processes(self) -> list[Process]:
        """Both."""
        return [node.process for node in self._nodes]

    def apart(self) -> list[Process]:
        """There is nothing else."""
        return []
