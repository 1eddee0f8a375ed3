"""Idle strangers at the doors of a real daemon, and a daemon with few files."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterator

import pytest

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN, START_SECONDS
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.tools import require, script

ALICE, PASSWORD, SECRET = f"alice@{DOMAIN}", "alice's pass word", "s3cret-of-cb1"
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def strangers(
    port: int, count: int, context: ssl.SSLContext | None = None
) -> Iterator[list[socket.socket]]:
    """Connections that say nothing more, once TLS is there."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            plain = socket.create_connection((LOOPBACK, port), 10.0)
            opened.append(context.wrap_socket(plain) if context is not None else plain)
        yield opened
    finally:
        for each in opened:
            each.close()


def anything() -> ssl.SSLContext:
    """TLS that believes everybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def health(port: int) -> bytes:
    """The answer's first line to a newcomer."""
    plain = socket.create_connection((LOOPBACK, port), 10.0)
    with anything().wrap_socket(plain) as secure:
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return secure.recv(100).partition(b"\r\n")[0]


@pytest.fixture
def server(processes: Processes, certificates: Certificates) -> XmppServer:
    """Made, not started."""
    server = XmppServer(processes, certificates, {"cb1": SECRET})
    server.settings["listen"]["api"] = [f"tcp:{free_port()}:interface={LOOPBACK}"]
    return server


def api_port(server: XmppServer) -> int:
    """Where its API is."""
    return int(server.settings["listen"]["api"][0].split(":")[1])


def test_idle_strangers_at_the_api(server: XmppServer) -> None:
    """More of them than there are places: a newcomer is served, each time."""
    server.start()
    with strangers(api_port(server), 250, anything()):
        for _ in range(3):
            assert health(api_port(server)).startswith(b"HTTP/1.1 503")  # no Callbridge yet
    assert len(re.findall("connections? dropped to make room", server.process.output)) == 1


def test_idle_strangers_at_the_other_doors(
    server: XmppServer, processes: Processes, certificates: Certificates
) -> None:
    """A Callbridge registers, and its users log in, while strangers fill both listeners."""
    pair = certificates.issue(DOMAIN, "localhost")
    server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
    server.settings["most_connections"] = 60
    server.start()
    address = f"localhost:{server.component_port}"
    callbridge = Callbridge(processes, certificates, SECRET, server_address=address)
    callbridge.add_user(ALICE, PASSWORD)
    with strangers(server.component_port, 90), strangers(server.client_port, 90):
        callbridge.start()
        with strangers(server.component_port, 90):
            port, trust = server.client_port, certificates.trust
            client = slixmpp_client(processes, ALICE, PASSWORD, port, trust)
            client.connected()
            with strangers(port, 90):
                assert client.ping(DOMAIN)["type"] == "result"


@pytest.mark.parametrize("files", [40, 120])
def test_few_files(server: XmppServer, processes: Processes, files: int) -> None:
    """It starts, says how many it has, serves whom it can, and says so when they run out."""
    require("prlimit", "util-linux")
    server.launcher = ["prlimit", f"--nofile={files}:{files}"]
    server.start()
    assert f"may have {files} files open" in server.process.output
    assert f"the daemon may open {files} files" in server.process.output
    with strangers(server.client_port, files + 20):
        wait_until(
            lambda: bool(re.search("dropped to make room|closed unheard", server.process.output)),
            START_SECONDS,
            "a word about it",
        )
        assert health(api_port(server)).startswith(b"HTTP/1.1 503")
        command = [*script("cms"), "check", "--server", "--json", "--config", str(server.file)]
        status, output = processes.run("check", command, env=daemon_environment())
        assert status in (0, 1), output
        findings = json.loads(output[output.index("{") :])["findings"]
        told = [finding["fault"] for finding in findings]
        assert {"files-few", "files-run-out"} & set(told), told
    if "closed unheard" in server.process.output:  # which of the two it is, the kernel decides
        server.expect_error("closed unheard")


def test_soft_limit_is_raised(server: XmppServer) -> None:
    """What a shell gives is not what there is."""
    require("prlimit", "util-linux")
    server.launcher = ["prlimit", "--nofile=1024:4096"]
    server.start()
    assert "may have 4096 files open" in server.process.output
