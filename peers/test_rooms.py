"""Rooms for real: slixmpp's plug-in for XEP-0045 through both daemons."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from attrs import frozen

from peers.certs import Certificates
from peers.clients import Driver, slixmpp_guest
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.network import wait_until
from peers.processes import Processes
from peers.scrape import Figures

PASSWORD, CODE = "password", "471147114711"
TEAM = f"team@cb1.{DOMAIN}"
USERS = ("alice", "bob", "eve", "mallory")


@frozen
class House:
    """Both daemons with a space that Alice moderates and Bob is a member of."""

    processes: Processes
    server: XmppServer
    callbridge: Callbridge
    trust: Any

    def client(self, user: str) -> Driver:
        """One that is logged in."""
        jid = f"{user}@{DOMAIN}"
        client = slixmpp_guest(
            *(self.processes, jid, PASSWORD, self.server.client_port, self.trust),
        )
        client.connected()
        return client

    def inside(self, user: str, **more: Any) -> Driver:
        """One that is in the room, too."""
        client = self.client(user)
        client.do("join", room=TEAM, nick=user, **more)
        client.expect("joined", 30.0)
        return client

    def occupants(self) -> int:
        """How many the Callbridge counts."""
        return int(Figures(self.callbridge)("cms_callbridge_room_occupants"))


@pytest.fixture
def house(processes: Processes, certificates: Certificates) -> House:
    """Started."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.start()
    callbridge = server.callbridge()
    for user in USERS:
        callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    callbridge.space("add", "Team", "--uri", "team", "--passcode-stdin", text=CODE)
    callbridge.space("member", "set", "team", "alice", "--may", "canAddRemoveMember")
    callbridge.space("member", "set", "team", "bob")
    callbridge.start()
    return House(processes, server, callbridge, certificates.trust)


def test_a_meeting(house: House) -> None:
    """Join, talk, subject, nickname, whisper, kick, ban, leave; wrong passcode and right."""
    alice = house.inside("alice")
    bob = house.inside("bob")
    alice.do("say", room=TEAM, body="hello")
    assert bob.expect("said")["body"] == "hello"
    alice.do("subject", room=TEAM, subject="Plans")
    assert bob.expect("subject")["subject"] == "Plans"
    eve = house.client("eve")
    for given in ({}, {"password": "000000000000"}):
        eve.do("join", room=TEAM, nick="eve", **given)
        assert eve.expect("not-joined", 30.0)["condition"] == "not-authorized"
    eve.do("join", room=TEAM, nick="bob", password=CODE)
    assert eve.expect("not-joined", 30.0)["condition"] == "conflict"
    eve.do("join", room=TEAM, nick="eve", password=CODE)
    joined = eve.expect("joined", 30.0)
    assert (joined["here"], joined["subject"]) == (["alice", "bob", "eve"], "Plans")
    assert joined["history"] == ["hello"]
    bob.do("nick", room=TEAM, nick="robert")
    bob.expect("renamed", 30.0)
    bob.do("whisper", to=f"{TEAM}/eve", body="psst")
    heard = eve.expect("message")
    assert (heard["sender"], heard["body"]) == (f"{TEAM}/robert", "psst")
    eve.do("kick", room=TEAM, nick="robert")
    assert eve.expect("result")["condition"] == "forbidden"
    alice.do("kick", room=TEAM, nick="eve")
    assert alice.expect("result")["type"] == "result"
    while "307" not in map(str, eve.expect("seen", 30.0)["codes"]):
        pass
    eve.do("join", room=TEAM, nick="eve", password=CODE)
    eve.expect("joined", 30.0)
    alice.do("ban", room=TEAM, jid=f"eve@{DOMAIN}")
    assert alice.expect("result")["type"] == "result"
    while "301" not in map(str, eve.expect("seen", 30.0)["codes"]):
        pass
    eve.do("join", room=TEAM, nick="eve", password=CODE)
    assert eve.expect("not-joined", 30.0)["condition"] == "forbidden"
    house.callbridge.space("set", "team", "--members-only")
    mallory = house.client("mallory")
    mallory.do("join", room=TEAM, nick="mallory", password=CODE)
    assert mallory.expect("not-joined", 30.0)["condition"] == "registration-required"
    bob.do("leave", room=TEAM, nick="robert")
    while (seen := alice.expect("seen"))["sender"] != f"{TEAM}/robert" or (
        seen["type"] != "unavailable"
    ):
        pass
    assert house.occupants() == 1
    log = house.callbridge.process.output
    assert CODE not in log
    assert f'participant "eve@{DOMAIN}' in log


def test_nobody_stays(house: House) -> None:
    """A connection that is lost, a session that an operator ends, a server that is killed."""
    alice = house.inside("alice")
    bob = house.inside("bob")
    bob.do("abort")
    while (seen := alice.expect("seen", 30.0))["type"] != "unavailable":
        pass
    assert seen["sender"] == f"{TEAM}/bob"
    wait_until(lambda: house.occupants() == 1, 10.0, "Bob's end")
    house.server.process.kill()
    house.server.start()
    house.callbridge.wait_active(times=2)
    wait_until(lambda: house.occupants() == 0, 30.0, "the end of all")
    alice.connected()
    alice.do("join", room=TEAM, nick="alice")
    assert alice.expect("joined", 30.0)["here"] == ["alice"]


def test_link_comes_back(house: House) -> None:
    """The link is cut: who is still logged in is still in the room when it is back."""
    alice, bob = house.inside("alice"), house.inside("bob")
    before = house.callbridge.process.output.count("link")
    assert before
    house.callbridge.process.signal(signal.SIGSTOP)  # the server finds it silent
    wait_until(lambda: "is gone" in house.server.process.output, 40.0, "the server's patience")
    house.callbridge.process.signal(signal.SIGCONT)
    house.callbridge.wait_active(times=2, seconds=40.0)
    alice.do("say", room=TEAM, body="still here")
    assert bob.expect("said", 30.0)["body"] == "still here"
    time.sleep(11.0)  # in which sessions whose notices did not come would have gone
    assert house.occupants() == 2


def test_stop(house: House) -> None:
    """A Callbridge that is stopped says so to everybody (332)."""
    alice = house.inside("alice")
    house.callbridge.process.stop()
    while "332" not in map(str, (seen := alice.expect("seen", 30.0))["codes"]):
        pass
    assert seen["type"] == "unavailable"


def test_killed_after_a_change(house: House) -> None:
    """What was answered is on the disk: a space, a member and a ban outlive SIGKILL."""
    house.callbridge.space("add", "Later", "--uri", "later", "--passcode-stdin", text=CODE)
    house.callbridge.process.kill()
    found = house.callbridge.space("show", "later")
    assert (found["name"], found["passcode"]) == ("Later", CODE)
    house.callbridge.start()
    made = house.callbridge.space("member", "set", "later", "eve")
    house.callbridge.process.kill()
    (member,) = house.callbridge.space("show", "later")["coSpaceUsers"]
    assert member["id"] == made["id"]
