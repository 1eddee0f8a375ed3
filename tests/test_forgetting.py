"""The contacts of a user who was deleted are forgotten, and those of nobody else."""

from __future__ import annotations

import json
from functools import partial
from random import Random
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.commonapi import API
from cms.admin.contactpages import ContactPages
from cms.admin.contactsapi import ContactOperations
from cms.admin.interfaces import Page, Selection
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.admin.xmpppages import XmppPages
from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.directories.several import Directories
from cms.callbridge.directories.store import UserStore
from cms.callbridge.link.handlers import LinkTraffic, LoginHandler
from cms.callbridge.login import departures
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.departures import Departures
from cms.callbridge.login.endings import Endings, Forgotten
from cms.linkprotocol import ending
from cms.linkprotocol import login as lp
from cms.linkprotocol.login import expect
from cms.xmpp.contacts.acts import Act
from cms.xmpp.contacts.administration import ContactAdministration
from cms.xmpp.contacts.changes import PAUSE
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import BUCKETS, Book, ContactStore
from tests.adminclient import Client, FakeXmppServer, front
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.support import new_folder, one_stanza
from tests.test_admin_pages import Form, Names
from tests.test_cluster_contacts import TwoServers
from tests.test_ended_sessions import CB1, Stream
from tests.test_login_authority import MemoryDirectory
from tests.test_xmpp_contacts import ALICE, BOB, House
from tests.xmppserver import DOMAIN, Peer, Server, Threads

UNAVAILABLE = "<error type='cancel'><{} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"


def ask(callbridge: Peer, payload: str = "", name: str = "cb1") -> None:
    """A Callbridge says that Alice was deleted."""
    payload = payload or ending.Forget(ALICE).to_xml()
    addresses = f"from='{name}.{DOMAIN}' to='{DOMAIN}'"
    callbridge.say(f"<iq type='set' id='f1' {addresses}>{payload}</iq>")


def answer_of(callbridge: Peer) -> Any:
    """How many were forgotten, or the condition of the error."""
    (answer,) = [stanza for stanza in callbridge.received() if stanza.id == "f1"]
    if answer.type == "error":
        return str(answer.element.error.firstChildElement().name)
    return expect(ending.parse(answer.child), ending.Forgotten).contacts


def alone(server: Server) -> None:
    """There is one Callbridge."""
    for name in ("cb2", "echo"):
        del server.registry.secrets[f"{name}.{DOMAIN}"]


class ServerTests(House):
    """The XMPP server is asked."""

    def setUp(self) -> None:
        super().setUp()
        alone(self.server)
        self.befriend("alice", "bob")
        self.send("carol", "alice", "subscribe")
        self.say("alice", "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>"
                 "<item jid='x@y'/></block></iq>")  # fmt: skip

    def forget(self) -> dict[str, list[str]]:
        """Alice is forgotten; who hears what."""
        ask(self.callbridge)
        self.server.clock.advance(PAUSE)
        self.assertEqual(3, answer_of(self.callbridge))
        return self.heard()

    def test_forgotten(self) -> None:
        """Both halves are gone, requests too; who saw her sees her go; the name stays with Bob."""
        heard = self.forget()
        self.assertEqual(
            ["push alice none", "unavailable alice", "unsubscribe alice", "unsubscribed alice"],
            sorted(heard["bob"]),
        )
        self.assertIn("unsubscribed alice", heard["carol"])
        self.assertEqual([], list(self.roster("alice").element.query.elements()))
        (item,) = self.roster("bob").element.query.elements()
        self.assertEqual((ALICE, "none"), (item["jid"], item["subscription"]))
        self.assertNotIn("alice", self.server.changes.store.owners)

    def test_next_of_the_name(self) -> None:
        """Somebody else who gets the name sees nobody, and nobody sees her."""
        self.peers.pop("alice").say("</stream:stream>")
        self.forget()
        self.peers["alice"] = self.login("alice")
        heard = self.heard()
        self.assertEqual({"alice"}, set(heard))
        self.assertNotIn("presence bob", heard["alice"])

    def test_others_keep_theirs(self) -> None:
        """Nobody else loses anything."""
        self.befriend("bob", "carol")
        self.forget()
        shown = {i["jid"]: i["subscription"] for i in self.roster("bob").element.query.elements()}
        self.assertEqual({ALICE: "none", f"carol@{DOMAIN}": "both"}, shown)

    def test_who_may_not(self) -> None:
        """A client, a component that decides nothing, and what cannot be read."""
        self.peers["bob"].say(f"<iq type='set' id='f1'>{ending.Forget(ALICE).to_xml()}</iq>")
        self.assertEqual("forbidden", answer_of(self.peers["bob"]))
        for broken in ("", "jid='@'", f"jid='{ALICE}/r'", "jid='alice@elsewhere.example'"):
            ask(self.callbridge, f"<forget xmlns='{ending.NS}' {broken}/>")
            self.assertEqual("bad-request", answer_of(self.callbridge), broken)
        self.assertIn("alice", self.server.changes.store.owners)

    def test_another_callbridge(self) -> None:
        """One that may have the same user is in the way, connected or not; a bot is not."""
        for name in ("cb2", "echo"):
            self.server.registry.secrets[f"{name}.{DOMAIN}"] = ()
            ask(self.callbridge)
            self.assertEqual("conflict", answer_of(self.callbridge))
            del self.server.registry.secrets[f"{name}.{DOMAIN}"]
        self.server.registry.secrets["bot.elsewhere.example"] = ()
        self.forget()

    def test_bot(self) -> None:
        """A component that said that it decides nothing is nobody's Callbridge."""
        self.server.registry.secrets |= Server().registry.secrets
        del self.server.registry.secrets[f"cb2.{DOMAIN}"]
        echo = self.server.register("echo")
        (question,) = echo.received()
        echo.say(f"<iq type='error' id='{question.id}' from='echo.{DOMAIN}' to='{DOMAIN}'/>")
        self.forget()

    def test_store_fails(self) -> None:
        """The Callbridge hears that it is to ask again."""
        self.server.contacts.stop()
        (path := self.server.changes.store.database.path).write_bytes(b"x" * 4096)
        self.addCleanup(path.unlink)
        ask(self.callbridge)
        self.server.clock.advance(PAUSE)
        self.assertEqual("internal-server-error", answer_of(self.callbridge))
        self.flushLoggedErrors()


class NoContactsTests(SynchronousTestCase):
    """A server without contacts."""

    def test_unknown(self) -> None:
        """It answers as one that does not know of it."""
        server = Server()
        callbridge = server.callbridge()
        ask(callbridge)
        self.assertEqual("service-unavailable", answer_of(callbridge))


class ClusterTests(TwoServers):
    """Several servers."""

    def test_everywhere(self) -> None:
        """All forget."""
        self.befriend()
        for server in (self.one, self.two):
            server.registry.secrets = {CB1: server.registry.secrets[CB1]}
        ask(self.cb1)
        self.heard()
        self.assertEqual(1, answer_of(self.cb1))
        for server in (self.one, self.two):
            self.assertEqual({"bob"}, server.changes.store.owners)
        self.assertEqual(self.rows(self.one), self.rows(self.two))


class ThreadedClock(Clock, Threads):
    """A clock, and threads that have done everything at once."""


class CallbridgeTests(SynchronousTestCase):
    """The Callbridge asks."""

    def setUp(self) -> None:
        """A link is up, and Alice has just been deleted."""
        self.clock = ThreadedClock()
        self.store = UserStore(new_folder(self))
        self.store.set_password("alice", "x", iterations=1)
        self.store.delete("alice")
        authority = Authority(*(self.clock, MemoryDirectory({}), DOMAIN), random=Random(7))
        self.endings = Endings(lambda: authority, lambda: (DOMAIN, CB1))
        self.traffic = LinkTraffic(
            self.clock, [], LoginHandler(authority, DOMAIN, None, self.endings)
        )
        self.beside: Deferred[bool] = succeed(False)
        self.departures = Departures(
            *(self.clock, self.store, self.endings, lambda _: self.beside, Random(7))
        )
        self.addCleanup(self.departures.stop)
        self.stream: Any = Stream(self.clock)
        self.traffic.link_up(self.stream)

    def tell(self) -> Deferred[Forgotten]:
        """As the administration does."""
        return Deferred.fromCoroutine(self.departures.tell("alice"))

    def named(self) -> None:
        """The server asks what is decided here."""
        question = lp.AskMechanisms().to_xml()
        self.traffic.received(
            one_stanza(f"<iq type='get' id='m' from='{DOMAIN}' to='{CB1}'>{question}</iq>")
        )

    def asked(self) -> list[Any]:
        """What the server was asked since the last time."""
        sent, self.stream.sent[:] = list(self.stream.sent), []
        return [stanza for stanza in sent if stanza.is_request]

    def answer(self, content: str, type_: str = "result") -> None:
        """The server answers that Alice is to be forgotten."""
        (question,) = self.asked()
        self.assertEqual(ending.Forget(ALICE), ending.parse(question.child))
        start = f"<iq type='{type_}' id='{question.id}' from='{DOMAIN}' to='{CB1}'>"
        self.stream.requests.take(one_stanza(f"{start}{content}</iq>"))

    def fault_of(self, told: Deferred[Forgotten]) -> str:
        """Why they are not forgotten."""
        outcome = self.successResultOf(told)
        assert outcome.problem is not None
        self.assertEqual(None, outcome.contacts)
        return str(outcome.problem.fault)

    def test_forgotten(self) -> None:
        """At once, and once."""
        told = self.tell()
        self.answer(ending.Forgotten(3).to_xml())
        self.assertEqual(Forgotten(3), self.successResultOf(told))
        self.named()
        self.assertEqual([], self.asked())

    def test_no_link(self) -> None:
        """When there is one, and the server has been told what is decided here: not before."""
        self.traffic.link_down()
        self.assertEqual("contacts-later", self.fault_of(self.tell()))
        self.clock.advance(departures.MOST_DELAY)
        self.stream = Stream(self.clock)
        self.traffic.link_up(self.stream)
        self.assertEqual([], self.asked())
        self.named()
        self.answer(ending.Forgotten(0).to_xml())
        self.assertEqual([], self.store.departed())

    def test_name_is_given_again(self) -> None:
        """Before the server could be told: who has it now has no contacts either."""
        self.store.set_password("alice", "y", iterations=1)
        self.named()
        self.answer(ending.Forgotten(1).to_xml())

    def test_silent(self) -> None:
        """It is asked again, ever more seldom; a passing failure of its store likewise."""
        told = self.tell()
        self.clock.advance(20)
        self.assertEqual("contacts-later", self.fault_of(told))
        self.asked()
        self.clock.advance(2 * departures.FIRST_DELAY)
        wait = UNAVAILABLE.replace("cancel", "wait").format("internal-server-error")
        self.answer(wait, "error")
        self.clock.advance(departures.FIRST_DELAY)
        self.assertEqual([], self.asked())
        self.clock.advance(3 * departures.FIRST_DELAY)
        self.answer(ending.Forgotten(1).to_xml())
        self.clock.advance(departures.MOST_DELAY)
        self.assertEqual([], self.asked())

    def test_refused(self) -> None:
        """An older or foreign server, or one that knows another Callbridge: it is told of, once."""
        for condition in ("service-unavailable", "conflict"):
            told = self.tell()
            self.answer(UNAVAILABLE.format(condition), "error")
            self.assertEqual("contacts-stay", self.fault_of(told))
        told = self.tell()
        self.answer("<x xmlns='urn:x'/>")
        self.assertEqual("contacts-stay", self.fault_of(told))
        self.assertEqual([], self.store.departed())

    def test_in_another_directory(self) -> None:
        """He was moved to LDAP: he keeps his contacts."""
        self.beside = succeed(True)
        self.assertEqual(Forgotten(), self.successResultOf(self.tell()))
        self.assertEqual(([], []), (self.asked(), self.store.departed()))

    def test_directory_is_away(self) -> None:
        """Nobody knows whether he is in LDAP: nothing is forgotten yet."""
        self.beside = fail(DirectoryError("ldap1 is away"))
        self.assertEqual("contacts-later", self.fault_of(self.tell()))
        self.beside = succeed(False)
        self.named()
        self.answer(ending.Forgotten(1).to_xml())

    def test_store_fails(self) -> None:
        """It is told of, and the link goes on."""
        self.store.path.write_bytes(b"x" * 4096)
        self.named()
        self.assertEqual(1, len(self.flushLoggedErrors()))


class StoreTests(SynchronousTestCase):
    """Whom the server is to be told of."""

    def test_departed(self) -> None:
        """Those who were deleted, and nobody who was not, or was disabled."""
        store = UserStore(new_folder(self))
        self.assertEqual([], store.departed())
        store.told_of("alice")
        for name in ("alice", "bob", "carol"):
            store.set_password(name, "x", iterations=1)
        store.set_disabled("carol", True)
        store.delete("nobody")
        store.delete("alice")
        store.delete("bob")
        self.assertEqual(["alice", "bob"], sorted(store.departed()))
        store.told_of("alice")
        self.assertEqual(["bob"], store.departed())

    def test_beside(self) -> None:
        """The local store is no other directory; one that can be asked is."""

        class Source:
            usual_wait, mechanisms = 0.0, ("PLAIN",)

            def __init__(self, name: str, asks: bool) -> None:
                self.name, self.asks = name, asks
                self.over_ = "deleted"

            def over(self, *_: object) -> Deferred[str]:
                return succeed(self.over_)

        local, ldap = Source("local", asks=False), Source("staff", asks=True)
        several: Any = Directories(Clock(), [local, ldap], (), None)  # type: ignore[list-item, arg-type]
        local.over_ = "password"
        for said, has in (("deleted", False), ("disabled", True)):
            ldap.over_ = said
            found = Deferred.fromCoroutine(several.has_beside("alice"))
            self.assertEqual(has, self.successResultOf(found))


class AdministrationTests(House):
    """By API and page."""

    def setUp(self) -> None:
        super().setUp()
        self.befriend("alice", "bob")
        self.set("alice", f"<item jid='{BOB}' name='B'><group>x</group></item>")
        self.send("carol", "alice", "subscribe")
        local: Any = self.server.router.local
        self.administration = ContactAdministration(
            self.server.changes.store, local.forgetting, DOMAIN, Threads()
        )

    def listed(self, address: str = "alice", text: str = "") -> Page:
        """What the API lists."""
        asked = self.administration.listed(address, Selection(filter=text))
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def test_listed(self) -> None:
        """Contacts, requests, who is blocked."""
        self.say("alice", "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>"
                 "<item jid='x@y'/></block></iq>")  # fmt: skip
        shown = {facts["jid"]: facts for _, facts in self.listed(ALICE).items}
        self.assertEqual({BOB, f"carol@{DOMAIN}", "x@y"}, set(shown))
        self.assertEqual(
            ("B", ["x"], "both", False, False, True, False),
            tuple(shown[BOB][key] for key in ("name", "groups", "subscription", "asked", "asks",
                                              "onRoster", "blocked")),
        )  # fmt: skip
        self.assertTrue(shown[f"carol@{DOMAIN}"]["asks"])
        self.assertTrue(shown["x@y"]["blocked"])
        self.assertEqual(1, self.listed(text="BOB").total)
        self.assertEqual(0, self.listed("nobody").total)

    def test_by_directory(self) -> None:
        """Who is in a group of a directory with her is among them, and stays."""
        store = self.server.changes.store
        for user in ("alice", "dave"):
            share = partial(Book.share, owner=user, group="cb1/1", name="Board", active=True)
            store.apply([share])
        shown = {facts["jid"]: facts for _, facts in self.listed().items}
        dave = shown[f"dave@{DOMAIN}"]
        self.assertEqual((True, ["Board"]), (dave["byDirectory"], dave["groups"]))
        self.assertFalse(shown[BOB]["byDirectory"])
        asked = Deferred.fromCoroutine(self.administration.forget("alice"))
        self.heard()
        self.successResultOf(asked)
        self.assertEqual([f"dave@{DOMAIN}"], [facts["jid"] for _, facts in self.listed().items])

    def test_forget(self) -> None:
        """At once, for who is logged in as well."""
        asked = Deferred.fromCoroutine(self.administration.forget("alice"))
        self.heard()
        self.assertEqual((ALICE, 2), self.successResultOf(asked))
        self.assertEqual(0, self.listed().total)

    def test_wrong_address(self) -> None:
        """It is told which form it has."""
        for address in ("alice@elsewhere", f"{ALICE}/r", "@"):
            asked = self.administration.forget(address)
            failure = self.failureResultOf(Deferred.fromCoroutine(asked))
            self.assertEqual("jidInvalid", failure.value.reason)

    def test_none_offered(self) -> None:
        """A server without contacts has none."""
        self.administration = ContactAdministration(None, None, DOMAIN, Threads())
        self.assertEqual(0, self.listed().total)
        asked = Deferred.fromCoroutine(self.administration.forget("alice"))
        self.assertEqual((ALICE, 0), self.successResultOf(asked))

    def test_api(self) -> None:
        """Listed and forgotten, in the form of the field."""
        operations = ContactOperations(self.administration).operations()
        api = Client(self, front(operations, self.server.clock))
        answer = api.ask("GET", f"{API}/contacts?jid=alice", accept="application/json")
        listed = json.loads(answer.body)["contacts"]
        self.assertEqual([BOB, f"carol@{DOMAIN}"], [facts["jid"] for facts in listed["contact"]])
        answer = api.ask("DELETE", f"{API}/contacts?jid=alice", accept="application/json")
        told = {"contacts": {"jid": ALICE, "forgotten": 2}}
        self.assertEqual(told, json.loads(answer.body))
        self.assertEqual(400, api.ask("DELETE", f"{API}/contacts").status)

    def test_page(self) -> None:
        """It asks first."""
        xmpp = FakeXmppServer()
        root = front(operations_of_xmpp_server(xmpp, self.server.clock), self.server.clock, Names())
        pages = XmppPages(xmpp, self.server.clock, more=[ContactPages(self.administration)])
        pages.add_to(root.application.routes)
        browser = Client(self, root)

        def get(path: str) -> str:
            return browser.ask("GET", path, authorization="eve").body.decode()

        self.assertIn('href="/contacts"', get("/"))
        self.assertNotIn(BOB, get("/contacts"))
        shown = get(f"/contacts?jid={ALICE}")
        self.assertIn(BOB, shown)
        action = "/contacts/alice%40meet.example.com/forget"
        self.assertIn(f'action="{action}"', shown)
        token = Form(browser.ask("GET", "/", authorization="eve")).token()
        done = browser.ask("POST", action, f"token={token}", authorization="eve")
        self.assertEqual((303, "/contacts?forgotten=2"), (done.status, done.headers["location"]))
        self.assertIn("2 entries forgotten", get("/contacts?forgotten=2"))
        self.assertIn("There are none", get("/contacts/alice%40meet.example.com"))


class CommandTests(CommandLineTests):
    """C{cms xmpp contacts}."""

    def fill(self) -> ContactStore:
        """Alice sees Bob, in the file of a server that does not run."""
        store = ContactStore(self.folder / "xmpp", lambda: 1.0)
        settings = ContactSettings()
        for one, other in (("alice", "bob"), ("bob", "alice")):
            asks = partial(Act.send, sender=one, to=other, kind="subscribe")
            grants = partial(Act.send, sender=other, to=one, kind="subscribed")
            for does in (asks, grants):
                store.apply([lambda book, does=does: does(Act(book, settings))])  # type: ignore[misc]
        return store

    def test_stopped(self) -> None:
        """On the file; where there is none, there are none."""
        self.assertEqual([], self.facts("xmpp", "contacts", "show", "alice"))
        self.assertIn("0 entries", self.said("xmpp", "contacts", "forget", "alice"))
        store = self.fill()
        self.assertIn(f"{BOB}  both\n", self.said("xmpp", "contacts", "show", "alice"))
        (facts,) = self.facts("xmpp", "contacts", "show", ALICE)
        self.assertEqual((BOB, "both"), (facts["jid"], facts["subscription"]))
        forgotten = self.facts("xmpp", "contacts", "forget", "alice")
        self.assertEqual({"jid": ALICE, "forgotten": 1}, forgotten)
        self.assertEqual([], self.facts("xmpp", "contacts", "show", "alice"))
        self.assertEqual("none", store.roster("bob")[0].state.subscription)
        self.addCleanup(store.close)

    def test_in_a_cluster(self) -> None:
        """What is forgotten while this server is down leaves an entry, for the others."""
        text = (self.folder / "xmpp.toml").read_text()
        cluster = '[cluster]\nengine = "redis://127.0.0.1:6379/0"\nnode = "one"\n'
        self.write("xmpp.toml", text + cluster)
        store = self.fill()
        self.said("xmpp", "contacts", "forget", "alice")
        self.addCleanup(store.close)
        rows = [row for n in range(BUCKETS) for row in store.bucket(str(n)) if row[1] == "alice"]
        self.assertEqual([("contacts", "alice", "bob", 0, 0, 0)], [row[:6] for row in rows])

    def test_wrong_address(self) -> None:
        """It is told."""
        said = self.refused("xmpp", "contacts", "forget", "alice@elsewhere", status=1)
        self.assertIn("no address of a user", said)

    def test_running(self) -> None:
        """The server does it."""
        daemon = FakeDaemon(self, self.folder / "xmpp")
        contact = {"jid": BOB, "name": "B", "groups": ["x"], "subscription": "to", "asks": True}
        daemon.get("contacts", {"contacts": {"total": 1, "contact": [contact]}})
        said = self.said("xmpp", "contacts", "show", "alice")
        self.assertIn(f'{BOB}  "B"  to  in x  asks to see\n', said)
        forgotten = {"contacts": {"jid": ALICE, "forgotten": 1}}
        daemon.answers["DELETE", "/api/v1/contacts"] = 200, forgotten
        self.assertIn(
            f"1 entry of {ALICE} forgotten", self.said("xmpp", "contacts", "forget", ALICE)
        )
        self.assertEqual([("DELETE", "/api/v1/contacts", {"jid": ALICE})], daemon.changes())

    def test_user_deleted(self) -> None:
        """C{cms callbridge user del} says what became of them, with a Callbridge and without."""
        self.said("callbridge", "user", "add", "alice", "--password-stdin", text="x\n")
        facts = self.facts("callbridge", "user", "del", "alice")
        self.assertEqual("contacts-later", facts["contactsProblem"]["fault"])
        daemon = FakeDaemon(self, self.folder / "callbridge")
        daemon.get("users", {"users": {"total": 1, "user": [{"userJid": ALICE}]}})
        path = f"/api/v1/users/{quote(ALICE, safe='')}"
        told = {"userJid": ALICE, "sessionsEnded": 1, "contactsForgotten": 2}
        daemon.answers["DELETE", path] = 200, {"user": told}
        said = self.said("callbridge", "user", "del", "alice")
        self.assertIn("alice@meet.example.com deleted, 1 session ended, 2 contacts forgotten", said)
