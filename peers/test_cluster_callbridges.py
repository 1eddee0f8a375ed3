"""Registered Callbridges: changed once, for all servers of a cluster, by a real Redis."""

from __future__ import annotations

import hashlib
import json
import re
import socket

from cms import faults
from peers.certs import Certificates
from peers.component import header, read
from peers.contract import DOMAIN
from peers.daemons import XmppServer, daemon_environment
from peers.network import wait_until
from peers.processes import Processes
from peers.redis import Redis
from peers.test_cluster import JOINED
from peers.test_cluster_engine import USER
from peers.tools import script

SECONDS = 60.0
CURE = "redis-cli hdel cms:callbridges cb8; redis-cli hdel cms:service shared"


class Servers:
    """Two of them, and an engine in which they may do only what the documents give them."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        self.engine = Redis(processes, USER)
        self.engine.start()
        self.both = [
            XmppServer(processes, certificates, {"cb1": "s3cret"}, name)
            for name in ("xmpp1", "xmpp2")
        ]
        engine = {"engine": self.engine.address, "user": "cms", "password": "pw"}
        for server in self.both:
            server.settings["cluster"] = engine
            server.write()

    def start(self) -> None:
        """Both, which are in when this returns."""
        for server in self.both:
            server.start()
        for server in self.both:
            server.process.wait_for(JOINED, SECONDS)

    def command(self, server: XmppServer, *words: str) -> str:
        """C{cms xmpp callbridge} at one of them; what it prints."""
        command = [*script("cms"), "xmpp", "callbridge", *words, "--config", str(server.file)]
        status, output = self.processes.run("cms", command, env=daemon_environment())
        assert status == 0, output
        return output

    def secret(self, server: XmppServer, *words: str) -> str:
        """The secret that such a command has made."""
        output = self.command(server, *words, "--json")
        made = json.loads(output[output.index("{") : output.rindex("}") + 1])
        return str(made["secret"])

    def link(self, server: XmppServer, name: str, secret: str) -> Component:
        """A component at this server, which has tried to register."""
        return Component(server.component_plain_port, name, secret)


class Component:
    """A component's connection; C{answer} is what its handshake has brought."""

    def __init__(self, port: int, name: str, secret: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        to = f" to='{name}.{DOMAIN}' x=".encode()
        self.socket.sendall(header(ident=None).replace(b" from=", to, 1))
        heard = read(self.socket, b"", lambda data: re.search(rb" id='[^']*'", data))
        found = re.search(rb" id='([^']*)'", heard)
        self.answer = heard
        if found is not None and b"error" not in heard:
            digest = hashlib.sha1(found[1] + secret.encode()).hexdigest()
            self.socket.sendall(f"<handshake>{digest}</handshake>".encode())
            self.answer = read(self.socket, b"", lambda data: b">" in data)

    def end(self) -> bytes:
        """What it hears until its stream ends."""
        with self.socket:
            return read(self.socket, self.answer, lambda data: b"</stream:stream>" in data)


def test_once_for_all(processes: Processes, certificates: Certificates) -> None:
    """Added, rotated and deleted at the one server, it is so at the other, whatever is lost."""
    servers = Servers(processes, certificates)
    one, two = servers.both
    servers.command(two, "add", "cb7")  # before anything runs
    servers.start()
    first = servers.secret(two, "add", "cb8")
    link = servers.link(one, "cb8", first)
    assert link.answer.startswith(b"<handshake/>")
    second = servers.secret(two, "rotate", "cb8", "--overlap", "60")
    again = servers.secret(one, "rotate", "cb8", "--overlap", "0")
    assert b"not-authorized" in link.end()  # the first expired with the second rotation
    assert b"not-authorized" in servers.link(two, "cb8", second).end()
    link = servers.link(two, "cb8", again)
    assert link.answer.startswith(b"<handshake/>")

    # the engine loses all: what the servers have is put there again
    processes.expect_error("The engine of the cluster")
    servers.engine.kill()
    servers.engine.start()
    for server in servers.both:
        server.process.wait_for(JOINED, SECONDS, times=2)
    wait_until(
        lambda: "cb7" in servers.engine.command("HKEYS", "cms:callbridges"), SECONDS, "the records"
    )
    assert "cb8" in servers.command(two, "list")

    # somebody else writes there
    servers.engine.command("HSET", "cms:callbridges", "cb8", "9000000000000 []")
    servers.engine.command("HSET", "cms:service", "shared", "1")
    start = faults.CLUSTER_BAD_CALLBRIDGE.cause.partition("{")[0]
    for server in servers.both:
        server.process.wait_for(start, SECONDS)
    assert "cb8" in servers.command(one, "list")
    for line in CURE.split("; "):
        servers.engine.command(*line.split()[1:])
    wait_until(
        lambda: "cb8" in servers.engine.command("HKEYS", "cms:callbridges"), SECONDS, "its record"
    )

    servers.command(one, "del", "cb8")
    assert b"host-gone" in link.end()
    assert b"host-unknown" in servers.link(one, "cb8", again).end()
    assert "cb8" not in servers.command(two, "list")
    for server in servers.both:
        for secret in (first, second, again):
            assert secret not in server.process.output
