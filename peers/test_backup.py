"""Backup and restore of daemons that run, as docs/operate.md says."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.ejabberd import Ejabberd
from peers.operating import Host, block
from peers.processes import Processes
from peers.prosody import hashed_accounts

ALICE, PASSWORD, SECRET = f"alice@{DOMAIN}", "alice's pass word", "s3cret-of-cb1"


class System:
    """Both daemons with a user, a space, and a Callbridge that was added by command."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes, self._trust = processes, certificates.trust
        self.server = XmppServer(processes, certificates, {"cb1": SECRET})
        self.server.settings["hostname"] = "localhost"
        self.callbridge = self.server.callbridge()
        self.callbridge.add_user(ALICE, PASSWORD)
        self.callbridge.space("add", "Sales", "--call-id", "123456789")
        self.server.start()
        self.callbridge.start()
        units: dict[str, XmppServer | Callbridge] = {
            "cms-xmpp": self.server,
            "cms-callbridge": self.callbridge,
        }
        places = {
            "/etc/cms/callbridge.toml": self.callbridge.file,
            "/etc/cms/xmpp.toml": self.server.file,
        }
        self.host = Host(processes, units, places)
        self.types("cms xmpp callbridge add cb2 --config /etc/cms/xmpp.toml")

    def types(self, text: str, status: int = 0) -> str:
        """See L{Host.types}."""
        return self.host.types(text, status=status)

    def client(self, user: str = "alice", password: str = PASSWORD, **more: Any) -> Any:
        """Somebody who is connected."""
        port, address = self.server.client_port, f"{user}@{DOMAIN}"
        client = slixmpp_client(self._processes, address, password, port, self._trust, **more)
        client.connected()
        return client


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Both run."""
    return System(processes, certificates)


def test_there_and_back(system: System) -> None:
    """
    Backups while both run, one of them frozen; a restore is refused until the daemon is stopped.
    After it, who was there logs in with the same password, and what came later is gone.
    """
    system.client()
    system.callbridge.process.signal(signal.SIGSTOP)
    said = system.types(block("backup"))
    assert said.count("it is whole, and can be restored by this version") == 2
    typed = [line for line in block("restore").splitlines() if "systemctl" not in line]
    refused = system.types("\n".join(typed[:2]), status=1)
    assert "the Callbridge runs on" in refused
    system.callbridge.process.signal(signal.SIGCONT)
    system.types(
        "cms callbridge user del alice --config /etc/cms/callbridge.toml\n"
        "cms callbridge user add mallory --config /etc/cms/callbridge.toml --password-stdin"
        " </etc/hostname\n"
        "cms callbridge space del 123456789 --config /etc/cms/callbridge.toml\n"
        "cms xmpp callbridge del cb2 --config /etc/cms/xmpp.toml"
    )
    system.types(block("restore"))
    system.client()
    said = system.types("cms callbridge user list --config /etc/cms/callbridge.toml")
    assert ALICE in said
    assert "mallory" not in said
    assert "Sales" in system.types("cms callbridge space list --config /etc/cms/callbridge.toml")
    system.types(block("restore").replace("callbridge", "xmpp"))
    assert "cb2" in system.types("cms xmpp callbridge list --config /etc/cms/xmpp.toml")
    system.callbridge.wait_active(2)
    system.client()


def test_killed_in_the_middle(system: System) -> None:
    """A restore that was broken off after it counted is completed by the daemon's start."""
    system.types(block("backup"))
    system.callbridge.process.stop()
    broken = (
        "import os, sys; rename = os.rename\n"
        "def some(*names):\n"
        "    os._exit(9) if 'restore.new/spaces' in str(names[0]) else rename(*names)\n"
        "os.rename = some; sys.argv[0] = 'cms'\n"
        "from cms.cli import main; main()"
    )
    system.host.places["RESTORE"] = (
        f'python -c "{broken}" restore callbridge.backup --config {system.callbridge.file}'
    )
    system.types("RESTORE", status=9)
    state = system.callbridge.directory / "state"
    assert (state / "restore.pending").exists()
    assert not (state / "spaces.sqlite3").exists()
    system.callbridge.start()
    assert not (state / "restore.pending").exists()
    assert "Sales" in system.types("cms callbridge space list --config /etc/cms/callbridge.toml")
    system.client()


def test_users_in_a_file(system: System) -> None:
    """
    Users that are imported while the Callbridge runs log in at once, with the passwords that were
    made.  Who is replaced loses his sessions when the link is made again.
    """
    config = f"export CMS_CONFIG={system.callbridge.file}\n"
    system.types(config + block("users"))
    made = (system.host.folder / "passwords.csv").read_text().splitlines()
    carol = dict(line.split(",") for line in made[1:])["carol"]
    system.client("carol", carol)
    alice = system.client()
    names = (system.host.folder / "names.csv").read_text()
    assert [row.split(",")[0] for row in names.splitlines()] == ["name", "alice", "carol", "dave"]
    system.types(
        f"{config}printf 'name,password\\nalice,another\\n' > alice.csv\n"
        "cms callbridge user import alice.csv --existing replace\n"
        "cms callbridge reconnect --even-if-up"
    )
    alice.expect("disconnected")
    system.client("alice", "another")
    system.types(f"{config}cms callbridge user import users.jsonl --existing replace")
    system.client()


def test_users_of_others(system: System, processes: Processes, certificates: Certificates) -> None:
    """
    People of a Prosody and of an ejabberd that hash move with their passwords: they log in with
    SCRAM-SHA-1 and with PLAIN, which makes the keys that are missing.
    """
    pair = certificates.issue("old.example.com")
    ejabberd = Ejabberd(processes, pair, DOMAIN, {}, {"erla": "erlas-password"})
    ejabberd.dump = processes.directory / "dump"
    ejabberd.start()
    accounts = hashed_accounts(processes, DOMAIN, {"pru": "prus-password"})
    here = {"meet%2eexample%2ecom/accounts": accounts, "users.dump": ejabberd.dump}
    system.host.places |= here
    config = f"export CMS_CONFIG={system.callbridge.file}\n"
    for recipe in (block("prosody-users"), block("ejabberd-users")):
        system.types(recipe + config + block("hashed-users"))
    system.callbridge.settings["login"] = {"mechanisms": ["SCRAM-SHA-1", "PLAIN"]}
    system.callbridge.process.stop()
    system.callbridge.start()
    assert "no keys" not in system.callbridge.process.output
    people = (("pru", "prus-password"), ("erla", "erlas-password"))
    for user, password in people:
        system.client(user, password, mechanism="SCRAM-SHA-1")
        system.client(user, password, mechanism="PLAIN")
    del system.callbridge.settings["login"]
    system.callbridge.process.stop()
    system.callbridge.start()
    for user, password in people:
        system.client(user, password, mechanism="SCRAM-SHA-256")
