"""What stops the start of a daemon: one clear line, exit status 1, no traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peers.certs import Certificates, Pair
from peers.daemons import Callbridge, Daemon, XmppServer
from peers.faultcases import refusals
from peers.network import free_port
from peers.pki import Authority
from peers.processes import Processes

Make = Callable[[Processes, Certificates], Daemon]


def make_server(processes: Processes, certificates: Certificates) -> Daemon:
    """An XMPP server that would start."""
    return XmppServer(processes, certificates, {"cb1": "s3cret"})


def make_callbridge(processes: Processes, certificates: Certificates) -> Daemon:
    """A Callbridge that would start."""
    return Callbridge(processes, certificates, "s3cret", server_address="127.0.0.1:1")


BOTH = pytest.mark.parametrize("make", [make_server, make_callbridge])


def assert_refuses(daemon: Daemon, *words: str) -> None:
    """It ends with status 1 and one line, which holds its file and these words."""
    process = daemon.launch()
    status = process.wait_for_exit(20.0)
    output = process.output
    assert status == 1, output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if str(daemon.file) in line]
    assert len(lines) == 1, output
    for word in (*words, "Cure: "):
        assert word in lines[0], output
    assert "s3cret" not in output
    if process.errors:  # it had begun to log
        daemon.expect_error(lines[0])


def change(daemon: Daemon, path: str, value: Any) -> None:
    """Set the key C{path}, such as C{tls.key}."""
    *tables, key = path.split(".")
    table = daemon.settings
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value


@BOTH
@pytest.mark.parametrize("key", ["domian", "tls.certifcate", "listen.clinet"])
def test_unknown_key(
    make: Make, key: str, processes: Processes, certificates: Certificates
) -> None:
    """A key that nobody knows is named."""
    daemon = make(processes, certificates)
    change(daemon, key, "x")
    assert_refuses(daemon, key)


def test_other_role(processes: Processes, certificates: Certificates) -> None:
    """The file of the other daemon is recognised, and the right one named."""
    server, bridge = make_server(processes, certificates), make_callbridge(processes, certificates)
    server.settings, bridge.settings = bridge.settings, server.settings
    assert_refuses(server, "is the configuration of a Callbridge", "twistd cms-callbridge")
    assert_refuses(bridge, "is the configuration of an XMPP server", "twistd cms-xmpp")


@BOTH
def test_missing_key(make: Make, processes: Processes, certificates: Certificates) -> None:
    """A key that is needed and missing is named."""
    daemon = make(processes, certificates)
    change(daemon, "domain", None)
    assert_refuses(daemon, "domain")


@BOTH
@pytest.mark.parametrize("key", ["tls.certificate", "tls.key", "tls.trust"])
def test_missing_file(
    make: Make, key: str, processes: Processes, certificates: Certificates
) -> None:
    """A file that is not there is named with its key."""
    daemon = make(processes, certificates)
    change(daemon, key, "nowhere.pem")
    assert_refuses(daemon, key, "nowhere.pem")


@BOTH
def test_key_does_not_fit(make: Make, processes: Processes, certificates: Certificates) -> None:
    """A certificate that does not fit its key is refused."""
    daemon = make(processes, certificates)
    change(daemon, "tls.key", str(certificates.issue("other.example.com").key))
    assert_refuses(daemon, "tls.")


@BOTH
def test_no_configuration(make: Make, processes: Processes, certificates: Certificates) -> None:
    """A configuration file that is not there is named."""
    daemon = make(processes, certificates)
    daemon.write = lambda: daemon.file  # type: ignore[method-assign]
    assert_refuses(daemon)


@BOTH
def test_no_toml(make: Make, processes: Processes, certificates: Certificates) -> None:
    """A configuration file that is no TOML is named, with the line."""
    daemon = make(processes, certificates)

    def write() -> Path:
        daemon.file.write_text("domain = [\n")
        return daemon.file

    daemon.write = write  # type: ignore[method-assign]
    assert_refuses(daemon, "TOML")


def test_missing_secret_file(processes: Processes, certificates: Certificates) -> None:
    """The Callbridge's secret file that is not there is named with its key."""
    daemon = make_callbridge(processes, certificates)
    change(daemon, "shared_secret", None)
    change(daemon, "shared_secret_file", "cb1.secret")
    assert_refuses(daemon, "shared_secret_file", "cb1.secret")


@pytest.mark.parametrize("listener", ["component", "component_plain", "client"])
def test_port_taken(listener: str, processes: Processes, certificates: Certificates) -> None:
    """A port that another program holds is named with its key."""
    daemon = make_server(processes, certificates)
    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        change(daemon, f"listen.{listener}", [f"tcp:{port}:interface=127.0.0.1"])
        assert_refuses(daemon, f"listen.{listener}", str(port))


@pytest.mark.parametrize("listener", ["component_plain", "client_plain"])
@pytest.mark.parametrize(
    "where", ["", ":interface=0.0.0.0", ":interface=192.0.2.1", r":interface=\:\:"]
)
def test_plain_listener_beyond_loopback(
    listener: str, where: str, processes: Processes, certificates: Certificates
) -> None:
    """A listener without TLS is refused on any address that others can reach."""
    daemon = make_server(processes, certificates)
    change(daemon, f"listen.{listener}", [f"tcp:{free_port()}{where}"])
    assert_refuses(daemon, f"listen.{listener}")


def test_nonsense_endpoint(processes: Processes, certificates: Certificates) -> None:
    """An endpoint that Twisted cannot read is named with its key."""
    daemon = make_server(processes, certificates)
    change(daemon, "listen.client", ["nonsense:1"])
    assert_refuses(daemon, "listen.client", "nonsense")


@pytest.mark.parametrize(
    ("endpoint", "cure"),
    [
        ("ssl:5223:privateKey=x.pem", "Write tcp: in place of ssl:"),
        ("haproxy:ssl:5223", "Write tcp: in place of ssl:"),
        ("haproxy:haproxy:tcp:5223", "Write haproxy: once."),
    ],
)
def test_endpoint_that_wraps(
    endpoint: str, cure: str, processes: Processes, certificates: Certificates
) -> None:
    """What would start and serve nobody does not start."""
    daemon = make_server(processes, certificates)
    change(daemon, "listen.component", [endpoint])
    assert_refuses(daemon, "listen.component", endpoint, cure)


def test_bad_proxies(processes: Processes, certificates: Certificates) -> None:
    """A network that cannot be read is named with its key."""
    daemon = make_server(processes, certificates)
    change(daemon, "listen.proxies", ["192.0.2.300"])
    assert_refuses(daemon, "listen.proxies", "192.0.2.300")


def test_bad_server_address(processes: Processes, certificates: Certificates) -> None:
    """A server address that cannot be read is named with its key."""
    daemon = make_callbridge(processes, certificates)
    change(daemon, "server_address", "host:port:port")
    assert_refuses(daemon, "server_address")


@BOTH
@pytest.mark.parametrize(
    "make_pair", [refusals.koblitz, refusals.weak_intermediate, refusals.rsa_pss]
)
def test_unusable_certificate(
    make: Make, make_pair: Callable[[Any], Pair], processes: Processes, certificates: Certificates
) -> None:
    """What no peer can use, whatever it trusts, is found before any peer comes."""
    daemon = make(processes, certificates)
    folder = processes.make_directory("unusable")
    pair = make_pair(
        SimpleNamespace(house=SimpleNamespace(root=Authority("Root")), directory=folder)
    )
    change(daemon, "tls.certificate", str(pair.certificate))
    change(daemon, "tls.key", str(pair.key))
    assert_refuses(daemon, "tls.certificate", "nobody can use", str(pair.certificate))
