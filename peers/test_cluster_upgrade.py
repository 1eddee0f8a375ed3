"""
A rolling upgrade: three real servers are drained, stopped and started again, one after the other,
while clients talk to each other and in a room, and others log in all the time.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from random import Random
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from peers.certs import Certificates
from peers.clusterworld import USERS, World
from peers.contract import DOMAIN
from peers.network import wait_until
from peers.numbered import Client, Crowd, Ended
from peers.operating import Host, block
from peers.processes import Processes

ROOM = f"team@cb1.{DOMAIN}"
COMER = USERS[-1]
PAUSE = 0.02  # seconds between two messages
_BIND = "urn:ietf:params:xml:ns:xmpp-bind"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


class Talker(Client):
    """
    Manages its streams, looks at all addresses for one that takes it, and is in a room.

    @ivar told: The numbers of what it has said there.
    @ivar gone: Whom it was told to have left.
    """

    async def _connect(self) -> None:
        await _to_any(self)
        await super()._connect()

    def join(self) -> None:
        """Go into the room."""
        muc = "<x xmlns='http://jabber.org/protocol/muc'><history maxchars='0'/></x>"
        self.send(f"<presence to='{ROOM}/{self.user}'>{muc}</presence>")

    def _hear_stanza(self, element: Element) -> None:
        if element.tag.endswith("}presence") and element.get("type") == "unavailable":
            self.gone.append(element.get("from", ""))
        if element.get("id", "").isdigit() or element.tag.endswith("}iq"):
            super()._hear_stanza(element)  # not the subject of the room

    def tell(self, number: int) -> None:
        """Say something to all in the room."""
        if self.is_there:
            body = f"<body>{number}</body>"
            self.send(f"<message to='{ROOM}' type='groupchat' id='{number}'>{body}</message>")
            self.told.append(number)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.told: list[int] = []
        self.gone: list[str] = []


async def _to_any(client: Client) -> int:
    """
    Choose an address that takes connections, as a client does that has several.

    @raise ConnectionRefusedError: there is none.
    """
    ports = list(range(len(client.ports)))
    client._random.shuffle(ports)
    for server in ports:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", client.ports[server])
        except OSError:
            continue
        writer.close()
        client.at = client.goes_to = server
        return server
    raise ConnectionRefusedError


class Comer(Client):
    """
    Logs in, and out, and in again.

    @ivar done: How many seconds each log-in took.
    @ivar sent_on: How often a stream ended before it had begun to log in.
    @ivar failed: What ended one that had.
    """

    def __init__(self, ports: Sequence[int], number: int) -> None:
        super().__init__(COMER, DOMAIN, ports, 0, managed=False, random=Random(number))
        self.resource = f"r{number}"
        self.done: list[float] = []
        self.sent_on = 0
        self.failed: list[str] = []

    async def live(self) -> None:
        """Again and again."""
        while True:
            began, self.asked = time.monotonic(), False
            try:
                async with asyncio.timeout(15.0):
                    await self._log_in()
                self.done.append(time.monotonic() - began)
            except (OSError, EOFError, TimeoutError) as problem:
                if self.asked:
                    self.failed.append(repr(problem))
                else:
                    self.sent_on += 1
            finally:
                if self._writer is not None:
                    self._writer.close()
            await asyncio.sleep(0.05)

    async def _log_in(self) -> None:
        port = self.ports[await _to_any(self)]
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        await self._open(reader)
        self.asked = True
        proof = base64.b64encode(f"\0{self.user}\0password".encode()).decode()
        self._write(f"<auth xmlns='{_SASL}' mechanism='PLAIN'>{proof}</auth>")
        answer = await self._next()
        if not answer.tag.endswith("}success"):
            raise Ended(answer.tag)
        await self._open(reader)
        self._write(
            f"<iq type='set' id='b'><bind xmlns='{_BIND}'><resource>{self.resource}</resource>"
            "</bind></iq>"
        )
        bound = await self._next()
        if bound.get("type") != "result":
            raise Ended("no bind")


@contextmanager
def everybody(world: World) -> Iterator[tuple[Crowd, list[Talker], list[Comer]]]:
    """Two clients at each server, all of them in the room; and those who come and go."""
    callbridge = world.at(world.callbridges[0])
    status, told = callbridge.ask("POST", "/api/v1/coSpaces", name="Team", uri="team")
    assert status == 200, told
    (space,) = callbridge.get("coSpaces")["coSpaces"]["coSpace"]
    for user in USERS:
        path = f"/api/v1/coSpaces/{space['id']}/coSpaceUsers"
        status, told = callbridge.ask("POST", path, userJid=f"{user}@{DOMAIN}")
        assert status == 200, told
    with Crowd() as crowd:
        talkers = [
            Talker(user, DOMAIN, world.ports, number // 2, managed=True, random=Random(number))
            for number, user in enumerate(USERS[:-1])
        ]
        for talker in talkers:
            crowd.enter(talker)
        wait_until(lambda: all(talker.is_there for talker in talkers), 20, "all to be there")
        for talker in talkers:
            crowd.call(talker.join)
        world.settle(lambda: len(talkers), 20)
        comers = [Comer(world.ports, number) for number in range(3)]
        for comer in comers:
            crowd.enter(comer)
        yield crowd, talkers, comers
        world.close()


@pytest.fixture
def world(processes: Processes, certificates: Certificates) -> World:
    """Three servers, two Callbridges."""
    return World(processes, certificates, sentinels=False)


class Upgrade:
    """All of them, one after the other."""

    def __init__(self, world: World, crowd: Crowd, talkers: list[Talker]) -> None:
        self.world = world
        self.crowd = crowd
        self.talkers = talkers
        self.random = Random(1)
        self.numbers = count(1)
        self.hosts = []
        for server in world.servers:
            places = {"cms xmpp": f"CMS_CONFIG={server.file} cms xmpp"}
            host = Host(world.processes, {"cms-xmpp": server}, places, f"host-{server.name}")
            self.hosts.append(host)

    async def talk(self) -> None:
        """One of them to another, and one to the room, all the time."""
        while True:
            sender, receiver = self.random.sample(self.talkers, 2)
            sender.say(receiver.jid, next(self.numbers))
            self.random.choice(self.talkers).tell(next(self.numbers))
            await asyncio.sleep(PAUSE)


def test_rolling(world: World) -> None:
    """No log-in fails, and what is said arrives once and in order."""
    with everybody(world) as (crowd, talkers, comers):
        upgrade = Upgrade(world, crowd, talkers)
        talking = asyncio.run_coroutine_threadsafe(upgrade.talk(), crowd._loop)
        try:
            for number, host in enumerate(upgrade.hosts):
                began = time.monotonic()
                said = host.types(block("drain"))
                drained = time.monotonic()
                assert "It is drained, and can be stopped" in said, said
                host.types(block("upgraded"))
                wait_until(partial(_is_well, world, number), 20, "it to be well")
                print(
                    f"{world.servers[number].name}: drained after {drained - began:.1f} s,"
                    f" well again after {time.monotonic() - drained:.1f} s; {said.strip()}"
                )
        finally:
            talking.cancel()
        time.sleep(0.5)
        for comer in comers:
            crowd.send_away(comer)
        world.settle(lambda: len(talkers), 30)
        _judge(talkers, comers)
        assert not crowd.failures()


def _is_well(world: World, number: int) -> bool:
    try:
        status = world.at(world.servers[number]).get("system/status")["status"]["cluster"]
    except OSError:
        return False
    return status["state"] == "in" and len(status["nodes"]) == 2


def _judge(talkers: list[Talker], comers: list[Comer]) -> None:
    lives = {talker.user: talker.lives for talker in talkers}
    assert all(len(each) == 1 for each in lives.values()), lives
    sent = {talker.jid: talker.life for talker in talkers}
    chats = said = 0
    for talker in talkers:
        assert not talker.life.errors, (talker.user, talker.life.errors)
        assert not [jid for jid in talker.gone if COMER not in jid], talker.gone
        heard: dict[str, list[int]] = {}
        for sender, number in talker.life.heard:
            heard.setdefault(sender, []).append(number)
        for jid, life in sent.items():
            wanted = [each.number for each in life.sent if each.to == talker.jid]
            assert heard.pop(jid, []) == wanted, (jid, talker.jid)
            chats += len(wanted)
        for other in talkers:
            assert heard.pop(f"{ROOM}/{other.user}", []) == other.told, (other.user, talker.user)
            said += len(other.told)
        assert not heard
    done = [seconds for comer in comers for seconds in comer.done]
    failed = [problem for comer in comers for problem in comer.failed]
    moves = sum(talker.life.moves for talker in talkers)
    print(
        f"{chats} messages, {said} copies of a room, {moves} sessions resumed elsewhere;"
        f" {len(done)} log-ins, the longest {max(done):.1f} s,"
        f" {sum(comer.sent_on for comer in comers)} sent on before they began"
    )
    assert not failed, failed
    assert len(done) > 100
