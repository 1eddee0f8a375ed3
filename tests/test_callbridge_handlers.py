"""What the Callbridge answers on its link: wokkel's handlers on our own stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element
from wokkel.generic import Request  # type: ignore[import-untyped]
from wokkel.subprotocols import XMPPHandler

import cms
from cms.callbridge.link.handlers import CallbridgeHandler, LinkTraffic, LoginHandler, NotConnected
from cms.callbridge.link.inbox import A_TURN, EACH, MOST_OF_ONE
from cms.callbridge.login.authority import Authority
from cms.linkprotocol import join
from cms.xmlstream import ns
from cms.xmlstream.requests import RequestLost, Requests
from cms.xmlstream.stanza import Stanza
from tests.support import one_stanza

DOMAIN = "meet.example.com"
COMPONENT, ALICE = f"cb1.{DOMAIN}", f"alice@{DOMAIN}/r"


class Stream:
    """An active link's stream that remembers what was sent."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[Stanza] = []
        self.requests = Requests(self.clock, self.send, own=COMPONENT)
        self.link_id = "l1"
        self.waiting_bytes = 0

    def send(self, stanza: Stanza) -> None:
        """To the server."""
        self.sent.append(stanza)

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """To the server."""
        self.sent += [one_stanza(raw.decode()) for raw in raws]
        return ()


class Recorder(XMPPHandler):
    """Remembers what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[str] = []

    def connectionMade(self) -> None:
        """From the link."""
        self.happened.append("made")

    def connectionInitialized(self) -> None:
        """From the link."""
        self.happened.append("initialized")
        self.xmlstream.addObserver("/message[@type='chat']", self.onChat)

    def connectionLost(self, reason: Failure) -> None:
        """From the link."""
        super().connectionLost(reason)
        self.happened.append("lost")

    def onChat(self, message: Any) -> None:
        """A message that is for us."""
        self.happened.append("chat")
        message.handled = True


class Faulty(XMPPHandler):
    """Fails when the link ends."""

    def connectionLost(self, reason: Failure) -> None:
        """From the link."""
        raise KeyError("bug")


class TrafficTests(SynchronousTestCase):
    """An active link with handlers on it."""

    def setUp(self) -> None:
        """The Callbridge's own handler and one that records."""
        self.recorder = Recorder()
        self.traffic = LinkTraffic(Clock(), [CallbridgeHandler(), self.recorder])
        self.stream = Stream()
        self.traffic.link_up(self.stream)

    def say(self, xml: str) -> list[Stanza]:
        """What is answered to a stanza."""
        self.stream.sent.clear()
        self.traffic.received(one_stanza(xml))
        return list(self.stream.sent)

    def ask(self, child: str, type_: str = "get") -> Stanza:
        """The one answer to an IQ."""
        (answer,) = self.say(
            f"<iq type='{type_}' id='i1' from='{ALICE}' to='{COMPONENT}'>{child}</iq>"
        )
        self.assertEqual(("i1", ALICE, COMPONENT), (answer.id, answer.to, answer.sender))
        return answer

    def refused(self, answer: Stanza, condition: str) -> None:
        """It is an error with this condition."""
        self.assertEqual("error", answer.type)
        self.assertIn(f"<{condition} xmlns='{ns.STANZAS}'/>", answer.raw.decode())


class AnswerTests(TrafficTests):
    """What strangers and servers may ask."""

    def test_ping(self) -> None:
        """A ping has an empty answer (XEP-0199)."""
        answer = self.ask(f"<ping xmlns='{ns.PING}'/>")
        self.assertEqual(("result", None), (answer.type, answer.payload))

    def test_one_child(self) -> None:
        """A request with more than one child, or none, is refused once (RFC 6120 8.2.3)."""
        ping, version = f"<ping xmlns='{ns.PING}'/>", f"<query xmlns='{ns.VERSION}'/>"
        login = "<mechanisms xmlns='urn:x-cms:login:1'/>"
        for children in (ping + version, version + ping, ping + ping, ping + login, ""):
            self.refused(self.ask(children), "bad-request")
        self.assertEqual([], self.say(f"<iq type='result' id='x' from='{ALICE}'>{ping * 2}</iq>"))

    def test_info(self) -> None:
        """Service discovery tells what this is and what it can (XEP-0030)."""
        query = self.ask(f"<query xmlns='{ns.DISCO_INFO}'/>").element.firstChildElement()
        elements = list(query.elements())
        (identity,) = [e for e in elements if e.name == "identity"]
        self.assertEqual(("component", "generic"), (identity["category"], identity["type"]))
        features = {e["var"] for e in elements if e.name == "feature"}
        self.assertEqual({ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.VERSION}, features)

    def test_every_feature_is_served(self) -> None:
        """Nothing is promised that is then refused."""
        for feature in (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.VERSION):
            self.assertEqual("result", self.ask(f"<query xmlns='{feature}'/>").type, feature)

    def test_nodes(self) -> None:
        """A node that is not there is not found; the list of commands is empty."""
        for feature in (ns.DISCO_INFO, ns.DISCO_ITEMS):
            self.refused(self.ask(f"<query xmlns='{feature}' node='x'/>"), "item-not-found")
            answer = self.ask(f"<query xmlns='{feature}' node='{ns.COMMANDS}'/>").child
            assert answer is not None
            self.assertEqual(ns.COMMANDS, answer["node"])
            self.assertEqual([], list(answer.elements(ns.DISCO_ITEMS, "item")))

    def test_join(self) -> None:
        """A room that is not here is not found, and the error shows what it answers."""
        to = f"from='{ALICE}' to='room@{COMPONENT}/n' id='j1'"
        x = f"<x xmlns='{ns.MUC}'><password>secret</password></x>"
        (answer,) = self.say(f"<presence {to}>{x}</presence>")
        self.refused(answer, "item-not-found")
        self.assertEqual(("j1", ALICE), (answer.id, answer.to))
        echoed = answer.child
        assert echoed is not None
        self.assertEqual((ns.MUC, "x", []), (echoed.uri, echoed.name, echoed.children))
        for quiet in ("", " type='unavailable'", " type='error'", " type='subscribe'"):
            child = x if quiet else ""
            self.assertEqual([], self.say(f"<presence {to}{quiet}>{child}</presence>"), quiet)

    def test_items(self) -> None:
        """There are no items."""
        answer = self.ask(f"<query xmlns='{ns.DISCO_ITEMS}'/>")
        self.assertEqual((ns.DISCO_ITEMS, "query"), answer.payload)
        self.assertEqual([], list(answer.element.firstChildElement().elements()))

    def test_version(self) -> None:
        """The version is the package's (XEP-0092), and nothing is said of the system."""
        raw = self.ask(f"<query xmlns='{ns.VERSION}'/>").raw.decode()
        self.assertIn(f"<name>cms-callbridge</name><version>{cms.__version__}</version>", raw)
        self.assertNotIn("<os", raw)

    def test_anything_else(self) -> None:
        """What nobody serves is refused, and not left unanswered."""
        for child, type_ in (
            ("<query xmlns='jabber:iq:last'/>", "get"),
            ("<query xmlns='urn:x'/>", "set"),
            (f"<ping xmlns='{ns.PING}'/>", "set"),
            (f"<query xmlns='{ns.DISCO_INFO}'/>", "set"),
        ):
            self.refused(self.ask(child, type_), "service-unavailable")

    def test_messages(self) -> None:
        """A message that nobody takes goes back as an error, without what it said."""
        (answer,) = self.say(f"<message from='{ALICE}' to='{COMPONENT}'><body>x</body></message>")
        self.refused(answer, "service-unavailable")
        self.assertNotIn("body", answer.raw.decode())

    def test_no_error_for_an_error(self) -> None:
        """Errors, answers and presence are never answered (RFC 6120 8.3.1)."""
        for xml in (
            "<message type='error' from='a@b' to='c'/>",
            "<iq type='error' id='1' from='a@b' to='c'/>",
            "<iq type='result' id='1' from='a@b' to='c'/>",
            "<presence from='a@b' to='c'/>",
            "<presence type='subscribe' from='a@b' to='c'/>",
        ):
            self.assertEqual([], self.say(xml), xml)

    def test_no_stanza(self) -> None:
        """What is no stanza is passed over: the server that sent it would not take an answer."""
        for xml in (
            "<handshake/>",
            "<foo xmlns='urn:x' id='1'/>",
            f"<features xmlns='{ns.STREAMS}'/>",
            "<message xmlns='urn:x' from='a@b' to='c'/>",
        ):
            self.assertEqual([], self.say(xml), xml)

    def test_taken(self) -> None:
        """What a handler takes is not refused."""
        self.assertEqual([], self.say("<message type='chat' from='a@b' to='c'/>"))
        self.assertEqual("chat", self.recorder.happened[-1])


class House:
    """Rooms that remember what is for them."""

    def __init__(self) -> None:
        self.taken: list[str | None] = []
        self.happened: list[str] = []

    def link_up(self, link: object, answer: object) -> None:
        """From the link."""
        self.happened.append("up")

    def link_down(self) -> None:
        """From the link."""
        self.happened.append("down")

    def take(self, stanza: Stanza) -> bool:
        """What has a local part."""
        self.taken.append(stanza.to)
        return "@" in (stanza.to or "")

    def spaces_of(self, address: str) -> Deferred[Sequence[tuple[str, str, str]]]:
        """One."""
        return succeed([(f"team@{COMPONENT}", f"Team of {address}", "123456789")])

    def find(self, address: str, call_id: str) -> Deferred[Element]:
        """One."""
        if call_id != "123456789":
            return fail(StanzaError("item-not-found"))
        found = Element((join.NS, "space"))
        found["jid"], found["name"] = f"team@{COMPONENT}", f"Team of {address}"
        return succeed(found)


class RoomTests(TrafficTests):
    """A link with rooms behind it."""

    def setUp(self) -> None:
        """With rooms, and time that stands still."""
        self.house = House()
        self.clock = Clock()
        handlers = [CallbridgeHandler(self.house, self.house.find)]
        self.traffic = LinkTraffic(self.clock, handlers, rooms=self.house)
        self.stream = Stream()
        self.traffic.link_up(self.stream)

    def test_life(self) -> None:
        """They hear of the link's begin and end."""
        self.traffic.link_down()
        self.assertEqual(["up", "down"], self.house.happened)

    def test_taken(self) -> None:
        """What is theirs is answered by them alone; the rest as ever."""
        self.assertEqual([], self.say(f"<message from='{ALICE}' to='team@{COMPONENT}'/>"))
        answer = self.ask(f"<ping xmlns='{ns.PING}'/>")
        self.assertEqual(("result", None), (answer.type, answer.payload))

    def test_found(self) -> None:
        """The Callbridge says that it has rooms, and shows those of whoever asks."""
        info = self.ask(f"<query xmlns='{ns.DISCO_INFO}'/>").raw.decode()
        self.assertIn("category='conference' type='text'", info)
        self.assertIn(f"<feature var='{ns.MUC}'/>", info)
        items = self.ask(f"<query xmlns='{ns.DISCO_ITEMS}'/>").raw.decode()
        self.assertIn(f"<item jid='team@{COMPONENT}' name='Team of {ALICE}'", items)
        self.assertIn(f"='{join.NS}'", items)
        self.assertIn(":callId='123456789'/>", items)
        commands = self.ask(f"<query xmlns='{ns.DISCO_ITEMS}' node='{ns.COMMANDS}'/>").raw
        self.assertNotIn(b"<item", commands)

    def test_find(self) -> None:
        """Who knows a call ID finds its space."""
        info = self.ask(f"<query xmlns='{ns.DISCO_INFO}'/>").raw.decode()
        self.assertIn(f"<feature var='{join.NS}'/>", info)
        answer = self.ask(f"<find xmlns='{join.NS}' callId='123456789'/>")
        space = answer.child
        assert space is not None
        self.assertEqual((join.NS, "space"), (space.uri, space.name))
        self.assertEqual((f"team@{COMPONENT}", f"Team of {ALICE}"), (space["jid"], space["name"]))
        for unknown in ("callId='1'", ""):
            self.refused(self.ask(f"<find xmlns='{join.NS}' {unknown}/>"), "item-not-found")

    def test_flood_of_joins(self) -> None:
        """A join for which there is no place in the inbox is answered, other presence is not."""
        join = f"<x xmlns='{ns.MUC}'/>"
        address = f"from='{ALICE}' to='team@{COMPONENT}/a'"
        answers = [
            a for _ in range(200) for a in self.say(f"<presence {address}>{join}</presence>")
        ]
        self.assertEqual(200 - A_TURN - MOST_OF_ONE // EACH, len(answers))
        for answer in answers:
            self.refused(answer, "resource-constraint")
            self.assertEqual((ALICE, f"team@{COMPONENT}/a"), (answer.to, answer.sender))
        self.assertEqual([], self.say(f"<presence {address}/>"))


class LifeTests(TrafficTests):
    """Links come and go; handlers stay."""

    def test_order(self) -> None:
        """A handler hears of the link's begin and end, each time once."""
        self.traffic.link_down()
        self.traffic.link_up(self.stream)
        expected = ["made", "initialized", "lost", "made", "initialized"]
        self.assertEqual(expected, self.recorder.happened)

    def test_new_link_answers_once(self) -> None:
        """After a reconnection each request is answered once."""
        for _ in range(3):
            self.traffic.link_down()
            self.traffic.link_up(self.stream)
        self.ask(f"<ping xmlns='{ns.PING}'/>")

    def test_what_came_is_handled(self) -> None:
        """What waits for its turn when the link ends was acknowledged: all of it is answered."""
        addressed = f"from='{ALICE}' to='{COMPONENT}'><ping xmlns='{ns.PING}'/></iq>"
        asked = [f"<iq type='get' id='{n}' {addressed}" for n in range(A_TURN + 10)]
        for xml in asked:
            self.traffic.received(one_stanza(xml))
        self.assertEqual(A_TURN, len(self.stream.sent))
        self.traffic.link_down()
        self.assertEqual([str(n) for n in range(len(asked))], [s.id for s in self.stream.sent])

    def test_sent_before(self) -> None:
        """Of what a link left, answers to users and copies of rooms go again, in their lanes."""
        room, account = f"team@{COMPONENT}", f"alice@{DOMAIN}"
        kept = [
            (f"<message from='{room}/a' to='{ALICE}' type='groupchat' id='1'/>", room),
            (
                f"<iq from='{COMPONENT}' to='{ALICE}' type='result' id='2'/>",
                account,
            ),
            (f"<presence from='{room}/b' to='{ALICE}'/>", room),
            (f"<iq from='{room}' to='{ALICE}' type='error' id='3'/>", room),
        ]
        lanes: list[tuple[str, object]] = []

        def deliver(raws: Sequence[bytes], source: object) -> Sequence[bytes]:
            lanes.extend((raw.decode(), source) for raw in raws)
            return ()

        self.patch(self.stream, "deliver", deliver)
        logins = LoginHandler(cast("Authority", None), DOMAIN)
        traffic = LinkTraffic(Clock(), [], logins)
        traffic.sent_before(self.stream, [xml.encode() for xml, _ in kept])
        self.assertEqual(kept, lanes)

    def test_nothing_is_queued(self) -> None:
        """What is sent while no link is up fails, and is not sent later."""
        self.traffic.link_down()
        message = Element((ns.CLIENT, "message"))
        self.assertRaises(NotConnected, self.recorder.send, message)
        self.assertRaises(NotConnected, self.traffic.request, Request(stanzaType="get"))
        self.traffic.link_up(self.stream)
        self.assertEqual([], self.stream.sent)

    def test_received_while_down(self) -> None:
        """What arrives after the end is nobody's."""
        self.traffic.link_down()
        self.assertEqual([], self.say(f"<message from='{ALICE}' to='{COMPONENT}'/>"))

    def test_faulty_handler(self) -> None:
        """A handler that fails at the end of a link keeps nobody from hearing of it."""
        recorder = Recorder()
        traffic = LinkTraffic(Clock(), [Faulty(), recorder])
        traffic.link_up(self.stream)
        traffic.link_down()
        self.assertEqual("lost", recorder.happened[-1])
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))


class RequestTests(TrafficTests):
    """What handlers ask of others, as wokkel's C{generic.Request}."""

    def request(self) -> Deferred[Element]:
        """A ping to the domain."""
        request = Request(
            stanzaType="get", recipient=JID("meet.example.com"), sender=JID(COMPONENT)
        )
        return self.recorder.request(request)  # type: ignore[no-any-return, attr-defined]

    def answer(self, type_: str, sender: str) -> None:
        """Somebody answers the newest request."""
        asked = self.stream.sent[-1]
        xml = f"<iq type='{type_}' id='{asked.id}' from='{sender}' to='{COMPONENT}'/>"
        self.stream.requests.take(one_stanza(xml))

    def test_answered(self) -> None:
        """The answer of whoever was asked is what the handler gets."""
        asked = self.request()
        self.answer("result", "mallory@meet.example.com")
        self.assertNoResult(asked)
        self.answer("result", "meet.example.com")
        self.assertEqual("result", self.successResultOf(asked)["type"])

    def test_error(self) -> None:
        """An error is a failure."""
        asked = self.request()
        self.answer("error", "meet.example.com")
        self.failureResultOf(asked, StanzaError)

    def test_link_lost(self) -> None:
        """The end of the link ends what waits."""
        asked = self.request()
        self.stream.requests.lost()
        self.failureResultOf(asked, RequestLost)
