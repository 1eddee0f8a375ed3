"""Guests at a Callbridge: who is admitted, the pass to log in with once, and coming back."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms.callbridge.login import visitors as visiting
from cms.callbridge.login.authority import Authority
from cms.callbridge.rooms import doorkeeper, reading
from cms.callbridge.rooms.doorkeeper import Doorkeeper
from cms.callbridge.rooms.finding import CallIds
from cms.client.scram import ScramClient
from cms.linkprotocol import join
from cms.linkprotocol import login as lp
from cms.process.logs import LineLimiter
from cms.process.threads import SlowWork
from cms.state.database import StoreError
from cms.xmlstream.jid import parse_jid
from tests.support import observe_log
from tests.test_login_authority import MemoryDirectory
from tests.test_rooms import ALICE, COMPONENT, DOMAIN, EVE, TEAM, RoomsTests, statuses, to
from tests.test_xmpp_costs import called

PEER, ELSEWHERE = "198.51.100.9", "203.0.113.5"
CODE, WRONG = "47114711", "91827364"


class DoorTests(RoomsTests):
    """A Callbridge with the space "team", which has a passcode, and a door."""

    def setUp(self) -> None:
        """Guests are asked for at the door, and log in at the authority."""
        super().setUp()
        self.store.change("team", passcode=CODE)
        self.store.add("Open", uri="open", call_id="555500000")
        self.space = self.store.space("team")
        self.results: list[str] = []
        random = Random(3)
        self.door = Doorkeeper(
            *(self.spaces, self.visitors, self.rooms.admission.guesses),
            SlowWork(self.clock),
            random,
            nicknames=self.rooms.nicknames,
            where=lambda: (DOMAIN, COMPONENT),
            lines=LineLimiter(self.clock.seconds),
            told=lambda result, *_, **__: self.results.append(result),
        )
        self.directory = MemoryDirectory({"alice": "pencil"})
        self.authority = Authority(
            *(self.clock, self.directory, DOMAIN), visitors=self.visitors, random=random
        )
        self.lines: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"].startswith("cms."):
                self.lines.append(formatEvent(event))

        observe_log(self, observe)

    def ask(self, peer: str = PEER, **given: str) -> Any:
        """What the door says."""
        name = {} if "reentry" in given else {"name": "Bob"}
        return self.successResultOf(self.door.decide(join.Admit(peer, **{**name, **given})))

    def admitted(self, peer: str = PEER, **given: str) -> join.Admitted:
        """It says yes."""
        given = given or {"call_id": self.space.call_id, "passcode": CODE}
        answer = self.ask(peer, **given)
        assert isinstance(answer, join.Admitted), answer
        return answer

    def by_id(self, passcode: str = WRONG, peer: str = PEER, **more: str) -> Any:
        """Somebody comes with the call ID of the team."""
        return self.ask(peer, call_id=self.space.call_id, passcode=passcode, **more)

    def log_in(
        self, guest: join.Admitted, mechanism: str = "SCRAM-SHA-256", password: str = ""
    ) -> lp.Success | lp.Failed:
        """The end of a log-in with a pass."""
        client = ScramClient(mechanism, guest.jid, password or guest.password)
        challenge = self.successResultOf(
            self.authority.start(lp.Start("e", mechanism, client.first(), PEER))
        )
        assert isinstance(challenge, lp.Challenge), challenge
        final = client.final(challenge.payload or b"")
        decided = self.authority.respond(lp.Response("e", final))
        if not decided.called:  # a wrong one of a user is answered late
            self.clock.advance(10)
        answer = self.successResultOf(decided)
        assert isinstance(answer, lp.Success | lp.Failed), answer
        return answer

    def session(self, guest: join.Admitted, resource: str = "web") -> str:
        """A guest has logged in and bound."""
        self.assertIsInstance(self.log_in(guest), lp.Success)
        jid = f"{guest.jid}/{resource}"
        self.begin(jid)
        return jid

    def begin(self, jid: str, *, resumed: bool = False) -> None:
        """The server tells of a session."""
        since = f"2026-11-28T12:00:{len(self.sessions.known):02}Z"
        self.authority.note(lp.SessionBegin(jid, PEER, since, resumed))
        self.sessions.known[jid], self.sessions.peers[jid] = since, PEER

    def nicks(self) -> set[str]:
        """Who is in the room."""
        return {nick for nick, _ in self.rooms.nicknames(self.space.id)}

    def end(self, jid: str) -> None:
        """The server tells of its end."""
        self.authority.note(lp.SessionEnd(jid, "closed"))
        self.sessions.known.pop(jid, None)


class AdmissionTests(DoorTests):
    """Who is admitted, and what he gets."""

    def test_by_call_id(self) -> None:
        """Call ID and passcode: an address for the time being, a pass, a way back."""
        guest = self.admitted()
        local, _, host = guest.jid.partition("@")
        self.assertEqual(DOMAIN, host)
        self.assertTrue(join.is_visitor(local))
        self.assertEqual((TEAM, "Bob", "Team"), (guest.space, guest.nick, guest.title))
        self.assertEqual((60, self.space.call_id), (guest.expires, guest.call_id))
        for secret in (guest.password, guest.reentry):
            self.assertEqual(22, len(secret))  # 128 bits in base64
        self.assertNotEqual(guest.password, guest.reentry)
        other = self.admitted()
        self.assertFalse({guest.jid, guest.password, guest.reentry} & {other.jid, other.password})

    def test_by_link(self) -> None:
        """The link needs neither call ID nor passcode."""
        guest = self.admitted(secret=self.space.secret)
        self.assertEqual((TEAM, "Team"), (guest.space, guest.title))

    def test_without_passcode(self) -> None:
        """A space that has none needs none."""
        guest = self.admitted(call_id="555500000")
        self.assertEqual(f"open@{COMPONENT}", guest.space)

    def test_access_method(self) -> None:
        """A further way in leads to the same space, with a passcode of its own."""
        self.store.add_access_method("team", call_id="777700000", passcode="1234")
        self.assertEqual(TEAM, self.admitted(call_id="777700000", passcode="1234").space)
        self.assertEqual(join.Refused(), self.ask(call_id="777700000", passcode=CODE))

    def test_refused(self) -> None:
        """One form, whatever was wrong; the operator sees what."""
        self.assertEqual(join.Refused(), self.ask(call_id="123123123", passcode=CODE))
        self.assertEqual(join.Refused(), self.by_id(WRONG))
        self.assertEqual(join.Refused(), self.by_id(""))
        self.assertEqual(join.Refused(), self.ask(secret="x" * 22))
        self.store.change("team", non_member_access=False)
        self.assertEqual(join.Refused(), self.by_id(CODE))
        self.assertEqual(join.Refused(), self.ask(secret=self.space.secret))
        expected = ["unknown", "passcode", "passcode", "link", "closed", "closed"]
        self.assertEqual(expected, self.results)
        for reason in set(expected):
            self.assertEqual(expected.count(reason), self.door.figures.results[reason])
            self.assertTrue(any(f"not admitted: {reason}" in line for line in self.lines))

    def test_names(self) -> None:
        """A nickname is free, whoever is in the room or on the way there, however it is written."""
        self.join(ALICE, "Bob")
        nicks = [self.admitted().nick, self.admitted(secret=self.space.secret).nick]
        self.assertEqual(["Bob 2", "Bob 3"], nicks)
        self.assertEqual("bob 4", self.by_id(CODE, name="bob").nick)
        self.clock.advance(visiting.PASS_SECONDS + visiting.SWEEP + 1)
        self.assertEqual("Bob 2", self.admitted().nick)  # nobody of those came

    def test_store_fails(self) -> None:
        """Nothing can be told: nobody is refused for it."""
        for problem in (StoreError("it is locked"), ValueError("a bug")):
            self.patch(self.spaces, "way", lambda *_, problem=problem: fail(problem))
            decided = self.door.decide(join.Admit(PEER, call_id="123456789", name="Bob"))
            if isinstance(problem, StoreError):
                self.assertEqual(join.Undecided(), self.successResultOf(decided))
            else:
                self.failureResultOf(decided, ValueError)
        self.assertEqual(["undecided"], self.results)
        self.assertTrue(any("it is locked" in line for line in self.lines))

    def test_nothing_secret_is_shown(self) -> None:
        """No passcode, link, password or token is in a log or a repr."""
        guest = self.admitted()
        again = self.admitted(reentry=guest.reentry)
        self.ask(secret=self.space.secret)
        self.by_id(WRONG)
        self.session(again)
        asked = join.Admit(PEER, call_id="1", passcode=CODE, name="B")
        shown = "\n".join([*self.lines, repr(guest), repr(again), repr(asked)])
        shown += repr([*self.visitors.of_space(self.space.id)])
        for secret in (
            *(guest.password, guest.reentry, again.password, again.reentry),
            *(self.space.secret, CODE, WRONG),
        ):
            self.assertNotIn(secret, shown)
        self.assertIn("guest admitted", shown)


class GuessTests(DoorTests):
    """What wrong tries do, and to whom."""

    def work(self, asked: join.Admit) -> tuple[Any, list[str]]:
        """What the door says, and each call of ours that it made for that."""
        decided: list[Any] = []
        codes = called(lambda: decided.append(self.door.decide(asked)))
        of_lines = ("/logs.py", "/signalflow.py")  # they are limited
        names = [code.co_qualname for code in codes if not code.co_filename.endswith(of_lines)]
        return self.successResultOf(decided[0]), names

    def test_one_amount_of_work(self) -> None:
        """Unknown call ID, wrong passcode, none, and a closed space: the same calls in all."""
        self.store.add("Closed", call_id="999900000", passcode=CODE, non_member_access=False)
        looked: list[tuple[str, str]] = []
        way = self.spaces.way

        def counted(by: Any, value: str) -> Any:
            looked.append((by, value))
            return way(by, value)

        self.patch(self.spaces, "way", counted)
        works = []
        for call_id, passcode in (
            ("111100000", WRONG),
            (self.space.call_id, WRONG),
            ("999900000", CODE),
            ("999900000", WRONG),
        ):
            said, calls = self.work(join.Admit(PEER, call_id=call_id, passcode=passcode, name="B"))
            self.assertEqual(join.Refused(), said)
            works.append([name for name in calls if not name.startswith("space_of")])
        self.assertEqual([works[0]] * 4, works)
        self.assertIn("Guess.failed", works[0])
        self.assertEqual(["call_id"] * 4, [by for by, _ in looked])

    def test_ten_thousand(self) -> None:
        """
        They change neither the answer nor its work, keep no member and no link out, and are in
        the figures.
        """
        kinds: dict[str, set[tuple[str, ...]]] = {}
        for number in range(10_000):
            peer = f"198.51.{number % 100}.{number // 100}"
            call_id = self.space.call_id if number % 2 else f"{number:09}"
            asked = join.Admit(peer, call_id=call_id, passcode=WRONG, name="B")
            if number % 500 in (0, 1):
                said, calls = self.work(asked)
                kind = type(said).__name__
                kinds.setdefault(kind, set()).add(
                    tuple(name for name in calls if name != "space_of" and "_drop" not in name)
                )
            else:
                said = self.successResultOf(self.door.decide(asked))
            self.assertIsInstance(said, join.Refused | join.Slowed)
        self.assertEqual({"Refused": 1, "Slowed": 1}, {k: len(v) for k, v in kinds.items()})
        figures = self.door.figures.results
        self.assertEqual((20, 4_980), (figures["passcode"], figures["slowed"]))
        self.assertEqual(5_000, figures["unknown"])
        # the stranger waits, the others come in
        self.assertIsInstance(self.by_id(CODE, ELSEWHERE), join.Slowed)
        self.admitted(secret=self.space.secret)
        self.joined(self.join(ALICE), ALICE)
        self.clock.advance(180)
        self.admitted(ELSEWHERE, call_id=self.space.call_id, passcode=CODE)

    def test_an_address(self) -> None:
        """Ten wrong tries, then one a minute, whatever the call IDs; a link goes on."""
        for number in range(10):
            self.assertEqual(join.Refused(), self.ask(call_id=f"12312312{number}"))
        slowed = self.by_id(CODE)
        self.assertIsInstance(slowed, join.Slowed)
        self.assertTrue(1 <= slowed.seconds <= 61)
        self.admitted(secret=self.space.secret)
        self.assertEqual(join.Refused(), self.ask(secret="x" * 22))  # a wrong one is no guess
        self.admitted(ELSEWHERE, call_id=self.space.call_id, passcode=CODE)
        self.clock.advance(slowed.seconds)
        self.admitted()

    def test_people_behind_one_address(self) -> None:
        """Once one of them has come in, the typing errors of the others keep none out."""
        self.by_id("")
        self.admitted()
        for number in range(50):
            if number % 5 == 0:
                self.assertEqual(join.Refused(), self.by_id(WRONG if number % 2 else ""))
            self.log_in(self.by_id(CODE, name=f"Guest {number}"))

    def test_no_passcode_is_no_guess(self) -> None:
        """Forty who did not know that there is a passcode hold up nobody elsewhere."""
        for number in range(40):
            self.assertEqual(join.Refused(), self.by_id("", f"198.51.100.{number}"))
        self.admitted(ELSEWHERE, call_id=self.space.call_id, passcode=CODE)

    def test_known_elsewhere(self) -> None:
        """The call IDs of another Callbridge's spaces are no guesses here; wrong passcodes are."""
        for number in range(30):
            self.ask(call_id=f"{number:09}", id=f"q{number}")
            self.door.elsewhere(f"q{number}")
            self.door.elsewhere(f"q{number}")
        self.by_id(WRONG, id="wrong")
        self.door.elsewhere("wrong")
        for number in range(9):
            self.assertEqual(join.Refused(), self.ask(call_id=f"{number:09}"))
        self.assertIsInstance(self.ask(call_id="123123123"), join.Slowed)
        self.patch(doorkeeper, "MOST_UNKNOWN", 2)
        for number in range(4):
            self.ask(f"203.0.113.{number}", call_id=f"{number:09}", id=f"n{number}")
        self.assertEqual(["n2", "n3"], list(self.door._unknown))

    def test_one_count_for_door_and_room(self) -> None:
        """A passcode is one, whether it is tried at the door or as the password of the room."""
        self.sessions.peers[EVE] = PEER
        for _ in range(5):
            self.by_id(WRONG)
            self.refused(self.join(EVE, inside=f"<password>{WRONG}</password>"), "not-authorized")
        right = f"<password>{CODE}</password>"
        self.refused(self.join(EVE, inside=right), "not-authorized")
        self.assertIsInstance(self.by_id(CODE), join.Slowed)


class PassTests(DoorTests):
    """The log-in with a pass."""

    def test_once(self) -> None:
        """It is for one log-in, of a guest."""
        guest = self.admitted()
        answer = self.log_in(guest)
        self.assertEqual((guest.jid, True), (answer.jid, answer.guest))  # type: ignore[union-attr]
        again = self.log_in(guest)
        self.assertEqual(("not-authorized", 0), (again.condition, again.wait))  # type: ignore[union-attr]

    def test_two_at_once(self) -> None:
        """Two exchanges with one pass: the first that proves it is in, and only that."""
        guest = self.admitted()
        answers = []
        clients = [ScramClient("SCRAM-SHA-256", guest.jid, guest.password) for _ in "ab"]
        finals = []
        for number, client in enumerate(clients):
            start = lp.Start(f"e{number}", "SCRAM-SHA-256", client.first(), PEER)
            challenge: Any = self.successResultOf(self.authority.start(start))
            finals.append(client.final(challenge.payload))
        for number, final in enumerate(finals):
            answer = self.authority.respond(lp.Response(f"e{number}", final))
            self.clock.advance(10)
            answers.append(type(self.successResultOf(answer)))
        self.assertEqual([lp.Success, lp.Failed], answers)

    def test_a_minute(self) -> None:
        """Then it is over."""
        guest = self.admitted()
        self.clock.advance(visiting.PASS_SECONDS + 1)
        self.assertIsInstance(self.log_in(guest), lp.Failed)
        self.assertIsInstance(self.ask(reentry=guest.reentry), join.Over)  # never here

    def plain(self, guest: join.Admitted, password: str = "") -> lp.Success | lp.Failed:
        """A log-in with a pass by PLAIN."""
        said = f"\0{guest.jid.partition('@')[0]}\0{password or guest.password}".encode()
        answer: Any = self.authority.start(lp.Start("p", "PLAIN", said, PEER))
        return self.successResultOf(answer)  # type: ignore[no-any-return]

    def test_other_mechanisms(self) -> None:
        """It is for SCRAM-SHA-256 and PLAIN, and a wrong password uses nothing up."""
        guest = self.admitted()
        self.assertIsInstance(self.log_in(guest, "SCRAM-SHA-1"), lp.Failed)
        self.assertIsInstance(self.log_in(guest, password="wrong"), lp.Failed)
        self.assertIsInstance(self.plain(guest, "wrong"), lp.Failed)
        self.assertIsInstance(self.log_in(guest), lp.Success)
        self.assertIsInstance(self.plain(guest), lp.Failed)
        self.assertEqual([], self.directory.asked)

    def test_plain(self) -> None:
        """Where only passwords are checked, as by LDAP: in once, within the minute, and back."""
        for mechanisms, admits in ((("SCRAM-SHA-1",), False), (("PLAIN",), True)):
            self.directory.mechanisms = mechanisms
            self.authority.use(self.directory)
            self.assertEqual(admits, self.authority.admits)
        guest = self.admitted()
        answer = self.plain(guest)
        self.assertEqual((guest.jid, True), (answer.jid, answer.guest))  # type: ignore[union-attr]
        self.assertIsInstance(self.plain(guest), lp.Failed)
        again = self.ask(reentry=guest.reentry)
        self.assertEqual(guest.jid, again.jid)
        self.assertIsInstance(self.plain(guest), lp.Failed)  # the pass of before
        self.clock.advance(visiting.PASS_SECONDS + 1)
        self.assertIsInstance(self.plain(again), lp.Failed)
        self.assertEqual([], self.directory.asked)

    def test_the_directory_is_not_asked(self) -> None:
        """No user is behind a guest's address, and no guess is counted for it."""
        guest = self.admitted()
        for _ in range(40):
            self.assertIsInstance(self.log_in(guest, password="wrong"), lp.Failed)
        self.assertEqual([], self.directory.asked)
        self.assertIsInstance(self.log_in(guest), lp.Success)

    def test_known_users_stay_known(self) -> None:
        """However many guests log in: what protects a user at his place is not forgotten."""
        guesses = self.authority.guesses
        self.begin(ALICE, resumed=True)
        before = len(guesses._known)
        for number in range(5):
            self.begin(f"{self.admitted().jid}/{number}", resumed=True)
            self.begin(f"guest123456789{number}@{DOMAIN}/x", resumed=True)
        self.assertEqual(before, len(guesses._known))

    def test_bounded(self) -> None:
        """So many of an address that have not come, of a space, in all; then they wait."""
        self.patch(visiting, "MOST_NEW_OF_ADDRESS", 3)
        guests = [self.admitted() for _ in range(3)]
        self.assertEqual(join.Slowed(5), self.by_id(CODE))
        self.admitted(ELSEWHERE, call_id=self.space.call_id, passcode=CODE)
        self.admitted("127.0.0.1", secret=self.space.secret)
        self.session(guests[0])
        self.admitted()  # one of them has come
        self.patch(visiting, "MOST_OF_SPACE", 6)
        self.assertEqual(join.Undecided(), self.by_id(CODE, "203.0.113.6"))
        self.admitted("203.0.113.6", call_id="555500000")
        self.assertEqual(2, self.results.count("crowded"))
        self.clock.advance(visiting.PASS_SECONDS + visiting.SWEEP + 1)
        self.assertEqual(1, len(self.visitors))  # who has come is known, the others are not


class PlaceTests(DoorTests):
    """Where a guest may be."""

    def test_his_space(self) -> None:
        """He enters the space of his pass, without passcode, as a participant."""
        guest = self.admitted()
        jid = self.session(guest)
        heard = self.join(jid, guest.nick)
        self.joined(heard, jid)
        own = next(s for s in to(heard, jid) if 110 in statuses(s))
        self.assertIn(b"affiliation='none' role='participant'", own.raw)

    def test_no_other(self) -> None:
        """Not another, with a passcode or without one, nor does he hear whether there is one."""
        jid = self.session(self.admitted())
        for room in ("open", "nothing-there"):
            answer = self.join(jid, "Bob", to=f"{room}@{COMPONENT}")
            self.refused(answer, "forbidden", to=jid)
        self.assertEqual(2, self.rooms.figures.refused["guest"])

    def test_of_elsewhere(self) -> None:
        """A guest of another Callbridge, or of before a restart, enters nothing here."""
        stranger = f"guest-0123456789abcdef@{DOMAIN}/web"
        self.refused(self.join(stranger, "x", to=f"open@{COMPONENT}"), "forbidden", to=stranger)

    def test_thrown_out(self) -> None:
        """Who is kicked comes back neither with his session nor with his token."""
        self.join(ALICE)
        guest = self.admitted()
        jid = self.session(guest)
        self.join(jid, guest.nick)
        self.admin(ALICE, f"<item nick='{guest.nick}' role='none'/>")
        self.refused(self.join(jid, guest.nick), "forbidden", to=jid)
        self.assertEqual(join.Over(), self.ask(reentry=guest.reentry))

    def test_banned(self) -> None:
        """The same."""
        self.join(ALICE)
        guest = self.admitted()
        self.admin(ALICE, f"<item jid='{guest.jid}' affiliation='outcast'/>")
        self.assertEqual(join.Over(), self.ask(reentry=guest.reentry))
        self.assertIsInstance(self.log_in(guest), lp.Failed)

    def test_full(self) -> None:
        """A tenth of the places is for members; a guest who comes back has his own."""
        self.rooms.most_occupants = 2  # one for others
        guest = self.admitted()
        jid = self.session(guest)
        self.joined(self.join(jid, guest.nick), jid)
        other = self.session(self.admitted())
        self.refused(self.join(other, "Eve"), "service-unavailable", to=other)
        self.joined(self.join(ALICE), ALICE)
        again = self.session(self.admitted(reentry=guest.reentry), "web2")
        self.joined(self.join(again, guest.nick), again)
        self.assertEqual({"Bob", "alice"}, self.nicks())


class ComingBackTests(DoorTests):
    """After a reload the same occupant."""

    def setUp(self) -> None:
        """Alice and a guest are in the room."""
        super().setUp()
        self.join(ALICE)
        self.guest = self.admitted()
        self.first = self.session(self.guest)
        self.joined(self.join(self.first, self.guest.nick), self.first)
        found = self.rooms.room("team")
        assert found is not None
        self.occupant_id = found.by_jid[self.first].id

    def back(self, token: str = "", resource: str = "web2") -> tuple[join.Admitted, str]:
        """He comes back, with another session."""
        guest = self.admitted(reentry=token or self.guest.reentry)
        return guest, self.session(guest, resource)

    def test_same_occupant(self) -> None:
        """While the old session is still there: one occupant, no conflict, nobody left."""
        guest, second = self.back()
        self.assertEqual((self.guest.jid, "Bob"), (guest.jid, guest.nick))
        heard = self.join(second, guest.nick)
        self.joined(heard, second)
        self.assertEqual({"alice", "Bob"}, self.nicks())
        found = self.rooms.room("team")
        assert found is not None
        self.assertEqual(self.occupant_id, found.by_jid[second].id)
        self.assertNotIn(self.first, found.by_jid)
        seen = [s for s in to(heard, ALICE) if s.name == "presence"]
        self.assertEqual([None], [s.type for s in seen])  # an update, and no leaving
        gone = [s for s in to(heard, self.first) if s.name == "presence"]
        self.assertEqual([("unavailable", {110})], [(s.type, set(statuses(s))) for s in gone])
        self.assertEqual(2, self.rooms.occupants)
        # what comes late from the old session changes nothing
        self.leave(self.first, guest.nick)
        self.end(self.first)
        self.clock.advance(30)
        self.assertEqual({"alice", "Bob"}, self.nicks())
        self.say(ALICE, "<body>there?</body>")

    def test_after_it_left(self) -> None:
        """After a page has said goodbye: he comes in again, as the same."""
        self.leave(self.first, "Bob")
        self.end(self.first)
        guest, second = self.back()
        self.joined(self.join(second, guest.nick), second)
        found = self.rooms.room("team")
        assert found is not None
        self.assertEqual(self.occupant_id, found.by_jid[second].id)

    def test_name_taken(self) -> None:
        """Somebody has taken the nickname meanwhile: he gets another, and no one is two."""
        self.leave(self.first, "Bob")
        self.end(self.first)
        self.sessions.peers[EVE] = PEER
        self.join(EVE, "Bob", inside=f"<password>{CODE}</password>")
        guest, second = self.back()
        self.assertEqual("Bob 2", guest.nick)
        self.joined(self.join(second, guest.nick), second)
        self.assertEqual({"alice", "Bob", "Bob 2"}, self.nicks())

    def test_another_nick(self) -> None:
        """A session that wants another nickname than the one before: still one occupant."""
        _, second = self.back()
        self.joined(self.join(second, "Robert"), second)
        self.assertEqual({"alice", "Robert"}, self.nicks())

    def test_changed_at_each_use(self) -> None:
        """A token is over when the one after it has been used to log in."""
        guest, _ = self.back()
        self.assertNotEqual(self.guest.reentry, guest.reentry)
        self.assertEqual(join.Over(), self.ask(reentry=self.guest.reentry))
        self.back(guest.reentry, "web3")

    def test_not_without_end(self) -> None:
        """Each return costs a computation: ten in a row, then one in five seconds."""
        token = self.guest.reentry
        for _ in range(visiting.RETURNS):
            token = self.admitted(reentry=token).reentry
        self.assertEqual(join.Slowed(5), self.ask(reentry=token))
        self.assertEqual(join.Slowed(5), self.ask(reentry=token))
        self.admitted(secret=self.space.secret)  # others are not held up
        self.clock.advance(5)
        token = self.admitted(reentry=token).reentry
        self.assertIsInstance(self.ask(reentry=token), join.Slowed)
        self.clock.advance(60)
        for _ in range(visiting.RETURNS):
            token = self.admitted(reentry=token).reentry

    def test_lost_answer(self) -> None:
        """A reload before the answer has come: the token is good until somebody has logged in."""
        lost = self.admitted(reentry=self.guest.reentry)
        guest = self.admitted(reentry=self.guest.reentry)
        self.assertIsInstance(self.log_in(lost), lp.Failed)
        self.assertIsInstance(self.log_in(guest), lp.Success)
        self.assertEqual(join.Over(), self.ask(reentry=lost.reentry))

    def test_what_ends_it(self) -> None:
        """Another passcode, another link for those who came by it, no space, a closed one."""
        by_link = self.admitted(secret=self.space.secret)
        self.session(by_link)
        self.store.change("team", passcode="999999")
        self.assertEqual(join.Over(), self.ask(reentry=self.guest.reentry))
        self.refused(self.join(self.first, to=f"open@{COMPONENT}"), "forbidden", to=self.first)
        by_link = self.admitted(reentry=by_link.reentry)
        self.store.change("team", regenerate_secret=True)
        self.assertEqual(join.Over(), self.ask(reentry=by_link.reentry))
        for change in (
            lambda: self.store.change("open", non_member_access=False),
            lambda: self.store.delete("open"),
        ):
            guest = self.admitted(call_id="555500000")
            self.session(guest, "x")
            change()
            self.assertEqual(join.Over(), self.ask(reentry=guest.reentry))
            self.store.change("open", non_member_access=True) if self._is_there("open") else None

    def _is_there(self, uri: str) -> bool:
        return any(space.uri == uri for space in self.store.spaces()[0])

    def test_time(self) -> None:
        """It ends an hour after he was last here, a day after he came; never while he is."""
        self.clock.advance(3 * visiting.COMES_BACK)
        guest, second = self.back()
        for jid in (self.first, second):
            self.end(jid)
        self.clock.advance(visiting.COMES_BACK - 60)
        again, third = self.back(guest.reentry)
        self.end(third)
        self.clock.advance(visiting.COMES_BACK + visiting.SWEEP + 1)
        self.assertEqual(join.Over(), self.ask(reentry=again.reentry))
        self.assertEqual(0, len(self.visitors))

    def test_link_lost(self) -> None:
        """The link comes back: a session that lives on is his, and he may come back."""
        self.authority.link_lost()
        self.begin(self.first, resumed=True)
        self.clock.advance(3 * visiting.COMES_BACK)
        guest, _ = self.back()
        self.assertEqual(self.guest.jid, guest.jid)


class FindTests(DoorTests):
    """Who is logged in looks for the space of a call ID."""

    def setUp(self) -> None:
        """Alice is a member, Eve is nobody."""
        super().setUp()
        self.call_ids = CallIds(self.clock, self.rooms.admission, lambda: COMPONENT)
        self.sessions.peers |= {ALICE: PEER, EVE: PEER}

    def find(self, jid: str, call_id: str = "") -> Any:
        """What is answered: the address, or the condition."""
        asked = self.call_ids.find(jid, call_id or self.space.call_id)
        failed: list[Any] = []
        asked.addErrback(failed.append)
        found = self.successResultOf(asked)
        if failed:
            failed[0].trap(StanzaError)
            return failed[0].value.condition
        self.assertEqual("Team" if found["jid"] == TEAM else "Open", found["name"])
        return found["jid"]

    def test_found(self) -> None:
        """By members and by others, whatever the passcode: the room asks for it."""
        self.assertEqual([TEAM] * 2, [self.find(ALICE), self.find(EVE)])
        self.assertEqual(f"open@{COMPONENT}", self.find(EVE, "555500000"))
        self.store.add_access_method("team", call_id="777700000", passcode="1234")
        self.assertEqual(TEAM, self.find(EVE, "777700000"))

    def test_not_found(self) -> None:
        """One answer for what there is not, and what is not for the one who asks."""
        self.store.change("team", non_member_access=False)
        self.assertEqual(TEAM, self.find(ALICE))
        self.assertEqual(["item-not-found"] * 2, [self.find(EVE), self.find(EVE, "123123123")])
        self.store.change("team", non_member_access=True)
        self.store.ban(self.space.id, EVE.partition("/")[0])
        self.assertEqual("item-not-found", self.find(EVE))
        for bad in ("12", "x", "1" * 33):
            self.assertEqual("bad-request", self.find(EVE, bad))

    def test_guests(self) -> None:
        """A guest finds nothing, not even his own."""
        jid = self.session(self.admitted())
        self.assertEqual(["forbidden"] * 2, [self.find(jid), self.find(jid, "123123123")])

    def test_guesses(self) -> None:
        """Who asks in vain must wait; members find theirs, others ask as ever, guests join."""
        for number in range(20):
            self.assertEqual("item-not-found", self.find(EVE, f"{number:09}"))
        failed = self.failureResultOf(self.call_ids.find(EVE, self.space.call_id), StanzaError)
        told: Any = failed.value
        self.assertEqual(("policy-violation", "wait"), (told.condition, told.type))
        self.assertEqual(
            ("join-slowed", "6"), (told.appCondition.name, told.appCondition["seconds"])
        )
        for number in range(20):
            self.assertEqual("item-not-found", self.find(ALICE, f"{number:09}"))
        self.assertEqual(TEAM, self.find(ALICE))
        self.admitted()
        self.clock.advance(6)
        self.assertEqual(TEAM, self.find(EVE))


class NameTests(SynchronousTestCase):
    """Names as nicknames."""

    def test_prepared(self) -> None:
        """What a person writes, as it can be in an address."""
        self.assertEqual("Bob B", join.prepared_name("  Bob\n\tB "))
        self.assertEqual("é", join.prepared_name("e\u0301"))
        self.assertEqual("Bob evil", join.prepared_name("Bob 🙂 \u202eevil\x00"))
        for bad in ("", " ", "\u200b", "\x00", "x" * 101, "\ud800", "🙂" * 26, "é" * 51):
            self.assertRaises(join.Unusable, join.prepared_name, bad)

    @given(st.text(max_size=60))
    def test_any(self, text: str) -> None:
        """A name that was prepared stays as it is, and the room takes it."""
        try:
            name = join.prepared_name(text)
        except join.Unusable:
            return
        self.assertEqual(name, join.prepared_name(name))
        self.assertTrue(0 < len(name.encode()) <= join.MOST_NAME <= reading.MOST_NICK)
        self.assertEqual(
            join.numbered(name, 17), parse_jid(f"a/{join.numbered(name, 17)}").resource
        )

    def test_numbered(self) -> None:
        """Also where people write from the right to the left."""
        self.assertEqual("Bob 2", join.numbered("Bob", 2))
        self.assertEqual("علي 2ي", join.numbered("علي", 2))
