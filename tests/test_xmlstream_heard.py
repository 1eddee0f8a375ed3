"""Who speaks where XMPP was expected, and what is shown of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.otherprotocols import MOST_SHOWN, recognise
from tests.support import header

SAID = (
    (b"HTTP/1.1 400 Bad Request\r\nSet-Cookie: s3cret\r\n", "http", "HTTP/1.1 400 Bad Request"),
    (b"<!DOCTYPE html><html>s3cret", "http", "<!DOCTYPE html"),
    (b"GET /s3cret HTTP/1.1\r\nAuthorization: Basic s3cret\r\n", "http", "GET ... HTTP"),
    (b"POST /s3cret HTTP/1.0\r\n\r\npassword=s3cret", "http", "POST ... HTTP"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http", "PRI ... HTTP"),
    (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "other", "SSH-2.0-OpenSSH_9.2p1 Debian-2"),
    (b"220 mx.example.com ESMTP\r\n", "other", "220 mx.example.com ESMTP"),
    (b"EHLO me\r\nAUTH PLAIN s3cret\r\n", "other", "EHLO me"),
    (b"* OK IMAP4rev1 ready\r\n", "other", "* OK IMAP4rev1 ready"),
    (b"+OK POP3 ready\r\n", "other", "+OK POP3 ready"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "other", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2"),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "other", ""),
    (b"\x16\x03\x01\x02\0\x01\0", "tls", "TLS"),
    (b"\x15\x03\x03\0\x02\x02\x28", "tls", "TLS"),
    (header("jabber:client"), "client", "<stream:stream xmlns='jabber:client'"),
    (header("jabber:server"), "server", "<stream:stream xmlns='jabber:server'"),
    (header("jabber:component:accept"), "component", "<stream:stream xmlns='jabber:component"),
    (header("urn:x"), "stream", "<stream:stream xmlns='urn:x'"),
    (b"<auth mechanism='PLAIN'>s3cret</auth>", "unknown", "<auth mechanism='PLAIN'"),
    (b"welcome\r\ns3cret", "unknown", "welcome"),
    (b"\0\1\2\xff\xfe", "unknown", "5 bytes of no text"),
)


class HeardTests(SynchronousTestCase):
    """First bytes."""

    def test_table(self) -> None:
        """Each is recognised, and nothing is shown that could be a secret."""
        for said, kind, shown in SAID:
            heard = recognise(said)
            assert heard is not None
            self.assertEqual(kind, heard.kind, said)
            self.assertTrue(heard.shown.startswith(shown), heard)
            self.assertNotIn("s3cret", heard.shown)

    def test_nothing(self) -> None:
        """Silence is no protocol."""
        self.assertIsNone(recognise(b""))

    @given(st.binary(min_size=1, max_size=2000))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, what is shown is short and can be printed."""
        heard = recognise(data)
        assert heard is not None
        self.assertTrue(heard.shown.isprintable() and len(heard.shown) <= MOST_SHOWN, heard)
