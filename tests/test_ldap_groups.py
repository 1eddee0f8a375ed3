"""Groups of an LDAP directory: read by a sync, and told the XMPP server."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.callbridge.directories.own import OwnGroups
from cms.callbridge.directories.synced import Difference, SyncedUser, SyncOutcome
from cms.callbridge.ldap import groups as module
from cms.callbridge.ldap import sync
from cms.callbridge.ldap.connection import FoundEntry
from cms.callbridge.ldap.groups import CollectedGroups, comparable
from cms.callbridge.login.groups import AGAIN, ANSWER_TIMEOUT, SETTLED, GroupTeller
from cms.linkprotocol import groups as gp
from cms.linkprotocol.groups import Group
from cms.process.threads import SlowWork, TooMuchWork
from cms.xmlstream.replies import error_reply, result_reply
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from tests.ldapserver import BASE
from tests.ldapstage import AtOnce
from tests.support import observe_log
from tests.test_ldap_sync import SyncCase
from tests.xmppserver import DOMAIN

CB1 = f"cb1.{DOMAIN}"


def entry(dn: str, **values: str | list[str]) -> FoundEntry:
    """As it is read."""
    lists = {name: [each] if isinstance(each, str) else each for name, each in values.items()}
    named = {name.lower(): tuple(v.encode() for v in each) for name, each in lists.items()}
    return FoundEntry(dn, named)


class NamesTests(SynchronousTestCase):
    """RFC 4514."""

    def test_comparable(self) -> None:
        """One entry has one form, however its DN is written; two have two."""
        one, same = (
            "cn=Zoë\\, Ann+uid=z, OU=People,dc=x",
            "CN=zo\\C3\\AB\\2c ann + uid=z,ou=people, DC=X",
        )
        self.assertEqual(comparable(one), comparable(same))
        different = ("cn=a,dc=x", "cn=a\\,dc=x", "cn=a,dc=x,dc=x", "cn=b,dc=x", "a,dc=x", "")
        self.assertEqual(len(different), len({comparable(dn) for dn in different}))


class MembersTests(SynchronousTestCase):
    """Who is in a group."""

    def setUp(self) -> None:
        """Four users, one of whom is disabled."""
        self.users = {
            name: SyncedUser(name, f"cn={name},{BASE}", name, name == "off")
            for name in ("anna", "bert", "carl", "off")
        }
        self.uids = {f"{name[0]}1": name for name in self.users}
        self.collected = CollectedGroups("ad")

    def found(self, *entries: FoundEntry) -> dict[str, tuple[str, ...]]:
        """Who is in each; C{reasons} is who is not, and why."""
        self.collected.take(entries)
        made, left_out = self.collected.groups(self.users, self.uids)
        self.reasons = [each.reason for each in left_out]
        return {group.name: group.members for group in made}

    def dns(self, *names: str) -> list[str]:
        """Of users, as another program writes them."""
        return [f"CN={name.upper()}, {BASE}" for name in names]

    def test_ways(self) -> None:
        """By C{member}, by C{uniqueMember}, by C{memberUid}; who is no user is passed over."""
        unique = [self.dns("bert")[0] + "#'01'B", *self.dns("carl", "nobody")]
        found = self.found(
            entry("cn=1", cn="Ones", member=self.dns("anna", "bert", "off")),
            entry("cn=2", cn="Twos", uniqueMember=unique),
            entry("cn=3", cn="Threes", memberUid=["a1", "c1", "x9", "o1"]),
            entry("cn=4", cn="Alone", memberUid=["a1", "x9"]),
        )
        self.assertEqual(
            {"Ones": ("anna", "bert"), "Twos": ("bert", "carl"), "Threes": ("anna", "carl")}, found
        )
        self.assertEqual([], self.reasons)

    def test_ids(self) -> None:
        """The id is the group's, whatever its name and members are, and this directory's."""
        ids = set()
        for directory, dn, name in (
            *(("ad", "cn=x,dc=y", "A"), ("ad", "CN=X, dc=Y", "B")),
            *(("ad", "cn=z,dc=y", "A"), ("other", "cn=x,dc=y", "A")),
        ):
            collected = CollectedGroups(directory)
            collected.take([entry(dn, cn=name, memberUid=["a1", "b1"])])
            ((group,), _) = collected.groups(self.users, self.uids)
            ids.add(group.id)
        self.assertEqual(3, len(ids))

    def test_left_out(self) -> None:
        """What is too much or cannot be shown is left out with a reason."""
        self.patch(module, "MOST_MEMBERS", 2)
        several = ["a1", "b1", "c1"]
        self.assertEqual(
            {}, self.found(entry("cn=1", cn="Big", memberUid=several), entry("cn=2", cn="\n" * 3))
        )
        self.assertIn("has 3 members, and at most 2", self.reasons[1])
        self.assertIn("no cn that can be shown", self.reasons[0])
        self.collected = CollectedGroups("ad")
        ranged = FoundEntry("cn=3", {"cn": (b"AD",), "member;range=0-1499": (b"cn=anna",)})
        self.assertEqual({}, self.found(ranged))
        self.assertEqual(["of the group's members only the first 1 were read"], self.reasons)
        self.patch(module, "MOST_BYTES", 7)
        self.collected = CollectedGroups("ad")
        self.assertEqual({}, self.found(entry("cn=1", cn="Long", memberUid=several[:2])))

    def test_unread(self) -> None:
        """A group that is too large says so, and all others are read."""
        large = FoundEntry("cn=1", {}, "it has more than 20000 values")
        found = self.found(large, entry("cn=2", cn="Twos", memberUid=["a1", "b1"]))
        self.assertEqual({"Twos": ("anna", "bert")}, found)
        self.assertEqual(["it has more than 20000 values"], self.reasons)

    def test_too_many_members(self) -> None:
        """Too many members of all groups together are not kept."""
        self.patch(module, "MOST_NAMED", 3)
        several = entry("cn=1", cn="Ones", memberUid=["a1"], member=self.dns("bert"))
        self.assertEqual({"Ones": ("anna", "bert")}, self.found(several))
        self.assertEqual("", self.collected.problem)
        self.assertEqual({}, self.found(several))
        self.assertEqual("they have more than 3 members together", self.collected.problem)

    def test_too_long_names(self) -> None:
        """What is kept of all groups has a limit in bytes as well; most members are in many."""
        self.patch(module, "MOST_NAMED_BYTES", 4)
        found = CollectedGroups("staff")
        twice = FoundEntry("cn=a", {"cn": (b"a",), "member": (b"ab", b"cd")})
        found.take([twice, twice])
        self.assertEqual("", found.problem)
        found.take([FoundEntry("cn=b", {"cn": (b"b",), "memberuid": (b"e",)})])
        self.assertEqual("they have more than 4 bytes of names together", found.problem)

    def test_often(self) -> None:
        """Who is in too many groups is in the first of them by name; the others stay there."""
        self.patch(module, "MOST_OF_USER", 1)
        found = self.found(
            entry("cn=2", cn="b", memberUid=["a1", "b1", "c1"]),
            entry("cn=1", cn="A", memberUid=["a1", "o1", "b1"]),
        )
        self.assertEqual({"A": ("anna", "bert")}, found)
        self.assertEqual(2, len(self.reasons))
        self.assertIn("is in 1 groups already", self.reasons[0])


class SyncTests(SyncCase):
    """With the users."""

    def groups(self) -> dict[str, tuple[str, ...]]:
        """What is known."""
        return {group.name: group.members for group in self.store.groups(["ldap"])}

    def test_off(self) -> None:
        """Not without C{groups_base}."""
        self.dc1.add(f"cn=all,{BASE}", cn="All", memberUid=["u1", "u2"])
        self.assertEqual(0, self.run_it().groups)
        self.assertEqual({}, self.groups())
        self.assertNotIn("uid", self.stage.directory.attributes[1:])

    def test_read(self) -> None:
        """Page by page; who goes is in none any more, and a directory that goes has none."""
        self.set_up(groups_base=BASE, page_size=2)
        told: list[int] = []
        self.sync._synced = lambda: told.append(len(self.groups()))
        for number in range(5):
            self.dc1.add(f"cn=g{number},{BASE}", cn=f"G{number}", memberUid=["u1", f"u{number}"])
        self.dc1.add(f"cn=both,{BASE}", cn="Both", member=[f"uid=u2,{BASE}", f"uid=u3, {BASE}"])
        self.assertEqual(5, self.run_it().groups)
        self.assertEqual(("u2", "u3"), self.groups()["Both"])
        both = next(each for each in self.store.groups(["ldap"]) if each.name == "Both")
        self.assertEqual({"u2": "U2", "u3": "U3"}, both.shown)
        self.patch(gp, "MOST_BYTES", 7)
        short = next(each for each in self.store.groups(["ldap"]) if each.name == "Both")
        self.assertEqual(({}, both.members), (short.shown, short.members))
        del self.dc1.entries[f"uid=u3,{BASE}"]
        self.assertEqual(3, self.run_it().groups)
        self.assertEqual([5, 3], told)
        self.assertEqual([], self.store.groups(["other"]))
        self.store.forget(["other"])
        self.assertEqual({}, self.groups())

    def test_ranges(self) -> None:
        """Members that the directory keeps back are asked for, so long as there are some."""
        self.set_up(groups_base=BASE)
        members = [f"uid=u{number},{BASE}" for number in range(5)]
        group = {"objectClass": "group"}
        uids = ["u1", "u2"]
        self.dc1.add(f"cn=all,{BASE}", **group, cn="All", member=[*members, "cn=x"], memberUid=uids)
        self.dc1.add(f"cn=few,{BASE}", **group, cn="Few", member=members[:3])
        self.dc1.most_values = 2
        self.assertEqual(2, self.run_it().groups)
        found = {name: sorted(each) for name, each in self.groups().items()}
        everybody = [f"u{number}" for number in range(5)]
        self.assertEqual({"All": everybody, "Few": everybody[:3]}, found)
        held, self.dc1.ranged_code = self.groups(), 32
        outcome = self.run_it()
        self.assertEqual((0, 2), (outcome.groups, outcome.left_out))
        self.dc1.ranged_code = 50
        outcome = self.run_it()
        self.assertEqual(1, outcome.left_out)
        self.assertIn("groups stay as they were", self.store.left_out("ldap")[0].reason)
        self.dc1.ranged_code = 0
        self.assertEqual(2, self.run_it().groups)
        self.assertEqual(held, self.groups())
        self.patch(sync, "MOST_RANGES", 2)
        outcome = self.run_it()
        self.assertEqual((1, 1), (outcome.groups, outcome.left_out))
        (left_out,) = self.store.left_out("ldap")
        self.assertEqual(f"cn=all,{BASE}", left_out.entry)
        self.assertIn("only the first", left_out.reason)

    def test_slow_ranges(self) -> None:
        """All groups together have their time; users are users for all that."""
        self.set_up(groups_base=BASE, page_size=100, sync_timeout=10)
        self.patch(sync, "MOST_GROUPS", 100)
        members = [f"cn={number}" for number in range(20)]
        self.dc1.add(f"cn=all,{BASE}", objectClass="group", cn="All", member=members)
        self.dc1.most_values, wait = 1, self.stage.clock.advance
        self.patch(type(self.dc1), "ranged_code", property(lambda _: wait(9)))
        self.assertEqual(1, self.run_it().left_out)
        self.assertIn("did not answer within 30 s", self.store.left_out("ldap")[0].reason)
        self.assertEqual(10, len(self.store.users("ldap")))

    def test_large_groups(self) -> None:
        """Those of a page fit into an answer, however large each is."""
        self.set_up(groups_base=BASE, page_size=100)
        members = [f"cn={number:x<900}" for number in range(1_000)]
        for number in range(20):
            self.dc1.add(f"cn={number},{BASE}", cn=f"g{number}", member=[*members, *self.two])
        outcome = self.run_it()
        self.assertEqual((20, 0), (outcome.groups, outcome.left_out))

    @property
    def two(self) -> list[str]:
        """The DNs of two people."""
        return [f"uid=u{number},{BASE}" for number in (1, 2)]

    def test_gone_meanwhile(self) -> None:
        """A group that is gone before all its members were read is left out."""
        collected = CollectedGroups("ad")
        ranged = entry("cn=1", **{"cn": "Gone", "member;range=0-0": f"uid=u1,{BASE}"})
        collected.take([ranged])
        self.assertEqual(("cn=1", ("member;range=1-*",)), collected.unread())
        collected.take_more([])
        self.assertEqual(("", ()), collected.unread())
        _, ((left_out),) = collected.groups({}, {})
        self.assertIn("only the first 1 were read", left_out.reason)

    def test_not_read(self) -> None:
        """What cannot be read stays as it was, and users are users for all that."""
        self.set_up(groups_base=BASE, page_size=100)
        self.dc1.add(f"cn=both,{BASE}", cn="Both", memberUid=["u2", "u3"])
        self.run_it()
        self.dc1.person("new")
        self.dc1.pages, self.dc1.cut_after = 0, 1
        outcome = self.run_it()
        self.assertEqual((11, 1), (outcome.users, outcome.left_out))
        self.assertEqual({"Both": ("u2", "u3")}, self.groups())
        (left_out,) = self.store.left_out("ldap")
        self.assertIn("stay as they were", left_out.reason)


class OwnTests(SyncCase):
    """C{OwnGroups}: what a server has to know."""

    def read(self, *directories: str, component: str = CB1) -> list[str] | None:
        """The names of groups."""
        found = OwnGroups(self.store, directories, component).read()
        return None if found is None else [each.name for each in found]

    def confirm(self, *directories: str) -> None:
        """The server knows none."""
        OwnGroups(self.store, directories, CB1).none_told()

    def synced(self, *names: str, directory: str = "ldap") -> None:
        """A sync has found these groups."""
        outcome = SyncOutcome(directory, "2026-11-29T05:00:00+00:00", 0.1)
        groups = [Group(f"{n:016x}", name, ("a", "b")) for n, name in enumerate(names)]
        self.store.replace(outcome, [], Difference(), [], groups)

    def test_confirmed(self) -> None:
        """Only when the server has confirmed it nothing is to be told, and until there are some."""
        self.assertEqual([], self.read())
        self.synced("Board")
        self.assertEqual(["Board"], self.read("ldap"))
        self.assertEqual([], self.read())
        self.confirm()
        self.assertEqual([None, None], [self.read(), self.read("ldap")])
        self.assertEqual([], self.read(component=f"cb2.{DOMAIN}"))
        self.synced()
        self.assertIsNone(self.read("ldap"))
        self.synced("Choir")
        self.synced()
        self.assertEqual([], self.read("ldap"))

    def test_found_meanwhile(self) -> None:
        """Groups that a sync finds while the server confirms are told."""
        self.synced("Board")
        self.synced("Old", directory="other")
        self.confirm("ldap")
        self.assertEqual([["Board"], [], []], [self.read("ldap"), self.read("other"), self.read()])
        self.synced()
        self.assertEqual([], self.read("ldap"))

    def test_older_version(self) -> None:
        """One that knows nothing of confirmations has stored some since."""
        self.confirm()
        with self.store.open() as connection:
            connection.execute("INSERT INTO groups VALUES ('ldap', 'x', 'Board', '[]')")
        self.assertEqual([], self.read())


class Server:
    """The other end of a link: it answers what it is asked at once, unless it is silent."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.known: dict[str, Group] = {}
        self.asked: list[gp.Message] = []
        self.refuses: Callable[[gp.Message], str] = lambda _: ""
        self.silent = False
        self.requests = Requests(clock, self._hear, own=CB1)

    def _hear(self, stanza: Stanza) -> None:
        message = gp.parse(stanza.child)
        self.asked.append(message)
        if not self.silent:
            self.clock.callLater(0, self._answer, stanza, message)

    def _answer(self, stanza: Stanza, message: gp.Message) -> None:
        condition = self.refuses(message)
        if condition:
            reply = error_reply(stanza, StanzaError(condition))
            assert reply is not None
            self.requests.take(reply)
        elif isinstance(message, gp.Ask):
            rows = sorted((i, g.digest) for i, g in self.known.items() if i > message.after)
            answer = gp.Known(tuple(rows[: gp.PAGE]), len(rows) > gp.PAGE)
            self.requests.take(written_result(stanza, answer.to_xml()))
        else:
            assert isinstance(message, Group)
            if message.members:
                self.known[message.id] = message
            else:
                del self.known[message.id]
            self.requests.take(result_reply(stanza))


class TellerTests(SynchronousTestCase):
    """C{GroupTeller}."""

    def setUp(self) -> None:
        """Three groups, and a link that is up."""
        self.clock = Clock()
        self.ours = {f"{n:016x}": Group(f"{n:016x}", f"G{n}", ("a", f"u{n}")) for n in range(3)}
        self.directories, self.busy, self.confirmed = True, False, False
        self.lines: list[Any] = []
        observe_log(self, self.lines.append)
        work: SlowWork = AtOnce()  # type: ignore[assignment]
        self.teller = GroupTeller(
            *(self.clock, lambda: self if self.directories else None, work),
            *(lambda: (DOMAIN, CB1), Random(3)),
        )
        self.server = Server(self.clock)

    def read(self) -> list[Group] | None:
        """What is stored."""
        if self.busy:
            raise TooMuchWork
        return None if self.confirmed else list(self.ours.values())

    def none_told(self) -> None:
        """That the server knows none is stored."""
        self.confirmed = True

    def up(self) -> list[gp.Message]:
        """The link comes up; what is said."""
        self.teller.link_up(self.server)
        self.teller.changed()
        self.assertEqual([], self.said())
        self.teller.named()
        return self.said()

    def said(self) -> list[gp.Message]:
        """What is said until nothing is any more."""
        self.clock.pump([0] * 50)
        said, self.server.asked = self.server.asked, []
        return said

    def faults(self) -> list[str]:
        """What was told of."""
        return [event["fault"] for event in self.lines if event.get("fault")]

    def test_differences(self) -> None:
        """At the start all of them, one after the other, and then what is different."""
        self.assertEqual([gp.Ask(), *self.ours.values()], self.up())
        self.assertEqual(self.ours, self.server.known)
        self.teller.changed()
        self.assertEqual([gp.Ask()], self.said())
        gone, changed, _ = self.ours
        del self.ours[gone]
        self.ours[changed] = Group(changed, "Other", ("a", "b"))
        self.teller.changed()
        self.assertEqual([gp.Ask(), Group(gone, "", ()), self.ours[changed]], self.said())
        self.assertEqual(self.ours, self.server.known)
        self.clock.advance(SETTLED)
        self.teller.changed()
        self.assertEqual([gp.Ask()], self.said())
        self.assertFalse(self.confirmed)
        self.teller.link_down()
        self.assertEqual([gp.Ask()], self.up())

    def test_pages(self) -> None:
        """However many the server knows."""
        self.patch(gp, "PAGE", 2)
        self.server.known = dict(self.ours)
        self.assertEqual([gp.Ask(), gp.Ask(f"{1:016x}")], self.up())

    def test_nothing(self) -> None:
        """Without LDAP, and without a link, nobody is asked; without groups nothing is missed."""
        self.teller.changed()
        self.directories = False
        self.assertEqual([], self.up())
        self.directories, self.ours = True, {}
        self.server.refuses = lambda _: "service-unavailable"
        self.assertEqual([gp.Ask()], self.up())
        self.assertEqual([], self.faults())

    def test_none_any_more(self) -> None:
        """
        The server is told that there are none, and asked once more when it has come back to its
        cluster for sure; then no link asks again.
        """
        first, *_ = self.server.known = dict(self.ours)
        self.ours = {}
        gone = [Group(each, "", ()) for each in self.server.known]
        self.assertEqual([gp.Ask(), *gone], self.up())
        self.assertEqual({}, self.server.known)
        self.server.known = {first: Group(first, "G0", ("a", "b"))}  # what another server had
        self.clock.advance(1.25 * AGAIN)
        self.assertEqual([gp.Ask(), Group(first, "", ())], self.said())
        self.assertTrue(self.confirmed)
        self.teller.link_down()
        self.assertEqual([], self.up())
        self.assertEqual([], self.faults())

    def test_none_not_confirmed(self) -> None:
        """A link that is lost too soon, and a server that refuses, have confirmed nothing."""
        self.ours = {}
        for _ in range(2):
            self.assertEqual([gp.Ask()], self.up())
            self.teller.link_down()
        self.clock.advance(1.25 * AGAIN)
        self.assertEqual([], self.said())
        first = f"{0:016x}"
        self.server.known = {first: Group(first, "G0", ("a", "b"))}
        self.server.refuses = lambda m: "internal-server-error" if isinstance(m, Group) else ""
        self.assertIn(gp.Ask(), self.up())
        self.clock.advance(SETTLED)
        self.teller.changed()
        self.said()
        self.assertFalse(self.confirmed)
        self.server.refuses = lambda _: ""
        self.teller.changed()
        self.said()
        self.assertEqual(({}, True), (self.server.known, self.confirmed))

    def test_refused(self) -> None:
        """A server that takes none is told of once; of one that is too much, the others go on."""
        self.server.refuses = lambda _: "service-unavailable"
        self.assertEqual([gp.Ask()], self.up())
        self.assertEqual([faults.GROUPS_REFUSED.name], self.faults())
        first = next(iter(self.ours))
        self.server.refuses = lambda m: "resource-constraint" if m == self.ours[first] else ""
        self.teller.changed()
        self.said()
        self.assertEqual(2, len(self.server.known))
        self.assertEqual(2, len(self.faults()))
        self.assertIn("G0: resource-constraint", self.lines[-1]["cause"])

    def test_room_for_one(self) -> None:
        """A group that has room only when another one is told, since a member leaves that."""
        first, *_, last = self.ours
        self.server.refuses = lambda m: (
            "resource-constraint" if m == self.ours[first] and last not in self.server.known else ""
        )
        self.up()
        self.assertEqual((self.ours, []), (self.server.known, self.faults()))

    def test_again(self) -> None:
        """What changes while they are told is told after it."""
        self.teller.link_up(self.server)
        self.teller.named()
        self.teller.changed()
        self.teller.changed()
        self.assertEqual([gp.Ask(), *self.ours.values(), gp.Ask()], self.said())

    def test_silent(self) -> None:
        """A server that does not answer is asked again, later."""
        self.server.silent = True
        self.assertEqual([gp.Ask()], self.up())
        self.clock.advance(ANSWER_TIMEOUT + 1)
        self.assertEqual([], self.said())
        self.server.silent = False
        self.clock.advance(1.25 * AGAIN)
        self.said()
        self.assertEqual(self.ours, self.server.known)
        self.busy = True
        self.teller.changed()
        self.said()
        self.teller.link_down()
        self.clock.advance(ANSWER_TIMEOUT + 1)  # the look for answers that are late
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_lost(self) -> None:
        """A link that ends amid it: the next begins anew."""
        self.server.silent = True
        self.up()
        self.teller.link_down()
        self.server.requests.lost()
        self.server = Server(self.clock)
        self.assertEqual([gp.Ask(), *self.ours.values()], self.up())
