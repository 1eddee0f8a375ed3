"""Names and pictures: vCards (XEP-0054) and XEP-0084, from directories to clients."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.directories.people import MOST_OPEN as MOST_AT_CALLBRIDGE
from cms.callbridge.directories.people import People as Answering
from cms.callbridge.ldap import connection
from cms.callbridge.ldap.pictures import Pictures
from cms.callbridge.ldap.servers import Servers
from cms.linkprotocol import groups, people
from cms.linkprotocol import login as lp
from cms.process.logs import LineLimiter
from cms.xmlstream.stanza import Stanza
from cms.xmpp.contacts import people as kept
from cms.xmpp.contacts.cards import DATA, METADATA, MOST_ASKING, PUBSUB, UPDATE, VCARD
from cms.xmpp.contacts.settings import EVERYBODY, ContactSettings
from tests.ldapserver import BASE
from tests.ldapstage import LdapStage
from tests.support import new_folder
from tests.test_cluster_contacts import TwoServers
from tests.test_ended_sessions import CB1
from tests.test_xmpp_contacts import ALICE, BOB, House
from tests.test_xmpp_delivery import shape
from tests.xmppserver import DOMAIN, Peer, Server

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
LIDDELL = people.Person("Alice <Liddell>", JPEG)
GET = f"<iq type='get' id='v'{{}}><vCard xmlns='{VCARD}'/></iq>"


def asked(callbridge: Peer) -> list[Stanza]:
    """The questions who somebody is that have come since the last time."""
    return [stanza for stanza in callbridge.received() if stanza.payload == (people.NS, "ask")]


def asked_of_groups(callbridge: Peer, group: groups.Group) -> list[Stanza]:
    """The Callbridge says who is in a group of its directory; what it is answered."""
    addresses = f"from='{CB1}' to='{DOMAIN}'"
    callbridge.say(f"<iq type='set' id='g' {addresses}>{group.to_xml()}</iq>")
    return [stanza for stanza in callbridge.received() if stanza.id == "g"]


class CardTests(House):
    """What clients are told."""

    settings = ContactSettings()

    def setUp(self) -> None:
        """Alice sees Bob, and Carol nobody."""
        super().setUp()
        link: Any = self.server.links.get(CB1)
        link.knows_people = True
        self.befriend("alice", "bob")

    def ask(self, user: str, to: str, xml: str = GET) -> None:
        """Somebody asks for a vCard; of himself without an address."""
        self.peers[user].say(xml.format(f" to='{to}'" if to else ""))

    def answer(self, *answers: people.Answer) -> None:
        """The Callbridge answers."""
        for question, answer in zip(asked(self.callbridge), answers, strict=True):
            self.callbridge.answer(question, answer)

    def told(self, user: str) -> Stanza:
        """What he is told."""
        (answer,) = self.peers[user].received()
        self.assertEqual("v", answer.id)
        return answer

    def test_card(self) -> None:
        """Name and picture, of oneself and of who shows himself."""
        for user, to, sender in (("alice", "", ALICE), ("bob", ALICE, ALICE)):
            self.server.people.forget(ALICE)
            self.ask(user, to)
            self.answer(LIDDELL)
            answer = self.told(user)
            self.assertIn(answer.sender, (None, sender))
            card = answer.element.vCard
            self.assertEqual("Alice <Liddell>", str(card.FN))
            self.assertEqual("image/jpeg", str(card.PHOTO.TYPE))
            self.assertEqual(JPEG, base64.b64decode(str(card.PHOTO.BINVAL)))

    def test_nothing_known(self) -> None:
        """No name, no picture: an empty one, and no error."""
        self.ask("alice", "")
        self.answer(people.Person(""))
        answer = self.told("alice")
        self.assertEqual("result", answer.type)
        self.assertEqual([], answer.element.vCard.children)

    def test_who_may_not(self) -> None:
        """Who may not see somebody is told what he is told of nobody, and at once."""
        for user, to in (("carol", ALICE), ("carol", f"nobody@{DOMAIN}"), ("bob", f"x@{DOMAIN}")):
            self.ask(user, to)
            self.assertEqual("service-unavailable", shape(self.told(user)))
        self.peers["alice"].handler.is_guest = True
        for to in ("", ALICE, BOB):
            self.ask("alice", to)
            self.assertEqual("service-unavailable", shape(self.told("alice")))
        self.callbridge.say(GET.format(f" to='{ALICE}' from='x@{CB1}'"))
        self.assertEqual(["service-unavailable"], [*map(shape, self.callbridge.received())])
        self.assertEqual([], asked(self.callbridge))

    def test_who_asks_is_known(self) -> None:
        """Who asks to see somebody shows who he is, and sees nothing yet."""
        self.send("carol", "bob", "subscribe")
        self.ask("bob", f"carol@{DOMAIN}")
        self.answer(people.Person("Carol"))
        self.assertEqual("Carol", str(self.told("bob").element.vCard.FN))
        self.ask("carol", BOB)
        self.assertEqual("service-unavailable", shape(self.told("carol")))

    def test_groups_of_a_directory(self) -> None:
        """Who is in one with somebody sees him, and so knows him."""
        (question,) = asked_of_groups(
            self.callbridge, groups.Group("0" * 16, "x", ("alice", "carol"))
        )
        self.heard()
        self.assertEqual("result", question.type)
        self.ask("carol", ALICE)
        self.answer(LIDDELL)
        self.assertEqual("result", shape(self.told("carol")))

    def test_blocked(self) -> None:
        """Who is blocked learns nothing."""
        block = f"<block xmlns='urn:xmpp:blocking'><item jid='{BOB}'/></block>"
        self.say("alice", f"<iq type='set' id='b'>{block}</iq>")
        self.ask("bob", ALICE)
        self.assertEqual("service-unavailable", shape(self.told("bob")))

    def test_set(self) -> None:
        """Nobody sets one, and of others nothing is said."""
        xml = f"<iq type='set' id='v'{{}}><vCard xmlns='{VCARD}'><FN>x</FN></vCard></iq>"
        for to, condition in (("", "not-allowed"), (ALICE, "not-allowed"),
                              (BOB, "service-unavailable")):  # fmt: skip
            self.ask("alice", to, xml)
            self.assertEqual(condition, shape(self.told("alice")))

    def test_nobody(self) -> None:
        """A contact who is none any more."""
        self.ask("bob", ALICE)
        self.answer(people.Nobody())
        self.assertEqual("service-unavailable", shape(self.told("bob")))

    def items(self, node: str, item: str = "") -> Stanza:
        """Bob asks for a node of Alice's."""
        payload = f"<pubsub xmlns='{PUBSUB}'><items node='{node}'>{item}</items></pubsub>"
        self.ask("bob", ALICE, f"<iq type='get' id='v'{{}}>{payload}</iq>")
        for question in asked(self.callbridge):
            self.callbridge.answer(question, LIDDELL)
        return self.told("bob")

    def test_avatar(self) -> None:
        """XEP-0084: what it is, and its bytes."""
        id_ = hashlib.sha1(JPEG).hexdigest()
        item = self.items(METADATA).element.pubsub.items.item
        info = item.metadata.info
        self.assertEqual(
            (id_, id_, str(len(JPEG)), "image/jpeg"),
            (item["id"], info["id"], info["bytes"], info["type"]),
        )
        item = self.items(DATA, f"<item id='{id_}'/>").element.pubsub.items.item
        self.assertEqual((id_, JPEG), (item["id"], base64.b64decode(str(item.data))))
        other = self.items(DATA, "<item id='x'/>").element.pubsub.items
        self.assertEqual([], list(other.elements()))
        self.assertEqual("service-unavailable", shape(self.items("urn:xmpp:bookmarks:1")))

    def test_no_avatar(self) -> None:
        """Nobody has put one there."""
        self.ask("bob", ALICE)
        self.answer(people.Person("Alice"))
        self.told("bob")
        self.assertEqual("item-not-found", shape(self.items(METADATA)))

    def test_many_questions(self) -> None:
        """One user does not ask for all at once, and the answers are not mixed up."""
        for _ in range(MOST_ASKING + 1):
            self.ask("alice", BOB)
        self.assertEqual("resource-constraint", shape(self.told("alice")))
        self.answer(LIDDELL)
        answers = self.peers["alice"].received()
        self.assertEqual([(BOB, "result")] * MOST_ASKING, [(a.sender, a.type) for a in answers])
        self.ask("alice", BOB)
        self.assertEqual("result", shape(self.told("alice")))

    def test_features(self) -> None:
        """Server and account say so; they are no PEP service, where clients would publish."""
        for to in (DOMAIN, ALICE):
            query = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
            self.ask("alice", to, f"<iq type='get' id='v'{{}}>{query}</iq>")
            info = self.told("alice").element.query
            self.assertIn(VCARD, [each["var"] for each in info.elements(info.uri, "feature")])
            kinds = [each["category"] for each in info.elements(info.uri, "identity")]
            self.assertNotIn("pubsub", kinds)


class AnnouncedTests(House):
    """C{contacts.announce_pictures}: XEP-0153."""

    def setUp(self) -> None:
        """Bob sees Alice; nobody has asked who they are."""
        super().setUp()
        self.befriend("alice", "bob")
        link: Any = self.server.links.get(CB1)
        link.knows_people = True
        local: Any = self.server.router.local
        local._marked = self.server.cards.marked

    def answer(self, answer: people.Answer) -> None:
        """The Callbridge answers."""
        for question in asked(self.callbridge):
            self.callbridge.answer(question, answer)

    def seen(self, xml: str) -> list[tuple[str, str]]:
        """Alice says something; what Bob sees: status and hash."""
        self.peers["alice"].say(xml)
        return self.bob()

    def bob(self) -> list[tuple[str, str]]:
        """What he has seen."""
        self.server.clock.advance(1)
        shown = [each.element for each in self.peers["bob"].received()]
        self.peers["alice"].received()
        return [(str(each.status or ""), str((each.x and each.x.photo) or "")) for each in shown]

    def test_announced(self) -> None:
        """Once it is known, with each presence; the first is sent again with it."""
        sha = hashlib.sha1(JPEG).hexdigest()
        self.assertEqual([("a", "")], self.seen("<presence><status>a</status></presence>"))
        self.answer(LIDDELL)
        self.assertEqual([("a", sha)], self.bob())
        self.assertEqual([("b", sha)], self.seen("<presence><status>b</status></presence>"))
        self.assertEqual([("", sha)], self.seen("<presence/>"))
        self.assertEqual([("", sha)], self.seen("<presence id='x' />"))
        self.assertEqual([], asked(self.callbridge))

    def test_not(self) -> None:
        """Who has none, who says it himself, who has gone on or away meanwhile, and guests."""
        self.seen("<presence><status>a</status></presence>")
        self.peers["alice"].say("<presence type='unavailable'/>")
        self.answer(LIDDELL)
        self.assertEqual([("", "")], self.bob())
        own = f"<x xmlns='{UPDATE}'><photo>mine</photo></x>"
        self.assertEqual([("", "mine")], self.seen(f"<presence>{own}</presence>"))
        self.server.people.forget(ALICE)
        self.seen("<presence/>")
        self.answer(people.Person("Alice"))
        self.assertEqual([], self.bob())
        self.server.people.forget(ALICE)
        self.peers["alice"].handler.is_guest = True
        self.seen("<presence/>")
        self.assertEqual([], asked(self.callbridge))

    def test_nobody_answers(self) -> None:
        """Presence does not wait for it."""
        self.assertEqual([("a", "")], self.seen("<presence><status>a</status></presence>"))
        self.server.clock.advance(kept.ANSWER_TIMEOUT + 1)
        asked(self.callbridge)
        self.assertEqual([], self.bob())

    def test_off(self) -> None:
        """Unless it is wanted, nobody is asked."""
        local: Any = Server().router.local
        self.assertIsNone(local._marked)


class EverybodyTests(CardTests):
    """C{contacts.known_to = "everybody"}."""

    settings = ContactSettings(known_to=EVERYBODY)

    def setUp(self) -> None:
        super().setUp()
        self.server.cards._settings = self.settings

    def test_who_may_not(self) -> None:
        """All users of the domain are told, guests are not; who is nobody is told apart by that."""
        self.ask("carol", ALICE)
        self.answer(LIDDELL)
        self.assertEqual("result", shape(self.told("carol")))
        self.ask("carol", f"nobody@{DOMAIN}")
        self.answer(people.Nobody())
        self.assertEqual("service-unavailable", shape(self.told("carol")))
        self.peers["alice"].handler.is_guest = True
        self.ask("alice", BOB)
        self.assertEqual("service-unavailable", shape(self.told("alice")))

    def test_who_asks_is_known(self) -> None:
        """So is everybody."""


class AskingTests(House):
    """The server asks Callbridges."""

    def setUp(self) -> None:
        super().setUp()
        self.people = self.server.people
        link: Any = self.server.links.get(CB1)
        link.knows_people = True

    def find(self, user: str = ALICE) -> Deferred[Any]:
        """Who it is."""
        return self.people.find(user)

    def answer(self, answer: people.Answer, callbridge: Peer | None = None) -> None:
        """One question is answered."""
        (question,) = asked(callbridge or self.callbridge)
        self.assertEqual(people.Ask(ALICE), people.parse(question.child))
        (callbridge or self.callbridge).answer(question, answer)

    def late(self, found: Deferred[Any]) -> str:
        """Why it is not known."""
        error: Any = self.failureResultOf(found).value
        self.assertEqual("wait", error.type)
        return str(error.condition)

    def test_kept(self) -> None:
        """One question for all who ask meanwhile, and for some minutes."""
        found = [self.find(), self.find()]
        self.answer(LIDDELL)
        self.assertEqual([LIDDELL] * 2, [*map(self.successResultOf, found)])
        self.server.clock.advance(kept.KEPT - 1)
        self.assertEqual(LIDDELL, self.successResultOf(self.find()))
        self.assertEqual([], asked(self.callbridge))
        self.server.clock.advance(2)
        found[0] = self.find()
        self.answer(people.Nobody())
        self.assertEqual(None, self.successResultOf(found[0]))
        self.server.clock.advance(kept.KEPT_NOBODY + 1)
        found[0] = self.find()
        self.answer(people.Person("A"))
        self.assertEqual(people.Person("A"), self.successResultOf(found[0]))

    def test_no_picture_now(self) -> None:
        """The one that was known is shown, and it is asked for again soon."""
        for answer in (LIDDELL, people.Person("A", undecided=True)):
            found = self.find()
            self.answer(answer)
            self.assertEqual(JPEG, self.successResultOf(found).picture)
            self.server.clock.advance(kept.KEPT + 1)
        self.find()
        self.answer(people.Person("A", undecided=True))
        self.server.clock.advance(kept.KEPT_NOBODY + 1)
        found = self.find()
        self.answer(people.Person("A"))
        self.assertEqual(b"", self.successResultOf(found).picture)

    def test_several(self) -> None:
        """Who knows the user is believed; that nobody does says who is there."""
        other = self.server.callbridge("cb2")
        link: Any = self.server.links.get(f"cb2.{DOMAIN}")
        link.knows_people = True
        found = self.find()
        self.answer(people.Nobody())
        self.assertNoResult(found)
        self.answer(LIDDELL, other)
        self.assertEqual(LIDDELL, self.successResultOf(found))
        self.people.forget(ALICE)
        found = self.find()
        self.answer(people.Nobody())
        self.answer(people.Undecided(), other)
        self.assertEqual("remote-server-timeout", self.late(found))
        self.server.links.quiet(link)  # it goes to another server, and is asked there
        found = self.find()
        self.answer(people.Nobody())
        self.assertEqual("remote-server-timeout", self.late(found))

    def test_not_asked(self) -> None:
        """One that does not say that it knows people, as older ones do not."""
        link: Any = self.server.links.get(CB1)
        link.knows_people = False
        self.assertEqual("remote-server-timeout", self.late(self.find()))
        self.assertEqual([], asked(self.callbridge))

    def test_says_that_it_knows(self) -> None:
        """With its mechanisms."""
        peer = self.server.register("cb2")
        (question,) = peer.received()
        peer.answer(question, lp.Mechanisms(("PLAIN",), people=True))
        link = self.server.links.get(f"cb2.{DOMAIN}")
        self.assertTrue(link is not None and link.knows_people)

    def test_silent(self) -> None:
        """A Callbridge that says nothing costs seconds; what was known before is told then."""
        found = self.find()
        self.server.clock.advance(kept.ANSWER_TIMEOUT + 1)
        self.assertEqual("remote-server-timeout", self.late(found))
        asked(self.callbridge)
        found = self.find()
        self.answer(LIDDELL)
        self.server.clock.advance(kept.KEPT + 1)
        for malformed in (False, True):
            found = self.find()
            (question,) = asked(self.callbridge)
            if malformed:
                self.callbridge.answer(question, lp.Abort("e"))
            else:
                self.server.clock.advance(kept.ANSWER_TIMEOUT + 1)
            self.assertEqual(LIDDELL, self.successResultOf(found))

    def test_no_callbridge(self) -> None:
        """Nobody can say."""
        self.callbridge.transport.lose()
        self.assertEqual("remote-server-timeout", self.late(self.find()))

    def test_limits(self) -> None:
        """Of questions, and of what is kept."""
        self.patch(kept, "MOST_OPEN", 2)
        self.patch(kept, "MOST_BYTES", 3 * len(JPEG))
        found = [self.find(f"u{number}@{DOMAIN}") for number in range(3)]
        self.assertEqual("resource-constraint", self.late(found.pop()))
        self.patch(kept, "MOST_OPEN", 100)
        found += [self.find(f"v{number}@{DOMAIN}") for number in range(3)]
        for question in asked(self.callbridge):
            self.callbridge.answer(question, LIDDELL)
        self.assertEqual([LIDDELL] * 5, [*map(self.successResultOf, found)])
        again = [self.find(f"u{number}@{DOMAIN}").called for number in range(2)]
        self.assertEqual([False, False], again)
        self.assertTrue(self.find(f"v2@{DOMAIN}").called)


class ClusterTests(TwoServers):
    """The Callbridge is at another server."""

    def test_across(self) -> None:
        """It is asked there."""
        for server, name in ((self.one, "cb1"), (self.two, "cb2")):
            link: Any = server.links.own(f"{name}.{DOMAIN}")
            link.knows_people = name == "cb1"
            server.nodes._link_decides(link)
        self.heard()
        self.peers["bob"].say(GET.format(""))
        self.cluster.run(0.5)
        (question,) = asked(self.cb1)
        self.cb1.answer(question, people.Person("Bob", JPEG * 300))
        self.cluster.run(0.5)
        (answer,) = self.peers["bob"].received()
        self.assertEqual("Bob", str(answer.element.vCard.FN))


class CallbridgeTests(SynchronousTestCase):
    """The Callbridge answers."""

    def setUp(self) -> None:
        self.found: Deferred[Any] = succeed(None)
        directory: Any = self
        self.people = Answering(lambda: directory, lambda: DOMAIN, LineLimiter(Clock().seconds))

    def person(self, name: str) -> Deferred[Any]:
        """As a directory."""
        self.assertEqual("alice", name)
        return self.found

    def test_answers(self) -> None:
        """A person, nobody, or that it cannot be told; another domain's users are not its."""
        found: tuple[tuple[Any, people.Answer], ...] = (
            (succeed(LIDDELL), LIDDELL),
            (succeed(None), people.Nobody()),
            (fail(DirectoryError("away")), people.Undecided()),
        )
        for self.found, said in found:
            answer = self.people.answer(people.Ask(ALICE))
            self.assertEqual(said, self.successResultOf(answer))
        elsewhere = self.people.answer(people.Ask("alice@elsewhere.example"))
        self.assertEqual(people.Nobody(), self.successResultOf(elsewhere))

    def test_unexpected(self) -> None:
        """An error of ours is logged, and the server has an answer."""
        self.found = fail(ValueError("x"))
        answer = self.people.answer(people.Ask(ALICE))
        self.assertEqual(people.Undecided(), self.successResultOf(answer))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_many(self) -> None:
        """A slow directory does not gather questions."""
        waiting = []
        for _ in range(MOST_AT_CALLBRIDGE):
            self.found = Deferred()
            waiting.append(self.found)
            self.people.answer(people.Ask(ALICE))
        answer = self.people.answer(people.Ask(ALICE))
        self.assertEqual(people.Undecided(), self.successResultOf(answer))
        waiting[0].callback(LIDDELL)
        self.found = succeed(LIDDELL)
        answer = self.people.answer(people.Ask(ALICE))
        self.assertEqual(LIDDELL, self.successResultOf(answer))


class LdapTests(SynchronousTestCase):
    """What LDAP says."""

    def setUp(self) -> None:
        self.stage = LdapStage(new_folder(self), picture_attribute="jpegPhoto")
        self.addCleanup(self.stage.close)
        stage, finder = self.stage, None
        self.servers = Servers(
            *(stage.clock, stage.settings, stage.connector),
            finder=finder,  # type: ignore[arg-type]
            random=stage.random,
        )
        stage.directory._pictures = Pictures(
            *(stage.clock, stage.settings, self.servers), lambda: stage.domain
        )

    def photo(self, uid: str, picture: bytes) -> None:
        """Somebody with a picture, whom the sync finds."""
        self.stage.person(uid, cn=f"{uid.title()}  the \u202eFirst")
        for server in (self.stage.dc1, self.stage.dc2):
            server.entries[f"uid={uid},{BASE}"]["jpegphoto"] = [picture]
        self.stage.sync.run(allow_removal=True)

    def find(self, name: str = "alice") -> Any:
        """Who it is."""
        found = self.stage.directory.person(name)
        self.stage.clock.advance(0)
        return self.successResultOf(found)

    def test_name_and_picture(self) -> None:
        """The name of the sync, tidied up, and the picture of now."""
        self.photo("alice", JPEG)
        self.assertEqual(people.Person("Alice the First", JPEG), self.find())
        self.assertEqual(None, self.find("bob"))
        asked = self.stage.dc1.asked[-1]
        self.find("bob")
        self.assertEqual(asked, self.stage.dc1.asked[-1])

    def test_no_picture(self) -> None:
        """What is none, or too large, is left out; a photograph of megabytes breaks nothing."""
        large = JPEG + bytes(3 * 1024 * 1024)
        for picture in (b"<svg/>", b"", JPEG + bytes(people.MOST_PICTURE), large):
            self.photo("alice", picture)
            self.assertEqual(people.Person("Alice the First"), self.find())
        self.assertEqual([None], [state.problem for state in self.servers.states[:1]])

    def test_beyond_all_measure(self) -> None:
        """What is larger than an entry may be ends that connection, and no log-in notices."""
        self.patch(connection, "MOST_ANSWER", 1_000_000)
        self.photo("alice", JPEG + bytes(2 * 1024 * 1024))
        self.assertEqual(people.Person("Alice the First", undecided=True), self.find())
        self.assertNotEqual([None, None], [state.problem for state in self.servers.states])
        self.assertEqual([None, None], [state.problem for state in self.stage.servers.states])
        found = self.stage.directory.verify("alice", "s3cret")
        self.assertEqual(True, self.successResultOf(found))

    def test_away(self) -> None:
        """The name is known here, so it is told without the directory."""
        self.photo("alice", JPEG)
        for server in (self.stage.dc1, self.stage.dc2):
            server.refuses = True
            server.hang_up()
        self.assertEqual(people.Person("Alice the First", undecided=True), self.find())

    def test_refused(self) -> None:
        """A directory that lets nobody read it."""
        self.photo("alice", JPEG)
        for server in (self.stage.dc1, self.stage.dc2):
            server.search_code = 50
        self.assertEqual(people.Person("Alice the First"), self.find())

    def test_disabled(self) -> None:
        """His name stays with his contacts; the picture is not read any more."""
        self.photo("alice", JPEG)
        for server in (self.stage.dc1, self.stage.dc2):
            server.entries[f"uid=alice,{BASE}"]["useraccountcontrol"] = [b"514"]
        self.stage.sync.run(allow_removal=True)
        self.assertEqual(people.Person("Alice the First"), self.find())
