"""
Chat programs whose connections are cut while numbered messages flow both ways (XEP-0198).

Each resumes by itself.  What it reads is all that was written to it, once and in its order,
and of what it writes all that the server has handled arrives, once and in its order.  What a
program itself does not keep, or sends again or in another order, its log shows
(docs/design/stream-management.md has the list).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from peers.certs import Certificates, Pair
from peers.clients import nbxmpp_managed, slixmpp_managed
from peers.contract import DOMAIN
from peers.desktop import Desktop
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.prosody import Prosody
from peers.realclients import PORT, Account, Dino, Profanity
from peers.terminal import Terminals
from peers.test_resumption import PASSWORD, Scene, cutter
from peers.wirelog import Connection, must_be_heard, of_dino, of_profanity

CUTS = int(os.environ.get("CMS_CUTS", "0"))  # 0: as many as the test says
MESSAGES = int(os.environ.get("CMS_MESSAGES", "0"))
SHARP = ["rst", "fin", "silent", "client gone", "server gone"]
# Bytes of each direction that are not cut: a log-in, and a TLS record with the resumption.
LEAST = 24_000
BODY = " " + "x" * 300
DINO_HOST = "127.77.0.3"  # a loopback address of its own: Dino knows no other port than 5222
JID = f"u0@{DOMAIN}"


class Place:
    """
    A server with two users, and the proxy before it.

    @ivar port: Of the proxy.
    @ivar bound: How often the client's resource was bound; C{None} if the server does not say.
    """

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        server: str = "ours",
        host: str = "127.0.0.1",
        port: int = 0,
        **cuts: Any,
    ) -> None:
        self.trust = certificates.trust
        self._processes = processes
        self._ours: Scene | None = None
        self.pair: Pair
        if server == "ours":
            self._ours = scene = Scene(
                processes, certificates, 0, users=2, host=host, port=port, **cuts
            )
            self.cutter, self.pair, self.port = scene.cutter, scene.server.pair, scene.ports[2]
            self._direct_port = scene.server.client_port
        else:
            self.pair = certificates.issue(DOMAIN, "localhost")
            users = {"u0": PASSWORD, "u1": PASSWORD}
            components = {f"x.{DOMAIN}": "x"}
            prosody = Prosody(processes, self.pair, DOMAIN, components, users, "smacks")
            prosody.start()
            self._direct_port, self.port = prosody.client_port, port or free_port()
            paths = [(self.port, prosody.client_port)]
            self.cutter = cutter(processes, cuts=0, ports=paths, host=host, **cuts)
        self.account = Account(JID, PASSWORD, host, self.port, self.trust, self.pair)

    def bound(self, resource: str) -> int | None:
        """How often the client's resource was bound; C{None} if the server does not say."""
        if self._ours is None:
            return None
        return self._ours.server.process.output.count(f"{JID}/{resource} logged in")

    def partner(self) -> Partner:
        """Who talks with the client."""
        return Partner(self._processes, self._direct_port, self)

    def cut(self, kinds: list[str], cuts: int) -> None:
        """Begin."""
        self.cutter.do("cut", kinds=kinds, cuts=CUTS or cuts)

    @property
    def is_enough(self) -> bool:
        """Whether so many were made."""
        return '"enough"' in self.cutter.process.output


class Partner:
    """
    Who writes to the client over a connection that is not cut, and hears it.

    @ivar errors: The messages that had been answered with an error when it was asked last.
    """

    errors: frozenset[int] | set[int] = frozenset()

    def __init__(self, processes: Processes, port: int, place: Place) -> None:
        jid = f"u1@{DOMAIN}"
        self._driver = slixmpp_managed(processes, jid, PASSWORD, port, place.trust)
        self.jid = self._driver.connected()["jid"]
        self._driver.expect("enabled")

    def write(self, resource: str, last: int, pause: float) -> None:
        """Messages with the numbers up to this."""
        to = f"{JID}/{resource}"
        self._driver.do("write", to=to, first=0, last=last, pause=pause, more=BODY)

    def written(self, seconds: float = 120.0) -> None:
        """All of them were sent."""
        self._driver.expect("written", seconds)

    def heard(self) -> list[int]:
        """The numbers of what the client wrote, in their order."""
        self._driver.do("count")
        said = self._driver.expect("counted")["messages"]
        self.errors = {int(text[7:]) for text in said if text.startswith("error n")}
        return [int(text.split()[1]) for text in said if not text.startswith("error")]

    def hears(self, number: int, shown: Callable[[], str]) -> None:
        """Wait for that."""
        try:
            wait_until(lambda: number in self.heard(), 40.0, f"message {number}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{shown()[-3000:]}") from None


@pytest.mark.parametrize(
    ("kinds", "cuts", "messages"), [(SHARP, 12, 400), (["dead"], 1, 1_000)], ids=["sharp", "dead"]
)
def test_nbxmpp(
    processes: Processes, certificates: Certificates, kinds: list[str], cuts: int, messages: int
) -> None:
    """Gajim's library, at random places; it finds out by its own pings who is dead."""
    # It has no time limit for a log-in: a connection that is dead by then it never leaves.
    place = Place(processes, certificates, least_bytes=0 if kinds == SHARP else LEAST)
    partner = place.partner()
    messages = MESSAGES or messages
    certificate = place.pair.certificate
    client = nbxmpp_managed(processes, JID, PASSWORD, place.port, certificate, ping=1)
    client.connected()
    client.expect("enabled")
    place.cut(kinds, cuts)
    partner.write("nbxmpp", messages, 0.02)
    client.do("write", to=partner.jid, first=0, last=messages)
    partner.written()
    client.expect("written", 120.0)
    wait_until(lambda: place.is_enough, 60.0, "all cuts")
    counted: dict[str, Any] = {}

    def settled() -> bool:
        client.do("count")
        counted.update(client.expect("counted"))
        return len(counted["messages"]) >= messages and len(partner.heard()) >= messages

    wait_until(settled, 30.0, "all messages")
    time.sleep(1.0)  # whatever comes twice
    assert settled()
    assert counted["messages"] == list(range(messages))
    assert partner.heard() == counted["sent"] == list(range(messages))
    assert (counted["failed"], place.bound("nbxmpp")) == (0, 1)
    print(f"nbxmpp: {counted['resumed']} resumptions, {messages} messages each way")
    assert counted["resumed"] >= max(1, (CUTS or cuts) // 3)


def _judge(
    place: Place, resource: str, connections: list[Connection], partner: Partner, messages: int
) -> None:
    heard = partner.heard()
    assert not partner.errors
    assert heard == must_be_heard(connections)
    assert [number for one in connections for number in one.read] == list(range(messages))
    assert place.bound(resource) in (1, None)
    wrote = [number for one in connections for number in one.wrote if number is not None]
    resumed = sum(one.is_resumed for one in connections)
    print(
        f"{resource}: {resumed} resumptions, {messages} messages read, {len(set(wrote))} written,"
        f" of these {len(set(wrote) - set(heard))} not sent again by itself,"
        f" {len(heard) - len(set(heard))} sent again though acknowledged,"
        f" in their order: {sorted(heard) == heard}"
    )
    assert resumed >= len(connections) - 1 > 0


class _Profanity:
    """It comes back after 2 s, and asks after 2 s whether the server is there."""

    def __init__(self, processes: Processes, place: Place) -> None:
        more = "reconnect=1\nautoping=2\nautoping.timeout=2\n"
        self._client = client = Profanity(
            processes, Terminals(processes), place.account, more, "DEBUG"
        )
        client.start()
        wait_until(lambda: "[online]" in client.shown(), 40.0, "its log-in")
        self.partner = place.partner()
        self._written = -1
        self.write()
        self.partner.hears(0, client.shown)

    def write(self) -> int:
        """One more message; its number."""
        self._written += 1
        self._client.say(f"u1@{DOMAIN}", f"{self._written} x")
        return self._written

    @property
    def connections(self) -> list[Connection]:
        """What it wrote and read."""
        return of_profanity(self._client.log)

    @property
    def read(self) -> list[int]:
        """The messages that it got, in their order."""
        return [number for one in self.connections for number in one.read]

    def last(self) -> None:
        """What it writes now is heard, and so all before it."""
        self.partner.hears(self.write(), self._client.shown)


@pytest.mark.parametrize("server", ["ours", "prosody"])
def test_profanity(processes: Processes, certificates: Certificates, server: str) -> None:
    """profanity resumes; what it loses or sends twice it does so at other servers, too."""
    place = Place(processes, certificates, server, least_bytes=LEAST)
    client = _Profanity(processes, place)
    messages = MESSAGES or 300
    place.cut(SHARP, 2)
    client.partner.write("profanity", messages, 0.1)

    def all_read() -> bool:
        client.write()
        return place.is_enough and len(client.read) >= messages

    wait_until(all_read, 150.0, "all messages")
    client.last()
    _judge(place, "profanity", client.connections, client.partner, messages)


@pytest.mark.parametrize("server", ["ours", "prosody"])
def test_profanity_finds_out(processes: Processes, certificates: Certificates, server: str) -> None:
    """
    When profanity finds out by its own pings that its connection is dead, it forgets its session
    and binds the resource anew, wherever it is: who wrote to it is told of all that it did not get.
    """
    place = Place(processes, certificates, server, least_bytes=LEAST)
    client = _Profanity(processes, place)
    place.cut(["dead"], 1)
    client.partner.write("profanity", 250, 0.05)

    def settled() -> bool:
        client.write()
        client.partner.heard()
        told = {*client.read, *client.partner.errors}
        return len(client.connections) > 1 and (server != "ours" or len(told) >= 250)

    wait_until(settled, 90.0, "another connection, and all messages, or errors")
    assert place.is_enough
    assert not any(one.is_resumed for one in client.connections)
    if server == "ours":
        client.last()
        read, errors = client.read, client.partner.errors
        print(f"{len(read)} read, {len(errors)} errors")
        assert place.bound("profanity") == 2
        assert read == sorted(set(read))
        assert {*read, *errors} == set(range(250))


@pytest.mark.parametrize(("kinds", "cuts", "messages"), [(["rst"], 1, 200)], ids=["reset"])
def test_dino(
    processes: Processes, certificates: Certificates, kinds: list[str], cuts: int, messages: int
) -> None:
    """Dino; it comes back after 10 s if it is told, which an end by FIN did not always do."""
    messages = MESSAGES or messages
    place = Place(
        processes, certificates, host=DINO_HOST, port=PORT, least_bytes=LEAST, mean_bytes=3_000
    )
    partner = place.partner()
    client = Dino(processes, Desktop(processes), place.account, "--print-xmpp=all")
    client.start()
    wait_until(lambda: place.bound("dino") == 1, 60.0, "its log-in")
    client.say(f"u1@{DOMAIN}", "0 first")
    partner.hears(0, client.shown)
    place.cut(kinds, cuts)
    partner.write("dino", messages, 0.1)
    number = 0

    def all_read() -> bool:
        nonlocal number
        number += 1
        client.type(f"{number} x")
        read = sum(len(one.read) for one in of_dino(client.shown()))
        return place.is_enough and read >= messages

    wait_until(all_read, 300.0, "all messages")
    client.type(f"{number + 1} last")
    partner.hears(number + 1, client.shown)
    wait_until(lambda: len(partner.heard()) == number + 2, 30.0, "what it wrote")
    _judge(place, "dino", of_dino(client.shown()), partner, messages)
    assert sorted(partner.heard()) == list(range(number + 2))  # it keeps and sends all of them
