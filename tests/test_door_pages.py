"""The pages of the door: one for all addresses, its policy, its languages, and its words."""

from __future__ import annotations

import gzip
import re
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.server import Site

from cms import faults
from cms.door.look import MOST_LOGO, Look, read_look
from cms.door.pages import (
    DEFAULT,
    FOR_EVER,
    POLICY,
    PRIVATE,
    STATIC,
    DoorPages,
    language,
    words,
)
from cms.door.settings import DoorSettings
from cms.faults import ConfigurationError, Side
from cms.web.application import Application
from cms.web.messages import Raw
from cms.web.refusal import Refused
from cms.web.root import Root
from tests.adminclient import Client, Document
from tests.support import new_folder

HOSTILE = "\"'><script src=//x>alert(1)</script><img onerror=x>&amp;"
LINK = "/m/b8f0c0d1e2f3"
PATHS = ("/", "/meeting/204918374", LINK)
CONDITIONS = (
    # of SASL (RFC 6120 6.5)
    *("aborted", "account-disabled", "credentials-expired", "encryption-required"),
    *("incorrect-encoding", "invalid-authzid", "invalid-mechanism", "malformed-request"),
    *("mechanism-too-weak", "not-authorized", "temporary-auth-failure"),
    # of a stream (4.9.3)
    *("bad-format", "conflict", "connection-timeout", "host-gone", "host-unknown"),
    *("internal-server-error", "invalid-xml", "not-well-formed", "policy-violation"),
    *("remote-connection-failed", "reset", "resource-constraint", "see-other-host"),
    *("system-shutdown", "undefined-condition"),
    # of a room (XEP-0045 7.2 and 15.6), and of stanzas to it
    *("forbidden", "item-not-found", "jid-malformed", "not-acceptable", "not-allowed"),
    *("registration-required", "service-unavailable", "recipient-unavailable"),
    *("remote-server-not-found", "remote-server-timeout", "feature-not-implemented"),
    *("kicked", "banned", "members-only", "gone"),
    # of the session in the page
    *("offline", "timeout", "cancelled", "session-lost", "too-much-waits"),
    *("server-not-proven", "no-mechanism"),
    # of POST /join, beside the catalogue's
    *("bad-request", "link-before-login", "internalError"),
)


class Door(Application):
    """The pages, and nothing beside them."""

    label = "web request"
    private = (PRIVATE,)
    too_long = Raw(b"", "text/plain")

    def __init__(self, pages: DoorPages) -> None:
        super().__init__()
        pages.add_to(self.routes)

    async def admit(self, request: IRequest) -> None:
        """Everybody."""

    def form(self, request: IRequest, refused: Refused) -> Raw:
        """Its reason."""
        return Raw(refused.reason.encode(), "text/plain", refused.status)


class Loading(Document):
    """A page with what it loads."""

    def files(self) -> list[str]:
        """What it loads."""
        return [
            str(attributes.get("src") or attributes["href"])
            for tag, attributes in self.tags
            if tag in ("script", "link", "img")
        ]


def client(test: SynchronousTestCase, look: Look | None = None, **more: Any) -> Client:
    """A browser's side of them."""
    door = Door(DoorPages(look or Look(), "meet.example.com", **more))
    return Client(test, Root(door, door.admit, count(1), Clock()))


class PageTests(SynchronousTestCase):
    """What is served."""

    def test_one(self) -> None:
        """All addresses have the same page: it says nothing of a meeting, and has no secret."""
        here = client(self)
        bodies = {here.ask("GET", path).body for path in (*PATHS, "/meeting/%3Cscript%3E")}
        self.assertEqual(1, len(bodies))
        self.assertNotIn(b"script%3E", bodies.pop())
        for method, path, status in (
            *(("POST", path, 405) for path in PATHS),
            *(("GET", path, 404) for path in ("/meeting", "/m/a/b", "/static/x", "/x")),
        ):
            self.assertEqual(status, here.ask(method, path, "a=b" * (method == "POST")).status)

    def test_nowhere(self) -> None:
        """A person who mistyped an address gets a page to join from; a program is refused."""
        here = client(self)
        person = here.ask("GET", "/meting/1", accept="text/html,*/*;q=0.8")
        self.assertEqual((404, here.ask("GET", "/").body), (person.status, person.body))
        program = here.ask("GET", "/meting/1", accept="*/*")
        self.assertEqual((404, b"notFound"), (program.status, program.body))

    def test_policy(self) -> None:
        """As strict as it can be; nothing of a page is inline, or from elsewhere."""
        for part in (
            *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"),
            *("connect-src 'self' wss:", "media-src blob: mediastream:", "base-uri 'none'"),
            *("frame-ancestors 'none'", "require-trusted-types-for 'script'"),
            *("trusted-types 'none'", "form-action 'none'"),
        ):
            self.assertIn(part, POLICY.split("; "))
        self.assertNotIn("unsafe", POLICY)
        here = client(self, Look("Example", "Call us.", b"<svg/>", "image/svg+xml"))
        for path in PATHS:
            answer = here.ask("GET", path)
            self.assertEqual(POLICY, answer.headers["content-security-policy"])
            self.assertEqual("no-referrer", answer.headers["referrer-policy"])
            self.assertEqual("no-store", answer.headers["cache-control"])
            self.assertEqual("same-origin", answer.headers["cross-origin-opener-policy"])
            self.assertEqual("noindex", answer.headers["x-robots-tag"])
            self.assertIn("camera=()", answer.headers["permissions-policy"])
            page = Loading(answer)
            for tag, attributes in page.tags:
                self.assertNotEqual("style", tag)
                self.assertEqual([], [a for a in attributes if a == "style" or a[:2] == "on"])
                for name in ("src", "href", "action"):
                    self.assertRegex(attributes.get(name, "/") or "", r"^(/(?!/)|#)")
            self.assertEqual(1, [tag for tag, _ in page.tags].count("script"))

    def test_files(self) -> None:
        """What a page loads is kept for ever, under a name that changes with any of them."""
        here = client(self)
        page = Loading(here.ask("GET", "/"))
        for path in page.files():
            answer = here.ask("GET", path)
            self.assertEqual(200, answer.status, path)
            self.assertEqual(FOR_EVER, answer.headers["cache-control"])
            self.assertEqual("nosniff", answer.headers["x-content-type-options"])
            old = here.ask("GET", re.sub("static/[^/]*", "static/0", path))
            self.assertEqual(answer.body, old.body)
            self.assertEqual("no-cache", old.headers["cache-control"])
        other = Loading(client(self, Look(logo=b"x")).ask("GET", "/"))
        self.assertNotIn(page.files()[0], other.files())
        for path in ("/static/0/pages.py", "/static/0/..%2Fpages.py", "/static/0/texts.xx.js"):
            self.assertEqual(404, here.ask("GET", path).status)
        self.assertEqual("image/svg+xml", here.ask("GET", "/favicon.ico").headers["content-type"])

    def test_unchanged(self) -> None:
        """Who has an older page's file as it is now does not get it again."""
        here = client(self)
        had = here.ask("GET", "/static/0/bundle.css")
        again = here.ask("GET", "/static/0/bundle.css", if_none_match=had.headers["etag"])
        self.assertEqual((304, b""), (again.status, again.body))

    def test_packed(self) -> None:
        """By gzip for those who take it."""
        door = Door(DoorPages(Look(), "meet.example.com"))
        site: Any = Site(Root(door, door.admit, count(1), Clock()))

        def ask(accepted: str) -> tuple[bytes, bytes]:
            protocol, transport = site.buildProtocol(None), StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(f"GET / HTTP/1.0\r\nAccept-Encoding: {accepted}\r\n\r\n".encode())
            head, _, body = transport.value().lower().partition(b"\r\n\r\n")
            self.assertIn(f"content-length: {len(body)}".encode(), head)
            self.assertIn(b"vary: accept-language, accept-encoding", head)
            return head, transport.value()[-len(body) :]

        plain = ask("")[1]
        for accepted in ("gzip", "br, GZIP;q=0.5"):
            head, body = ask(accepted)
            self.assertIn(b"content-encoding: gzip", head)
            self.assertEqual(plain, gzip.decompress(body))
        for accepted in ("br", "gzip;q=0", "gzip; q=0.00, br"):
            self.assertEqual(plain, ask(accepted)[1])

    def test_frame(self) -> None:
        """Landmarks, a language, the operator's words as text, and an honest one without script."""
        look = Look(HOSTILE, HOSTILE + "line", b"\x89PNG", "image/png")
        page = Loading(client(self, look).ask("GET", "/"))
        names = [tag for tag, _ in page.tags]
        for once in ("main", "header", "footer", "title", "noscript", "script"):
            self.assertEqual(1, names.count(once), once)
        self.assertEqual(1, names.count("img"))
        self.assertEqual({"lang": "en", "data-domain": "meet.example.com", "data-title": HOSTILE},
            dict(page.tags)["html"])  # fmt: skip
        self.assertIn(HOSTILE + "line", page.text)
        self.assertIn("needs JavaScript", page.text)

    def test_closed(self) -> None:
        """A door that is closed says so, and loads no script."""
        answer = client(self, enabled=False).ask("GET", "/meeting/204918374")
        page = Loading(answer)
        self.assertEqual(503, answer.status)
        self.assertIn("Joining by browser is switched off here", page.text)
        self.assertNotIn("script", [tag for tag, _ in page.tags])


class LanguageTests(SynchronousTestCase):
    """Which words a browser gets."""

    def test_one_more_file(self) -> None:
        """Another language is a file beside the others, and no change elsewhere."""
        folder = new_folder(self)
        for path in STATIC.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        source = (STATIC / "texts.en.js").read_text()
        (folder / "texts.tlh.js").write_text(source.replace("Skip to the content", "yIyev"))
        here = client(self, folder=folder)
        page = Loading(here.ask("GET", "/", accept_language="tlh-KX, en;q=0.5"))
        self.assertIn("yIyev", page.text)
        self.assertEqual("tlh", dict(page.tags)["html"]["lang"])
        self.assertTrue([path for path in page.files() if path.endswith("/texts.tlh.js")])
        english = here.ask("GET", "/", accept_language="en, tlh;q=0.5")
        self.assertIn("Skip to the content", Loading(english).text)
        self.assertIn("accept-language", english.headers["vary"])

    def test_chosen(self) -> None:
        """By weight, then by order; a region's words by its language."""
        known = dict.fromkeys(("en", "de", "pt-BR", "pt"))
        for accepted, chosen in (
            (None, "en"),
            ("de", "de"),
            ("DE-ch", "de"),
            ("pt-br", "pt-BR"),
            ("pt-PT, de", "pt"),
            ("fr, de;q=0.3, pt;q=0.4", "pt"),
            ("de;q=0, en", "en"),
            ("xx, yy", "en"),
            ("*", "en"),
            ("de;q=2", "en"),
            (",;,;q=", "en"),
        ):
            self.assertEqual(chosen, language(accepted, known), accepted)

    @given(st.text())
    def test_anything(self, accepted: str) -> None:
        """Whatever a browser says, it gets a language that there is."""
        self.assertIn(language(accepted, {"en": 0, "de": 0}), ("en", "de"))


class WordsTests(SynchronousTestCase):
    """The files of texts."""

    def files(self) -> dict[str, dict[str, Any]]:
        """Each language."""
        paths = STATIC.glob("texts.*.js")
        return {path.name.split(".")[1]: words(path.read_text()) for path in paths}

    def test_same_keys(self) -> None:
        """All languages say the same things, with the same names to fill in."""

        def shape(value: Any) -> Any:
            if not isinstance(value, dict):
                return sorted(re.findall(r"\{\w+\}", value))
            if "other" in value:
                return shape(value["other"])
            return {key: shape(part) for key, part in value.items()}

        files = self.files()
        for name, found in files.items():
            self.assertEqual(shape(files[DEFAULT]), shape(found), name)

    def test_faults(self) -> None:
        """Each fault of the catalogue that a participant can meet has words, and each condition."""
        reach = {name for name, one in faults.CATALOGUE.items() if one.on & Side.LOGIN}
        # Those of POST /join and of the pages, which answer with what they name.
        for path in STATIC.parent.glob("*.py"):
            told_there = re.findall(r"faults\.([A-Z_]+)", path.read_text())
            reach |= {getattr(faults, name).name for name in told_there}
        # What stops the start, and what a browser does not tell of a WebSocket.
        silent = (faults.CONFIGURATION_VALUE, faults.WEBSOCKET_NOT_PASSED, faults.SERVER_DRAINING)
        reach -= {fault.name for fault in silent}
        reach |= {
            name
            for name, one in faults.CATALOGUE.items()
            if re.match("(join|reentry)-", name) and one.on & ~Side.CHECK
        }
        for told in self.files().values():
            self.assertEqual(set(), {*reach, *CONDITIONS} - told["faults"].keys())
            for name, text in told["faults"].items():
                # In the participant's words: a sentence, and never the word of the protocol.
                self.assertRegex(text, r"^[A-Z].*\.$", name)
                self.assertTrue("-" not in name or name not in text, text)
                fault = faults.CATALOGUE.get(name)
                if fault is not None and "(step" in text:
                    self.assertIn(f"(step {int(fault.step)})", text)

    def test_used(self) -> None:
        """What the script says is there, and what is there is said."""
        script = (STATIC / "app.js").read_text()
        said = set(re.findall(r'"(\w+)"', script))
        server = {"direction", "noscript", "oldBrowser", "skip", "encryption", "faults", "steps"}
        known = self.files()[DEFAULT].keys()
        self.assertEqual(set(), known - said - server)
        self.assertEqual(set(), set(re.findall(r'say\("(\w+)"', script)) - known)

    def test_no_texts(self) -> None:
        """A file that is none is not served for one."""
        for source in ("", "export const a = 1;", "export default {;"):
            self.assertRaises(ValueError, words, source)


class LookTests(SynchronousTestCase):
    """C{[web]}: title, line, logo."""

    def test_logo(self) -> None:
        """A file of a known kind, read at the start."""
        logo = new_folder(self) / "logo.SVG"
        logo.write_bytes(b"<svg/>")
        look = read_look(DoorSettings(title="Ours", text="Call us.", logo=logo), Path("xmpp.toml"))
        self.assertEqual(Look("Ours", "Call us.", b"<svg/>", "image/svg+xml"), look)
        here = client(self, look)
        (path,) = [a["src"] for tag, a in Loading(here.ask("GET", "/")).tags if tag == "img"]
        answer = here.ask("GET", str(path))
        self.assertEqual(
            (b"<svg/>", "image/svg+xml"), (answer.body, answer.headers["content-type"])
        )
        # Opened on its own it can do nothing either.
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])

    def test_no_logo(self) -> None:
        """What is none stops the start, with the key."""
        folder = new_folder(self)
        (folder / "big.png").write_bytes(b"x" * (MOST_LOGO + 1))
        (folder / "empty.png").touch()
        (folder / "logo.gif").write_bytes(b"x")
        self.assertEqual(Look(), read_look(DoorSettings(), Path("xmpp.toml")))
        for name, problem in (
            ("big.png", "1 to 262144 bytes"),
            ("empty.png", "1 to 262144 bytes"),
            ("logo.gif", "no .svg"),
            ("none.png", "No such file"),
        ):
            settings = DoorSettings(logo=folder / name)
            error = self.assertRaises(ConfigurationError, read_look, settings, Path("xmpp.toml"))
            self.assertIn("xmpp.toml: web.logo: ", error.cause)
            self.assertIn(problem, error.cause)


class WeightTests(SynchronousTestCase):
    """What a page weighs."""

    def test_weight(self) -> None:
        """To join and to be in the room: 25 kB by gzip, the answer of POST /join among them."""
        here = client(self)
        page = here.ask("GET", "/")
        weights = {"/": len(gzip.compress(page.body, 9))}
        for path in Loading(page).files():
            if not path.endswith("/icon.svg"):  # which browsers get when they are idle
                weights[path.rpartition("/")[2]] = len(gzip.compress(here.ask("GET", path).body, 9))
        self.assertEqual({"/", "bundle.css", "bundle.js", "texts.en.js"}, set(weights))
        self.assertLessEqual(sum(weights.values()) + 400, 25_000, weights)
