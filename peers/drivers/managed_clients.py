"""
Clients in pairs that write numbered messages to each other over managed streams (XEP-0198).

They count exactly, send again what was not acknowledged, and resume whenever their
connection is gone.  The first line of standard input has the settings, each further line a
command; what happens is written to standard output, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

_SM = "urn:xmpp:sm:3"
_CLIENT = "{jabber:client}"
_PATIENCE = 0.5  # seconds without a word, after a request, until a connection counts as dead
_NEGOTIATION = 3.0  # seconds
_PAUSE = 0.01  # seconds between messages, on average
_LOST = (OSError, EOFError, TimeoutError, ParseError, asyncio.IncompleteReadError)


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Client:
    """
    One session, over as many connections as it takes.

    @ivar sent: How many messages were written.
    @ivar received: The numbers of those that came, in their order.
    @ivar resumed: How often it was resumed.
    @ivar connections: How many were opened.
    @ivar again: How many stanzas were sent again.
    @ivar wrong: What must not happen.
    """

    def __init__(self, settings: dict[str, Any], random: Random) -> None:
        self.settings = settings
        self.sent = self.resumed = self.connections = self.again = 0
        self.received: list[int] = []
        self.wrong: list[str] = []
        self.online = asyncio.Event()
        self._random = random
        self._writer: asyncio.StreamWriter | None = None
        self._is_up = False
        self._previd: str | None = None
        self._handled = self._acknowledged = 0
        self._waiting: deque[bytes] = deque()
        self._parser: Any = None
        self._elements: AsyncIterator[Element]

    @property
    def is_acknowledged(self) -> bool:
        """The server has all that was sent."""
        return not self._waiting

    def write_message(self) -> None:
        """One more, now or when there is a connection."""
        body = "x" * self._random.randrange(600)
        to, number = self.settings["to"], self.sent
        self.sent += 1
        message = f"<message to='{to}' type='chat' id='m{number}'><body>{body}</body></message>"
        self._send(message.encode())
        if number % 7 == 0 and self._is_up:
            self._write(f"<r xmlns='{_SM}'/>")

    def _send(self, stanza: bytes) -> None:
        self._waiting.append(stanza)
        if self._is_up and self._writer is not None:
            self._writer.write(stanza)

    def _write(self, xml: str) -> None:
        assert self._writer is not None
        self._writer.write(xml.encode())

    async def live(self) -> None:
        """Connect again and again."""
        while not self.wrong:
            self.connections += 1
            try:
                await self._connect()
            except _LOST:
                pass
            finally:
                self._is_up = False
                if self._writer is not None:
                    self._writer.transport.abort()
                self._writer = None
            await asyncio.sleep(self._random.random() * 0.02)

    async def _connect(self) -> None:
        settings = self.settings
        async with asyncio.timeout(_NEGOTIATION):
            context = None
            if settings["trust"]:
                context = ssl.create_default_context(cafile=settings["trust"])
            reader, self._writer = await asyncio.open_connection(
                "127.0.0.1",
                settings["port"],
                ssl=context,
                server_hostname=settings["domain"] if context else None,
            )
            await self._negotiate(reader)
        asked = False
        while True:
            try:
                element = await asyncio.wait_for(anext(self._elements), _PATIENCE)
            except TimeoutError:
                if asked:
                    raise
                self._write(f"<r xmlns='{_SM}'/>")
                self._elements = self._read(reader)  # the generator was cancelled
                asked = True
            except StopAsyncIteration:
                raise EOFError from None
            else:
                asked = False
                self._hear(element)

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[Element]:
        parser, root, depth = self._parser
        while True:
            for kind, element in parser.read_events():
                depth += 1 if kind == "start" else -1
                if kind == "start" and depth == 1:
                    root = element
                elif kind == "end" and depth == 1:
                    self._parser = parser, root, depth
                    yield element
                    root.clear()
            self._parser = parser, root, depth
            data = await reader.read(65536)
            if not data:
                return
            parser.feed(data)

    async def _open(self, reader: asyncio.StreamReader) -> None:
        self._parser = XMLPullParser(("start", "end")), None, 0
        self._elements = self._read(reader)
        self._write(
            f"<?xml version='1.0'?><stream:stream to='{self.settings['domain']}' version='1.0'"
            " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        await self._next()

    async def _next(self) -> Element:
        async for element in self._elements:
            if element.tag.endswith("}error"):
                raise EOFError  # of the stream
            return element
        raise EOFError

    async def _negotiate(self, reader: asyncio.StreamReader) -> None:
        settings = self.settings
        await self._open(reader)
        proof = base64.b64encode(f"\0{settings['user']}\0{settings['password']}".encode()).decode()
        self._write(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{proof}</auth>"
        )
        answer = await self._next()
        if not answer.tag.endswith("}success"):
            self.wrong.append(f"the log-in was refused: {[child.tag for child in answer]}")
            raise EOFError
        await self._open(reader)
        if self._previd is not None:
            self._write(f"<resume xmlns='{_SM}' h='{self._handled}' previd='{self._previd}'/>")
            answer = await self._next()
            if answer.tag != f"{{{_SM}}}resumed":
                self.wrong.append(f"not resumed: {answer.tag} {[child.tag for child in answer]}")
                raise EOFError
            self._go_on(int(answer.get("h", "")))
            return
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>"
        self._write(f"<iq type='set' id='b'>{bind}</iq><enable xmlns='{_SM}' resume='true'/>")
        await self._next()
        self._previd = (await self._next()).get("id")
        self._is_up = True
        self.online.set()

    def _go_on(self, handled: int) -> None:
        self.resumed += 1
        self._acknowledge(handled)
        self.again += len(self._waiting)
        assert self._writer is not None
        self._writer.write(b"".join(self._waiting))
        self._is_up = True
        if self._waiting:
            self._write(f"<r xmlns='{_SM}'/>")

    def _acknowledge(self, handled: int) -> None:
        new = handled - self._acknowledged
        if not 0 <= new <= len(self._waiting):
            self.wrong.append(f"{handled} acknowledged, of {self._acknowledged} on")
            return
        for _ in range(new):
            self._waiting.popleft()
        self._acknowledged = handled

    def _hear(self, element: Element) -> None:
        if element.tag == f"{{{_SM}}}r":
            self._write(f"<a xmlns='{_SM}' h='{self._handled}'/>")
        elif element.tag == f"{{{_SM}}}a":
            self._acknowledge(int(element.get("h", "")))
        elif element.tag.startswith(_CLIENT):
            self._handled += 1
            self._hear_stanza(element)
        elif element.tag.endswith("}error"):
            raise EOFError  # conflict: a resumption of ours that we did not hear of
        else:
            self.wrong.append(f"unexpected {element.tag}")

    def _hear_stanza(self, element: Element) -> None:
        if element.tag == _CLIENT + "message" and element.get("type") == "chat":
            self.received.append(int(element.get("id", "")[1:]))
        elif element.tag == _CLIENT + "iq" and element.get("type") == "get":
            self._send(f"<iq type='result' id='{element.get('id')}'/>".encode())
        else:
            self.wrong.append(f"{element.tag} {element.get('type')} {element.get('id')}")


class Clients:
    """All of them; each writes to its neighbour, and the neighbour to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._clients = [
            Client(each, Random(f"{settings['seed']} {number}"))
            for number, each in enumerate(settings["clients"])
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def do_connect(self) -> None:
        """Log all in."""
        for client in self._clients:
            self._tasks.append(asyncio.create_task(client.live()))
        for client in self._clients:
            await client.online.wait()
        tell("online")

    async def do_write(self) -> None:
        """Write messages until told to finish."""
        self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        random = Random()
        while True:
            for client in self._clients:
                client.write_message()
            await asyncio.sleep(random.random() * 2 * _PAUSE)

    async def do_finish(self) -> None:
        """No more messages: wait until all is where it belongs, or will never be."""
        self._writing.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15.0):
                while not self._is_settled():
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # whatever comes twice
        for task in self._tasks:
            task.cancel()
        tell("finished", clients=[self._facts(client) for client in self._clients])

    def _is_settled(self) -> bool:
        pairs = zip(self._clients, _neighbours(self._clients), strict=True)
        return all(len(a.received) >= b.sent and a.is_acknowledged for a, b in pairs) or any(
            client.wrong for client in self._clients
        )

    @staticmethod
    def _facts(client: Client) -> dict[str, object]:
        names = ("sent", "received", "resumed", "connections", "again", "wrong")
        return {name: getattr(client, name) for name in names}


def _neighbours(clients: list[Client]) -> list[Client]:
    return [clients[number ^ 1] for number in range(len(clients))]


async def main() -> None:
    """Serve commands until the input ends."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    clients = Clients(json.loads(await lines.get()))
    tell("ready")
    while line := await lines.get():
        await getattr(clients, "do_" + json.loads(line)["do"])()


if __name__ == "__main__":
    asyncio.run(main())
