"""Carbons for real: slixmpp's plug-in for XEP-0280 through both daemons."""

from __future__ import annotations

from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import Driver, slixmpp_reader
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.processes import Processes

PASSWORD = "password"
PHONE, DESK, BOB = f"alice@{DOMAIN}/phone", f"alice@{DOMAIN}/desk", f"bob@{DOMAIN}/r"
JIDS = (PHONE, DESK, BOB)


@pytest.fixture
def people(processes: Processes, certificates: Certificates) -> list[Driver]:
    """Alice with two resources, and Bob, logged in."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.start()
    callbridge = server.callbridge()
    for user in ("alice", "bob"):
        callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    callbridge.start()
    drivers = []
    for jid in JIDS:
        driver = slixmpp_reader(processes, jid, PASSWORD, server.client_port, certificates.trust)
        assert driver.connected()["jid"] == jid
        drivers.append(driver)
    return drivers


def copy(driver: Driver, *directions: str) -> list[dict[str, Any]]:
    """The next events, which are copies, without their name."""
    events = [driver.expect("copy") for _ in directions]
    assert [event.pop("direction") for event in events] == list(directions)
    return [{key: event[key] for key in ("sender", "to", "body")} for event in events]


def test_two_resources(people: list[Driver]) -> None:
    """Both sides of a talk at the phone are seen at the desk, once, until it asks for no more."""
    phone, desk, bob = people
    assert "urn:xmpp:carbons:2" in phone.disco(DOMAIN)["features"]
    bob.message(PHONE, "unseen")
    assert phone.expect("message")["body"] == "unseen"
    for driver in (desk, desk, phone):  # twice does no harm
        driver.do("carbons", switch="enable")
        assert driver.expect("result")["type"] == "result"

    bob.message(PHONE, "question")
    assert phone.expect("message")["body"] == "question"
    phone.message(BOB, "answer")
    assert bob.expect("message")["body"] == "answer"
    assert copy(desk, "received", "sent") == [
        {"sender": BOB, "to": PHONE, "body": "question"},
        {"sender": PHONE, "to": BOB, "body": "answer"},
    ]

    phone.do("private", to=BOB, body="secret")
    assert bob.expect("message")["body"] == "secret"
    bob.do("private", to=PHONE, body="secret too")
    assert phone.expect("message")["body"] == "secret too"
    desk.message(BOB, "from the desk")
    assert copy(phone, "sent") == [{"sender": DESK, "to": BOB, "body": "from the desk"}]

    bob.message(PHONE, "seen")
    assert phone.expect("message")["body"] == "seen"
    assert copy(desk, "received") == [{"sender": BOB, "to": PHONE, "body": "seen"}]
    desk.do("carbons", switch="disable")
    assert desk.expect("result")["type"] == "result"
    bob.message(PHONE, "unseen again")
    assert phone.expect("message")["body"] == "unseen again"
    bob.message(DESK, "to the desk")
    assert desk.next_event() == {
        "event": "message",
        "sender": BOB,
        "type": "chat",
        "body": "to the desk",
    }
