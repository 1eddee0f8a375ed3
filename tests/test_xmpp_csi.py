"""Client State Indication (XEP-0352)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import ns
from cms.xmpp import csi
from cms.xmpp.csi import MOST_HELD
from tests.xmppserver import DOMAIN, Peer, Server

ALICE = f"alice@{DOMAIN}/r"
INACTIVE, ACTIVE = (f"<{state} xmlns='{csi.NS}'/>" for state in ("inactive", "active"))


class IndicationTests(SynchronousTestCase):
    """Alice's telephone is in her pocket."""

    def setUp(self) -> None:
        """Alice and Bob are there, and Alice is inactive."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge)
        self.bob = self.server.bound(self.callbridge, "bob")
        self.alice.say(INACTIVE)

    def shows(self, what: str, peer: Peer | None = None) -> None:
        """Somebody sends Alice presence."""
        (peer or self.bob).say(f"<presence to='{ALICE}'><status>{what}</status></presence>")

    def heard(self) -> list[tuple[str, str]]:
        """The stanzas that Alice gets: presence by its status, others by their id."""
        return [
            (s.name, str(s.child) if s.name == "presence" and s.child else s.id or s.type or "")
            for s in self.alice.received()
        ]

    def test_presence_waits(self) -> None:
        """Only the newest of each sender, until the client is active again."""
        other = self.server.bound(self.callbridge, "bob", "other")
        for what in ("one", "two", "three"):
            self.shows(what)
        self.shows("elsewhere", other)
        self.shows("four")
        self.assertEqual([], self.heard())
        self.alice.say(ACTIVE)
        self.assertEqual([("presence", "elsewhere"), ("presence", "four")], self.heard())
        self.shows("five")
        self.assertEqual([("presence", "five")], self.heard())

    def test_nothing_else_waits(self) -> None:
        """A message or an IQ arrives at once, behind the presence that came before it."""
        self.shows("one")
        self.bob.say(f"<message to='{ALICE}' id='m'><body>x</body></message>")
        self.assertEqual([("presence", "one"), ("message", "m")], self.heard())
        self.bob.say(f"<iq type='get' to='{ALICE}' id='q'><x xmlns='urn:x'/></iq>")
        self.assertEqual([("iq", "q")], self.heard())
        self.bob.say(f"<presence type='error' to='{ALICE}' id='e'/>")
        self.assertEqual([("presence", "e")], self.heard())
        self.shows("two")
        self.assertEqual([], self.heard())

    def test_broadcast(self) -> None:
        """What goes to many waits too."""
        other = self.server.bound(self.callbridge, "alice", "other")
        self.alice.say("<presence/>")
        other.say("<presence><status>one</status></presence>")
        self.assertEqual([], self.heard())
        self.alice.say(ACTIVE)
        self.assertIn(("presence", "one"), self.heard())

    def test_bounded(self) -> None:
        """Of so many senders all leaves, and so with many bytes."""
        for number in range(MOST_HELD):
            self.callbridge.say(f"<presence from='{number}@cb1.{DOMAIN}' to='{ALICE}'/>")
        self.assertEqual(MOST_HELD, len(self.heard()))
        for _ in range(3):
            self.shows("x" * 70_000)
            self.assertEqual(1, len(self.heard()))

    def test_states(self) -> None:
        """It is offered; to say it twice, or something else, does no harm."""
        client = self.server.client()
        client.open()
        self.assertNotIn(csi.NS, client.open())
        for said in (INACTIVE, ACTIVE, ACTIVE, f"<other xmlns='{csi.NS}'/>"):
            self.alice.say(said)
        self.shows("one")
        self.assertEqual([("presence", "one")], self.heard())

    def test_resumed(self) -> None:
        """A resumed client is active, and gets what was held."""
        self.alice.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        previous = self.alice.heard().split("id='")[1].split("'")[0]
        self.shows("one")
        self.alice.transport.lose()
        self.shows("two")
        client = self.server.logged_in(self.callbridge)
        client.say(f"<resume xmlns='{ns.MANAGEMENT}' h='0' previd='{previous}'/>")
        self.assertIn("<status>two</status>", client.heard())
