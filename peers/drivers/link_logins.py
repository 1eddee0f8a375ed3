"""
Raw clients that log in, one after the other and many at once, and one that asks a component;
or that log in at a pace while a process is killed.

Settings come as the first line of standard input; when all is done one JSON object says how
each log-in ended, and how each question was answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import sys
from collections import Counter
from typing import Any

AT_ONCE = 8
_NOTICED = 0.5  # seconds until a server has noticed that a process is dead
PATIENCE = 45.0  # seconds for one log-in: longer than any wait of either daemon
_END = re.compile(r"<success|<failure[^>]*><([a-z-]+)|<stream:error><([a-z-]+)|</stream:stream>")


class Connection:
    """A connection to a listener without TLS."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.text = ""

    async def open(self) -> None:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.settings["port"])

    def say(self, xml: str) -> None:
        """Send it."""
        self.writer.write(xml.encode())

    def header(self) -> None:
        """Begin a stream."""
        self.say(
            f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
            f" to='{self.settings['domain']}' version='1.0'>"
        )

    async def until(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """Read until this comes; C{None} at the end of the stream."""
        while (found := re.search(pattern, self.text)) is None:
            data = await self.reader.read(65_536)
            if not data:
                return None
            self.text += data.decode()
        self.text = self.text[found.end() :]
        return found

    async def authenticate(self) -> str:
        """Log in; how it ended."""
        await self.open()
        self.header()
        found = await self.until(r"</stream:features>|" + _END.pattern)
        if found is None or not found[0].startswith("</stream:features"):
            return "closed" if found is None else found[1] or found[2] or "closed"
        plain = base64.b64encode(f"\0{self.settings['user']}\0{self.settings['password']}".encode())
        self.say(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
            f"{plain.decode()}</auth>"
        )
        found = await self.until(_END)
        if found is None:
            return "closed"
        return "success" if found[0] == "<success" else found[1] or found[2] or "closed"


async def log_in(settings: dict[str, Any], gate: asyncio.Semaphore, ends: Counter[str]) -> None:
    """One log-in."""
    async with gate:
        connection = Connection(settings)
        try:
            ends[await asyncio.wait_for(connection.authenticate(), PATIENCE)] += 1
        except TimeoutError:
            ends["nothing"] += 1
        finally:
            connection.writer.transport.abort()


async def ask(settings: dict[str, Any], done: asyncio.Event) -> dict[str, Any]:
    """Number questions until all log-ins have ended; how often each was answered, and how."""
    connection = Connection(settings)
    while await connection.authenticate() != "success":
        connection.text = ""
    connection.header()
    await connection.until("</stream:features>")
    connection.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    await connection.until("</iq>")
    asked, answers, kinds = 0, [], Counter[str]()

    async def hear() -> None:
        while True:
            found = await connection.until(r"<iq [^>]*/>|<iq .*?</iq>")
            if found is None:
                return
            number = re.search(r" id=['\"]q(\d+)['\"]", found[0])
            if number is not None:
                answers.append(int(number[1]))
                condition = re.search(r"<error[^>]*><([a-z-]+)", found[0])
                kinds["result" if condition is None else condition[1]] += 1

    hearing = asyncio.create_task(hear())
    while not done.is_set():
        connection.say(
            f"<iq type='get' to='{settings['component']}' id='q{asked}'>"
            "<ping xmlns='urn:xmpp:ping'/></iq>"
        )
        asked += 1
        await asyncio.sleep(0.04)  # a Callbridge lets 40 of one sender wait
    for _ in range(200):  # the last answers
        if len(answers) >= asked:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # and whatever came twice
    hearing.cancel()
    return {"asked": asked, "answers": answers, "kinds": kinds}


async def kill_amid(settings: dict[str, Any]) -> list[tuple[int, str, float]]:
    """
    Log in at a pace, and kill a process after so many; of each log-in its number, how it
    ended, and after how many seconds.
    """
    clock = asyncio.get_running_loop().time
    told: list[tuple[int, str, float]] = []

    async def one(number: int) -> None:
        ends: Counter[str] = Counter()
        began = clock()
        user = settings["users"][number % len(settings["users"])]
        await log_in({**settings, "user": user}, asyncio.Semaphore(), ends)
        told.append((number, next(iter(ends)), round(clock() - began, 3)))

    running = []
    for number in range(settings["logins"]):
        if number == settings["kill_after"]:
            os.kill(settings["kills"], signal.SIGKILL)
            await asyncio.sleep(_NOTICED)
        running.append(asyncio.create_task(one(number)))
        await asyncio.sleep(settings["pace"])
    await asyncio.gather(*running)
    return sorted(told)


async def main() -> None:
    """All of it."""
    settings = json.loads(sys.stdin.readline())
    print(json.dumps({"event": "ready"}), flush=True)
    if "kills" in settings:
        print(json.dumps({"event": "finished", "told": await kill_amid(settings)}), flush=True)
        return
    ends: Counter[str] = Counter()
    gate, done = asyncio.Semaphore(AT_ONCE), asyncio.Event()
    asking = asyncio.create_task(ask(settings, done))
    await asyncio.gather(*(log_in(settings, gate, ends) for _ in range(settings["logins"])))
    done.set()
    print(json.dumps({"event": "finished", "ends": ends, **await asking}), flush=True)
    sys.stdin.read()


asyncio.run(main())
