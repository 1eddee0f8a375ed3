"""Message carbons (XEP-0280): who gets a copy, of what, and what it costs the others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element

from cms.xmlstream import limits, ns
from cms.xmlstream.flow import SEND_LIMITS
from cms.xmlstream.stanza import Stanza
from cms.xmpp import carbons, csi
from tests.test_xmpp_costs import calls
from tests.xmppserver import DOMAIN, Peer, Server

ALICE, BOB, ROOM = f"alice@{DOMAIN}", f"bob@{DOMAIN}", f"room@cb1.{DOMAIN}"
FORWARD = "urn:xmpp:forward:0"
BODY = "<body>x</body>"
ACTIVE = "<active xmlns='http://jabber.org/protocol/chatstates'/>"
RECEIPT = "<received xmlns='urn:xmpp:receipts' id='1'/>"
MARKER = "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"
PRIVATE = f"<private xmlns='{carbons.NS}'/>"
NO_COPY = "<no-copy xmlns='urn:xmpp:hints'/>"
INVITED = f"<x xmlns='jabber:x:conference' jid='{ROOM}'/>"
OF_ROOM = f"<x xmlns='{ns.MUC_USER}'/>"
MEDIATED = f"<x xmlns='{ns.MUC_USER}'><invite from='{BOB}/r'/></x>"


def switch(peer: Peer, what: str = "enable", more: str = "") -> None:
    """Ask for copies, or for none."""
    peer.say(f"<iq type='set' id='c'{more}><{what} xmlns='{carbons.NS}'/></iq>")


def message(to: str, content: str = BODY, type_: str | None = "chat", more: str = "") -> str:
    """One that may be copied, if nothing else is said."""
    kind = "" if type_ is None else f" type='{type_}'"
    return f"<message to='{to}'{kind} id='m'{more}>{content}</message>"


def inner(stanza: Stanza) -> tuple[str, Element] | None:
    """Of a copy its direction, and the message in it."""
    wrap = stanza.child
    if wrap is None or wrap.uri != carbons.NS or wrap.name == "private":
        return None
    forwarded = wrap.firstChildElement()
    assert (forwarded.uri, forwarded.name) == (FORWARD, "forwarded")
    found = forwarded.firstChildElement()
    assert (found.uri, found.name) == (ns.CLIENT, "message"), found.uri
    return wrap.name, found


class House(SynchronousTestCase):
    """Bob, and Alice with a phone, a desk and a tablet."""

    def setUp(self) -> None:
        """All logged in; the desk and the tablet have asked for copies."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.bob = self.server.bound(self.callbridge, "bob")
        names = ("phone", "desk", "tablet")
        self.alice = {name: self.server.bound(self.callbridge, "alice", name) for name in names}
        for name in ("desk", "tablet"):
            switch(self.alice[name])
        self.heard()

    def heard(self) -> dict[str, list[str]]:
        """Who heard what: of a copy its direction, of an error its condition, else its type."""
        heard = {}
        for name, peer in {"bob": self.bob, "cb1": self.callbridge, **self.alice}.items():
            got = [self.shape(stanza) for stanza in peer.received() if stanza.name != "presence"]
            if got:
                heard[name] = got
        return heard

    def shape(self, stanza: Stanza) -> str:
        """What it is."""
        copy = inner(stanza)
        if copy is not None:
            return copy[0]
        if stanza.type == "error" and stanza.element.error is not None:
            return str(stanza.element.error.firstChildElement().name)
        return stanza.type or stanza.name

    def available(self, **priorities: int) -> None:
        """Alice's resources broadcast presence."""
        for name, priority in priorities.items():
            self.alice[name].say(f"<presence><priority>{priority}</priority></presence>")
        self.heard()


class SwitchTests(House):
    """XEP-0280 3 to 5."""

    def test_offered(self) -> None:
        """The server and the account have it, but not the rules that need whispers to be known."""
        for to in (DOMAIN, BOB):
            self.bob.say(
                f"<iq type='get' id='1' to='{to}'><query xmlns='{ns.DISCO_INFO}'/></iq>",
            )
            heard = self.bob.heard()
            self.assertIn(f"<feature var='{carbons.NS}'/>", heard)
            self.assertNotIn("urn:xmpp:carbons:rules:0", heard)

    def test_off_by_default(self) -> None:
        """Who did not ask gets none."""
        self.bob.say(message(f"{ALICE}/desk"))
        self.assertEqual({"desk": ["chat"], "tablet": ["received"]}, self.heard())

    def test_answered(self) -> None:
        """Each request has a result from the account, however often it comes; also with C{to}."""
        for what in ("enable", "enable", "disable", "disable"):
            for more in ("", f" to='{ALICE}'", f" to='ALICE@{DOMAIN}'"):
                switch(self.alice["phone"], what, more)
                (reply,) = self.alice["phone"].received()
                self.assertEqual(("result", "c"), (reply.type, reply.id))
        self.bob.say(message(f"{ALICE}/desk"))
        self.assertEqual({"desk": ["chat"], "tablet": ["received"]}, self.heard())

    def test_enabled_twice(self) -> None:
        """Gives one copy, and one C{disable} is enough."""
        switch(self.alice["phone"])
        switch(self.alice["phone"])
        self.heard()
        self.bob.say(message(f"{ALICE}/desk"))
        self.assertEqual(["received"], self.heard()["phone"])
        switch(self.alice["phone"], "disable")
        self.heard()
        self.bob.say(message(f"{ALICE}/desk"))
        self.assertNotIn("phone", self.heard())

    def test_somebody_elses(self) -> None:
        """Nobody switches for another account, or a component for any."""
        switch(self.bob, more=f" to='{ALICE}'")
        self.assertEqual({"bob": ["service-unavailable"]}, self.heard())
        switch(self.callbridge, more=f" from='cb1.{DOMAIN}' to='{ALICE}'")
        self.assertEqual({"cb1": ["service-unavailable"]}, self.heard())
        switch(self.callbridge, more=f" from='cb1.{DOMAIN}' to='{DOMAIN}'")
        self.assertEqual({"cb1": ["service-unavailable"]}, self.heard())
        self.assertEqual({ALICE}, set(self.server.router.carbons.enabled))

    def test_not_inherited(self) -> None:
        """Whoever binds the resource anew has not asked."""
        self.alice["desk"] = self.server.bound(self.callbridge, "alice", "desk")
        self.bob.say(message(f"{ALICE}/phone"))
        self.assertEqual({"phone": ["chat"], "tablet": ["received"]}, self.heard())

    def test_later(self) -> None:
        """What a session says and hears that logs in after the others have asked is copied."""
        later = self.alice["later"] = self.server.bound(self.callbridge, "alice", "later")
        later.say(message(f"{BOB}/r"))
        self.bob.say(message(f"{ALICE}/later"))
        for name in ("desk", "tablet"):
            copies = [inner(stanza) for stanza in self.alice[name].received()]
            self.assertEqual(["sent", "received"], [copy and copy[0] for copy in copies])

    def test_resumed(self) -> None:
        """A session that is resumed still has it, and gets the copies it missed, once."""
        desk = self.alice["desk"]
        desk.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        previous = desk.heard().split("id='")[1].split("'")[0]
        desk.transport.lose()
        self.bob.say(message(f"{ALICE}/phone"))
        back = self.alice["desk"] = self.server.logged_in(self.callbridge)
        back.say(f"<resume xmlns='{ns.MANAGEMENT}' h='0' previd='{previous}'/>")
        self.assertEqual(1, back.heard().count("<received "))
        self.heard()
        self.bob.say(message(f"{ALICE}/phone"))
        self.assertEqual(["received"], self.heard()["desk"])

    def test_ended(self) -> None:
        """With the last one that wanted copies everything about it goes."""
        for name in ("desk", "tablet"):
            self.alice.pop(name).say("</stream:stream>")
        self.assertEqual({}, self.server.router.carbons.enabled)
        self.assertFalse(self.alice["phone"].handler.is_copied)


class CopyTests(House):
    """XEP-0280 7 and 8."""

    def test_received(self) -> None:
        """The others get it from the account, with its type, as it was."""
        self.bob.say(message(f"{ALICE}/phone", BODY + ACTIVE, more=" xml:lang='de'"))
        (original,) = self.alice["phone"].received()
        for name in ("desk", "tablet"):
            (copy,) = self.alice[name].received()
            self.assertEqual((ALICE, f"{ALICE}/{name}", "chat"), (copy.sender, copy.to, copy.type))
            self.assertEqual(1, len(list(copy.element.elements())))
            found = inner(copy)
            assert found is not None
            self.assertEqual("received", found[0])
            self.assertEqual(original.element.toXml(), found[1].toXml())
        self.assertEqual({}, self.heard())

    def test_sent(self) -> None:
        """The others see what one said, whether that one wants copies or not."""
        for name, others in (("phone", {"desk", "tablet"}), ("desk", {"tablet"})):
            self.alice[name].say(message(f"{BOB}/r"))
            (said,) = self.bob.received()
            for other in others:
                (copy,) = self.alice[other].received()
                self.assertEqual((ALICE, f"{ALICE}/{other}"), (copy.sender, copy.to))
                found = inner(copy)
                assert found is not None
                self.assertEqual("sent", found[0])
                self.assertEqual(said.element.toXml(), found[1].toXml())
            self.assertEqual({}, self.heard())

    def test_sent_to_a_component(self) -> None:
        """Also what goes to a room or another address of a component."""
        self.alice["phone"].say(message(f"{ROOM}/nick"))
        self.assertEqual({"cb1": ["chat"], "desk": ["sent"], "tablet": ["sent"]}, self.heard())

    def test_to_bare(self) -> None:
        """Who got the message itself gets no copy; all others that want one do."""
        self.available(phone=1, desk=5, tablet=-1)
        self.bob.say(message(ALICE))
        self.assertEqual({"desk": ["chat"], "tablet": ["received"]}, self.heard())
        self.available(phone=5)
        self.bob.say(message(ALICE, type_=None))
        self.assertEqual(
            {"phone": ["message"], "desk": ["message"], "tablet": ["received"]}, self.heard()
        )

    def test_to_a_resource_that_left(self) -> None:
        """It goes to another, and is copied to the rest."""
        self.available(phone=1)
        self.bob.say(message(f"{ALICE}/gone"))
        self.assertEqual(
            {"phone": ["chat"], "desk": ["received"], "tablet": ["received"]}, self.heard()
        )

    def test_not_delivered(self) -> None:
        """What its sender is told was not delivered is not copied."""
        self.bob.say(message(ALICE) + message(f"{ALICE}/gone"))
        self.assertEqual({"bob": ["service-unavailable"] * 2}, self.heard())

    def test_to_oneself(self) -> None:
        """Nobody gets it twice, and its sender not at all."""
        switch(self.alice["phone"])
        self.heard()
        self.alice["phone"].say(message(f"{ALICE}/desk"))
        self.assertEqual({"desk": ["chat"], "tablet": ["sent"]}, self.heard())
        self.available(phone=5, desk=5)
        self.alice["phone"].say(message(ALICE) + message(ALICE).replace(f"to='{ALICE}'", ""))
        self.assertEqual(
            {"phone": ["chat"] * 2, "desk": ["chat"] * 2, "tablet": ["sent"] * 2}, self.heard()
        )

    def error(self, to: str = f"{ALICE}/phone", id_: str = "m", who: Peer | None = None) -> None:
        """Bob, or another, answers a message with an error."""
        (who or self.bob).say(
            f"<message type='error' to='{to}' id='{id_}'><error type='cancel'>"
            f"<gone xmlns='{ns.STANZAS}'/></error></message>"
        )

    def test_error(self) -> None:
        """Who saw what one said sees that it failed, however it failed; once, and afterwards."""
        failed = {"phone": ["service-unavailable"], "desk": ["sent", "received"]}
        self.alice["phone"].say(message(f"nobody@{DOMAIN}"))
        self.assertEqual({**failed, "tablet": ["sent", "received"]}, self.heard())
        self.alice["phone"].say(message(BOB.upper() + "/r"))
        self.heard()
        self.error()
        (error,) = self.alice["phone"].received()
        (copy,) = self.alice["desk"].received()
        found = inner(copy)
        assert found is not None
        self.assertEqual(("error", ALICE), (copy.type, copy.sender))
        self.assertEqual(error.element.toXml(), found[1].toXml())
        self.assertEqual({"tablet": ["received"]}, self.heard())
        self.error()
        self.assertEqual({"phone": ["gone"]}, self.heard())

    def test_error_of_what_was_never_got(self) -> None:
        """The same when its receiver's session ends before it has acknowledged it."""
        self.bob.say(f"<enable xmlns='{ns.MANAGEMENT}'/>")
        self.alice["phone"].say(message(f"{BOB}/r"))
        self.heard()
        self.bob.transport.lose()
        heard = self.heard()
        self.assertEqual(["recipient-unavailable"], heard["phone"])
        self.assertEqual(["received"], heard["desk"])

    def test_error_of_nothing(self) -> None:
        """An error that answers nothing which was copied is not copied either."""
        other = self.server.bound(self.callbridge, "mallory")
        self.alice["phone"].say(message(f"{BOB}/r") + message(f"{BOB}/r", BODY + PRIVATE, "chat"))
        self.alice["phone"].say(message(f"{BOB}/r", BODY + NO_COPY).replace("id='m'", "id='n'"))
        self.heard()
        self.error(id_="n")
        self.error(id_="other")
        self.error(who=other)
        self.error(f"{ALICE}/desk")
        heard = self.heard()
        self.assertEqual({"phone": ["gone"] * 3, "desk": ["gone"]}, heard)

    def test_errors_are_bounded(self) -> None:
        """The errors of so many messages are known; nothing is kept of who is gone."""
        phone = self.alice["phone"]
        for number in range(carbons.MOST_AWAITED + 1):
            phone.say(message(f"{BOB}/r").replace("id='m'", f"id='m{number}'"))
        self.heard()
        for number in (0, 1):
            self.error(id_=f"m{number}")
        self.assertEqual(["received"], self.heard()["desk"])
        (kept,) = self.server.router.carbons._awaited.values()
        self.assertEqual(carbons.MOST_AWAITED - 1, len(kept))
        phone.transport.lose()
        self.assertEqual({}, self.server.router.carbons._awaited)

    def test_in_order(self) -> None:
        """A conversation arrives as it was, whichever way each stanza took."""
        self.alice["phone"].say("".join(message(f"{BOB}/r", type_=t) for t in ("chat", "normal")))
        self.bob.say(message(f"{ALICE}/phone") + message(f"{ALICE}/desk"))
        self.alice["phone"].say(message(f"{BOB}/r"))
        self.assertEqual(["sent", "sent", "received", "chat", "sent"], self.heard()["desk"])

    def test_forms(self) -> None:
        """However it is written, the copy is a message in its namespace."""
        to = f"{ALICE}/phone"
        for written in (
            f"<message xmlns='jabber:client' to='{to}' type='chat' id='m'>{BODY}</message>",
            f'<message to="{to}" type="chat" xmlns="jabber:client">{BODY}</message>',
            f'<message to="{to}" id="a&gt;b" type="chat" xmlns:n="urn:n"><body/><n:x/></message>',
            f"<message to='{to}' id='xmlns' type='chat'><body><![CDATA[<&]]></body></message>",
            f"<message to='{to}' type='chat'><body xmlns='jabber:client'>x</body></message>",
            f"<message\nto='{to}' type='chat' ><body>\u00e4\U0001f600</body></message >",
        ):
            self.bob.say(written)
            (original,) = self.alice["phone"].received()
            (copy,) = self.alice["desk"].received()
            found = inner(copy)
            assert found is not None
            self.assertEqual(original.element.toXml(), found[1].toXml())
        self.callbridge.say(
            f"<message xmlns='{ns.COMPONENT}' to='{to}' from='{ROOM}' type='chat'>{BODY}</message>"
        )
        self.assertIn(f"<message xmlns='{ns.CLIENT}' to='{to}'", self.alice["desk"].heard())

    def test_inactive(self) -> None:
        """A copy is a message: it does not wait until the client is active (XEP-0352)."""
        self.alice["desk"].say(f"<inactive xmlns='{csi.NS}'/>")
        self.bob.say(message(f"{ALICE}/phone"))
        self.assertEqual(["received"], self.heard()["desk"])


class EligibleTests(House):
    """XEP-0280 6.1 and 9."""

    def copied(self, content: str, type_: str | None, sender: str | None = None) -> bool:
        """Whether a message for the phone is copied as received, and one of it as sent."""
        if sender is None:
            self.bob.say(message(f"{ALICE}/phone", content, type_))
        else:
            self.callbridge.say(message(f"{ALICE}/phone", content, type_, f" from='{sender}'"))
        heard = self.heard()
        self.assertEqual([type_ or "message"], heard.pop("phone"))
        self.assertIn(heard, ({}, {"desk": ["received"], "tablet": ["received"]}))
        return bool(heard)

    def copied_sent(self, content: str, type_: str | None, to: str = f"{BOB}/r") -> bool:
        """Whether a message from the phone is copied."""
        self.alice["phone"].say(message(to, content, type_).replace("id='m'", "id='s'"))
        heard = self.heard()
        self.assertEqual([type_ or "message"], heard.pop("cb1" if to.startswith(ROOM) else "bob"))
        self.assertIn(heard, ({}, {"desk": ["sent"], "tablet": ["sent"]}))
        return bool(heard)

    def test_rules(self) -> None:
        """By type and content, in both directions."""
        thread = "<thread>1</thread>"
        for type_, content, wanted in (
            *(("chat", BODY, True), ("chat", thread, True), ("chat", "", True)),
            *((None, BODY, True), ("normal", BODY, True), ("foo", BODY, True)),
            *((None, thread, False), ("normal", "", False)),
            (None, f"<x xmlns='urn:x'>{BODY}</x>", False),
            (None, "<body xmlns='http://www.w3.org/1999/xhtml'>x</body>", False),
            *((None, RECEIPT, True), ("normal", ACTIVE, True), (None, MARKER, True)),
            *(("headline", BODY, False), ("headline", RECEIPT, True)),
            *((None, INVITED, True), (None, MEDIATED, True)),
            *(("groupchat", BODY, False), ("groupchat", BODY + RECEIPT, False)),
            *(("groupchat", INVITED, False), ("groupchat", MEDIATED, False)),
            *(("error", BODY, False), ("error", BODY + RECEIPT, False)),
        ):
            self.assertEqual(wanted, self.copied(content, type_), (type_, content))
            self.assertEqual(wanted, self.copied_sent(content, type_), (type_, content))

    def test_refused(self) -> None:
        """Either sign keeps it from both sides' others; it is not taken away."""
        for sign in (PRIVATE, NO_COPY, PRIVATE + NO_COPY):
            for content in (BODY + sign, sign + BODY, INVITED + sign):
                self.assertFalse(self.copied(content, "chat"))
                self.assertFalse(self.copied_sent(content, "chat"))
        self.bob.say(message(f"{ALICE}/phone", BODY + PRIVATE + NO_COPY))
        self.assertIn(PRIVATE + NO_COPY, self.alice["phone"].heard())
        self.assertTrue(self.copied(f"{BODY}<x xmlns='urn:x'>{PRIVATE}</x>", "chat"))
        self.assertTrue(self.copied(f"{BODY}<private xmlns='urn:x'/>", "chat"))

    def test_of_rooms(self) -> None:
        """What an occupant whispers is not copied: the room does that; invitations are."""
        for type_ in ("chat", None):
            self.assertFalse(self.copied(BODY + OF_ROOM, type_, f"{ROOM}/nick"))
            self.assertTrue(self.copied_sent(BODY + OF_ROOM, type_, f"{ROOM}/nick"))
        self.assertTrue(self.copied(MEDIATED, None, ROOM))
        self.assertTrue(self.copied(BODY + OF_ROOM, "chat", ROOM))


class HostileTests(House):
    """What others can do with it, and what it costs those who do not have it."""

    def test_spoofed(self) -> None:
        """What looks like a copy is a message from who sent it, copied as such."""
        inside = message(BOB, more=f" xmlns='{ns.CLIENT}'")
        fake = f"<forwarded xmlns='{FORWARD}'>{inside}</forwarded>"
        for name in ("received", "sent"):
            wrap = f"<{name} xmlns='{carbons.NS}'>{fake}</{name}>"
            self.bob.say(message(f"{ALICE}/phone", wrap))
            (got,) = self.alice["phone"].received()
            self.assertEqual(f"{BOB}/r", got.sender)
            (copy,) = self.alice["desk"].received()
            found = inner(copy)
            assert found is not None
            self.assertEqual(f"{BOB}/r", found[1]["from"])
            self.heard()
        other = self.server.bound(self.callbridge, "bob", "other")
        other.say(message(f"{ALICE}/phone", fake, more=f" from='{ALICE}'"))
        self.assertIn("<invalid-from ", other.heard())
        self.callbridge.say(message(f"{ALICE}/phone", fake, more=f" from='{ALICE}'"))
        self.assertTrue(self.callbridge.lost)
        self.callbridge = self.server.register("echo")
        self.assertEqual({}, {k: v for k, v in self.heard().items() if k in self.alice})

    def test_many(self) -> None:
        """Fifty resources: each gets one copy, all share its bytes; of a large one too."""
        self.server.sessions.most_per_user = 50
        for number in range(50 - len(self.alice)):
            name = str(number)
            self.alice[name] = self.server.bound(self.callbridge, "alice", name)
            switch(self.alice[name])
        self.heard()
        wanted = {name: ["received"] for name in self.alice} | {"phone": ["chat"]}
        for size in (1, limits.CLIENT.stanza_bytes - 200):
            self.bob.say(message(f"{ALICE}/phone", f"<body>{'x' * size}</body>"))
            for _ in range(100):
                self.server.clock.advance(0)
            self.assertEqual(wanted, self.heard())
        self.assertEqual(0, self.server.router.dropped["message"])

    def test_too_long(self) -> None:
        """A megabyte ends the stream of who sent it, as ever; one that is refused has no copies."""
        self.callbridge.say(
            message(f"{ALICE}/phone", f"<body>{'x' * 300_000}</body>", more=f" from='{ROOM}'")
        )
        self.assertEqual({"cb1": ["policy-violation"]}, self.heard())
        self.bob.say(message(f"{ALICE}/phone", f"<body>{'x' * 1024 * 1024}</body>"))
        self.assertTrue(self.bob.lost)
        self.assertEqual({}, {k: v for k, v in self.heard().items() if k in self.alice})

    def test_grown(self) -> None:
        """What is too long only with its sender's address is refused, and so not copied."""
        start, end = message(f"{BOB}/r", "<body>|</body>").split("|")
        size = limits.CLIENT.stanza_bytes - len(start + end)
        self.alice["phone"].say(f"{start}{'x' * size}{end}")
        self.assertEqual({"phone": ["policy-violation"]}, self.heard())

    def test_refused(self) -> None:
        """What does not fit at its receiver is sent again by its sender, and then copied."""
        self.alice["phone"].transport.stop_reading()
        body = f"<body>{'x' * 100_000}</body>"
        refused = copied = 0
        for _ in range(20):
            self.callbridge.say(message(f"{ALICE}/phone", body, more=f" from='{ROOM}'"))
            refused += len(self.callbridge.received())
            copied += len(self.alice["desk"].received())
        self.assertGreater(refused, 0)
        self.assertEqual(20 - refused, copied)

    def test_slow(self) -> None:
        """Who reads along slowly loses copies; nobody waits for it, and nobody is told."""
        desk = self.alice["desk"]
        desk.transport.stop_reading()
        large = message(f"{ALICE}/phone", f"<body>{'x' * 10_000}</body>")
        for _ in range(200):
            self.bob.say(large)
            self.assertEqual("producing", self.bob.transport.producerState)
            self.assertEqual(1, len(self.alice["phone"].received()))
            self.assertEqual(1, len(self.alice["tablet"].received()))
        self.assertEqual([], self.bob.received())
        dropped = self.server.router.dropped["message"]
        self.assertGreater(dropped, 0)
        self.assertLess(desk.handler.waiting_bytes, SEND_LIMITS.size)
        desk.transport.read()
        self.assertEqual(200 - dropped, desk.transport.take().count("<received "))

    def test_never_acknowledged(self) -> None:
        """A copy that its receiver never got is answered to nobody."""
        desk = self.alice["desk"]
        desk.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        desk.transport.lose()
        self.bob.say(message(f"{ALICE}/phone"))
        self.alice["tablet"].say(message(f"{BOB}/r"))
        del self.alice["desk"]
        self.heard()
        for _ in range(70):
            self.server.clock.advance(1)
            for peer in (self.bob, *self.alice.values()):
                peer.say(" ")
            self.assertEqual({}, {k: v for k, v in self.heard().items() if k != "cb1"})
        self.assertEqual(3, len(self.server.sessions))
        self.assertEqual({}, dict(self.server.router.bounced))

    def test_bounced(self) -> None:
        """An error that answers a copy goes to nobody."""
        self.bob.say(message(f"{ALICE}/phone"))
        self.heard()
        self.alice["desk"].say(f"<message type='error' to='{ALICE}' id='m'>{BODY}</message>")
        self.assertEqual({}, self.heard())

    def test_costs(self) -> None:
        """A stanza between those who have no other that wants copies costs what it did."""
        server = Server()
        callbridge = server.callbridge()
        alice, bob = server.bound(callbridge, "alice"), server.bound(callbridge, "bob")
        said = message(f"{BOB}/r").encode()

        def cost() -> int:
            for _ in range(2):
                alice.say(said)
            return calls(lambda: alice.stream.dataReceived(said))

        before = cost()
        self.assertLessEqual(before, 16)
        switch(alice)
        switch(bob)
        self.assertEqual(before, cost())
        other = server.bound(callbridge, "bob", "other")
        self.assertEqual(before, cost())  # the other one wants no copies
        switch(other)
        self.assertLess(before, cost())
        other.transport.lose()
        self.assertEqual(before, cost())
        self.assertEqual({ALICE, BOB}, set(server.router.carbons.enabled))
