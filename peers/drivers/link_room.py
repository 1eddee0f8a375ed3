"""
Raw clients in one room, who number what they say and note what they hear.

Settings come as the first line of standard input; when all is said and heard one JSON object
says what each has sent, was refused, and has heard of each, in its order.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from typing import Any

_MESSAGE = re.compile(rb"<message [^>]*/>|<message .*?</message>|<presence .*?</presence>")
_SECONDS = 40.0  # for what is on its way at the end


class Speaker:
    """
    A client in the room.

    @ivar heard: The numbers of each, by nickname.
    @ivar refused: The numbers of his own that came back.
    """

    def __init__(self, settings: dict[str, Any], user: str) -> None:
        self.settings = settings
        self.user = user
        self.sent = 0
        self.refused: list[int] = []
        self.heard: dict[str, list[int]] = {}
        self.others: list[str] = []  # whatever else was heard
        self._text = b""

    def say(self, xml: str) -> None:
        """Send it."""
        self._writer.write(xml.encode())

    async def until(self, ending: bytes) -> None:
        """Read until this came."""
        while ending not in self._text:
            data = await self._reader.read(65_536)
            assert data, f"{self.user}: the stream ended"
            self._text += data
        self._text = self._text.partition(ending)[2]

    async def enter(self) -> None:
        """Log in, and join."""
        domain = self.settings["domain"]
        header = (
            f"<stream:stream to='{domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self.settings["port"]
        )
        self.say(header)
        await self.until(b"</stream:features>")
        plain = base64.b64encode(f"\0{self.user}\0{self.settings['password']}".encode()).decode()
        self.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")
        await self.until(b"<success")
        self.say(header)
        await self.until(b"</stream:features>")
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        await self.until(b"</iq>")
        room = self.settings["room"]
        self.say(
            f"<presence to='{room}/{self.user}'><x xmlns='http://jabber.org/protocol/muc'>"
            "<history maxstanzas='0'/></x></presence>"
        )
        await self.until(b"<subject")
        await self.until(b"</message>")

    async def talk(self) -> None:
        """Number what is said."""
        for number in range(self.settings["messages"]):
            self.say(
                f"<message type='groupchat' to='{self.settings['room']}' id='n{number}'>"
                f"<body>{number} {'x' * 100}</body></message>"
            )
            self.sent += 1
            await asyncio.sleep(self.settings["pace"])

    async def listen(self) -> None:
        """Note what is heard."""
        while True:
            data = await self._reader.read(65_536)
            if not data:
                self.others.append("the end of the stream")
                return
            self._text += data
            end = 0
            for found in _MESSAGE.finditer(self._text):
                end = found.end()
                self._note(found[0].decode())
            self._text = self._text[end:]

    def _note(self, stanza: str) -> None:
        number = re.search(r" id=['\"]n(\d+)['\"]", stanza)
        sender = re.search(r" from=['\"][^'\"/]*/([^'\"]*)['\"]", stanza)
        if number is not None and re.search(r" type=['\"]error['\"]", stanza):
            self.refused.append(int(number[1]))
        elif number is not None and sender is not None:
            self.heard.setdefault(sender[1], []).append(int(number[1]))
        elif not stanza.startswith("<presence") or "type='unavailable'" in stanza:
            self.others.append(stanza[:300])

    def facts(self) -> dict[str, Any]:
        """For the test."""
        return {
            "sent": self.sent,
            "refused": self.refused,
            "heard": self.heard,
            "others": self.others,
        }


async def main() -> None:
    """All of it."""
    settings = json.loads(sys.stdin.readline())
    print(json.dumps({"event": "ready"}), flush=True)
    speakers = [Speaker(settings, user) for user in settings["users"]]
    for speaker in speakers:
        await speaker.enter()
    print(json.dumps({"event": "inside"}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    listening = [asyncio.create_task(speaker.listen()) for speaker in speakers]
    await asyncio.gather(*(speaker.talk() for speaker in speakers))

    def is_complete() -> bool:
        said = sum(speaker.sent - len(speaker.refused) for speaker in speakers)
        return all(sum(map(len, each.heard.values())) >= said for each in speakers)

    for _ in range(int(_SECONDS * 10)):
        if is_complete():
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # and whatever came twice
    for task in listening:
        task.cancel()
    facts = {speaker.user: speaker.facts() for speaker in speakers}
    print(json.dumps({"event": "finished", "facts": facts}), flush=True)


asyncio.run(main())
