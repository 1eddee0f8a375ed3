"""
Clients that write numbered messages to each other while servers come and go.

They live in a thread of their own.  Each keeps an account of what it sent, heard and was refused,
by session (L{Life}), so that a test can say afterwards what was lost, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from random import Random
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, ParseError, XMLPullParser, tostring

from attrs import define, field

_T = TypeVar("_T")
_SM = "urn:xmpp:sm:3"
_CLIENT = "{jabber:client}"
_STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_LOST = (OSError, EOFError, TimeoutError, ParseError, asyncio.IncompleteReadError)
_NEGOTIATION = 4.0  # seconds for a log-in; a server that is stopped takes no part in one
_RESUMPTIONS = 4  # tries


class Ended(EOFError):
    """
    The server has ended the stream.

    @ivar condition: Of its stream error, if there was one.
    """

    def __init__(self, condition: str = "") -> None:
        super().__init__(condition)
        self.condition = condition


@define(eq=False)
class Sent:
    """One message: its number, and when it was sent."""

    number: int
    to: str
    at: float


@define(eq=False)
class Life:
    """
    One session of a client, from its bind to its end.

    @ivar server: Which of the servers it is at.
    @ivar why: What ended it: C{lost}, C{left}, C{conflict}, or another condition; empty: nothing.
    @ivar been: All the servers that it has been at, since it may be resumed at another one.
    @ivar cuts: How often its connection broke and was resumed.
    @ivar moves: How often that was at another server.
    @ivar errors: When an error came for a number, and which.
    """

    jid: str
    server: int
    began: float
    why: str = ""
    ended: float = 0.0
    been: set[int] = field(factory=set)
    cuts: int = 0
    moves: int = 0
    sent: list[Sent] = field(factory=list)
    heard: list[tuple[str, int]] = field(factory=list)
    errors: dict[int, tuple[float, str]] = field(factory=dict)


class Client:
    """
    One user's client, which is always to be somewhere.

    @ivar lives: Its sessions, the last one last.
    @ivar is_managed: Whether it manages its streams (XEP-0198).
    @ivar stays_out: Whether it does not come back once somebody else took its address.
    @ivar gives_up: Whether it does not come back when its connection is lost.
    @ivar at: The server that it looks for first.
    @ivar others: Stanzas that it has heard, but for numbered messages and errors.
    @ivar goes_to: Where it resumes next, and not just anywhere.
    """

    def __init__(
        self,
        user: str,
        domain: str,
        ports: Sequence[int],
        at: int,
        *,
        managed: bool,
        random: Random,
        resource: str = "r",
    ) -> None:
        self.user = user
        self.resource = resource
        self.domain = domain
        self.ports = ports
        self.at = at
        self.is_managed = managed
        self.stays_out = self.gives_up = False
        self.goes_to: int | None = None
        self.lives: list[Life] = []
        self.refused_logins = 0
        self.others: deque[str] = deque(maxlen=1_000)
        self._random = random
        self._writer: asyncio.StreamWriter | None = None
        self._is_up = False
        self._previd = ""
        self._handled = self._acknowledged = 0
        self._waiting: deque[bytes] = deque()
        self._left = ""
        self._parser: Any = None
        self._elements: AsyncIterator[Element]

    @property
    def jid(self) -> str:
        """Its full address."""
        return f"{self.user}@{self.domain}/{self.resource}"

    @property
    def is_there(self) -> bool:
        """Whether it has a session and a connection."""
        return self._is_up

    @property
    def life(self) -> Life:
        """Its last session."""
        return self.lives[-1]

    # what a test has it do, in the thread of the clients

    def say(self, to: str, number: int, more: str = "") -> None:
        """Send a numbered message, if there is a connection."""
        if not self._is_up:
            return
        self.life.sent.append(Sent(number, to, time.monotonic()))
        body = f"<body>{number}</body>{more}"
        self.send(f"<message to='{to}' type='chat' id='{number}'>{body}</message>")
        if self.is_managed and number % 5 == 0:
            self._write(f"<r xmlns='{_SM}'/>")

    async def write(self, to: str, numbers: Sequence[int], more: str) -> None:
        """Send messages, as fast as the server reads them."""
        for number in numbers:
            self.say(to, number, more)
            if self._writer is not None:
                await self._writer.drain()

    def read(self, does: bool) -> None:
        """Whether it reads."""
        transport: Any = None if self._writer is None else self._writer.transport
        if transport is not None:
            (transport.resume_reading if does else transport.pause_reading)()

    def hang_up(self) -> None:
        """Its network is gone, for a moment."""
        if self._writer is not None:
            self._writer.transport.abort()

    def go(self, to_server: int) -> None:
        """The same, and it resumes its session at that server."""
        self.goes_to = to_server
        self.life.been.add(to_server)  # which has it before its client is told so
        self.hang_up()

    def leave(self, for_server: int) -> None:
        """Forget this session without a word, and log in at another server."""
        self.at = for_server
        self._left = "left"
        self.hang_up()

    def forget(self) -> None:
        """The session that could be resumed."""
        self._previd = ""
        self._waiting.clear()
        self._handled = self._acknowledged = 0

    def begin_account(self) -> None:
        """What was before is of no interest any more."""
        self.lives = [life for life in self.lives if not life.why]
        for life in self.lives:
            life.sent.clear()
            life.heard.clear()
            life.errors.clear()

    # its life

    async def live(self) -> None:
        """Connect again and again."""
        tries = 0
        while not (self.stays_out and self.lives and self.life.why == "conflict"):
            why = "lost"
            try:
                await self._connect()
            except Ended as ended:
                why = ended.condition if self._is_up and ended.condition else "lost"
            except _LOST:
                pass
            finally:
                was_up, self._is_up = self._is_up, False
                if self._writer is not None:
                    self._writer.transport.abort()
                self._writer = None
            tries = 0 if was_up else tries + 1
            if self._is_over(why, tries):
                self._end(self._left or why)
                tries = 0
            if self.gives_up:
                return
            if not was_up and not self._previd:
                self.at = self._random.randrange(len(self.ports))
            await asyncio.sleep(self._random.uniform(0.02, 0.15))

    def _is_over(self, why: str, tries: int) -> bool:
        if not self.lives or self.life.why:
            return False
        resumable = self.is_managed and self._previd and why == "lost" and not self._left
        return not resumable or tries >= _RESUMPTIONS

    def _end(self, why: str) -> None:
        self.life.why, self.life.ended = why, time.monotonic()
        self._left = ""
        self.forget()

    async def _connect(self) -> None:
        async with asyncio.timeout(_NEGOTIATION):
            server = self.at
            if self._previd:  # as if its name had the addresses of all
                others = range(len(self.ports))
                server = self._random.choice([self.life.server, *others])
                if self.goes_to is not None:
                    server, self.goes_to = self.goes_to, None
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self.ports[server])
            await self._negotiate(reader, server)
        while True:
            self._hear(await self._next())

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[Element]:
        parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
        events: Any = parser
        root, depth = Element("none"), 0
        while data := await reader.read(65536):
            parser.feed(data)
            for kind, element in events.read_events():
                depth += 1 if kind == "start" else -1
                if kind == "start" and depth == 1:
                    root = element
                elif kind == "end" and depth == 1:
                    yield element
                    root.clear()

    async def _open(self, reader: asyncio.StreamReader) -> None:
        self._elements = self._read(reader)
        self._write(
            f"<?xml version='1.0'?><stream:stream to='{self.domain}' version='1.0'"
            " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        await self._next()

    async def _next(self) -> Element:
        async for element in self._elements:
            if element.tag.endswith("}error") and not element.tag.startswith(_CLIENT):
                raise Ended(_local(element[0].tag))
            return element
        raise Ended

    async def _negotiate(self, reader: asyncio.StreamReader, server: int) -> None:
        await self._open(reader)
        proof = base64.b64encode(f"\0{self.user}\0password".encode()).decode()
        self._write(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{proof}</auth>"
        )
        answer = await self._next()
        if not answer.tag.endswith("}success"):
            self.refused_logins += 1
            raise Ended
        await self._open(reader)
        if self._previd:
            self._write(f"<resume xmlns='{_SM}' h='{self._handled}' previd='{self._previd}'/>")
            answer = await self._next()
            if answer.tag == f"{{{_SM}}}resumed":
                self.life.cuts += 1
                self.life.moves += server != self.life.server
                self.life.server = server
                self.life.been.add(server)
                self._go_on(int(answer.get("h", "")))
                return
            self._end("not resumed")
        wanted = f"<resource>{self.resource}</resource>"
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{wanted}</bind>"
        self._write(f"<iq type='set' id='b'>{bind}</iq>")
        bound = await self._next()
        if bound.get("type") != "result":
            raise Ended
        self._left = ""
        self.lives.append(Life("".join(bound.itertext()), server, time.monotonic()))
        self.life.been.add(server)
        if self.is_managed:
            self._write(f"<enable xmlns='{_SM}' resume='true'/>")
            while (answer := await self._next()).tag != f"{{{_SM}}}enabled":
                self._hear_stanza(answer)  # which is not counted
            self._previd = answer.get("id", "")
        self._is_up = True
        self.send("<presence/>")

    def _go_on(self, handled: int) -> None:
        self._acknowledge(handled)
        assert self._writer is not None
        self._writer.write(b"".join(self._waiting))
        self._is_up = True

    def send(self, stanza: str) -> None:
        """Any stanza."""
        if self.is_managed:
            self._waiting.append(stanza.encode())
        self._write(stanza)

    def _write(self, xml: str) -> None:
        if self._writer is not None:
            self._writer.write(xml.encode())

    def _acknowledge(self, handled: int) -> None:
        for _ in range(handled - self._acknowledged):
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

    def _hear_stanza(self, element: Element) -> None:
        kind, identifier = element.get("type"), element.get("id", "")
        if element.tag == _CLIENT + "message" and kind == "error":
            names = (each.tag for each in element.iter() if each.tag.startswith(_STANZAS))
            told = _local(next(names, ""))
            self.life.errors[int(identifier)] = time.monotonic(), told
        elif element.tag == _CLIENT + "message" and identifier.isdigit():
            self.life.heard.append((element.get("from", ""), int(identifier)))
        elif element.tag == _CLIENT + "iq" and kind == "get":
            self.send(f"<iq type='result' id='{identifier}'/>")
        else:
            self.others.append(tostring(element, "unicode"))


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


class Crowd:
    """The thread that the clients live in; a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: dict[Client, asyncio.Task[None]] = {}

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do something in the thread of the clients; what comes of it."""

        async def do() -> _T:
            return await work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)

    def start(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """The same, and do not wait for it."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """The same with a function."""

        async def do() -> _T:
            return function(*arguments)

        return self.run(do)

    def enter(self, client: Client) -> None:
        """Let a client live."""

        def start() -> None:
            client.gives_up = False
            self._tasks[client] = self._loop.create_task(client.live())

        self.call(start)

    def send_away(self, client: Client) -> None:
        """It is there no more."""

        def stop() -> None:
            self._tasks.pop(client).cancel()
            client.hang_up()

        self.call(stop)

    def failures(self) -> list[BaseException]:
        """What broke a client, which is a mistake of the test."""
        found = []
        for task in self._tasks.values():
            if task.done() and not task.cancelled():
                with contextlib.suppress(asyncio.CancelledError):
                    problem = task.exception()
                    if problem is not None:
                        found.append(problem)
        return found
