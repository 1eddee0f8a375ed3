"""Guests for real: POST /join, a log-in over TCP and over WebSocket, a meeting, a reload."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from typing import Any

import pytest
from attrs import define
from websockets import Subprotocol
from websockets.sync.client import ClientConnection, connect

from peers.api import Administration
from peers.clients import Driver, slixmpp_guest
from peers.contract import DOMAIN
from peers.daemons import Callbridge, Daemon
from peers.network import free_port, wait_until
from peers.scrape import Figures
from peers.test_room_crowd import HEADER, MANY, SECONDS, Guest
from peers.test_rooms import CODE, TEAM, House, house
from peers.tools import script

__all__ = ["house"]
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
MUC = "http://jabber.org/protocol/muc"
FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"


@define
class Door:
    """A pair with a space, a moderator and a web listener."""

    house: House
    port: int
    call_id: str
    secret: str

    def post(self, **body: str) -> tuple[int, dict[str, Any]]:
        """POST /join: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/join", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def admitted(self, **body: str) -> dict[str, Any]:
        """It says yes."""
        given = body or {"callId": self.call_id, "passcode": CODE, "name": "Guest"}
        status, told = self.post(**given)
        assert status == 200, told
        return told

    def client(self, guest: dict[str, Any]) -> Driver:
        """slixmpp, logged in with a pass."""
        at = self.house
        driver = slixmpp_guest(
            *(at.processes, guest["jid"], guest["password"], at.server.client_port, at.trust)
        )
        driver.connected()
        return driver

    def inside(self, guest: dict[str, Any]) -> tuple[Driver, dict[str, Any]]:
        """The same in the room, and what it saw there."""
        driver = self.client(guest)
        driver.do("join", room=guest["space"], nick=guest["nick"])
        return driver, driver.expect("joined", 30.0)

    def joins(self, result: str) -> int:
        """What the Callbridge counts."""
        return int(Figures(self.house.callbridge)("cms_callbridge_guests_total", result=result))


@pytest.fixture
def door(house: House) -> Door:
    """Running, with a web listener for a proxy."""
    house.server.process.stop()
    _, port = house.server.listen_web()
    house.server.start()
    space = house.callbridge.space("show", "team")
    house.callbridge.wait_active(2)
    house.server.process.wait_for("decides log-ins", 10.0)
    return Door(house, port, space["callId"], space["secret"])


class Scram:
    """SCRAM-SHA-256 by hand (RFC 5802)."""

    def __init__(self, jid: str, password: str) -> None:
        nonce = base64.b64encode(os.urandom(12)).decode()
        self.bare = f"n={jid.partition('@')[0]},r={nonce}"
        self._password = password

    def final(self, first: str) -> bytes:
        """The answer to the server's first message."""
        values = dict(item.split("=", 1) for item in first.split(","))
        final = f"c=biws,r={values['r']}"
        salted = hashlib.pbkdf2_hmac(
            *("sha256", self._password.encode(), base64.b64decode(values["s"])), int(values["i"])
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        signed = f"{self.bare},{first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{final},p={base64.b64encode(proof).decode()}".encode()


class Browser:
    """A page's stream over WebSocket: SASL2, Bind 2 and management in one."""

    def __init__(self, door: Door, guest: dict[str, Any], more: str = "") -> None:
        url = f"ws://127.0.0.1:{door.port}/xmpp-websocket"
        opened = connect(url, subprotocols=[Subprotocol("xmpp")])
        self._socket: ClientConnection = ExitStack().enter_context(opened)
        jid, password = guest["jid"], guest["password"]
        self.say(f"<open xmlns='{FRAMING}' to='{DOMAIN}' from='{jid}' version='1.0'/>")
        assert "SCRAM-SHA-256" in self.until("<stream:features")
        scram = Scram(jid, password)
        bind = "<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>"
        self.say(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-256'><initial-response>"
            f"{base64.b64encode(f'n,,{scram.bare}'.encode()).decode()}</initial-response>"
            f"{more}{bind}</authenticate>"
        )
        challenge = self.until("<challenge")
        first = base64.b64decode(re.sub("<[^>]*>", "", challenge)).decode()
        response = base64.b64encode(scram.final(first)).decode()
        self.say(f"<response xmlns='urn:xmpp:sasl:2'>{response}</response>")
        self.success = self.until("<success")

    def say(self, text: str) -> None:
        """One element."""
        self._socket.send(text)

    def until(self, *words: str) -> str:
        """The next element that holds these words."""
        while True:
            text = str(self._socket.recv(timeout=30))
            if all(word in text for word in words):
                return text
            assert "<failure" not in text, text

    @property
    def jid(self) -> str:
        """Its full address."""
        found = re.search("<authorization-identifier>([^<]*)", self.success)
        assert found is not None, self.success
        return found[1]

    @property
    def previd(self) -> str:
        """That of its session."""
        found = re.search("<enabled [^>]*id='([^']*)'", self.success)
        assert found is not None, self.success
        return found[1]

    def join(self, guest: dict[str, Any]) -> str:
        """Enter; its own presence."""
        self.say(
            f"<presence xmlns='jabber:client' to='{guest['space']}/{guest['nick']}'>"
            f"<x xmlns='{MUC}'/></presence>"
        )
        return self.until("<presence", "code='110'")

    def cut(self) -> None:
        """Its network is gone."""
        self._socket.socket.close()


def hears(driver: Driver, body: str) -> None:
    """What was said reaches somebody, also who said it."""
    while driver.expect("said")["body"] != body:
        pass


def occupant_id(presence: str) -> str:
    """XEP-0421."""
    found = re.search("occupant-id [^>]*id='([^']*)'", presence)
    assert found is not None, presence
    return found[1]


def test_a_guest(door: Door) -> None:
    """By call ID: in, talks both ways; comes back while the old session lives: one occupant."""
    alice = door.house.inside("alice")
    guest = door.admitted()
    assert guest["space"] == TEAM
    first, joined = door.inside(guest)
    assert joined["here"] == ["Guest", "alice"]
    first.do("say", room=TEAM, body="hello")
    hears(alice, "hello")
    alice.do("say", room=TEAM, body="welcome")
    hears(first, "welcome")
    other = door.admitted(secret=door.secret, name="guest")
    assert other["nick"] == "guest 2"

    again = door.admitted(reentry=guest["reentry"])
    assert (again["jid"], again["nick"]) == (guest["jid"], "Guest")
    assert again["password"] != guest["password"]
    second, joined = door.inside(again)
    assert joined["here"] == ["Guest", "alice"]
    second.do("say", room=TEAM, body="back")
    hears(alice, "back")
    wait_until(lambda: door.house.occupants() == 2, 30.0, "that there is no second occupant")
    assert door.post(reentry=guest["reentry"]) == (
        403,
        {"reason": "reentry-over", "text": "the way back into this meeting has ended"},
    )
    alice.do("kick", room=TEAM, nick="Guest")
    assert alice.expect("result")["type"] == "result"
    assert door.post(reentry=again["reentry"])[0] == 403


def test_over_websocket(door: Door) -> None:
    """As a page does: one round trip to log in, a cut that is resumed, a reload."""
    alice = door.house.inside("alice")
    guest = door.admitted(secret=door.secret, name="Zoé")
    page = Browser(door, guest)
    identifier = occupant_id(page.join(guest))
    alice.do("say", room=TEAM, body="one")
    page.until("one", "groupchat")
    page.cut()
    alice.do("say", room=TEAM, body="two")

    back = door.admitted(reentry=guest["reentry"])  # a pass is for one log-in
    resume = f"<resume xmlns='urn:xmpp:sm:3' h='0' previd='{page.previd}'/>"
    resumed = Browser(door, back, resume)
    assert "<resumed" in resumed.success, resumed.success
    resumed.until("two", "groupchat")
    assert door.house.occupants() == 2

    reload = door.admitted(reentry=back["reentry"])
    second = Browser(door, reload)
    assert second.jid != resumed.jid
    assert occupant_id(second.join(reload)) == identifier
    wait_until(lambda: door.house.occupants() == 2, 30.0, "that there is no second occupant")
    second.say(
        f"<presence xmlns='jabber:client' to='{TEAM}/Zoé'>"
        "<state xmlns='urn:x-cms:meeting:1' hand='true'/></presence>"
    )
    assert "hand='true'" in second.until("urn:x-cms:meeting:1")


def test_refused(door: Door) -> None:
    """One answer for whatever is wrong; members come in as ever; then one is slowed, or not."""
    wrong = door.post(callId=door.call_id, passcode="11111111", name="Eve")
    unknown = door.post(callId="987654321", passcode=CODE, name="Eve")
    link = door.post(secret="x" * 22, name="Eve")
    door.house.callbridge.space("set", "team", "--members-only")
    closed = door.post(callId=door.call_id, passcode=CODE, name="Eve")
    assert wrong == unknown == link == closed
    assert (wrong[0], wrong[1]["reason"]) == (403, "join-refused")
    door.house.callbridge.space("set", "team", "--open")
    answers = [door.post(callId=door.call_id, passcode="22222222", name="Eve") for _ in range(25)]
    assert answers[-1][0] == 429, answers[-1]
    assert 0 < answers[-1][1]["seconds"] <= 180
    assert door.post(callId=door.call_id, passcode=CODE, name="Bob")[0] == 429
    door.admitted(secret=door.secret, name="Bob")
    door.house.inside("bob")
    assert door.joins("passcode") >= 2
    assert door.joins("slowed") >= 2
    assert (door.joins("unknown"), door.joins("link"), door.joins("closed")) == (1, 1, 1)
    for daemon in (door.house.server, door.house.callbridge):
        for secret in (CODE, door.secret, "22222222"):
            assert secret not in daemon.process.output


def failures(daemon: Daemon) -> list[dict[str, Any]]:
    """Of guests, as the signal flow has them, the newest first."""
    told = Administration(daemon.directory / "state").get("system/signalflow?kind=login")
    failed = [attempt.get("failure") for attempt in told["signalFlow"]["attempt"]]
    return [failure for failure in failed if failure and failure["step"] == 12]


def test_what_operators_see(door: Door) -> None:
    """Each fault for real, with its cause and cure, in the signal flow of both; C{cms flow}."""
    guest = door.admitted()
    server, callbridge = door.house.server, door.house.callbridge
    callbridge.space("set", "team", "--members-only")
    for body, here, there in (
        ({"callId": "987654321"}, "no space has the call ID", "join-refused"),
        ({"callId": door.call_id, "passcode": CODE}, "closed to guests", "join-refused"),
        ({"secret": "x" * 22}, "no space has the link", "join-refused"),
        ({"reentry": guest["reentry"]}, "could not come back", "reentry-over"),
    ):
        named = body if "reentry" in body else {**body, "name": "Eve"}
        assert door.post(**named)[0] == 403
        told, seen = failures(callbridge)[0], failures(server)[0]
        assert here in told["cause"], told
        assert told["cure"], told
        assert (told["fault"], seen["fault"]) == (there, there)
        assert "passcode is wrong" in seen["cause"] or there == "reentry-over", seen
    callbridge.space("set", "team", "--open")
    for _ in range(101):  # somebody has come in from here: so many are looked at
        door.post(callId=door.call_id, passcode="33333333", name="Eve")
    assert failures(callbridge)[0]["fault"] == failures(server)[0]["fault"] == "join-slowed"
    assert "by the link" in failures(callbridge)[0]["cure"]
    callbridge.process.signal(signal.SIGSTOP)
    status, told = door.post(secret=door.secret, name="Eve")
    callbridge.process.signal(signal.SIGCONT)
    assert (status, told["reason"]) == (503, "join-undecided")
    assert "did not answer within 5 s" in failures(server)[0]["cause"]
    door.admitted(secret=door.secret, name="Zoe")
    for daemon in (server, callbridge):
        shown = subprocess.run(
            [*script("cms"), "flow", "--last", "40", "--config", str(daemon.file)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for words in ("guest from 127.0.0.1", "FAILED: join-slowed", "admitted"):
            assert words in shown, shown
        assert CODE not in shown


def test_callbridge_killed(door: Door) -> None:
    """Step 1 is told while it is gone; when it is back guests come in, and join anew."""
    guest = door.admitted()
    door.inside(guest)
    callbridge: Callbridge = door.house.callbridge
    callbridge.process.signal(signal.SIGKILL)
    wait_until(lambda: door.post(secret=door.secret, name="B")[0] == 503, 30.0, "that it is gone")
    status, told = door.post(callId=door.call_id, passcode=CODE, name="Eve")
    assert (status, told["reason"], told["step"]) == (503, "link-before-login", 1)
    callbridge.start()
    wait_until(lambda: door.post(secret=door.secret, name="B")[0] == 200, 30.0, "that it is back")
    assert door.post(reentry=guest["reentry"])[1]["reason"] == "reentry-over"
    _, joined = door.inside(door.admitted())
    assert "Guest" in joined["here"]


class Newcomer(Guest):
    """Somebody who is admitted, logs in with SCRAM without TLS, and enters."""

    def __init__(self, number: int, door: Door) -> None:
        super().__init__(f"Guest {number}")
        self._door = door

    async def come(self, port: int) -> None:
        """As a page does, one thing after the other."""
        told = await self._ask()
        self.nick = told["nick"]
        self.join = f"<presence to='{TEAM}/{self.nick}'><x xmlns='{MUC}'/></presence>"
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        await self.say(HEADER, b"</stream:features>")
        scram = Scram(told["jid"], told["password"])
        first = base64.b64encode(f"n,,{scram.bare}".encode()).decode()
        auth = f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{first}</auth>"
        challenge = re.sub(rb"<[^>]*>", b"", await self.say(auth, b"</challenge>"))
        response = base64.b64encode(scram.final(base64.b64decode(challenge).decode())).decode()
        await self.say(f"<response xmlns='{SASL}'>{response}</response>", b"</success>")
        await self.say(HEADER, b"</stream:features>")
        await self.say(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", b"</iq>"
        )

    async def _ask(self) -> dict[str, Any]:
        door = self._door
        body = json.dumps({"callId": door.call_id, "passcode": CODE, "name": self.nick})
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        head = (
            "POST /join HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        answer = (await reader.read()).decode()
        writer.close()
        told: dict[str, Any] = json.loads(answer.partition("\r\n\r\n")[2])
        assert " 200 " in answer.split("\r\n", 1)[0], answer
        return told


def test_500_guests(door: Door) -> None:
    """They are admitted, log in and enter one space; each sees all."""
    port = free_port()
    server = door.house.server
    server.process.stop()
    server.settings["listen"]["client_plain"] = [f"tcp:{port}:interface=127.0.0.1"]
    server.start()
    server.process.wait_for("decides log-ins", 20.0)

    async def crowd() -> tuple[float, float]:
        guests = [Newcomer(number, door) for number in range(MANY)]
        began = time.monotonic()
        async with asyncio.timeout(2 * SECONDS):
            for start in range(0, MANY, 50):
                await asyncio.gather(*(guest.come(port) for guest in guests[start : start + 50]))
            logged_in = time.monotonic()
            await asyncio.gather(*(guest.enter() for guest in guests))
        ended = time.monotonic()
        assert len({guest.nick for guest in guests}) == MANY
        assert door.house.occupants() == MANY
        for guest in guests:
            guest.close()
        return logged_in - began, ended - logged_in

    came, entered = asyncio.run(crowd())
    print(
        f"{MANY} guests: admitted and logged in after {came:.1f} s, all seen {entered:.1f} s later"
    )
    assert door.joins("admitted") == MANY
