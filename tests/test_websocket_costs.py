"""What a WebSocket costs beside TCP: calls for a stanza, bytes for a session that is silent."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import ns
from tests.test_xmpp_costs import calls
from tests.websocketpeer import WebServer, masked
from tests.xmppserver import DOMAIN, Server

SIZE = 150  # bytes of a message
MOST_BYTES = 12 * 1024  # of a session


def all_calls(do: Callable[[], object]) -> int:
    """How many functions are called meanwhile, of libraries too."""
    return calls(do, below="")


class StanzaTests(SynchronousTestCase):
    """A message of 150 bytes from one client to another."""

    def cost(self, server: Server, count: Callable[[Callable[[], object]], int]) -> list[int]:
        """Calls for one that comes alone, and for 20 that come at once."""
        callbridge = server.callbridge()
        alice, bob = server.bound(callbridge, "alice"), server.bound(callbridge, "bob")
        web = isinstance(server, WebServer)
        start = f"<message to='bob@{DOMAIN}/r' type='chat' id='m'"
        start += f" xmlns='{ns.CLIENT}'><body>" if web else "><body>"
        text = f"{start}{'x' * (SIZE - len(start) - 17)}</body></message>".encode()
        data = masked(text) if web else text
        protocol = alice.transport.protocol
        protocol.dataReceived(data * 2)
        bob.transport.clear()
        counted = []
        for number in (1, 20):
            read = data * number
            counted.append(count(lambda: protocol.dataReceived(read)))  # noqa: B023
            self.assertEqual(number, bob.transport.value().count(b"</message>"))
            bob.transport.clear()
        return counted

    def test_calls(self) -> None:
        """One takes less than three times the calls of TCP, those of the library counted."""
        tcp, _ = self.cost(Server(), all_calls)
        web, many = self.cost(WebServer(), all_calls)
        self.assertLessEqual(web, 3 * tcp)
        self.assertLessEqual(many, 440)

    def test_own_calls(self) -> None:
        """Of ours, TCP's stay what they are."""
        self.assertEqual([16, 16], self.cost(Server(), calls))
        web, many = self.cost(WebServer(), calls)
        self.assertLessEqual(web, 36)
        self.assertLessEqual(many, 190)


class MemoryTests(SynchronousTestCase):
    """A session that is silent."""

    def test_idle(self) -> None:
        """It takes less than 12 KiB, with both ends of its connection in memory."""
        # Who has not begun to log keeps each event, with the session that it comes from.
        self.patch(globalLogPublisher, "_observers", [])
        server = WebServer()
        callbridge = server.callbridge()
        kept = [server.bound(callbridge, f"u{number}") for number in range(10)]
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            streams = []
            for number in range(50):
                peer = server.bound(callbridge, f"v{number}")
                streams.append(peer.stream)
                peer.transport.take = lambda: ""  # type: ignore[method-assign]
            del peer
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(60, len(server.sessions))
        self.assertLess((after - before) / len(streams), MOST_BYTES)
        self.assertEqual(10, len(kept))
