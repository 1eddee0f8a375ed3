"""Groups of a directory as contacts: what a Callbridge says, and what clients hear of it."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import groups as gp
from cms.linkprotocol.login import MalformedLogin, expect
from cms.xmlstream import ns
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmpp.contacts import groups
from cms.xmpp.contacts.groups import PAUSE, PIECE
from tests.test_cluster_contacts import TwoServers
from tests.test_xmpp_contacts import BOB, CAROL, House
from tests.xmppserver import DOMAIN, Peer

CB1 = f"cb1.{DOMAIN}"
ID, OTHER = "00000000000000aa", "00000000000000bb"
BOARD = gp.Group(ID, "Board", ("alice", "bob"))


def ask(peer: Peer, message: gp.Message, *, name: str = CB1) -> None:
    """A Callbridge asks something of the server."""
    kind = "get" if isinstance(message, gp.Ask) else "set"
    peer.say(f"<iq type='{kind}' id='g' from='{name}' to='{DOMAIN}'>{message.to_xml()}</iq>")


class GroupCase(House):
    """Alice, Bob and Carol, who are there and have no contacts."""

    def put(self, group: gp.Group = BOARD) -> dict[str, list[str]]:
        """The Callbridge says who is in a group; who hears what, when all are told."""
        ask(self.callbridge, group)
        for _ in range(5):
            self.server.clock.advance(PAUSE)
        (answer,) = [each for each in self.callbridge.received() if each.id == "g"]
        self.assertEqual("result", answer.type)
        return self.heard()

    def refused(self, message: gp.Message | str) -> str:
        """Why something is not taken."""
        xml = message if isinstance(message, str) else message.to_xml()
        self.callbridge.say(f"<iq type='set' id='g' from='{CB1}' to='{DOMAIN}'>{xml}</iq>")
        self.server.clock.advance(PAUSE)
        (answer,) = self.callbridge.received()
        return str(answer.element.error.firstChildElement().name)

    def items(self, user: str) -> list[tuple[str, str, list[str]]]:
        """A roster."""
        return [
            (each["jid"], each["subscription"], [str(group) for group in each.elements()])
            for each in self.roster(user).element.query.elements()
        ]


class ClientTests(GroupCase):
    """What clients see."""

    def test_together(self) -> None:
        """Who is in a group with somebody has him on his roster, and sees him, at once."""
        both = {"alice": ["push bob both", "presence bob"]}
        both |= {"bob": ["push alice both", "presence alice"]}
        self.assertEqual(both, self.put())
        self.assertEqual([(BOB, "both", ["Board"])], self.items("alice"))
        self.assertEqual([], self.items("carol"))
        self.assertEqual({}, self.put())
        heard = self.put(gp.Group(ID, "Board", ("alice", "bob", "carol")))
        self.assertEqual(["push carol both", "presence carol"], heard["alice"])
        self.assertEqual(4, len(heard["carol"]))
        self.assertEqual({"alice": ["presence bob"], "carol": ["presence bob"]}, self.away("bob"))

    def away(self, user: str) -> dict[str, list[str]]:
        """Somebody is away; who else hears of it."""
        heard = self.say(user, "<presence><show>away</show></presence>")
        return {name: said for name, said in heard.items() if name != user}

    def test_comes(self) -> None:
        """Who comes later sees them, and is seen."""
        self.put()
        self.say("bob", "<presence type='unavailable'/>")
        self.heard()
        heard = self.say("bob", "<presence/>")
        self.assertIn("presence alice", heard["bob"])
        self.assertEqual(["presence bob"], heard["alice"])

    def test_apart(self) -> None:
        """Who leaves is seen no more, unless by another group or by his own leave."""
        self.put()
        self.put(gp.Group(OTHER, "Choir", ("bob", "alice")))
        self.assertEqual([(BOB, "both", ["Board", "Choir"])], self.items("alice"))
        heard = self.put(gp.Group(ID, "", ()))
        self.assertEqual(["push bob both", "presence bob"], heard["alice"])
        heard = self.put(gp.Group(OTHER, "Choir", ("alice",)))
        self.assertEqual(["unavailable bob", "push bob remove"], heard["alice"])
        self.assertEqual(["unavailable alice", "push alice remove"], heard["bob"])
        self.assertEqual([], self.items("alice"))
        self.assertEqual({}, self.away("bob"))

    def test_own_contact(self) -> None:
        """What a user has of somebody himself stays beside the group, and behind it."""
        self.befriend("alice", "bob")
        self.put()
        self.set("alice", f"<item jid='{BOB}' name='Bobby'><group>Pals</group></item>")
        self.assertEqual([(BOB, "both", ["Pals", "Board"])], self.items("alice"))
        self.put(gp.Group(ID, "", ()))
        self.assertEqual([(BOB, "both", ["Pals"])], self.items("alice"))
        self.assertEqual({"alice": ["presence bob"]}, self.away("bob"))

    def test_not_removed(self) -> None:
        """A client takes nobody out: it is told that he is still there."""
        self.put()
        removed = self.set("alice", f"<item jid='{BOB}' subscription='remove'/>")
        self.assertEqual({"alice": ["push bob both", "result"]}, removed)
        for kind in ("unsubscribe", "unsubscribed"):
            self.assertEqual({"alice": ["push bob both"]}, self.send("alice", "bob", kind))
        heard = self.send("alice", "bob", "subscribe")
        self.assertEqual({"alice": ["subscribed bob", "push bob both"]}, heard)
        self.assertEqual({"alice": ["presence bob"]}, self.away("bob"))
        gone = self.set("alice", f"<item jid='{CAROL}' subscription='remove'/>")
        self.assertNotIn("push", str(gone))

    def test_own_taken_back(self) -> None:
        """Who takes back what he granted is seen for all that, while the group says so."""
        self.befriend("alice", "bob")
        self.put()
        removed = self.set("alice", f"<item jid='{BOB}' subscription='remove'/>")
        self.assertNotIn("unavailable", str(removed))
        self.assertEqual([(BOB, "both", ["Board"])], self.items("alice"))
        self.put(gp.Group(ID, "", ()))
        self.assertEqual([], self.items("alice"))

    def test_called(self) -> None:
        """By the directory's name, unless the user has one for him; another name is pushed."""
        named = gp.Group(ID, "Board", ("alice", "bob"), {"bob": "Bob <Beck>"})
        self.peers["alice"].received()
        ask(self.callbridge, named)
        self.server.clock.advance(PAUSE)
        push = next(e for e in self.peers["alice"].received() if e.type == "set")
        self.assertEqual("Bob <Beck>", push.element.query.item["name"])
        self.assertEqual(["Board"], [str(group) for group in push.element.query.item.elements()])
        self.heard()
        self.assertFalse(self.roster("bob").element.query.item.hasAttribute("name"))
        version = self.roster("alice").element.query["ver"]
        self.heard()
        self.assertEqual({}, self.put(named))
        heard = self.put(evolve(named, shown={"bob": "Bob Bell", "alice": "Alice L"}))
        self.assertEqual("push bob both", heard["alice"][0])
        self.assertEqual("push alice both", heard["bob"][0])
        again = self.roster("alice", f" ver='{version}'").element.query
        self.assertEqual("Bob Bell", again.item["name"])
        self.set("alice", f"<item jid='{BOB}' name='Bobby'/>")
        self.assertEqual("Bobby", self.roster("alice").element.query.item["name"])
        self.heard()
        self.put(gp.Group(ID, "", ()))
        self.assertEqual("Bobby", self.roster("alice").element.query.item["name"])

    def test_probe(self) -> None:
        """It is answered, as to any who may see somebody."""
        self.assertEqual({}, self.say("alice", f"<presence to='{BOB}' type='probe'/>"))
        self.put()
        heard = self.say("alice", f"<presence to='{BOB}' type='probe'/>")
        self.assertEqual({"alice": ["presence bob"]}, heard)

    def test_version(self) -> None:
        """A roster with another group has another version; what is pushed meanwhile has none."""
        version = self.roster("alice").element.query["ver"]
        ask(self.callbridge, BOARD)
        for _ in range(3):
            self.server.clock.advance(PAUSE)
        pushes = [e for e in self.peers["alice"].received() if e.payload == (ns.ROSTER, "query")]
        known = pushes[0].element.query["ver"]
        ask(self.callbridge, gp.Group(OTHER, "Choir", ("alice", "bob")))
        self.server.clock.advance(PAUSE / 2)
        self.assertTrue(self.server.contacts.unsettled)
        self.peers["alice"].say(
            f"<iq type='set' id='s'><query xmlns='{ns.ROSTER}'><item jid='{CAROL}'/></query></iq>"
        )
        self.server.clock.advance(0)
        mine = [e for e in self.peers["alice"].received() if e.type == "set"]
        self.assertTrue(mine[0].element.query["ver"].endswith("~"))
        for _ in range(5):
            self.server.clock.advance(PAUSE)
        self.heard()
        answer = self.roster("alice", f" ver='{known}'").element.query
        self.assertNotIn(answer["ver"], (version, known))
        self.assertEqual(None, self.roster("alice", f" ver='{answer['ver']}'").child)
        self.heard()
        self.put(gp.Group(ID, "Council", ("alice", "bob")))
        again = self.roster("alice", f" ver='{answer['ver']}'").element.query
        self.assertIn("Council", [str(each) for each in again.item.elements()])

    def test_paced(self) -> None:
        """A large group is told in pieces, and those who are not here cost nothing."""
        everybody = [f"u{number}" for number in range(2 * PIECE)]
        ask(self.callbridge, gp.Group(ID, "Board", ("alice", *everybody)))
        told = []
        for _ in range(6):
            self.server.clock.advance(PAUSE)
            told.append(len(self.peers["alice"].received()))
        self.assertEqual([PIECE, PIECE], [number for number in told if number])
        self.assertFalse(self.server.contacts.unsettled)


class LinkTests(GroupCase):
    """What a Callbridge may say, and is told."""

    def known(self, after: str = "") -> gp.Known:
        """What the server knows."""
        ask(self.callbridge, gp.Ask(after))
        (answer,) = self.callbridge.received()
        return expect(gp.parse(answer.child), gp.Known)

    def test_known(self) -> None:
        """Its groups by their digests, in pages; and those of no other."""
        self.assertEqual(gp.Known(()), self.known())
        self.put()
        choir = gp.Group(OTHER, "Choir", ("bob", "carol"), {"carol": "Carol Cern"})
        self.put(choir)
        self.assertEqual(((ID, BOARD.digest), (OTHER, choir.digest)), self.known().groups)
        self.assertEqual([OTHER], [id_ for id_, _ in self.known(ID).groups])
        self.patch(gp, "PAGE", 1)
        first = self.known()
        self.assertEqual(([ID], True), ([id_ for id_, _ in first.groups], first.more))
        self.assertFalse(self.known(ID).more)
        other = self.server.callbridge("cb2")
        ask(other, gp.Ask(), name=f"cb2.{DOMAIN}")
        (answer,) = other.received()
        self.assertEqual(gp.Known(()), gp.parse(answer.child))

    def test_refused(self) -> None:
        """Who decides no log-ins, what is malformed, and what is too much."""
        echo = self.server.register("echo")
        (question,) = echo.received()
        echo.say(f"<iq type='error' id='{question.id}' from='echo.{DOMAIN}' to='{DOMAIN}'/>")
        ask(echo, BOARD, name=f"echo.{DOMAIN}")
        (answer,) = echo.received()
        self.assertEqual("error", answer.type)
        for member in ("Alice", "a b", "a@b", "a/b", "guest-0123456789abcdef"):
            self.assertEqual("bad-request", self.refused(gp.Group(ID, "x", (member,))), member)
        self.assertEqual("service-unavailable", self.refused(gp.Ask()))
        self.patch(gp, "MOST_OF_USER", 1)
        self.put()
        refused = self.refused(gp.Group(OTHER, "Choir", ("alice", "carol")))
        self.assertEqual("resource-constraint", refused)
        self.assertEqual([], self.items("carol"))
        self.server.contacts_groups._most = 1
        refused = self.refused(gp.Group(OTHER, "Choir", ("carol",)))
        self.assertEqual("resource-constraint", refused)
        self.server.contacts_groups._most = 0
        self.assertEqual("not-allowed", self.refused(BOARD))

    def test_client(self) -> None:
        """A client may say nothing of the kind."""
        xml = f"<iq type='set' id='g' to='{DOMAIN}'>{BOARD.to_xml()}</iq>"
        heard = self.say("alice", xml)
        self.assertEqual(1, len(heard["alice"]))
        self.assertEqual([], self.items("alice"))

    def test_gone(self) -> None:
        """The groups of a Callbridge that may register no more are nobody's, however many."""
        self.patch(groups, "DROPPED", 1)
        shared = self.server.contacts_groups
        self.put()
        shared.known([CB1])
        shared.known([])
        self.settle()
        self.assertEqual([], self.items("alice"))
        self.put()
        shared.known([CB1], only=True)
        self.settle()
        self.assertEqual(1, len(self.items("alice")))
        shared.known([f"cb2.{DOMAIN}"], only=True)
        self.settle()
        self.assertEqual([], self.items("alice"))

    def settle(self) -> None:
        """Until all is done."""
        for _ in range(10):
            self.server.clock.advance(PAUSE)
        self.heard()


class ClusterTests(TwoServers):
    """At several servers."""

    def put(self, group: gp.Group) -> dict[str, list[str]]:
        """Said to the first server."""
        ask(self.cb1, group)
        return self.heard()

    def test_everywhere(self) -> None:
        """Each client hears it once, from its own server; all servers have the same."""
        sees = ["presence bob", "push bob both"]
        shown = ["presence alice", "presence alice", "push alice both"]
        self.assertEqual({"alice": sees, "phone": sees, "bob": shown}, self.put(BOARD))
        self.assertEqual(self.rows(self.one), self.rows(self.two))
        self.assertEqual(2, len(self.rows(self.two)))
        gone = ["push bob remove", "unavailable bob"]
        heard = self.put(gp.Group(ID, "", ()))
        self.assertEqual((gone, gone), (heard["alice"], heard["phone"]))
        self.assertEqual(self.rows(self.one), self.rows(self.two))

    def test_newcomer(self) -> None:
        """A server that comes later gets them, as it gets contacts."""
        self.put(BOARD)
        three = self.server("three")
        self.cluster.run(3)
        self.assertEqual(self.rows(self.one), self.rows(three))
        self.assertIn("alice", three.changes.store.owners)


class FormTests(SynchronousTestCase):
    """The messages."""

    def test_there_and_back(self) -> None:
        """Written and read."""
        group = gp.Group(ID, "A & <B> 'ü'", ("zoë", "al'ice"))
        named = evolve(group, shown={"zoë": "Zoë & 'Z'"})
        messages: list[Any] = [gp.Ask(), gp.Ask(ID), group, named, gp.Group(ID, "", ())]
        messages += [gp.Known(()), gp.Known(((ID, group.digest), (OTHER, ID)), more=True)]
        for message in messages:
            self.assertEqual(message, gp.parse(element(message.to_xml())))
        digests = {group.digest, named.digest, evolve(named, shown={"zoë": "Z"}).digest}
        digests |= {evolve(group, members=("zoë",)).digest, evolve(group, name="a").digest}
        self.assertEqual(5, len(digests))
        self.assertEqual(group.digest, evolve(group, members=("al'ice", "zoë")).digest)

    def test_malformed(self) -> None:
        """What is none, by its text alone."""
        user = "<user name='a'/>"
        many = "".join(f"<user name='u{number}'/>" for number in range(gp.MOST_MEMBERS + 1))
        for xml in (
            "<group/>",
            f"<other xmlns='{gp.NS}'/>",
            f"<group xmlns='{gp.NS}' id='1' name='x'>{user}</group>",
            f"<group xmlns='{gp.NS}' id='{ID}'>{user}</group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='a&#9;b'>{user}</group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='{'x' * 256}'>{user}</group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'>{user}{user}</group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'><user/></group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'><group/></group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'><user name='a' shown='b&#10;c'/></group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'>text</group>",
            f"<group xmlns='{gp.NS}' id='{ID}' name='x'>{many}</group>",
            f"<groups xmlns='{gp.NS}' after='x'/>",
            f"<groups xmlns='{gp.NS}' after=''>{user}</groups>",
            f"<groups xmlns='{gp.NS}'/>",
            f"<groups xmlns='{gp.NS}' more='false'><group id='{ID}'/></groups>",
        ):
            with self.assertRaises(MalformedLogin, msg=xml):
                gp.parse(element(xml))
        with self.assertRaises(MalformedLogin):
            expect(gp.parse(element(BOARD.to_xml())), gp.Known)


def element(xml: str) -> Any:
    """As an element."""
    return of_bytes(f"<iq xmlns='jabber:client'>{xml}</iq>".encode()).child
