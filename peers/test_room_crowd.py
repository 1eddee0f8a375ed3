"""Many in one room, and one who misbehaves there, through both daemons."""

from __future__ import annotations

import asyncio
import re
import time

from peers.contract import DOMAIN
from peers.network import free_port, wait_until
from peers.test_rooms import TEAM, House, house

__all__ = ["house"]
MANY = 500
SECONDS = 60.0  # what it may take on a busy machine; how long it took is printed
HEADER = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)
MUC = "http://jabber.org/protocol/muc"
_PRESENCE = re.compile(rb"<presence [^>]*?from='[^']*/([^']*)'")


class Guest:
    """A client without TLS that says and hears bytes."""

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.join = f"<presence to='{TEAM}/{nick}'><x xmlns='{MUC}'/></presence>"
        self.seen: set[bytes] = set()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def log_in(self, port: int) -> None:
        """As a guest."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        await self.say(HEADER, b"</stream:features>")
        sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
        await self.say(f"<auth xmlns='{sasl}' mechanism='ANONYMOUS'/>", b"<success")
        await self.say(HEADER, b"</stream:features>")
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
        await self.say(f"<iq type='set' id='b'>{bind}</iq>", b"</iq>")

    async def say(self, text: str, until: bytes = b"") -> bytes:
        """Send something, and wait for what it is answered with."""
        self._writer.write(text.encode())
        heard = b""
        while until not in heard:
            more = await self._reader.read(65_536)
            assert more, f"{self.nick}: the stream ended after {heard!r}"
            heard += more
        return heard

    async def read(self) -> bytes:
        """What is heard next."""
        return await self._reader.read(262_144)

    async def enter(self) -> None:
        """Join, and hear of everybody."""
        self._writer.write(self.join.encode())
        rest = b""
        while len(self.seen) < MANY:
            rest += await self.read()
            end = rest.rfind(b"</presence>")
            if end >= 0:
                self.seen.update(_PRESENCE.findall(rest, 0, end))
                rest = rest[end:]

    def close(self) -> None:
        """Lose the connection."""
        self._writer.transport.abort()


def open_house(house: House) -> int:
    """Guests may log in without TLS and enter without a passcode; the port."""
    port = free_port()
    house.server.settings["listen"]["client_plain"] = [f"tcp:{port}:interface=127.0.0.1"]
    house.callbridge.settings["allow_guests"] = True
    house.callbridge.process.stop()
    house.server.process.stop()
    house.callbridge.space("set", "team", "--passcode", "")
    house.server.start()
    house.callbridge.start()
    return port


def test_500_enter_at_once(house: House) -> None:
    """Each sees all; afterwards nobody is there."""
    port = open_house(house)

    async def crowd() -> tuple[list[Guest], float]:
        guests = [Guest(f"g{number}") for number in range(MANY)]
        for start in range(0, MANY, 50):
            await asyncio.gather(*(guest.log_in(port) for guest in guests[start : start + 50]))
        began = time.monotonic()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(guest.enter() for guest in guests))
        took = time.monotonic() - began
        assert all(len(guest.seen) == MANY for guest in guests)
        assert house.occupants() == MANY
        for guest in guests:
            guest.close()
        return guests, took

    _, took = asyncio.run(crowd())
    print(f"{MANY} joins: {took:.1f} s")
    wait_until(lambda: house.occupants() == 0, SECONDS, "that all are gone")


def test_a_flood(house: House) -> None:
    """One who floods the room is answered; another is heard meanwhile."""
    port = open_house(house)

    async def talk() -> tuple[int, int]:
        flooder, other = Guest("flooder"), Guest("other")
        for guest in (flooder, other):
            await guest.log_in(port)
            await guest.say(guest.join, b"<subject")
        body = f"<body>{'x' * 1_000}</body>"
        flood = f"<message type='groupchat' to='{TEAM}'>{body}</message>" * 3_000
        await flooder.say(flood)
        heard = b""

        async def listen() -> None:
            nonlocal heard
            while True:
                heard += await flooder.read()

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(SECONDS):
            said = f"<message type='groupchat' to='{TEAM}'><body>between</body></message>"
            before = await other.say(said, b"<body>between</body>")
        await asyncio.sleep(3.0)
        listening.cancel()
        return before.count(b"xxxx</body>"), heard.count(b"resource-constraint")

    passed, refused = asyncio.run(talk())
    print(f"{passed} of 3,000 were before it, {refused} were refused")
    assert passed < 3_000
    assert refused > 0
