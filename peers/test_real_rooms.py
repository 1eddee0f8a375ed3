"""Rooms in chat programs that people use: they enter, talk, throw out and are thrown out, leave."""

from __future__ import annotations

from pathlib import Path

from peers.clients import nbxmpp_guest
from peers.contract import DOMAIN
from peers.desktop import Desktop
from peers.network import wait_until
from peers.processes import Processes
from peers.realclients import PORT, Account, Dino, Profanity
from peers.terminal import Terminals
from peers.test_rooms import CODE, PASSWORD, TEAM, House, house

__all__ = ["house"]
SECONDS = 40.0
DINO_HOST = "127.77.0.2"  # a loopback address of its own: Dino knows no other port than 5222


def test_profanity(house: House, processes: Processes) -> None:
    """It enters with the passcode, hears and is heard, is thrown out and says so, and leaves."""
    jid, port = f"mallory@{DOMAIN}", house.server.client_port
    account = Account(jid, PASSWORD, "127.0.0.1", port, house.trust, house.server.pair)
    client = Profanity(processes, Terminals(processes), account)
    client.start()
    wait_until(lambda: "logged in successfully" in client.shown(), SECONDS, "its log-in")
    alice = house.inside("alice")

    def shows(text: str) -> None:
        try:
            wait_until(lambda: text in client.shown(), SECONDS, text)
        except AssertionError as problem:
            raise AssertionError(f"{problem} in\n{client.shown()}") from None

    client.enter(TEAM, "mal", CODE)
    shows("alice")
    while alice.expect("seen", SECONDS)["sender"] != f"{TEAM}/mal":
        pass
    alice.do("say", room=TEAM, body="hello-from-alice")
    shows("hello-from-alice")
    client.command("hello-from-profanity")
    while alice.expect("said", SECONDS)["body"] != "hello-from-profanity":
        pass
    alice.do("subject", room=TEAM, subject="plans-of-alice")
    shows("plans-of-alice")
    alice.do("kick", room=TEAM, nick="mal")
    assert alice.expect("result")["type"] == "result"
    shows(f"Kicked from {TEAM} by alice")
    client.enter(TEAM, "mal", CODE)
    while (seen := alice.expect("seen", SECONDS))["sender"] != f"{TEAM}/mal" or (
        seen["type"] == "unavailable"
    ):
        pass
    client.command("/close")
    while alice.expect("seen", SECONDS)["type"] != "unavailable":
        pass
    wait_until(lambda: house.occupants() == 1, SECONDS, "profanity's end")


def test_nbxmpp(house: House, processes: Processes) -> None:
    """Gajim's library: a wrong passcode and the right one, talk, thrown out and in again, leave."""
    certificate = Path(house.server.settings["tls"]["certificate"])
    port = house.server.client_port
    client = nbxmpp_guest(processes, f"mallory@{DOMAIN}", PASSWORD, port, certificate)
    client.connected()
    alice = house.inside("alice")
    client.do("join", room=TEAM, nick="mal", password="000000")
    assert client.expect("not-joined")["condition"] == "not-authorized"
    client.do("join", room=TEAM, nick="mal", password=CODE)
    assert client.expect("seen")["sender"] == f"{TEAM}/alice"
    own = client.expect("seen")
    assert (own["sender"], own["codes"], own["occupant"]) == (f"{TEAM}/mal", ["110"], True)
    client.expect("subject")
    client.do("say", room=TEAM, body="hello-from-nbxmpp")
    while alice.expect("said", SECONDS)["body"] != "hello-from-nbxmpp":
        pass
    alice.do("say", room=TEAM, body="hello-from-alice")
    while client.expect("said", SECONDS)["body"] != "hello-from-alice":
        pass
    client.do("kick", room=TEAM, nick="alice")
    assert client.expect("result") == {"event": "result", "type": "error", "condition": "forbidden"}
    alice.do("kick", room=TEAM, nick="mal")
    assert set(client.expect("seen")["codes"]) == {"110", "307"}
    client.do("join", room=TEAM, nick="mal", password=CODE)
    client.expect("subject")
    client.do("leave", room=TEAM, nick="mal")
    wait_until(lambda: house.occupants() == 1, SECONDS, "its end")


def test_dino(house: House, processes: Processes) -> None:
    """Dino: it enters by its dialog, hears and is heard, and is thrown out."""
    account = Account(f"bob@{DOMAIN}", PASSWORD, DINO_HOST, PORT, house.trust, house.server.pair)
    house.server.process.stop()
    house.server.settings["listen"]["client"].append(f"tcp:{PORT}:interface={DINO_HOST}")
    house.server.start()
    house.callbridge.wait_active(times=2)
    client = Dino(processes, Desktop(processes), account)
    client.start()
    wait_until(
        lambda: f"successful login request from bob@{DOMAIN}" in house.callbridge.process.output,
        SECONDS,
        "its log-in",
    )
    alice = house.inside("alice")
    client.enter(TEAM)
    while alice.expect("seen", SECONDS)["sender"] != f"{TEAM}/bob":
        pass
    alice.do("say", room=TEAM, body="hello-from-alice")
    wait_until(lambda: client.has("hello-from-alice"), SECONDS, "what Alice said")
    client.type("hello-from-dino")
    while alice.expect("said", SECONDS)["body"] != "hello-from-dino":
        pass
    alice.do("kick", room=TEAM, nick="bob")
    assert alice.expect("result")["type"] == "result"
    wait_until(lambda: house.occupants() == 1, SECONDS, "its end")
