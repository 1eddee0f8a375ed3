"""
xmpp.js at our server, as its own tests of C{component} and of C{client} over TCP have it.

Those tests are not in its packages, so these do the same with the packages.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import Driver, npm_client, npm_component
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.network import free_port, has_ipv6
from peers.processes import Processes

PASSWORD = "pass word"
COMPONENT = f"suite.{DOMAIN}"


class System:
    """Our pair, with two users, on IPv4 and IPv6, with STARTTLS and direct TLS."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes, self._trust = processes, certificates.trust
        self.server = server = XmppServer(
            processes, certificates, {"cb1": "s3cret", "suite": "an0ther"}
        )
        names = (DOMAIN, server.hostname, "localhost", "127.0.0.1", "::1")
        pair = certificates.issue(*names)
        server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
        self.direct_port = free_port()
        for name, port in (("client", server.client_port), ("client_direct", self.direct_port)):
            listen = [f"tcp:{port}:interface=127.0.0.1"]
            if has_ipv6():
                listen.append(f"tcp6:{port}:interface=\\:\\:1")
            server.settings["listen"][name] = listen
        here = f"localhost:{server.component_port}"
        self.callbridge = Callbridge(processes, certificates, "s3cret", server_address=here)
        for user in ("alice", "bob"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
        server.start()
        self.callbridge.start()
        server.process.wait_for("decides log-ins", 10.0)

    def client(
        self, user: str, host: str = "127.0.0.1", *, direct: bool = False, **more: Any
    ) -> Driver:
        """C{@xmpp/client}, not connected yet."""
        scheme, port = ("xmpps", self.direct_port) if direct else ("xmpp", self.server.client_port)
        service = f"{scheme}://{host}:{port}"
        return npm_client(self._processes, service, DOMAIN, user, PASSWORD, self._trust, **more)

    def component(self) -> Driver:
        """C{@xmpp/component}, not connected yet."""
        port = self.server.component_plain_port
        return npm_component(self._processes, COMPONENT, "an0ther", port)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Running."""
    return System(processes, certificates)


def test_client(system: System) -> None:
    """Each way to the server ends in a session that is of use."""
    hosts = ["127.0.0.1", "localhost", *(["[::1]"] if has_ipv6() else [])]
    bob = system.client("bob")
    bob.connected()
    for host in hosts:
        for direct in (False, True):
            alice = system.client("alice", host, direct=direct)
            jid = alice.connected()["jid"]
            assert jid.startswith(f"alice@{DOMAIN}/")
            assert alice.ping(DOMAIN) == {
                "event": "result",
                "to": DOMAIN,
                "type": "result",
                "sender": DOMAIN,
            }
            bob.message(jid, host)
            assert alice.expect("message")["body"] == host
            alice.do("stop")
            assert alice.expect("stopped")["status"] == "offline"
            assert alice.process.running


@pytest.mark.parametrize("direct", [False, True])
def test_sasl2(system: System, *, direct: bool) -> None:
    """
    Version 0.14 is bound and managed after two round trips, and so it is after its connection
    was cut.  What came meanwhile comes with that, once and in its order, and in one piece: its
    parser fails when two pieces come at once and the first makes it write.
    """
    alice = system.client("alice", direct=direct, sasl2=True, resource="js")
    jid = alice.connected()["jid"]
    assert re.fullmatch(rf"alice@{DOMAIN}/js/[\w-]{{12}}", jid)
    alice.do("said")
    expected = ["authenticate", "response"]
    assert alice.expect("said")["names"] == (expected if direct else ["starttls", *expected])
    bob = system.client("bob", sasl2=True)
    bob.connected()
    assert bob.ping(DOMAIN)["type"] == "result"
    for number in range(3):
        alice.do("cut")
        alice.expect("disconnected")
        system.server.process.wait_for(f"{jid} lost its connection", 10.0, times=number + 1)
        meanwhile = [f"{n} after cut {number}" for n in range(40)]
        for body in meanwhile:
            bob.message(jid, body)
        # 1 s after it was cut it comes back, on a busy machine perhaps before the last of these
        assert [alice.expect("message")["body"] for _ in meanwhile] == meanwhile
        resumed = f"{jid} resumed its session"
        system.server.process.wait_for(resumed, 10.0, times=number + 1)
        bob.message(jid, f"at last {number}")
        assert alice.expect("message")["body"] == f"at last {number}"
        alice.do("said")
        said = alice.expect("said")["names"]
        assert [name for name in said if name not in ("starttls", "a", "r")] == expected
    assert alice.ping(DOMAIN)["type"] == "result"
    system.server.process.kill()
    system.server.start()
    assert alice.expect("online", 20.0)["jid"] == jid  # what it had is gone, but not its resource
    assert alice.ping(DOMAIN)["type"] == "result"


def test_bad_credentials_by_sasl2(system: System) -> None:
    """The failure is understood."""
    alice = system.client("alice", sasl2=True)
    alice.connect(password="nope")
    error = alice.expect("error")
    assert (error["name"], error["condition"]) == ("SASLError", "not-authorized")


def test_bad_credentials(system: System) -> None:
    """A wrong password is one for its user, and the right one is taken then."""
    alice = system.client("alice")
    alice.connect(password="nope")
    error = alice.expect("error")
    assert (error["name"], error["condition"]) == ("SASLError", "not-authorized")
    other = system.client("alice")
    assert other.connected()["jid"].startswith(f"alice@{DOMAIN}/")


def test_component(system: System) -> None:
    """It registers, comes back after a restart of the server, and stays away when it stops."""
    component = system.component()
    assert component.connected()["jid"] == COMPONENT
    assert component.ping(DOMAIN)["type"] == "result"
    for end in ("stop", "kill"):
        getattr(system.server.process, end)()
        system.server.start()
        assert component.expect("online", 20.0)["jid"] == COMPONENT
        assert component.ping(DOMAIN)["type"] == "result"
    component.do("stop")
    component.expect("offline")
    registered = system.server.process.output.count(f"component {COMPONENT} registered")
    assert system.component().connected()["jid"] == COMPONENT
    assert system.server.process.output.count(f"component {COMPONENT} registered") == registered + 1
