"""
Who hears of a stanza, and what its sender is told (RFC 6120 8 and 10, RFC 6121 4 and 8).

docs/standards.md has a table of this, which names these tests; peers/test_standards.py
holds Prosody and ejabberd to the same.
"""

from __future__ import annotations

import re

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza
from cms.xmpp import carbons, local
from cms.xmpp.contacts.cards import VCARD
from tests.test_xmpp_costs import calls
from tests.xmppserver import DOMAIN, Peer, Server

CB1 = f"cb1.{DOMAIN}"
ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
NOBODY = f"nobody@{DOMAIN}"
X = "<x xmlns='urn:x'/>"
JOIN = f"<x xmlns='{ns.MUC}'><password>secret</password></x>"
SUBSCRIPTIONS = ("subscribe", "subscribed", "unsubscribe", "unsubscribed")


def shape(stanza: Stanza) -> str:
    """Its type, or its name where it has none; of an error the condition."""
    if stanza.type != "error" or stanza.element.error is None:
        return stanza.type or stanza.name
    return str(stanza.element.error.firstChildElement().name)


class House(SynchronousTestCase):
    """
    Bob, and Alice with four resources: desk (priority 5), phone (0), away (-1) and
    quiet, which is connected but not available.
    """

    def setUp(self) -> None:
        """All logged in."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.bob = self.server.bound(self.callbridge, "bob", "r")
        priorities = {"desk": 5, "phone": 0, "away": -1, "quiet": None}
        self.alice = {r: self.server.bound(self.callbridge, "alice", r) for r in priorities}
        for resource, priority in priorities.items():
            if priority is not None:
                self.available(self.alice[resource], priority)
        self.heard()

    def available(self, peer: Peer, priority: int) -> None:
        """Broadcast presence."""
        peer.say(f"<presence><priority>{priority}</priority></presence>")

    def heard(self) -> dict[str, list[str]]:
        """Who heard what since the last time."""
        peers = {"bob": self.bob, "cb1": self.callbridge, **self.alice}
        heard = {name: [shape(s) for s in peer.received()] for name, peer in peers.items()}
        return {name: shapes for name, shapes in heard.items() if shapes}

    def say(
        self, name: str, to: str | None, type_: str | None, child: str = X
    ) -> dict[str, list[str]]:
        """Bob sends a stanza; who hears what."""
        attributes = {"to": to, "type": type_, "id": "1"}
        written = "".join(f" {k}='{v}'" for k, v in attributes.items() if v is not None)
        self.bob.say(f"<{name}{written}>{child}</{name}>")
        return self.heard()

    def error(self, xml: str) -> Stanza:
        """The error that Bob gets for a stanza."""
        self.bob.say(xml)
        (reply,) = self.bob.received()
        self.assertEqual("error", reply.type)
        return reply


class MessageTests(House):
    """RFC 6121 8.5, messages."""

    def test_to_bare(self) -> None:
        """8.5.2.1.1: by type, to the highest priority, to all but the unwilling, or back."""
        for type_, hears in (
            (None, {"desk": ["message"]}),
            ("normal", {"desk": ["normal"]}),
            ("chat", {"desk": ["chat"]}),
            ("headline", {"desk": ["headline"], "phone": ["headline"]}),
            ("groupchat", {"bob": ["service-unavailable"]}),
            ("error", {}),
        ):
            self.assertEqual(hears, self.say("message", ALICE, type_), type_)

    def test_to_the_unwilling(self) -> None:
        """8.5.2.1.1, 8.5.2.2.1: a negative priority is as good as nobody."""
        for resource in ("desk", "phone"):
            self.available(self.alice[resource], -1)
        self.heard()
        for type_ in (None, "normal", "chat", "groupchat"):
            self.assertEqual(
                {"bob": ["service-unavailable"]}, self.say("message", ALICE, type_), type_
            )
        for type_ in ("headline", "error"):
            self.assertEqual({}, self.say("message", ALICE, type_), type_)

    def test_to_full(self) -> None:
        """8.5.3.1: a resource that is connected gets whatever is sent to it."""
        for resource in self.alice:
            for type_ in (None, "normal", "chat", "headline", "groupchat", "error", "foo"):
                hears = {resource: [type_ or "message"]}
                self.assertEqual(hears, self.say("message", f"{ALICE}/{resource}", type_))

    def test_to_a_resource_that_left(self) -> None:
        """8.5.3.2.1: chat goes to the others; anything else must not."""
        gone = f"{ALICE}/gone"
        self.assertEqual({"desk": ["chat"]}, self.say("message", gone, "chat"))
        for type_ in (None, "normal", "groupchat", "foo"):
            self.assertEqual(
                {"bob": ["service-unavailable"]}, self.say("message", gone, type_), type_
            )
        for type_ in ("headline", "error"):
            self.assertEqual({}, self.say("message", gone, type_), type_)

    def test_to_nobody(self) -> None:
        """8.5.1: an account that is not there, or whose user is not."""
        for to in (NOBODY, f"{NOBODY}/r"):
            for type_ in (None, "normal", "chat", "groupchat"):
                self.assertEqual(
                    {"bob": ["service-unavailable"]}, self.say("message", to, type_), type_
                )
            for type_ in ("headline", "error"):
                self.assertEqual({}, self.say("message", to, type_), type_)

    def test_unknown_type(self) -> None:
        """5.2.2: a type that is not known is normal."""
        self.assertEqual({"desk": ["foo"]}, self.say("message", ALICE, "foo"))

    def test_without_to(self) -> None:
        """RFC 6120 10.3.1: it is for one's own bare address."""
        self.assertEqual({"bob": ["service-unavailable"]}, self.say("message", None, "chat"))
        self.available(self.bob, 1)
        self.bob.say("<message type='chat' id='1'><body>x</body></message>")
        _, message = self.bob.received()
        self.assertEqual((f"{BOB}/r", BOB), (message.sender, message.to))

    def test_order(self) -> None:
        """RFC 6120 10.1: what came first is delivered first, whichever way it took."""
        to = f"to='{ALICE}/phone'"
        said = [
            f"<message {to} id='1'/>",
            f"<message  {to} id='2'/>",
            f"<presence {to} id='3'/>",
            f"<iq {to} type='get' id='4'>{X}</iq>",
            f"<message {to} id='5'><body><![CDATA[x]]></body></message>",
            f"<message {to} id='6'><body>x</body></message>",
        ]
        for order in (said, said[::-1], [*said[1:], said[0]]):
            for xml in ("".join(order), *order):
                self.bob.say(xml)
            wanted = [re.search("id='(.)'", xml)[1] for xml in order]  # type: ignore[index]
            self.assertEqual(wanted * 2, [s.id for s in self.alice["phone"].received()])

    def test_malformed(self) -> None:
        """RFC 6120 8.3.3.8: what is no address is told so, also an empty one."""
        for to in ("@", "", "a@", "@b", "a@b/"):
            for name in ("message", "presence", "iq"):
                type_ = "get" if name == "iq" else None
                self.assertEqual({"bob": ["jid-malformed"]}, self.say(name, to, type_), to)

    def test_to_elsewhere(self) -> None:
        """RFC 6120 10.4.1: there is no other server."""
        for to in ("x.example.org", "a@x.example.org/r"):
            for name, type_ in (("message", None), ("iq", "get"), ("presence", None)):
                self.assertEqual({"bob": ["remote-server-not-found"]}, self.say(name, to, type_))


class PresenceTests(House):
    """RFC 6121 4 and 8.5, presence."""

    def test_to_bare(self) -> None:
        """8.5.2.1.2: all that are available get it, whatever their priority."""
        for type_ in (None, "unavailable"):
            seen = [type_ or "presence"]
            self.assertEqual(
                {"desk": seen, "phone": seen, "away": seen}, self.say("presence", ALICE, type_)
            )

    def test_to_full(self) -> None:
        """8.5.3.1: the resource gets it, available or not."""
        for resource in self.alice:
            for type_ in (None, "unavailable", "error"):
                hears = {resource: [type_ or "presence"]}
                self.assertEqual(hears, self.say("presence", f"{ALICE}/{resource}", type_, ""))

    def test_to_nobody(self) -> None:
        """8.5.1, 8.5.3.2.2: nobody hears it, and nobody is told."""
        for to in (NOBODY, f"{NOBODY}/r", f"{ALICE}/gone"):
            for type_ in (None, "unavailable", "error", "probe", *SUBSCRIPTIONS):
                self.assertEqual({}, self.say("presence", to, type_, ""), (to, type_))

    def test_subscriptions(self) -> None:
        """8.5.1: there are none here, and the same silence whoever is asked."""
        for to in (ALICE, f"{ALICE}/desk", BOB, DOMAIN):
            for type_ in (*SUBSCRIPTIONS, "probe"):
                self.assertEqual({}, self.say("presence", to, type_), (to, type_))

    def test_subscriptions_of_components(self) -> None:
        """The same, for one that asks from elsewhere."""
        for type_ in SUBSCRIPTIONS:
            self.callbridge.say(f"<presence from='{CB1}' to='{ALICE}' type='{type_}'/>")
            self.assertEqual({}, self.heard(), type_)

    def test_subscription_is_between_accounts(self) -> None:
        """3.1.2: to a component it goes from a bare address to a bare address."""
        for type_ in SUBSCRIPTIONS:
            self.bob.say(f"<presence to='a@{CB1}/r' type='{type_}'/>")
            (asked,) = self.callbridge.received()
            self.assertEqual((type_, BOB, f"a@{CB1}"), (asked.type, asked.sender, asked.to))

    def test_subscription_that_fails(self) -> None:
        """An error for one's bare address reaches the resources that are available."""
        self.available(self.bob, 1)
        self.heard()
        self.bob.say("<presence to='a@x.example.org' type='subscribe'/>")
        self.assertEqual({"bob": ["remote-server-not-found"]}, self.heard())

    def test_unknown_type(self) -> None:
        """4.7.1: a type that is not known is a bad request, wherever it goes."""
        for to in (ALICE, f"{ALICE}/desk", NOBODY, DOMAIN, CB1, None):
            self.assertEqual({"bob": ["bad-request"]}, self.say("presence", to, "foo"), to)
        self.callbridge.say(f"<presence from='{CB1}' to='{ALICE}' type='foo'/>")
        self.assertEqual({"cb1": ["bad-request"]}, self.heard())

    def test_broadcast(self) -> None:
        """4.2.2, 4.4.2: to all own resources that are available, oneself too, and nobody else."""
        self.alice["phone"].say("<presence><show>dnd</show></presence>")
        self.assertEqual({r: ["presence"] for r in ("desk", "phone", "away")}, self.heard())

    def test_newcomer(self) -> None:
        """4.2.2: whoever becomes available learns of the others."""
        self.available(self.alice["quiet"], 0)
        self.assertEqual(
            {r: ["presence"] * (4 if r == "quiet" else 1) for r in self.alice},
            self.heard(),
        )

    def test_directed(self) -> None:
        """4.6.3: whoever was sent presence hears the end, once; others hear nothing."""
        for end in (
            lambda: self.bob.say("<presence type='unavailable'/>"),
            lambda: self.bob.transport.lose(ConnectionLost()),
            lambda: self.bob.say("</stream:stream>"),
        ):
            self.setUp()
            self.available(self.bob, 1)
            for to in (f"{ALICE}/phone", f"{ALICE}/quiet", f"room@{CB1}/n"):
                self.say("presence", to, None)
            self.say("presence", f"{ALICE}/desk", None)
            self.say("presence", f"{ALICE}/desk", "unavailable")
            self.heard()
            end()
            heard = self.heard()
            for name in ("phone", "quiet"):
                self.assertEqual(["unavailable"], heard[name])
            self.assertIn("unavailable", heard["cb1"])
            self.assertNotIn("desk", heard)

    def test_too_many_directed(self) -> None:
        """What could not be taken back is not sent: each that was reached hears the end."""
        self.patch(local, "MOST_DIRECTED", 2)
        told = {"cb1": ["presence"]}
        for nick in "aba":
            self.assertEqual(told, self.say("presence", f"room@{CB1}/{nick}", None))
        refused = {"bob": ["resource-constraint"]}
        self.assertEqual(refused, self.say("presence", f"room@{CB1}/c", None))
        self.bob.transport.lose(ConnectionLost())
        self.assertEqual(["unavailable"] * 2, [h for h in self.heard()["cb1"] if h != "set"])

    def test_many_directed(self) -> None:
        """An end of many such addresses prepares none of them again."""
        for number in range(100):
            self.bob.say(f"<presence to='{'ä' * 300}{number}@{DOMAIN}/r'/>")
        cost = calls(lambda: self.bob.transport.lose(ConnectionLost()))
        self.assertLess(cost, 3_000)

    def test_directed_to_oneself(self) -> None:
        """The end of a resource is told once to each."""
        self.alice["desk"].say(f"<presence to='{ALICE}/phone'/><presence to='{ALICE}'/>")
        self.heard()
        self.alice["desk"].say("<presence type='unavailable'/>")
        heard = self.heard()
        self.assertEqual((["unavailable"], ["unavailable"]), (heard["phone"], heard["away"]))

    def test_end(self) -> None:
        """4.5.2: whoever says that he is gone hears it, too, as his other resources do."""
        self.alice["desk"].say("<presence type='unavailable'><status>x</status></presence>")
        self.assertEqual({r: ["unavailable"] for r in ("desk", "phone", "away")}, self.heard())
        self.alice["desk"].say("<presence type='unavailable'/>")
        self.assertEqual({}, self.heard())

    def test_priority(self) -> None:
        """4.7.2.3: an integer between -128 and 127; anything else is no priority."""
        for text, priority in (
            *(("127", 127), ("-128", -128), ("+3", 3), (" 7 ", 7), ("200", 127)),
            *(("x", 0), ("", 0), ("1.5", 0), ("1_0", 0), ("\N{ARABIC-INDIC DIGIT ONE}", 0)),
            ("9" * 5000, 0),
        ):
            self.bob.say(f"<presence><priority>{text}</priority></presence>")
            self.assertEqual(priority, self.bob.handler.priority, text)


class RequestTests(House):
    """RFC 6120 8.2.3 and 10, RFC 6121 8.5, IQs."""

    def test_to_an_account(self) -> None:
        """8.5.1, 8.5.2.1.3: the server answers for it, and no more for one than for another."""
        for to in (ALICE, NOBODY):
            for payload in (X, f"<ping xmlns='{ns.PING}'/>", f"<query xmlns='{ns.ROSTER}'/>"):
                for type_ in ("get", "set"):
                    self.assertEqual(
                        {"bob": ["service-unavailable"]}, self.say("iq", to, type_, payload)
                    )

    def test_to_full(self) -> None:
        """8.5.3.1, 8.5.3.2.3: to the resource, or back to who asked."""
        for type_ in ("get", "set"):
            self.assertEqual({"quiet": [type_]}, self.say("iq", f"{ALICE}/quiet", type_))
            for to in (f"{ALICE}/gone", f"{NOBODY}/r"):
                self.assertEqual({"bob": ["service-unavailable"]}, self.say("iq", to, type_))

    def test_answers(self) -> None:
        """8.2.3, 8.3.1: answers and errors are never answered."""
        for to in (ALICE, NOBODY, f"{ALICE}/gone", DOMAIN, None, "@", "x.example.org"):
            for name, type_ in (
                *(("iq", "result"), ("iq", "error"), ("message", "error")),
                ("presence", "error"),
            ):
                heard = self.say(name, to, type_, "")
                self.assertNotIn("bob", heard, (name, type_, to))

    def test_one_child(self) -> None:
        """8.2.3: a request holds one child, or the server does not answer it."""
        ping = f"<ping xmlns='{ns.PING}'/>"
        for to in (None, DOMAIN, BOB, ALICE):
            for child in ("", "text", X + X, ping + X, ping + ping, X + ping):
                self.assertEqual({"bob": ["bad-request"]}, self.say("iq", to, "get", child), child)
            heard = self.say("iq", to, "get", f"\n {ping} ")
            self.assertEqual(["result" if to != ALICE else "service-unavailable"], heard["bob"])

    def test_type_and_id(self) -> None:
        """8.1.3, 8.2.3: without an id, or without a type, it is no request."""
        for to in (None, DOMAIN, ALICE, f"{ALICE}/desk"):
            for type_ in (None, "foo"):
                self.assertEqual({"bob": ["bad-request"]}, self.say("iq", to, type_), to)
        for to in (None, DOMAIN, ALICE):
            address = f" to='{to}'" if to else ""
            self.bob.say(f"<iq type='get'{address}><ping xmlns='{ns.PING}'/></iq>")
            self.assertEqual({"bob": ["bad-request"]}, self.heard())

    def test_error(self) -> None:
        """8.3: an error has a type, one condition, the id and both addresses."""
        reply = self.error(f"<iq type='get' id='&lt;1' to='{ALICE}/gone'>{X}</iq>")
        self.assertEqual(("<1", f"{ALICE}/gone", f"{BOB}/r"), (reply.id, reply.sender, reply.to))
        (error,) = reply.element.elements()
        self.assertEqual((ns.CLIENT, "error", "cancel"), (error.uri, error.name, error["type"]))
        (condition,) = error.elements()
        self.assertEqual((ns.STANZAS, "service-unavailable"), (condition.uri, condition.name))

    def test_error_text(self) -> None:
        """8.3.2: a text says in which language it is."""
        reply = self.error(f"<message id='1' to='echo.{DOMAIN}'/>")
        text = reply.element.error.text
        self.assertEqual((ns.STANZAS, "en"), (text.uri, text[ns.XML, "lang"]))

    def test_component_without_to(self) -> None:
        """What a component sends to nobody is for the server, which says who answers."""
        self.callbridge.say(
            f"<iq type='get' id='1'><ping xmlns='{ns.PING}'/></iq><message id='2'/>"
        )
        result, error = self.callbridge.received()
        self.assertEqual(("result", DOMAIN, CB1), (result.type, result.sender, result.to))
        self.assertEqual(("error", DOMAIN, CB1), (error.type, error.sender, error.to))

    def test_first_second(self) -> None:
        """What clients ask at once: an empty roster, or an error that they know."""
        for type_, name, uri in (
            *(("get", "query", "jabber:iq:private"), ("get", "blocklist", "urn:xmpp:blocking")),
            *(("set", "query", "urn:xmpp:mam:2"), ("set", "enable", "urn:xmpp:push:0")),
            ("get", "pubsub", "http://jabber.org/protocol/pubsub"),
            *(("get", "services", "urn:xmpp:extdisco:2"), ("get", "query", "jabber:iq:last")),
            ("set", "bind", ns.BIND),
        ):
            for to in (None, BOB, DOMAIN):
                self.assertEqual(
                    {"bob": ["service-unavailable"]},
                    self.say("iq", to, type_, f"<{name} xmlns='{uri}'/>"),
                )
        roster = f"<query xmlns='{ns.ROSTER}'/>"
        for to in (None, BOB):
            self.bob.say(f"<iq type='get' id='1'{f' to={to!r}' if to else ''}>{roster}</iq>")
            (reply,) = self.bob.received()
            self.assertEqual(("result", (ns.ROSTER, "query")), (reply.type, reply.payload))
            self.assertEqual([], list(reply.child.elements()))  # type: ignore[union-attr]
            self.assertEqual({"bob": ["not-allowed"]}, self.say("iq", to, "set", roster))


class DiscoTests(House):
    """XEP-0030 and XEP-0050, of the server and of one's own account."""

    def query(self, uri: str, node: str, to: str) -> Stanza:
        """The answer to a query."""
        self.bob.say(f"<iq type='get' id='1' to='{to}'><query xmlns='{uri}' node='{node}'/></iq>")
        (reply,) = self.bob.received()
        return reply

    def test_unknown_node(self) -> None:
        """A node that is not there is not found."""
        for to in (DOMAIN, BOB):
            for uri in (ns.DISCO_INFO, ns.DISCO_ITEMS):
                self.assertEqual("item-not-found", shape(self.query(uri, "x", to)))
                self.assertEqual("result", self.query(uri, "", to).type)

    def test_commands(self) -> None:
        """The list of commands is empty."""
        for to in (DOMAIN, BOB):
            items = self.query(ns.DISCO_ITEMS, ns.COMMANDS, to).child
            assert items is not None
            self.assertEqual((ns.COMMANDS, []), (items["node"], list(items.elements())))
            info = self.query(ns.DISCO_INFO, ns.COMMANDS, to).child
            assert info is not None
            self.assertEqual(ns.COMMANDS, info["node"])
            self.assertEqual("command-list", info.identity["type"])

    def test_every_feature_is_served(self) -> None:
        """Nothing is promised that is then refused."""
        for to in (DOMAIN, BOB):
            info = self.query(ns.DISCO_INFO, "", to).child
            assert info is not None
            features = [e["var"] for e in info.elements(ns.DISCO_INFO, "feature")]
            self.assertIn(ns.DISCO_INFO, features)
            features.remove(VCARD)  # of accounts, and as their Callbridge has it: test_cards
            for feature in features:
                name = {ns.PING: "ping", ns.TIME: "time"}.get(feature, "query")
                if feature == carbons.NS:  # of each account
                    heard = self.say("iq", BOB, "set", f"<enable xmlns='{feature}'/>")
                else:
                    heard = self.say("iq", to, "get", f"<{name} xmlns='{feature}'/>")
                self.assertEqual({"bob": ["result"]}, heard, feature)


class JoinTests(House):
    """XEP-0045 7.2: a room that cannot be joined."""

    def test_echo(self) -> None:
        """The error says that it answers a join, and repeats nothing else of it."""
        for room in (f"room@echo.{DOMAIN}/n", "room@x.example.org/n"):
            reply = self.error(f"<presence id='1' to='{room}'>{JOIN}</presence>")
            self.assertEqual(room, reply.sender)
            x, error = reply.element.elements()
            self.assertEqual((ns.MUC, "x", []), (x.uri, x.name, x.children))
            self.assertEqual("error", error.name)

    def test_leaving(self) -> None:
        """Whoever leaves a room that is not there need not know."""
        for type_ in ("unavailable", "error"):
            self.assertEqual({}, self.say("presence", "room@x.example.org/n", type_, JOIN))


class LanguageTests(House):
    """RFC 6120 4.7.4 and 8.1.5: the language of the stream is that of its stanzas."""

    def speaking(self, language: str) -> Peer:
        """A client with this in its header."""
        header = {"xml:lang": language} if language else {}
        peer = self.server.bound(self.callbridge, "carol", "r", **header)
        self.heard()
        return peer

    def language(self, peer: Peer, xml: str) -> str | None:
        """What it is in when it arrives at the phone."""
        peer.say(xml)
        (stanza,) = self.alice["phone"].received()
        self.assertEqual(f"carol@{DOMAIN}/r", stanza.sender)
        found: str | None = stanza.element.attributes.get((ns.XML, "lang"))
        return found

    def test_stamped(self) -> None:
        """Where a stanza says none, whichever way it takes; its own stays."""
        peer = self.speaking("cs")
        to = f"to='{ALICE}/phone'"
        for xml, language in (
            (f"<message {to}/>", "cs"),
            (f"<message {to} from='carol@{DOMAIN}/r'><body>x</body></message>", "cs"),
            (f"<presence {to}/>", "cs"),
            (f"<iq type='get' id='1' {to}>{X}</iq>", "cs"),
            (f"<message  {to}><body>two spaces: the slow way</body></message>", "cs"),
            (f"<message {to}><body xml:lang='fr'>x</body></message>", "cs"),
            (f"<message id=' xml:lang=' {to}/>", "cs"),
            (f"<message id=\" xml:lang='fr' \" {to}/>", "cs"),
            (f"<message {to} xml:lang='de'/>", "de"),
            (f"<message xml:lang='de' {to}><body>x</body></message>", "de"),
            (f"<message id='a=b' xml:lang=\"de\" {to}/>", "de"),
            (f"<message  xml:lang='de' {to}/>", "de"),
            (f"<presence {to} xml:lang='de'/>", "de"),
            (f"<message {to} xml:lang=''/>", ""),
        ):
            self.assertEqual(language, self.language(peer, xml), xml)

    def test_to_others(self) -> None:
        """A component and who gets a broadcast hear it too."""
        peer = self.speaking("cs")
        peer.say(f"<message to='{CB1}'/>")
        self.assertIn(" xml:lang='cs'", self.callbridge.heard())
        peer.say("<presence/>")
        self.assertIn(" xml:lang='cs'", peer.heard())

    def test_none(self) -> None:
        """Without one nothing is stamped; nor is what is no language, or a long one."""
        self.bob.say(f"<message to='{ALICE}/phone'/>")
        self.assertNotIn("lang", self.alice["phone"].heard())
        for language in ("", "x" * 9, "en-" * 20 + "x", "en us", "en&#10;"):
            self.setUp()
            peer = self.speaking(language)
            self.assertIsNone(self.language(peer, f"<message to='{ALICE}/phone'/>"), language)


class StreamTests(House):
    """RFC 6120 4.9: the end of a stream."""

    def test_error_of_the_peer(self) -> None:
        """4.9.1.1: a stream error is no reason for another; the stream is closed."""
        error = f"<stream:error><bad-format xmlns='{ns.STREAM_ERRORS}'/></stream:error>"
        for peer in (self.bob, self.callbridge, self.server.component(), self.server.client()):
            if peer.stream.bytes_received == 0:
                peer.open(to=CB1 if peer.content == ns.COMPONENT else DOMAIN)
            peer.heard()
            peer.say(error)
            self.assertEqual("</stream:stream>", peer.heard())
            self.assertTrue(peer.lost)
            if peer is self.bob:
                (told,) = self.callbridge.received()
                self.assertEqual(lp.SessionEnd(f"{BOB}/r", "error"), lp.parse(told.child))

    def test_text(self) -> None:
        """4.9.2: a text says in which language it is."""
        self.bob.say("<message></iq>")
        self.assertIn(f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>", self.bob.heard())
