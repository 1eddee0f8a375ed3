"""What docs/operate.md says about days that come once a year, typed on daemons that run."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from peers.bind import Bind
from peers.certs import Certificates, Pair
from peers.clients import slixmpp_client
from peers.contract import DOMAIN, ROOT
from peers.daemons import Callbridge, XmppServer
from peers.operating import Host, block, moved_clock
from peers.processes import Processes
from peers.scrape import Figures
from peers.tools import require

ALICE, BOB, PASSWORD, SECRET = f"alice@{DOMAIN}", f"bob@{DOMAIN}", "alice's pass word", "s3cret"
PORT = 5223
EXPIRY = "cms_certificate_expiry_timestamp_seconds"


class System:
    """Both daemons on a host, with alice and bob."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self.certificates = processes, certificates
        self.server = XmppServer(processes, certificates, {"cb1": SECRET})
        self.server.settings["hostname"] = "localhost"
        self.pair = certificates.issue(DOMAIN, "localhost")
        tls = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)}
        self.server.settings["tls"] |= tls
        address = f"localhost:{self.server.component_port}"
        self.callbridge = Callbridge(processes, certificates, SECRET, server_address=address)
        for user in (ALICE, BOB):
            self.callbridge.add_user(user, PASSWORD)
        units: dict[str, XmppServer | Callbridge] = {
            "cms-xmpp": self.server,
            "cms-callbridge": self.callbridge,
        }
        self.host = Host(processes, units, {})
        self.places()

    def places(self) -> None:
        """Where this host has what the page has in F{/etc/cms}."""
        self.host.places |= {
            "/etc/cms/callbridge.toml": self.callbridge.file,
            "/etc/cms/xmpp.toml": self.server.file,
            "cms xmpp": f"CMS_CONFIG={self.server.file} cms xmpp",
            "cms callbridge": f"CMS_CONFIG={self.callbridge.file} cms callbridge",
        }

    def start(self) -> None:
        """Both."""
        self.server.start()
        self.callbridge.start()

    def renew(self, name: str, pair: Pair) -> None:
        """Another certificate and key in the files of an old one."""
        not_after = datetime.now(UTC) + timedelta(days=200)
        new = self.certificates.issue(DOMAIN, name, not_after=not_after)
        shutil.copy(new.certificate, pair.certificate)
        shutil.copy(new.key, pair.key)

    def client(self, address: str = ALICE, **more: object) -> Any:
        """Somebody who is not connected yet."""
        port, trust = self.server.client_port, self.certificates.trust
        return slixmpp_client(self.processes, address, PASSWORD, port, trust, **more)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Made, but not started."""
    return System(processes, certificates)


def test_certificate_expires(system: System, tmp_path: Path) -> None:
    """
    Before, at and after: who warns, what stays up, what fails; and the cure as it is written.

    The wall clock of the daemons and commands is moved; what waits for time does not notice.
    """
    clock = tmp_path / "clock"
    wall = moved_clock(clock)
    dns = Bind(system.processes, {DOMAIN: [f"_xmpp-component._tcp SRV 10 10 {PORT} localhost."]})
    dns.start()
    system.server.settings["dns"] = {"servers": [dns.address]}
    system.server.environment = system.callbridge.environment = wall
    system.start()

    def then(line: str, status: int = 0, answer: str = "") -> str:
        """Typed at that time.  A command that sleeps fails this way: it must not be one."""
        before = system.host.environment
        system.host.environment = {**before, **wall}
        try:
            return system.host.types(line, status=status, answer=answer)
        finally:
            system.host.environment = before

    alice = system.client()
    alice.connected()
    expires = Figures(system.server)(EXPIRY, certificate="own")
    left = timedelta(seconds=expires - datetime.now(UTC).timestamp())
    assert timedelta(days=89) < left < timedelta(days=91)
    assert Figures(system.callbridge)(EXPIRY, certificate="server") == expires
    assert "expires in" not in then("cms xmpp certs")

    clock.write_text("+65d")  # 25 days before
    assert re.search(r"warning *: .* expires in 2\d days", then("cms xmpp certs"))
    system.host.types("systemctl reload cms-xmpp")
    system.server.process.wait_for("expires in 24 days", 20.0)

    clock.write_text("+91d")
    said = then("cms xmpp certs", 1)
    assert "The certificate expired on" in said
    alice.message(ALICE, "to myself")  # what is up stays up
    alice.expect("message")
    assert "active" in system.host.types("cms callbridge")
    login = f"cms login {BOB} --server localhost:{system.server.client_port} --password-stdin"
    login += f" --trust {system.certificates.trust}"
    assert "expired" in then(login, 1, PASSWORD)
    failed = system.host.types("cms callbridge reconnect --even-if-up", status=1)
    assert "step 7 tls failed: " in failed
    assert "expired at" in failed

    system.renew("localhost", system.pair)
    system.host.types("systemctl reload cms-xmpp")
    assert "is valid until" in then("cms xmpp certs")
    failed = system.host.types("cms callbridge reconnect", status=1)  # its own is old as well
    assert "refused this Callbridge's certificate" in failed
    system.renew("cb1", system.callbridge.pair)
    for name in ("renewed-callbridge", "renewed"):
        said = system.host.types(block(name))
        assert re.search(r"^Link +: active$", said, re.MULTILINE)
    alice.message(ALICE, "to myself again")
    alice.expect("message")
    assert "Logged in" in then(login, 0, PASSWORD)


def moved_to(callbridge: Callbridge, root: Path) -> None:
    """The place of a Callbridge's files, as the page has them, below a folder of the test."""
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    callbridge.file = root / "etc/cms/callbridge.toml"
    callbridge.settings["state_dir"] = "../../var/lib/cms-callbridge"


def test_move_to_another_host(system: System, tmp_path: Path) -> None:
    """All that is typed on the old host and on the new one; then users log in as before."""
    require("systemd-sysusers", "systemd")
    processes, old = system.processes, system.callbridge
    new = Callbridge(processes, system.certificates, SECRET)
    new.settings = old.settings
    roots = tmp_path / "old", tmp_path / "new"
    hosts = []
    for root, daemon in zip(roots, (old, new), strict=True):
        moved_to(daemon, root)
        places = {
            "/etc": f"{root}/etc",
            "/var/lib": f"{root}/var/lib",
            "systemd-sysusers": f"systemd-sysusers --root={root}",
            " systemd/": f" {ROOT}/systemd/",
        }
        hosts.append(Host(processes, {"cms-callbridge": daemon}, places, root.name))
    old.file.parent.mkdir()
    for user in (ALICE, BOB):
        old.add_user(user, PASSWORD)
    system.start()
    assert system.client().connected()
    hosts[0].types(block("move-old"))
    for name in ("callbridge.backup", "cms-configuration.tar"):
        file = hosts[0].folder / name
        assert file.stat().st_mode & 0o777 == 0o600
        shutil.copy(file, hosts[1].folder)
    said = hosts[1].types(block("move-new"))
    assert "Link          : active" in said
    assert (roots[1] / "var/lib/cms-callbridge/users.sqlite3").exists()
    assert system.client().connected()


def test_rename_the_domain(system: System) -> None:
    """Passwords, secrets and spaces stay; members are taken over by what is typed."""
    require("jq", "jq")
    other = "talk.example.com"
    system.server.settings["callbridges"] = {}
    system.server.write()
    added = system.host.types("cms xmpp callbridge add cb1 --json")
    made = re.search('"secret": "(.*)"', added)
    assert made is not None
    system.callbridge.settings["shared_secret"] = made[1]
    system.start()
    config = f"export CMS_CONFIG={system.callbridge.file}\n"
    may = "--may canDestroy --may-not canRemoveSelf"
    system.host.types(f"{config}{block('space')}")
    system.host.types(f"cms callbridge space member set 123456789 bob {may}")
    before = json.loads(_members(system))
    system.host.types(config + block("rename-members"))

    for daemon in (system.callbridge, system.server):
        daemon.process.stop()
        daemon.settings["domain"] = other
    renewed = system.certificates.issue(other, "localhost")
    tls = {"certificate": str(renewed.certificate), "key": str(renewed.key)}
    system.server.settings["tls"] |= tls
    system.start()
    system.host.types(config + block("rename-again"))
    after = {facts["userJid"]: facts for facts in json.loads(_members(system))}
    for facts in before:
        renamed = after[facts["userJid"].replace(DOMAIN, other)]
        assert {**renamed, "userJid": facts["userJid"], "id": facts["id"]} == facts
    assert system.client(f"alice@{other}").connected()


def _members(system: System) -> str:
    """As JSON."""
    said = system.host.types("cms callbridge space member list 123456789 --json")
    return said[said.index("[") : said.rindex("]") + 1]


def test_who_is_logged_in(system: System) -> None:
    """Shown, ended and told something; who is disabled is out."""
    system.start()
    alice, bob = system.client(), system.client(BOB)
    alice.connected()
    bob.connected()
    said = system.host.types(block("clients"))
    assert said.count(ALICE) >= 2
    alice.expect("disconnected")
    assert bob.expect("message")["body"] == "The server restarts at six"
    bob.expect("disconnected")
    assert f"0 entries of {BOB} forgotten" in system.host.types(block("contacts"))


def test_why_alice_could_not_log_in(system: System) -> None:
    """The record says it by her name and by the log-in's ID; locks are shown and released."""
    system.host.places["cms log "] = (
        f"cms log --config {system.server.file} --config {system.callbridge.file} "
    )
    system.start()
    wrong = f"cms login {ALICE} --server localhost:{system.server.client_port} --password-stdin"
    wrong += f" --trust {system.certificates.trust}"
    system.host.types(wrong, status=1, answer="wrong")
    typed = block("log")
    login = re.search(r"--login (\w+)", typed)
    attempt = re.search(r"--attempt ([\w-]+)", typed)
    assert login is not None
    assert attempt is not None
    told = system.host.types(typed.splitlines()[0])
    assert "failed: the password is wrong" in told
    real = {
        login[1]: re.findall(r"login=(\w+)", told)[0],
        attempt[1]: re.findall(r"attempt_id=([\w-]+)", system.callbridge.process.output)[0],
    }
    for written, here in real.items():
        typed = typed.replace(written, here)
    assert system.host.types(typed).count("the password is wrong") >= 3
    assert "alice" in system.host.types(block("locks"))
