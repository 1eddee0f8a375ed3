"""Six chat programs that people use: they log in, talk, and survive restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from attrs import frozen

from peers.certs import Certificates
from peers.clients import Driver, GoSendxmpp, slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.desktop import Desktop
from peers.network import wait_until
from peers.processes import Processes, children
from peers.realclients import PORT, Account, Dino, Finch, Gajim, Poezio, Profanity, RealClient
from peers.terminal import Terminals

HOST = "127.77.0.1"  # a loopback address of its own: Dino knows no other port than 5222
PASSWORD = "password"
BOB = f"bob@{DOMAIN}"
PATIENCE = 100.0  # seconds: profanity tries again after 30 s, finch after up to 60 s
NAMES = ("profanity", "poezio", "finch", "gajim", "dino")


@frozen
class Scene:
    """The daemons, bob, and everybody who talks with him."""

    server: XmppServer
    callbridge: Callbridge
    bob: Driver
    clients: dict[str, RealClient]
    go_sendxmpp: GoSendxmpp

    def jid(self, name: str) -> str:
        """Whose account it is."""
        return f"{name}@{DOMAIN}"

    def talk(self, name: str, word: str) -> None:
        """Bob writes until it is heard, and hears an answer."""
        client = self.clients[name]
        question, answer = f"question-{word}-{name}", f"answer-{word}-{name}"
        asked = 0

        def heard() -> bool:
            nonlocal asked
            if asked % 200 == 0:  # what comes while nobody is there is not kept
                self.bob.message(self.jid(name), question)
            asked += 1
            return client.has(question)

        try:
            wait_until(heard, PATIENCE, f'"{question}" in {name}')
            client.say(BOB, answer)
            self.hear(answer)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{name} shows:\n{client.shown()[-3000:]}") from None

    def send_with_go(self, word: str) -> None:
        """go-sendxmpp logs in for one message."""
        status, output = self.go_sendxmpp.send(BOB, f"go-{word}")
        assert status == 0, output
        self.hear(f"go-{word}")

    def hear(self, body: str) -> None:
        """Bob gets a message; errors for what nobody was there to hear are passed over."""
        while self.bob.expect("message", 60.0)["body"] != body:
            pass


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    """All five that stay are started together, which takes as long as the slowest."""
    with children(tmp_path_factory.mktemp("real")) as processes:
        yield _make_scene(processes, certificates)


def _make_scene(processes: Processes, certificates: Certificates) -> Scene:
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.settings["listen"]["client"].append(f"tcp:{PORT}:interface={HOST}")
    server.start()
    callbridge = server.callbridge()
    for user in ("bob", "go", *NAMES):
        callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    callbridge.start()
    terminals, desktop = Terminals(processes), Desktop(processes)

    def account(user: str, host: str = "127.0.0.1", port: int = server.client_port) -> Account:
        jid = f"{user}@{DOMAIN}"
        return Account(jid, PASSWORD, host, port, certificates.trust, server.pair)

    clients: dict[str, RealClient] = {
        "profanity": Profanity(processes, terminals, account("profanity")),
        "poezio": Poezio(processes, terminals, account("poezio")),
        "finch": Finch(processes, terminals, account("finch")),
        "gajim": Gajim(processes, desktop, account("gajim")),
        "dino": Dino(processes, desktop, account("dino", HOST, PORT)),
    }
    for client in clients.values():
        client.start()
    bob = slixmpp_client(processes, BOB, PASSWORD, server.client_port, certificates.trust)
    bob.connected()
    go_sendxmpp = GoSendxmpp(
        processes, f"go@{DOMAIN}", PASSWORD, server.client_port, certificates.trust
    )
    return Scene(server, callbridge, bob, clients, go_sendxmpp)


@pytest.mark.parametrize("name", NAMES)
def test_talks(scene: Scene, name: str) -> None:
    """It logs in by itself, is heard, and hears."""
    scene.talk(name, "first")


def test_go_sendxmpp_talks(scene: Scene) -> None:
    """It logs in for each message, and hears while it listens."""
    scene.send_with_go("first")
    listening = scene.go_sendxmpp.listen()
    asked = 0

    def heard() -> bool:
        nonlocal asked
        if asked % 200 == 0:
            scene.bob.message(scene.jid("go"), "question-go")
        asked += 1
        return "question-go" in listening.output

    try:
        wait_until(heard, PATIENCE, "the message in go-sendxmpp")
    finally:
        listening.kill()  # after the end of its stream it would write EOF for ever


def test_restarts(scene: Scene) -> None:
    """
    Both daemons are stopped, and the Callbridge comes last: who is back before it
    waits or tries again, and all are logged in again without anybody's doing.
    """
    scene.callbridge.process.kill()
    scene.server.process.stop()
    scene.server.start()
    time.sleep(5.0)
    scene.callbridge.start()
    scene.bob.connected()
    scene.send_with_go("restarted")
    for name in NAMES:
        scene.talk(name, "restarted")


def test_callbridge_restarts(scene: Scene) -> None:
    """The Callbridge is killed and started: sessions live on."""
    scene.callbridge.process.kill()
    scene.callbridge.start()
    scene.send_with_go("decided")
    for name in NAMES:
        scene.talk(name, "decided")
