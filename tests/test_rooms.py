"""The rooms of the spaces (XEP-0045): who enters, what is heard, and that who is gone is gone."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element

from cms.callbridge.login.visitors import Visitors
from cms.callbridge.rooms import copies, outbox, reading, room, service
from cms.callbridge.rooms.history import stamp
from cms.callbridge.rooms.service import Rooms
from cms.callbridge.spaces.directory import LocalSpaces
from cms.callbridge.spaces.store import SpaceStore
from cms.xmlstream import ns
from cms.xmlstream.serialize import quote_attribute, serialize
from cms.xmlstream.stanza import Stanza
from tests.support import new_folder, observe_log, one_stanza
from tests.test_admin_login import PoolClock

DOMAIN, COMPONENT = "meet.example.com", "cb1.meet.example.com"
TEAM = f"team@{COMPONENT}"
ALICE, BOB, EVE = (f"{name}@{DOMAIN}/pc" for name in ("alice", "bob", "eve"))
CODE, WRONG = "471147114711", "000000000000"
X = f"<x xmlns='{ns.MUC}'/>"


@define
class Sessions:
    """The sessions of this Callbridge."""

    known: dict[str, str] = field(factory=dict)
    peers: dict[str, str] = field(factory=dict)

    def began(self, jid: str) -> str | None:
        """When."""
        return self.known.get(jid)

    def peer(self, jid: str) -> str | None:
        """From where."""
        return self.peers.get(jid)


class Link:
    """A link that remembers what was sent, to each."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.raws: list[bytes] = []

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """To the server."""
        self.raws += raws
        return ()

    def take(self) -> list[Stanza]:
        """All of it since the last time."""
        raws, self.raws = self.raws, []
        return [one_stanza(raw.decode()) for raw in raws]


class RoomsTests(SynchronousTestCase):
    """Rooms over a store with one space, on a link."""

    def setUp(self) -> None:
        """Alice moderates, Bob is a member, Eve is nobody."""
        self.clock: Any = PoolClock()
        self.clock.advance(1_700_000_000)
        self.store = SpaceStore(new_folder(self))
        self.space = self.store.add("Team", uri="team")
        self.store.add_member("team", _bare(ALICE), ["canAddRemoveMember", "canPostMessage"])
        self.store.add_member("team", _bare(BOB))
        self.spaces = LocalSpaces(self.store, self.clock)
        self.addCleanup(self.spaces.close)
        self.sessions = Sessions()
        self.visitors = Visitors(self.clock, Random(5))
        self.addCleanup(self.visitors.stop)
        self.rooms = Rooms(
            *(self.clock, self.spaces, self.sessions),
            component=lambda: COMPONENT,
            domain=lambda: DOMAIN,
            run="r",
            visitors=self.visitors,
        )
        self.link = Link()
        self.rooms.link_up(self.link, lambda stanza: self.link.raws.append(stanza.raw))

    # what clients do

    def send(self, xml: str) -> list[Stanza]:
        """What is sent when a stanza has come."""
        self.link.take()
        self.assertTrue(self.rooms.take(one_stanza(xml)))
        return self.heard()

    def heard(self) -> list[Stanza]:
        """All that leaves, however many turns it takes."""
        while self.clock.getDelayedCalls() and self.rooms.outbox.held:
            self.clock.advance(outbox.AGAIN)
        return self.link.take()

    def join(
        self, jid: str, nick: str | None = None, inside: str = "", to: str = TEAM
    ) -> list[Stanza]:
        """Somebody asks to enter."""
        nick = jid.partition("@")[0] if nick is None else nick
        x = f"<x xmlns='{ns.MUC}'>{inside}</x>"
        address = quote_attribute(f"{to}/{nick}")
        return self.send(f"<presence from='{jid}' to={address}>{x}</presence>")

    def say(self, jid: str, inside: str, to: str = TEAM, type_: str = "groupchat") -> list[Stanza]:
        """Somebody writes."""
        return self.send(
            f"<message id='m' type='{type_}' from='{jid}' to='{to}'>{inside}</message>"
        )

    def leave(self, jid: str, nick: str | None = None) -> list[Stanza]:
        """Somebody goes."""
        to = f"{TEAM}/{nick or jid.partition('@')[0]}"
        return self.send(f"<presence type='unavailable' from='{jid}' to='{to}'/>")

    def iq(self, jid: str, child: str, type_: str = "set", to: str = TEAM) -> list[Stanza]:
        """Somebody asks."""
        return self.send(f"<iq type='{type_}' id='i' from='{jid}' to='{to}'>{child}</iq>")

    def admin(self, jid: str, item: str, type_: str = "set") -> list[Stanza]:
        """Somebody moderates."""
        return self.iq(jid, f"<query xmlns='{ns.MUC_ADMIN}'>{item}</query>", type_)

    # what is expected

    def only(self, stanzas: Sequence[Stanza]) -> Stanza:
        """The one that there is."""
        self.assertEqual(1, len(stanzas), stanzas)
        return stanzas[0]

    def refused(self, stanzas: Sequence[Stanza], condition: str, to: str = EVE) -> Stanza:
        """The one answer is an error."""
        answer = self.only(stanzas)
        self.assertEqual(("error", to), (answer.type, answer.to))
        self.assertEqual(condition, reading.condition(answer))
        return answer

    def joined(self, stanzas: Sequence[Stanza], jid: str) -> None:
        """Somebody is in: its own presence says so."""
        own = [s for s in stanzas if s.to == jid and 110 in statuses(s)]
        self.assertEqual(1, len(own), stanzas)

    def here(self) -> set[str]:
        """Who is in the room."""
        found = self.rooms.room("team")
        return set() if found is None else set(found.by_jid)


def _bare(jid: str) -> str:
    return jid.partition("/")[0]


def x_of(stanza: Stanza) -> Element:
    """The room's C{<x/>}."""
    x: Element
    (x,) = stanza.element.elements(ns.MUC_USER, "x")
    return x


def statuses(stanza: Stanza) -> set[int]:
    """Its status codes."""
    return {
        int(status["code"])
        for x in stanza.element.elements(ns.MUC_USER, "x")
        for status in x.elements(ns.MUC_USER, "status")
    }


def item(stanza: Stanza) -> dict[str, str]:
    """The attributes of its item."""
    (found,) = x_of(stanza).elements(ns.MUC_USER, "item")
    return {str(key): str(value) for key, value in found.attributes.items()}


def to(stanzas: Sequence[Stanza], jid: str) -> list[Stanza]:
    """What somebody hears."""
    return [stanza for stanza in stanzas if stanza.to == jid]


class EnterTests(RoomsTests):
    """XEP-0045 7.2."""

    def test_first(self) -> None:
        """One's own presence last of all presences, with 110; then the subject, empty."""
        presence, subject = self.join(ALICE)
        self.assertEqual((f"{TEAM}/alice", ALICE), (presence.sender, presence.to))
        self.assertEqual({110}, statuses(presence))
        self.assertEqual(
            {"affiliation": "admin", "role": "moderator", "jid": ALICE}, item(presence)
        )
        self.assertEqual((TEAM, "groupchat"), (subject.sender, subject.type))
        self.assertEqual(["subject"], [child.name for child in subject.element.elements()])
        self.assertEqual("", str(subject.element.subject))

    def test_second(self) -> None:
        """Who is here is told first; moderators see the address, others do not."""
        self.join(ALICE)
        heard = self.join(BOB)
        first, own, _ = to(heard, BOB)
        self.assertEqual(f"{TEAM}/alice", first.sender)
        self.assertEqual({"affiliation": "admin", "role": "moderator"}, item(first))
        self.assertEqual((f"{TEAM}/bob", {110}), (own.sender, statuses(own)))
        seen = self.only(to(heard, ALICE))
        self.assertEqual({"affiliation": "member", "role": "participant", "jid": BOB}, item(seen))
        heard = self.join(EVE)
        for jid, has in ((BOB, False), (ALICE, True)):
            self.assertEqual(has, "jid" in item(self.only(to(heard, jid))), jid)
        self.assertEqual("none", item(to(heard, EVE)[-2])["affiliation"])

    def test_what_is_said_of_oneself(self) -> None:
        """Show, status and capabilities are passed on; priority and claims are not."""
        self.join(ALICE)
        claims = (
            f"<show>away</show><priority>5</priority><c xmlns='http://jabber.org/protocol/caps'/>"
            f"<x xmlns='{ns.MUC_USER}'><status code='110'/></x>"
            f"<occupant-id xmlns='{ns.OCCUPANT_ID}' id='faked'/><delay xmlns='{ns.DELAY}'/>"
        )
        heard = self.send(f"<presence from='{BOB}' to='{TEAM}/bob'>{X}{claims}</presence>")
        seen = self.only(to(heard, ALICE))
        names = [child.name for child in seen.element.elements()]
        self.assertEqual(["show", "c", "occupant-id", "x"], names)
        self.assertNotIn(b"faked", seen.raw)
        self.assertEqual(set(), statuses(seen))

    def test_occupant_id(self) -> None:
        """The same for an account whatever its nickname, another in another space (XEP-0421)."""
        self.store.add("Other", uri="other")

        def id_of(heard: Sequence[Stanza]) -> str:
            (child,) = to(heard, BOB)[-2].element.elements(ns.OCCUPANT_ID, "occupant-id")
            return str(child["id"])

        first = id_of(self.join(BOB))
        self.leave(BOB)
        self.assertEqual(first, id_of(self.join(BOB, "robert")))
        other = id_of(self.join(BOB, to=f"other@{COMPONENT}"))
        self.assertNotEqual(first, other)
        self.assertNotIn("bob", first)

    def test_nickname(self) -> None:
        """One that must be written in another way is, and 210 says so; some cannot be one."""
        own = self.join(ALICE, "\uff21lice ")[0]
        self.assertEqual((f"{TEAM}/Alice", {110, 210}), (own.sender, statuses(own)))
        for nick in ("  ", "x" * 129, "\u00e9" * 65):
            self.refused(self.join(EVE, nick), "not-acceptable")
        self.refused(
            self.send(f"<presence from='{EVE}' to='{TEAM}'>{X}</presence>"), "jid-malformed"
        )
        self.assertEqual(3 + 1, self.rooms.figures.refused["nickname"])

    def test_conflict(self) -> None:
        """A nickname is one occupant's, however it is written."""
        self.join(ALICE, "Alice")
        answer = self.refused(self.join(EVE, "\uff21lice"), "conflict")
        self.assertEqual("x", answer.element.firstChildElement().name)
        self.joined(self.join(EVE, "alice"), EVE)

    def test_again(self) -> None:
        """A program that has forgotten that it is in is told everything; it is no double."""
        self.join(ALICE)
        self.join(BOB)
        self.say(ALICE, "<body>hello</body>")
        heard = self.join(BOB)
        self.joined(heard, BOB)
        self.assertEqual(
            ["presence", "presence", "message", "message"], [s.name for s in to(heard, BOB)]
        )
        self.assertEqual(1, len(to(heard, ALICE)))
        self.assertEqual({ALICE, BOB}, self.here())

    def test_not_in_it(self) -> None:
        """Presence without the wish to enter, from outside, is an error; so is what is said."""
        self.refused(self.send(f"<presence from='{EVE}' to='{TEAM}/eve'/>"), "not-acceptable")
        self.refused(self.say(EVE, "<body>x</body>"), "not-acceptable")
        self.assertEqual([], self.leave(EVE))
        for kind in ("subscribe", "probe", "unsubscribed"):
            self.assertEqual([], self.send(f"<presence type='{kind}' from='{EVE}' to='{TEAM}/e'/>"))

    def test_unknown(self) -> None:
        """There is no such space, or it has another address now, which is said."""
        self.refused(self.join(EVE, to=f"nowhere@{COMPONENT}"), "item-not-found")
        self.store.add_access_method("team", uri="door")
        answer = self.refused(self.join(EVE, to=f"door@{COMPONENT}"), "gone")
        self.assertIn(f">xmpp:{TEAM}?join</gone>", answer.raw.decode())
        self.assertEqual(0, self.rooms.count)

    def test_not_for_rooms(self) -> None:
        """What is for the Callbridge, or for another address, is somebody else's."""
        for address in (COMPONENT, "team@elsewhere.example", "@", ""):
            xml = f"<presence from='{EVE}' to='{address}'>{X}</presence>"
            self.assertFalse(self.rooms.take(one_stanza(xml)))

    def test_history(self) -> None:
        """What was said before, with when, the oldest first; as much as is asked for."""
        self.join(ALICE)
        for number in range(60):
            self.say(ALICE, f"<body>{number}</body>")
            self.clock.advance(1)
        self.say(ALICE, "<active xmlns='http://jabber.org/protocol/chatstates'/>")

        def bodies(wish: str) -> list[str]:
            heard = to(self.join(BOB, inside=wish), BOB)
            self.leave(BOB)
            later = [s for s in heard if s.name == "message"][:-1]
            for stanza in later:
                (delay,) = stanza.element.elements(ns.DELAY, "delay")
                self.assertEqual(TEAM, delay["from"])
                self.assertRegex(delay["stamp"], r"^2023-11-14T22:1\d:\d\d\.\d{3}Z$")
            return [str(stanza.element.body) for stanza in later]

        self.assertEqual([str(n) for n in range(10, 60)], bodies(""))
        self.assertEqual(["58", "59"], bodies("<history maxstanzas='2'/>"))
        self.assertEqual([], bodies("<history maxchars='0'/>"))
        self.assertEqual(["57", "58", "59"], bodies("<history seconds='4'/>"))
        self.assertEqual(["59"], bodies(f"<history since='{stamp(self.clock.seconds() - 1.5)}'/>"))
        self.assertEqual(50, len(bodies("<history maxstanzas='-1' since='now' seconds='x'/>")))

    def test_full(self) -> None:
        """There are only so many; who is refused is told to come back.  Members have a part."""
        self.rooms.most_occupants = 3
        self.join(ALICE)
        self.join(BOB)
        answer = self.refused(self.join(EVE), "service-unavailable")
        self.assertIn(b"type='wait'", answer.raw)
        self.assertEqual(1, self.rooms.figures.refused["full"])
        self.leave(BOB)
        self.joined(self.join(EVE), EVE)
        self.joined(self.join(BOB), BOB)
        tv = BOB.replace("pc", "tv")
        self.refused(self.join(tv, "bob2"), "service-unavailable", to=tv)

    def test_bounds(self) -> None:
        """So many in all, and so many rooms of one session."""
        for name, most in (("MOST_IN_ALL", 1), ("MOST_ROOMS_OF_ONE", 1), ("MOST_HELD", -1)):
            self.join(ALICE)
            with self.subTest(name):
                original = getattr(service, name)
                setattr(service, name, most)
                try:
                    self.store_other()
                    self.refused(
                        self.join(ALICE, to=f"other@{COMPONENT}"), "resource-constraint", ALICE
                    )
                finally:
                    setattr(service, name, original)

    def store_other(self) -> None:
        """Another space, once."""
        if self.store.spaces("other")[1] == 0:
            self.store.add("Other", uri="other")

    def test_too_long(self) -> None:
        """A presence has a size."""
        long = f"<status>{'x' * room.MOST_PRESENCE_BYTES}</status>"
        xml = f"<presence from='{EVE}' to='{TEAM}/eve'>{X}{long}</presence>"
        self.refused(self.send(xml), "policy-violation")
        self.assertEqual(set(), self.here())
        self.join(EVE)
        xml = f"<presence from='{EVE}' to='{TEAM}/eve'>{long}</presence>"
        self.refused(self.send(xml), "policy-violation")
        self.assertEqual({EVE}, self.here())

    def test_store_is_locked(self) -> None:
        """Who waits for the store and goes meanwhile never comes in; who stays does."""
        self.clock.at_once = False
        self.spaces.close()
        import sqlite3  # noqa: PLC0415

        holder = sqlite3.connect(self.store.path)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        self.assertEqual([], self.join(BOB))
        self.assertEqual([], self.join(EVE))
        self.leave(EVE)
        holder.rollback()
        holder.close()
        while self.clock.waiting:
            self.clock.waiting.pop(0)()
        self.joined(self.heard(), BOB)
        self.assertEqual({BOB}, self.here())

    def test_store_fails(self) -> None:
        """Who cannot be judged is told to come back; the log has file and cure, some times."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        self.spaces.close()
        self.store.path.write_bytes(b"no database" * 1_000)
        self.refused(self.join(EVE), "internal-server-error")
        told = [event for event in events if event.get("fault") == "state-damaged"]
        self.assertEqual(1, len(told))
        self.assertIn("spaces.sqlite3", told[0]["cause"])
        self.assertEqual(1, self.rooms.figures.refused["undecided"])


class PasscodeTests(RoomsTests):
    """Members, and whoever knows the passcode."""

    def setUp(self) -> None:
        """A space with one."""
        super().setUp()
        self.store.change("team", passcode=CODE)
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def come(self, jid: str, code: str | None) -> list[Stanza]:
        """With a passcode."""
        inside = "" if code is None else f"<password>{code}</password>"
        self.sessions.peers.setdefault(jid, "192.0.2.1")
        return self.join(jid, inside=inside)

    def test_members_need_none(self) -> None:
        """They are known."""
        self.joined(self.come(BOB, None), BOB)
        self.joined(self.come(ALICE, WRONG), ALICE)

    def test_strangers(self) -> None:
        """None, a wrong one and a right one; nothing of it is in the log or passed on."""
        for code in (None, "", WRONG, "x", CODE + "1"):
            self.refused(self.come(EVE, code), "not-authorized")
        self.come(ALICE, None)
        heard = self.come(EVE, CODE)
        self.joined(heard, EVE)
        self.assertNotIn(CODE.encode(), b"".join(stanza.raw for stanza in heard))
        self.assertNotIn(CODE, repr(self.events))
        self.assertEqual(5, self.rooms.figures.refused["passcode"])
        self.assertEqual(2, self.rooms.figures.joined)

    def test_of_an_access_method(self) -> None:
        """Each opens."""
        self.store.add_access_method("team", passcode="12345678")
        self.joined(self.come(EVE, "12345678"), EVE)

    def test_members_only(self) -> None:
        """No passcode lets a stranger into a closed space."""
        self.store.change("team", non_member_access=False)
        self.refused(self.come(EVE, CODE), "registration-required")
        self.joined(self.come(BOB, None), BOB)

    def test_guessing(self) -> None:
        """
        Wrong ones from a hundred addresses: one answer, also for a right one;
        members come in, and so does who had the right one before, from where he had it.
        """
        honest = f"honest@{DOMAIN}/pc"
        self.sessions.peers[honest] = "198.51.100.7"
        self.joined(self.come(honest, CODE), honest)
        self.leave(honest)
        answers = set()
        for number in range(1_000):
            jid = f"eve{number}@{DOMAIN}/pc"
            self.sessions.peers[jid] = f"192.0.2.{number % 100}"
            answer = self.refused(self.come(jid, WRONG), "not-authorized", jid)
            answers.add(answer.raw.replace(jid.encode(), b"").replace(b"eve%d" % number, b""))
        self.assertEqual(1, len(answers))
        looked = self.rooms.figures.refused["passcode"]
        self.assertEqual(1_000, looked)
        late = self.refused(self.come(EVE, CODE), "not-authorized")
        self.assertEqual(answers, {late.raw.replace(EVE.encode(), b"").replace(b"eve", b"")})
        self.joined(self.come(BOB, None), BOB)
        self.joined(self.come(honest, CODE), honest)
        self.clock.advance(3_600)
        self.joined(self.come(EVE, CODE), EVE)

    def test_how_many_are_looked_at(self) -> None:
        """20 an hour of a space from everywhere, 10 from one address; the 21st right one is not."""

        def opens(peer: str, code: str) -> bool:
            jid = f"x{peer.replace('.', '')}@{DOMAIN}/pc"
            self.sessions.peers[jid] = peer
            answers = self.come(jid, code)
            inside = any(110 in statuses(stanza) for stanza in answers)
            if inside:
                self.leave(jid)
            return inside

        for _ in range(10):
            self.assertFalse(opens("192.0.2.1", WRONG))
        self.assertFalse(opens("192.0.2.1", CODE))
        self.assertTrue(opens("192.0.2.2", CODE))
        for _ in range(10):
            self.assertFalse(opens("192.0.2.3", WRONG))
        self.assertFalse(opens("192.0.2.4", CODE))
        self.assertTrue(opens("192.0.2.2", CODE))
        self.clock.advance(180)
        self.assertTrue(opens("192.0.2.4", CODE))

    def test_address_that_is_not_known_yet(self) -> None:
        """The notice of a session may be later than its presence: it is waited for, once."""
        self.assertEqual([], self.join(EVE, inside=f"<password>{CODE}</password>"))
        self.sessions.peers[EVE] = "192.0.2.1"
        self.clock.advance(0.1)
        self.joined(self.heard(), EVE)


class TalkTests(RoomsTests):
    """XEP-0045 7.4 to 8.1."""

    def setUp(self) -> None:
        """All three are here."""
        super().setUp()
        for jid in (ALICE, BOB, EVE):
            self.join(jid)

    def test_to_all(self) -> None:
        """Everybody hears it, the speaker too, with ids; claims are left out."""
        faked = f"<stanza-id xmlns='{ns.STANZA_ID}' by='{TEAM}' id='faked'/>"
        others = f"<stanza-id xmlns='{ns.STANZA_ID}' by='x.example' id='theirs'/>"
        heard = self.say(BOB, f"<body>a &lt; b</body>{faked}{others}")
        self.assertEqual({ALICE, BOB, EVE}, {stanza.to for stanza in heard})
        ids = set()
        for stanza in heard:
            self.assertEqual(
                (f"{TEAM}/bob", "groupchat", "m"), (stanza.sender, stanza.type, stanza.id)
            )
            self.assertEqual("a < b", str(stanza.element.body))
            theirs, ours = stanza.element.elements(ns.STANZA_ID, "stanza-id")
            self.assertEqual(("theirs", TEAM), (theirs["id"], ours["by"]))
            ids.add(ours["id"])
        (first,) = ids
        (second, *_) = self.say(BOB, "<body>more</body>")
        self.assertNotIn(f"id='{first}'", second.raw.decode())

    def test_one_serialisation(self) -> None:
        """A message or a presence to N costs one, not N."""
        for number in range(100):
            self.join(f"n{number}@{DOMAIN}/pc", f"n{number}")
        calls: list[Element] = []

        def counted(element: Element) -> bytes:
            calls.append(element)
            return serialize(element)

        self.patch(copies, "serialize", counted)
        self.assertEqual(103, len(self.say(BOB, "<body>hello</body>")))
        self.assertEqual(1, len(calls))
        heard = self.send(f"<presence from='{BOB}' to='{TEAM}/bob'><show>away</show></presence>")
        self.assertEqual((103, 2), (len(heard), len(calls)))
        self.leave(BOB)
        self.assertEqual(3, len(calls))
        self.assertEqual(102 + 103 + 2, len(self.join(BOB)))
        self.assertEqual(4, len(calls))

    def test_private(self) -> None:
        """From one to another, marked; not to who is not here."""
        message = self.only(self.say(BOB, "<body>psst</body>", f"{TEAM}/eve", "chat"))
        self.assertEqual((EVE, f"{TEAM}/bob", "chat"), (message.to, message.sender, message.type))
        x_of(message)
        self.refused(
            self.say(BOB, "<body>x</body>", f"{TEAM}/nobody", "chat"), "item-not-found", BOB
        )
        self.refused(self.say(BOB, "<body>x</body>", f"{TEAM}/eve"), "bad-request", BOB)
        self.refused(
            self.say(BOB, "<body>x</body>", type_="normal"), "feature-not-implemented", BOB
        )

    def test_subject(self) -> None:
        """A moderator's, for who comes later too; others may not, and not a megabyte."""
        heard = self.say(ALICE, "<subject>Plans &amp; more</subject>")
        self.assertEqual(3, len(heard))
        self.leave(EVE)
        last = to(self.join(EVE), EVE)[-1]
        self.assertEqual(
            (f"{TEAM}/alice", "Plans & more"), (last.sender, str(last.element.subject))
        )
        self.refused(self.say(BOB, "<subject>mine</subject>"), "forbidden", BOB)
        self.refused(
            self.say(ALICE, f"<subject>{'x' * 250_000}</subject>"), "policy-violation", ALICE
        )
        self.assertEqual(3, len(self.say(BOB, "<subject>x</subject><thread>y</thread>")))
        self.say(ALICE, "<subject/>")
        self.leave(EVE)
        self.assertEqual("", str(to(self.join(EVE), EVE)[-1].element.subject))

    def test_too_long(self) -> None:
        """A message has a size; nobody hears one that is beyond it."""
        body = f"<body>{'x' * room.MOST_MESSAGE_BYTES}</body>"
        self.refused(self.say(BOB, body), "policy-violation", BOB)
        self.refused(self.say(BOB, body, f"{TEAM}/eve", "chat"), "policy-violation", BOB)

    def test_visitors(self) -> None:
        """A member who may not post hears, and says nothing to all."""
        self.successResultOf(
            self.spaces.change(self.space.id, lambda s: s.change_member("team", _bare(BOB), []))
        )
        seen = self.only(to(self.heard(), EVE))
        self.assertEqual({"affiliation": "member", "role": "visitor"}, item(seen))
        self.refused(self.say(BOB, "<body>x</body>"), "forbidden", BOB)

    def test_another_nickname(self) -> None:
        """303 with the new one to all, then the new presence; a taken one is a conflict."""
        heard = self.send(f"<presence from='{BOB}' to='{TEAM}/robert'/>")
        old, new = to(heard, EVE)
        self.assertEqual(
            (f"{TEAM}/bob", "unavailable", {303}), (old.sender, old.type, statuses(old))
        )
        self.assertEqual("robert", item(old)["nick"])
        self.assertEqual((f"{TEAM}/robert", None), (new.sender, new.type))
        self.assertEqual({110, 303}, statuses(to(heard, BOB)[0]))
        taken = f"<presence from='{BOB}' to='{TEAM}/alice'/>"
        self.refused(self.send(taken), "conflict", BOB)
        self.assertEqual({ALICE, BOB, EVE}, self.here())

    def test_leaving(self) -> None:
        """Everybody hears it with what was said, oneself with 110; the last one ends the room."""
        said = "<status>bye</status>"
        heard = self.send(
            f"<presence type='unavailable' from='{BOB}' to='{TEAM}/bob'>{said}</presence>"
        )
        self.assertEqual(
            [ALICE, EVE, BOB], sorted((str(s.to) for s in heard), key=[ALICE, EVE, BOB].index)
        )
        for stanza in heard:
            self.assertEqual(
                ("unavailable", "bye", "none"),
                (stanza.type, str(stanza.element.status), item(stanza)["role"]),
            )
        self.assertEqual({110}, statuses(to(heard, BOB)[0]))
        self.leave(ALICE)
        self.leave(EVE)
        self.assertEqual((0, 0), (self.rooms.count, self.rooms.occupants))

    def test_hostile(self) -> None:
        """What looks like markup stays text, in a nickname and in a subject."""
        nick = "<b onclick='x'>&amp;\"]]>"
        heard = self.join(f"m@{DOMAIN}/pc", nick)
        seen = to(heard, BOB)[0]
        self.assertEqual(f"{TEAM}/{nick}", seen.sender)
        subject = "&lt;script>alert(1)&lt;/script>"
        for stanza in self.say(ALICE, f"<subject>{subject}</subject>"):
            self.assertEqual("<script>alert(1)</script>", str(stanza.element.subject))

    def test_unexpected(self) -> None:
        """An error of ours is answered, logged once, and the room goes on."""

        def broken(*_: object) -> None:
            raise KeyError("bug")

        self.patch(room.Room, "say", broken)
        self.refused(self.say(BOB, "<body>x</body>"), "internal-server-error", BOB)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))


class FloodTests(RoomsTests):
    """What one occupant, or many, can do to the others."""

    def setUp(self) -> None:
        """Two, and a link that is not read."""
        super().setUp()
        self.join(ALICE)
        self.join(EVE)
        self.link.waiting_bytes = outbox.FULL + 1
        self.clock.advance(1)
        self.link.take()

    def tell(self, xml: str) -> list[Stanza]:
        """Without waiting for what waits."""
        self.rooms.take(one_stanza(xml))
        return self.link.take()

    def test_messages(self) -> None:
        """So many of one account wait; the next are answered, and others speak."""
        message = f"<message type='groupchat' from='{EVE}' to='{TEAM}'><body>x</body></message>"
        answers = [answer for _ in range(1_000) for answer in self.tell(message)]
        self.assertEqual(1_000 - room.MOST_PENDING, len(answers))
        self.refused(answers[:1], "resource-constraint")
        self.assertEqual([], self.tell(message.replace(EVE, ALICE)))
        self.link.waiting_bytes = 0
        self.assertEqual(2 * (room.MOST_PENDING + 1), len(self.heard()))
        self.assertEqual([], self.refusals(self.tell(message)))

    def refusals(self, stanzas: Sequence[Stanza]) -> list[Stanza]:
        """The errors."""
        return [stanza for stanza in stanzas if stanza.type == "error"]

    def test_presence(self) -> None:
        """A flood of presences is told as a few, and the last of them is."""
        for number in range(1_000):
            status = f"<status>{number}</status>"
            self.assertEqual(
                [], self.tell(f"<presence from='{EVE}' to='{TEAM}/eve'>{status}</presence>")
            )
        self.link.waiting_bytes = 0
        heard = to(self.heard(), ALICE)
        self.assertTrue(len(heard) <= room.MOST_PENDING + 1)
        self.assertEqual("999", str(heard[-1].element.status))

    def test_in_and_out(self) -> None:
        """Who comes and goes is held to the same."""
        answers = []
        for _ in range(100):
            self.tell(f"<presence type='unavailable' from='{EVE}' to='{TEAM}/eve'/>")
            answers += self.tell(f"<presence from='{EVE}' to='{TEAM}/eve'>{X}</presence>")
        self.assertTrue(len(answers) > 80)
        self.refused(answers[:1], "resource-constraint")
        self.assertTrue(self.rooms.outbox.held < 1_000_000)

    def test_room_that_has_too_much_to_send(self) -> None:
        """Beyond a bound nobody says more, and nobody comes in; who goes is gone."""
        self.patch(service, "MOST_WAITING", 10)
        self.patch(service, "MOST_WAITING_TO_ENTER", 10)
        message = f"<message type='groupchat' from='{ALICE}' to='{TEAM}'><body>x</body></message>"
        self.assertEqual([], self.tell(message))
        self.refused(self.tell(message), "resource-constraint", ALICE)
        self.refused(
            self.tell(f"<presence from='{BOB}' to='{TEAM}/bob'>{X}</presence>"),
            "resource-constraint",
            BOB,
        )
        self.tell(f"<presence type='unavailable' from='{EVE}' to='{TEAM}/eve'/>")
        self.assertEqual({ALICE}, self.here())

    def test_turns(self) -> None:
        """A part leaves in each turn, and rooms take turns; the order of each room stays."""
        self.store.add("Other", uri="other")
        self.link.waiting_bytes = 0
        self.heard()
        other = f"other@{COMPONENT}"
        self.join(BOB, to=other)
        big = f"<body>{'x' * 30_000}</body>"
        for _ in range(10):
            self.rooms.take(
                one_stanza(f"<message type='groupchat' from='{ALICE}' to='{TEAM}'>{big}</message>")
            )
        self.rooms.take(
            one_stanza(
                f"<message type='groupchat' from='{BOB}' to='{other}'><body>y</body></message>"
            )
        )
        self.assertTrue(sum(map(len, self.link.raws)) < outbox.A_TURN + 65_536)
        self.assertTrue(self.rooms.outbox.held)
        senders = [stanza.sender for stanza in self.heard()]
        self.assertTrue(senders.index(f"{other}/bob") < len(senders) - 5)
        self.assertEqual([f"{TEAM}/alice"] * 5, senders[-5:])

    def test_many(self) -> None:
        """Of many that want in, as many as there are places; each of the others is told."""
        self.rooms.most_occupants = 112  # 100 for others than members
        self.link.waiting_bytes = 0
        self.heard()
        refused = 0
        for number in range(300):
            answers = self.join(f"z{number}@{DOMAIN}/pc", f"z{number}")
            refused += sum(stanza.type == "error" for stanza in answers)
        self.assertEqual((100, 300 - 98), (len(self.here()), refused))


class ModerationTests(RoomsTests):
    """XEP-0045 8 and 9."""

    def setUp(self) -> None:
        """All three are here."""
        super().setUp()
        for jid in (ALICE, BOB, EVE):
            self.join(jid)

    def test_kick(self) -> None:
        """307 with reason and who, to all; the moderator's request is answered; not for ever."""
        heard = self.admin(ALICE, "<item nick='eve' role='none'><reason>no &lt;b></reason></item>")
        for jid in (ALICE, BOB, EVE):
            presence = next(s for s in to(heard, jid) if s.name == "presence")
            self.assertEqual(("unavailable", f"{TEAM}/eve"), (presence.type, presence.sender))
            self.assertEqual({307} | ({110} if jid == EVE else set()), statuses(presence))
            (about,) = x_of(presence).elements(ns.MUC_USER, "item")
            self.assertEqual(
                ("none", "no <b>", "alice"), (about["role"], str(about.reason), about.actor["nick"])
            )
        self.assertEqual(["result"], [s.type for s in heard if s.name == "iq"])
        self.assertEqual({ALICE, BOB}, self.here())
        self.joined(self.join(EVE), EVE)

    def test_kick_without_rights(self) -> None:
        """Members, strangers and people outside may not; moderators not each other."""
        for jid in (BOB, EVE, f"out@{DOMAIN}/pc"):
            self.refused(self.admin(jid, "<item nick='alice' role='none'/>"), "forbidden", jid)
        self.store.add_member("team", f"carol@{DOMAIN}", ["canAddRemoveMember"])
        self.join(f"carol@{DOMAIN}/pc")
        self.refused(self.admin(ALICE, "<item nick='carol' role='none'/>"), "not-allowed", ALICE)
        self.refused(
            self.admin(ALICE, "<item nick='nobody' role='none'/>"), "item-not-found", ALICE
        )
        self.refused(self.admin(ALICE, "<item role='none'/>"), "jid-malformed", ALICE)
        self.refused(self.admin(ALICE, ""), "bad-request", ALICE)
        self.refused(self.admin(ALICE, "<item nick='eve' role='king'/>"), "bad-request", ALICE)
        self.assertEqual(4, len(self.here()))

    def test_ban(self) -> None:
        """301; the account comes no more, by whatever session, until it is lifted."""
        self.join(EVE.replace("pc", "phone"), "eve2")
        heard = self.admin(
            ALICE, "<item nick='eve' affiliation='outcast'><reason>x</reason></item>"
        )
        gone = {s.sender for s in to(heard, BOB) if s.type == "unavailable"}
        self.assertEqual({f"{TEAM}/eve", f"{TEAM}/eve2"}, gone)
        own = next(s for s in to(heard, EVE))
        self.assertEqual(({110, 301}, "outcast"), (statuses(own), item(own)["affiliation"]))
        self.refused(self.join(EVE), "forbidden")
        listed = self.only(self.admin(ALICE, "<item affiliation='outcast'/>", "get"))
        self.assertIn(f"jid='{_bare(EVE)}'", listed.raw.decode())
        self.only(self.admin(ALICE, f"<item jid='{_bare(EVE)}' affiliation='none'/>"))
        self.joined(self.join(EVE), EVE)

    def test_who_had_to_leave_moderates_no_more(self) -> None:
        """What one request asks for after its author has thrown out himself is not done."""
        items = "<item nick='alice' role='none'/><item nick='eve' role='none'/>"
        answers = [s for s in self.admin(ALICE, items) if s.name == "iq"]
        self.refused(answers, "forbidden", ALICE)
        self.assertEqual({BOB, EVE}, self.here())

    def test_ban_without_rights(self) -> None:
        """Not by members, not of moderators, not of oneself; members are not made here."""
        self.refused(self.admin(BOB, "<item nick='eve' affiliation='outcast'/>"), "forbidden", BOB)
        self.store.add_member("team", f"carol@{DOMAIN}", ["canDestroy"])
        for target, condition in (
            (f"jid='carol@{DOMAIN}' affiliation='outcast'", "not-allowed"),
            (f"jid='{_bare(ALICE)}' affiliation='outcast'", "conflict"),
            (f"jid='{_bare(EVE)}' affiliation='member'", "not-allowed"),
            (f"jid='{_bare(EVE)}' affiliation='none'", "not-allowed"),
            ("jid='a b@c' affiliation='outcast'", "jid-malformed"),
        ):
            self.refused(self.admin(ALICE, f"<item {target}/>"), condition, ALICE)
        self.assertEqual(3, len(self.here()))

    def test_voice(self) -> None:
        """Taken and given; a moderator for this time kicks, and makes no other."""
        self.admin(ALICE, "<item nick='eve' role='visitor'/>")
        self.refused(self.say(EVE, "<body>x</body>"), "forbidden")
        heard = self.admin(ALICE, "<item nick='bob' role='moderator'/>")
        seen = [s for s in to(heard, BOB) if s.sender == f"{TEAM}/eve"]
        self.assertEqual(EVE, item(seen[-1])["jid"])
        self.admin(BOB, "<item nick='eve' role='participant'/>")
        self.assertEqual(3, len(self.say(EVE, "<body>x</body>")))
        self.refused(self.admin(BOB, "<item nick='eve' role='moderator'/>"), "forbidden", BOB)
        self.refused(self.admin(BOB, "<item nick='alice' role='none'/>"), "not-allowed", BOB)
        self.refused(self.admin(BOB, "<item nick='eve' affiliation='outcast'/>"), "forbidden", BOB)
        listed = self.only(self.admin(ALICE, "<item role='moderator'/>", "get"))
        self.assertIn("nick='bob'", listed.raw.decode())

    def test_space_is_set_up_elsewhere(self) -> None:
        """Neither configured nor destroyed here."""
        for child in ("", "<destroy/>"):
            query = f"<query xmlns='{ns.MUC_OWNER}'>{child}</query>"
            self.refused(self.iq(ALICE, query), "not-allowed", ALICE)


class ChangeTests(RoomsTests):
    """What the administration changes while somebody is in."""

    def setUp(self) -> None:
        """All three are here."""
        super().setUp()
        for jid in (ALICE, BOB, EVE):
            self.join(jid)

    def change(self, function: Any) -> list[Stanza]:
        """What is heard of a change."""
        self.link.take()
        self.successResultOf(self.spaces.change(self.space.id, function))
        self.clock.advance(0)
        return self.heard()

    def test_deleted(self) -> None:
        """Everybody hears that the room is no more (10.9), and it is none."""
        heard = self.change(lambda s: s.delete("team"))
        self.assertEqual({ALICE, BOB, EVE}, {stanza.to for stanza in heard})
        for stanza in heard:
            self.assertEqual(({110}, "unavailable"), (statuses(stanza), stanza.type))
            self.assertTrue(list(x_of(stanza).elements(ns.MUC_USER, "destroy")))
        self.assertEqual((0, 0), (self.rooms.count, self.rooms.occupants))

    def test_another_address(self) -> None:
        """Likewise."""
        self.change(lambda s: s.change("team", uri="squad"))
        self.assertEqual(0, self.rooms.count)
        self.joined(self.join(EVE, to=f"squad@{COMPONENT}"), EVE)

    def test_closed(self) -> None:
        """Strangers have to leave (321), members stay."""
        heard = self.change(lambda s: s.change("team", non_member_access=False))
        self.assertEqual({110, 321}, statuses(self.only(to(heard, EVE))))
        self.assertEqual({ALICE, BOB}, self.here())

    def test_made_a_moderator(self) -> None:
        """Everybody hears of it, and it sees addresses from now on."""
        heard = self.change(lambda s: s.change_member("team", _bare(BOB), ["canDestroy"]))
        self.assertEqual("owner", item(self.only(to(heard, EVE)))["affiliation"])
        self.assertEqual({ALICE, EVE}, {item(s)["jid"] for s in to(heard, BOB)[1:]})

    def test_nothing_to_say(self) -> None:
        """A change that changes nothing for them is not heard."""
        self.assertEqual([], self.change(lambda s: s.change("team", name="Other", passcode=CODE)))
        self.assertEqual(3, len(self.here()))


class RequestTests(RoomsTests):
    """IQs."""

    def setUp(self) -> None:
        """Two are here."""
        super().setUp()
        for jid in (ALICE, EVE):
            self.join(jid)

    def test_relayed(self) -> None:
        """A request to somebody in the room, and his answer, carry addresses of the room alone."""
        ask = f"<query xmlns='{ns.VERSION}'/>"
        asked = self.only(self.iq(EVE, ask, "get", f"{TEAM}/alice"))
        self.assertEqual(
            (ALICE, f"{TEAM}/eve", "get", "i"), (asked.to, asked.sender, asked.type, asked.id)
        )
        answer = self.only(self.iq(ALICE, ask, "result", f"{TEAM}/eve"))
        self.assertEqual((EVE, f"{TEAM}/alice", "result"), (answer.to, answer.sender, answer.type))
        self.refused(self.iq(BOB, ask, "get", f"{TEAM}/alice"), "not-acceptable", BOB)
        self.refused(self.iq(EVE, ask, "get", f"{TEAM}/nobody"), "item-not-found")
        self.assertEqual([], self.iq(EVE, ask, "result", f"{TEAM}/nobody"))
        self.assertEqual([], self.iq(BOB, ask, "result", f"{TEAM}/alice"))

    def test_self_ping(self) -> None:
        """One who is in is told so by the room itself (XEP-0410); one who is not, is not."""
        ping = f"<ping xmlns='{ns.PING}'/>"
        answer = self.only(self.iq(EVE, ping, "get", f"{TEAM}/eve"))
        self.assertEqual(("result", EVE), (answer.type, answer.to))
        self.refused(self.iq(BOB, ping, "get", f"{TEAM}/bob"), "not-acceptable", BOB)

    def test_info(self) -> None:
        """Name and kind of the space, for whoever asks; who is in it is not told."""
        query = f"<query xmlns='{ns.DISCO_INFO}'/>"
        self.store.change("team", passcode=CODE)
        info = self.only(self.iq(BOB, query, "get")).raw.decode()
        self.assertIn("<identity category='conference' type='text' name='Team'/>", info)
        for feature in (
            ns.MUC,
            ns.OCCUPANT_ID,
            "muc_passwordprotected",
            "muc_open",
            "muc_semianonymous",
        ):
            self.assertIn(f"<feature var='{feature}'/>", info)
        self.assertNotIn(CODE, info)
        items = self.only(self.iq(BOB, f"<query xmlns='{ns.DISCO_ITEMS}'/>", "get"))
        self.assertNotIn(b"<item", items.raw)
        self.refused(self.iq(BOB, query, "get", f"nowhere@{COMPONENT}"), "item-not-found", BOB)
        self.refused(self.iq(BOB, "<query xmlns='x:y'/>", "get"), "service-unavailable", BOB)

    def test_spaces_of(self) -> None:
        """Those of a member are found; nobody finds others'."""
        found = self.successResultOf(self.rooms.spaces_of(ALICE))
        self.assertEqual([(TEAM, "Team", self.space.call_id)], found)
        self.assertEqual([], self.successResultOf(self.rooms.spaces_of(EVE)))


class GhostTests(RoomsTests):
    """However somebody goes, he is gone."""

    def setUp(self) -> None:
        """Alice and Eve have sessions of ours, Bob another Callbridge's."""
        super().setUp()
        self.sessions.known = {ALICE: "2026-01-01", EVE: "2026-01-02"}
        for jid in (ALICE, BOB, EVE):
            self.join(jid)

    def test_bounced(self) -> None:
        """What comes back because nobody hears it; other errors are a program's own affair."""
        error = "<error type='{}'><{} xmlns='" + ns.STANZAS + "'/></error>"
        self.assertEqual(
            [], self.say(BOB, error.format("wait", "resource-constraint"), TEAM, "error")
        )
        self.assertEqual(3, len(self.here()))
        heard = self.say(
            BOB, error.format("cancel", "service-unavailable"), f"{TEAM}/alice", "error"
        )
        self.assertEqual("unavailable", self.only(to(heard, ALICE)).type)
        self.assertEqual({ALICE, EVE}, self.here())

    def test_error_presence(self) -> None:
        """Likewise."""
        self.send(f"<presence type='error' from='{BOB}' to='{TEAM}/alice'/>")
        self.assertEqual({ALICE, EVE}, self.here())

    def test_session_ended(self) -> None:
        """A session whose presence got lost goes with the notice of its end."""
        del self.sessions.known[EVE]
        self.rooms.session_ended(EVE)
        self.assertEqual({ALICE, BOB, EVE}, self.here())
        self.clock.advance(1)
        self.assertEqual({ALICE, BOB}, self.here())
        self.assertEqual("unavailable", self.only(to(self.heard(), ALICE)).type)

    def test_session_replaced(self) -> None:
        """The notice of an old session's end does not throw out the new one."""
        self.rooms.session_ended(EVE)  # and its successor began
        self.clock.advance(20)
        self.assertEqual({ALICE, BOB, EVE}, self.here())

    def link_again(self) -> list[Stanza]:
        """The link ends and comes back."""
        self.rooms.link_down()
        self.sessions.known.clear()
        self.clock.advance(30)
        self.link = Link()
        self.rooms.link_up(self.link, lambda stanza: self.link.raws.append(stanza.raw))
        return self.heard()

    def test_link_comes_back(self) -> None:
        """Whose sessions live on stays; who is foreign is sounded; who is gone is gone."""
        probe = self.only(self.link_again())
        self.assertEqual((BOB, TEAM, {104}), (probe.to, probe.sender, statuses(probe)))
        self.sessions.known = {ALICE: "2026-01-01"}
        self.clock.advance(service.RESUMED_WITHIN)
        self.assertEqual({ALICE, BOB}, self.here())
        self.assertEqual({f"{TEAM}/eve"}, {s.sender for s in to(self.heard(), ALICE)})

    def test_another_session_of_the_same_address(self) -> None:
        """It is not in the room, though its address was."""
        self.link_again()
        self.sessions.known = {ALICE: "2026-01-01", EVE: "2026-02-02"}
        self.clock.advance(service.RESUMED_WITHIN)
        self.assertEqual({ALICE, BOB}, self.here())

    def test_link_flaps(self) -> None:
        """A second end before the notices came forgets nothing of the first."""
        self.link_again()
        self.link_again()
        self.sessions.known = {ALICE: "2026-01-01"}
        self.clock.advance(service.RESUMED_WITHIN)
        self.assertEqual({ALICE, BOB}, self.here())

    def test_link_stays_down(self) -> None:
        """Nobody can be told, and nothing is kept."""
        self.rooms.link_down()
        self.clock.advance(service.LINK_PATIENCE)
        self.assertEqual((0, 0), (self.rooms.count, self.rooms.occupants))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_was_owed(self) -> None:
        """What waited for the link to be read leaves by the next one."""
        self.link.waiting_bytes = outbox.FULL + 1
        self.clock.advance(1)
        message = f"<message type='groupchat' from='{ALICE}' to='{TEAM}'><body>x</body></message>"
        self.rooms.take(one_stanza(message))
        heard = self.link_again()
        self.assertEqual(
            3, sum(stanza.name == "message" and bool(stanza.element.body) for stanza in heard)
        )

    def test_shutdown(self) -> None:
        """332 to everybody, at once."""
        self.link.take()
        self.rooms.stop()
        heard = self.link.take()
        self.assertEqual({ALICE, BOB, EVE}, {stanza.to for stanza in heard})
        self.assertEqual([{110, 332}] * 3, [statuses(stanza) for stanza in heard])
        self.assertEqual([], self.clock.getDelayedCalls())


class View:
    """What one program believes of the room, from what it has heard."""

    def __init__(self) -> None:
        self.nicks: set[str] = set()
        self.inside = False

    def hear(self, stanza: Stanza) -> None:
        """One presence."""
        nick = (stanza.sender or "").partition("/")[2]
        if stanza.name != "presence" or stanza.type == "error":
            return
        codes = statuses(stanza)
        if stanza.type == "unavailable":
            self.nicks.discard(nick)
            if 110 in codes and 303 not in codes:
                self.inside = False
                self.nicks.clear()
        else:
            self.nicks.add(nick)
            self.inside = self.inside or 110 in codes


STEPS = st.tuples(
    st.sampled_from(
        ["join", "leave", "nick", "say", "kick", "bounce", "session", "link", "voice", "ban"]
    ),
    st.sampled_from([ALICE, BOB, EVE, f"dan@{DOMAIN}/pc"]),
    st.sampled_from(["a", "b", "c"]),
)


class AnyOrderTests(RoomsTests):
    """Whatever happens in whatever order."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(STEPS, max_size=30))
    def test_everybody_believes_what_is_so(self, steps: list[tuple[str, str, str]]) -> None:
        """Each that is in believes in those that are in, and no others; tables agree."""
        self.tearDownRooms()
        views: dict[str, View] = {}
        for step, jid, nick in steps:
            for stanza in self.do(step, jid, nick):
                if stanza.to is not None:
                    views.setdefault(stanza.to, View()).hear(stanza)
        found = self.rooms.room("team")
        occupants = {} if found is None else found.by_jid
        nicks = {occupant.nick for occupant in occupants.values()}
        for jid, view in views.items():
            self.assertEqual(
                (jid in occupants, nicks if jid in occupants else set()),
                (view.inside, view.nicks),
                (jid, steps),
            )
        self.assertEqual(len(occupants), self.rooms.occupants)
        self.assertEqual(len(occupants), self.rooms.in_space(self.space.id))
        self.assertEqual(int(bool(occupants)), self.rooms.count)
        if found is not None and occupants:
            self.assertEqual(set(found.occupants.values()), set(occupants.values()))
        for jid in list(occupants):
            self.leave(jid, occupants[jid].nick)
        self.assertEqual(
            (0, 0, 0), (self.rooms.count, self.rooms.occupants, self.rooms.outbox.held)
        )

    def tearDownRooms(self) -> None:
        """A new house for each example."""
        self.spaces.close()
        self.setUp()

    def do(self, step: str, jid: str, nick: str) -> list[Stanza]:
        """One thing that happens."""
        here = self.rooms.room("team")
        target = None if here is None else here.occupants.get(nick)
        if step == "join":
            return self.join(jid, nick)
        if step == "leave":
            return self.leave(jid, nick)
        if step == "nick":
            return self.send(f"<presence from='{jid}' to='{TEAM}/{nick}'/>")
        if step == "say":
            return self.say(jid, "<body>x</body>")
        if step in ("kick", "voice"):
            role = "none" if step == "kick" else "visitor"
            return self.admin(jid, f"<item nick='{nick}' role='{role}'/>")
        if step == "ban":
            return self.admin(jid, f"<item nick='{nick}' affiliation='outcast'/>")
        if step == "bounce" and target is not None:
            gone = f"<error type='cancel'><service-unavailable xmlns='{ns.STANZAS}'/></error>"
            return self.say(target.jid, gone, TEAM, "error")
        if step == "session":
            self.rooms.session_ended(jid)
            self.clock.advance(1)
            return self.heard()
        if step == "link":
            self.rooms.link_down()
            self.rooms.link_up(self.link, lambda stanza: self.link.raws.append(stanza.raw))
            return self.heard()
        return []
