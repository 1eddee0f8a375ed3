"""Contacts as clients meet them (RFC 6121 2 to 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.process.threads import SlowWork
from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza
from cms.xmpp.contacts import pace
from cms.xmpp.contacts.acts import Act
from cms.xmpp.contacts.blocking import NS as BLOCKING
from cms.xmpp.contacts.changes import PAUSE
from cms.xmpp.contacts.figures import COUNTED, ContactFigures
from cms.xmpp.metrics import ContactsCollector
from tests import LoggedError
from tests.support import new_folder
from tests.test_metrics import Figures
from tests.test_xmpp_costs import calls
from tests.test_xmpp_delivery import shape
from tests.xmppserver import DOMAIN, Peer, Server, Threads

ALICE, BOB, CAROL = (f"{name}@{DOMAIN}" for name in ("alice", "bob", "carol"))
GET = f"<iq type='get' id='1'><query xmlns='{ns.ROSTER}'/></iq>"


def told(stanza: Stanza) -> str:
    """What it is, in a word or two: a push by its items."""
    if stanza.payload == (ns.ROSTER, "query") and stanza.type == "set":
        (item,) = stanza.element.query.elements()
        asks = "?" if item.getAttribute("ask") else ""
        return f"push {item['jid'].partition('@')[0]} {item['subscription']}{asks}"
    sender = (stanza.sender or "").partition("@")[0]
    return f"{shape(stanza)} {sender}".strip()


class House(SynchronousTestCase):
    """Users with a resource each, who have asked for their rosters and are available."""

    users = ("alice", "bob", "carol")

    def setUp(self) -> None:
        self.server = Server(contacts=new_folder(self))
        self.addCleanup(self.server.contacts.stop)
        self.callbridge = self.server.callbridge()
        self.peers = {user: self.login(user) for user in self.users}
        self.heard()

    def login(self, user: str, resource: str = "r", *, quiet: bool = False) -> Peer:
        """Somebody comes as clients do."""
        peer = self.server.bound(self.callbridge, user, resource)
        if not quiet:
            peer.say(GET)
            peer.say("<presence/>")
        return peer

    def heard(self) -> dict[str, list[str]]:
        """Who has heard what since the last time."""
        self.server.clock.advance(PAUSE)
        heard = {
            name: [told(each) for each in peer.received()] for name, peer in self.peers.items()
        }
        self.callbridge.heard()
        return {name: said for name, said in heard.items() if said}

    def say(self, user: str, xml: str) -> dict[str, list[str]]:
        """Somebody says something; who hears what."""
        self.peers[user].say(xml)
        return self.heard()

    def send(self, user: str, to: str, kind: str) -> dict[str, list[str]]:
        """A subscription stanza."""
        return self.say(user, f"<presence to='{to}@{DOMAIN}' type='{kind}'/>")

    def befriend(self, one: str, other: str) -> None:
        """Both see each other."""
        for sender, to in ((one, other), (other, one)):
            self.send(sender, to, "subscribe")
            self.send(to, sender, "subscribed")

    def set(self, user: str, item: str) -> dict[str, list[str]]:
        """A roster set."""
        query = f"<query xmlns='{ns.ROSTER}'>{item}</query>"
        return self.say(user, f"<iq type='set' id='s'>{query}</iq>")

    def roster(self, user: str, attributes: str = "") -> Stanza:
        """The answer to a roster get."""
        self.peers[user].say(f"<iq type='get' id='1'><query xmlns='{ns.ROSTER}'{attributes}/></iq>")
        (answer,) = self.peers[user].received()
        return answer


class RosterTests(House):
    """RFC 6121 2."""

    def test_empty(self) -> None:
        """2.1.3: somebody without contacts."""
        answer = self.roster("alice")
        self.assertEqual(("result", (ns.ROSTER, "query")), (answer.type, answer.payload))
        self.assertEqual([], list(answer.element.query.elements()))

    def test_set(self) -> None:
        """2.1.5, 2.1.6, 2.3: each resource that asked is told, others are not; then the result."""
        self.peers["desk"] = self.login("alice", "desk")
        self.peers["deaf"] = self.login("alice", "deaf", quiet=True)
        self.heard()
        item = f"<item jid='{BOB}' name='B &amp; &lt;' ><group>x&gt;</group><group>y</group></item>"
        pushed = {"alice": ["push bob none", "result"], "desk": ["push bob none"]}
        self.assertEqual(pushed, self.set("alice", item))
        (shown,) = self.roster("alice").element.query.elements()
        self.assertEqual("B & <", shown["name"])
        self.assertEqual(["x>", "y"], [str(group) for group in shown.elements()])

    def test_version(self) -> None:
        """2.6: what a client has already is not sent again; a push says what it has then."""
        self.peers["alice"].say(
            f"<iq type='set' id='s'><query xmlns='{ns.ROSTER}'><item jid='{BOB}'/></query></iq>"
        )
        push, _ = self.peers["alice"].received()
        version = push.element.query["ver"]
        self.assertEqual(None, self.roster("alice", f" ver='{version}'").child)
        self.assertEqual(version, self.roster("alice", " ver=''").element.query["ver"])
        self.heard()
        self.set("alice", f"<item jid='{BOB}' name='x'/>")
        answer = self.roster("alice", f" ver='{version}'").element.query
        self.assertNotEqual(version, answer["ver"])
        self.assertEqual("x", answer.item["name"])

    def test_refused(self) -> None:
        """2.1.5, 2.3.3: what is no item that can be set."""
        long = "x" * 1025
        for item, condition in (
            ("", "bad-request"),
            ("<item/>", "bad-request"),
            ("<item jid='@'/>", "bad-request"),
            (f"<item jid='{BOB}'/><item jid='{CAROL}'/>", "bad-request"),
            (f"<item jid='{BOB}'><group>a</group><group>a</group></item>", "bad-request"),
            (f"<item jid='{BOB}'><group/></item>", "not-acceptable"),
            (f"<item jid='{BOB}' name='{long}'/>", "not-acceptable"),
            (
                f"<item jid='{BOB}'><group>{long}</group></item>",
                "not-acceptable",
            ),
            (f"<item jid='{ALICE}/x'/>", "not-allowed"),
            (f"<item jid='{BOB}' subscription='remove'/>", "item-not-found"),
        ):
            self.assertEqual({"alice": [f"{condition} alice"]}, self.say_set(item), item)
        self.assertEqual([], list(self.roster("alice").element.query.elements()))

    def say_set(self, item: str) -> dict[str, list[str]]:
        """With the account as its address, as some do."""
        query = f"<query xmlns='{ns.ROSTER}'>{item}</query>"
        return self.say("alice", f"<iq type='set' id='s' to='{ALICE}'>{query}</iq>")

    def test_of_another(self) -> None:
        """2.1.3: nobody reads or changes another's, whether there is one or not."""
        for to in (BOB, f"nobody@{DOMAIN}"):
            for type_ in ("get", "set"):
                query = f"<query xmlns='{ns.ROSTER}'><item jid='{CAROL}'/></query>"
                heard = self.say("alice", f"<iq type='{type_}' id='1' to='{to}'>{query}</iq>")
                self.assertEqual(["service-unavailable"], [*heard["alice"][0].split()[:1]])
        for type_ in ("get", "set"):
            query = f"<query xmlns='{ns.ROSTER}'><item jid='{CAROL}'/></query>"
            self.callbridge.say(f"<iq type='{type_}' id='1' to='{BOB}'>{query}</iq>")
            self.assertEqual(["service-unavailable"], [*map(shape, self.callbridge.received())])

    def test_forged_state(self) -> None:
        """2.1.2.5: nobody grants himself anything."""
        self.set("alice", f"<item jid='{BOB}' subscription='both' ask='subscribe'/>")
        self.assertEqual("none", self.roster("alice").element.query.item["subscription"])
        self.assertNotIn("alice", self.say("bob", "<presence/>"))

    def test_long(self) -> None:
        """A long roster is written once, and is as it was."""
        for number in range(60):
            self.set("alice", f"<item jid='u{number}@{DOMAIN}'/>")
        first = self.roster("alice")
        self.assertEqual(60, len(list(first.element.query.elements())))
        self.assertEqual(first.raw, self.roster("alice").raw)
        self.set("alice", f"<item jid='u0@{DOMAIN}' subscription='remove'/>")
        self.assertEqual(59, len(list(self.roster("alice").element.query.elements())))

    def test_store_fails(self) -> None:
        """A disk that fails is told of, and nothing is promised."""
        self.server.contacts.stop()
        (path := self.server.changes.store.database.path).write_bytes(b"x" * 4096)
        self.addCleanup(path.unlink)
        heard = self.set("alice", f"<item jid='{BOB}'/>")
        self.assertEqual({"alice": ["internal-server-error"]}, heard)
        self.assertEqual("internal-server-error", shape(self.roster("alice")))
        self.assertEqual(2, len(self.flushLoggedErrors(LoggedError)))


class SubscriptionTests(House):
    """RFC 6121 3."""

    def test_asked_and_granted(self) -> None:
        """3.1: asked, granted, seen; one push each."""
        self.assertEqual(
            {"alice": ["push bob none?"], "bob": ["subscribe alice"]},
            self.send("alice", "bob", "subscribe"),
        )
        self.assertEqual(
            {
                "alice": ["subscribed bob", "push bob to", "presence bob"],
                "bob": ["push alice from"],
            },
            self.send("bob", "alice", "subscribed"),
        )
        self.assertEqual(
            {"alice": ["presence bob"], "bob": ["presence bob"]}, self.say("bob", "<presence/>")
        )
        self.assertEqual({"alice": ["presence alice"]}, self.say("alice", "<presence/>"))

    def test_between_accounts(self) -> None:
        """3.1.2: whatever resources are named, both addresses are bare."""
        self.peers["alice"].say(f"<presence to='{BOB}/r' type='subscribe' from='{ALICE}/r'/>")
        (asked,) = self.peers["bob"].received()
        self.assertEqual((ALICE, BOB), (asked.sender, asked.to))

    def test_denied(self) -> None:
        """3.2: who is denied sees nothing."""
        self.send("alice", "bob", "subscribe")
        self.assertEqual(
            {"alice": ["unsubscribed bob", "push bob none"]},
            self.send("bob", "alice", "unsubscribed"),
        )
        self.assertEqual({"bob": ["presence bob"]}, self.say("bob", "<presence/>"))

    def test_cancelled(self) -> None:
        """3.2.1: who may not see any more is told that nobody is there."""
        self.befriend("alice", "bob")
        heard = self.send("bob", "alice", "unsubscribed")
        self.assertEqual(["unavailable bob", "unsubscribed bob", "push bob from"], heard["alice"])
        self.assertEqual(["push alice to"], heard["bob"])

    def test_unsubscribed(self) -> None:
        """3.3: who does not want to see any more is told so as well."""
        self.befriend("alice", "bob")
        heard = self.send("alice", "bob", "unsubscribe")
        self.assertEqual(["unavailable bob", "push bob from"], heard["alice"])
        self.assertEqual(["unsubscribe alice", "push alice to"], heard["bob"])

    def test_removed(self) -> None:
        """2.5: both are gone for each other, with one push each."""
        self.befriend("alice", "bob")
        heard = self.set("alice", f"<item jid='{BOB}' subscription='remove'/>")
        self.assertEqual(["unavailable bob", "push bob remove", "result"], heard["alice"])
        self.assertEqual(
            ["unavailable alice", "unsubscribe alice", "unsubscribed alice", "push alice none"],
            heard["bob"],
        )

    def test_while_away(self) -> None:
        """3.1.3: a request waits, with what it said, until it is answered."""
        self.peers.pop("bob").transport.lose()
        self.peers["alice"].say(
            f"<presence to='{BOB}' type='subscribe'><status>It is me</status></presence>"
        )
        self.heard()
        for resource in ("x", "y"):
            self.peers[resource] = self.login("bob", resource)
            asked = [s for s in self.peers[resource].received() if s.type == "subscribe"]
            self.assertEqual(["It is me"], [str(each.element.status) for each in asked])
        self.assertIn("presence bob", self.send_from("x", "alice", "subscribed")["alice"])
        self.peers["z"] = self.login("bob", "z")
        self.assertNotIn("subscribe alice", self.heard()["z"])

    def send_from(self, peer: str, to: str, kind: str) -> dict[str, list[str]]:
        """From one of several resources."""
        return self.say(peer, f"<presence to='{to}@{DOMAIN}' type='{kind}'/>")

    def test_long_request(self) -> None:
        """Of a long request who asks is kept alone."""
        self.peers.pop("bob").transport.lose()
        self.peers["alice"].say(
            f"<presence to='{BOB}' type='subscribe'><status>{'x' * 2000}</status></presence>"
        )
        self.heard()
        bob = self.peers["bob"] = self.login("bob")
        (asked,) = [s for s in bob.received() if s.type == "subscribe"]
        self.assertEqual((None, ALICE, BOB), (asked.child, asked.sender, asked.to))

    def test_to_nobody(self) -> None:
        """8.5.1: nothing tells whether there is such a user."""
        one = self.say("alice", f"<presence to='nobody@{DOMAIN}' type='subscribe'/>")
        self.peers.pop("bob").transport.lose()
        self.heard()
        other = self.send("alice", "bob", "subscribe")
        self.assertEqual(["push nobody none?"], one["alice"])
        self.assertEqual(["push bob none?"], other["alice"])

    def test_elsewhere(self) -> None:
        """10.4: of another domain nobody can be asked, and that is said."""
        heard = self.say("alice", "<presence to='x@example.org' type='subscribe'/>")
        self.assertEqual({"alice": ["remote-server-not-found x"]}, heard)
        self.assertEqual([], list(self.roster("alice").element.query.elements()))

    def test_oneself(self) -> None:
        """One's own resources see each other anyway."""
        self.assertEqual({}, self.send("alice", "alice", "subscribe"))

    def test_of_components(self) -> None:
        """Only our users have contacts here."""
        for kind in ("subscribe", "subscribed", "probe"):
            self.callbridge.say(f"<presence from='x@cb1.{DOMAIN}' to='{ALICE}' type='{kind}'/>")
            self.assertEqual({}, self.heard())

    def test_too_many(self) -> None:
        """Who asks everybody is told to wait for answers."""
        for number in range(100):
            self.send("alice", f"u{number}", "subscribe")
        heard = self.send("alice", "bob", "subscribe")
        self.assertEqual({"alice": ["resource-constraint bob"]}, heard)


class PresenceTests(House):
    """RFC 6121 4."""

    def setUp(self) -> None:
        super().setUp()
        self.befriend("alice", "bob")

    def test_comes_and_goes(self) -> None:
        """4.2, 4.4, 4.5: who may see is told, and nobody else."""
        for end in (
            lambda peer: peer.say("</stream:stream>"),
            lambda peer: peer.transport.lose(ConnectionLost()),
            lambda peer: peer.handler.end(),
        ):
            end(self.peers.pop("bob"))
            self.assertEqual({"alice": ["unavailable bob"]}, self.heard())
            self.peers["bob"] = self.login("bob")
            heard = self.heard()
            self.assertEqual(["presence bob"], heard["alice"])
            self.assertEqual(["result", "presence bob", "presence alice"], heard["bob"])
            self.assertNotIn("carol", heard)

    def test_content(self) -> None:
        """What is broadcast arrives as it is, to the full address."""
        self.peers["bob"].say("<presence><show>dnd</show><c xmlns='urn:caps'/></presence>")
        (seen,) = self.peers["alice"].received()
        self.assertEqual((f"{BOB}/r", f"{ALICE}/r"), (seen.sender, seen.to))
        self.assertEqual("dnd", str(seen.element.show))

    def test_resumable(self) -> None:
        """Who has lost his connection is seen until his session ends (XEP-0198)."""
        self.peers["bob"].say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        self.heard()
        self.peers.pop("bob").transport.lose(ConnectionLost())
        self.assertEqual({}, self.heard())
        self.server.clock.advance(61.0)
        self.assertIn("unavailable bob", self.heard()["alice"])

    def test_unavailable(self) -> None:
        """4.5.2: told once, also if he was sent presence directly."""
        self.peers["bob"].say(f"<presence to='{ALICE}/r'/><presence to='{ALICE}'/>")
        self.heard()
        heard = self.say("bob", "<presence type='unavailable'/>")
        self.assertEqual(["unavailable bob"], heard["alice"])
        again = self.say("bob", "<presence/>")
        self.assertEqual(["presence bob", "presence alice"], again["bob"])

    def test_probe(self) -> None:
        """4.3: answered to who may see, and to nobody else, as if there were no such user."""
        heard = self.say("alice", f"<presence type='probe' to='{BOB}'/>")
        self.assertEqual({"alice": ["presence bob"]}, heard)
        heard = self.say("alice", f"<presence type='probe' to='{BOB}/r'/>")
        self.assertEqual({"alice": ["presence bob"]}, heard)
        self.assertEqual({}, self.say("alice", f"<presence type='probe' to='{BOB}/gone'/>"))
        for to in (BOB, f"{BOB}/r", f"nobody@{DOMAIN}"):
            self.assertEqual({}, self.say("carol", f"<presence type='probe' to='{to}'/>"))
        self.send("carol", "bob", "subscribe")
        self.assertEqual({}, self.say("carol", f"<presence type='probe' to='{BOB}'/>"))

    def test_asking_tells_nothing(self) -> None:
        """A user who is there and one who is not answer alike to who may not see them."""
        self.peers.pop("bob").transport.lose()
        self.heard()
        for payload in (
            "<query xmlns='jabber:iq:last'/>",
            f"<query xmlns='{ns.DISCO_INFO}'/>",
            f"<query xmlns='{ns.DISCO_ITEMS}'/>",
            f"<query xmlns='{ns.ROSTER}'/>",
            "<vCard xmlns='vcard-temp'/>",
            f"<ping xmlns='{ns.PING}'/>",
        ):
            answers = []
            for to in (ALICE, BOB, f"nobody@{DOMAIN}"):
                self.peers["carol"].say(f"<iq type='get' id='1' to='{to}'>{payload}</iq>")
                (answer,) = self.peers["carol"].received()
                answers.append(answer.raw.decode().replace(to, ""))
            self.assertEqual(1, len(set(answers)), payload)

    def test_slow(self) -> None:
        """Who may see somebody and does not read holds nobody up but himself."""
        alice, bob = self.peers["alice"], self.peers["bob"]
        alice.transport.stop_reading()
        for _ in range(200):
            bob.say(f"<presence><status>{'x' * 5000}</status></presence>")
            self.server.clock.advance(0.01)
        self.assertFalse(bob.handler.held)
        self.assertIn("result", self.say("bob", GET)["bob"][-1])

    def test_paced(self) -> None:
        """Who is seen by many and changes all the time: they hear what he is in the end."""
        self.patch(pace, "FREE", 0)
        self.patch(pace, "SECONDS_EACH", 1.0)
        bob = self.peers["bob"]
        for number in range(50):
            bob.say(f"<presence><status>{number}</status></presence><presence type='unavailable'/>")
        bob.say("<presence><status>last</status></presence>")
        self.assertEqual(1, len(self.peers["alice"].received()))
        self.server.clock.advance(2.0)
        (seen,) = [each for each in self.peers["alice"].received() if each.type is None]
        self.assertEqual("last", str(seen.element.status))
        self.assertIn("presence alice", self.heard()["bob"])
        bob.say("<presence type='unavailable'/>")
        self.peers.pop("bob").transport.lose()
        self.assertEqual({"alice": ["unavailable bob"]}, self.heard())
        self.assertFalse(self.server.contacts._pace._until)

    def test_guests(self) -> None:
        """A guest has no contacts, and is told so."""
        peer = self.peers["guest"] = self.login("guest-1", quiet=True)
        peer.handler.is_guest = True
        answer = self.roster("guest")
        self.assertEqual(("result", []), (answer.type, list(answer.element.query.elements())))
        self.assertEqual({"guest": ["not-allowed"]}, self.set("guest", f"<item jid='{BOB}'/>"))
        self.assertEqual({"guest": ["not-allowed bob"]}, self.send("guest", "bob", "subscribe"))
        self.assertEqual({"guest": ["presence guest-1"]}, self.say("guest", "<presence/>"))


class CostTests(SynchronousTestCase):
    """What contacts cost."""

    def server(self, *, contacts: bool) -> tuple[Server, Peer]:
        """A server, with or without."""
        server = Server(contacts=new_folder(self) if contacts else None)
        if contacts:
            self.addCleanup(server.contacts.stop)
        return server, server.callbridge()

    def log_in(self, *, contacts: bool) -> int:
        """The calls of presence, and of the end, of somebody without contacts."""
        server, callbridge = self.server(contacts=contacts)
        numbers = []
        for _ in range(2):
            peer = server.bound(callbridge)
            numbers.append(calls(lambda: peer.say("<presence/>")))  # noqa: B023
            numbers[-1] += calls(peer.transport.lose)
            callbridge.heard()
        return numbers[-1]

    def test_without_contacts(self) -> None:
        """Who has none costs some calls more, for coming and going together."""
        more = self.log_in(contacts=True) - self.log_in(contacts=False)
        self.assertLessEqual(more, 11)

    def test_many(self) -> None:
        """Presence costs each who may see it the queue of his stream, and no more."""
        server, callbridge = self.server(contacts=True)
        alice = server.bound(callbridge)
        counted = []
        for number in range(21):
            for sender, to, kind in (
                (f"u{number}", "alice", "subscribe"),
                ("alice", f"u{number}", "subscribed"),
            ):
                server.contacts.change(
                    sender,
                    partial(Act.send, sender=sender, to=to, kind=kind),
                )
                server.clock.advance(PAUSE)
            server.bound(callbridge, f"u{number}").say("<presence/>")
            alice.say("<presence/>")
            counted.append(calls(lambda: alice.say("<presence/>")))
        self.assertLessEqual((counted[20] - counted[0]) / 20, 30)


class Late(Threads):
    """Threads that have done everything when the clock has gone on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def callInThreadWithCallback(
        self, result: Callable[[bool, object], None], f: Callable[[], object]
    ) -> None:
        self._clock.callLater(0, super().callInThreadWithCallback, result, f)


class FigureTests(House):
    """What is scraped of them."""

    def test_counted(self) -> None:
        """Users, contacts, requests, blocked addresses; once a minute, and not at the first."""
        threads = SlowWork(Late(self.server.clock))
        figures = Figures(ContactsCollector(ContactFigures(self.server.contacts, threads)))
        self.befriend("alice", "bob")
        self.send("carol", "alice", "subscribe")
        blocked = f"<block xmlns='{BLOCKING}'><item jid='x@y'/></block>"
        self.say("carol", f"<iq type='set' id='b'>{blocked}</iq>")
        self.set("alice", "<item jid='@'/>")
        names = ("users", "changes_total", "requests", "blocked")
        self.assertEqual(3, figures("cms_xmpp_contacts_users"))
        self.assertEqual(None, figures("cms_xmpp_contacts"))
        self.server.clock.advance(0.1)
        self.assertEqual(3, figures("cms_xmpp_contacts"))
        self.assertEqual([3, 6, 1, 1], [figures(f"cms_xmpp_contacts_{name}") for name in names])
        self.assertEqual(0, figures("cms_xmpp_contacts_changes_waiting"))
        self.assertGreater(figures("cms_xmpp_contacts_bytes") or 0, 4096)
        self.assertEqual(1, figures("cms_xmpp_contacts_refused_total", condition="bad-request"))
        self.set("alice", "<item jid='dave@elsewhere'/>")
        for seconds, there in ((1.0, 3), (COUNTED, 3), (1.0, 4)):
            self.server.clock.advance(seconds)
            self.assertEqual(there, figures("cms_xmpp_contacts"))
