"""The log-in protocol as it arrives on a Callbridge's link."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element

from cms.callbridge.link.handlers import LinkTraffic, LoginHandler
from cms.callbridge.login.authority import Authority
from cms.linkprotocol import login as lp
from cms.xmlstream.stanza import Stanza
from tests.support import one_stanza
from tests.test_login_authority import DOMAIN, PEER, MemoryDirectory

CB1 = f"cb1.{DOMAIN}"


class Link:
    """Stands for the registered stream; keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Element] = []
        self.link_id = "l1"

    def send(self, stanza: Stanza) -> None:
        self.sent.append(stanza.element)

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        self.sent += [one_stanza(raw.decode()).element for raw in raws]
        return ()


class LoginHandlerTests(SynchronousTestCase):
    """IQs in, IQs out."""

    def setUp(self) -> None:
        self.directory = MemoryDirectory({"alice": "pencil"})
        self.authority = Authority(Clock(), self.directory, DOMAIN, random=Random(7))
        self.traffic = LinkTraffic(Clock(), [], LoginHandler(self.authority, DOMAIN))
        self.link = Link()
        self.up(self.link)

    def up(self, link: Any) -> None:
        """The link becomes active."""
        self.traffic.link_up(link)

    def ask(self, payload: str | lp.Message, type_: str = "set", sender: str = DOMAIN) -> Any:
        """Send an IQ; the answer, or C{None} while there is none."""
        inner = payload if isinstance(payload, str) else payload.to_xml()
        iq = one_stanza(f"<iq type='{type_}' id='7' from='{sender}' to='{CB1}'>{inner}</iq>")
        before = len(self.link.sent)
        self.traffic.received(iq)
        answers = self.link.sent[before:]
        self.assertLessEqual(len(answers), 1)
        return answers[0] if answers else None

    def result(self, payload: lp.Message, type_: str = "set") -> lp.Message | None:
        """The message in the answer, which is addressed back."""
        answer = self.ask(payload, type_)
        self.assertEqual((answer["type"], answer["id"], answer["to"]), ("result", "7", DOMAIN))
        child = answer.firstChildElement()
        return None if child is None else lp.parse(child)

    def test_named(self) -> None:
        """Groups are told from when the server knows what is decided here, once for each time."""
        told: list[str] = []

        class Groups:
            def __getattr__(self, name: str) -> Any:
                return lambda *_: told.append(name)

        groups: Any = Groups()
        handler = LoginHandler(self.authority, DOMAIN, groups=groups)
        self.traffic = LinkTraffic(Clock(), [], handler)
        self.up(self.link)
        self.result(lp.SessionEnd(f"alice@{DOMAIN}/r", "closed"))
        self.assertEqual(["link_up"], told)
        self.result(lp.AskMechanisms(), "get")
        self.result(lp.SessionEnd(f"alice@{DOMAIN}/r", "closed"))
        self.traffic.link_down()
        self.assertEqual(["link_up", "named", "link_down"], told)

    def error(self, *args: Any, **kw: Any) -> str:
        """The condition of the error that comes back."""
        answer = self.ask(*args, **kw)
        self.assertEqual(answer["type"], "error")
        return str(answer.error.firstChildElement().name)

    def test_mechanisms(self) -> None:
        """The question after registration is answered with the mechanisms."""
        answer = self.result(lp.AskMechanisms(), "get")
        self.assertEqual(answer, lp.Mechanisms(self.authority.mechanisms))

    def test_exchange(self) -> None:
        """Each step has its answer: challenge, success, failure."""
        self.assertEqual(self.result(lp.Start("e", "PLAIN", None, PEER)), lp.Challenge("e", b""))
        answer = self.result(lp.Response("e", b"\0alice\0pencil"))
        self.assertEqual(answer, lp.Success("e", f"alice@{DOMAIN}"))
        answer = self.result(lp.Start("e", "PLAIN", b"\0alice\0x", PEER))
        self.assertEqual(answer, lp.Failed("e", "not-authorized", user="alice"))

    def test_notes(self) -> None:
        """What needs no decision is answered with an empty result."""
        begin = lp.SessionBegin(f"alice@{DOMAIN}/x", PEER, "2026-11-24T12:00:00Z")
        self.assertIsNone(self.result(begin))
        self.assertEqual(list(self.authority.sessions), [begin.jid])
        self.assertIsNone(self.result(lp.SessionEnd(begin.jid, "lost")))
        self.assertEqual(list(self.authority.sessions), [])
        self.assertIsNone(self.result(lp.Abort("e")))

    def test_notices(self) -> None:
        """Several notices are taken in their order, and answered once."""
        one, other = (
            lp.SessionBegin(f"{name}@{DOMAIN}/x", PEER, "2026-11-24T12:00:00Z") for name in "ab"
        )
        self.assertIsNone(self.result(lp.Sessions((one, lp.SessionEnd(one.jid, "closed"), other))))
        self.assertEqual([other.jid], list(self.authority.sessions))

    def test_one_child(self) -> None:
        """A question beside another element is none, and nothing of it is done."""
        start = lp.Start("e", "PLAIN", None, PEER).to_xml()
        begin = lp.SessionBegin(f"alice@{DOMAIN}/x", PEER, "2026-11-24T12:00:00Z").to_xml()
        for payload in (start + begin, begin + start, begin + "<x xmlns='y'/>"):
            self.assertEqual("bad-request", self.error(payload))
        self.assertEqual([], list(self.authority.sessions))

    def test_only_the_server(self) -> None:
        """Nobody but the XMPP domain is heard, whatever else fits."""
        begin = lp.SessionBegin(f"alice@{DOMAIN}/x", PEER, "2026-11-24T12:00:00Z")
        for sender in (f"alice@{DOMAIN}/x", f"cb2.{DOMAIN}", f"{DOMAIN}/x", "example.com"):
            for payload in (begin, lp.Start("e", "PLAIN", b"\0alice\0pencil", PEER)):
                self.assertEqual(self.error(payload, sender=sender), "forbidden")
            self.assertEqual(self.error(lp.AskMechanisms(), "get", sender=sender), "forbidden")
        self.assertEqual((self.authority.sessions, self.directory.asked), ({}, []))

    def test_malformed(self) -> None:
        """What cannot be read is a bad request; nothing of it is repeated."""
        for xml in (
            f"<start xmlns='{lp.NS}' exchange='e' mechanism='PLAIN' peer='::1'>sec ret</start>",
            f"<response xmlns='{lp.NS}'>QQ==</response>",
            f"<session-end xmlns='{lp.NS}' jid='a@b..c/d' reason='lost'/>",
        ):
            answer = self.ask(xml)
            self.assertEqual(answer.error.firstChildElement().name, "bad-request")
            self.assertNotIn("sec", str(answer.error.text))

    def test_not_ours(self) -> None:
        """Other versions, and answers sent as requests, are not served."""
        other = lp.NS.replace(":1", ":2")
        for xml in (
            f"<abort xmlns='{other}' exchange='e'/>",
            f"<challenge xmlns='{lp.NS}' exchange='e'/>",
            f"<success xmlns='{lp.NS}' exchange='e' jid='alice@{DOMAIN}'/>",
        ):
            self.assertEqual(self.error(xml), "service-unavailable")

    def test_link_lost(self) -> None:
        """What was under way ends with the link: no late answer goes over the next one."""
        held: Deferred[Any] = Deferred()
        self.directory.before = lambda: held
        self.assertIsNone(self.ask(lp.Start("e", "PLAIN", b"\0alice\0pencil", PEER)))
        self.traffic.link_down()
        self.link = Link()
        self.up(self.link)
        self.assertEqual(self.link.sent, [])
        answer = self.result(lp.Response("e", b"x"))
        self.assertIsInstance(answer, lp.Failed)
