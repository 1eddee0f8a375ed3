"""Server-sent events: bounded, paced, and gone with the browser."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.template import Tag, tags

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.interfaces import Health
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.admin.xmpppages import XmppPages
from cms.signalflow import Step
from cms.web.eventstream import BEAT, LONGEST, LOOK, MOST, PARTS, REFRESH, STUCK, EventStream
from cms.web.refusal import Refused
from tests.adminclient import Client, FakeCallbridge, FakeXmppServer, front, new_clock


class Browser:
    """A request for events."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.requestHeaders = Headers()
        self.written = b""
        self.producer: Any = None
        self.aborted = False
        self.transport = self

    def setHeader(self, name: bytes, value: bytes) -> None:
        """From the code under test."""
        self.headers[name] = value

    def write(self, data: bytes) -> None:
        """Likewise."""
        self.written += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Likewise."""
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Likewise."""
        self.producer = None

    def abortConnection(self) -> None:
        """Likewise."""
        self.aborted = True

    def take(self) -> list[str]:
        """The events since the last call."""
        written, self.written = self.written.decode(), b""
        blocks = [block.split("\n") for block in written.split("\n\n")]
        return [json.loads(b[1].removeprefix("data: ")) for b in blocks if b[0] == "event: live"]


class EventsTests(SynchronousTestCase):
    """A daemon whose state is a number."""

    def setUp(self) -> None:
        """One, and nobody who follows."""
        self.clock: Any = new_clock()
        self.state, self.looks, self.renders = 0, 0, 0
        self.cost = 0.0
        self.timer = 0.0
        self.events = EventStream(self.clock, self.look, self.pieces, timer=self.time)

    def time(self) -> float:
        """A clock that a turn moves."""
        return self.timer

    def look(self) -> int:
        """The state."""
        self.looks += 1
        self.timer += self.cost
        if self.state < 0:
            raise ValueError("broken")
        return self.state

    async def pieces(self) -> list[Tag]:
        """It, on two lines, as HTML would be."""
        self.renders += 1
        return [tags.p(f"\n{self.state}")]

    def follow(self) -> tuple[Browser, Deferred[bytes]]:
        """A browser that follows."""
        browser = Browser()
        request: Any = browser
        return browser, self.events.serve(request)

    def test_follow(self) -> None:
        """The state at once, and another when it changes, within a second."""
        browser, _ = self.follow()
        self.assertEqual(b"text/event-stream; charset=utf-8", browser.headers[b"content-type"])
        self.assertEqual(["<p>\n0</p>"], browser.take())
        self.clock.advance(LOOK)
        self.assertEqual([], browser.take())
        self.state = 1
        self.clock.advance(LOOK)
        self.assertEqual(["<p>\n1</p>"], browser.take())
        self.assertLess(LOOK, 0.5)

    def test_late(self) -> None:
        """Who comes later sees the same, and costs no look."""
        self.follow()
        looks = self.looks
        browser, _ = self.follow()
        self.assertEqual(["<p>\n0</p>"], browser.take())
        self.assertEqual(looks, self.looks)

    def test_most(self) -> None:
        """So many and no more, until one goes."""
        following = [self.follow()[1] for _ in range(MOST)]
        refused = self.assertRaises(Refused, self.follow)
        self.assertEqual((503, "10"), (refused.status, refused.headers["retry-after"]))
        following[0].cancel()
        self.failureResultOf(following[0], CancelledError)
        self.follow()
        self.assertEqual(MOST, len(self.events))

    def test_other_sites(self) -> None:
        """Their pages take no place of ours."""
        for site, code in (("cross-site", 403), ("same-site", 403)):
            browser: Any = Browser()
            browser.requestHeaders.setRawHeaders("sec-fetch-site", [site])
            refused = self.assertRaises(Refused, self.events.serve, browser)
            self.assertEqual(code, refused.status)
        self.assertEqual(0, len(self.events))

    def test_nobody(self) -> None:
        """When the last one goes, nobody looks any more."""
        _, following = self.follow()
        following.addErrback(lambda _: None)
        following.cancel()
        self.clock.advance(LOOK)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.state = 7
        browser, _ = self.follow()
        self.assertEqual(["<p>\n7</p>"], browser.take())

    def test_heartbeat(self) -> None:
        """A line without meaning, so that nobody between takes the connection for dead."""
        browser, _ = self.follow()
        browser.take()
        self.clock.pump([LOOK] * int(BEAT / LOOK + 1))
        self.assertEqual(b":\n\n", browser.written)

    def test_refresh(self) -> None:
        """Figures are shown anew now and then, though nothing else changes; not the same twice."""
        browser, _ = self.follow()
        browser.take()
        renders = self.renders
        self.clock.pump([LOOK] * int(REFRESH / LOOK + 1))
        self.assertEqual(renders + 1, self.renders)
        self.assertEqual([], browser.take())

    def test_does_not_read(self) -> None:
        """It is sent nothing meanwhile, then the newest alone; in the end it is dropped."""
        browser, following = self.follow()
        browser.take()
        browser.producer.pauseProducing()
        for self.state in (1, 2, 3):
            self.clock.advance(LOOK)
        self.assertEqual(b"", browser.written)
        browser.producer.resumeProducing()
        self.assertEqual(["<p>\n3</p>"], browser.take())
        browser.producer.pauseProducing()
        self.clock.advance(STUCK + LOOK)
        self.assertTrue(browser.aborted)
        self.assertEqual(0, len(self.events))
        self.assertNoResult(following)

    def test_longest(self) -> None:
        """A stream has its end; the browser asks for another."""
        browser, following = self.follow()
        self.clock.advance(LONGEST)
        self.assertEqual(b"", self.successResultOf(following))
        self.assertIsNone(browser.producer)
        self.assertEqual(0, len(self.events))

    def test_cost(self) -> None:
        """What is costly is done seldom."""
        self.cost = 1.0
        self.follow()
        looks = self.looks
        self.clock.advance(PARTS - 1)
        self.assertEqual(looks, self.looks)
        self.clock.advance(1)
        self.assertEqual(looks + 1, self.looks)

    def test_broken(self) -> None:
        """An error is logged, and the next look is taken."""
        browser, _ = self.follow()
        browser.take()
        self.state = -1
        self.clock.advance(LOOK)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.state = 5
        self.clock.advance(LOOK)
        self.assertEqual(["<p>\n5</p>"], browser.take())

    def test_stop(self) -> None:
        """Nothing is left."""
        self.follow()
        self.events.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


class HTTPTests(SynchronousTestCase):
    """The same through the front."""

    def test_stream(self) -> None:
        """Each change of the link is sent at the next look; a browser that goes is forgotten."""
        clock: Any = new_clock()
        role = FakeCallbridge()
        root = front(operations_of_callbridge(role, clock), clock)
        pages = CallbridgePages(role, clock, timer=clock.seconds)  # where looking costs nothing
        pages.add_to(root.application.routes)
        client = Client(self, root)
        response = self.successResultOf(client.send("GET", "/events"))
        self.assertEqual(200, response.code)
        received: list[bytes] = []
        collected = client.http.collect(response, received.append)
        clock.pump([0] * 4)
        client.http.flush()
        self.assertIn(b"summary passed", b"".join(received))
        for good, shown in (
            (Health(False, Step.CONNECT), b"summary waiting"),
            (Health(True, Step.ACTIVE), b"summary passed"),
        ):
            received.clear()
            role.good = good
            clock.pump([LOOK, 0, 0, 0])
            client.http.flush()
            self.assertIn(shown, b"".join(received))
        self.assertEqual(1, len(pages.events))
        response.original.original._transport.loseConnection()
        client.http.flush()
        clock.advance(LOOK)
        self.assertEqual(0, len(pages.events))
        self.assertEqual([], clock.getDelayedCalls())
        collected.addErrback(lambda _: None)

    def test_pieces(self) -> None:
        """The XMPP server's page is made piece by piece; the router has its turn between."""
        clock: Any = new_clock()
        role = FakeXmppServer()
        root = front(operations_of_xmpp_server(role, clock), clock)
        pages = XmppPages(role, clock, clock.seconds)
        pages.add_to(root.application.routes)
        client = Client(self, root)
        whole = client.ask("GET", "/").body.decode()
        response = self.successResultOf(client.send("GET", "/events"))
        received: list[bytes] = []
        client.http.collect(response, received.append)
        client.http.flush()
        self.assertNotIn(b"event: live", b"".join(received))
        clock.pump([0] * 4)
        client.http.flush()
        sent = b"".join(received).decode().partition("event: live\ndata: ")[2]
        self.assertIn(json.loads(sent), whole)
        pages.events.stop()
