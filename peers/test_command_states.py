"""Each command of an operator's day with its daemon up, frozen and down."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from attrs import frozen

from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN
from peers.daemons import Daemon, XmppServer, daemon_environment
from peers.processes import Processes
from peers.redis import Redis
from peers.slapd import Slapd, account

PASSWORD = "corr3ct-horse"
PATIENCE = 10.0  # seconds: cms.control.daemon.TIMEOUT
BUSY = 50.0  # more, for a busy machine
DRIVER = Path(__file__).parent / "drivers" / "commands.py"
DONE = (0, "")
SILENT = (1, "does not answer (timed out). Cure: ")
GONE = (1, " runs on ")
RUNS = (1, "; nothing was changed. Cure: ")
WRONG = (1, None)  # which says it on standard output

Told = tuple[int, str | None]


@frozen
class Row:
    """A command, and how it ends: with which status, and what its one line of complaint has."""

    command: str
    up: Told = DONE
    frozen: Told = SILENT
    down: Told = GONE


SERVER = [
    Row("xmpp client list"),
    Row("xmpp client show alice"),
    Row("xmpp client kick bob"),
    Row("xmpp client message alice hello"),
    Row("xmpp lock list"),
    Row("xmpp lock clear --all"),
    Row("xmpp cluster status"),
    Row("xmpp drain --cancel"),
    Row("xmpp callbridge list", down=DONE),
    Row("xmpp", down=DONE),
    Row("log", frozen=DONE, down=DONE),
    Row("backup {}.backup", frozen=DONE, down=DONE),
    Row("restore --check made.backup", frozen=DONE, down=DONE),
    Row("status", frozen=WRONG, down=WRONG),
    Row("flow"),
]
CALLBRIDGE = [
    Row("callbridge user list", down=DONE),
    Row("callbridge user disable carol", down=DONE),
    Row("callbridge user enable dave", down=DONE),
    Row("callbridge user export {}.jsonl", frozen=DONE, down=DONE),
    Row("callbridge user import new.csv --existing keep", frozen=DONE, down=DONE),
    Row("callbridge lock list"),
    Row("callbridge lock clear --all"),
    Row("callbridge reconnect"),
    Row("callbridge directory sync ldap"),
    Row("callbridge directory status"),
    Row("callbridge", down=DONE),
    Row("log", frozen=DONE, down=DONE),
    Row("backup {}.backup", frozen=DONE, down=DONE),
    Row("restore --check made.backup", frozen=DONE, down=DONE),
    Row("status", frozen=WRONG, down=WRONG),
    Row("flow"),
]
# What changes what the others see.
LATER = [
    Row("callbridge secret --secret-file ../secret", down=DONE),
    Row("restore made.backup", up=RUNS, frozen=RUNS, down=DONE),
]


class System:
    """Both daemons, one in a cluster, with users of two directories, and backups."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        redis, slapd = Redis(processes), Slapd(processes, certificates, [account("anna", PASSWORD)])
        redis.start()
        slapd.start()
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.server.settings["cluster"] = {"engine": redis.address}
        self.callbridge = self.server.callbridge()
        self.callbridge.settings["directory"] = [slapd.settings(DOMAIN), {"kind": "local"}]
        (processes.directory / "secret").write_text("s3cret\n")
        for daemon in self.both:
            self.folder(daemon).mkdir()
        names = "\n".join(f"{name},{PASSWORD}" for name in ("alice", "bob", "carol", "dave"))
        (self.folder(self.callbridge) / "new.csv").write_text(f"name,password\n{names}\n")
        self.callbridge.write()
        self.run([(self.callbridge, "callbridge user import new.csv")])
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", 20.0)
        port, trust = self.server.client_port, certificates.trust
        people = ((f"{name}@{DOMAIN}", PASSWORD, port, trust) for name in ("alice", "bob"))
        self.alice, bob = [slixmpp_client(processes, *each) for each in people]
        for client in (self.alice, bob):
            client.connected()
        self.run([(daemon, "backup made.backup") for daemon in self.both])

    @property
    def both(self) -> tuple[Daemon, Daemon]:
        """The daemons."""
        return self.server, self.callbridge

    def folder(self, daemon: Daemon) -> Path:
        """Where commands about it work."""
        return self._processes.directory / f"work-{daemon.name}"

    def run(self, commands: list[tuple[Daemon, str]]) -> list[dict[str, Any]]:
        """All side by side, with C{--json}; what became of each."""
        lines = [
            (str(self.folder(daemon)), [*text.split(), "--json", "--config", str(daemon.file)])
            for daemon, text in commands
        ]
        status, output = self._processes.run(
            *("commands", [sys.executable, str(DRIVER)]),
            text=json.dumps(lines),
            seconds=4 * BUSY,
            env=daemon_environment(),
        )
        assert status == 0, output
        found: list[dict[str, Any]] = json.loads(output)
        return found

    def check(self, state: str, server: list[Row], callbridge: list[Row]) -> None:
        """All of them in this state of both daemons."""
        asked: list[tuple[Daemon, Row]] = [(self.server, row) for row in server]
        asked += [(self.callbridge, row) for row in callbridge]
        ended = self.run([(daemon, row.command.format(state)) for daemon, row in asked])
        wrong = [
            f"cms {row.command}, {daemon.name} {state}: {problem}\n{found}"
            for (daemon, row), found in zip(asked, ended, strict=True)
            for problem in problems(getattr(row, state), found)
        ]
        assert wrong == [], "\n\n".join(wrong)

    def nothing_was_done(self) -> None:
        """What commands gave up on while both hung, now that both go on."""
        self.check("up", [Row("xmpp client message alice after")], [Row("callbridge lock list")])
        assert self.alice.expect("message")["body"] == "hello"
        assert self.alice.expect("message")["body"] == "after"


def problems(told: Told, found: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    status, complaint = told
    lines = [line for line in found["err"].splitlines() if not line.startswith("cms: ")]
    wrong = []
    if found["status"] != status:
        wrong.append(f"the status is not {status}")
    if found["seconds"] > PATIENCE + BUSY:
        wrong.append("it took too long")
    if complaint:
        if len(lines) != 1 or not lines[0].startswith("Error: ") or complaint not in lines[0]:
            wrong.append(f'there is not one line with "{complaint}"')
        if " Cure: " not in found["err"]:
            wrong.append("there is no cure")
    else:
        wrong += [f"unexpected: {line}" for line in lines]
        wrong += [] if is_json(found["out"]) else ["it is not JSON"]
    return wrong


def is_json(text: str) -> bool:
    """One document, or one a line, as C{cms log} has them."""
    try:
        json.loads(text)
    except ValueError:
        try:
            return bool([json.loads(line) for line in text.splitlines()])
        except ValueError:
            return False
    return True


def test_states(processes: Processes, certificates: Certificates) -> None:
    """The table."""
    system = System(processes, certificates)
    system.check("up", SERVER, CALLBRIDGE)
    system.check("up", LATER[1:], LATER)
    processes.allow_error(
        "cannot be reached: it did not answer in time"
    )  # Redis, to the frozen one
    for daemon in system.both:
        daemon.process.signal(signal.SIGSTOP)
    system.check("frozen", SERVER + LATER[1:], CALLBRIDGE + LATER)
    for daemon in system.both:
        daemon.process.signal(signal.SIGCONT)
    system.nothing_was_done()
    for daemon in reversed(system.both):
        daemon.process.stop()
    system.check("down", SERVER, CALLBRIDGE)
    system.check("down", LATER[1:], LATER[1:])
    system.check("down", [], LATER[:1])
