"""C{cms check --join} at a server in memory: what it does, and what each answer means."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.internet.protocol import Protocol
from websockets.exceptions import InvalidOrigin
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from cms.audit.finding import Finding
from cms.check.joincheck import JoinCheck
from cms.check.report import Report
from cms.check.website import Meeting, Website, read_meeting, read_website
from cms.commands.joining import of_config
from cms.discovery.resolver import DNS
from cms.signalflow import Step
from cms.trust.files import PEMFiles
from cms.xmlstream import ns
from cms.xmpp.config import read_config
from peers.pki import Authority, pem
from peers.webstub import MECHANISMS, OPEN, features, host_meta, page, told
from tests.commandline import HOSTNAME, XMPP, CommandLineTests
from tests.fakedns import FakeResolver
from tests.fakenetwork import Reply, Script
from tests.test_check_login import AUTH, PASSWORD, RESPONSE, ScramServer
from tests.test_check_walk import DOMAIN, FIRST, HOST, ROOT, WalkTests

GUEST, SPACE = f"guest-1@{DOMAIN}", f"sales@cb1.{DOMAIN}"
CALL_ID, PASSCODE, SECRET = "123456789", "471108150042", "bGlua3NlY3JldA"
ADMITTED = {"jid": GUEST, "password": PASSWORD, "space": SPACE, "nick": "cms check", "title": "S"}
RELATION = "urn:xmpp:alt-connections:websocket"
PAGE = (
    f'<!DOCTYPE html><html lang="en" data-domain="{DOMAIN}"><head>'
    '<script type="module" src="/static/a1/app.js"></script>'
    '<link rel="stylesheet" href="/static/a1/style.css"></head></html>'
)
CLOSED = page(503, f'<html data-domain="{DOMAIN}"></html>')
OPENS = "<open [^>]*>"
BINDS = features(f"<bind xmlns='{ns.BIND}'/>")


def presence(nick: str, *statuses: str, kind: str = "") -> bytes:
    """Of an occupant."""
    told = "".join(f"<status code='{code}'/>" for code in statuses)
    return (
        f"<presence xmlns='{ns.CLIENT}' from='{SPACE}/{nick}'{kind}>"
        f"<x xmlns='{ns.MUC_USER}'>{told}</x></presence>"
    ).encode()


def room_error(condition: str) -> bytes:
    """What refuses a join."""
    return (
        f"<presence xmlns='{ns.CLIENT}' from='{SPACE}/cms check' type='error'>"
        f"<error type='cancel'><{condition} xmlns='{ns.STANZAS}'/></error></presence>"
    ).encode()


def bound(script: Script, asked: re.Match[bytes]) -> bytes:
    """A resource."""
    jid = f"<bind xmlns='{ns.BIND}'><jid>{GUEST}/r1</jid></bind>"
    return f"<iq xmlns='{ns.CLIENT}' type='result' id='{asked[1].decode()}'>{jid}</iq>".encode()


IN: Reply = presence("Alice") + b"\0" + presence("cms check", "110")
OUT: Reply = presence("cms check", "110", kind=" type='unavailable'")


def frames(*room: tuple[str, Reply]) -> list[tuple[str, Reply]]:
    """A whole session, up to the room."""
    server = ScramServer()
    return [
        (OPENS, f"{OPEN}\0{MECHANISMS}".encode()),
        (AUTH, server.challenge),
        (RESPONSE, server.success),
        (OPENS, f"{OPEN}\0{BINDS}".encode()),
        (f"<iq xmlns='{ns.CLIENT}'[^>]* id='([^']+)'[^>]*><bind", bound),
        *room,
    ]


ROOM = (("<presence [^>]*>.*</presence>", IN), ("type='unavailable'/>", OUT))


class Server(Protocol):
    """
    The pages in memory.

    @ivar answers: In place of the usual ones, by path.
    @ivar lines: For the frames, see L{Script}; several in one answer have a zero between.
    """

    transport: Any
    hangs_up = True

    def __init__(self, test: JoinTests) -> None:
        self.test = test
        self.frames = ServerProtocol(origins=test.origins, subprotocols=test.subprotocols)
        self.heard = b""
        self.script = Script(test.lines)
        self.is_websocket = False

    def connectionMade(self) -> None:
        if self.test.server_trust is not None:
            self.transport.startTLS(self.test.server_trust.for_peer("the client"))

    def dataReceived(self, data: bytes) -> None:
        if self.is_websocket:
            self.frames.receive_data(data)
            self.speak()
            return
        self.heard += data
        head, end, body = self.heard.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not end or (length and len(body) < int(length[1])):
            return
        path = head.split(b" ")[1].decode()
        self.test.asked.append((path, head.decode(), body))
        answer = self.test.answers.get(path)
        if answer is None and path == "/xmpp-websocket":
            self.is_websocket = True
            self.script.makeConnection(self)
            self.frames.receive_data(self.heard)
            self.speak()
        else:
            self.transport.write(answer if answer is not None else page(404))
            if self.hangs_up:
                self.transport.loseConnection()

    def speak(self) -> None:
        for event in self.frames.events_received():
            if isinstance(event, Request):
                response = self.frames.accept(event)
                if isinstance(self.frames.handshake_exc, InvalidOrigin):
                    self.transport.write(told(403, reason="origin-refused", text="x"))
                    self.transport.loseConnection()
                    return
                self.frames.send_response(response)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.test.frames_heard.append(bytes(event.data).decode())
                self.script.dataReceived(bytes(event.data))
        for data in self.frames.data_to_send():
            if data:
                self.transport.write(data)

    def write(self, data: bytes) -> None:
        """From the script."""
        for frame in data.split(b"\0"):
            self.frames.send_text(frame)


class JoinTests(WalkTests):
    """Somebody joins with a browser."""

    def setUp(self) -> None:
        """Pages without TLS on this host."""
        super().setUp()
        self.website = Website("http", "127.0.0.1", 5280)
        self.origins: Any = None
        self.subprotocols: Any = ["xmpp"]
        self.server_trust: Any = None
        self.answers = {
            f"/meeting/{CALL_ID}": page(200, PAGE),
            f"/m/{SECRET}": page(200, PAGE),
            "/static/a1/app.js": page(200, "x", "text/javascript; charset=utf-8"),
            "/static/a1/style.css": page(200, "x", "text/css"),
            **host_meta("ws://127.0.0.1:5280/xmpp-websocket"),
            "/join": told(200, **ADMITTED),
        }
        self.lines = frames(*ROOM)
        self.asked: list[tuple[str, str, bytes]] = []
        self.frames_heard: list[str] = []

    def join(self, meeting: Meeting | None = None, origin: str = "", **more: Any) -> list[Finding]:
        """What is told, in its order."""
        at = FIRST if self.website.host == HOST else "127.0.0.1"
        self.network.servers[at, self.website.port] = lambda: Server(self)
        meeting = meeting or Meeting(CALL_ID, PASSCODE)
        check = JoinCheck(self.website, meeting, Quiet(), origin, random=Random(1), **more)
        dns = DNS(FakeResolver(self.zone), "the test", self.network)
        with patch("cms.check.joincheck.make_dns", return_value=dns):
            (report,) = self.network.finish(check.run(self.network))
        for _ in range(20):
            self.network.advance(5)
        self.assertEqual([], self.network.getDelayedCalls())
        for secret in (PASSWORD, PASSCODE, SECRET):
            self.assertNotIn(secret, str(report.as_dict()))
        return report.findings


class Quiet:
    """A renderer that shows nothing."""

    def begin(self, report: Report) -> None:
        pass

    def waiting(self, step: object, about: str, seconds: float) -> None:
        pass

    def found(self, finding: Finding) -> None:
        pass

    def end(self, report: Report) -> None:
        pass


class WayTests(JoinTests):
    """The whole way, and what a browser does on it."""

    def test_in(self) -> None:
        """Each part passes, with its evidence; the guest is gone again afterwards."""
        found = self.join()
        self.assertEqual(["passed"] * 10, [one.result for one in found], found)
        self.assertEqual(
            [Step.ADDRESS, Step.CONNECT, Step.TLS, *[Step.LOGIN] * 7],
            [one.step for one in found],
        )
        last = found[-1]
        self.assertEqual((SPACE, "2"), (last.about, last.evidence["occupants"]))
        self.assertEqual("SCRAM-SHA-256", found[-2].evidence["mechanism"])
        (join,) = [body for path, _, body in self.asked if path == "/join"]
        wish = {"callId": CALL_ID, "passcode": PASSCODE, "name": "cms check"}
        self.assertEqual(wish, json.loads(join))
        self.assertIn("type='unavailable'", self.frames_heard[-2])
        self.assertEqual(f"<close xmlns='{ns.FRAMING}'/>", self.frames_heard[-1])

    def test_frames(self) -> None:
        """Each frame is one element, with its namespace, and opens say who and where."""
        self.join()
        opens = [frame for frame in self.frames_heard if frame.startswith("<open")]
        self.assertEqual(2, len(opens))
        for frame in opens:
            for part in (f"xmlns='{ns.FRAMING}'", f"to='{DOMAIN}'", f"from='{GUEST}'"):
                self.assertIn(part, frame)
        for frame in self.frames_heard:
            self.assertEqual(1, len(re.findall("<(?:iq|presence|auth|response|open|close)", frame)))
            self.assertIn("xmlns='", frame.partition(">")[0])

    def test_link(self) -> None:
        """By a link: its page, and its secret in place of call ID and passcode."""
        found = self.join(Meeting(secret=SECRET))
        self.assertEqual({"passed"}, {one.result for one in found})
        (join,) = [body for path, _, body in self.asked if path == "/join"]
        self.assertEqual({"secret": SECRET, "name": "cms check"}, json.loads(join))
        self.assertIn("http://127.0.0.1:5280/m/...", [one.about for one in found])

    def test_origin(self) -> None:
        """The page's own, or the one that was given."""
        own = "http://127.0.0.1:5280"
        for origin, seen in (("", own), ("https://www.example.com", "https://www.example.com")):
            self.asked.clear()
            self.origins = [seen]
            self.lines = frames(*ROOM)
            found = self.join(origin=origin)
            self.assertEqual({"passed"}, {one.result for one in found})

    def test_secure(self) -> None:
        """Over TLS, with a CA that browsers were given; that it is a private one is told."""
        self.website = Website("https", HOST, 443)
        leaf = ROOT.issue([HOST])
        self.server_trust = self.trust(leaf)
        self.answers.update(host_meta(f"wss://{HOST}/xmpp-websocket"))
        own = PEMFiles("the test", self.put("own.pem", pem(ROOT.certificate)), None, None)
        found = self.join(own=own)
        results = [one.result for one in found]
        self.assertEqual(["passed"] * 3 + ["warning"] + ["passed"] * 8, results, found)
        problem = found[3].problem
        assert problem is not None
        self.assertEqual("web-certificate-private", problem.fault)
        self.assertEqual("TLSv1.3", found[2].evidence["protocol"])
        self.assertEqual(Step.IDENTITY, found[4].step)
        self.assertEqual(f"DNS:{HOST}", found[4].evidence["names"])


class FaultTests(JoinTests):
    """What goes wrong, and what is said of it."""

    def only(self, *found: Finding, warns: bool = False) -> str:
        """The name of the one failure, or warning."""
        result = "warning" if warns else "failed"
        (one,) = {each.problem.fault for each in found if each.problem and each.result == result}
        return one

    def test_answers(self) -> None:
        """The status and the reason decide; no text is read."""
        page_path, join, websocket = f"/meeting/{CALL_ID}", "/join", "/xmpp-websocket"
        for path, answer, fault in (
            (page_path, page(404), "web-not-ours"),
            (page_path, page(200, "<html>It works!</html>"), "web-not-ours"),
            (page_path, page(502), "web-no-server"),
            (page_path, page(503, "<h1>No server is available</h1>"), "web-no-server"),
            (page_path, told(503, reason="door-closed", text="x"), "door-closed"),
            (page_path, b"SSH-2.0-x\r\n", "web-not-ours"),
            (page_path, CLOSED, "door-closed"),
            ("/static/a1/app.js", page(404), "web-not-ours"),
            ("/static/a1/app.js", page(200, "<html>", "text/html"), "web-not-ours"),
            ("/static/a1/style.css", page(502), "web-no-server"),
            (websocket, page(404), "websocket-refused"),
            (websocket, page(200), "websocket-refused"),
            (websocket, page(504), "web-no-server"),
            (websocket, page(426), "websocket-not-passed"),
            (websocket, told(400, reason="no-websocket", text="x"), "websocket-not-passed"),
            (websocket, told(403, reason="origin-refused", text="x"), "origin-not-passed"),
            (websocket, b"SSH-2.0-x\r\n", "websocket-refused"),
            (join, page(404), "join-broken"),
            (join, page(502), "web-no-server"),
            (join, told(200, jid="x"), "join-broken"),
            (join, told(200, **{**ADMITTED, "jid": "@@"}), "join-broken"),
            (join, told(403, reason="join-refused", text="x"), "join-denied"),
            (join, told(403, reason="something", text="x"), "join-broken"),
            (join, told(429, reason="join-slowed", seconds=30, text="x"), "join-delayed"),
            (join, told(503, reason="link-before-login", seconds=3, text="x"), "no-callbridge"),
            (join, told(503, reason="no-callbridge", text="x"), "no-callbridge"),
            (join, b"nonsense", "join-broken"),
        ):
            usual = self.answers.copy()
            self.answers[path] = answer
            self.lines = frames(*ROOM)
            self.assertEqual(fault, self.only(*self.join()), (path, answer))
            self.answers = usual

    def test_origin_elsewhere(self) -> None:
        """A page of another site that the server does not know."""
        self.origins = ["http://127.0.0.1:5280"]
        self.assertEqual("origin-refused", self.only(*self.join(origin="https://www.example.com")))

    def test_no_subprotocol(self) -> None:
        """A browser closes such a WebSocket."""
        self.subprotocols = None
        self.assertEqual("websocket-no-subprotocol", self.only(*self.join()))

    def test_host_meta(self) -> None:
        """A warning each: our own page does not need them."""
        path = "/.well-known/host-meta.json"
        wrong = host_meta("ws://127.0.0.1:5280/xmpp-websocket")[path]
        for answer, fault in (
            (page(404), "host-meta-missing"),
            (page(200, "[]"), "host-meta-missing"),
            (page(200, '{"links": [1, {"rel": 2}]}'), "host-meta-missing"),
            (wrong.replace(b"Access-Control-Allow-Origin: *\r\n", b""), "host-meta-missing"),
            (host_meta("wss://elsewhere.example/ws")[path], "host-meta-elsewhere"),
        ):
            self.answers[path] = answer
            self.lines = frames(*ROOM)
            found = self.join()
            self.assertEqual(fault, self.only(*found, warns=True), answer)
            self.assertNotIn("failed", [one.result for one in found])

    def test_room(self) -> None:
        """What the room answers."""
        for condition, fault in (
            ("service-unavailable", "room-full"),
            ("forbidden", "room-refused"),
            ("not-authorized", "room-refused"),
            ("registration-required", "room-refused"),
        ):
            self.lines = frames(("<presence [^>]*>.*</presence>", room_error(condition)))
            self.assertEqual(fault, self.only(*self.join()), condition)
        self.lines = frames()  # it says nothing
        self.assertEqual("room-refused", self.only(*self.join()))

    def test_hostile_server(self) -> None:
        """What it says is cut and made printable, and is read in bounded time."""
        words = "\x1b[31m" + "x" * 100_000
        links = [{"rel": RELATION, "href": words}] * 99
        for path, answer in (
            (f"/meeting/{CALL_ID}", page(200, "<html " * 40_000)),
            (f"/meeting/{CALL_ID}", page(404, more=f"Server: {'y' * 9000}\r\n")),
            ("/.well-known/host-meta", page(200, "<Link " * 40_000)),
            (
                "/.well-known/host-meta.json",
                told(200, links=links),
            ),
            ("/join", page(200, "[" * 100_000)),
            ("/join", told(200, **{**ADMITTED, "title": words, "nick": words})),
            ("/join", told(503, reason=words)),
            ("/join", told(429, reason="join-slowed", seconds=words)),
        ):
            usual = self.answers.copy()
            self.answers[path] = answer
            self.lines = frames(*ROOM)
            said = json.dumps([finding.as_dict() for finding in self.join()], ensure_ascii=False)
            self.assertLess(len(said), 20_000, path)
            self.assertNotIn("\x1b", said)
            self.answers = usual

    def test_silence(self) -> None:
        """Wherever the server falls silent, the check ends in time and says where."""
        for path, fault in (
            (f"/meeting/{CALL_ID}", "web-not-ours"),
            ("/xmpp-websocket", "websocket-refused"),
            ("/join", "join-broken"),
        ):
            usual = self.answers.copy()
            self.answers[path] = b""
            self.lines = frames(*ROOM)
            began = self.network.seconds()
            with patch.object(Server, "hangs_up", False):
                self.assertEqual(fault, self.only(*self.join()))
            self.assertLess(self.network.seconds() - began, 165 + 20 * 5)
            self.answers = usual
        self.lines = []
        self.assertEqual("login-timeout", self.only(*self.join()))

    def test_certificates(self) -> None:
        """As a browser judges them."""
        self.website = Website("https", HOST, 443)
        own = PEMFiles("the test", self.put("own.pem", pem(ROOT.certificate)), None, None)
        for leaf, trusts, fault in (
            (Authority("Strange").issue([HOST]), own, "web-certificate-untrusted"),
            (ROOT.issue([HOST]), None, "web-certificate-untrusted"),
            (ROOT.issue(["www.example.com"]), own, "web-certificate-name"),
            (ROOT.issue(common_name=HOST), own, "web-certificate-name"),
        ):
            self.server_trust = self.trust(leaf)
            found = self.join(own=trusts)
            self.assertEqual(fault, self.only(*found))
            self.assertEqual("skipped", found[-1].result)

    def test_wrong_scheme(self) -> None:
        """Plain HTTP at the port for HTTPS, the other way round, and from another computer."""
        self.website = Website("https", HOST, 443)
        self.assertEqual("web-not-tls", self.only(*self.join()))
        self.website = Website("http", HOST, 80)
        self.assertEqual("web-insecure", self.only(*self.join()))
        self.server_trust = self.trust(ROOT.issue([HOST]))
        self.assertEqual("web-not-plain", self.only(*self.join()))
        self.network.refuse(FIRST, 8443)


class AddressTests(JoinTests):
    """What may be typed."""

    def test_websites(self) -> None:
        """Addresses of pages."""
        for text, url, websocket in (
            ("https://meet.example.com", "https://meet.example.com", "wss://meet.example.com"),
            ("https://Meet.example.com:443/x", "https://meet.example.com", None),
            ("meet.example.com:8443", "https://meet.example.com:8443", None),
            ("http://127.0.0.1:5280/", "http://127.0.0.1:5280", "ws://127.0.0.1:5280"),
            ("http://[::1]:5280/", "http://[::1]:5280", None),
            ("https://b\xfccher.example", "https://xn--bcher-kva.example", None),
        ):
            website, _ = read_website(text)
            self.assertEqual(url, website.url)
            if websocket:
                self.assertEqual(f"{websocket}/xmpp-websocket", website.websocket)
        for text in ("ftp://meet.example.com", "https://", "", "https://meet.example.com:x"):
            self.assertRaises(ValueError, read_website, text)

    def test_meetings(self) -> None:
        """Call IDs and links."""
        self.assertEqual("123456789", read_meeting("123 456 789")[0].call_id)
        meeting, website = read_meeting("https://meet.example.com/meeting/1234")
        self.assertEqual(
            ("1234", "https://meet.example.com"), (meeting.call_id, website and website.url)
        )
        meeting, website = read_meeting(f"http://localhost:5280/m/{SECRET}")
        self.assertEqual((SECRET, "by its link"), (meeting.secret, meeting.shown))
        self.assertNotIn(SECRET, repr(meeting))
        for text in ("", "abc", "12a", "https://meet.example.com/", "https://x.example/m/a/b"):
            self.assertRaises(ValueError, read_meeting, text)


class OptionTests(CommandLineTests):
    """What is typed, and where the pages of a configuration are."""

    def test_usage(self) -> None:
        """What does not fit together."""
        for arguments in (
            ("--url", "https://meet.example.com"),
            ("--passcode-stdin",),
            ("--join", CALL_ID),
            ("--join", CALL_ID, "--config", str(self.folder / "xmpp.toml")),  # it has no pages
            ("--join", "sales", "--url", "https://meet.example.com"),
            ("--join", CALL_ID, "--url", "ftp://meet.example.com"),
            ("--join", CALL_ID, "--url", "https://a.example", "--origin", "nonsense://"),
            ("--join", CALL_ID, "--url", "https://a.example", "--login", "a@b.example"),
            ("--join", CALL_ID, "--url", "https://a.example", "--unique-name", "cb1"),
            ("--join", CALL_ID, "--url", "https://a.example", "--no-register"),
            ("--join", "https://a.example/m/abc", "--passcode-stdin"),
        ):
            self.cms("check", *arguments, status=2, text=f"{PASSCODE}\n")

    def pages(self, listen: str, more: str = "") -> Website | None:
        """Where the pages of a configuration are."""
        tls = 'certificate = "c.pem"\nkey = "k.pem"\ntrust = "ca.pem"'
        for name in ("c.pem", "k.pem", "ca.pem"):
            (self.folder / name).touch()
        text = XMPP.replace("[listen]", f"{more}\n[tls]\n{tls}\n[listen]\n{listen}")
        (self.folder / "web.toml").write_text(text)
        return of_config(read_config(self.folder / "web.toml"))

    def test_pages(self) -> None:
        """The address that the operator gives, else a listener that this host reaches."""
        plain = 'web_plain = ["tcp:5280:interface=127.0.0.1"]'
        proxied = 'web_plain = ["haproxy:tcp:5280:interface=127.0.0.1", "unix:web.sock"]'
        for listen, more, url, address in (
            ('web = ["tcp:5443"]', "", f"https://{HOSTNAME}:5443", "127.0.0.1"),
            ('web = ["tcp:443:interface=192.0.2.1"]', "", f"https://{HOSTNAME}", "192.0.2.1"),
            (plain, "", "http://127.0.0.1:5280", ""),
            (plain, '[web]\nurl = "https://meet.example.com"', "https://meet.example.com", ""),
            (proxied, "", None, ""),
        ):
            website = self.pages(listen, more)
            self.assertEqual(url, website and website.url)
            self.assertEqual(address, website.address if website else "")
