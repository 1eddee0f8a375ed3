"""A day of who runs the two daemons: people are seen, told, ended, kept out, and asked after."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client, slixmpp_guest
from peers.contract import DOMAIN, ROOT
from peers.daemons import Daemon, XmppServer, daemon_environment
from peers.network import wait_until
from peers.processes import Processes, children
from peers.realclients import Account, Profanity
from peers.terminal import Terminals
from peers.tools import require, script

PASSWORD = "corr3ct-horse"
SECONDS = 60.0
JOURNAL = "/lib/systemd/systemd-journal-remote"


class Place:
    """Both daemons, Alice and Bob by slixmpp, and Peggy by profanity."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        self._trust = certificates.trust
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.server.start()
        self.callbridge = self.server.callbridge()
        for user in ("alice", "bob", "peggy"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
        self.callbridge.start()
        account = Account(
            *(f"peggy@{DOMAIN}", PASSWORD, "127.0.0.1", self.server.client_port),
            *(certificates.trust, self.server.pair),
        )
        self.peggy = Profanity(processes, Terminals(processes), account, "reconnect=1\n")
        self.peggy.start()
        self._saw: Counter[str] = Counter()
        self.alice, self.bob = self.client("alice"), self.client("bob")
        for driver in (self.alice, self.bob):
            driver.connected()
        self.until_listed("peggy")

    def client(self, user: str, password: str = PASSWORD, **more: Any) -> Driver:
        """A slixmpp that is not connected yet."""
        port = self.server.client_port
        return slixmpp_client(
            self._processes, f"{user}@{DOMAIN}", password, port, self._trust, **more
        )

    def cms(self, of: Daemon, *arguments: str, status: int = 0, text: str = "") -> str:
        """A command about one of the daemons; what it prints."""
        command = [*script("cms"), *arguments, "--config", str(of.file)]
        got, output = self._processes.run(
            "cms", command, text=text, env=daemon_environment(), seconds=SECONDS
        )
        assert got == status, output
        assert "Traceback" not in output, output
        return output

    def listed(self) -> dict[str, dict[str, Any]]:
        """Who is logged in, by user."""
        output = self.cms(self.server, "xmpp", "client", "list", "--json")
        found = json.loads(output[output.index("[") : output.rindex("]") + 1])
        return {facts["jid"].partition("@")[0]: facts for facts in found}

    def until_listed(self, user: str, *, there: bool = True) -> None:
        """Wait until somebody is logged in, or is not."""
        wait_until(
            lambda: (user in self.listed()) is there, 60.0, f"{user} {'in' if there else 'out'}"
        )

    def peggy_sees(self, text: str, times: int = 1) -> None:
        """What profanity shows, so often since the last L{peggy_saw}."""
        shown, times = self.peggy.shown, times + self._saw[text]
        wait_until(lambda: shown().count(text) == times, 60.0, f'{times} "{text}" in {shown()}')

    def peggy_saw(self, *texts: str) -> None:
        """These were on the screen before."""
        shown = self.peggy.shown()
        self._saw = Counter({text: shown.count(text) for text in texts})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Place]:
    """Everybody is logged in."""
    with children(tmp_path_factory.mktemp("daily")) as processes:
        yield Place(processes, certificates)


def test_seen(place: Place) -> None:
    """By list and show, with addresses of their own."""
    listed = place.listed()
    assert set(listed) >= {"alice", "bob", "peggy"}
    shown = place.cms(place.server, "xmpp", "client", "show", "alice")
    assert re.search(rf"Callbridge +: cb1\.{DOMAIN}\n", shown), shown
    assert "not logged in" in place.cms(place.server, "xmpp", "client", "show", "carol", status=1)


def test_told(place: Place) -> None:
    """Everybody sees what the server says."""
    said = place.cms(place.server, "xmpp", "client", "message", "all", "Restart <at> six")
    assert re.match(r"\d+ sessions got it", said), said
    for driver in (place.alice, place.bob):
        assert driver.expect("message")["body"] == "Restart <at> six"
    place.peggy.command("/win 2")
    place.peggy_sees("Restart <at> six")


def test_kicked(place: Place) -> None:
    """
    The program says so; it may come back, as profanity does by itself, and once: all that it shows
    is that it was away.
    """
    place.cms(place.server, "xmpp", "client", "kick", "alice")
    error = place.alice.expect("stream-error")
    assert (error["condition"], error["text"]) == ("policy-violation", "ended by an administrator")
    place.alice.expect("disconnected")
    id_ = place.listed()["peggy"]["id"]
    place.peggy.command("/win 1")
    place.cms(place.server, "xmpp", "client", "kick", "peggy")
    place.peggy_sees("Lost connection.")
    place.peggy_sees("Connection re-established.")
    wait_until(lambda: place.listed().get("peggy", {}).get("id", id_) != id_, 60.0, "peggy is back")


def test_disabled(place: Place) -> None:
    """He is out, sees why when he tries again, and hears nothing more; enabled, he is back."""
    carol = place.client("carol")
    place.callbridge.add_user(f"carol@{DOMAIN}", PASSWORD)
    carol.connected()
    said = place.cms(place.callbridge, "callbridge", "user", "disable", "carol")
    assert f"carol@{DOMAIN} disabled, 1 session ended" in said
    error = carol.expect("stream-error")
    assert (error["condition"], error["text"]) == ("not-authorized", "the account was disabled")
    carol.expect("disconnected")
    assert "carol" not in place.listed()
    carol.connect()
    assert carol.expect("refused")["condition"] == "account-disabled"
    place.cms(place.callbridge, "callbridge", "user", "enable", "carol")
    again = place.client("carol")
    again.connected()
    changed = place.cms(
        *(place.callbridge, "callbridge", "user", "passwd", "carol", "--password-stdin"),
        text="another",
    )
    assert "has a new password, 1 session ended" in changed
    assert again.expect("stream-error")["condition"] == "reset"


def test_disabled_in_a_room(place: Place) -> None:
    """Whoever is in a room with him sees him leave."""
    for user in ("erin", "frank"):
        place.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    place.callbridge.space("add", "Team", "--uri", "team")
    port, trust = place.server.client_port, place._trust
    erin, frank = (
        slixmpp_guest(place._processes, f"{user}@{DOMAIN}", PASSWORD, port, trust)
        for user in ("erin", "frank")
    )
    for driver, user in ((erin, "erin"), (frank, "frank")):
        place.callbridge.space("member", "set", "team", user)
        driver.connected()
        driver.do("join", room=f"team@cb1.{DOMAIN}", nick=user)
        driver.expect("joined", 30.0)
    place.cms(place.callbridge, "callbridge", "user", "disable", "frank")
    while (seen := erin.expect("seen", 30.0))["type"] != "unavailable":
        pass
    assert seen["sender"] == f"team@cb1.{DOMAIN}/frank"


def test_profanity_disabled(place: Place) -> None:
    """
    It says that it has lost its connection, and tries again each second or so, as it is
    set up to; it never says why it cannot log in, so that is told by the record.  Enabled, it is
    back.
    """
    place.until_listed("peggy")
    place.peggy_saw("Lost connection.", "Connection re-established.")
    place.cms(place.callbridge, "callbridge", "user", "disable", "peggy")
    place.until_listed("peggy", there=False)
    place.peggy_sees("Lost connection.")
    place.peggy_sees("[offline]")

    def tried() -> bool:
        return "the account is disabled" in place.cms(
            place.callbridge, "log", "--user", "peggy", "--since", "1h"
        )

    wait_until(tried, 60.0, "profanity tries again")
    assert "peggy" not in place.listed()
    place.peggy_sees("Connection re-established.", 0)
    place.cms(place.callbridge, "callbridge", "user", "enable", "peggy")
    place.peggy_sees("Connection re-established.")
    place.peggy_sees("[online]")


def test_disabled_without_link(place: Place) -> None:
    """The link is down when he is disabled: his session ends when it is up again."""
    dave = place.client("dave")
    place.callbridge.add_user(f"dave@{DOMAIN}", PASSWORD)
    dave.connected()
    place.callbridge.process.stop()
    said = place.cms(place.callbridge, "callbridge", "user", "disable", "dave", status=0)
    assert "no Callbridge runs on this state directory" in said
    assert "dave" in place.listed()
    place.callbridge.start()
    error = dave.expect("stream-error", 30.0)
    assert error["text"] == "the account was disabled"
    place.until_listed("dave", there=False)


def test_why(place: Place) -> None:
    """The record tells wrong passwords from names that nobody has, also when nothing runs."""
    for user, password in (("bob", "wrong"), ("hunter2", PASSWORD)):
        client = place.client(user, password, mechanism="PLAIN")
        client.connect()
        assert client.expect("refused")["condition"] == "not-authorized"

    def log(*arguments: str) -> str:
        return place.cms(place.callbridge, "log", *arguments)

    wait_until(lambda: "no such user" in log(), SECONDS, "the record")
    bob = log("--user", f"bob@{DOMAIN}")
    (line,) = [each for each in bob.splitlines() if "failed" in each]
    assert "log-in of bob from 127.0.0.1 (PLAIN) failed: the password is wrong" in line
    assert "log-in of h… (7 characters) from" in log("--user", "hunter2")
    for daemon, way in ((place.callbridge, "by PLAIN"), (place.server, "from 127.0.0.1")):
        assert f"log-in of bob {way}" in place.cms(daemon, "flow", "--last", "10")
    everything = "".join(
        path.read_text()
        for daemon in (place.server, place.callbridge)
        for path in daemon.directory.rglob("record/*.jsonl")
    )
    assert "unter2" not in everything + place.callbridge.process.output
    assert PASSWORD not in everything
    login = re.search(r"login=([0-9a-f]{12})", line)
    assert login is not None
    command = [*script("cms"), "log", "--login", login[1], "--json"]
    command += ["--config", str(place.server.file), "--config", str(place.callbridge.file)]
    _, both = place._processes.run("cms", command, env=daemon_environment())
    told = {e["by"]: e for e in map(json.loads, filter(lambda x: x[:1] == "{", both.splitlines()))}
    assert told["callbridge"]["reason"] == "wrong-password"
    assert (told["xmpp"]["user"], told["xmpp"]["result"]) == ("bob", "not-authorized")
    place.callbridge.process.signal(signal.SIGSTOP)
    try:
        assert line in log("--user", "bob")
    finally:
        place.callbridge.process.signal(signal.SIGCONT)
    place.callbridge.process.stop()
    assert "the password is wrong" in log("--user", "bob")
    assert re.search(r"step 11 active up .*\[attempt=\w+-1 ", log()), log()
    place.callbridge.start()


def block(name: str) -> str:
    """The commands of docs/operate.md that are marked with this name."""
    text = (ROOT / "docs" / "operate.md").read_text()
    found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_journal(place: Place, tmp_path: Path) -> None:
    """
    The recipe for journalctl finds the log-in in a journal that holds what a unit as it is shipped
    writes: its standard output, line by line.
    """
    require("journalctl", "systemd")
    bad = place.client("bob", "wrong")
    bad.connect()
    bad.expect("refused")
    place.callbridge.process.wait_for("unsuccessful login request from bob@", SECONDS)
    for unit in ("cms-xmpp", "cms-callbridge"):
        start = re.search(
            r"^ExecStart=(.*)$", (ROOT / "systemd" / f"{unit}.service").read_text(), re.M
        )
        assert start is not None
        assert "--log" not in start[1]  # as the daemons of this test log
    journal = tmp_path / "x.journal"
    entries = ""
    outputs = {"cms-xmpp": place.server, "cms-callbridge": place.callbridge}
    for unit, daemon in outputs.items():
        for number, line in enumerate(daemon.process.output.splitlines()):
            if line.strip():
                entries += (
                    f"__REALTIME_TIMESTAMP={1_764_000_000_000_000 + number}\n"
                    f"__MONOTONIC_TIMESTAMP={1_000 + number}\n_BOOT_ID={'0' * 31}1\n"
                    f"_SYSTEMD_UNIT={unit}.service\nMESSAGE={line}\n\n"
                )
    made, output = _convert(place, tmp_path, entries, journal)
    assert made == 0, output
    by_user, by_id = block("journal").splitlines()
    found = _journalctl(place, by_user.replace("alice@", "bob@"), journal)
    login = re.search(r"unsuccessful login request from bob@.*login_id=(\w+)", found)
    assert login is not None, found
    second = re.sub(r"[0-9a-f]{12}", login[1], by_id)
    assert "log-in of bob from" in _journalctl(place, second, journal)


def _convert(place: Place, folder: Path, entries: str, journal: Path) -> tuple[int, str]:
    (folder / "in").write_text(entries)
    command = [JOURNAL, f"--output={journal}", str(folder / "in")]
    return place._processes.run("journal-remote", command)


def _journalctl(place: Place, recipe: str, journal: Path) -> str:
    command = recipe.replace("journalctl ", f"journalctl --file {journal} ")
    status, output = place._processes.run("journalctl", ["sh", "-c", command])
    assert status == 0, output
    return output
