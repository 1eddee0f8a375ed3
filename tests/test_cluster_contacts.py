"""Contacts in a cluster: every server has them, and all have the same in the end."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.cluster.entries import Unreadable
from cms.state.database import StoreUnusable
from cms.xmlstream import ns
from cms.xmpp.contacts import replicas
from cms.xmpp.contacts import store as stores
from cms.xmpp.contacts.acts import Act
from cms.xmpp.contacts.blocking import NS
from cms.xmpp.contacts.replicas import AGAIN, checked
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import Book, Contact, ContactStore
from cms.xmpp.contacts.subscription import State
from cms.xmpp.nodemessages import Facts
from tests import LoggedError
from tests.clustersimulation import Cluster, ClusterServer
from tests.support import new_folder
from tests.test_xmpp_contacts import ALICE, BOB, GET, told
from tests.xmppserver import DOMAIN, Peer

KINDS = ("subscribe", "unsubscribe", "subscribed", "unsubscribed")


class TwoServers(SynchronousTestCase):
    """Alice is at the one, with a second resource at the other, where Bob is."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.folders = {name: new_folder(self) for name in ("one", "two", "three")}
        self.one, self.two = self.server("one"), self.server("two")
        self.cb1, self.cb2 = self.one.callbridge("cb1"), self.two.callbridge("cb2")
        self.peers = {
            "alice": self.login(self.one, "alice"),
            "phone": self.login(self.two, "alice", "phone"),
            "bob": self.login(self.two, "bob"),
        }
        self.heard()

    def server(self, name: str) -> ClusterServer:
        """One more."""
        server = self.cluster.server(name, contacts=self.folders[name])
        self.addCleanup(server.contacts.stop)
        return server

    def login(self, server: ClusterServer, user: str, resource: str = "r") -> Peer:
        """Somebody comes as clients do."""
        peer = server.bound(self.cb1 if server is self.one else self.cb2, user, resource)
        peer.say(GET)
        peer.say("<presence/>")
        return peer

    def heard(self) -> dict[str, list[str]]:
        """Who has heard what since the last time."""
        self.cluster.run(0.5)
        heard = {name: sorted(map(told, peer.received())) for name, peer in self.peers.items()}
        return {name: said for name, said in heard.items() if said}

    def say(self, user: str, xml: str) -> dict[str, list[str]]:
        """Somebody says something; who hears what."""
        self.peers[user].say(xml)
        return self.heard()

    def send(self, user: str, to: str, kind: str) -> dict[str, list[str]]:
        """A subscription stanza."""
        return self.say(user, f"<presence to='{to}@{DOMAIN}' type='{kind}'/>")

    def befriend(self) -> None:
        """Alice and Bob see each other."""
        for sender, to in (("alice", "bob"), ("bob", "alice")):
            self.send(sender, to, "subscribe")
            self.send(to, sender, "subscribed")

    def block(self, *addresses: str, name: str = "block") -> dict[str, list[str]]:
        """Alice blocks addresses."""
        items = "".join(f"<item jid='{address}'/>" for address in addresses)
        return self.say(
            "alice", f"<iq type='set' id='b'><{name} xmlns='{NS}'>{items}</{name}></iq>"
        )

    def rows(self, server: ClusterServer) -> list[Any]:
        """All that a server has on its disk."""
        store = server.changes.store
        return sorted(row for number in range(stores.BUCKETS) for row in store.bucket(str(number)))


class ChangeTests(TwoServers):
    """What one server is told, the others do."""

    def test_subscription(self) -> None:
        """Asked and granted across, with one push to each resource, wherever it is."""
        self.assertEqual(
            {"alice": ["push bob none?"], "phone": ["push bob none?"], "bob": ["subscribe alice"]},
            self.send("alice", "bob", "subscribe"),
        )
        heard = self.send("bob", "alice", "subscribed")
        sees = ["presence bob", "push bob to", "subscribed bob"]
        self.assertEqual({"alice": sees, "phone": sees, "bob": ["push alice from"]}, heard)
        self.assertEqual(self.rows(self.one), self.rows(self.two))
        heard = self.say("bob", "<presence type='unavailable'/>")
        self.assertEqual(["unavailable bob"], heard["alice"])

    def test_removed(self) -> None:
        """With the subscriptions, which is more than one change of the same entry: everywhere."""
        self.befriend()
        query = f"<query xmlns='{ns.ROSTER}'><item jid='{BOB}' subscription='remove'/></query>"
        heard = self.say("alice", f"<iq type='set' id='r'>{query}</iq>")
        self.assertIn("push bob remove", heard["phone"])
        self.assertEqual(self.rows(self.one), self.rows(self.two))
        self.assertEqual([], self.two.changes.store.roster("alice"))

    def test_presence(self) -> None:
        """Each sees the other come and go, once."""
        self.befriend()
        self.peers.pop("bob").transport.lose()
        self.assertEqual({"alice": ["unavailable bob"], "phone": ["unavailable bob"]}, self.heard())
        self.peers["bob"] = self.login(self.one, "bob")
        heard = self.heard()
        self.assertEqual(["presence bob"], heard["alice"])
        self.assertEqual(["presence bob"], heard["phone"])
        self.assertEqual(2, heard["bob"].count("presence alice"))
        heard = self.say("phone", f"<presence type='probe' to='{BOB}'/>")
        self.assertEqual({"phone": ["presence bob"]}, heard)

    def test_killed(self) -> None:
        """A server dies: whoever could see its users sees them go."""
        self.befriend()
        self.cluster.kill(self.two)
        for name in ("bob", "phone"):
            del self.peers[name]
        self.cluster.run(12.0)
        self.assertIn("unavailable bob", self.heard()["alice"])

    def test_blocked(self) -> None:
        """Who is blocked at one server is blocked at all, and hears it once."""
        self.befriend()
        self.say("phone", f"<iq type='get' id='l'><blocklist xmlns='{NS}'/></iq>")
        heard = self.block(BOB)
        self.assertEqual(["unavailable alice", "unavailable alice"], heard["bob"])
        self.assertEqual(["set"], heard["phone"])
        for to in (ALICE, f"{ALICE}/r", f"{ALICE}/phone"):
            heard = self.say("bob", f"<message to='{to}' type='chat' id='1'><body/></message>")
            self.assertEqual({"bob": ["service-unavailable alice"]}, heard)
        heard = self.say("phone", f"<message to='{BOB}' id='1'><body/></message>")
        self.assertEqual({"phone": ["not-acceptable bob"]}, heard)
        self.assertEqual({"bob": ["presence bob"]}, self.say("bob", "<presence/>"))
        heard = self.block(name="unblock")
        self.assertEqual(["presence alice", "presence alice"], heard["bob"])
        heard = self.say("bob", f"<message to='{ALICE}/phone' type='chat' id='1'/>")
        self.assertEqual({"phone": ["chat bob"]}, heard)

    def test_blocked_before_it_is_known(self) -> None:
        """What a server sends that does not know yet who is blocked, the other lets nobody have."""
        self.befriend()
        self.block(BOB)
        self.two.router.blocklists.users.clear()
        ping = f"<iq to='{ALICE}/r' type='get' id='2'><ping xmlns='urn:xmpp:ping'/></iq>"
        for said in (f"<message to='{ALICE}/r' id='1'><body/></message>", ping):
            self.assertEqual({"bob": ["service-unavailable alice"]}, self.say("bob", said))
        self.assertEqual({}, self.say("bob", f"<presence to='{ALICE}/r'/>"))
        self.assertEqual({"alice": ["get alice"]}, self.say("phone", ping))


class MovedTests(TwoServers):
    """A session that goes on at another server."""

    def test_moved(self) -> None:
        """It is told there what it was told here, and its list of who is blocked holds."""
        self.block(f"mallory@{DOMAIN}")
        for query in (f"<blocklist xmlns='{NS}'/>", f"<query xmlns='{ns.ROSTER}'/>"):
            self.say("alice", f"<iq type='get' id='1'>{query}</iq>")
        self.say("alice", f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        session = self.peers["alice"].handler
        self.peers.pop("alice").transport.lose(ConnectionLost())
        (peer,) = self.one.node.peers.values()
        self.assertTrue(self.one.nodes.handover.give(session, peer))
        self.cluster.run(5.0)
        moved = self.two.sessions.find(session.jid)
        assert moved is not None
        local: Any = self.two.router.local
        self.assertFalse(self.two.sessions.is_elsewhere(moved))
        self.assertEqual(["roster", "blocklist"], local.lists(moved))
        self.assertFalse(self.one.contacts.interested)
        self.assertEqual({f"mallory@{DOMAIN}"}, self.two.router.blocklists.users[ALICE])
        self.assertTrue(moved._is_guarded)  # type: ignore[attr-defined]


class SameTests(TwoServers):
    """What a server has missed it gets."""

    def names(self, server: ClusterServer, user: str) -> list[str]:
        """The contacts of a user."""
        return [contact.address for contact in server.changes.store.roster(user)]

    def test_newcomer(self) -> None:
        """A server that has nothing gets all, however much."""
        for number in range(120):
            self.peers["alice"].say(
                f"<iq type='set' id='s'><query xmlns='{ns.ROSTER}'>"
                f"<item jid='u{number}@{DOMAIN}'/></query></iq>"
            )
            self.cluster.run(0.1)
        self.befriend()
        self.block(f"mallory@{DOMAIN}")
        three = self.server("three")
        self.cluster.run(2.0)
        self.assertEqual(121, len(self.names(three, "alice")))
        self.assertEqual(self.rows(self.one), self.rows(three))
        self.assertIn(ALICE, three.router.blocklists.users)

    def test_away(self) -> None:
        """What each does while the engine is away, the other does afterwards, the later last."""
        self.befriend()
        self.cluster.engine_away()
        self.cluster.run(1.0)
        self.say("alice", _named("bob", "first"))
        self.say("phone", _named("bob", "second"))
        self.say("bob", _named("carol", "Carol"))
        self.cluster.run(30.0)
        self.cluster.engine_back()
        self.flushLoggedErrors(LoggedError)
        self.cluster.run(30.0)
        self.heard()
        self.assertEqual(self.rows(self.one), self.rows(self.two))
        (contact,) = self.one.changes.store.roster("alice")
        self.assertEqual("second", contact.name)
        self.assertEqual(["alice", "carol"], self.names(self.one, "bob"))

    def test_deleted(self) -> None:
        """What was deleted does not come back from a server that has missed it."""
        self.befriend()
        self.cluster.engine_away()
        self.cluster.run(1.0)
        query = f"<query xmlns='{ns.ROSTER}'><item jid='{BOB}' subscription='remove'/></query>"
        self.say("alice", f"<iq type='set' id='s'>{query}</iq>")
        self.cluster.run(30.0)
        self.cluster.engine_back()
        self.flushLoggedErrors(LoggedError)
        self.cluster.run(30.0)
        heard = self.heard()
        self.assertIn("push bob remove", heard["phone"])
        for server in (self.one, self.two):
            self.assertEqual([], self.names(server, "alice"))
            self.assertEqual([], server.changes.store.watchers("bob"))

    def test_full(self) -> None:
        """A server whose disk takes nothing says so, and has all when it takes something again."""
        self.befriend()
        merge = self.two.changes.store.merge
        assert self.two.nodes.contacts is not None
        self.two.nodes.contacts._pause = 5.0

        def full(*_: Any) -> Any:
            raise StoreUnusable(faults.STATE_FULL.error(path="contacts.sqlite3", folder="/state"))

        self.patch(self.two.changes.store, "merge", full)
        for name in ("first", "second"):
            self.say("alice", _named("bob", name))
        self.cluster.run(5.0)  # it asks, and cannot take the answer
        self.patch(self.two.changes.store, "merge", merge)
        self.assertNotEqual(self.rows(self.one), self.rows(self.two))
        errors = [str(error.value) for error in self.flushLoggedErrors(LoggedError)]
        self.assertEqual(2, len(errors))
        self.assertIn("there is no room left", errors[0])
        self.heard()
        self.cluster.run(10.0)
        self.assertEqual(["push bob both"], self.heard()["phone"])
        self.assertEqual(self.rows(self.one), self.rows(self.two))

    def test_slow(self) -> None:
        """What waits for a disk is bounded; what did not wait is asked for."""
        self.befriend()
        self.patch(replicas, "MOST_WAITING", 0)
        self.say("alice", _named("bob", "first"))
        self.patch(replicas, "MOST_WAITING", 10)
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        self.cluster.run(AGAIN[0] + 1)
        self.assertEqual(self.rows(self.one), self.rows(self.two))

    def test_nothing_to_send(self) -> None:
        """Servers that have the same send no rows."""
        self.befriend()
        sent: list[Any] = []
        self.patch(self.one.nodes.contacts, "taken", sent.append)
        self.cluster.engine_away()
        self.cluster.run(1.0)
        self.cluster.engine_back()
        self.flushLoggedErrors(LoggedError)
        self.cluster.run(10.0)
        self.assertEqual([], sent)


def _named(user: str, name: str) -> str:
    item = f"<item jid='{user}@{DOMAIN}' name='{name}'/>"
    return f"<iq type='set' id='s'><query xmlns='{ns.ROSTER}'>{item}</query></iq>"


class MergeTests(SynchronousTestCase):
    """The store."""

    def store(self, maker: str) -> ContactStore:
        """One server's."""
        store = ContactStore(new_folder(self), lambda: 1_700_000_000.0, maker)
        self.addCleanup(store.close)
        return store

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.sampled_from([("a", "b"), ("b", "a"), ("a", "c")]),
                st.sampled_from(KINDS),
            ),
            max_size=12,
        ),
        st.randoms(use_true_random=False),
    )
    def test_order(self, done: list[tuple[int, tuple[str, str], str]], random: Any) -> None:
        """Whatever was done where, and in whatever order it arrives: both end with the same."""
        both = self.store("one"), self.store("two")
        rows: tuple[list[Any], list[Any]] = ([], [])
        for where, (sender, to), kind in done:
            _, written = both[where].apply(
                [
                    lambda book, *what: Act(book, ContactSettings()).send(sender, to, kind)  # noqa: B023
                ]
            )
            rows[where].extend([list(row) for row in written])
        for where in (0, 1):
            arriving = list(rows[1 - where])
            random.shuffle(arriving)
            both[where].merge(arriving, ())
            both[where].merge(arriving[: len(arriving) // 2], ())
        one, two = (
            [row for number in range(stores.BUCKETS) for row in store.bucket(str(number))]
            for store in both
        )
        self.assertEqual(one, two)
        self.assertEqual(both[0].digests(), both[1].digests())

    def test_later_wins_here_too(self) -> None:
        """What is done after another's change was taken is later, whatever the clock says."""
        one, two = self.store("one"), self.store("two")
        for name in ("x", "y", "z"):
            _, rows = one.apply(
                [lambda book, name=name: book.write("a", Contact("b", State(), True, name))]  # type: ignore[misc]
            )
            two.merge([list(row) for row in rows], ())
        _, rows = two.apply([lambda book: book.write("a", Contact("b", State(), True, "last"))])
        one.merge([list(row) for row in rows], ())
        self.assertEqual(["last"], [contact.name for contact in one.roster("a")])

    def test_purged(self) -> None:
        """Entries of nothing go when they are old, or too many; all others stay."""
        now = [1_700_000_000.0]
        store = ContactStore(new_folder(self), lambda: now[0], "one")
        self.addCleanup(store.close)

        def count() -> int:
            return sum(len(store.bucket(str(number))) for number in range(stores.BUCKETS))

        self.patch(stores, "MOST_GONE", 5)
        for number in range(10):
            store.apply([lambda book, n=number: book.write("a", Contact(f"u{n}", listed=True))])  # type: ignore[misc]
        for number in range(8):
            store.apply([lambda book, n=number: book.write("a", Contact(f"u{n}"))])  # type: ignore[misc]
        store.apply([lambda book: book.block("a", "x", active=True)])
        store.purge()
        self.assertEqual(2 + 6 + 1, count())
        now[0] += stores.GONE_SECONDS + 1
        store.purge()
        self.assertEqual(2 + 1, count())

    def test_purged_of_one(self) -> None:
        """One user's entries of nothing push out nobody else's, at whomever they are."""
        store = ContactStore(new_folder(self), lambda: 1_700_000_000.0, "one")
        self.addCleanup(store.close)
        self.patch(stores, "MOST_OF_ONE", 3)
        self.patch(stores, "MOST_GONE", 10)

        def gone(number: int, book: Book) -> None:
            book.write("a", Contact(f"u{number}"))
            book.write(f"asked{number}", Contact("b"))
            book.block("a", f"x{number}", active=False)
            book.share("c", f"cb1.example.com/{number}", "", active=False)

        store.apply([lambda book: book.write("carol", Contact("dave"))])
        for number in range(10):
            store.apply([partial(gone, number)])
        store.purge()
        rows = (row for each in range(stores.BUCKETS) for row in store.bucket(str(each)))
        left = sorted(tuple(row[:3]) for row in rows)
        self.assertEqual(
            [
                *(("blocked", "a", f"x{number}") for number in (7, 8, 9)),
                *(("contacts", "a", f"u{number}") for number in (7, 8, 9)),
                *(("contacts", f"asked{number}", "b") for number in (7, 8, 9)),
                ("contacts", "carol", "dave"),
                *(("shared", "c", f"cb1.example.com/{number}") for number in (7, 8, 9)),
            ],
            left,
        )

    def test_no_rows(self) -> None:
        """What is no row is not taken."""
        good = ["contacts", "a", "b", 0, 0, 1, "", "", "", 1, "one"]
        self.assertEqual(good, checked(good))
        wrong: list[Any] = [None, []]
        bad: Any
        for bad in (
            *(None, [], ["x"], ["users", "a"], good[:-1], [*good, 1], {}),
            *([*good[:at], other, *good[at + 1 :]] for at, other in product((1, 3, 9), wrong)),
            [*good[:3], 3, *good[4:]],
            [*good[:3], True, *good[4:]],
            *([*good[:9], stamp, "one"] for stamp in (-1, 2**53)),
            [*good[:6], "\ud800", *good[7:]],
        ):
            self.assertRaises(ValueError, checked, bad)

    def test_unreadable(self) -> None:
        """A server that sends such is not believed."""
        cluster = Cluster()
        server = cluster.server("one", contacts=new_folder(self))
        self.addCleanup(server.contacts.stop)
        assert server.nodes.contacts is not None
        with self.assertRaises(Unreadable):
            server.nodes.contacts.taken(Facts(b'{"rows": [["contacts"]]}'))
