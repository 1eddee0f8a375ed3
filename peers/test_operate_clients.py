"""
The programs of users, set up as docs/operate.md says from their first start on, with people of an
LDAP directory; and what they see of an operator's day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from peers.api import Administration
from peers.certs import Certificates
from peers.clients import slixmpp_contact
from peers.contract import DOMAIN
from peers.daemons import Daemon, XmppServer, daemon_environment
from peers.desktop import Desktop
from peers.ldif import Entry
from peers.network import wait_until
from peers.operating import block
from peers.processes import Processes, children
from peers.realclients import PORT, Account, Dino, NewGajim, home_of
from peers.slapd import BASE, DISABLED, Slapd
from peers.slapd import account as person
from peers.terminal import Terminals
from peers.test_contacts import shown_as
from peers.tools import require, script

HOST = "127.83.0.1"  # a loopback address of its own: Dino knows no other port than 5222
PASSWORD = "alices-password"
BOB = f"bob@{DOMAIN}"
GROUP = "Night Shift"
NAMES = {"bob": "Bob Brown", "alice": "Alice Ash", "dina": "Dina Dahl", "greta": "Greta Gray"}
PEOPLE = ("alice", "dina", "greta")  # at profanity, Dino, and Gajim
PATIENCE = 60.0


class Scene:
    """Both daemons, a directory, a space, and bob, whom a group there makes a contact."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self.certificates = processes, certificates
        people = [person(each, PASSWORD, displayName=name) for each, name in NAMES.items()]
        group = {"objectClass": "groupOfNames", "cn": GROUP, "member": [each.dn for each in people]}
        self.slapd = Slapd(
            *(processes, certificates),
            [*people, Entry(f"cn={GROUP},{BASE}", group)],
        )
        self.slapd.start()
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.server.settings["listen"]["client"].append(f"tcp:{PORT}:interface={HOST}")
        self.server.start()
        self.callbridge = self.server.callbridge()
        self.callbridge.settings["directory"] = [
            {
                **self.slapd.settings(DOMAIN),
                "nameMapping": "$displayName$",
                "groups_base": BASE,
                "sync_interval": 0,
            }
        ]
        self.callbridge.space("add", "Sales", "--call-id", "123456789")
        self.callbridge.start()
        synced = Administration(self.callbridge.directory / "state").sync()
        assert (synced["numUsers"], synced["numGroups"]) == (4, 1)
        port, trust = self.server.client_port, certificates.trust
        self.bob = slixmpp_contact(processes, BOB, PASSWORD, port, trust)
        self.bob.connected()
        terminal = Terminals(processes)
        _, environment = home_of(processes, "profanity")
        environment["SSL_CERT_FILE"] = str(certificates.trust)
        program = require("profanity", "profanity")
        self.profanity = terminal.open("profanity", [program], environment)
        self.dino = Dino(processes, Desktop(processes), self.account("dina"), "--print-xmpp=all")
        self.gajim = NewGajim(processes, Desktop(processes), self.account("greta"))

    def account(self, user: str) -> Account:
        """Of one of them."""
        trust = self.certificates.trust
        return Account(f"{user}@{DOMAIN}", PASSWORD, HOST, PORT, trust, self.server.pair)

    def logged_in(self, user: str, resource: str, times: int = 1) -> Callable[[], bool]:
        """Whether the server says so, of a program of this kind."""
        line = f"step 12 login: {user}@{DOMAIN}/{resource}"
        return lambda: self.server.process.output.count(line) >= times

    def cms(self, of: Daemon, *arguments: str) -> str:
        """A command; what it prints."""
        command = [*script("cms"), *arguments, "--config", str(of.file)]
        status, output = self.processes.run("cms", command, env=daemon_environment())
        assert status == 0, output
        return output

    def shows(self, text: str) -> None:
        """Profanity does, in the end."""
        screen = self.profanity
        try:
            wait_until(lambda: text in screen.screen, PATIENCE, text)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{screen.screen}") from None


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    """It is there."""
    with children(tmp_path_factory.mktemp("people")) as processes:
        yield Scene(processes, certificates)


def fields(text: str) -> dict[str, str]:
    """What is typed into each field."""
    return dict(re.findall(r"^(\S+) +(\S+)", text, re.MULTILINE))


def test_profanity(scene: Scene) -> None:
    """Typed into a profanity that was never started before."""
    scene.shows("Type '/help'")
    here = f"server 127.0.0.1 port {scene.server.client_port}"
    lines = block("profanity", "typed")
    assert "server xmpp1.meet.example.com port 5222" in lines
    connect, say, join = lines.splitlines()
    scene.profanity.type(connect.replace("server xmpp1.meet.example.com port 5222", here))
    scene.shows("Enter password")
    scene.profanity.type(PASSWORD)
    scene.shows("logged in successfully")
    scene.profanity.type(say)
    assert scene.bob.expect("message", PATIENCE)["body"] == "Hello"
    scene.profanity.type(join)
    scene.shows("You have joined the room as alice")


def test_desktops(scene: Scene) -> None:
    """Dino and Gajim, whose windows ask for what the page says."""
    assert fields(block("dino", "typed"))["JID"] == f"alice@{DOMAIN}"
    scene.dino.set_up(scene.logged_in("dina", "dino"))
    typed = fields(block("gajim", "typed"))
    assert typed["Address"] == f"alice@{DOMAIN}"
    scene.gajim.set_up(typed["Hostname"], int(typed["Port"]))
    wait_until(scene.logged_in("greta", "gajim"), PATIENCE, "Gajim's log-in")


def test_a_day(scene: Scene) -> None:
    """
    A contact goes and comes; who is kicked comes back; who is disabled in the directory is out,
    and the program that tries again is told so.
    """
    server, dino, gajim = scene.server, scene.dino, scene.gajim
    scene.profanity.type("/win 1")
    for heading, change in (("Offline", scene.bob.disconnect), ("Online", scene.bob.connected)):
        change()
        wait_until(
            lambda: shown_as(scene.profanity.screen, NAMES["bob"]) == heading,  # noqa: B023
            *(PATIENCE, f"Bob to be {heading}"),
        )
    sender = f"{{jabber:client}}:from='{BOB}/"

    def seen() -> list[bool]:
        lines = [line for line in dino.shown().splitlines() if sender in line]
        return ["type='unavailable'" in line for line in lines]

    wait_until(lambda: seen()[-2:] == [True, False], PATIENCE, "Bob to go and come in Dino")
    wait_until(lambda: f"Received from {BOB}/" in gajim.shown(), PATIENCE, "Bob in Gajim")
    for user, program in (("dina", dino), ("greta", gajim)):
        others = {f"{each}@{DOMAIN}": name for each, name in NAMES.items() if each != user}
        wait_until(
            lambda: program.contacts() == others,  # noqa: B023
            *(PATIENCE, f"the names in {program.name}"),
        )

    for each in ("dina", "greta"):
        assert f"1 session of {each} ended" in scene.cms(server, "xmpp", "client", "kick", each)
    wait_until(lambda: "Stream Error: policy-violation" in dino.shown(), PATIENCE, "Dino's end")
    wait_until(scene.logged_in("greta", "gajim", 2), PATIENCE, "Gajim to be back")
    for each in PEOPLE:
        scene.slapd.replace(person(each, "").dn, "userAccountControl", str(DISABLED))
    sync = ("callbridge", "directory", "sync", "ldap", "--allow-removal")
    assert re.search(r"Disabled +: 3\n", scene.cms(scene.callbridge, *sync))
    scene.shows("Lost connection.")
    wait_until(lambda: "account-disabled" in dino.shown(), PATIENCE, "Dino to be told")
    for each in ("dina", "greta"):
        told = "the account is disabled"
        wait_until(
            lambda: told in scene.cms(scene.callbridge, "log", "--user", each),  # noqa: B023
            *(PATIENCE, f"the record of {each}"),
        )
    assert PASSWORD not in server.process.output + scene.callbridge.process.output
