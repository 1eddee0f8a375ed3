"""Our Callbridge as a component of other people's XMPP servers."""

from __future__ import annotations

import pytest

from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge
from peers.ejabberd import Ejabberd
from peers.processes import Processes
from peers.prosody import Prosody

COMPONENT = f"cb1.{DOMAIN}"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
PING = "urn:xmpp:ping"

Server = Prosody | Ejabberd


def make_server(kind: type[Server], processes: Processes, certificates: Certificates) -> Server:
    """A server with one component and one user."""
    # The FQDN is one that every machine resolves to loopback.
    pair = certificates.issue(DOMAIN, "localhost")
    return kind(processes, pair, DOMAIN, {COMPONENT: "s3cret"}, {"carol": "password"})


def make_callbridge(server: Server, processes: Processes, certificates: Certificates) -> Callbridge:
    """A Callbridge for that server: TLS where the server has it."""
    address = f"localhost:{server.component_port}"
    callbridge = Callbridge(processes, certificates, "s3cret", server_address=address)
    if isinstance(server, Prosody):
        callbridge.settings["tls"] = {"unprotected": True}
    return callbridge


def client_of(server: Server, processes: Processes, certificates: Certificates) -> Driver:
    """A user of that server, logged in."""
    jid, trust = f"carol@{DOMAIN}", certificates.trust
    client = slixmpp_client(processes, jid, "password", server.client_port, trust)
    client.connected()
    return client


def assert_answers(client: Driver) -> None:
    """The Callbridge answers disco and ping."""
    info = client.disco(COMPONENT)
    assert info["type"] == "result", info
    assert info["sender"] == COMPONENT
    assert {DISCO_INFO, PING} <= set(info["features"])
    assert info["identities"]
    assert client.ping(COMPONENT)["type"] == "result"


@pytest.mark.parametrize("kind", [Prosody, Ejabberd])
def test_registers_and_answers(
    kind: type[Server], processes: Processes, certificates: Certificates
) -> None:
    """The Callbridge registers, and a user there gets answers to disco and ping."""
    server = make_server(kind, processes, certificates)
    server.start()
    make_callbridge(server, processes, certificates).start()
    assert_answers(client_of(server, processes, certificates))


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("kind", [Prosody, Ejabberd])
def test_survives_a_restart(
    kind: type[Server], how: str, processes: Processes, certificates: Certificates
) -> None:
    """The Callbridge's link comes back by itself after the server was stopped or killed."""
    server = make_server(kind, processes, certificates)
    server.start()
    callbridge = make_callbridge(server, processes, certificates)
    callbridge.start()
    getattr(server.process, how)()
    server.start()
    seconds = callbridge.wait_active(times=2)
    print(f"\n{server.name} after {how}: the link was up {seconds:.1f} s after the restart")
    assert_answers(client_of(server, processes, certificates))
    assert callbridge.process.running


@pytest.mark.parametrize("kind", [Prosody, Ejabberd])
def test_wrong_secret_is_named(
    kind: type[Server], processes: Processes, certificates: Certificates
) -> None:
    """With a wrong secret step 10 fails, the log says so, and the daemon goes on."""
    server = make_server(kind, processes, certificates)
    server.start()
    callbridge = make_callbridge(server, processes, certificates)
    callbridge.settings["shared_secret"] = "not the secret"
    process = callbridge.launch()
    process.wait_for("step 10 registered FAILED", 20.0)
    assert process.running


def test_no_tls_is_loud(processes: Processes, certificates: Certificates) -> None:
    """A link without TLS is warned of in the log."""
    server = make_server(Prosody, processes, certificates)
    server.start()
    callbridge = make_callbridge(server, processes, certificates)
    callbridge.start()
    assert "WARNING: tls.unprotected is set" in callbridge.process.output


def test_tls_is_not_left_out_silently(processes: Processes, certificates: Certificates) -> None:
    """Against a port without TLS and without that setting, step 7 fails."""
    server = make_server(Prosody, processes, certificates)
    server.start()
    callbridge = make_callbridge(server, processes, certificates)
    callbridge.settings["tls"] = {"trust": str(certificates.trust)}
    callbridge.launch().wait_for("step 7 tls FAILED", 20.0)
