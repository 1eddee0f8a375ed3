"""What the listeners say of a peer that speaks no XMPP, or no TLS: honest, and no secret."""

from __future__ import annotations

from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support import observe_log
from tests.xmppserver import Server

HELLO = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"
SAID = (
    (b"GET /s3cret HTTP/1.1\r\nCookie: s3cret\r\n\r\n", 'an HTTP request ("GET ... HTTP")'),
    (HELLO, 'TLS ("TLS")'),
    (b"SSH-2.0-x\r\n", 'an SSH server or client ("SSH-2.0-x")'),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "a proxy (PROXY protocol)"),
)


class StrangerTests(SynchronousTestCase):
    """First bytes at a listener."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        observe_log(self, self.note)

    def note(self, event: dict[str, object]) -> None:
        """A line of the log."""
        self.lines.append(formatEvent(event))

    def test_no_xmpp(self) -> None:
        """Another protocol is named, on the port for components and on the one for clients."""
        for said, words in SAID:
            what, _, shown = words.partition(' ("')
            for make in (Server().component, Server().client):
                self.lines.clear()
                peer = make()
                peer.say(said)
                wanted = f'sent {what} in place of an XMPP stream ("{shown}'
                if said.startswith(b"PROXY "):  # which has a cure of its own
                    wanted = "began with a header of the PROXY protocol"
                self.assertEqual(1, sum(wanted in line for line in self.lines), self.lines)
                self.assertNotIn("s3cret", "".join(self.lines))
                self.assertTrue(peer.lost)

    def test_bad_xml(self) -> None:
        """What nobody knows is bad XML, as ever, and not shown."""
        for make in (Server().component, Server().client):
            self.lines.clear()
            make().say(b"hello, s3cret\r\n")
            self.assertIn("not-well-formed", "".join(self.lines))
            self.assertNotIn("s3cret", "".join(self.lines))
