"""The programs of users, set up as docs/operate.md says, from their first start on."""

from __future__ import annotations

from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.network import wait_until
from peers.operating import block
from peers.processes import Processes
from peers.realclients import home_of
from peers.terminal import Terminals
from peers.tools import require

ALICE, BOB, PASSWORD = f"alice@{DOMAIN}", f"bob@{DOMAIN}", "alices-password"
PATIENCE = 60.0


class Scene:
    """Both daemons, a space, and bob, who waits for a message."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self.certificates = processes, certificates
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        pair = certificates.issue(DOMAIN, self.server.hostname, "localhost")
        tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
        self.server.settings["tls"] |= tls
        self.server.start()
        address = f"localhost:{self.server.component_port}"
        callbridge = Callbridge(processes, certificates, "s3cret", server_address=address)
        for user in (ALICE, BOB):
            callbridge.add_user(user, PASSWORD)
        callbridge.space("add", "Sales", "--call-id", "123456789")
        callbridge.start()
        port, trust = self.server.client_port, certificates.trust
        self.bob: Any = slixmpp_client(processes, BOB, PASSWORD, port, trust)
        self.bob.connected()


@pytest.fixture
def scene(processes: Processes, certificates: Certificates) -> Scene:
    """It is there."""
    return Scene(processes, certificates)


def test_profanity(scene: Scene) -> None:
    """Typed into a profanity that was never started before."""
    home, environment = home_of(scene.processes, "profanity")
    environment["SSL_CERT_FILE"] = str(scene.certificates.trust)
    terminal = Terminals(scene.processes).open(
        "profanity", [require("profanity", "profanity")], environment
    )
    assert home.exists()

    def shows(text: str) -> None:
        try:
            wait_until(lambda: text in terminal.screen, PATIENCE, text)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{terminal.screen}") from None

    shows("Type '/help'")
    here = f"server 127.0.0.1 port {scene.server.client_port}"
    typed = block("profanity", "typed")
    assert "server xmpp1.meet.example.com port 5222" in typed
    connect, say, join = typed.splitlines()
    terminal.type(connect.replace("server xmpp1.meet.example.com port 5222", here))
    shows("Enter password")
    terminal.type(PASSWORD)
    shows("logged in successfully")
    terminal.type(say)
    assert scene.bob.expect("message", PATIENCE)["body"] == "Hello"
    terminal.type(join)
    shows("You have joined the room as alice")
