"""What is in the log for machines: what belongs together says so, and no secret is there."""

from __future__ import annotations

import io
import json
import os
import re
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.login.authority import Authority
from cms.linkprotocol import login as lp
from cms.process.logs import choose, chosen, json_observer, link_id, login_id
from tests.support import new_folder
from tests.test_callbridge_link import World
from tests.test_login_authority import MemoryDirectory
from tests.xmppserver import DOMAIN, SECRETS, Server

PASSWORD = "correct horse battery"


class FileTests(SynchronousTestCase):
    """A log file, and those who rotate it."""

    def setUp(self) -> None:
        """A daemon that logs to a file."""
        self.path = new_folder(self) / "cms.log"
        self.addCleanup(choose, "text", None)

    def observer(self, form: str = "text") -> ILogObserver:
        """What twistd is given."""
        choose(form, str(self.path))
        return chosen()

    @staticmethod
    def event(message: str, **more: str) -> LogEvent:
        """One of ours."""
        return {
            "log_time": 0.0,
            "log_level": LogLevel.info,
            "log_namespace": "n",
            "log_format": message,
            **more,
        }

    def test_truncated(self) -> None:
        """C{copytruncate}: the next line is the first of the file."""
        observe = self.observer()
        observe(self.event("one"))
        copied = self.path.read_text()
        os.truncate(self.path, 0)
        observe(self.event("two"))
        self.assertRegex(copied, r"\A\S+ \[n#info\] one\n\Z")
        self.assertRegex(self.path.read_text(), r"\A\S+ \[n#info\] two\n\Z")

    def test_moved(self) -> None:
        """A file that was moved, or removed, is made anew."""
        observe = self.observer()
        observe(self.event("one"))
        rotated = self.path.rename(self.path.with_suffix(".1"))
        observe(self.event("two"))
        self.path.unlink()
        observe(self.event("three"))
        self.assertIn("one", rotated.read_text())
        self.assertRegex(self.path.read_text(), r"\A\S+ \[n#info\] three\n\Z")

    def test_continued(self) -> None:
        """What an earlier run has logged stays, and others cannot read it."""
        for word in ("one", "two"):
            self.observer()(self.event(word))
        self.assertEqual(2, len(self.path.read_text().splitlines()))
        self.assertEqual(0, self.path.stat().st_mode & 0o007)

    def test_json(self) -> None:
        """A file takes JSON as well."""
        self.observer("json")(self.event("hello {jid}", jid="alice@example.com"))
        line = json.loads(self.path.read_text())
        self.assertEqual(
            ("hello alice@example.com", "alice@example.com"), (line["message"], line["jid"])
        )

    def test_sockets(self) -> None:
        """Twisted's word for each socket makes no line; its warnings and errors do."""
        for form in ("text", "json"):
            observer = self.observer(form)
            globalLogPublisher.addObserver(observer)
            try:
                log.msg("_UDPQuestion starting on 25918")
                log.showwarning("old", DeprecationWarning, "x.py", 1)
                log.err(Failure(ZeroDivisionError()), "what broke")
            finally:
                globalLogPublisher.removeObserver(observer)
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
            written = self.path.read_text()
            self.assertNotIn("starting on", written)
            self.assertIn("DeprecationWarning: old", written)
            self.assertIn("ZeroDivisionError", written)
            self.path.unlink()

    def test_ids(self) -> None:
        """Text names what a line belongs to, after what it says."""
        observe = self.observer()
        observe(self.event("gone", login_id="c3", link_id="a1", attempt_id=""))
        self.assertTrue(self.path.read_text().endswith("] gone [link_id=a1 login_id=c3]\n"))

    def test_refused(self) -> None:
        """A file that cannot be written ends the start with one line."""
        choose("text", str(self.path / "below"))
        with patch("sys.stderr", io.StringIO()) as said, self.assertRaises(SystemExit) as ended:
            chosen()
        self.assertEqual(1, ended.exception.code)
        self.assertIn("--logfile", said.getvalue())
        self.assertIn(" Cure: ", said.getvalue())


class LogTests(SynchronousTestCase):
    """The JSON log, as a program reads it."""

    def setUp(self) -> None:
        """Listen."""
        self.out = io.StringIO()
        observer = json_observer(self.out)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self, pattern: str = "") -> list[dict[str, Any]]:
        """The lines whose message matches."""
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if re.search(pattern, line["message"])]

    def test_form(self) -> None:
        """IDs are short, and say nothing of what they are made of."""
        self.assertRegex(link_id("x"), "^[0-9a-f]{12}$")
        self.assertNotEqual(link_id("x"), login_id("x"))

    def test_login(self) -> None:
        """Connection and log-in on the server, the same log-in at the Callbridge."""
        server, clock = Server(), Clock()
        authority = Authority(clock, MemoryDirectory({"alice": PASSWORD}), DOMAIN)
        callbridge = server.callbridge()
        client = server.client()
        client.open()
        exchanges = []
        for password in ("wr0ng", PASSWORD):
            client.authenticate(payload=b"\0alice\0" + password.encode())
            (start,) = callbridge.received()
            message = lp.parse(start.element.firstChildElement())
            assert isinstance(message, lp.Start)
            exchanges.append(message.exchange)
            callbridge.answer(start, self.successResultOf(authority.start(message)))
        client.open()
        client.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        client.say("</stream:stream>")
        wrong, right = map(login_id, exchanges)
        (refused,) = self.lines("log-in.* from .* refused")
        (unsuccessful,) = self.lines("unsuccessful login request")
        self.assertEqual([wrong] * 2, [refused["login_id"], unsuccessful["login_id"]])
        self.assertEqual(f"alice@{DOMAIN}", unsuccessful["jid"])
        (successful,) = self.lines(": successful login request")
        (logged_in,) = self.lines("logged in from")
        self.assertEqual([right] * 2, [successful["login_id"], logged_in["login_id"]])
        (gone,) = self.lines("is gone from")
        connections = {line["connection_id"] for line in (refused, logged_in, gone)}
        self.assertEqual(1, len(connections))
        for private in (*exchanges, PASSWORD, "wr0ng", SECRETS["cb1"] + '"'):
            self.assertNotIn(private, self.out.getvalue())

    def test_connections(self) -> None:
        """Each client's connection has an ID of its own."""
        server = Server()
        for _ in range(2):
            server.client().say("<a/>")
        ids = {line["connection_id"] for line in self.lines("stream closed with")}
        self.assertEqual(2, len(ids))

    def test_link(self) -> None:
        """All lines of a link on the server, from the refusal to the end."""
        server = Server()
        callbridge = server.callbridge()
        expected = link_id(callbridge.stream_id)
        callbridge.transport.lose()
        found = self.lines("cb1")
        self.assertEqual(3, len(found), found)
        self.assertEqual({expected}, {line["link_id"] for line in found})
        stranger = server.component()
        stranger.open(to=f"mallory.{DOMAIN}")
        (refused,) = self.lines("component refused")
        self.assertEqual(link_id(stranger.stream_id), refused["link_id"])
        self.assertNotIn(callbridge.stream_id, self.out.getvalue())

    def test_attempt(self) -> None:
        """All lines of an attempt; from the server's header on with the link's ID."""
        world = World()
        world.link.start()
        world.activate()
        world.transports[-1].lose()
        found = self.lines("attempt")
        self.assertEqual({"1"}, {line["attempt_id"] for line in found})
        expected = link_id("i1")
        with_link = [line["step"] for line in found if line.get("link_id") == expected]
        self.assertEqual([9, 10, 11, 11], with_link)
        self.assertIn(f"link {expected}", self.lines("step 9")[0]["message"])
