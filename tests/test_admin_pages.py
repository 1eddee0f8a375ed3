"""The pages: escaped, under a strict policy, their forms proof against others' pages."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.flowview import WORDS, twelve_steps
from cms.admin.interfaces import Health, Recorded, Selection
from cms.admin.listpages import SHOWN
from cms.admin.userpages import UserPages
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.admin.xmpppages import XmppPages
from cms.callbridge.login.decision import Decision
from cms.callbridge.login.record import KEEP, Logins
from cms.signalflow import Attempt, Step
from cms.web.html import POLICY
from cms.web.refusal import Refused, wrong
from tests.adminclient import (
    CALLBRIDGE,
    CLIENT,
    USER,
    Answer,
    Client,
    Document,
    FakeCallbridge,
    FakeXmppServer,
    front,
    new_clock,
)

HOSTILE = "\"'><script src=//x>alert(1)</script><img onerror=x>&amp;"
FORM = {"uniqueName": "cb1", "domain": "meet.example.com", "serverAddressOverride": ""}


class Form(Document):
    """A page with what its forms hold."""

    def values(self) -> dict[str | None, str | None]:
        """What the fields hold."""
        return {a.get("name"): a.get("value") for tag, a in self.tags if tag == "input"}

    def token(self) -> str:
        """What goes with its forms."""
        return str(self.values()["token"])

    def find(self, **wanted: str) -> dict[str, str | None]:
        """The attributes of the one element that has these."""
        (found,) = [a for _, a in self.tags if wanted.items() <= a.items()]
        return found


class PagesTests(SynchronousTestCase):
    """Both daemons."""

    def setUp(self) -> None:
        """Both, with their pages."""
        self.clock = new_clock()
        self.callbridge, self.server = Bridge(), Server()
        root = front(operations_of_callbridge(self.callbridge, self.clock), self.clock, Names())
        CallbridgePages(self.callbridge, self.clock).add_to(root.application.routes)
        self.cb = Client(self, root)
        root = front(operations_of_xmpp_server(self.server, self.clock), self.clock, Names())
        XmppPages(self.server, self.clock).add_to(root.application.routes)
        self.xmpp = Client(self, root)

    def post(self, client: Client, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form with the token of the page."""
        token = Form(client.ask("GET", "/", authorization="alice")).token()
        body = "&".join(f"{k}={v}" for k, v in {"token": token, **fields}.items())
        return client.ask("POST", path, body, **{"authorization": "alice", **headers})


class Names:
    """Whoever says a name is let in."""

    async def admit(self, authorization: str | None, host: str) -> str:
        """By the header alone."""
        if authorization is None:
            raise Refused("unauthorized", "nobody", status=401)
        return authorization


class Bridge(FakeCallbridge):
    """Its settings can be told."""

    settings = {**FORM, "source": "api"}

    def configuration(self) -> Any:
        """As told."""
        return self.settings


class Server(FakeXmppServer):
    """Its lists can be told."""

    bridge: dict[str, Any] = CALLBRIDGE[1]

    def callbridges(self) -> Any:
        """The one."""
        return [(CALLBRIDGE[0], self.bridge)]

    def callbridge(self, id_: str) -> Any:
        """The one."""
        super().callbridge(id_)
        return CALLBRIDGE[0], self.bridge


class SafetyTests(PagesTests):
    """What others' names and others' pages can do: nothing."""

    def pages(self) -> list[tuple[Client, str]]:
        """All of them."""
        one = f"/callbridges/{CALLBRIDGE[0]}"
        shown = ["/", "/clients", one, f"{one}/delete", f"/clients/{CLIENT[0]}", "/clients/none"]
        return [(self.cb, "/"), (self.cb, "/settings/forget"), *((self.xmpp, p) for p in shown)]

    def test_policy(self) -> None:
        """Each page has it, keeps to it, and stays out of caches and frames."""
        for client, path in self.pages():
            answer = client.ask("GET", path, authorization="alice")
            self.assertEqual(POLICY, answer.headers["content-security-policy"], path)
            self.assertEqual("no-store", answer.headers["cache-control"])
            # With no-referrer a browser would say "Origin: null" of our own forms.
            self.assertEqual("same-origin", answer.headers["referrer-policy"])
            self.assertEqual("text/html; charset=utf-8", answer.headers["content-type"])
            for tag, attributes in Form(answer).tags:
                self.assertNotEqual("style", tag)
                self.assertEqual([], [a for a in attributes if a == "style" or a[:2] == "on"])
                for name in ("src", "href", "action"):
                    target = attributes.get(name, "/") or ""
                    self.assertRegex(target, r"^(/(?!/)|#)", f"{path} {tag}")
                if tag == "script":
                    self.assertEqual("/static/cms.js", attributes["src"])
        self.assertNotIn("unsafe", POLICY)
        self.assertIn("default-src 'none'", POLICY)

    def test_frame(self) -> None:
        """Landmarks, a heading, a language, and a viewport that phones understand."""
        for client, path in self.pages():
            page = Form(client.ask("GET", path, authorization="alice"))
            names = [tag for tag, _ in page.tags]
            for once in ("main", "h1", "header", "footer", "title"):
                self.assertEqual(1, names.count(once), (path, once))
            self.assertEqual("en", page.find(lang="en")["lang"])
            self.assertIn("width=device-width", page.find(name="viewport")["content"] or "")
            labels = {a["for"] for tag, a in page.tags if tag == "label"}
            fields = [a for tag, a in page.tags if tag == "input" and a.get("type") != "hidden"]
            self.assertEqual(labels, {field["id"] for field in fields})
            ids = [a["id"] for _, a in page.tags if "id" in a]
            self.assertEqual(len(ids), len(set(ids)), path)

    def test_log_in(self) -> None:
        """Nothing is shown without, the script neither."""
        for client, path in [*self.pages(), (self.cb, "/events"), (self.cb, "/static/cms.js")]:
            self.assertEqual(401, client.ask("GET", path).status, path)

    def test_hostile_names(self) -> None:
        """They are shown, and are nothing but text."""
        self.callbridge.settings = dict.fromkeys(FORM, HOSTILE) | {"source": HOSTILE}
        attempt = Attempt(1, 1.0)
        attempt.begin(Step.SRV, 1.0, record=HOSTILE)
        attempt.failed(
            2.0,
            faults.CONFIGURATION_VALUE.error(
                file=HOSTILE, key=HOSTILE, problem=HOSTILE, mend=HOSTILE
            ),
        )
        self.callbridge.recorded = self.server.recorded = [Recorded("link", attempt)]
        self.server.bridge = {
            "name": HOSTILE,
            "component": HOSTILE,
            "state": HOSTILE,
            "since": HOSTILE,
            "certificate": {HOSTILE: HOSTILE},
            "mechanisms": [HOSTILE],
        }
        self.server.clients.session = {"jid": HOSTILE, "address": HOSTILE, "since": HOSTILE}
        quoted = "/clients?filter=%22%3E%3Cscript%3E"
        for client, path in [*self.pages(), (self.xmpp, quoted)]:
            page = Form(client.ask("GET", path, authorization="alice"))
            self.assertEqual([], [a for tag, a in page.tags if tag == "img"], path)
            scripts = [a for tag, a in page.tags if tag == "script"]
            self.assertEqual([{"src": "/static/cms.js", "defer": "defer"}], scripts, path)
        page = Form(self.xmpp.ask("GET", "/", authorization="alice"))
        self.assertIn(HOSTILE, page.text)
        answer = self.post(self.cb, "/settings", {"uniqueName": "%22%3E%3Cimg%3E"})
        self.assertEqual(303, answer.status)
        self.callbridge.refusal = wrong("domain", HOSTILE, HOSTILE)
        page = Form(self.post(self.cb, "/settings", {"domain": "%22%3E%3Cimg%3E"}))
        self.assertEqual('"><img>', page.values()["domain"])
        self.assertEqual([], [a for tag, a in page.tags if tag == "img"])

    def test_forms_of_others(self) -> None:
        """A form without the token of this log-in changes nothing, nor one from elsewhere."""
        one = f"/callbridges/{CALLBRIDGE[0]}"
        forms = [
            (self.cb, "/settings"),
            (self.cb, "/settings/forget"),
            (self.xmpp, "/callbridges"),
            (self.xmpp, f"{one}/rotate"),
            (self.xmpp, f"{one}/delete"),
            (self.xmpp, f"/clients/{CLIENT[0]}/end"),
        ]
        for client, path in forms:
            token = Form(client.ask("GET", "/", authorization="alice")).token()
            for body in ("", "token=", "token=x%C3%A9", f"name=cb9&token={token[::-1]}"):
                answer = client.ask("POST", path, body, authorization="alice")
                self.assertEqual(403, answer.status, path)
                self.assertIn("another log-in", answer.body.decode())
            answer = client.ask("POST", path, f"token={token}", authorization="bob")
            self.assertEqual(403, answer.status, path)
            for headers in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}):
                answer = client.ask(
                    "POST", path, f"token={token}", authorization="alice", **headers
                )
                self.assertEqual(403, answer.status, path)
            answer = client.ask(
                "POST", path, f"token={token}", authorization="alice", content_type="text/plain"
            )
            self.assertEqual(415, answer.status, path)
            self.assertEqual(405, client.ask("PUT", path, "x=y", authorization="alice").status)
        self.assertEqual([], self.callbridge.calls)
        self.assertEqual([], [call for call in self.server.calls if call[0] != "clients"])

    def test_files(self) -> None:
        """Style, script and icon, and nothing else of the disk."""
        for name, kind in (("cms.css", "text/css"), ("cms.js", "text/javascript")):
            answer = self.cb.ask("GET", f"/static/{name}", authorization="alice")
            self.assertEqual(200, answer.status)
            self.assertIn(kind, answer.headers["content-type"])
            self.assertNotRegex(answer.body.decode(), r"https?://|@import|\burl\(|innerHTML|eval\(")
        for name in ("../pages.py", "..%2Fpages.py", "x", "%2e%2e/pages.py"):
            answer = self.cb.ask("GET", f"/static/{name}", authorization="alice")
            self.assertEqual(404, answer.status, name)


class SettingsTests(PagesTests):
    """The Callbridge's form."""

    def test_saved(self) -> None:
        """What differs is set; the secret only where one was typed."""
        answer = self.post(
            self.cb, "/settings", {**FORM, "domain": "b.example", "sharedSecret": ""}
        )
        self.assertEqual((303, "/?saved=1"), (answer.status, answer.headers["location"]))
        self.assertEqual([("configure", {"domain": "b.example"})], self.callbridge.calls)
        self.callbridge.calls.clear()
        self.post(self.cb, "/settings", {**FORM, "sharedSecret": "n%26w", "uniqueName": " cb1 "})
        self.assertEqual([("configure", {"sharedSecret": "n&w"})], self.callbridge.calls)
        page = Form(self.cb.ask("GET", "/?saved=1", authorization="alice"))
        self.assertIn("Saved.", page.text)

    def test_wrong(self) -> None:
        """Reason and cure are beside the field; what was typed stays, but for the secret."""
        typed = {"uniqueName": "", "domain": "b" * 300, "sharedSecret": "t9ped"}
        answer = self.post(self.cb, "/settings", typed)
        self.assertEqual(400, answer.status)
        page = Form(answer)
        self.assertEqual([], self.callbridge.calls)
        for name in ("uniqueName", "domain"):
            field = page.find(id=name)
            self.assertEqual("true", field["aria-invalid"])
            self.assertEqual(f"{name}-hint {name}-error", field["aria-describedby"])
            page.find(id=f"{name}-error")
        self.assertNotIn("aria-invalid", page.find(id="serverAddressOverride"))
        self.assertEqual(typed["domain"], page.values()["domain"])
        self.assertEqual("", page.values()["sharedSecret"])
        self.assertNotIn(b"t9ped", answer.body)
        self.assertIn("Domain has 300 characters. Give 1 to 253.", page.text)

    def test_refused(self) -> None:
        """What the daemon finds wrong is shown likewise; what is nobody's field, on top."""
        self.callbridge.refusal = wrong("domain", '"x" is none', "Write one.", named=": ")
        page = Form(self.post(self.cb, "/settings", {"domain": "x"}))
        self.assertIn('"x" is none. Write one.', page.text)
        self.assertEqual("true", page.find(id="domain")["aria-invalid"])
        self.callbridge.refusal = Refused("notStored", "the disk is full", "Look.", status=500)
        answer = self.post(self.cb, "/settings", {"domain": "x"})
        self.assertEqual(500, answer.status)
        page = Form(answer)
        self.assertIn("The disk is full.", page.text)
        self.assertEqual("x", page.values()["domain"])

    def test_stale(self) -> None:
        """After a restart the form comes back with what was typed."""
        answer = self.cb.ask(
            "POST", "/settings", "token=old&domain=b.example", authorization="alice"
        )
        self.assertEqual(403, answer.status)
        page = Form(answer)
        self.assertEqual("b.example", page.values()["domain"])
        body = f"token={page.token()}&domain=b.example"
        self.assertEqual(303, self.cb.ask("POST", "/settings", body, authorization="alice").status)

    def test_forget(self) -> None:
        """It asks, then the file decides."""
        self.assertEqual(303, self.post(self.cb, "/settings/forget", {}).status)
        self.assertEqual([("unconfigure",)], self.callbridge.calls)

    def test_next_attempt(self) -> None:
        """When it begins stands in the summary, for people and for machines."""
        link = {"state": "waiting", "nextAttempt": "2026-11-29T03:04:05.000Z"}
        self.callbridge.good = Health(False, Step.CONNECT)
        self.patch(self.callbridge, "status", lambda: {"link": link})
        page = Form(self.cb.ask("GET", "/", authorization="alice"))
        self.assertIn("The next begins at 2026-11-29 03:04:05 UTC.", page.text)
        self.assertEqual(
            {"datetime": "2026-11-29T03:04:05Z"}, page.find(datetime="2026-11-29T03:04:05Z")
        )


class RefusalTests(SynchronousTestCase):
    """A wrong value, as the API has it and in a form."""

    def test_named(self) -> None:
        """The cause names the parameter, and a form its field, however they are joined."""
        for named, cause, in_form in (
            (" ", "domain is none", "XMPP domain is none"),
            (": ", "domain: is none", "is none"),
            ("", "is none", "is none"),
        ):
            refused = wrong("domain", "is none", "Write one.", named=named)
            self.assertEqual(cause, refused.cause)
            self.assertEqual(in_form, refused.in_form("XMPP domain"))
            self.assertEqual("domainInvalid", refused.reason)


class XmppTests(PagesTests):
    """The XMPP server's forms."""

    def test_add(self) -> None:
        """The secret is in the answer and nowhere else."""
        answer = self.post(self.xmpp, "/callbridges", {"name": "cb1"})
        self.assertEqual((200, "no-store"), (answer.status, answer.headers["cache-control"]))
        self.assertIn("m4de", Form(answer).text)
        self.assertIn(("add", "cb1", None), self.server.calls)
        self.assertNotIn(b"m4de", self.xmpp.ask("GET", "/", authorization="alice").body)

    def test_add_wrong(self) -> None:
        """It is told beside the field."""
        answer = self.post(self.xmpp, "/callbridges", {"name": "n" * 300})
        self.assertEqual(400, answer.status)
        page = Form(answer)
        self.assertEqual("n" * 300, page.values()["name"])
        self.assertIn("Unique Call Bridge name has 300 characters.", page.text)
        page = Form(self.post(self.xmpp, "/callbridges", {"name": "c\tb"}))
        self.assertIn("Unique Call Bridge name holds characters that cannot", page.text)

    def test_rotate(self) -> None:
        """Another secret, shown once; hours are hours."""
        path = f"/callbridges/{CALLBRIDGE[0]}/rotate"
        self.assertIn(b"m4de", self.post(self.xmpp, path, {"overlapHours": "2"}).body)
        self.assertIn(("rotate", CALLBRIDGE[0], None, 7200.0), self.server.calls)
        for hours in ("-1", "x", "1.5", "721", "9" * 50, "\u0663"):
            self.assertEqual(400, self.post(self.xmpp, path, {"overlapHours": hours}).status)

    def test_delete_and_end(self) -> None:
        """Done, and back to the overview."""
        for path, call in (
            (f"/callbridges/{CALLBRIDGE[0]}/delete", ("delete", CALLBRIDGE[0])),
            (f"/clients/{CLIENT[0]}/end", ("end", CLIENT[0])),
        ):
            answer = self.post(self.xmpp, path, {})
            self.assertEqual((303, "/"), (answer.status, answer.headers["location"]))
            self.assertIn(call, self.server.calls)
        gone = self.post(self.xmpp, "/clients/gone/end", {})
        self.assertEqual(400, gone.status)
        self.assertIn(b"Go to the first page, which shows what there is.", gone.body)
        self.assertNotIn(b"GET ", gone.body)

    def test_in_file(self) -> None:
        """What is in the file has no buttons that could not work."""
        self.server.bridge = {**CALLBRIDGE[1], "source": "file"}
        page = self.xmpp.ask("GET", "/callbridges/cb1", authorization="alice")
        self.assertNotIn(b"<form", page.body)
        self.assertIn(b"[callbridges]", page.body)

    def test_client_away(self) -> None:
        """Since when it has no connection, and how much is kept for it, in the list and alone."""
        for path in ("/clients", "/", f"/clients/{CLIENT[0]}"):
            self.server.clients.session = {**CLIENT[1]}
            there = self.xmpp.ask("GET", path, authorization="alice").body.decode()
            away: Any = {"awaySince": "2026-01-02T03:04:05.000Z", "keptBytes": 12345}
            self.server.clients.session = {**CLIENT[1], "connected": False, **away}
            gone = self.xmpp.ask("GET", path, authorization="alice").body.decode()
            self.assertNotIn("gone since", there)
            self.assertIn("gone since <time", gone)
            self.assertIn("2026-01-02 03:04:05 UTC</time>, 12,345 bytes are kept for it", gone)

    def test_message(self) -> None:
        """To everybody, and to one; what cannot be sent is refused."""
        (sent,) = [self.post(self.xmpp, "/clients/message", {"jid": "all", "text": " Soon back "})]
        self.assertEqual((303, "/clients?told=3"), (sent.status, sent.headers["location"]))
        self.assertEqual(("tell", "all", "Soon back"), self.server.calls[-1])
        told = self.xmpp.ask("GET", "/clients?told=3", authorization="alice")
        self.assertIn(b"3 clients got it.", told.body)
        one = self.xmpp.ask("GET", f"/clients/{CLIENT[0]}", authorization="alice").body.decode()
        self.assertIn(f'value="{CLIENT[1]["jid"]}"', one)
        empty = self.post(self.xmpp, "/clients/message", {"jid": "all", "text": " "})
        self.assertEqual(400, empty.status)

    def test_many_clients(self) -> None:
        """They are leafed through, found, and any offset is harmless."""
        self.server.clients.count = 120
        page = Form(
            self.xmpp.ask("GET", f"/clients?filter=a%26b&offset={SHOWN}", authorization="alice")
        )
        self.assertEqual(("clients", Selection(SHOWN, SHOWN, "a&b"), ""), self.server.calls[-1])
        links = [a["href"] for tag, a in page.tags if tag == "a" and a.get("class") == "button"]
        self.assertEqual(
            ["/clients?filter=a%26b&offset=0", f"/clients?filter=a%26b&offset={2 * SHOWN}"], links
        )
        for offset in ("x", "-1", "9" * 40, "\u0663"):
            answer = self.xmpp.ask("GET", f"/clients?offset={offset}", authorization="alice")
            self.assertEqual(200, answer.status)

    def test_no_callbridge(self) -> None:
        """Cause and cure are on top."""
        fault = faults.NO_CALLBRIDGE.error()
        self.server.good = Health(False, Step.LINK_BEFORE_LOGIN, fault)
        page = Form(self.xmpp.ask("GET", "/", authorization="alice"))
        self.assertIn(fault.cause, page.text)
        self.assertIn(fault.cure, page.text)


class FlowTests(SynchronousTestCase):
    """The twelve steps, of what was recorded."""

    def states(self, attempt: Attempt, *more: Recorded, active: bool = False) -> dict[Step, str]:
        """Of each step."""
        recorded = [*more, Recorded("link", attempt)]
        return {view.step: view.state for view in twelve_steps(recorded, active=active)}

    def up(self) -> Attempt:
        """A link that is up since 10."""
        attempt = Attempt(1, 1.0)
        for step in range(Step.CONFIGURATION, Step.ACTIVE):
            attempt.once(Step(step), 2.0)
        attempt.begin(Step.ACTIVE, 10.0)
        return attempt

    def test_twelve(self) -> None:
        """All pass when somebody has logged in over this link."""
        login = Attempt(1, 11.0)
        login.once(Step.LOGIN, 11.0)
        states = self.states(self.up(), Recorded("login", login), active=True)
        self.assertEqual({"passed"}, set(states.values()))
        old = Attempt(1, 9.0)
        old.once(Step.LOGIN, 9.0)
        states = self.states(self.up(), Recorded("login", old), active=True)
        self.assertEqual("waiting", states[Step.LOGIN])

    def test_guess(self) -> None:
        """A password that was mistyped does not hide that log-ins work."""
        good, bad = Attempt(1, 11.0), Attempt(2, 12.0)
        good.once(Step.LOGIN, 11.0)
        bad.failed(12.0, faults.login_refused("c", "not-authorized"))
        logins = [Recorded("login", bad), Recorded("login", good)]
        self.assertEqual("passed", self.states(self.up(), *logins, active=True)[Step.LOGIN])
        self.assertEqual("failed", self.states(self.up(), logins[0], active=True)[Step.LOGIN])

    def test_next_target(self) -> None:
        """What the target before failed with is told, and does not count any more."""
        attempt = Attempt(1, 1.0)
        attempt.once(Step.ADDRESS, 1.0)
        attempt.begin(Step.CONNECT, 1.0)
        attempt.failed(2.0, faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223))
        attempt.begin(Step.ADDRESS, 3.0)
        views = {v.step: v for v in twelve_steps([Recorded("link", attempt)], active=False)}
        self.assertEqual("running", views[Step.ADDRESS].state)
        self.assertEqual("waiting", views[Step.CONNECT].state)
        self.assertEqual(["connect-refused"], [f.fault for f in views[Step.CONNECT].earlier])

    @given(
        st.lists(st.tuples(st.sampled_from(list(Step)), st.sampled_from("bpfa")), max_size=30),
        st.booleans(),
    )
    def test_any(self, deeds: list[tuple[Step, str]], active: bool) -> None:
        """Whatever happened: twelve, in order, each in a state that has a word."""
        attempt = Attempt(1, 1.0)
        for step, deed in deeds:
            if deed == "b" or (deed == "p" and attempt.running is None):
                attempt.begin(step, 2.0)
            elif deed == "p":
                attempt.passed(3.0)
            elif deed == "f":
                attempt.failed(3.0, faults.INTERNAL.error(problem="x"))
            else:
                attempt.abandoned(3.0)
        views = twelve_steps([Recorded("link", attempt)], active=active and bool(deeds))
        self.assertEqual(list(Step), [view.step for view in views])
        self.assertLessEqual({view.state for view in views}, WORDS.keys())


class LoginsTests(SynchronousTestCase):
    """The Callbridge's record of step 12."""

    def test_bounds(self) -> None:
        """Guessers do not push out what users did; a name is not what a client says it is."""
        logins = Logins(new_clock(), lambda: "cb1.meet.example.com")
        logins.decided(Decision("SCRAM-SHA-256", "success", 0.5))
        for _ in range(3 * KEEP):
            logins.decided(Decision("<script>", "not-authorized", 0.1))
        logins.decided(Decision("PLAIN", "lost", 0.1))
        kept = list(logins)
        self.assertEqual(KEEP + 1, len(kept))
        self.assertEqual("skipped", kept[0].records[0].result)
        self.assertEqual("passed", kept[-1].records[0].result)
        self.assertEqual("login-refused", kept[1].failure.fault if kept[1].failure else None)
        self.assertEqual(
            {"SCRAM-SHA-256", "other", "PLAIN"},
            {attempt.records[0].evidence["mechanism"] for attempt in kept},
        )
        self.assertFalse(re.search("script", str([a.as_dict() for a in kept])))


class UserPagesTests(SynchronousTestCase):
    """The users of a Callbridge."""

    def setUp(self) -> None:
        """There is Alice."""
        clock = new_clock()
        self.role = FakeCallbridge()
        root = front(operations_of_callbridge(self.role, clock), clock)
        CallbridgePages(self.role, clock, more=[UserPages(self.role)]).add_to(
            root.application.routes
        )
        self.client = Client(self, root)

    def get(self, path: str) -> str:
        """A page."""
        return self.client.ask("GET", path, authorization="alice").body.decode()

    def post(self, path: str, **fields: str) -> Answer:
        """A form that is sent."""
        token = Form(self.client.ask("GET", "/users", authorization="alice")).token()
        body = urlencode({"token": token, **fields})
        return self.client.ask("POST", path, body, authorization="alice")

    def test_shown(self) -> None:
        """In the list and alone, with whether she may log in."""
        self.assertIn('href="/users"', self.get("/"))
        self.assertIn(f'href="/users/{USER[0]}"', self.get("/users?filter=ali"))
        self.assertIn("may log in", self.get(f"/users/{USER[0]}"))
        self.assertIn("There is nothing to show", self.get("/users/nobody"))

    def test_done(self) -> None:
        """Each is one call, and says what became of the sessions; a password is never shown."""
        one = f"/users/{USER[0]}"
        for path, fields, call, at in (
            (f"{one}/disable", {}, ("change_user", USER[0], None, True), f"{one}?ended=2"),
            (f"{one}/enable", {}, ("change_user", USER[0], None, False), one),
            (
                f"{one}/password",
                {"password": "pencil"},
                ("change_user", USER[0], "pencil", None),
                f"{one}?ended=0",
            ),
            (f"{one}/delete", {}, ("delete_user", USER[0]), "/users"),
            (f"{one}/name", {"displayName": "A. L."}, ("name_user", USER[0], "A. L."), one),
            (
                "/users",
                {"userJid": "bob", "password": "pencil"},
                ("add_user", "bob", "pencil"),
                one,
            ),
        ):
            answer = self.post(path, **fields)
            self.assertEqual((303, at), (answer.status, answer.headers["location"]))
            self.assertEqual(call, self.role.calls[-1])
        self.assertIn("2 sessions ended", self.get(f"{one}?ended=2"))
        self.assertIn("have not ended yet", self.get(f"{one}?ended=later"))

    def test_refused(self) -> None:
        """What was typed stays, but for the password."""

        async def refuse(*_: object) -> str:
            raise wrong("userJid", "it is no user", "Give a name.")

        self.patch(self.role, "add_user", refuse)
        answer = self.post("/users", userJid="b b", password="pencil")
        self.assertEqual(400, answer.status)
        self.assertIn(b'value="b b"', answer.body)
        self.assertNotIn(b"pencil", answer.body)
        self.assertEqual(400, self.post("/users", userJid="bob").status)
