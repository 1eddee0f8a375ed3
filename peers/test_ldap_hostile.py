"""
LDAP servers that mean no good or are broken, all at once beside one that is right: its users log
in, nobody of the others is deleted, and each fault is told with what helps against it.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from cms import faults
from peers.api import Administration
from peers.certs import Certificates
from peers.clients import Driver
from peers.contract import DOMAIN, ROOT
from peers.daemons import Callbridge, XmppServer, daemon_environment, toml_text
from peers.drivers import hostile_ldap as hostile
from peers.network import free_port, listens, wait_until
from peers.processes import Processes, children
from peers.tools import script
from peers.wire import WireClient

READER, READER_PASSWORD = f"cn=reader,{hostile.BASE.decode()}", "reads-everything-here"
PASSWORD = "corr3ct-horse"
USERS = 10  # of each directory
MOST_USERS = 500
MOST_MEMORY = 64 << 20  # bytes more, whatever all of them send
RIGHT = "right"


@frozen
class Row:
    """
    What is to become of a directory.

    @ivar fault: Of its sync; empty: it succeeds.
    @ivar words: Within its cause.
    @ivar helps: Within its cure.
    @ivar users: How many there are then.
    @ivar left_out: And how many entries are left out.
    @ivar comes_in: Whether its users log in meanwhile.
    """

    fault: str = ""
    words: str = ""
    helps: str = ""
    users: int = USERS
    left_out: int = 0
    comes_in: bool = False


def away(words: str) -> Row:
    """No server can be used."""
    return Row(faults.LDAP_UNREACHABLE.name, words, "what is wrong with one that answers, its own")


def broken(words: str, helps: str = "the server itself is broken", **more: bool) -> Row:
    """It breaks off in the sync."""
    return Row(faults.SYNC_BROKEN.name, words, helps, **more)


FINE = Row(comes_in=True)
LEFT_OUT = Row(left_out=1, comes_in=True)
REFERRAL = Row(faults.LDAP_REFERRAL.name, "it is not followed", "the whole tree below base")
UNREAD = "it is no LDAP that can be read: "
ROWS = {
    # As soon as somebody connects.
    "silent": away("did not answer within"),
    "reset": away("ldap://127.0.0.1:{port}: "),  # while it connects, or after that
    "early": away("it answers with BindResponse (STARTTLS)"),
    # Asked for STARTTLS.
    "no-starttls": Row(
        *(faults.LDAP_NO_STARTTLS.name, "does not do STARTTLS: protocolError (2): no TLS"),
        "Give that server a certificate and key",
    ),
    "no-tls": away("did not answer within"),
    "starttls-id": away("it answers what was not asked (STARTTLS)"),
    "bound-early": broken("it answers what was not asked (search)"),
    "injected": away("it answers what was not asked (TLS handshake)"),
    "injected-half": FINE,
    # Asked to bind.
    "bind-tag": away("it answers with SearchResultDone (bind)"),
    "bind-id": away("it answers what was not asked (bind)"),
    "bind-empty": away(f"{UNREAD}an element is cut (bind)"),
    "bind-code": away(f"{UNREAD}a result has no code that LDAP knows (bind)"),
    "bind-drip": away("did not answer within"),
    "bind-goes-on": away("it says saslBindInProgress (14) (bind)"),
    "bind-referral": REFERRAL,
    "user-referral": Row(),
    # Asked to search.
    "drip": broken("did not answer within 2 s (search)", "See what keeps that server"),
    "giant": broken(f"{UNREAD}an entry is longer than 67108864 bytes (search)"),
    "indefinite": broken(f"{UNREAD}a length is of no form that LDAP has (search)"),
    "nested": broken(f"{UNREAD}something else comes where a message begins (search)"),
    "nested-filter": broken(UNREAD),
    "long-tag": broken(f"{UNREAD}there are more than 1024 bytes beside what was asked for"),
    "long-number": broken(f"{UNREAD}there are more than 1024 bytes beside what was asked for"),
    "other-id": broken("it answers what was not asked (search)"),
    "no-id": broken("it answers what was not asked (search)"),
    "goodbye": broken(
        "after 10 entries: ldap://127.0.0.1:{port}: it ends the connection, and says"
        " unavailable (52): down  [31m (search)",
        comes_in=True,
    ),
    "referral": REFERRAL,
    "references": FINE,
    "many-references": broken("it sends more than 1000 references (search)"),
    "empty-pages": broken(
        "it gives more than 100 pages without an entry, and no last one", comes_in=True
    ),
    "pages": Row(
        *(faults.SYNC_TOO_MANY.name, f"has more than {MOST_USERS} users", "Narrow base or filter"),
        comes_in=True,
    ),
    "entries": broken("it sends more entries than 100 (search)"),
    "intermediate": broken("it answers with an operation that nobody asked for (search)"),
    "unasked": Row(users=USERS + 1, comes_in=True),
    "told-twice": FINE,
    "two-entries": Row(users=USERS - 1, left_out=2, comes_in=True),  # of the first user
    "long-dn": LEFT_OUT,
    "large": LEFT_OUT,
    "octets": LEFT_OUT,
    "octets-dn": broken("it sends text that is not in UTF-8 (search)"),
    "nul": LEFT_OUT,
    "cut": broken("the connection was lost"),
    "stray": FINE,
    "nobody": Row(
        *(faults.SYNC_EMPTY.name, f"found no user, and {USERS} are known", "--allow-removal"),
        comes_in=True,
    ),
    "few": Row(
        *(faults.SYNC_REMOVES.name, f"would shut out 5 of {USERS} users", "--allow-removal"),
        comes_in=True,
    ),
    "ranges": LEFT_OUT,
}
SLOW = ("silent", "no-tls", "drip", "bind-drip")
# What the log says as an error; all else would be unexpected.
SAID = (
    "The sync of ",
    "No server of the directory ",
    "does not do STARTTLS",
    "it is not followed",
    f"has more than {MOST_USERS} users",
)


class Siege:
    """
    A pair of daemons with a directory that is right, one of each kind, and what becomes of them.

    @ivar good: The facts of the first syncs, by directory.
    @ivar bad: Of those of bad servers.
    @ivar again: Of those when all are good again.
    @ivar came_in: Whether a user of each did while it was bad.
    @ivar right: Whether those of the right one did, and after how many seconds.
    @ivar checked: What C{cms check} said of all but those that make it wait.
    """

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        pair = certificates.issue(DOMAIN, "localhost", self.server.hostname)
        self.server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
        self.callbridge = Callbridge(
            *(processes, certificates, "s3cret"),
            server_address=f"localhost:{self.server.component_port}",
        )
        self._processes = processes
        self.api = Administration(self.callbridge.directory / "state")
        self._trust = certificates.trust
        # A name that nobody has stored is asked of those before the right one as well.
        kinds = [*dict.fromkeys(("drip", "silent", RIGHT, *ROWS))]
        self.ports = {kind: free_port() for kind in kinds}
        settings = [self._directory(kind) for kind in kinds]
        self.callbridge.settings["directory"] = settings
        self._trap, pair = free_port(), certificates.issue("127.0.0.1")
        self._ldap = Driver(
            *(processes, "hostile-ldap"),
            [sys.executable, "-u", str(ROOT / "peers" / "drivers" / "hostile_ldap.py")],
            {
                "certificate": str(pair.certificate),
                "key": str(pair.key),
                "reader": READER,
                "reader_password": READER_PASSWORD,
                "password": PASSWORD,
                "trap": self._trap,
                "servers": [(port, kind, _users(kind)) for kind, port in self.ports.items()],
            },
        )
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", 10.0)

    def _directory(self, kind: str) -> dict[str, object]:
        return {
            "kind": "ldap",
            "name": kind,
            "servers": [f"ldap://127.0.0.1:{self.ports[kind]}"],
            "trust": str(self._trust),
            "bind_name": READER,
            "bind_password": READER_PASSWORD,
            "base": hostile.BASE.decode(),
            "jidMapping": f"$uid$@{DOMAIN}",
            "timeout": 1,
            "sync_timeout": 2,
            "sync_interval": 0,
            "most_users": MOST_USERS,
            "groups_base": hostile.BASE.decode() if kind == "ranges" else "",
        }

    def run(self) -> None:
        """Good, bad, and good again."""
        self.good = self._sync()
        assert self._log_in(f"{RIGHT}.1")
        self.most_before = self._most_memory()
        self._turn("bad")
        until = threading.Event()
        with ThreadPoolExecutor(9) as threads:
            right = threads.submit(self._log_in_again_and_again, until)
            try:
                self.bad = self._sync()
                self.stored = self._stored()
                ways = threads.map(lambda kind: self._log_in(f"{kind}.1"), ROWS)
                self.came_in = dict(zip(ROWS, ways, strict=True))
            finally:
                until.set()
        self.right = right.result()
        self.most_after = self._most_memory()
        self.checked = self._check()
        self._turn("good")
        wait_until(lambda: all(self._log_in(f"{kind}.2") for kind in ROWS), 20.0, "all to come in")
        self.again = self._sync()

    def _check(self) -> str:
        settings = {**self.callbridge.settings}
        settings["directory"] = [self._directory(kind) for kind in self.ports if kind not in SLOW]
        file = self.callbridge.directory / "check.toml"
        file.write_text(toml_text(settings))
        command = [*script("cms"), "check", "--config", str(file)]
        status, output = self._processes.run("check", command, env=daemon_environment())
        assert status == 1
        return output

    def _turn(self, into: str) -> None:
        self._ldap.do(into)
        self._ldap.expect("changed")

    def _sync(self) -> dict[str, dict[str, Any]]:
        """All at once."""
        names = {}
        for source in self.api.get("ldapSources")["ldapSources"]["ldapSource"]:
            form = {"ldapSource": source["id"], "allowRemoval": "false"}
            assert self.api.ask("POST", "/api/v1/ldapSyncs", **form)[0] == 200
            names[source["id"]] = source["name"]

        def newest() -> dict[str, dict[str, Any]]:
            facts: dict[str, dict[str, Any]] = {}
            for each in self.api.get("ldapSyncs?limit=100")["ldapSyncs"]["ldapSync"]:
                facts.setdefault(names[each["ldapSource"]], each)
            return facts

        def are_over() -> bool:
            return all(each["state"] != "inProgress" for each in newest().values())

        wait_until(are_over, 30.0, "the end of all syncs")
        return newest()

    def _stored(self) -> dict[str, int]:
        """How many users are stored of each."""
        file = self.callbridge.directory / "state" / "directories.sqlite3"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT directory, count(*) FROM users WHERE name NOT LIKE '%.new%' GROUP BY 1"
            )
            return dict(rows)

    def _most_memory(self) -> int:
        """Bytes that the Callbridge ever had."""
        status = Path(f"/proc/{self.callbridge.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def _log_in(self, user: str) -> bool:
        """Whether somebody comes in."""
        try:
            client = WireClient(self.server.client_port, self._trust, user, PASSWORD)
        except (AssertionError, StopIteration):
            return False
        client.close()
        return True

    def _log_in_again_and_again(self, until: threading.Event) -> list[tuple[str, bool, float]]:
        """Known ones and new ones of the right directory, in turn."""
        seen: list[tuple[str, bool, float]] = []
        for user in cycle(_users(RIGHT)):
            if until.wait(0.02):
                return seen
            began = time.monotonic()
            seen.append((user, self._log_in(user), round(time.monotonic() - began, 3)))
        raise AssertionError

    @property
    def trapped(self) -> int:
        """How many have followed a referral."""
        return self._ldap.process.output.count('"trapped"')

    def spring(self) -> None:
        """The trap works."""
        before = self.trapped
        assert listens(self._trap)
        wait_until(lambda: self.trapped == before + 1, 10.0, "the trap to tell")


def _users(kind: str) -> list[str]:
    """The known ones, and with the right one as many that no sync finds."""
    known = [f"{kind}.{number}" for number in range(USERS)]
    if kind != RIGHT:
        return known
    return [name for each in known for name in (each, each.replace(".", ".new"))]


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Siege]:
    """It is over."""
    with children(tmp_path_factory.mktemp("siege")) as processes:
        for text in SAID:
            processes.expect_error(text)
        made = Siege(processes, certificates)
        made.run()
        yield made


@pytest.mark.parametrize("kind", ROWS)
def test_told(siege: Siege, kind: str) -> None:
    """A sync fails with what helps, or finds who is there; and nobody who is there is deleted."""
    row, facts = ROWS[kind], siege.bad[kind]
    assert siege.stored[kind] == row.users
    if not row.fault:
        found = facts["state"], facts["numUsers"], facts["numLeftOut"]
        assert found == ("complete", row.users, row.left_out)
        return
    problem = facts["problem"]
    assert (facts["state"], problem["fault"]) == ("failed", row.fault)
    assert row.words.format(port=siege.ports[kind]) in problem["cause"]
    assert row.helps in problem["cure"]


@pytest.mark.parametrize("kind", ROWS)
def test_log_in(siege: Siege, kind: str) -> None:
    """Its users log in, or are told to try again; no password is called wrong."""
    assert siege.came_in[kind] == ROWS[kind].comes_in
    entries = siege.api.get(f"system/log?user={kind}.1")["log"]["entry"]
    assert {each["reason"] for each in entries} == ({""} if ROWS[kind].comes_in else {"directory"})


def test_right(siege: Siege) -> None:
    """The users of the right directory came in all the while, known ones and new ones."""
    late = [each for each in siege.right if not each[1]]
    assert not late
    assert {".new" in user for user, *_ in siege.right} == {True, False}
    assert siege.bad[RIGHT]["state"] == "complete"


def test_check(siege: Siege) -> None:
    """C{cms check} comes to its end, and says the same of each."""
    failed = [line for line in siege.checked.splitlines() if "FAILED" in line]
    for kind, row in ROWS.items():
        if row.fault not in (faults.LDAP_UNREACHABLE.name, faults.SYNC_BROKEN.name):
            continue
        words = row.words.format(port=siege.ports[kind]).removeprefix("after 10 entries: ")
        of_it = [line for line in failed if f":{siege.ports[kind]}" in line]
        assert kind in SLOW or any(words in line for line in of_it), (kind, of_it)
    assert "Traceback" not in siege.checked


def test_memory(siege: Siege) -> None:
    """Whatever they send, little of it is kept."""
    assert siege.most_after - siege.most_before < MOST_MEMORY


def test_referrals(siege: Siege) -> None:
    """Nobody is sent anywhere."""
    assert siege.trapped == 0
    siege.spring()


def test_over(siege: Siege) -> None:
    """When they are good again all is as before; nothing unexpected was logged, and no secret."""
    for facts in (siege.good, siege.again):
        assert [facts[kind] for kind in ROWS if facts[kind].get("numUsers") != USERS] == []
    log = siege.callbridge.process.output
    assert "nexpected" not in log
    assert "the user directory failed" not in log
    assert "Traceback" not in log
    for secret in (READER_PASSWORD, PASSWORD, "hidden"):
        assert secret not in log
