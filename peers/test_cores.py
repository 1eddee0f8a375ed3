"""Several servers of one host on the same ports, by one configuration file."""

from __future__ import annotations

import contextlib
import copy
import json
import signal
from typing import Any

from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.network import wait_until
from peers.processes import Processes
from peers.redis import Redis
from peers.test_cluster import JOINED
from peers.tools import script
from peers.wire import WireClient

USERS, PASSWORD = ("alice", "bob"), "password"
REGISTERED = f"component cb1.{DOMAIN} registered"
MOST = 30  # connections until one has come to each: all go to one but once in 2**29


class Host:
    """
    Two servers with one file, and a Callbridge.

    @ivar servers: By the names of their instances.
    """

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        engine = Redis(processes)
        engine.start()
        one = XmppServer(processes, certificates, {"cb1": "s3cret"})
        one.settings["cluster"] = {"engine": engine.address}
        self.file, self.port, self._trust = one.file, one.client_port, certificates.trust
        self.servers: dict[str, XmppServer] = {}
        for name in ("a", "b"):
            server = self.servers[name] = copy.copy(one)
            server.name, server.options = f"xmpp1-{name}", ["--instance", name]
        srv = f"_xmpp-component._tcp SRV 10 10 {one.component_port} xmpp1"
        dns = Bind(processes, {DOMAIN: [srv, "xmpp1 A 127.0.0.1"]})
        dns.start()
        self.callbridge = Callbridge(processes, certificates, "s3cret", dns=dns)
        for user in USERS:
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)

    def start(self) -> None:
        """All, which know each other when this returns."""
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.process.wait_for(JOINED, 20)
            server.process.wait_for(f"node {server.hostname}-", 20)
        self.callbridge.start()

    def command(self, *words: str) -> Any:
        """What C{cms xmpp} prints of one instance, as JSON."""
        command = [*script("cms"), "xmpp", *words, "--json", "--config", str(self.file)]
        status, output = self.processes.run("cms", command, env=daemon_environment())
        assert status == 0, output
        return json.loads(output[output.index("{") : output.rindex("}") + 1])

    def log_in(self, user: str) -> tuple[str, WireClient]:
        """A client, and the name of the instance that it came to."""
        client = WireClient(self.port, self._trust, user, PASSWORD)
        said = f"{client.jid} logged in"
        found: list[str] = []

        def is_seen() -> bool:
            found[:] = [n for n, server in self.servers.items() if said in server.process.output]
            return bool(found)

        wait_until(is_seen, 5, "the log-in to be logged")
        (name,) = found
        return name, client

    def one_each(self) -> dict[str, WireClient]:
        """Alice at the one and Bob at the other."""
        clients: dict[str, WireClient] = {}
        for _ in range(MOST):
            name, client = self.log_in(USERS[len(clients)])
            if name in clients:
                client.leave()
            else:
                clients[name] = client
            if len(clients) == len(self.servers):
                return clients
        raise AssertionError(f"all {MOST} came to {list(clients)}")


def test_one_port(processes: Processes, certificates: Certificates) -> None:
    """
    Clients come to both, reach each other, and one Callbridge decides for both.  One server is
    killed: only its own connections end, and new ones come to the other.
    """
    host = Host(processes, certificates)
    host.start()
    clients = host.one_each()
    alice, bob = clients.values()
    alice.send(f"<message to='{bob.jid}' type='chat' id='1'><body>across</body></message>")
    wait_until(lambda: any(e.get("id") == "1" for e in bob.hear()), 5, "a message")
    for instance in host.servers:
        shown = host.command("cluster", "status", "--instance", instance)
        assert shown["node"].endswith(f"-{instance}")
        assert [node["sessions"] for node in shown["nodes"]] == [1]
    first, second = clients
    (held_by,) = (n for n, s in host.servers.items() if REGISTERED in s.process.output)
    host.servers[first].process.signal(signal.SIGKILL)
    host.servers[first].process.wait_for_exit(10)  # until then its socket takes connections
    with contextlib.suppress(ConnectionResetError):
        assert alice.rest() == []
    assert bob.hear() == []
    host.callbridge.wait_active(times=1 + (held_by == first))
    name, _ = host.log_in("alice")
    assert name == second
    assert host.log_in("alice")[0] == second
    host.servers[first].start()
    host.servers[first].process.wait_for(JOINED, 20)
    bob.leave()
    clients = host.one_each()
    assert host.command("drain", "--wait", "--instance", first)["state"] == "drained"
    (ended,) = clients[first].rest()
    assert ended.tag.endswith("}error")
    for _ in range(3):  # the Callbridge has found the other one at the same port, too
        assert host.log_in("alice")[0] == second
    assert host.command("drain", "--cancel", "--instance", first)["state"] == "open"
    host.one_each()
