"""The spaces of a Callbridge: what they are, their store, their API and their commands."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.commonapi import API
from cms.callbridge.spaces import store as stores
from cms.callbridge.spaces.administration import SpaceAdministration
from cms.callbridge.spaces.directory import LocalSpaces
from cms.callbridge.spaces.model import (
    PERMISSIONS,
    USUAL_PERMISSIONS,
    Gone,
    Space,
    SpaceError,
    checked_call_id,
    checked_name,
    checked_passcode,
    member_address,
    prepared_uri,
)
from cms.callbridge.spaces.store import SpaceStore
from cms.state.database import StoreError
from tests.adminclient import Answer, Client, FakeCallbridge, front
from tests.commandline import CommandLineTests
from tests.support import new_folder, observe_log
from tests.test_admin_login import PoolClock

DOMAIN, COMPONENT = "meet.example.com", "cb1.meet.example.com"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
PASSCODE = "471147114711"
SPACES = f"{API}/coSpaces"


class ModelTests(SynchronousTestCase):
    """What may be written into a space."""

    def refused(self, reason: str, check: Callable[[str], str], *texts: str) -> None:
        """None of the texts will do; the refusal does not say them again."""
        for text in texts:
            problem = self.assertRaises(SpaceError, check, text)
            self.assertEqual(reason, problem.reason, text)
            self.assertTrue(problem.cure)

    def test_names(self) -> None:
        """Up to 200 characters that can be shown, in one form of Unicode, without ends."""
        self.assertEqual("Caf\u00e9", checked_name("  Cafe\u0301 "))
        self.assertEqual("x" * 200, checked_name("x" * 200))
        self.refused("nameInvalid", checked_name, "", "  ", "x" * 201, "a\nb", "a\x00", "\u202ea")

    def test_uris(self) -> None:
        """Prepared as the local part of an address is."""
        self.assertEqual("daily.team", prepared_uri("Daily.Team"))
        self.assertEqual("stra\u00dfe".replace("\u00df", "ss"), prepared_uri("Stra\u00dfe"))
        bad = ("", "a@b", "a/b", "a b", "a'b", "<", "\x07", "x" * 201, "\ufb03" * 100, "\u0221")
        self.refused("uriInvalid", prepared_uri, *bad)

    def test_digits(self) -> None:
        """Call IDs and passcodes are ASCII digits; an empty passcode is none."""
        self.assertEqual("0123", checked_call_id("0123"))
        self.assertEqual("", checked_passcode(""))
        self.assertEqual("1" * 32, checked_passcode("1" * 32))
        bad = ("123", "1" * 33, "12a4", " 1234", "\u0661\u0662\u0663\u0664", "-123")
        self.refused("callIdInvalid", checked_call_id, "", *bad)
        self.refused("passcodeInvalid", checked_passcode, *bad)

    def test_passcode_is_not_said_again(self) -> None:
        """Why a passcode is refused does not hold it, and no space shows it by chance."""
        problem = self.assertRaises(SpaceError, checked_passcode, "geheim-4711")
        self.assertNotIn("4711", f"{problem} {problem.cause} {problem.cure}")
        space = Space("i", "n", "u", "c", "471147", "s3cret", True, "now")
        self.assertNotIn("471147", repr(space))
        self.assertNotIn("s3cret", repr(space))

    def test_addresses(self) -> None:
        """A member is an account, of any domain."""
        for text in ("Alice", "ALICE@meet.example.com"):
            self.assertEqual(ALICE, member_address(text, DOMAIN))
        self.assertEqual("a@b.example", member_address("a@b.example", DOMAIN))
        for bad in ("", "@x", "a@b@c", "alice@x/phone", "a b", "x" * 1024):
            problem = self.assertRaises(SpaceError, member_address, bad, DOMAIN)
            self.assertEqual("userJidInvalid", problem.reason)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """It is refused, or what comes out of it comes out of that again."""
        for check in (checked_name, prepared_uri, checked_call_id, checked_passcode):
            try:
                checked = check(text)
            except SpaceError:
                continue
            self.assertEqual(checked, check(checked))


class StoreTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        """An empty one, with randomness that can be foretold."""
        self.folder = new_folder(self)
        self.numbers = iter(range(7, 1_000))
        self.store = SpaceStore(self.folder, below=lambda _: next(self.numbers))

    def refused(self, reason: str, function: Callable[..., object], *given: Any, **k: Any) -> None:
        """It is not done."""
        self.assertEqual(reason, self.assertRaises(SpaceError, function, *given, **k).reason)

    def test_private(self) -> None:
        """Only its owner reads it."""
        for path in self.folder.glob("spaces*"):
            self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode), path)

    def test_an_existing_state_directory(self) -> None:
        """Where only users were, it is made beside them; they stay as they are."""
        from cms.callbridge.directories.store import UserStore  # noqa: PLC0415

        folder = new_folder(self)
        UserStore(folder).set_password("alice", "x", iterations=1)
        self.assertEqual(([], 0), SpaceStore(folder).spaces())
        self.assertEqual(["alice"], [user.name for user in UserStore(folder).users()])

    def test_made(self) -> None:
        """Nine digits for a call ID, which is the URI too; 128 bits for the link; open."""
        space = self.store.add("Team")
        self.assertEqual(("000000007", "000000007"), (space.call_id, space.uri))
        self.assertEqual(22, len(space.secret))
        self.assertEqual(("", True, 0), (space.passcode, space.non_member_access, 0))
        self.assertEqual(4, UUID(space.id).version)
        self.assertNotEqual(space.secret, self.store.add("Team").secret)

    def test_call_ids_that_are_taken(self) -> None:
        """One that is in use, as a URI too, is not made again; in the end it says so."""
        store = SpaceStore(new_folder(self), below=lambda _: 5)
        store.add("a", uri="000000005", call_id="1234")
        self.refused("noCallIdFree", store.add, "b")
        self.assertEqual(1, store.spaces()[1])

    def test_found(self) -> None:
        """By id, URI in any case, and call ID; anything else is not there."""
        space = self.store.add("Team", uri="Team.Room", call_id="4711")
        for key in (space.id, space.id.upper(), "team.room", "TEAM.ROOM", "4711"):
            self.assertEqual(space, self.store.space(key))
        for key in ("", "Team", "%", space.secret, "4711 "):
            self.assertEqual(
                "coSpaceDoesNotExist", self.assertRaises(Gone, self.store.space, key).reason
            )

    def test_unique(self) -> None:
        """A URI or call ID belongs to one space or access method; nothing is half done."""
        one = self.store.add("a", uri="one", call_id="1111")
        two = self.store.add("b", uri="two", call_id="2222")
        self.refused("duplicateCoSpaceUri", self.store.add, "c", uri="ONE")
        self.refused("duplicateCoSpaceId", self.store.add, "c", call_id="2222")
        self.refused("duplicateCoSpaceUri", self.store.change, two.id, name="x", uri="one")
        self.refused("duplicateCoSpaceId", self.store.add_access_method, one.id, call_id="2222")
        self.store.add_access_method(one.id, uri="door", call_id="3333")
        self.refused("duplicateCoSpaceUri", self.store.add, "c", uri="door")
        self.assertEqual(["a", "b"], [space.name for space in self.store.spaces()[0]])

    def test_changed(self) -> None:
        """What is given, and nothing else; a passcode can be taken away, a secret be renewed."""
        space = self.store.add("a", uri="one", passcode="1234")
        changed = self.store.change("one", name="b", non_member_access=False)
        self.assertEqual(
            ("b", "one", "1234", False),
            (changed.name, changed.uri, changed.passcode, changed.non_member_access),
        )
        self.assertEqual(space.secret, changed.secret)
        changed = self.store.change("one", passcode="", regenerate_secret=True, uri="two")
        self.assertEqual(("two", ""), (changed.uri, changed.passcode))
        self.assertNotEqual(space.secret, changed.secret)
        self.refused("passcodeInvalid", self.store.change, "two", passcode="x")
        self.assertRaises(Gone, self.store.change, "one", name="c")

    def test_listed(self) -> None:
        """By name, in parts, with a filter that is no pattern."""
        for name in ("b", "a", "100%", "c_d"):
            self.store.add(name, call_id=None)
        names = lambda *given: [space.name for space in self.store.spaces(*given)[0]]  # noqa: E731
        self.assertEqual(["100%", "a", "b", "c_d"], names())
        self.assertEqual(["a", "b"], names("", 1, 2))
        self.assertEqual((["100%"], 1), (names("%"), self.store.spaces("%")[1]))
        self.assertEqual(["c_d"], names("C_D"))
        self.assertEqual(4, self.store.spaces("", 0, 1)[1])

    def test_members(self) -> None:
        """Added once, changed, deleted; gone with the space."""
        self.store.add("a", uri="one")
        member = self.store.add_member("one", ALICE)
        self.assertEqual(USUAL_PERMISSIONS, member.permissions)
        self.assertFalse(member.moderates)
        self.refused("duplicateCoSpaceUser", self.store.add_member, "one", ALICE)
        changed = self.store.change_member("one", ALICE, ["canAddRemoveMember"])
        self.assertTrue(changed.moderates)
        self.assertEqual(changed, self.store.member("one", member.id))
        self.refused("permissionInvalid", self.store.change_member, "one", ALICE, ["canFly"])
        self.store.add_member("one", BOB)
        self.assertEqual(([ALICE, BOB], 2), ([m.jid for m in self.store.members("one")[0]], 2))
        self.assertEqual([BOB], [m.jid for m in self.store.members("one", "BOB")[0]])
        self.store.delete_member("one", BOB)
        self.assertRaises(Gone, self.store.delete_member, "one", BOB)
        other = self.store.add("b", uri="two")
        self.assertRaises(Gone, self.store.member, other.id, member.id)
        self.store.delete("one")
        with self.store.open() as connection:
            for table in ("members", "bans"):
                left = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
                self.assertEqual((0,), left)
            self.assertEqual((1,), connection.execute("SELECT count(*) FROM ways").fetchone())

    def test_access_methods(self) -> None:
        """Further ways, each with a call ID, passcode and secret of its own."""
        space = self.store.add("a", uri="one", passcode="1234")
        id_ = self.store.add_access_method("one", passcode="5678")
        (method,) = self.store.access_methods("one")
        self.assertEqual((id_, "", "5678"), (method.id, method.uri, method.passcode))
        self.assertNotIn(method.secret, (space.secret, ""))
        self.assertEqual(1, self.store.space("one").access_methods)
        self.store.change_access_method("one", id_, uri="door", passcode="", regenerate_secret=True)
        (changed,) = self.store.access_methods("one")
        self.assertEqual(("door", ""), (changed.uri, changed.passcode))
        self.assertNotEqual(method.secret, changed.secret)
        other = self.store.add("b", uri="two")
        for key, which in ((other.id, id_), ("one", space.id), ("one", "x")):
            self.assertRaises(Gone, self.store.delete_access_method, key, which)
            self.assertRaises(Gone, self.store.change_access_method, key, which, passcode="")
        self.store.delete_access_method("one", id_)
        self.assertEqual([], self.store.access_methods("one"))
        self.assertEqual(space.call_id, self.store.space("one").call_id)

    def test_limits(self) -> None:
        """Of everything there are only so many."""
        for name in ("MOST_SPACES", "MOST_MEMBERS", "MOST_ACCESS_METHODS", "MOST_BANS"):
            self.patch(stores, name, 1)
        space = self.store.add("a", uri="one")
        self.refused("limitReached", self.store.add, "b")
        self.store.add_member("one", ALICE)
        self.refused("limitReached", self.store.add_member, "one", BOB)
        self.store.add_access_method("one")
        self.refused("limitReached", self.store.add_access_method, "one")
        self.store.ban(space.id, ALICE)
        self.refused("limitReached", self.store.ban, space.id, BOB)

    def test_newer_version(self) -> None:
        """A file of a newer version is left alone."""
        with self.store.open() as connection:
            connection.execute("PRAGMA user_version = 2")
        said = str(self.assertRaises(StoreError, SpaceStore, self.folder))
        self.assertIn("newer version", said)

    def test_key_of_occupants(self) -> None:
        """It lives in the file."""
        again = SpaceStore(self.folder)
        self.assertEqual(self.store.occupant_key(), again.occupant_key())
        self.assertNotEqual(self.store.occupant_key(), SpaceStore(new_folder(self)).occupant_key())


class EntryTests(SynchronousTestCase):
    """What decides who enters."""

    def setUp(self) -> None:
        """A space with everything."""
        self.clock: Any = PoolClock()
        self.spaces = LocalSpaces(SpaceStore(new_folder(self)), self.clock)
        self.addCleanup(self.spaces.close)
        self.store = self.spaces.store
        self.space = self.store.add("Team", uri="team", passcode="1234")
        self.store.add_member("team", ALICE)

    def entry(self, uri: str = "team", jid: str = ALICE) -> Any:
        """What there is."""
        return self.successResultOf(self.spaces.entry(uri, jid))

    def test_member_and_stranger(self) -> None:
        """Who is a member; which passcodes open."""
        self.store.add_access_method("team", uri="door", passcode="5678")
        entry = self.entry()
        self.assertEqual((ALICE, False), (entry.member.jid, entry.banned))
        self.assertEqual({"1234", "5678"}, set(entry.passcodes))
        self.assertIsNone(self.entry(jid=BOB).member)
        self.assertEqual(self.space.id, self.entry("door").space.id)
        self.assertIsNone(self.entry("nowhere"))
        self.assertNotIn("1234", repr(entry))

    def test_no_passcode(self) -> None:
        """Without a passcode of its own a space asks for none, whatever its further ways do."""
        self.store.add_access_method("team", passcode="5678")
        self.store.change("team", passcode="")
        self.assertEqual((), self.entry().passcodes)

    def test_bans(self) -> None:
        """They are remembered, listed and lifted."""
        self.successResultOf(self.spaces.ban(self.space.id, BOB))
        self.assertTrue(self.entry(jid=BOB).banned)
        self.assertEqual([BOB], self.successResultOf(self.spaces.bans(self.space.id)))
        self.assertTrue(self.successResultOf(self.spaces.unban(self.space.id, BOB)))
        self.assertFalse(self.successResultOf(self.spaces.unban(self.space.id, BOB)))
        self.assertFalse(self.entry(jid=BOB).banned)

    def test_spaces_of(self) -> None:
        """Those of a member, by name."""
        self.store.add("Another", uri="another")
        self.store.add_member("another", ALICE)
        found = self.successResultOf(self.spaces.spaces_of(ALICE))
        self.assertEqual(["Another", "Team"], [space.name for space in found])
        self.successResultOf(self.spaces.ban(found[0].id, ALICE))
        found = self.successResultOf(self.spaces.spaces_of(ALICE))
        self.assertEqual(["Team"], [space.name for space in found])
        self.assertEqual([], self.successResultOf(self.spaces.spaces_of(BOB)))

    def test_locked(self) -> None:
        """A store that somebody holds is asked in a thread, which waits; nothing else does."""
        self.clock.at_once = False
        holder = sqlite3.connect(self.store.path)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        asked: Deferred[Any] = self.spaces.entry("team", ALICE)
        self.assertNoResult(asked)
        holder.rollback()
        holder.close()
        (work,) = self.clock.waiting
        work()
        self.assertEqual("team", self.successResultOf(asked).space.uri)

    def test_damaged(self) -> None:
        """A failure names the file and what mends it."""
        self.spaces.close()
        self.store.path.write_bytes(b"no database" * 1_000)
        failure = self.failureResultOf(self.spaces.entry("team", ALICE), StoreError)
        self.assertIn("spaces.sqlite3", str(failure.value))

    def test_change_is_told(self) -> None:
        """Whoever listens hears of a change when it is made; a listener that fails harms nobody."""
        heard: list[str] = []
        self.spaces.on_change.append(heard.append)
        self.successResultOf(self.spaces.change("i", lambda store: store.change("team", name="x")))
        self.assertEqual(["i"], heard)
        self.failureResultOf(
            self.spaces.change("i", lambda store: store.change("nowhere", name="x")), Gone
        )
        self.assertEqual(["i"], heard)


class APITests(SynchronousTestCase):
    """The API, as its clients meet it."""

    def setUp(self) -> None:
        """A client, and an ear for the log."""
        self.clock: Any = PoolClock()
        self.spaces = LocalSpaces(SpaceStore(new_folder(self)), self.clock)
        self.addCleanup(self.spaces.close)
        role = SpaceAdministration(self.spaces, lambda: (DOMAIN, COMPONENT), lambda _: 3)
        operations = operations_of_callbridge(FakeCallbridge(), self.clock, None, role)
        self.client = Client(self, front(operations, self.clock))
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def ask(self, method: str, path: str, /, *, _status: int = 200, **form: Any) -> Answer:
        """An answer."""
        answer = self.client.ask(method, f"{SPACES}{path}", urlencode(form))
        self.assertEqual(_status, answer.status, answer.body)
        return answer

    def add(self, path: str = "", **form: Any) -> str:
        """The id of what was made."""
        answer = self.ask("POST", path, **form)
        self.assertEqual(b"", answer.body)
        location = answer.headers["location"]
        self.assertEqual(f"{SPACES}{path}/", location[:-36])
        return str(UUID(location[-36:]))

    def json(self, path: str) -> Any:
        """What is there, as JSON."""
        answer = self.client.ask("GET", f"{SPACES}{path}", accept="application/json")
        self.assertEqual(200, answer.status)
        return json.loads(answer.body)

    def refused(self, reason: str, method: str, path: str, **form: Any) -> None:
        """It is refused in exactly the form of the field."""
        framed = f'<?xml version="1.0"?><failureDetails><{reason} /></failureDetails>'
        self.assertEqual(framed.encode(), self.ask(method, path, _status=400, **form).body)

    def test_space(self) -> None:
        """Made, shown in XML as the field has it, listed without what is secret, deleted."""
        id_ = self.add(name="API Test", uri="APItest", callId="4711", passcode=PASSCODE)
        shown = self.ask("GET", f"/{id_}").body.decode()
        self.assertIn(f'<coSpace id="{id_}"><name>API Test</name><uri>apitest</uri>', shown)
        for part in (
            "<callId>4711</callId><nonMemberAccess>true</nonMemberAccess>",
            f"<address>apitest@{COMPONENT}</address><numAccessMethods>0</numAccessMethods>",
            "<autoGenerated>false</autoGenerated>",
            f"<numOccupants>3</numOccupants><passcode>{PASSCODE}</passcode><secret>",
        ):
            self.assertIn(part, shown)
        listed = self.ask("GET", "").body.decode()
        self.assertTrue(listed.startswith('<?xml version="1.0"?><coSpaces total="1"><coSpace id='))
        self.assertNotIn(PASSCODE, listed)
        self.assertNotIn("<secret>", listed)
        self.ask("DELETE", "/apitest")
        self.assertEqual(b'<?xml version="1.0"?><coSpaces total="0" />', self.ask("GET", "").body)
        self.refused("coSpaceDoesNotExist", "GET", f"/{id_}")
        self.refused("coSpaceDoesNotExist", "DELETE", f"/{id_}")

    def test_made_in_json(self) -> None:
        """Who accepts JSON sees at once what was made."""
        answer = self.client.ask("POST", SPACES, "name=a", accept="application/json")
        made = json.loads(answer.body)["coSpace"]
        self.assertEqual(made["id"], answer.headers["location"][-36:])
        self.assertRegex(made["callId"], "^[0-9]{9}$")

    def test_paging(self) -> None:
        """C{limit}, C{offset} and C{filter}; C{total} is of what the filter leaves."""
        for name in "abc":
            self.add(name=name, uri=f"uri-{name}")
        part = self.json("?limit=1&offset=1")["coSpaces"]
        self.assertEqual((3, ["b"]), (part["total"], [s["name"] for s in part["coSpace"]]))
        part = self.json("?filter=uri-c")["coSpaces"]
        self.assertEqual((1, ["c"]), (part["total"], [s["name"] for s in part["coSpace"]]))

    def test_changes(self) -> None:
        """What is given; a passcode is taken away by an empty one; the secret is renewed."""
        id_ = self.add(name="a", passcode=PASSCODE)
        before = self.json(f"/{id_}")["coSpace"]
        self.ask("PUT", f"/{id_}", name="b", nonMemberAccess="False", passcode="")
        self.ask("PUT", f"/{id_}", regenerateSecret="true")
        after = self.json(f"/{id_}")["coSpace"]
        self.assertEqual(
            ("b", False, False),
            tuple(after[n] for n in ("name", "nonMemberAccess", "passcodeNeeded")),
        )
        self.assertNotIn("passcode", after)
        self.assertNotEqual(before["secret"], after["secret"])
        self.refused("nothingToChange", "PUT", f"/{id_}")

    def test_refusals(self) -> None:
        """Each value that cannot be, by its name."""
        self.add(name="a", uri="one", callId="1111")
        refusals: tuple[tuple[str, dict[str, str]], ...] = (
            ("nameMissing", {}),
            ("uriInvalid", {"name": "a", "uri": "a b"}),
            ("callIdInvalid", {"name": "a", "callId": "12x4"}),
            ("passcodeInvalid", {"name": "a", "passcode": "secret"}),
            ("nonMemberAccessInvalid", {"name": "a", "nonMemberAccess": "yes"}),
            ("unknownParameter", {"name": "a", "secret": "chosen"}),
            ("duplicateCoSpaceUri", {"name": "a", "uri": "ONE"}),
            ("duplicateCoSpaceId", {"name": "a", "callId": "1111"}),
        )
        for reason, form in refusals:
            self.refused(reason, "POST", "", **form)

    def test_members(self) -> None:
        """C{coSpaceUsers} with the permissions of the field."""
        space = self.add(name="a", uri="one")
        id_ = self.add(f"/{space}/coSpaceUsers", userJid="Alice", canAddRemoveMember="true")
        shown = self.ask("GET", f"/one/coSpaceUsers/{id_}").body.decode()
        self.assertIn(f'<coSpaceUser id="{id_}"><userJid>{ALICE}</userJid>', shown)
        facts = self.json(f"/{space}/coSpaceUsers/{ALICE}")["coSpaceUser"]
        may = {"canAddRemoveMember", "canPostMessage", "canRemoveSelf"}
        self.assertEqual(may, {name for name in PERMISSIONS if facts[name]})
        self.ask("PUT", f"/{space}/coSpaceUsers/{id_}", canPostMessage="false")
        listed = self.json(f"/{space}/coSpaceUsers?filter=ali")["coSpaceUsers"]
        self.assertEqual(1, listed["total"])
        (facts,) = listed["coSpaceUser"]
        self.assertEqual(may - {"canPostMessage"}, {n for n in PERMISSIONS if facts[n]})
        for reason, method, path, form in (
            ("duplicateCoSpaceUser", "POST", "", {"userJid": "alice"}),
            ("userJidInvalid", "POST", "", {"userJid": "a/b"}),
            ("nothingToChange", "PUT", f"/{id_}", {}),
            ("coSpaceUserDoesNotExist", "PUT", f"/{BOB}", {"canPostMessage": "true"}),
            ("coSpaceUserDoesNotExist", "DELETE", f"/{BOB}", {}),
        ):
            self.refused(reason, method, f"/{space}/coSpaceUsers{path}", **form)
        self.refused("coSpaceDoesNotExist", "GET", "/two/coSpaceUsers")
        self.refused("coSpaceDoesNotExist", "POST", "/two/coSpaceUsers", userJid="bob")
        self.ask("DELETE", f"/{space}/coSpaceUsers/{id_}")
        self.assertEqual(0, self.json(f"/{space}/coSpaceUsers")["coSpaceUsers"]["total"])

    def test_access_methods(self) -> None:
        """C{accessMethods}: passcode and secret are shown with one alone."""
        space = self.add(name="a", uri="one")
        id_ = self.add(f"/{space}/accessMethods", uri="door", callId="9999", passcode=PASSCODE)
        path = f"/{space}/accessMethods"
        shown = self.json(f"{path}/{id_}")["accessMethod"]
        self.assertEqual(
            ("door", "9999", PASSCODE), tuple(shown[n] for n in ("uri", "callId", "passcode"))
        )
        listed = self.json(path)["accessMethods"]
        self.assertEqual([{"id": id_, "uri": "door", "callId": "9999"}], listed["accessMethod"])
        self.assertEqual(1, self.json("/one")["coSpace"]["numAccessMethods"])
        self.ask("PUT", f"{path}/{id_}", passcode="", regenerateSecret="true")
        changed = self.json(f"{path}/{id_}")["accessMethod"]
        self.assertNotIn("passcode", changed)
        self.assertNotEqual(shown["secret"], changed["secret"])
        self.refused("accessMethodDoesNotExist", "DELETE", f"{path}/{space}")
        self.refused("accessMethodDoesNotExist", "GET", f"{path}/{space}")
        self.refused("duplicateCoSpaceId", "POST", path, callId="9999")
        self.ask("DELETE", f"{path}/{id_}")
        self.assertEqual(0, self.json(path)["accessMethods"]["total"])

    def test_nothing_secret_in_the_log(self) -> None:
        """Neither passcode nor link, whether it was taken or refused."""
        id_ = self.add(name="a", passcode=PASSCODE)
        self.refused("passcodeInvalid", "PUT", f"/{id_}", passcode=f"{PASSCODE}x")
        secret = self.json(f"/{id_}")["coSpace"]["secret"]
        self.assertTrue(self.events)
        for event in self.events:
            self.assertNotIn(PASSCODE, repr(event))
            self.assertNotIn(secret, repr(event))

    def test_described(self) -> None:
        """The OpenAPI document has each path, with its parameters and reasons."""
        described = json.loads(self.client.ask("GET", f"{API}/openapi.json").body)
        member = described["paths"][f"{SPACES}/{{id}}/coSpaceUsers/{{user}}"]
        self.assertEqual({"get", "put", "delete"}, member.keys())
        passcode = json.dumps(described["paths"][SPACES]["post"])
        self.assertIn('"writeOnly": true', passcode)
        self.assertIn("duplicateCoSpaceUri", passcode)


class CommandTests(CommandLineTests):
    """C{cms callbridge space} while no daemon runs."""

    def test_life_of_a_space(self) -> None:
        """Made, listed, shown, changed, deleted."""
        base = ("callbridge", "space")
        made = self.facts(*base, "add", "Team", "--uri", "team", "--passcode", PASSCODE)
        self.assertEqual(
            (PASSCODE, "team@cb1.meet.example.com"), (made["passcode"], made["address"])
        )
        listed = self.said(*base, "list")
        self.assertIn(f"{made['callId']}  team@{COMPONENT}  with passcode  Team", listed)
        self.assertNotIn(PASSCODE, listed)
        self.assertIn(PASSCODE, self.said(*base, "show", made["callId"]))
        self.assertIn("no Callbridge runs on it", self.said(*base, "show", "team"))
        changed = self.facts(*base, "set", "team", "--members-only", "--passcode-stdin", text="\n")
        self.assertFalse(changed["nonMemberAccess"])
        self.assertNotIn("passcode", changed)
        renewed = self.facts(*base, "set", "team", "--new-secret")
        self.assertNotEqual(made["secret"], renewed["secret"])
        self.cms(*base, "set", "team", status=2)
        self.assertEqual({"id": made["id"], "deleted": True}, self.facts(*base, "del", "team"))
        line = self.refused(*base, "show", "team", status=1)
        self.assertIn("cms callbridge space list", line)

    def test_members(self) -> None:
        """Added, changed, listed, deleted."""
        base = ("callbridge", "space")
        self.cms(*base, "add", "Team", "--uri", "team")
        member = (*base, "member")
        made = self.facts(*member, "set", "team", "Alice", "--may", "canAddRemoveMember")
        self.assertEqual(
            (ALICE, True, True), (made["userJid"], made["new"], made["canPostMessage"])
        )
        said = self.said(*member, "set", "team", "alice", "--may-not", "canPostMessage")
        self.assertIn(f"{ALICE}  canAddRemoveMember canRemoveSelf", said)
        (listed,) = self.facts(*member, "list", "team")
        self.assertEqual((made["id"], False), (listed["id"], listed["canPostMessage"]))
        shown = self.facts(*base, "show", "team")
        self.assertEqual([listed], shown["coSpaceUsers"])
        self.assertIn("no member", self.refused(*member, "del", "team", "bob", status=1))
        self.cms(*member, "del", "team", "alice")
        self.assertEqual([], self.facts(*member, "list", "team"))
        self.cms(*member, "set", "team", "alice", "--may", "canFly", status=2)

    def test_refused(self) -> None:
        """One line with a cure and without the passcode."""
        base = ("callbridge", "space", "add", "Team")
        line = self.refused(*base, "--passcode", "geheim4711", status=1)
        self.assertNotIn("4711", line)
        self.cms(*base, "--call-id", "4711")
        self.assertIn("callId is in use", self.refused(*base, "--call-id", "4711", status=1))
