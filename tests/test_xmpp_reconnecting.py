"""A room hears who of its occupants has no connection."""

from __future__ import annotations

from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza
from cms.xmpp.reconnecting import AFTER, AT_ONCE, EVERY, MOST_BYTES
from tests.test_xmpp_resumption import ENABLE, ManagementTests
from tests.xmppserver import DOMAIN, Peer

CB1 = f"cb1.{DOMAIN}"
ALICE = f"alice@{DOMAIN}/r"
ROOM = f"team@{CB1}"
JOIN = f"<x xmlns='{ns.MUC}'><password>4711</password></x>"
HAND = f"<state xmlns='{ns.MEETING}' hand='true'/>"


class ReconnectingTests(ManagementTests):
    """Alice is in a room of the Callbridge's, and her stream is managed."""

    def setUp(self) -> None:
        """In it."""
        super().setUp()
        self.enable()
        self.alice.say(f"<presence id='p' to='{ROOM}/Alice'>{JOIN}{HAND}</presence>")
        self.callbridge.heard()

    def presences(self) -> list[Stanza]:
        """What the Callbridge got of these."""
        return [stanza for stanza in self.callbridge.received() if stanza.name == "presence"]

    def names(self, stanza: Stanza) -> list[str]:
        """What is in one."""
        self.assertEqual((ALICE, f"{ROOM}/Alice", None), (stanza.sender, stanza.to, stanza.type))
        self.assertIsNone(stanza.id)
        return [child.name for child in stanza.element.elements()]

    def test_told(self) -> None:
        """After three seconds, with what was shown before, and not as a new join; and when back."""
        self.cut()
        self.server.clock.advance(AFTER - 0.1)
        self.assertEqual([], self.presences())
        self.server.clock.advance(0.1)
        (away,) = self.presences()
        self.assertEqual(["state", "reconnecting"], self.names(away))
        self.assertEqual(ns.MEETING, list(away.element.elements())[1].uri)
        self.assertNotIn(b"4711", away.raw)
        self.resume(0)
        (back,) = self.presences()
        self.assertEqual(["state"], self.names(back))

    def test_soon_back(self) -> None:
        """Nobody hears of a moment."""
        self.cut()
        self.server.clock.advance(AFTER - 0.1)
        self.resume(0)
        self.server.clock.advance(AFTER)
        self.assertEqual([], self.presences())

    def test_last_presence(self) -> None:
        """What was shown last is shown; and nothing in a room that was left."""
        other = f"other@{CB1}/Alice"
        self.alice.say(f"<presence to='{other}'>{JOIN}</presence>")
        self.alice.say(f"<presence to='{ROOM}/Alice'><show>away</show></presence>")
        self.alice.say(f"<presence type='unavailable' to='{other}'/>")
        self.presences()
        self.cut()
        self.server.clock.advance(AFTER)
        (away,) = self.presences()
        self.assertEqual(["show", "reconnecting"], self.names(away))

    def test_unavailable(self) -> None:
        """Who is unavailable is in no room."""
        self.alice.say("<presence type='unavailable'/>")
        self.presences()
        self.cut()
        self.server.clock.advance(AFTER)
        self.assertEqual([], self.presences())

    def test_ended(self) -> None:
        """Who does not come back is gone."""
        self.cut()
        self.server.clock.advance(AFTER)
        self.presences()
        self.server.clock.advance(60)
        (gone,) = self.presences()
        self.assertEqual("unavailable", gone.type)
        self.server.clock.advance(60)
        self.assertEqual([], self.presences())

    def test_people(self) -> None:
        """Presence to people is theirs alone, and a long one is not kept."""
        bob = self.server.bound(self.callbridge, "bob")
        self.alice.say(f"<presence to='bob@{DOMAIN}/r'/>")
        status = f"<status>{'x' * MOST_BYTES}</status>"
        self.alice.say(f"<presence to='{ROOM}/Alice'>{status}</presence>")
        self.presences()
        bob.heard()
        self.cut()
        self.server.clock.advance(AFTER)
        self.assertEqual("", bob.heard())
        self.assertEqual([], self.presences())

    def test_other_components(self) -> None:
        """A component that decides no log-ins may take it for a wish to enter."""
        echo = self.server.register("echo")
        self.alice.say(f"<presence to='room@echo.{DOMAIN}/Alice'>{JOIN}</presence>")
        echo.received()
        self.cut()
        self.server.clock.advance(AFTER)
        self.presences()
        self.resume(0)
        self.assertEqual([], [each for each in echo.received() if each.name == "presence"])

    def test_many(self) -> None:
        """When a whole network is cut, rooms hear of some: all of it waits for all of them."""
        peers: list[Peer] = []
        for number in range(AT_ONCE + 10):
            self.callbridge.received()  # the notice of the one before
            peer = self.server.bound(self.callbridge, f"u{number}")
            peer.say(ENABLE)
            peer.say(f"<presence to='{ROOM}/u{number}'>{JOIN}</presence>")
            peers.append(peer)
        self.presences()
        for peer in peers:
            peer.transport.lose()
        self.server.clock.advance(AFTER)
        self.assertEqual(AT_ONCE, len(self.presences()))
        self.server.clock.advance(2 * EVERY)
        self.cut()
        self.server.clock.advance(AFTER)
        self.assertEqual(1, len(self.presences()))
