"""POST /join: what a guest asks of the web listener, and what becomes of it at the Callbridges."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms.door import joining
from cms.linkprotocol import join
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.replies import error_reply
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp import admissions
from tests import test_door
from tests.support import MemoryTransport
from tests.test_door import DoorTestCase
from tests.test_xmpp_service import CONFIGURATION
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server

MECHANISMS = ("SCRAM-SHA-256", "PLAIN")
BY_ID = {"callId": "123 456-789", "passcode": "4711", "name": " Bob "}
GUEST = f"guest-0123456789abcdef@{DOMAIN}"
CODE, PASS, TOKEN = "4711", "p" * 22, "t" * 22
HERE, SITE = "198.51.100.9", "https://www.example.org"


def admitted(component: str = "cb1", jid: str = GUEST) -> join.Admitted:
    """A yes."""
    space = f"team@{component}.{DOMAIN}"
    return join.Admitted(jid, PASS, 60, space, "Bob 2", "Team", TOKEN, "123456789")


class Post:
    """A request and its answer."""

    def __init__(self, factory: Any, sent: bytes, host: str) -> None:
        self._transport = MemoryTransport(host)
        self._transport.connect(factory.buildProtocol(IPv4Address("TCP", host, 40000)))
        self._transport.protocol.dataReceived(sent)

    @property
    def text(self) -> str:
        """All that was answered."""
        return str(self._transport.value().decode())

    @property
    def status(self) -> int:
        """0: there is no answer yet."""
        return int(self.text.split()[1]) if self.text else 0

    @property
    def body(self) -> Any:
        """As JSON."""
        return json.loads(self.text.partition("\r\n\r\n")[2])

    @property
    def said(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, self.body["reason"]

    def leave(self) -> None:
        """The client goes."""
        self._transport.lose()


class JoinTestCase(DoorTestCase):
    """A daemon with a web listener, and Callbridges that admit guests."""

    more = f'[web]\norigins = ["{SITE}"]\n'

    def setUp(self) -> None:
        """Two may register."""
        second = f'cb2 = {{ secret = "{SECRETS["cb2"]}" }}\n'
        self.patch(test_door, "CONFIGURATION", CONFIGURATION + second)
        super().setUp()

    def callbridge(self, name: str = "cb1", *, admits: bool = True) -> Peer:
        """One that has registered."""
        peer = self.daemon.register(name)
        (question,) = peer.received()
        peer.answer(question, lp.Mechanisms(MECHANISMS, admits))
        return peer

    def post(
        self,
        body: Any = None,
        kind: str = "application/json",
        *,
        method: str = "POST",
        host: str = HERE,
        **fields: str,
    ) -> Post:
        """Send a request."""
        sent = body if isinstance(body, bytes) else json.dumps(body or BY_ID).encode()
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        head = "\r\n".join(
            [
                f"{method} /join HTTP/1.1",
                *("Host: meet.example.com", f"Content-Type: {kind}"),
                *(f"Content-Length: {len(sent)}", *lines, "", ""),
            ]
        )
        post = Post(self.factory, head.encode() + sent, host)
        self.addCleanup(post.leave)
        return post

    def asked(self, callbridge: Peer) -> tuple[Stanza, join.Admit]:
        """What a Callbridge is asked."""
        (question,) = callbridge.received()
        message = join.parse(question.child)
        assert isinstance(message, join.Admit), message
        return question, message

    def answer(self, callbridge: Peer, message: join.Message) -> None:
        """It answers what it is asked."""
        question, _ = self.asked(callbridge)
        callbridge.say(written_result(question, message.to_xml()).raw.decode())


class RequestTests(JoinTestCase):
    """What may be asked, and how."""

    def test_json(self) -> None:
        """The fields as people write them; the answer has all that a page needs."""
        callbridge = self.callbridge()
        post = self.post()
        question, asked = self.asked(callbridge)
        expected = join.Admit(HERE, call_id="123456789", passcode=CODE, name="Bob")
        self.assertEqual((expected, DOMAIN, "set"), (asked, question.sender, question.type))
        self.assertEqual(0, post.status)
        callbridge.say(written_result(question, admitted().to_xml()).raw.decode())
        self.assertEqual(200, post.status)
        self.assertEqual(
            {
                "jid": GUEST,
                "password": PASS,
                "expires": 60,
                "space": f"team@cb1.{DOMAIN}",
                "nick": "Bob 2",
                "title": "Team",
                "callId": "123456789",
                "reentry": TOKEN,
            },
            post.body,
        )
        self.assertIn("cache-control: no-store", post.text.lower())

    def test_form(self) -> None:
        """The same as a form; a link, a token."""
        callbridge = self.callbridge()
        form = "application/x-www-form-urlencoded; charset=utf-8"
        for body, expected in (
            (BY_ID, join.Admit(HERE, call_id="123456789", passcode=CODE, name="Bob")),
            ({"secret": "s", "name": "Bób"}, join.Admit(HERE, secret="s", name="Bób")),
            ({"reentry": "r"}, join.Admit(HERE, reentry="r")),
        ):
            for sent, kind in (
                (urlencode(body).encode(), form),
                (json.dumps({**body, "unknown": 1, "more": None}).encode(), "application/json"),
            ):
                post = self.post(sent, kind)
                question, asked = self.asked(callbridge)
                self.assertEqual(expected, asked)
                callbridge.say(written_result(question, join.Refused().to_xml()).raw.decode())
                self.assertEqual((403, "join-refused"), post.said)

    def test_unusable(self) -> None:
        """What cannot be used is named, and no Callbridge is asked."""
        callbridge = self.callbridge()
        for body, parameter in (
            ({}, "callId"),
            ({"callId": "12a", "name": "Bob"}, "callId"),
            ({"callId": "1" * 33, "name": "Bob"}, "callId"),
            ({"callId": "1", "secret": "s", "name": "Bob"}, "callId"),
            ({"callId": 123, "name": "Bob"}, "callId"),
            ({"callId": "1", "passcode": "x" * 33, "name": "Bob"}, "passcode"),
            ({"callId": "1"}, "name"),
            ({"callId": "1", "name": "\x00"}, "name"),
            ({"callId": "1", "name": "x" * 10_000}, "name"),
            ({"secret": "../", "name": "Bob"}, "secret"),
            ({"reentry": "r", "name": "Bob"}, "name"),
        ):
            post = self.post(json.dumps(body).encode())
            self.assertEqual((400, "bad-request"), post.said, body)
            self.assertIn(parameter, post.body["text"])
        for sent, kind, status in (
            (b"[1]", "application/json", 400),
            (b"{", "application/json", 400),
            (b"[" * 60_000, "application/json", 400),
            (b"\xff", "application/json", 400),
            (b"callId=1&name=%ff", "application/x-www-form-urlencoded", 400),
            (b"{}", "text/plain", 415),
        ):
            self.assertEqual(status, self.post(sent, kind).status, sent[:20])
        self.assertEqual([], callbridge.received())

    def test_other_pages(self) -> None:
        """A page of another site lets nobody in; our own does, and those that are named."""
        callbridge = self.callbridge()
        for fields in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://meet.example.com:81"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            self.assertEqual((403, "origin-refused"), self.post(**fields).said)
            self.assertEqual(403, self.post(method="OPTIONS", **fields).status)
        self.assertEqual([], callbridge.received())
        for origin in ("https://meet.example.com", SITE):
            post = self.post(Origin=origin)
            self.answer(callbridge, admitted())
            self.assertEqual(200, post.status)
            self.assertEqual(
                origin == SITE, f"access-control-allow-origin: {SITE}" in post.text.lower()
            )
        preflight = self.post(method="OPTIONS", Origin=SITE)
        self.assertEqual(204, preflight.status)
        self.assertIn("access-control-allow-headers: content-type", preflight.text.lower())

    def test_too_many(self) -> None:
        """So many wait at a time, of an address and in all, also if they left since."""
        callbridge = self.callbridge()
        self.patch(joining, "MOST_OF_NETWORK", 3)
        self.patch(joining, "MOST_UNDER_WAY", 5)
        for _ in range(3):
            self.post().leave()
        crowded = self.post()
        self.assertEqual((503, "join-crowded"), crowded.said)
        self.assertIn("retry-after: 2", crowded.text.lower())
        for _ in range(2):
            self.post(host="127.0.0.1")  # a proxy may be there
        self.assertEqual((503, "join-crowded"), self.post(host="203.0.113.5").said)
        for question in callbridge.received():
            callbridge.say(written_result(question, join.Refused().to_xml()).raw.decode())
        self.assertEqual(0, self.post().status)


class ClosedTests(JoinTestCase):
    """C{enabled = false}."""

    more = "[web]\nenabled = false\n"

    def test_closed(self) -> None:
        """Nobody is admitted, and no Callbridge is asked; the WebSocket is there for users."""
        callbridge = self.callbridge()
        self.assertEqual((503, "door-closed"), self.post().said)
        self.assertEqual([], callbridge.received())
        self.peer()


class OutcomeTests(JoinTestCase):
    """What the Callbridges say, and what of it is passed on."""

    def test_each(self) -> None:
        """Each answer has its status; the log holds no passcode, password or token."""
        callbridge = self.callbridge()
        bodies = set()
        for message, status, reason in (
            (join.Refused(), 403, "join-refused"),
            (join.Over(), 403, "reentry-over"),
            (join.Slowed(42), 429, "join-slowed"),
            (join.Undecided(), 503, "join-undecided"),
            (admitted(), 200, ""),
        ):
            post = self.post()
            self.answer(callbridge, message)
            self.assertEqual((status, reason), (post.status, post.body.get("reason", "")))
            if reason == "join-slowed":
                self.assertEqual(42, post.body["seconds"])
                self.assertIn("retry-after: 42", post.text.lower())
            bodies.add(post.text.partition("\r\n\r\n")[2])
        self.assertEqual(5, len(bodies))
        log = "\n".join(self.lines())
        self.assertIn(f"guest {GUEST} from {HERE} was admitted to team@cb1.{DOMAIN}", log)
        for secret in (CODE, PASS, TOKEN):
            self.assertNotIn(secret, log)
        figures = self.daemon.service.admissions.figures
        self.assertEqual(
            [1] * 5,
            [
                figures[r]
                for r in (
                    "admitted",
                    "join-refused",
                    "join-slowed",
                    "reentry-over",
                    "join-undecided",
                )
            ],
        )
        flow = [
            (a.failure.fault if a.failure else "", a.records[-1].evidence)
            for a in self.daemon.service.flow.logins()
        ]
        self.assertEqual(
            {"join-refused", "reentry-over", "join-slowed", "join-undecided", ""},
            {fault for fault, _ in flow},
        )
        self.assertNotIn(PASS, repr(flow))

    def test_nobody(self) -> None:
        """Before there is a Callbridge: step 1, and when to try again."""
        post = self.post()
        self.assertEqual((503, "link-before-login"), post.said)
        self.assertEqual((1, 2), (post.body["step"], post.body["seconds"]))
        callbridge = self.callbridge()
        callbridge.transport.lose()
        self.assertEqual((503, "link-before-login"), self.post().said)

    def test_older_callbridge(self) -> None:
        """One that does not say that it admits guests is not asked."""
        callbridge = self.callbridge(admits=False)
        self.assertEqual((503, "join-unsupported"), self.post().said)
        self.assertEqual([], callbridge.received())
        self.assertIn(f"cb1.{DOMAIN}", "".join(self.lines("not admitted")))

    def test_broken(self) -> None:
        """Lost, silent, or without a usable answer: nobody is refused for that."""
        for name, spoil in (
            ("lost", lambda peer, question: peer.transport.lose()),
            ("silent", lambda peer, question: self.daemon.reactor.advance(6)),
            ("error", lambda peer, question: peer.say(_error(question))),
            ("nothing", lambda peer, question: peer.say(written_result(question).raw.decode())),
            (
                "another",
                lambda peer, question: peer.say(
                    written_result(question, join.Admit("::1", reentry="r").to_xml()).raw.decode()
                ),
            ),
            *(
                (
                    f"speaks for {other.jid} in {other.space}",
                    lambda peer, question, other=other: peer.say(
                        written_result(question, other.to_xml()).raw.decode()
                    ),
                )
                for other in (
                    admitted("cb2"),
                    admitted(jid=f"alice@{DOMAIN}"),
                    admitted(jid="guest-0123456789abcdef@else.where"),
                )
            ),
        ):
            callbridge = self.callbridge()
            post = self.post()
            question, _ = self.asked(callbridge)
            spoil(callbridge, question)
            self.assertEqual((503, "join-undecided"), post.said, name)
            callbridge.transport.lose()
            self.daemon.reactor.advance(60)

    def test_several(self) -> None:
        """All are asked at once. A yes is passed on at once, a no when all have answered."""
        one, two = self.callbridge("cb1"), self.callbridge("cb2")
        for yes, no in ((one, two), (two, one)):
            name = "cb1" if yes is one else "cb2"
            post = self.post()
            self.answer(yes, admitted(name))
            self.assertEqual(200, post.status)
            self.answer(no, join.Over())
        post = self.post()
        self.answer(one, join.Refused())
        self.assertEqual(0, post.status)
        self.answer(two, join.Refused())
        self.assertEqual(403, post.status)

    def test_known_elsewhere(self) -> None:
        """Who has the space not is told that the call ID was right, and only then."""
        one, two = self.callbridge("cb1"), self.callbridge("cb2")
        for early in (True, False):
            self.post()
            (first, asked), (second, again) = self.asked(one), self.asked(two)
            self.assertEqual(asked, again)
            self.assertTrue(asked.id)
            replies: list[tuple[Peer, Stanza, join.Answer]] = [
                (one, first, join.Refused()),
                (two, second, admitted("cb2")),
            ]
            for peer, question, message in replies if early else reversed(replies):
                peer.say(written_result(question, message.to_xml()).raw.decode())
            (notice,) = one.received()
            self.assertEqual(join.Elsewhere(asked.id), join.parse(notice.child))
            one.say(written_result(notice).raw.decode())
            self.assertEqual([], two.received())
        post = self.post()
        self.answer(one, join.Refused())
        self.answer(two, join.Refused())
        self.assertEqual(403, post.status)
        self.assertEqual(([], []), (one.received(), two.received()))

    def test_away(self) -> None:
        """Nobody says no for one that is about to come back, here or elsewhere; a yes counts."""
        one, _ = self.callbridge("cb1"), self.callbridge("cb2")
        link = self.daemon.service.links.get(f"cb2.{DOMAIN}")
        assert link is not None
        self.daemon.service.links.quiet(link)  # its server is drained
        post = self.post()
        self.answer(one, join.Refused())
        self.assertEqual((503, "join-undecided"), post.said)
        post = self.post()
        self.answer(one, admitted())
        self.assertEqual(200, post.status)

    def test_several_say_no(self) -> None:
        """To wait counts more than no answer, and that more than a no."""
        one, two = self.callbridge("cb1"), self.callbridge("cb2")
        for first, second, expected in (
            (join.Slowed(5), join.Slowed(9), (429, "join-slowed")),
            (join.Slowed(5), join.Undecided(), (429, "join-slowed")),
            (join.Refused(), join.Undecided(), (503, "join-undecided")),
            (join.Over(), join.Over(), (403, "reentry-over")),
        ):
            for a, b in ((one, two), (two, one)):
                post = self.post()
                self.answer(a, first)
                self.answer(b, second)
                self.assertEqual(expected, post.said)
        two.transport.lose()
        post = self.post()
        self.answer(one, join.Refused())
        self.assertEqual(403, post.status)  # who is not there is not asked


class RouteTests(JoinTestCase):
    """The log-in goes to the Callbridge that admitted the guest."""

    def setUp(self) -> None:
        """Two Callbridges; the second has admitted him."""
        super().setUp()
        self.one, self.two = self.callbridge("cb1"), self.callbridge("cb2")
        post = self.post()
        self.answer(self.one, join.Over())
        self.answer(self.two, admitted("cb2"))
        self.assertEqual(200, post.status)

    def log_in(self, payload: bytes, **header: str) -> list[str]:
        """Which Callbridges are asked, of eight log-ins."""
        asked = []
        for _ in range(8):
            client = self.daemon.client()
            client.open(**header)
            client.authenticate("SCRAM-SHA-256", payload)
            for name, callbridge in (("cb1", self.one), ("cb2", self.two)):
                asked += [
                    name for stanza in callbridge.received() if stanza.payload == (lp.NS, "start")
                ]
            client.transport.lose()
            for callbridge in (self.one, self.two):
                callbridge.heard()
        return asked

    def test_by_header(self) -> None:
        """C{from} of the header says who it is, with or without a resource."""
        for name in (GUEST, f"{GUEST}/x", GUEST.upper()):
            self.assertEqual(["cb2"] * 8, self.log_in(b"n,,n=x,r=abc", **{"from": name}))

    def test_by_name(self) -> None:
        """Where it is left out, SCRAM's first message does, as each form of it."""
        local = GUEST.partition("@")[0]
        for payload in (
            f"n,,n={local},r=abc",
            f"y,,n={GUEST},r=abc",
            f"p=tls-exporter,a={GUEST},n={local},r=abc",
        ):
            self.assertEqual(["cb2"] * 8, self.log_in(payload.encode()))

    def test_others(self) -> None:
        """Everybody else's goes to each in turn."""
        for payload, header in (
            (b"n,,n=alice,r=abc", {}),
            (b"n,,n=guest-0000000000000000,r=abc", {}),
            (b"n,,n=alice,r=abc", {"from": f"alice@{DOMAIN}"}),
            (b"\xff" * 1000, {}),
            (b"n,,n=alice,r=abc", {"from": "@@"}),
        ):
            self.assertEqual({"cb1", "cb2"}, set(self.log_in(payload, **header)))

    def test_a_minute(self) -> None:
        """It is remembered as long as the pass lives."""
        self.daemon.reactor.advance(61)
        self.assertEqual({"cb1", "cb2"}, set(self.log_in(b"n,,n=x,r=abc", **{"from": GUEST})))

    def test_gone(self) -> None:
        """That Callbridge is gone: another says no, and nothing hangs."""
        self.two.transport.lose()
        self.assertEqual(["cb1"] * 8, self.log_in(b"n,,n=x,r=abc", **{"from": GUEST}))

    def test_bounded(self) -> None:
        """Who is on the way is remembered up to a number, the newest."""
        self.patch(admissions, "MOST_ISSUED", 2)
        for number in range(3):
            post = self.post()
            self.answer(self.one, admitted("cb1", f"guest-000000000000000{number}@{DOMAIN}"))
            self.answer(self.two, join.Over())
            self.assertEqual(200, post.status)
        held = self.daemon.service.admissions._issued
        self.assertEqual([f"guest-000000000000000{n}@{DOMAIN}" for n in (1, 2)], list(held))


class SessionTests(SynchronousTestCase):
    """The sessions of guests at the server."""

    def setUp(self) -> None:
        """A server with a Callbridge."""
        self.server = Server()
        self.callbridge = self.server.callbridge(mechanisms=("ANONYMOUS", "PLAIN"))
        self.asked: list[dict[str, bool]] = []
        self.room = True

    def trusted(self, **how: bool) -> bool:
        """Stands for the listener."""
        self.asked.append(how)
        return self.room

    def bound(self, resource: str, *, guest: bool = True, mechanism: str = "PLAIN") -> Peer:
        """Somebody has logged in."""
        client = self.server.client()
        client.stream.on_trusted = self.trusted
        client.open()
        client.authenticate(mechanism)
        (start,) = self.callbridge.received()
        message = lp.parse(start.child)
        assert isinstance(message, lp.Start)
        self.callbridge.answer(start, lp.Success(message.exchange, GUEST, guest=guest))
        client.open()
        client.say(
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'>"
            f"<resource>{resource}</resource></bind></iq>"
        )
        self.callbridge.received()
        return client

    def test_one_session(self) -> None:
        """A guest has one: the one before ends, as when a resource is bound again."""
        first = self.bound("a")
        first.heard()
        second = self.bound("b")
        self.assertIn("<conflict", first.heard())
        self.assertTrue(first.lost)
        self.assertFalse(second.lost)
        self.assertEqual(1, len(self.server.sessions))

    def test_users_have_several(self) -> None:
        """Nobody else."""
        for resource in "abc":
            self.bound(resource, guest=False)
        self.assertEqual(3, len(self.server.sessions))

    def test_their_part(self) -> None:
        """A guest takes a place of those for guests, also an anonymous one of an old Callbridge."""
        for guest, mechanism, expected in (
            (True, "PLAIN", True),
            (False, "ANONYMOUS", True),
            (False, "PLAIN", False),
        ):
            self.bound(mechanism, guest=guest, mechanism=mechanism)
            self.assertEqual({"guest": expected}, self.asked[-1])

    def test_no_place(self) -> None:
        """Where there is none he is told so, and the session is over."""
        self.room = False
        client = self.bound("a")
        self.assertIn("<resource-constraint", client.heard())
        self.assertTrue(client.lost)
        self.assertEqual(0, len(self.server.sessions))


def _error(question: Stanza) -> str:
    reply = error_reply(question, StanzaError("service-unavailable"))
    assert reply is not None
    return reply.raw.decode()
