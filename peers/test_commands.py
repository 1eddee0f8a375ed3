"""C{cms} on real daemons, running and stopped; shells and C{groff} on what it writes for them."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import DOMAIN, LINK_SECONDS
from peers.daemons import Callbridge, Daemon, XmppServer, daemon_environment
from peers.network import wait_until
from peers.processes import Processes
from peers.tools import require, script

CB1 = f"cb1.{DOMAIN}"
AT_ONCE = 5.0  # seconds within which a running daemon knows what a command has changed
ALICE = f"alice@{DOMAIN}"


class System:
    """An XMPP server that knows no Callbridge, and a Callbridge that looks for it."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        self.trust = certificates.trust
        self.server = XmppServer(processes, certificates, {})
        self.server.settings["hostname"] = "localhost"
        pair = certificates.issue(DOMAIN, "localhost")
        self.server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
        address = f"localhost:{self.server.component_port}"
        self.callbridge = Callbridge(processes, certificates, "?", server_address=address)
        quick = {"first_delay": 0.2, "most_delay": 0.5, "refused_delay": 0.2}
        self.callbridge.settings["link"] = {**quick, "most_refused_delay": 0.5}
        self.server.write()

    def cms(self, daemon: Daemon, *arguments: str, status: int = 0, text: str = "") -> Any:
        """Run a command about a daemon with --json; what it prints on standard output."""
        said = self.say(daemon, *arguments, "--json", status=status, text=text)
        return json.loads(re.sub(r"^cms: .*\n", "", said, flags=re.MULTILINE))

    def say(self, daemon: Daemon, *arguments: str, status: int = 0, text: str = "") -> str:
        """Run a command about a daemon; both outputs."""
        command = [*script("cms"), *arguments, "--config", str(daemon.file)]
        ended, output = self._processes.run(
            "cms", command, text=text, env=daemon_environment(), cwd=daemon.directory
        )
        assert ended == status, output
        return output

    def callbridges(self, *arguments: str, status: int = 0) -> Any:
        """C{cms xmpp callbridge}."""
        return self.cms(self.server, "xmpp", "callbridge", *arguments, status=status)

    def use(self, secret: str) -> None:
        """The Callbridge's secret, from its next start on."""
        self.callbridge.settings["shared_secret"] = secret

    def register(self, secret: str) -> str:
        """A stranger's registration as cb1; how the server answers."""
        with socket.create_connection(("127.0.0.1", self.server.component_plain_port), 5) as peer:
            peer.sendall(
                f"<stream:stream xmlns='jabber:component:accept' to='{CB1}'"
                " xmlns:stream='http://etherx.jabber.org/streams'>".encode()
            )
            header = peer.recv(4096).decode()
            found = re.search("id='([^']*)'", header)
            if found is None or "error" in header:
                return header
            digest = hashlib.sha1((found[1] + secret).encode()).hexdigest()
            peer.sendall(f"<handshake>{digest}</handshake>".encode())
            return peer.recv(4096).decode()


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Made, but not started."""
    return System(processes, certificates)


def test_added_while_stopped(system: System) -> None:
    """A Callbridge that is added to a stopped server registers when that runs."""
    assert "no XMPP server runs on it" in system.say(
        system.server, "xmpp", "callbridge", "add", "cb0"
    )
    system.use(system.callbridges("add", "cb1")["secret"])
    system.server.start()
    system.callbridge.start()
    names = {facts["name"]: facts["state"] for facts in system.callbridges("list")}
    assert names == {"cb0": "not connected", "cb1": "active"}


def test_added_while_running(system: System) -> None:
    """A Callbridge that is added to a running server registers at once."""
    system.server.start()
    assert "host-unknown" in system.register("whatever")
    made = system.callbridges("add", "cb1")["secret"]
    began = time.monotonic()
    assert "<handshake/>" in system.register(made)
    assert time.monotonic() - began < AT_ONCE
    said = system.say(system.server, "xmpp", "callbridge", "list")
    assert f"by the running XMPP server ({system.server.directory}/state/admin.sock)" in said
    assert made not in said


def test_waiting_callbridge(system: System) -> None:
    """A Callbridge that was refused until then has its link two seconds after the command."""
    system.server.start()
    system.use("given-by-hand")
    system.callbridge.launch().wait_for("host-unknown", LINK_SECONDS)
    add = ("xmpp", "callbridge", "add-secret", "cb1", "--secret-stdin")
    system.cms(system.server, *add, text="given-by-hand")
    seconds = system.callbridge.wait_active(seconds=AT_ONCE)
    print(f"link {seconds:.2f} s after the command")


def test_secret_and_reconnect(system: System) -> None:
    """
    A Callbridge with a secret that is not accepted waits, and says for how long; the new secret
    counts at once, and the command sees the link come up.  A daemon that hangs is told honestly.
    """
    system.server.start()
    made = system.callbridges("add", "cb1")["secret"]
    system.use("given-by-hand")
    system.callbridge.settings["link"] = {"refused_delay": 60.0}
    system.callbridge.launch().wait_for("next attempt in 6", LINK_SECONDS)
    status = system.cms(system.callbridge, "status", status=1)[0]["status"]["link"]
    assert status["state"] == "waiting"
    assert 40 < status["nextAttemptSeconds"] <= 61
    shown = system.say(system.callbridge, "callbridge")
    assert re.search(r"^Next attempt +: in \d+ s$", shown, re.MULTILINE)
    failed = system.say(system.callbridge, "callbridge", "reconnect", status=1)
    assert "step 10 registered failed: " in failed
    assert "Cure: " in failed
    wrong = system.say(
        system.callbridge, "callbridge", "secret", "--secret-stdin", text="wrong-too\n", status=1
    )
    assert "step 10 registered failed: " in wrong
    secret = ("callbridge", "secret", "--secret-stdin")
    link = system.cms(system.callbridge, *secret, text=f"{made}\n")["link"]
    assert link["state"] == "active"
    rotated = system.callbridges("rotate", "cb1", "--overlap", "0")["secret"]
    system.callbridge.process.wait_for("next attempt in 6", LINK_SECONDS, times=4)
    assert rotated not in system.say(system.callbridge, *secret, text=f"{rotated}\n")
    assert system.cms(system.callbridge, "callbridge", "reconnect")["result"] == "up"
    again = system.cms(system.callbridge, "callbridge", "reconnect", "--even-if-up")
    assert (again["result"], again["link"]["state"]) == ("begun", "active")
    system.callbridge.process.signal(signal.SIGSTOP)
    frozen = system.say(system.callbridge, "callbridge", "reconnect", status=1)
    assert "does not answer (timed out). Cure: " in frozen
    system.callbridge.process.signal(signal.SIGCONT)
    assert system.cms(system.callbridge, "callbridge", "reconnect")["link"]["state"] == "active"


def test_written_behind_its_back(system: System) -> None:
    """What another process writes into the store counts too, within a second or so."""
    system.server.start()
    sock = system.server.directory / "state" / "admin.sock"
    hidden = sock.with_name("hidden")
    sock.rename(hidden)
    assert "no XMPP server runs on it" in system.say(
        system.server, "xmpp", "callbridge", "add", "cb1", "--secret-file", "cb1.secret"
    )
    hidden.rename(sock)
    secret = (system.server.directory / "cb1.secret").read_text().strip()
    wait_until(lambda: "<handshake/>" in system.register(secret), AT_ONCE, "the registration")


def test_rotate(system: System) -> None:
    """The old secret serves until the overlap is over, a link of it no longer; then the new one."""
    old = system.callbridges("add", "cb1")["secret"]
    system.use(old)
    system.server.start()
    started = time.monotonic()
    system.callbridge.start()
    # Long enough to come back in, also on a busy machine.
    overlap = max(8, round(8 * (time.monotonic() - started)))
    began = time.monotonic()
    new = system.callbridges("rotate", "cb1", "--overlap", str(overlap))["secret"]
    assert {old, new} == set(system.callbridges("list", "--show-secrets")[0]["secretValues"])
    system.callbridge.process.stop()
    system.callbridge.start()
    reconnected = time.monotonic() - began
    assert reconnected < overlap, "too slow to see anything"
    process = system.callbridge.process
    process.wait_for("not-authorized", overlap + 5.0)
    assert time.monotonic() - began >= overlap - 0.5
    assert system.callbridges("list")[0]["state"] == "not connected"
    process.stop()
    system.use(new)
    system.callbridge.start()
    print(f"reconnected with the old secret after {reconnected:.1f} s of {overlap} s")


def test_delete(system: System) -> None:
    """A Callbridge that is deleted loses its link, and is refused."""
    system.use(system.callbridges("add", "cb1")["secret"])
    system.server.start()
    system.callbridge.start()
    began = time.monotonic()
    system.callbridges("del", "cb1")
    system.callbridge.process.wait_for("host-gone", AT_ONCE)
    print(f"link ended within {time.monotonic() - began:.2f} s of the command's start")
    system.callbridge.process.wait_for("host-unknown", LINK_SECONDS)
    assert system.callbridges("list") == []
    assert "no such Callbridge" in system.say(
        system.server, "xmpp", "callbridge", "del", "cb1", status=1
    )


def test_state(system: System) -> None:
    """What both daemons are and do, before and after there is a link."""
    assert [each["running"] for each in system.cms(system.server, "status", status=1)] == [False]
    system.use(system.callbridges("add", "cb1")["secret"])
    system.server.start()
    (waiting,) = system.cms(system.server, "status", status=1)
    assert (waiting["running"], waiting["healthy"]) == (True, False)
    system.callbridge.start()
    both = (*script("cms"), "status", "--config", str(system.server.file))
    wait_until(
        lambda: system._processes.run("status", both, env=daemon_environment())[0] == 0,
        LINK_SECONDS,
        "cms status to be content",
    )
    server = system.cms(system.server, "xmpp")
    assert (server["running"], server["domain"]) == (True, DOMAIN)
    assert server["status"]["callBridgesActive"] == 1
    bridge = system.cms(system.callbridge, "callbridge")
    assert bridge["status"]["link"]["state"] == "active"
    assert "Step " in system.say(system.callbridge, "callbridge")
    for command in ("domain", "listen", "certs"):
        found = system.cms(system.server, "xmpp", command)["findings"]
        assert "wrong" not in {finding["state"] for finding in found}
    assert " listens." in system.say(system.server, "xmpp", "listen")
    system.server.process.stop()
    assert " is free." in system.say(system.server, "xmpp", "listen")


def test_users_and_login(system: System) -> None:
    """A user of a running Callbridge logs in with C{cms login}, until deleted."""
    system.use(system.callbridges("add", "cb1")["secret"])
    system.server.start()
    system.callbridge.start()
    login = [*script("cms"), "login", ALICE, "--password-stdin", "--trust", str(system.trust)]
    login += ["--server", f"localhost:{system.server.client_port}"]

    def log_in(password: str) -> tuple[int, str]:
        return system._processes.run("login", login, text=password, env=daemon_environment())

    user = ("callbridge", "user")
    add = system.cms(system.callbridge, *user, "add", ALICE, "--password-stdin", text="first")
    assert add == {"userJid": ALICE, "new": True}
    status, output = log_in("first")
    assert (status, f"Logged in : {ALICE}/" in output) == (0, True), output
    system.cms(system.callbridge, *user, "passwd", "alice", "--password-stdin", text="second")
    status, output = log_in("first")
    assert (status, "not-authorized" in output) == (1, True), output
    assert log_in("second")[0] == 0
    assert [each["userJid"] for each in system.cms(system.callbridge, *user, "list")] == [ALICE]
    system.cms(system.callbridge, *user, "del", ALICE)
    assert log_in("second")[0] == 1
    system.callbridge.process.stop()
    assert system.cms(system.callbridge, *user, "list") == []
    status, output = log_in("second")
    assert (status, "remote-connection-failed" in output) == (1, True), output
    system.server.process.stop()
    status, output = log_in("second")
    assert (status, "Cure: " in output, "Traceback" in output) == (1, True, False), output


def test_dns_lookup(processes: Processes) -> None:
    """A real name server's records; and a name that is not there."""
    records = ["_xmpp-component._tcp SRV 10 20 5223 xmpp1", "xmpp1 A 192.0.2.1"]
    dns = Bind(processes, {DOMAIN: records})
    dns.start()

    def lookup(type_: str, name: str) -> tuple[int, str]:
        command = [*script("cms"), "dns", "lookup", type_, name, "--dns", dns.address]
        return processes.run("cms", command, env=daemon_environment())

    service = f"_xmpp-component._tcp.{DOMAIN}"
    status, output = lookup("SRV", f"{service}.")
    assert (status, f" SRV 10 20 5223 xmpp1.{DOMAIN}.\n" in output) == (0, True)
    status, output = lookup("A", f"xmpp1.{DOMAIN}")
    assert (status, " A 192.0.2.1\n" in output) == (0, True)
    assert lookup("AAAA", f"xmpp1.{DOMAIN}")[0] == 1
    status, output = lookup("SRV", f"_nothing._tcp.{DOMAIN}")
    assert status == 1
    assert "says that there is no _nothing" in output


def test_completion(system: System) -> None:
    """bash completes commands and options."""
    bash = require("bash", "bash")
    path = Path(script("cms")[0]).parent
    text = f"""
    PATH={path}:$PATH
    eval "$(cms completion bash)"
    COMP_WORDS=(cms xmpp callbridge ro) COMP_CWORD=3
    _cms_completion cms
    echo "${{COMPREPLY[@]}}"
    COMPREPLY=()
    COMP_WORDS=(cms xmpp callbridge rotate --over) COMP_CWORD=4
    _cms_completion cms
    echo "${{COMPREPLY[@]}}"
    """
    status, output = system._processes.run("bash", [bash, "-c", text], env=daemon_environment())
    assert (status, output.split()) == (0, ["rotate", "--overlap"])


def test_manual_pages(processes: Processes, tmp_path: Path) -> None:
    """groff renders every page without a warning, and man shows one."""
    groff = require("groff", "groff-base")
    man = require("man", "man-db")
    folder = tmp_path / "man1"
    write = [*script("cms"), "man", "--directory", str(folder)]
    assert processes.run("cms-man", write, env=daemon_environment())[0] == 0
    pages = sorted(folder.iterdir())
    assert len(pages) >= 20
    for page in pages:
        render = [groff, "-man", "-Tutf8", "-ww", "-z", str(page)]
        assert processes.run("groff", render) == (0, "")
    status, output = processes.run("man", [man, "-l", str(folder / "cms-xmpp.1")])
    assert status == 0
    assert "cms-xmpp - Show or administer an XMPP server" in output
