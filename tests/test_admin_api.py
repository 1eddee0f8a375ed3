"""The administration API as its clients meet it."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.commonapi import API
from cms.admin.interfaces import Health, Recorded
from cms.admin.operations import Call
from cms.admin.replies import Reply
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.signalflow import Attempt, Step
from cms.state.database import StoreUnusable
from cms.web.refusal import Refused
from tests import LoggedError
from tests.adminclient import (
    CALLBRIDGE,
    CLIENT,
    USER,
    Answer,
    Client,
    FakeCallbridge,
    FakeXmppServer,
    front,
    new_clock,
)
from tests.support import observe_log

XMPP = f"{API}/system/configuration/xmpp"
JSON = "application/json"


class APITests(SynchronousTestCase):
    """A client of each daemon."""

    def setUp(self) -> None:
        """Both, and an ear for the log."""
        self.clock = new_clock()
        self.callbridge, self.server = FakeCallbridge(), FakeXmppServer()
        self.cb = self.client(operations_of_callbridge(self.callbridge, self.clock, Figures()))
        self.xmpp = self.client(operations_of_xmpp_server(self.server, self.clock))
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def client(self, operations: Any) -> Client:
        """A client of some operations."""
        return Client(self, front(operations, self.clock))

    def assert_refused(self, reason: str, answer: Answer, status: int = 400) -> None:
        """It is refused in exactly the form of the field."""
        framed = f'<?xml version="1.0"?><failureDetails><{reason} /></failureDetails>'
        self.assertEqual((status, framed.encode()), (answer.status, answer.body))

    def traces(self) -> list[LogEvent]:
        """The lines about requests."""
        return [e for e in self.events if "API trace" in (e.get("log_format") or "")]


class Figures:
    """Metrics."""

    content_type = "text/plain; version=0.0.4"

    def render(self) -> bytes:
        """One figure."""
        return b"cms_up 1\n"


class FieldTests(APITests):
    """The habits of the field's published client binding."""

    def test_get_one(self) -> None:
        """An object: declaration, root with its id, values as elements."""
        answer = self.cb.ask("GET", f"{API}/users/{USER[0]}")
        self.assertEqual(200, answer.status)
        self.assertEqual("text/xml; charset=utf-8", answer.headers["content-type"])
        self.assertEqual(
            f'<?xml version="1.0"?><user id="{USER[0]}"><userJid>alice@meet.example.com</userJid>'
            "<created>2026-01-01T00:00:00Z</created><disabled>false</disabled></user>",
            answer.body.decode(),
        )

    def test_double_slash_and_case(self) -> None:
        """Addresses begin with two slashes, and are written in any case."""
        for path in (f"/{API}/users", "/API/V1/USERS", f"{API}/users/", "//api//v1/Users"):
            self.assertEqual(200, self.cb.ask("GET", path).status, path)

    def test_post(self) -> None:
        """The last 36 characters of the Location are the id; the body is empty."""
        answer = self.cb.ask("POST", f"/{API}/users", "userJid=alice&password=not encoded@all")
        self.assertEqual((200, b""), (answer.status, answer.body))
        self.assertEqual(f"{API}/users/{USER[0]}", answer.headers["location"])
        self.assertEqual(USER[0], answer.headers["location"][-36:])
        self.assertEqual([("add_user", "alice", "not encoded@all")], self.callbridge.calls)

    def test_put(self) -> None:
        """Parameters as the binding has them; 200 with an empty body."""
        body = "uniqueName=cb2&domain=meet.example.com&sharedSecret=abc&serverAddressOverride="
        answer = self.cb.ask("PUT", f"/{XMPP}", body)
        self.assertEqual((200, b""), (answer.status, answer.body))
        expected = {
            "uniqueName": "cb2",
            "domain": "meet.example.com",
            "sharedSecret": "abc",
            "serverAddressOverride": "",
        }
        self.assertEqual([("configure", expected)], self.callbridge.calls)

    def test_names_and_booleans_in_any_case(self) -> None:
        """The binding writes True, and callID beside callId."""
        answer = self.cb.ask("PUT", f"{API}/users/{USER[0]}", "DISABLED=True")
        self.assertEqual(200, answer.status)
        self.assertEqual([("change_user", USER[0], None, True)], self.callbridge.calls)

    def test_name_for_people(self) -> None:
        """With a new user, or of one that is there; the rest stays as it is."""
        self.cb.ask("POST", f"/{API}/users", "userJid=alice&password=x&displayName=Alice+L.")
        self.assertEqual(("name_user", USER[0], "Alice L."), self.callbridge.calls[-1])
        self.cb.ask("PUT", f"{API}/users/{USER[0]}", "displayName=")
        self.assertEqual(
            [("name_user", USER[0], ""), ("change_user", USER[0], None, None)],
            self.callbridge.calls[-2:],
        )

    def test_sessions_that_ended(self) -> None:
        """They are counted for who reads JSON; the binding awaits an empty body."""
        path, plain = f"{API}/users/{USER[0]}", "application/json"
        answer = self.cb.ask("PUT", path, "disabled=true", accept=plain)
        self.assertEqual(2, json.loads(answer.body)["user"]["sessionsEnded"])
        for form in ("disabled=true", "disabled=false"):
            self.assertEqual(b"", self.cb.ask("PUT", path, form).body)
        self.assertEqual(b"", self.cb.ask("PUT", path, "disabled=false", accept=plain).body)

    def test_delete(self) -> None:
        """With a content type and no body."""
        form = "application/x-www-form-urlencoded"
        answer = self.cb.ask("DELETE", f"{API}/users/{USER[0]}", content_type=form)
        self.assertEqual((200, b""), (answer.status, answer.body))
        self.assertEqual([("delete_user", USER[0])], self.callbridge.calls)

    def test_reason_is_cut_out(self) -> None:
        """38 characters in front and 20 behind."""
        answer = self.cb.ask("GET", f"{API}/users/nobody")
        self.assertEqual(400, answer.status)
        self.assertEqual("userDoesNotExist", answer.body.decode()[38:-20])

    def test_list(self) -> None:
        """The root of a list has the total."""
        answer = self.cb.ask("GET", f"{API}/users?limit=5&offset=0&filter=ali")
        root = ET.fromstring(answer.body)
        self.assertEqual(("users", {"total": "1"}), (root.tag, root.attrib))
        self.assertEqual([("user", {"id": USER[0]})], [(c.tag, c.attrib) for c in root])

    def test_first_call(self) -> None:
        """A session of the binding begins with the status."""
        self.clock.advance(12.5)
        root = ET.fromstring(self.cb.ask("GET", f"/{API}/system/status").body)
        self.assertEqual("status", root.tag)
        self.assertEqual("12", root.findtext("uptimeSeconds"))
        self.assertTrue(root.findtext("softwareVersion"))


class RefusalTests(APITests):
    """What is not taken."""

    def test_parameters(self) -> None:
        """The reason names what is wrong."""
        table = {
            "uniqueNam=x": "unknownParameter",
            "uniqueName=": "uniqueNameInvalid",
            "uniqueName=a&uniquename=b": "uniqueNameRepeated",
            "domain=a%00b": "domainInvalid",
            "domain=%ff": "malformedForm",
            "&".join(f"a{n}=1" for n in range(40)): "malformedForm",
            "": "nothingToChange",
        }
        for body, reason in table.items():
            self.assert_refused(reason, self.cb.ask("PUT", XMPP, body))
        self.assertEqual([], self.callbridge.calls)

    def test_missing(self) -> None:
        """What is required and not there."""
        self.assert_refused("passwordMissing", self.cb.ask("POST", f"{API}/users", "userJid=a"))

    def test_query(self) -> None:
        """Bounds of a list."""
        table = {
            "limit=0": "limitInvalid",
            "limit=201": "limitInvalid",
            "offset=-1": "offsetInvalid",
            "offset=%D9%A1": "offsetInvalid",
            "limit=1&limit=2": "limitRepeated",
            "tenantFilter=x": "unknownParameter",
        }
        for query, reason in table.items():
            self.assert_refused(reason, self.cb.ask("GET", f"{API}/users?{query}"))

    def test_no_such_path(self) -> None:
        """404; also where the path is no UTF-8, or leads out."""
        for path in ("/", "/api", f"{API}/nothing", "/%ff", "/..%2f..", f"{API}/users/a%2Fb"):
            self.assert_refused("notFound", self.cb.ask("GET", path), 404)

    def test_no_such_method(self) -> None:
        """405 with Allow."""
        answer = self.cb.ask("PATCH", XMPP)
        self.assert_refused("methodNotAllowed", answer, 405)
        self.assertEqual("DELETE, GET, HEAD, PUT", answer.headers["allow"])

    def test_no_form(self) -> None:
        """415."""
        answer = self.cb.ask("PUT", XMPP, '{"domain": 1}', content_type=JSON)
        self.assert_refused("formExpected", answer, 415)

    def test_in_json(self) -> None:
        """There cause and cure have room."""
        answer = self.cb.ask("PUT", XMPP, "domain=", accept=JSON)
        self.assertEqual((400, JSON), (answer.status, answer.headers["content-type"]))
        details = json.loads(answer.body)["failureDetails"]
        self.assertEqual(("domainInvalid", "domain"), (details["reason"], details["parameter"]))
        self.assertTrue(details["cause"] and details["cure"])

    def test_other_site(self) -> None:
        """A form that another site's page sends with the browser's log-in."""
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec_fetch_site": "cross-site"},
        ):
            answer = self.cb.ask("PUT", XMPP, "domain=evil.example", **headers)
            self.assert_refused("crossSite", answer, 403)
        own = self.cb.ask(
            "PUT", XMPP, "domain=a", origin="https://cms", sec_fetch_site="same-origin"
        )
        self.assertEqual(200, own.status)
        read = self.cb.ask("GET", XMPP, sec_fetch_site="cross-site")
        self.assertEqual(200, read.status)

    def test_own_refusals(self) -> None:
        """What the role refuses."""
        self.callbridge.refusal = Refused("domainInvalid", "no domain")
        self.assert_refused("domainInvalid", self.cb.ask("PUT", XMPP, "domain=x"))

    def test_unexpected(self) -> None:
        """An error of ours is 500, and in the log with the number of the request."""
        self.callbridge.refusal = ZeroDivisionError("oh")
        answer = self.cb.ask("PUT", XMPP, "domain=x&sharedSecret=s3cret")
        self.assert_refused("internalError", answer, 500)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        (failed,) = [e for e in self.traces() if "unexpected" in e["log_format"]]
        self.assertEqual(answer.headers["x-request-id"], failed["id"])

    def test_store_that_cannot_be_used(self) -> None:
        """A full disk is told with what mends it, by step, and is no error of the program."""
        fault = faults.STATE_FULL.error(path="/state/users.sqlite3", folder="/state")
        for problem in (StoreUnusable(fault), fault):
            self.callbridge.refusal = problem
            answer = self.cb.ask("PUT", XMPP, "domain=x", accept=JSON)
            self.assertEqual(500, answer.status)
            told = json.loads(answer.body)["failureDetails"]
            self.assertEqual(
                {"reason": "notStored", "cause": fault.cause, "cure": fault.cure}, told
            )
        lines = [e for e in self.traces() if e.get("fault") == "state-full"]
        self.assertEqual([2, 2], [line["step"] for line in lines])
        self.assertEqual(2, len(self.flushLoggedErrors(LoggedError)))


class AnswerTests(APITests):
    """What both daemons say."""

    def test_headers(self) -> None:
        """Nothing is stored, framed or guessed at."""
        headers = self.cb.ask("GET", XMPP).headers
        self.assertEqual("no-store", headers["cache-control"])
        self.assertEqual("nosniff", headers["x-content-type-options"])
        self.assertIn("default-src 'none'", headers["content-security-policy"])
        self.assertEqual("cms", headers["server"])

    def test_head(self) -> None:
        """Without the body."""
        answer = self.cb.ask("HEAD", XMPP)
        self.assertEqual((200, b""), (answer.status, answer.body))

    def test_json(self) -> None:
        """By Accept."""
        answer = self.cb.ask("GET", f"{API}/users", accept="text/xml;q=0.1, application/json")
        (user,) = json.loads(answer.body)["users"]["user"]
        self.assertEqual({"id": USER[0], **USER[1]}, user)
        for accept in ("*/*", "text/xml", "application/json;q=0", "application/json;q=x", ""):
            answer = self.cb.ask("GET", f"{API}/users", accept=accept)
            self.assertIn("xml", answer.headers["content-type"], accept)

    def test_signal_flow(self) -> None:
        """Attempts with steps, evidence, cause and cure, the newest first."""
        attempt = Attempt(3, 1_700_000_000.5)
        attempt.begin(Step.CONNECT, 1_700_000_000.5, target="x:5223")
        refused = faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223)
        attempt.failed(1_700_000_001.0, refused)
        login = Attempt(4, 1_700_000_002.0)
        login.once(Step.LOGIN, 1_700_000_002.0, jid="a@b/c")
        self.callbridge.recorded = [Recorded("login", login), Recorded("link", attempt)]
        root = ET.fromstring(self.cb.ask("GET", f"{API}/system/signalflow?kind=link").body)
        self.assertEqual({"total": "1"}, root.attrib)
        self.assertEqual("link-3", root[0].get("id"))
        self.assertEqual("2023-11-14T22:13:20.500Z", root[0].findtext("began"))
        step = root[0].find("steps/step")
        assert step is not None
        self.assertEqual(("6", "failed"), (step.findtext("step"), step.findtext("result")))
        self.assertTrue(step.findtext("failure/cure"))
        both = ET.fromstring(self.cb.ask("GET", f"{API}/system/signalflow?limit=1").body)
        self.assertEqual(("2", 1), (both.get("total"), len(both)))
        self.assert_refused("kindInvalid", self.cb.ask("GET", f"{API}/system/signalflow?kind=x"))

    def test_health(self) -> None:
        """200 or 503, with the step."""
        self.assertEqual((200, b"ok: step 11 active\n"), self.health())
        fault = faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223)
        self.callbridge.good = Health(False, Step.CONNECT, fault)
        status, body = self.health()
        self.assertEqual(503, status)
        self.assertTrue(body.startswith(b"not ready: step 6 connect: 192.0.2.1 refused"), body)
        status, body = self.health(JSON)
        facts = json.loads(body)
        self.assertEqual((503, 6, False), (status, facts["step"], facts["healthy"]))

    def health(self, accept: str = "*/*") -> tuple[int, bytes]:
        """What C{/healthz} says."""
        answer = self.cb.ask("GET", "/healthz", accept=accept)
        return answer.status, answer.body

    def test_metrics(self) -> None:
        """Where there are any."""
        answer = self.cb.ask("GET", "/metrics")
        self.assertEqual((200, b"cms_up 1\n"), (answer.status, answer.body))
        self.assertEqual("text/plain; version=0.0.4", answer.headers["content-type"])
        self.assert_refused("notFound", self.xmpp.ask("GET", "/metrics"), 404)

    def test_trace(self) -> None:
        """One line a request, with no parameter in it."""
        self.cb.ask("PUT", f"{XMPP}?x=s3cret", "sharedSecret=s3cret")
        self.cb.ask("GET", "/healthz")
        (line,) = self.traces()
        self.assertEqual(("PUT", XMPP, 400), (line["method"], line["path"], line["status"]))
        self.assertNotIn("s3cret", str(self.events))

    def test_client_leaves(self) -> None:
        """Before the answer: nothing is written, nothing is logged as an error."""
        never: Deferred[Reply] = Deferred()
        self.callbridge.configure = lambda changes: never  # type: ignore[assignment,method-assign,return-value]
        sent = self.cb.send("PUT", XMPP, "domain=x")
        self.assertNoResult(sent)
        sent.cancel()
        self.cb.http.flush()
        self.failureResultOf(sent)

    def test_document(self) -> None:
        """OpenAPI, of what this daemon has and nothing else."""
        for client, path, other in (
            (self.cb, XMPP, f"{API}/callBridges"),
            (self.xmpp, f"{API}/callBridges", XMPP),
        ):
            answer = client.ask("GET", f"{API}/openapi.json")
            self.assertEqual(JSON, answer.headers["content-type"])
            document = json.loads(answer.body)
            self.assertIn(path, document["paths"])
            self.assertNotIn(other, document["paths"])

    def test_document_is_complete(self) -> None:
        """Every operation has a summary, an own name, and says what it refuses."""
        operations = operations_of_callbridge(self.callbridge, self.clock)
        names = [operation.name for operation in operations]
        self.assertEqual(len(names), len(set(names)))
        for operation in operations:
            self.assertTrue(operation.summary.endswith("."), operation.name)
        document = json.loads(self.cb.ask("GET", f"{API}/openapi.json").body)
        put = document["paths"][XMPP]["put"]
        self.assertIn("domainInvalid", put["responses"]["400"]["description"])
        self.assertTrue({"401", "403", "415", "500"} <= put["responses"].keys())
        secret = put["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
        self.assertTrue(secret["properties"]["sharedSecret"]["writeOnly"])


class XmppServerTests(APITests):
    """What only the XMPP server has."""

    def test_add(self) -> None:
        """A secret that is made comes back once; one that is given does not."""
        answer = self.xmpp.ask("POST", f"{API}/callBridges", "name=cb1")
        self.assertEqual(CALLBRIDGE[0], answer.headers["location"][-36:])
        root = ET.fromstring(answer.body)
        self.assertEqual(("cb1", "m4de"), (root.findtext("name"), root.findtext("secret")))
        answer = self.xmpp.ask("POST", f"{API}/callBridges", "name=cb1&secret=theirs")
        self.assertEqual(b"", answer.body)
        self.assertEqual([("add", "cb1", None), ("add", "cb1", "theirs")], self.server.calls)

    def test_rotate(self) -> None:
        """With an overlap; it says which secret."""
        one = f"{API}/callBridges/cb1"
        answer = self.xmpp.ask("PUT", one, "regenerateSecret=True&overlapSeconds=60", accept=JSON)
        made = json.loads(answer.body)["callBridge"]
        self.assertEqual({"id": CALLBRIDGE[0], "name": "cb1", "secret": "m4de"}, made)
        self.assertEqual(b"", self.xmpp.ask("PUT", one, "secret=theirs").body)
        self.assertEqual(
            [("rotate", CALLBRIDGE[0], None, 60.0), ("rotate", CALLBRIDGE[0], "theirs", 86400.0)],
            self.server.calls,
        )
        for body in ("", "regenerateSecret=false", "regenerateSecret=true&secret=x"):
            self.assert_refused("nothingToChange", self.xmpp.ask("PUT", one, body))

    def test_list_and_end(self) -> None:
        """Callbridges and clients."""
        listed = self.xmpp.ask("GET", f"{API}/callBridges?filter=nothing")
        self.assertEqual(b'<?xml version="1.0"?><callBridges total="0" />', listed.body)
        self.assertIn(b"cb1.meet.example.com", self.xmpp.ask("GET", f"{API}/callBridges").body)
        self.assertIn(b"alice@", self.xmpp.ask("GET", f"{API}/clients/{CLIENT[0]}").body)
        self.assertEqual(200, self.xmpp.ask("DELETE", f"{API}/callBridges/cb1").status)
        self.assertEqual(200, self.xmpp.ask("DELETE", f"{API}/clients/{CLIENT[0]}").status)
        ended = self.xmpp.ask("DELETE", f"{API}/clients?jid=alice", accept="application/json")
        self.assertEqual({"clients": {"ended": 2}}, json.loads(ended.body))
        self.assert_refused("jidMissing", self.xmpp.ask("DELETE", f"{API}/clients"))
        told = self.xmpp.ask("POST", f"{API}/clientMessages", "jid=all&text=x")
        self.assertIn(b"<told>3</told>", told.body)
        self.assert_refused("clientDoesNotExist", self.xmpp.ask("DELETE", f"{API}/clients/x"))
        self.assertEqual(
            [
                ("delete", CALLBRIDGE[0]),
                ("end", CLIENT[0]),
                ("end_all", "alice"),
                ("tell", "all", "x"),
            ],
            self.server.calls,
        )


class FurtherRouteTests(APITests):
    """Routes that others add are behind the same front."""

    def test_page(self) -> None:
        """A page, at its own address."""
        operations = operations_of_callbridge(self.callbridge, self.clock)
        root = front(operations, self.clock)
        app = root.application.routes

        @app.route("/pages/Settings")
        def page(request: Any) -> bytes:
            return b"<!DOCTYPE html>"

        answer = Client(self, root).ask("GET", "/pages/Settings")
        self.assertEqual((200, b"<!DOCTYPE html>"), (answer.status, answer.body))
        self.assertTrue(re.fullmatch(r"\d+", answer.headers["x-request-id"]))
        call = Call()
        self.assertFalse(call.wants_json)
