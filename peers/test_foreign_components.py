"""Other people's components at our XMPP server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peers.certs import Certificates
from peers.clients import Driver, npm_component, slixmpp_component, wokkel_component
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.processes import Processes

Make = Callable[[Processes, str, str, int], Driver]

PEERS: dict[str, Make] = {
    "slixmpp": slixmpp_component,
    "wokkel": wokkel_component,
    "npm": npm_component,
}


@pytest.fixture
def server(processes: Processes, certificates: Certificates) -> XmppServer:
    """Our XMPP server, which knows all of them."""
    server = XmppServer(processes, certificates, {name: f"{name}-secret" for name in PEERS})
    server.start()
    return server


def join(name: str, processes: Processes, server: XmppServer) -> Driver:
    """One of them, registered."""
    port = server.component_plain_port
    component = PEERS[name](processes, f"{name}.{DOMAIN}", f"{name}-secret", port)
    component.connected()
    return component


@pytest.mark.parametrize("name", PEERS)
def test_registers_and_pings_the_server(
    name: str, processes: Processes, server: XmppServer
) -> None:
    """It registers, and the server's domain answers its ping."""
    component = join(name, processes, server)
    assert component.ping(DOMAIN)["type"] == "result"


@pytest.mark.parametrize("name", PEERS)
def test_wrong_secret(name: str, processes: Processes, server: XmppServer) -> None:
    """With a wrong secret it does not register, and the server's log says why."""
    address, port = f"{name}.{DOMAIN}", server.component_plain_port
    component = PEERS[name](processes, address, "wrong", port)
    component.connect()
    server.process.wait_for(f'wrong secret for "{address}"', 10.0)
    assert '"online"' not in component.process.output


def test_all_ping_each_other(processes: Processes, server: XmppServer) -> None:
    """All three at once: each is reached by each through our router."""
    components = {name: join(name, processes, server) for name in PEERS}
    for component in components.values():
        for other in components:
            answer = component.ping(f"{other}.{DOMAIN}")
            assert (answer["type"], answer["sender"]) == ("result", f"{other}.{DOMAIN}")


def test_nobody_there(processes: Processes, server: XmppServer) -> None:
    """A ping to a component that is not connected is answered with an error at once."""
    component = join("slixmpp", processes, server)
    answer = component.ping(f"wokkel.{DOMAIN}")
    assert answer["type"] == "error", answer
