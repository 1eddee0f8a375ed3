"""The states of subscriptions, and the store of contacts."""

from __future__ import annotations

import sqlite3
from itertools import product
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.process.threads import SlowWork
from cms.state.database import StoreUnusable
from cms.xmpp.contacts.acts import MOST_PENDING, Act, Outcome
from cms.xmpp.contacts.changes import MOST_WAITING, PAUSE, Changes
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import Book, Contact, ContactStore, Refused
from cms.xmpp.contacts.subscription import ASKED, NO, RECEIVED, SENT, YES, State
from tests import LoggedError
from tests.support import new_folder
from tests.xmppserver import Threads

KINDS = ("subscribe", "unsubscribe", "subscribed", "unsubscribed")
HALVES = (NO, ASKED, YES)
SETTINGS = ContactSettings(most=20, most_asked=5)


def half(before: int, kind: str) -> int:
    """
    RFC 6121 3 in words, for the one subscription that a stanza is about: it is asked for, granted
    if it was asked for, and ended by either side.
    """
    if kind == "subscribe":
        return max(before, ASKED)
    if kind == "subscribed":
        return YES if before == ASKED else before
    return NO


class StateTests(SynchronousTestCase):
    """RFC 6121, appendix A, against what section 3 says in words."""

    def test_states(self) -> None:
        """A.1: there are nine, and every table has each of them."""
        states = set(map(State._make, product(HALVES, HALVES)))
        for tables in (SENT, RECEIVED):
            self.assertEqual(set(KINDS), set(tables))
            for kind in KINDS:
                self.assertEqual(states, set(tables[kind]))

    def test_each_changes_one_half(self) -> None:
        """C{subscribe} and C{unsubscribe} are about the sender's subscription, others not."""
        for kind, state in product(KINDS, map(State._make, product(HALVES, HALVES))):
            senders = kind in ("subscribe", "unsubscribe")
            mine = State(half(state.mine, kind), state.theirs)
            theirs = State(state.mine, half(state.theirs, kind))
            self.assertEqual(mine if senders else theirs, SENT[kind][state][1], (kind, state))
            self.assertEqual(theirs if senders else mine, RECEIVED[kind][state][1], (kind, state))

    def test_who_is_told(self) -> None:
        """Requests and their withdrawal go out always, answers to what was asked; both are told
        to the other side if they change anything."""
        for kind, state in product(KINDS, map(State._make, product(HALVES, HALVES))):
            goes_on, after = SENT[kind][state]
            self.assertEqual(kind in ("subscribe", "unsubscribe") or after != state, goes_on)
            delivered, after = RECEIVED[kind][state]
            self.assertEqual(after != state, delivered, (kind, state))

    def test_shown(self) -> None:
        """2.1.2.5: what a roster says."""
        shown = {state.subscription for state in SENT["subscribe"]}
        self.assertEqual({"none", "to", "from", "both"}, shown)
        self.assertEqual("to", State(YES, ASKED).subscription)
        self.assertEqual("from", State(ASKED, YES).subscription)


class House(SynchronousTestCase):
    """A store, and what users do."""

    def setUp(self) -> None:
        self.folder = new_folder(self)
        self.store = self.open()

    def open(self, maker: str = "", folder: Path | None = None) -> ContactStore:
        """The store as it is on the disk."""
        store = ContactStore(folder or self.folder, lambda: 1_700_000_000.0, maker)
        self.addCleanup(store.close)
        return store

    def act(self, what: str, *args: object, store: ContactStore | None = None) -> Outcome:
        """
        Make one change.

        @raise Refused: as it is.
        """

        def change(book: Book) -> Outcome:
            return getattr(Act(book, SETTINGS), what)(*args)  # type: ignore[no-any-return]

        ((result,), _) = (store or self.store).apply([change])
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Outcome)
        return result

    def send(self, sender: str, to: str, kind: str) -> Outcome:
        """A subscription stanza."""
        return self.act("send", sender, to, kind, f"<presence type='{kind}'/>")

    def contact(self, owner: str, address: str) -> Contact:
        """What is on the disk."""
        ((found,), _) = self.store.apply([lambda book: book.contact(owner, address)])
        assert isinstance(found, Contact)
        return found

    def befriend(self, one: str, other: str) -> None:
        """Both see each other."""
        for kind in ("subscribe", "subscribed"):
            self.send(*((one, other) if kind == "subscribe" else (other, one)), kind)
            self.send(*((other, one) if kind == "subscribe" else (one, other)), kind)


class ActTests(House):
    """Changes."""

    def test_granted(self) -> None:
        """RFC 6121 3.1: asked, told once, kept, granted, seen."""
        asked = self.send("alice", "bob", "subscribe")
        self.assertEqual([("alice", "bob")], list(asked.pushes))
        self.assertEqual(["subscribe"], [told.kind for told in asked.told])
        self.assertEqual([], self.send("alice", "bob", "subscribe").told)
        self.assertEqual(["<presence type='subscribe'/>"], self.store.requests("bob"))
        self.assertEqual([], self.store.roster("bob"))
        granted = self.send("bob", "alice", "subscribed")
        self.assertEqual([("bob", "alice")], granted.gained)
        self.assertEqual({("alice", "bob"), ("bob", "alice")}, set(granted.pushes))
        self.assertEqual([], self.store.requests("bob"))
        self.assertEqual("", self.contact("bob", "alice").request)
        self.assertEqual(["alice"], self.store.watchers("bob"))
        self.assertEqual(["bob"], self.store.watched("alice"))
        self.assertEqual([], self.store.watchers("alice"))
        self.assertTrue(self.store.may_see("bob", "alice"))
        self.assertFalse(self.store.may_see("alice", "bob"))

    def test_denied(self) -> None:
        """3.2.1: the request is gone, at both."""
        self.send("alice", "bob", "subscribe")
        denied = self.send("bob", "alice", "unsubscribed")
        self.assertEqual([("alice", "bob")], list(denied.pushes))
        self.assertEqual(["unsubscribed"], [told.kind for told in denied.told])
        self.assertEqual(State(), self.contact("alice", "bob").state)
        self.assertTrue(self.contact("bob", "alice").is_nothing)

    def test_asked_again(self) -> None:
        """3.1.3: who was granted it already is told so at once, for the user."""
        self.befriend("alice", "bob")
        self.assertEqual([], self.send("alice", "bob", "subscribe").told)
        self.store.apply([lambda book: book.write("alice", Contact("bob", State(), True))])
        again = self.send("alice", "bob", "subscribe")
        self.assertEqual([("alice", "subscribed")], [(t.owner, t.kind) for t in again.told])
        self.assertEqual(YES, self.contact("alice", "bob").state.mine)

    def test_removed(self) -> None:
        """2.5.2: a contact that goes ends both subscriptions, and is pushed once."""
        self.befriend("alice", "bob")
        self.assertEqual(["bob"], self.store.watchers("alice"))
        removed = self.act("remove", "alice", "bob")
        self.assertIsNone(removed.pushes["alice", "bob"][0])
        self.assertEqual({("alice", "bob"), ("bob", "alice")}, set(removed.pushes))
        self.assertEqual(["unsubscribe", "unsubscribed"], [told.kind for told in removed.told])
        self.assertEqual({("alice", "bob"), ("bob", "alice")}, set(removed.lost))
        self.assertTrue(self.contact("alice", "bob").is_nothing)
        self.assertEqual([Contact("alice", State(), True)], self.store.roster("bob"))
        with self.assertRaises(Refused):
            self.act("remove", "alice", "bob")

    def test_named(self) -> None:
        """2.3, 2.4: a name changes no subscription."""
        self.befriend("alice", "bob")
        before = self.store.version("alice")
        self.act("name", "alice", "bob", "Bob", ("a", "b"))
        self.assertEqual(
            [Contact("bob", State(YES, YES), True, "Bob", ("a", "b"))], self.store.roster("alice")
        )
        self.assertNotEqual(before, self.store.version("alice"))

    def test_limits(self) -> None:
        """Nobody has more contacts, asks more, or is asked more; what is refused leaves nothing."""
        for number in range(SETTINGS.most_asked):
            self.send("alice", f"u{number}", "subscribe")
        with self.assertRaises(Refused):
            self.send("alice", "bob", "subscribe")
        self.assertTrue(self.contact("alice", "bob").is_nothing)
        for number in range(SETTINGS.most_asked, SETTINGS.most):
            self.act("name", "alice", f"u{number}", "", ())
        with self.assertRaises(Refused):
            self.act("name", "alice", "bob", "", ())
        self.act("name", "alice", "u0", "again", ())
        for number in range(MOST_PENDING):
            self.send(f"u{number}", "carol", "subscribe")
        with self.assertRaises(Refused):
            self.send("dave", "carol", "subscribe")
        self.assertTrue(self.contact("dave", "carol").is_nothing)

    def test_approval_needs_room(self) -> None:
        """Who is granted is a contact too."""
        for number in range(SETTINGS.most):
            self.act("name", "alice", f"u{number}", "", ())
        self.send("bob", "alice", "subscribe")
        with self.assertRaises(Refused):
            self.send("alice", "bob", "subscribed")
        self.assertEqual(ASKED, self.contact("bob", "alice").state.mine)

    def test_owners(self) -> None:
        """Who has nothing any more is not remembered, so that names cannot fill the memory."""
        for number in range(10):
            self.send("mallory", f"u{number}", "subscribe")
            self.act("remove", "mallory", f"u{number}")
        self.assertEqual(set(), self.store.owners)
        self.send("alice", "bob", "subscribe")
        self.assertEqual({"alice", "bob"}, self.store.owners)

    def test_forgotten(self) -> None:
        """Of who is no user any more nothing is left, and nobody sees him."""
        self.befriend("alice", "bob")
        self.send("alice", "carol", "subscribe")
        self.send("dave", "alice", "subscribe")
        self.act("forget", "alice")
        for other in ("bob", "carol", "dave"):
            self.assertTrue(self.contact("alice", other).is_nothing)
            self.assertEqual(State(), self.contact(other, "alice").state)
        self.assertEqual([Contact("alice", State(), True)], self.store.roster("bob"))

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")]),
                st.sampled_from([*KINDS, "remove"]),
            ),
            max_size=20,
        )
    )
    def test_both_fit(self, done: list[tuple[tuple[str, str], str]]) -> None:
        """Whatever users do, what one has granted the other has, and nobody sees more."""
        folder = new_folder(self)
        store = self.open(folder=folder)
        granted: dict[tuple[str, str], int] = {}
        for (sender, to), kind in done:
            if kind == "remove":
                try:
                    self.act("remove", sender, to, store=store)
                except Refused:
                    continue
                granted[sender, to] = NO
                if granted.get((to, sender)) == YES:
                    granted[to, sender] = NO
                continue
            self.act("send", sender, to, kind, "", store=store)
            pair = (sender, to) if kind in ("subscribe", "unsubscribe") else (to, sender)
            granted[pair] = half(granted.get(pair, NO), kind)
        for (watcher, watched), state in granted.items():
            with store.database.open() as connection:
                book = Book(connection, 0, "", keep=False)
                self.assertEqual(state, book.contact(watcher, watched).state.mine)
                self.assertEqual(state, book.contact(watched, watcher).state.theirs)
            self.assertEqual(state == YES, watcher in store.watchers(watched))
            self.assertEqual(state == YES, watched in store.watched(watcher))


class StoreTests(House):
    """The file."""

    def test_kept(self) -> None:
        """What was made is there after a restart, and nobody else can read it."""
        self.befriend("alice", "bob")
        self.store.close()
        again = self.open()
        self.assertEqual(["bob"], again.watchers("alice"))
        self.assertEqual({"alice", "bob"}, again.owners)
        self.assertEqual(0o600, (self.folder / "contacts.sqlite3").stat().st_mode & 0o777)

    def test_each_by_itself(self) -> None:
        """One that fails undoes what it has written, and no other."""

        def fails(book: Book) -> None:
            book.write("bob", Contact("x", listed=True))
            raise Refused("not-allowed")

        (_, refused, _), rows = self.store.apply(
            [
                lambda book: book.write("alice", Contact("x", listed=True)),
                fails,
                lambda book: book.write("carol", Contact("x", listed=True)),
            ]
        )
        self.assertIsInstance(refused, Refused)
        self.assertEqual(["alice", "carol"], [row[1] for row in rows])
        self.assertEqual([], self.store.roster("bob"))
        self.assertEqual(1, len(self.store.roster("carol")))

    def test_clock_set_back(self) -> None:
        """A version never comes twice, whatever the clock says."""
        versions = set()
        for name in ("a", "b", "a"):
            self.act("name", "alice", "bob", name, ())
            versions.add(self.store.version("alice"))
        self.assertEqual(3, len(versions))

    def test_readers_do_not_wait(self) -> None:
        """While another process writes, what is there is read."""
        self.befriend("alice", "bob")
        other = sqlite3.connect(self.store.database.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertEqual(["bob"], self.store.watchers("alice"))


class ChangesTests(SynchronousTestCase):
    """How changes come to the disk."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = ContactStore(new_folder(self), lambda: 1_700_000_000.0)
        self.addCleanup(self.store.close)
        self.changes = Changes(self.clock, self.store, SlowWork(Threads()))
        self.made: list[str] = []

    def ask(self, account: str, what: str = "") -> Deferred[None]:
        """A change that says that it was made."""
        return self.changes.ask(account, lambda _: self.made.append(account + what))

    def test_one_at_a_time(self) -> None:
        """Of a user one in each transaction, of others too."""
        for what in "123":
            self.ask("mallory", what)
        self.ask("alice")
        self.assertEqual(["mallory1"], self.made)
        self.clock.advance(PAUSE)
        self.assertEqual(["mallory1", "mallory2", "alice"], self.made)
        self.clock.advance(PAUSE)
        self.assertEqual(4, len(self.made))

    def test_bounded(self) -> None:
        """Who asks for too much is refused; others are not."""
        for _ in range(MOST_WAITING + 1):
            self.ask("mallory")
        refused = self.failureResultOf(self.ask("mallory"), Refused).value
        self.assertEqual("resource-constraint", refused.condition)
        self.assertNoResult(self.ask("alice"))

    def test_unusable(self) -> None:
        """All that were to be made fail, it is told once, and the next may be made."""
        (self.store.database.path).write_bytes(b"x" * 4096)
        asked = self.changes.ask("alice", lambda book: book.block("alice", "x", active=True))
        self.failureResultOf(asked, StoreUnusable)
        self.clock.advance(PAUSE)
        self.failureResultOf(self.ask("bob"), StoreUnusable)
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))

    def test_finished(self) -> None:
        """At the end all that was asked for is made."""
        self.successResultOf(self.changes.finish())
        for _ in range(3):
            self.ask("alice")
        finished = self.changes.finish()
        self.assertNoResult(finished)
        for _ in range(4):
            self.clock.advance(PAUSE)
        self.successResultOf(finished)
        self.assertEqual(3, len(self.made))
