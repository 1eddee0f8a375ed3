"""
Three servers, two Callbridges and an engine, with Sentinels or with a proxy before it for each
server; and what can be broken of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hiredis

from peers.api import Administration
from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import DOMAIN
from peers.daemons import Callbridge, Daemon, XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.redis import Redis, Sentinels
from peers.road import Road

SECONDS = 60.0
QUIET = 2.5  # seconds, more than after which Sentinels hold a master for dead
USERS = tuple(f"u{number}" for number in range(7))
# What is said of faults that were brought about.
TOLD = (
    "The engine of the cluster",
    "cannot renew its lease",
    "has not joined the cluster yet",
    "A server that lives has the name",  # of a process that was killed, until its lease is over
)


def ask(port: int, *words: str, seconds: float = 2.0) -> Any:
    """
    Ask Redis, or a Sentinel.

    @raise OSError: it is not there, or does not answer.
    """
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.settimeout(seconds)
        connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        while (answer := reader.gets()) is False:
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError
            reader.feed(data)
    return answer


class Direct:
    """One Redis, to which each server has a way of its own."""

    def __init__(
        self, processes: Processes, servers: int, environment: Mapping[str, str] | None
    ) -> None:
        self.redis = Redis(processes, environment=environment)
        self.redis.start()
        self.roads = [Road(self.redis.port) for _ in range(servers)]

    def address(self, server: int) -> str:
        """For C{cluster.engine}."""
        return f"redis://127.0.0.1:{self.roads[server].port}/0"

    @property
    def master(self) -> Redis:
        """The one that is written to."""
        return self.redis

    def mend(self) -> None:
        """All is well again."""
        process = self.redis.process
        if process is None or not process.running:
            self.redis.start()
        else:
            self.redis.thaw()
        for road in self.roads:
            road.delay = 0.0
            road.speak()
            if road.is_closed:
                road.open()

    def close(self) -> None:
        """The ways end."""
        for road in self.roads:
            road.speak()
            road.close()


class Watched:
    """A master and its replica, with three Sentinels."""

    roads: list[Road] = []

    def __init__(self, processes: Processes) -> None:
        self.sentinels = Sentinels(processes)
        self.sentinels.start()
        self._agreed = 0.0

    def address(self, server: int) -> str:
        """For C{cluster.engine}."""
        return self.sentinels.address

    def _ask(self, *words: str) -> Any:
        for port in self.sentinels.ports:
            with contextlib.suppress(OSError):
                return ask(port, "SENTINEL", *words)
        raise AssertionError("no Sentinel answers")

    @property
    def both(self) -> tuple[Redis, Redis]:
        """The two."""
        return self.sentinels.master, self.sentinels.replica

    @property
    def master(self) -> Redis:
        """The one that the Sentinels call so."""
        port = int(self._ask("GET-MASTER-ADDR-BY-NAME", "cms")[1])
        return next(each for each in self.both if each.port == port)

    def fail_over(self) -> None:
        """As an administrator does it."""
        self._ask("FAILOVER", "cms")

    def mend(self) -> None:
        """Both run, one follows the other, and the Sentinels know it."""
        for redis in self.both:
            assert redis.process is not None
            if redis.process.running:
                redis.thaw()
            else:
                redis.start()
        self._agreed = time.monotonic()
        wait_until(self._follows, 60, "a replica that follows")

    def _named(self) -> set[int]:
        """The ports that the Sentinels call the master's."""
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cms")
        return {int(ask(port, *words)[1]) for port in self.sentinels.ports}

    def _follows(self) -> bool:
        master = self.master
        if self._named() != {master.port}:
            self._agreed = time.monotonic()
        if time.monotonic() - self._agreed < QUIET:
            return False  # they may be about to name another one
        other = next(each for each in self.both if each is not master)
        try:
            role = ask(other.port, "ROLE")
            if ask(master.port, "ROLE")[0] == role[0] == "slave":
                ask(master.port, "REPLICAOF", "NO", "ONE")  # each came back with its first file
                return False
            # The Sentinels do so by themselves, after ten seconds.
            if ask(master.port, "ROLE")[0] == "master" and (
                role[0] == "master" or int(role[2]) != master.port
            ):
                ask(other.port, "REPLICAOF", "127.0.0.1", str(master.port))
                return False
        except OSError:
            return False
        replicas = self._ask("REPLICAS", "cms")
        facts = [dict(zip(each[::2], each[1::2], strict=True)) for each in replicas]
        return any(f["flags"] == "slave" and f["master-link-status"] == "ok" for f in facts)

    def close(self) -> None:
        """Nothing."""


class World:
    """
    All of it, started.

    @ivar engine: L{Direct} or L{Watched}.
    @ivar stopped: Which servers are stopped.
    @ivar waited_for: What was longest not as it should be, when all were to agree.
    """

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        *,
        sentinels: bool,
        lease: float = 3.0,
        patience: float = 8.0,
        servers: int = 3,
        redis_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.processes = processes
        self.lease = lease
        self.patience = patience
        self.stopped: set[int] = set()
        self.waited_for = ""
        if sentinels:
            self.engine: Watched | Direct = Watched(processes)
        else:
            self.engine = Direct(processes, servers, redis_environment)
        names = [f"xmpp{number}" for number in range(1, servers + 1)]
        secrets = {"cb1": "s3cret", "cb2": "s3cret2"}
        self.servers = [XmppServer(processes, certificates, secrets, name) for name in names]
        self.ports = [free_port() for _ in names]
        records = [f"{name} A 127.0.0.1" for name in names]
        records += [
            f"_xmpp-component._tcp SRV 1 10 {server.component_port} {name}"
            for name, server in zip(names, self.servers, strict=True)
        ]
        dns = Bind(processes, {DOMAIN: records})
        dns.start()
        for number, server in enumerate(self.servers):
            server.settings["listen"] |= {
                "client_plain": [f"tcp:{self.ports[number]}:interface=127.0.0.1"]
            }
            server.settings["dns"] = {"servers": [dns.address]}
            server.settings["cluster"] = {
                "engine": self.engine.address(number),
                "lease": lease,
                "patience": patience,
            }
        self.callbridges = [
            Callbridge(processes, certificates, secret, name=name, dns=dns)
            for name, secret in secrets.items()
        ]
        for each in self.servers:
            each.launch()
        for server in self.servers:
            server.process.wait_for("is in the cluster, generation", SECONDS)
        for callbridge in self.callbridges:
            callbridge.launch()
        for callbridge in self.callbridges:
            callbridge.wait_active()
            for user in USERS:
                status, told = self.at(callbridge).ask(
                    "POST", "/api/v1/users", userJid=f"{user}@{DOMAIN}", password="password"
                )
                assert status == 200, told
        for text in TOLD:
            processes.allow_error(text)

    @staticmethod
    def at(daemon: Daemon) -> Administration:
        """Its administration."""
        return Administration(daemon.directory / "state")

    # what can be broken of servers

    def kill(self, server: int) -> None:
        """SIGKILL."""
        self.servers[server].process.kill()
        self.stopped.discard(server)

    def start(self, server: int) -> None:
        """Start it again; it is waited for at the end."""
        if not self.servers[server].process.running:
            self.servers[server].launch()

    def stop(self, server: int) -> None:
        """SIGSTOP."""
        self.servers[server].process.signal(signal.SIGSTOP)
        self.stopped.add(server)

    def go_on(self, server: int) -> None:
        """SIGCONT."""
        self.servers[server].process.signal(signal.SIGCONT)
        self.stopped.discard(server)

    def works(self, server: int) -> bool:
        """Whether its process runs."""
        return self.servers[server].process.running and server not in self.stopped

    # what is at rest

    def mend(self) -> None:
        """Whatever was broken is whole again."""
        for server in range(len(self.servers)):
            self.go_on(server)
        self.engine.mend()
        for server in range(len(self.servers)):
            self.start(server)
        self.mend_callbridges()

    def mend_callbridges(self) -> None:
        """They run."""
        for callbridge in self.callbridges:
            if not callbridge.process.running:
                callbridge.launch()

    def statuses(self) -> list[dict[str, Any]]:
        """
        What each server says of the cluster and of its own.

        @raise OSError: one does not answer.
        """
        found = []
        for server in self.servers:
            status = self.at(server).get("system/status")["status"]
            clients = self.at(server).get("clients?limit=100")["clients"]["client"]
            found.append(
                {**status["cluster"], "clients": clients, "active": status["callBridgesActive"]}
            )
        return found

    def disagreement(self, clients: int) -> str:
        """
        What is not as it should be at rest; empty: all agree.

        @param clients: How many sessions there are.
        """
        try:
            found = self.statuses()
            decided = [self._decided(each) for each in self.callbridges]
        except OSError as problem:
            return f"no answer: {problem}"
        names = [str(server.settings["hostname"]) for server in self.servers]
        own = dict(zip(names, found, strict=True))
        for name, each in own.items():
            others = {node["node"]: node for node in each["nodes"]}
            if each["state"] != "in":
                return f"{name} is {each['state']}: {each['problem']}"
            if set(others) | {name} != set(names):
                return f"{name} knows {sorted(others)}"
            for other, facts in others.items():
                if facts["sessions"] != sum(c["server"] == other for c in own[other]["clients"]):
                    return f"{name} knows {facts['sessions']} sessions of {other}"
                if facts["links"] != own[other]["active"]:
                    return f"{name} knows {facts['links']} links of {other}"
                if facts["waitingBytes"]:
                    return f"{facts['waitingBytes']} bytes wait at {name} for {other}"
        all_shown = [
            sorted((client["jid"], client["server"]) for client in each["clients"])
            for each in found
        ]
        for name, those in zip(names[1:], all_shown[1:], strict=True):
            if those != all_shown[0]:
                return f"{names[0]} shows {all_shown[0]}, and {name} {those}"
        shown = found[0]["clients"]
        if len({client["jid"] for client in shown}) != len(shown):
            return f"an address has two owners: {all_shown[0]}"
        if len(shown) != clients:
            return f"{len(shown)} sessions for {clients} clients"
        for callbridge, table in zip(self.callbridges, decided, strict=True):
            address = f"{callbridge.name}.{DOMAIN}"
            wanted = sum(client["callBridge"] == address for client in shown)
            if table != wanted:
                return f"{address} has {table} sessions, and decided {wanted}"
        return ""

    def _decided(self, callbridge: Callbridge) -> int:
        _, text = self.at(callbridge).ask("GET", "/metrics")
        found = re.search(r"^cms_callbridge_sessions ([0-9.]+)", text, re.MULTILINE)
        return -1 if found is None else int(float(found[1]))

    def settle(self, clients: Callable[[], int], seconds: float) -> float:
        """
        Wait until all agree; how long it took.

        @param clients: How many sessions there are.
        """
        began, problem = time.monotonic(), ""
        lasted: Counter[str] = Counter()

        def agree() -> bool:
            nonlocal problem
            time.sleep(0.1)
            problem = self.disagreement(clients())
            if problem:
                lasted[re.sub(r"^\d+ bytes", "bytes", problem)] += 1
            return not problem

        try:
            wait_until(agree, seconds, "agreement")
        except AssertionError:
            raise AssertionError(f"no agreement within {seconds:g} s: {problem}") from None
        finally:
            self.waited_for = max(lasted, key=lasted.__getitem__, default="")
        return time.monotonic() - began

    def memory(self) -> list[int]:
        """KiB of each server."""
        found = []
        for server in self.servers:
            text = Path(f"/proc/{server.process.pid}/statm").read_text()
            found.append(int(text.split()[1]) * os.sysconf("SC_PAGESIZE") // 1024)
        return found

    def close(self) -> None:
        """The test is over."""
        self.engine.close()
