"""Contacts and blocking, with the programs that people use: profanity, nbxmpp, slixmpp."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest
from attrs import evolve, frozen

from peers.certs import Certificates
from peers.clients import Driver, nbxmpp_contact, slixmpp_contact
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.network import wait_until
from peers.processes import Processes, children
from peers.realclients import Account, Profanity
from peers.slapd import Slapd, account
from peers.terminal import Terminals

PASSWORD = "password"
PATIENCE = 30.0
BOB, ALICE, LIDDELL = (f"{name}@{DOMAIN}" for name in ("bob", "alice", "liddell"))
PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


@frozen
class Scene:
    """
    The server, and who is there.

    @ivar bob: slixmpp, who does what the test says; the others are his contacts.
    """

    server: XmppServer
    callbridge: Callbridge
    bob: Driver
    processes: Processes
    certificates: Certificates
    pair_account: Account

    def account(self, user: str) -> Account:
        """Of somebody."""
        return evolve(self.pair_account, jid=f"{user}@{DOMAIN}")

    def come_and_go(self) -> None:
        """Bob goes, and comes again."""
        self.bob.disconnect()
        self.bob.connected()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    """The daemons, and Bob."""
    with children(tmp_path_factory.mktemp("contacts")) as processes:
        server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        server.settings["contacts"] = {"announce_pictures": True}
        server.start()
        callbridge = server.callbridge()
        liddell = account("liddell", PASSWORD, displayName="Alice Liddell", thumbnailPhoto=PICTURE)
        slapd = Slapd(processes, certificates, [liddell])
        slapd.start()
        names = {"nameMapping": "$displayName$", "picture_attribute": "thumbnailPhoto"}
        ldap = {**slapd.settings(DOMAIN), **names}
        callbridge.settings["directory"] = [{"kind": "local"}, ldap]
        for user in ("bob", "alice", "profanity"):
            callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
        callbridge.start()
        server.process.wait_for("decides log-ins", 10.0)
        bob = slixmpp_contact(processes, BOB, PASSWORD, server.client_port, certificates.trust)
        bob.connected()
        here = ("127.0.0.1", server.client_port, certificates.trust, server.pair)
        first = Account(BOB, PASSWORD, *here)
        yield Scene(server, callbridge, bob, processes, certificates, first)


def shown_as(screen: str, who: str = BOB) -> str:
    """Under which heading of its list profanity shows somebody; empty: it does not."""
    heading = found = ""
    for line in screen.splitlines():
        told = re.search(r"  (\S.*) \(\d+\)$", line.rstrip())
        if told is not None:
            heading = told[1].strip().rpartition("  ")[2]
        elif line.rstrip().endswith(f"  {who}"):
            found = heading
    return found


def test_nbxmpp(scene: Scene) -> None:
    """Gajim's library: asked, granted, seen to come and go, kept, blocked."""
    bob, pair = scene.bob, scene.pair_account.pair
    port = scene.server.client_port
    alice = nbxmpp_contact(scene.processes, ALICE, PASSWORD, port, pair.certificate)
    alice.connect()
    assert alice.expect("roster", PATIENCE)["contacts"] == {}
    bob.do("presence", to=ALICE, type="subscribe")
    assert alice.expect("asks", PATIENCE)["sender"] == BOB
    alice.do("presence", to=BOB, type="subscribed")
    pushed = alice.expect("pushed", PATIENCE)
    assert (pushed["contact"], pushed["subscription"]) == (BOB, "from")
    assert bob.expect("came", PATIENCE)["sender"] == ALICE
    alice.do("presence", to=BOB, type="subscribe")
    assert bob.expect("asks", PATIENCE)["sender"] == ALICE
    bob.do("presence", to=ALICE, type="subscribed")
    assert alice.expect("came", PATIENCE)["sender"] == BOB
    scene.come_and_go()
    assert alice.expect("went", PATIENCE)["sender"] == BOB
    assert alice.expect("came", PATIENCE)["sender"] == BOB
    bob.do("roster")
    assert bob.expect("roster", PATIENCE)["contacts"][ALICE] == "both"
    alice.do("blocklist")
    assert alice.expect("blocklist", PATIENCE)["addresses"] == []
    alice.do("block", to=BOB)
    assert alice.expect("blocked", PATIENCE)["addresses"] == [BOB]
    assert bob.expect("went", PATIENCE)["sender"] == ALICE
    alice.process.stop()


def test_names(scene: Scene) -> None:
    """A user of LDAP has name and picture, for who may see her and for herself."""
    bob, pair, port = scene.bob, scene.pair_account.pair, scene.server.client_port
    liddell = nbxmpp_contact(scene.processes, LIDDELL, PASSWORD, port, pair.certificate)
    liddell.connect()
    bob.do("presence", to=LIDDELL, type="subscribe")
    assert liddell.expect("asks", PATIENCE)["sender"] == BOB
    liddell.do("presence", to=BOB, type="subscribed")
    assert bob.expect("came", PATIENCE)["sender"] == LIDDELL
    sha = hashlib.sha1(PICTURE).hexdigest()
    assert bob.expect("photo", PATIENCE)["hash"] == sha
    bob.do("card", to=LIDDELL)
    card = bob.expect("card", PATIENCE)
    assert (card["name"], card["type"]) == ("Alice Liddell", "image/jpeg"), card
    assert card["bytes"] == len(PICTURE), card
    liddell.do("card", to=LIDDELL)
    card = liddell.expect("card", PATIENCE)
    assert (card["name"], card["hash"]) == ("Alice Liddell", sha)
    liddell.do("avatar", to=LIDDELL)
    avatar = liddell.expect("avatar", PATIENCE)
    assert (avatar["bytes"], avatar["hash"]) == (len(PICTURE), sha)
    liddell.process.stop()


def test_server_restarts(scene: Scene) -> None:
    """What was agreed and blocked is kept."""
    scene.server.process.stop()
    scene.server.start()
    scene.server.process.wait_for("decides log-ins", 20.0)
    scene.bob.connected()
    scene.bob.do("roster")
    assert scene.bob.expect("roster", PATIENCE)["contacts"][ALICE] == "both"
    port, certificate = scene.server.client_port, scene.pair_account.pair.certificate
    alice = nbxmpp_contact(scene.processes, ALICE, PASSWORD, port, certificate)
    alice.connect()
    assert alice.expect("roster", PATIENCE)["contacts"] == {BOB: "both"}
    alice.do("blocklist")
    assert alice.expect("blocklist", PATIENCE)["addresses"] == [BOB]
    alice.process.stop()


def test_deleted(scene: Scene) -> None:
    """Who is deleted is forgotten: the next of the name has no contacts, and is nobody's."""
    said = scene.callbridge.say("user", "del", "alice")
    assert "contacts forgotten" in said, said
    scene.bob.do("roster")
    assert scene.bob.expect("roster", PATIENCE)["contacts"][ALICE] == "none"
    scene.callbridge.add_user(ALICE, PASSWORD)
    port, certificate = scene.server.client_port, scene.pair_account.pair.certificate
    alice = nbxmpp_contact(scene.processes, ALICE, PASSWORD, port, certificate)
    alice.connect()
    assert alice.expect("roster", PATIENCE)["contacts"] == {}
    alice.do("blocklist")
    assert alice.expect("blocklist", PATIENCE)["addresses"] == []
    alice.process.stop()


def test_profanity(scene: Scene) -> None:
    """A person adds Bob, allows him, sees him come and go in the list, and blocks him."""
    terminals = Terminals(scene.processes)
    person = f"profanity@{DOMAIN}"
    profanity = Profanity(scene.processes, terminals, scene.account("profanity"), level="DEBUG")
    profanity.start()
    terminal = profanity.terminal
    wait_until(lambda: "logged in successfully" in terminal.screen, PATIENCE, "its log-in")
    terminal.type(f"/roster add {BOB}")
    terminal.type(f"/sub request {BOB}")
    assert scene.bob.expect("asks", PATIENCE)["sender"] == person
    scene.bob.do("presence", to=person, type="subscribed")
    wait_until(lambda: shown_as(terminal.screen) == "Online", PATIENCE, "Bob to be online")
    scene.bob.do("presence", to=person, type="subscribe")
    wait_until(lambda: "Subscribe presence handler" in profanity.log, PATIENCE, "the request")
    terminal.type(f"/sub allow {BOB}")
    assert scene.bob.expect("came", PATIENCE)["sender"] == person
    scene.bob.disconnect()
    wait_until(lambda: shown_as(terminal.screen) == "Offline", PATIENCE, "Bob to be offline")
    scene.bob.connected()
    wait_until(lambda: shown_as(terminal.screen) == "Online", PATIENCE, "Bob to be back")
    terminal.type(f"/blocked add {BOB}")
    assert scene.bob.expect("went", PATIENCE)["sender"] == person
    assert "rror" not in terminal.screen, terminal.screen
    terminal.type("/quit")
