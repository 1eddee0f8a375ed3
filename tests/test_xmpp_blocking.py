"""Blocking (XEP-0191)."""

from __future__ import annotations

from typing import Any

from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmpp.contacts import blocking
from cms.xmpp.contacts.acts import MOST_BLOCKED
from cms.xmpp.contacts.blocking import NS
from cms.xmpp.contacts.changes import PAUSE
from tests.test_xmpp_contacts import ALICE, BOB, CAROL
from tests.test_xmpp_contacts import House as Contacts
from tests.test_xmpp_costs import calls
from tests.test_xmpp_delivery import shape
from tests.xmppserver import DOMAIN, Server

PING = f"<ping xmlns='{ns.PING}'/>"


class House(Contacts):
    """Alice blocks."""

    def block(self, *addresses: str, user: str = "alice", name: str = "block") -> dict[str, Any]:
        """Somebody blocks addresses; who hears what."""
        items = "".join(f"<item jid='{address}'/>" for address in addresses)
        return self.say(user, f"<iq type='set' id='b'><{name} xmlns='{NS}'>{items}</{name}></iq>")

    def blocked(self, user: str = "alice") -> list[str]:
        """Whom somebody has blocked."""
        self.peers[user].say(f"<iq type='get' id='l'><blocklist xmlns='{NS}'/></iq>")
        (answer,) = self.peers[user].received()
        self.assertEqual(("result", (NS, "blocklist")), (answer.type, answer.payload))
        return [item["jid"] for item in answer.element.blocklist.elements()]

    def errors(self, user: str, xml: str) -> list[str]:
        """The conditions that somebody is told for a stanza."""
        self.peers[user].say(xml)
        errors = [each.element.error for each in self.peers[user].received()]
        return [_condition(error) for error in errors]


def _condition(error: Element) -> str:
    return " ".join(child.name for child in error.elements())


class ListTests(House):
    """3.2 to 3.5."""

    def test_list(self) -> None:
        """Blocked, listed, unblocked, kept; each resource that asked is told once."""
        self.peers["desk"] = self.login("alice", "desk")
        self.heard()
        self.assertEqual([], self.blocked())
        self.assertEqual([], self.blocked("desk"))
        heard = self.block(BOB, CAROL)
        self.assertEqual({"alice": ["set", "result"], "desk": ["set"]}, heard)
        self.assertEqual([BOB, CAROL], self.blocked())
        self.assertEqual({"alice": ["result"]}, self.block(BOB))
        self.peers.pop("desk").say("</stream:stream>")
        self.heard()
        self.assertEqual({"alice": ["set", "result"]}, self.block(BOB, name="unblock"))
        self.assertEqual([CAROL], self.blocked())
        server = Server(contacts=self.server.changes.store.database.path.parent)
        self.addCleanup(server.contacts.stop)
        self.assertEqual({ALICE: {CAROL}}, server.router.blocklists.users)
        self.block(BOB, "example.org", f"{CAROL}/x")
        self.block(name="unblock")
        self.assertEqual([], self.blocked())
        self.assertEqual({}, self.server.router.blocklists.users)

    def test_pushes(self) -> None:
        """3.3: a push says what has changed."""
        self.blocked()
        self.block(BOB)
        self.peers["alice"].say(
            f"<iq type='set' id='b'><block xmlns='{NS}'><item jid='{BOB}'/>"
            f"<item jid='{CAROL}'/></block></iq>"
        )
        self.server.clock.advance(PAUSE)
        push, _ = self.peers["alice"].received()
        self.assertEqual(f"{ALICE}/r", push.to)
        self.assertEqual([CAROL], [item["jid"] for item in push.element.block.elements()])

    def test_refused(self) -> None:
        """What cannot be blocked."""
        self.assertEqual({"alice": ["bad-request"]}, self.block())
        self.assertEqual({"alice": ["jid-malformed"]}, self.block("@"))
        self.assertEqual({"alice": ["not-acceptable"]}, self.block(f"{'x' * 1020}@x.org"))
        many = [f"u{number}@{DOMAIN}" for number in range(MOST_BLOCKED + 1)]
        prepared: list[Any] = []
        self.patch(blocking, "parse_jid", prepared.append)  # which is work
        for name in ("block", "unblock"):
            self.assertEqual({"alice": ["resource-constraint"]}, self.block(*many, name=name))
        self.assertEqual([], prepared)
        self.assertEqual([], self.blocked())

    def test_of_another(self) -> None:
        """Nobody sees whom another has blocked."""
        for payload in (
            f"<blocklist xmlns='{NS}'/>",
            f"<block xmlns='{NS}'><item jid='x'/></block>",
        ):
            for kind in ("get", "set"):
                asked = f"<iq type='{kind}' id='1' to='{ALICE}'>{payload}</iq>"
                self.assertEqual(["service-unavailable"], self.errors("bob", asked))

    def test_feature(self) -> None:
        """3.1: it is told where it is there."""
        for server in (self.server, Server()):
            callbridge = self.callbridge if server is self.server else server.callbridge()
            peer = server.bound(callbridge, "dave")
            query = f"<query xmlns='{ns.DISCO_INFO}'/>"
            peer.say(f"<iq type='get' id='1' to='{DOMAIN}'>{query}</iq>")
            self.assertEqual(server is self.server, NS in peer.heard())

    def test_guest(self) -> None:
        """A guest can block nobody, and is told so."""
        self.peers["carol"].handler.is_guest = True
        self.assertEqual({"carol": ["not-allowed"]}, self.block(BOB, user="carol"))
        self.assertEqual([], self.blocked("carol"))


class StanzaTests(House):
    """3.3, 3.4, 6: what goes neither way, and what it looks like."""

    def setUp(self) -> None:
        super().setUp()
        # The fast ways, as they were before.
        for one, other in (("alice", BOB), ("bob", ALICE)):
            self.say(one, f"<message to='{other}/r'/>")

    def stanzas(self, to: str) -> list[str]:
        """Of each kind one, to bare and full."""
        return [
            f"<{name} id='1' type='{kind}' to='{address}'>{child}</{name}>"
            for address in (to, f"{to}/r")
            for name, kind, child in (
                *(("message", kind, "<body>x</body>") for kind in ("chat", "normal", "headline")),
                *(("iq", kind, PING) for kind in ("get", "set", "result")),
                ("message", "error", ""),
                *(("presence", kind, "") for kind in ("unavailable", "probe", "subscribe")),
            )
        ]

    def test_inbound(self) -> None:
        """Nothing comes in, and it looks as if Alice were not there."""
        self.block(BOB)
        nobody = f"nobody@{DOMAIN}"
        for one, other in zip(self.stanzas(ALICE), self.stanzas(nobody), strict=True):
            self.peers["bob"].say(one)
            self.server.clock.advance(PAUSE)
            blocked = [each.raw.decode() for each in self.peers["bob"].received()]
            self.peers["bob"].say(other)
            self.server.clock.advance(PAUSE)
            away = [each.raw.decode() for each in self.peers["bob"].received()]
            if "roster" not in "".join(blocked):  # each has its version
                self.assertEqual([text.replace("alice@", "nobody@") for text in blocked], away)
            self.assertEqual([], self.peers["alice"].received(), one)

    def test_outbound(self) -> None:
        """Nothing goes out, and Alice is told why."""
        self.block(BOB)
        for xml in self.stanzas(BOB):
            silent = any(
                f"type='{kind}'" in xml for kind in ("result", "error", "unavailable", "probe")
            )
            self.assertEqual(
                [] if silent else ["not-acceptable blocked"], self.errors("alice", xml), xml
            )
            self.assertEqual([], self.peers["bob"].received(), xml)

    def test_over(self) -> None:
        """Unblocked, all is as before, on the fast way too."""
        before = calls(lambda: self.say("bob", f"<message to='{ALICE}/r'/>"))
        self.block(BOB)
        self.assertEqual({"bob": ["service-unavailable alice"]}, self.say("bob", _message(ALICE)))
        self.block(name="unblock")
        self.assertEqual({"alice": ["chat bob"]}, self.say("bob", _message(ALICE)))
        self.assertEqual({"bob": ["chat alice"]}, self.say("alice", _message(BOB)))
        self.say("bob", f"<message to='{ALICE}/r'/>")
        self.assertEqual(before, calls(lambda: self.say("bob", f"<message to='{ALICE}/r'/>")))

    def test_new_session(self) -> None:
        """It holds for sessions that begin later, too."""
        self.block(BOB)
        self.peers["desk"] = self.login("alice", "desk")
        self.heard()
        self.assertEqual(["not-acceptable blocked"], self.errors("desk", _message(BOB)))
        self.assertEqual(
            {"bob": ["service-unavailable alice"]},
            self.say("bob", f"<message to='{ALICE}/desk'><body/></message>"),
        )

    def test_matching(self) -> None:
        """6: a resource, a user, a component with all that is there."""
        room = f"room@cb1.{DOMAIN}"
        for blocked, passes, stops in (
            (f"{BOB}/r", [f"{CAROL}/r"], [f"{BOB}/r"]),
            (BOB, [f"{CAROL}/r"], [f"{BOB}/r", BOB]),
            (f"{room}/nick", [f"{room}/other", room], [f"{room}/nick"]),
            (room, [f"x@cb1.{DOMAIN}"], [f"{room}/other", room]),
            (f"cb1.{DOMAIN}", [f"{BOB}/r"], [f"{room}/other", room, f"cb1.{DOMAIN}"]),
        ):
            self.block(blocked)
            for sender in passes + stops:
                name = sender.partition("@")[0]
                stanza = f"<message to='{ALICE}/r' from='{sender}'/>"
                if sender in (f"{BOB}/r", BOB, f"{CAROL}/r"):
                    heard = self.say(name, stanza)
                else:
                    self.callbridge.say(stanza)
                    heard = self.heard()
                self.assertEqual(sender in passes, "alice" in heard, (blocked, sender))
            self.block(name="unblock")

    def test_domain(self) -> None:
        """Who blocks the domain blocks its users, but neither its server nor himself."""
        self.peers["desk"] = self.login("alice", "desk")
        self.heard()
        self.block(DOMAIN)
        self.assertEqual({"bob": ["service-unavailable alice"]}, self.say("bob", _message(ALICE)))
        self.assertIn("alice", self.say("desk", f"<message to='{ALICE}/r'/>"))
        self.assertEqual(
            {"alice": ["result meet.example.com"]},
            self.say("alice", f"<iq type='get' id='1' to='{DOMAIN}'>{PING}</iq>"),
        )

    def test_room(self) -> None:
        """A room is told nothing for a message, or it would let Alice go."""
        self.block(f"room@cb1.{DOMAIN}/nick")
        for kind in ("groupchat", "chat"):
            self.callbridge.say(
                f"<message type='{kind}' from='room@cb1.{DOMAIN}/nick' to='{ALICE}/r'/>"
            )
        self.assertEqual([], self.callbridge.received())
        self.assertEqual([], self.peers["alice"].received())
        self.callbridge.say(
            f"<iq type='get' id='1' from='room@cb1.{DOMAIN}/nick' to='{ALICE}/r'>{PING}</iq>"
        )
        self.assertEqual(["service-unavailable"], [*map(shape, self.callbridge.received())])

    def test_costs_others_nothing(self) -> None:
        """Who blocks nobody, and writes to who blocks nobody, pays nothing for others' lists."""
        write = _message(f"{CAROL}/r") * 20
        self.say("bob", write)
        before = calls(lambda: self.peers["bob"].say(write))
        self.heard()
        self.block(BOB)
        self.assertEqual(before, calls(lambda: self.peers["bob"].say(write)))


def _message(to: str) -> str:
    return f"<message to='{to}' type='chat' id='1'><body>x</body></message>"


class PresenceTests(House):
    """Presence of who is blocked."""

    def setUp(self) -> None:
        super().setUp()
        self.befriend("alice", "bob")

    def test_blocked(self) -> None:
        """3.3: Bob sees Alice go, and nothing of her any more, nor she of him."""
        self.assertEqual(["unavailable alice"], self.block(BOB)["bob"])
        for user in ("alice", "bob"):
            heard = self.say(user, "<presence><show>dnd</show></presence>")
            self.assertEqual({user: [f"presence {user}"]}, heard)
        self.assertEqual({}, self.say("bob", f"<presence type='probe' to='{ALICE}'/>"))
        for user in ("alice", "bob"):
            self.peers.pop(user).transport.lose()
            self.assertEqual({}, self.heard())
            self.peers[user] = self.login(user)
            self.assertEqual({user: ["result", f"presence {user}"]}, self.heard())

    def test_unblocked(self) -> None:
        """3.4: they see each other again."""
        self.block(BOB)
        heard = self.block(BOB, name="unblock")
        self.assertEqual({"alice": ["presence bob", "result"], "bob": ["presence alice"]}, heard)

    def test_directed(self) -> None:
        """To whom Alice showed herself sees her go as well."""
        self.say("alice", f"<presence to='{CAROL}'/><presence to='room@cb1.{DOMAIN}/a'/>")
        self.callbridge.heard()
        heard = self.block(CAROL, f"cb1.{DOMAIN}")
        self.assertEqual(["unavailable alice"], heard["carol"])
        self.peers.pop("alice").transport.lose()
        self.assertNotIn("carol", self.heard())

    def test_many_directed(self) -> None:
        """Who has shown himself to many prepares no address again when he blocks another."""
        for number in range(100):
            self.say("alice", f"<presence to='{'ä' * 300}{number}@x{number}.org/r'/>")
        few = calls(lambda: self.block("other@x.org", user="bob"))
        self.assertLess(calls(lambda: self.block("nobody@x.org")), few + 150)

    def test_again_and_again(self) -> None:
        """Who blocks and shows himself to many in turns has to wait in the end; nobody else has."""
        self.patch(blocking, "SECONDS_EACH", 10.0)
        self.patch(blocking, "MOST_AHEAD", 100.0)
        self.befriend("alice", "bob")
        told, answers = 0, []
        for _ in range(10):
            for name in ("block", "unblock"):
                heard = self.block(BOB, name=name)
                told += len(heard.get("bob", ()))
                answers.append(heard["alice"][-1])
        self.assertEqual(["result"] * 8 + ["resource-constraint"] * 12, answers)
        self.assertEqual(8, told)
        self.assertEqual({"carol": ["result"]}, self.block(BOB, user="carol"))
        self.server.clock.advance(20)
        self.assertEqual({"alice": ["result"]}, self.block(CAROL))

    def test_request(self) -> None:
        """A request of who is blocked waits for nothing; asked again afterwards it comes."""
        self.block(CAROL)
        self.assertEqual({"carol": ["push alice none?"]}, self.send("carol", "alice", "subscribe"))
        self.peers["desk"] = self.login("alice", "desk")
        self.assertNotIn("subscribe carol", self.heard()["desk"])
        self.block(name="unblock")
        heard = self.send("carol", "alice", "subscribe")
        self.assertEqual(["subscribe carol"], heard["alice"])

    def test_request_before(self) -> None:
        """One that waits is not shown while its sender is blocked."""
        self.send("carol", "alice", "subscribe")
        self.block(CAROL)
        self.peers["desk"] = self.login("alice", "desk")
        self.assertNotIn("subscribe carol", self.heard()["desk"])
        self.block(name="unblock")
        self.peers["phone"] = self.login("alice", "phone")
        self.assertIn("subscribe carol", self.heard()["phone"])

    def test_unsubscribed_meanwhile(self) -> None:
        """What who is blocked takes back is taken back, without a word to Alice but the push."""
        self.block(BOB)
        heard = self.send("bob", "alice", "unsubscribe")
        self.assertEqual(["push bob to"], heard["alice"])
