"""
What an operator reads when the disk of the state directory is full: by the daemons,
by the commands on a stopped daemon's files, and by the API.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN, LINK_ACTIVE, LINK_SECONDS
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.processes import Process, Processes
from peers.tools import require, script
from peers.wire import WireClient, shape

PASSWORD = "alice's pass word"
MAKE_ROOM = r"Error: \S*%s cannot be written: there is no room left on its disk\. Cure: Make room"


class FullDisk:
    """
    A file system of its own, in a mount namespace that goes with its processes.

    The state directories are put on it, then it is filled to the last byte.
    """

    SETUP = """
mount -t tmpfs -o size=8m,mode=0700 tmpfs {mount}
cp -a {states} {mount}/
cat /dev/zero > {mount}/fill 2>/dev/null || true
"""

    def __init__(self, processes: Processes, *states: Path) -> None:
        require("unshare", "util-linux")
        self._processes = processes
        self.mount = processes.make_directory("disk")
        self._states = " ".join(shlex.quote(str(state)) for state in states)

    def command(self, script_text: str) -> list[str]:
        """What runs a script on the full disk."""
        namespace = ["unshare", "--mount"]
        if os.geteuid() != 0:
            namespace += ["--map-root-user"]
        setup = self.SETUP.format(mount=shlex.quote(str(self.mount)), states=self._states)
        return [*namespace, "sh", "-c", f"set -e\n{setup}\nset +e\n{script_text}"]

    def run(self, script_text: str) -> str:
        """Its output."""
        status, output = self._processes.run(
            "full", self.command(script_text), env=daemon_environment()
        )
        assert status == 0, output
        return output


@pytest.fixture
def pair(processes: Processes, certificates: Certificates) -> tuple[XmppServer, Callbridge]:
    """A server that knows cb2 from its store, and its Callbridge with alice; both stopped."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret-of-cb1"})
    server.settings["state_dir"] = "state-xmpp"
    server.write()
    callbridge = Callbridge(
        processes,
        certificates,
        "s3cret-of-cb1",
        server_address=f"xmpp1.{DOMAIN}:{server.component_port}",
    )
    callbridge.settings["state_dir"] = "state-callbridge"
    callbridge.add_user(f"alice@{DOMAIN}", PASSWORD)
    for command, daemon in (
        ("xmpp callbridge add cb2", server),
        ("callbridge space add Team", callbridge),
    ):
        added = [*script("cms"), *command.split(), "--config", str(daemon.file)]
        status, output = processes.run("add", added, env=daemon_environment())
        assert status == 0, output
    return server, callbridge


def on_disk(daemon: XmppServer | Callbridge, disk: FullDisk) -> Path:
    """The state directory as it is, and the configuration that names its copy on the disk."""
    state: Path = daemon.directory / daemon.settings["state_dir"]
    daemon.settings["state_dir"] = str(disk.mount / state.name)
    daemon.write()
    return state


def test_commands(pair: tuple[XmppServer, Callbridge], processes: Processes) -> None:
    """While the daemons are stopped: what reads works, what writes says what to do."""
    server, callbridge = pair
    states = [daemon.directory / daemon.settings["state_dir"] for daemon in pair]
    disk = FullDisk(processes, *states)
    for daemon in pair:
        on_disk(daemon, disk)
    cms = shlex.join(script("cms"))
    of_server, of_callbridge = f"--config {server.file}", f"--config {callbridge.file}"
    writing = {
        f"callbridge user add bob {of_callbridge} --password-stdin": "users.sqlite3",
        f"callbridge user passwd alice {of_callbridge} --password-stdin": "users.sqlite3",
        f"callbridge user del alice {of_callbridge}": "users.sqlite3",
        f"callbridge space add Other {of_callbridge}": "spaces.sqlite3",
        f"xmpp callbridge add cb3 {of_server}": "callbridges.sqlite3",
        f"xmpp callbridge rotate cb2 {of_server}": "callbridges.sqlite3",
        f"xmpp callbridge del cb2 {of_server}": "callbridges.sqlite3",
        f"pki trial {disk.mount}/new --domain a.example --hostname b.example": "ca.pem",
    }
    for command, file in writing.items():
        # The second time after room was made: nothing of the first is in the way.
        text = (
            f"printf 'a pass word\\n' | {cms} {command}; echo status $?\n"
            f"rm {disk.mount}/fill\n"
            f"printf 'a pass word\\n' | {cms} {command}; echo status $?"
        )
        output = disk.run(text)
        assert re.search(MAKE_ROOM % re.escape(file), output), (command, output)
        assert re.findall(r"^status (\d+)$", output, re.MULTILINE) == ["2", "0"], (command, output)
        assert "Traceback" not in output
    reading = {
        f"callbridge user list {of_callbridge}": f"alice@{DOMAIN}",
        f"callbridge space list {of_callbridge}": "Team",
        f"xmpp callbridge list {of_server}": "cb2",
        f"check --server {of_server} --dns 127.0.0.1:9 --timeout 1": "",
    }
    for command, expected in reading.items():
        output = disk.run(f"{cms} {command}; echo status $?")
        assert expected in output
        assert "Traceback" not in output
        if expected:
            assert "status 0" in output, output


def lacks_contacts(server: XmppServer, processes: Processes, alice: WireClient) -> None:
    """There are none as long as there is no room, and the status says why."""
    inside = ["nsenter", "--mount", "--target", str(server.process.pid)]
    status = [*script("cms"), "status", "--config", str(server.file)]
    named = "<query xmlns='jabber:iq:roster'><item jid='bob@example.com' name='Bob'/></query>"

    def shown() -> str:
        ended, output = processes.run("status", [*inside, *status], env=daemon_environment())
        assert ended in (0, 1), output
        return output

    assert "No room" in shown()
    assert len(alice.ask("get", "<query xmlns='jabber:iq:roster'/>")[0]) == 0
    assert shape(alice.ask("set", named)) == "iq error -: internal-server-error"
    disk = Path(server.settings["state_dir"]).parent
    assert processes.run("rm", [*inside, "rm", str(disk / "fill")])[0] == 0
    assert shape(alice.ask("set", named)) == "iq result -"
    assert len(alice.ask("get", "<query xmlns='jabber:iq:roster'/>")[0]) == 1
    assert "No room" not in shown()
    alice.close()


def test_daemons(
    pair: tuple[XmppServer, Callbridge], processes: Processes, certificates: Certificates
) -> None:
    """
    Both start on a full disk for the first time and let alice in; what is to be stored is refused
    with the cure.  Contacts are there as soon as there is room.
    """
    server, callbridge = pair
    callbridge.settings["server_address"] = f"localhost:{server.component_port}"
    pair_of_localhost = certificates.issue(DOMAIN, f"xmpp1.{DOMAIN}", "localhost")
    server.settings["tls"]["certificate"] = str(pair_of_localhost.certificate)
    server.settings["tls"]["key"] = str(pair_of_localhost.key)
    processes.expect_error("there is no room left on its disk")
    started: list[Process] = []
    for daemon in pair:
        disk = FullDisk(processes, daemon.directory / daemon.settings["state_dir"])
        on_disk(daemon, disk)
        daemon.launcher = [*disk.command('exec "$@"'), "sh"]
        started.append(daemon.launch())
    server.process.wait_for("client listener ready", 20.0)
    callbridge.process.wait_for(LINK_ACTIVE, LINK_SECONDS)
    trust = certificates.trust
    client = slixmpp_client(processes, f"alice@{DOMAIN}", PASSWORD, server.client_port, trust)
    assert client.connected()
    for daemon, command in (
        (callbridge, "callbridge user add bob --password-stdin"),
        (callbridge, "callbridge space add Other"),
        (server, "xmpp callbridge add cb3"),
    ):
        inside = ["nsenter", "--mount", "--target", str(daemon.process.pid)]
        asked = [*inside, *script("cms"), *command.split(), "--config", str(daemon.file)]
        status, output = processes.run("ask", asked, text="a pass word", env=daemon_environment())
        assert status != 0
        assert "there is no room left on its disk. Cure: Make room" in output, output
    lacks_contacts(server, processes, WireClient(server.client_port, trust, "alice", PASSWORD))
    for process in started:
        assert "Traceback" not in process.output
        assert "critical" not in process.output
