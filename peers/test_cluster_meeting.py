"""
A meeting over two servers: guests in browsers, slixmpp and profanity in one room, and one server
is killed.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from peers.browser import Browser, browsing
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_guest
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.haproxy import HAProxy
from peers.network import wait_until
from peers.processes import Processes
from peers.realclients import Account, Profanity
from peers.redis import Redis
from peers.terminal import Terminals
from peers.test_cluster import PASSWORD, TEAM, House

CODE = "471147114711"
BACK_SECONDS = 40.0  # for everybody to be in the room again
USED = "check inter 200ms fall 1 rise 2"


class Meeting:
    """Two servers with the Callbridge at the first, and a room; a proxy prefers the second."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        engine = Redis(processes)
        engine.start()
        self.house = house = House(processes, certificates, engine)
        self.web: list[tuple[int, int]] = []
        for server in house.servers:
            self.web.append(server.listen_web())
        house.callbridge.space("add", "Team", "--uri", "team", "--passcode-stdin", text=CODE)
        for user in ("alice", "bob"):
            house.callbridge.space("member", "set", "team", user)
        self.call_id = house.callbridge.space("show", "team")["callId"]
        house.start()
        self.one, self.two = house.servers
        self.one.process.wait_for("decides log-ins", 20)
        wait_until(lambda: self.admit(1)[0] == 200, 20, "the second server to know the Callbridge")

    def admit(self, server: int, **body: str) -> tuple[int, dict[str, Any]]:
        """POST /join at a server: status and body."""
        given = body or {"callId": self.call_id, "passcode": CODE, "name": "Guest"}
        connection = http.client.HTTPConnection("127.0.0.1", self.web[server][1], timeout=30)
        connection.request("POST", "/join", json.dumps(given), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def client(self, jid: str, server: XmppServer, password: str = PASSWORD) -> Driver:
        """slixmpp, connected."""
        trust = self.house.certificates.trust
        driver = slixmpp_guest(self.processes, jid, password, server.client_port, trust)
        driver.connected()
        return driver


@pytest.fixture
def meeting(processes: Processes, certificates: Certificates) -> Meeting:
    """One."""
    return Meeting(processes, certificates)


def joined(client: Driver, nick: str) -> list[str]:
    """Go into the room; who is there."""
    client.do("join", room=TEAM, nick=nick)
    here: list[str] = client.expect("joined", 30.0)["here"]
    return here


def test_passes(meeting: Meeting) -> None:
    """
    A guest who was admitted at one server logs in at the other with his pass, whichever has the
    Callbridge; and comes back by the other with what he was given for that.
    """
    for admitted, used in ((0, 1), (1, 0)):
        status, guest = meeting.admit(admitted)
        assert status == 200, guest
        client = meeting.client(guest["jid"], meeting.house.servers[used], guest["password"])
        assert guest["nick"] in joined(client, guest["nick"])
        status, again = meeting.admit(used, reentry=guest["reentry"])
        assert (status, again["jid"]) == (200, guest["jid"])
        client.disconnect()
        client = meeting.client(again["jid"], meeting.house.servers[admitted], again["password"])
        assert again["nick"] in joined(client, again["nick"])
        client.disconnect()
    status, told = meeting.admit(1, callId=meeting.call_id, passcode="1111", name="Eve")
    assert (status, told["reason"]) == (403, "join-refused")


class Page:
    """A guest in a browser."""

    def __init__(self, browser: Browser, port: int, call_id: str, name: str) -> None:
        self.browser = browser
        browser.driver.get(f"https://localhost:{port}/meeting/{call_id}")
        browser.find("form")
        browser.fill("#passcode", CODE)
        browser.fill("#name", name)
        browser.press(Keys.ENTER)
        browser.find(".room")

    def people(self) -> list[str]:
        """Who is in the room, by the page."""
        script = "return [...document.querySelectorAll('.rows bdi')].map(e => e.textContent)"
        return sorted(self.browser.run(script))

    def wait_people(self, names: list[str], seconds: float) -> None:
        """Until these are in it, and nobody else."""
        try:
            wait_until(lambda: self.people() == names, seconds, f"{names}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; there are {self.people()}") from None

    def say(self, text: str) -> None:
        """In the chat."""
        self.browser.fill("#text", text)
        self.browser.press(Keys.ENTER)

    def has(self, text: str) -> bool:
        """Whether it shows a message."""
        script = "return [...document.querySelectorAll('.said')].map(e => e.textContent)"
        return any(text in said for said in self.browser.run(script))


@pytest.fixture
def browsers(tmp_path: Path) -> Iterator[list[Browser]]:
    """Two."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with browsing(tmp_path / "first") as first, browsing(tmp_path / "second") as second:
        yield [first, second]


def test_everybody_comes_back(
    meeting: Meeting, processes: Processes, browsers: list[Browser]
) -> None:
    """
    A page and profanity come by a proxy to the second server, a page and slixmpp are at the first.
    The second is killed: all are in the room again, and hear each other.
    """
    proxy = HAProxy(processes)
    spare = f"server spare 127.0.0.1:{meeting.web[0][0]} backup {USED}\n    option redispatch"
    web = proxy.before(meeting.web[1][0], USED, more=spare)
    spare = f"server spare 127.0.0.1:{meeting.one.client_port} backup {USED}\n    option redispatch"
    port = proxy.before(meeting.two.client_port, USED, more=spare)
    proxy.start()
    alice = meeting.client(f"alice@{DOMAIN}", meeting.one)
    joined(alice, "alice")
    made = meeting.house.certificates
    pair = made.issue(DOMAIN, "localhost")
    account = Account(f"bob@{DOMAIN}", PASSWORD, "127.0.0.1", port, made.trust, pair)
    terminals = Terminals(processes)
    bob = Profanity(processes, terminals, account, connection="reconnect=1\n")
    bob.start()
    meeting.two.process.wait_for("bob@", 20)
    bob.enter(TEAM, "bob")
    moved = Page(browsers[0], web, meeting.call_id, "Moved")
    stays = Page(browsers[1], meeting.web[0][0], meeting.call_id, "Anna")
    names = ["Anna", "Moved", "alice", "bob"]
    for page in (moved, stays):
        page.wait_people(names, 20)
    assert meeting.two.process.output.count("logged in") >= 2
    moved.say("before")
    stays.say("before, too")
    for page, text in ((stays, "before"), (moved, "before, too")):
        wait_until(lambda: page.has(text), 10, text)  # noqa: B023

    meeting.two.process.signal(signal.SIGKILL)
    killed = time.monotonic()
    meeting.one.process.wait_for(f"node {meeting.two.hostname} is gone", 15)
    for page in (moved, stays):
        page.wait_people(names, BACK_SECONDS)
    print(f"\nall are in the room again after {time.monotonic() - killed:.1f} s")
    moved.say("after the kill")
    for heard in (
        lambda: stays.has("after the kill"),
        lambda: "after the kill" in alice.process.output,
        lambda: "after the kill" in bob.terminal.screen,
    ):
        wait_until(heard, 15, "what the page says")
    alice.do("say", room=TEAM, body="by alice")
    wait_until(lambda: moved.has("by alice"), 15, "what slixmpp says")
    bob.command("by bob")
    wait_until(lambda: moved.has("by bob"), 15, "what profanity says")
