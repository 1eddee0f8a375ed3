"""The web listener: how a request becomes a stream over WebSocket, and how it is found."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from typing import Any

from lxml import etree
from OpenSSL import SSL
from twisted.logger import LogEvent, formatEvent
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from cms.door.settings import parse_origin
from cms.linkprotocol import login as lp
from cms.process.logs import AT_ONCE
from cms.trust.issue import CertificateAuthority
from cms.web.site import IDLE
from cms.websocket.incoming import FRAMING
from cms.websocket.stream import WebSocketStream
from cms.xmlstream import ns
from cms.xmpp.administration import XmppAdministration
from tests.support import MemoryTransport, new_folder, observe_log
from tests.test_xmpp_service import CONFIGURATION, Daemon
from tests.websocketpeer import HANDSHAKE, WebSocketPeer, connect, framed, request
from tests.xmppserver import DOMAIN

PORT = 5280
WEB = f'web_plain = ["tcp:{PORT}:interface=127.0.0.1"]\n'


class DoorTestCase(SynchronousTestCase):
    """A daemon with a web listener for a proxy."""

    more = listens = ""

    def setUp(self) -> None:
        """Start it."""
        self.logged: list[LogEvent] = []
        observe_log(self, self.logged.append)
        told = CONFIGURATION.replace("[listen]\n", f"{self.more}[listen]\n{WEB}{self.listens}")
        self.daemon = Daemon(self, told)
        self.factory = next(s[1] for s in self.daemon.reactor.tcpServers if s[0] == PORT)
        self.factory.pace.timer = float  # its time stands

    def ask(self, sent: bytes, host: str = "198.51.100.9") -> tuple[int, str, MemoryTransport]:
        """Send a request: status, head, connection."""
        head, transport = connect(self.factory, sent, host)
        self.addCleanup(transport.lose)
        return int(head.split()[1]), head, transport

    def lines(self, *words: str) -> list[str]:
        """What was logged that holds these words."""
        told = [formatEvent(event) for event in self.logged]
        return [line for line in told if all(word in line for word in words)]

    def peer(self, **changes: Any) -> WebSocketPeer:
        """A WebSocket."""
        status, _, transport = self.ask(request(**changes))
        self.assertEqual(101, status)
        return WebSocketPeer(transport.protocol, transport)


class UpgradeTests(DoorTestCase):
    """The opening handshake."""

    def test_accepted(self) -> None:
        """RFC 6455 4.2.2: the answer proves that the request was read; nothing else is in it."""
        status, head, transport = self.ask(request())
        self.assertEqual(101, status)
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        fields.pop("date")
        proof = hashlib.sha1(
            HANDSHAKE["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        )
        self.assertEqual(
            {
                "upgrade": "websocket",
                "connection": "upgrade",
                "sec-websocket-accept": base64.b64encode(proof.digest()).decode().lower(),
                "sec-websocket-protocol": "xmpp",
            },
            fields,
        )
        self.assertIsInstance(transport.protocol, WebSocketStream)
        self.assertEqual(
            ['web request 1: GET for "/xmpp-websocket" (from 198.51.100.9, by -): 101 in 0.000 s'],
            self.lines("web request"),
        )

    def test_session(self) -> None:
        """A client logs in, and what it sends in the same read as the handshake counts."""
        callbridge = self.daemon.callbridge()
        first = f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>"
        _, _, transport = self.ask(request() + framed(first))
        peer = WebSocketPeer(transport.protocol, transport)
        self.assertIn("<mechanism>PLAIN</mechanism>", peer.heard())
        peer.authenticate()
        (start,) = callbridge.received()
        message: Any = lp.parse(start.element.firstChildElement())
        callbridge.answer(start, lp.Success(message.exchange, f"alice@{DOMAIN}"))
        self.assertIn("<success", peer.heard())
        self.assertIn("<bind", peer.open())
        peer.say(f"<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.assertIn(f"<jid>alice@{DOMAIN}/", peer.heard())
        (session,) = self.daemon.service.sessions
        self.assertEqual("198.51.100.9", session.peer_host)

    def test_no_time_limit(self) -> None:
        """A WebSocket may be silent for longer than a connection of HTTP."""
        callbridge = self.daemon.callbridge()
        peer = self.peer()
        self.daemon.client = lambda *_, **__: peer  # type: ignore[method-assign]
        self.daemon.bound(callbridge)
        self.daemon.reactor.advance(IDLE + 1)
        self.assertFalse(peer.lost)

    def test_after_a_page(self) -> None:
        """A connection on which a page was asked for may become a WebSocket."""
        page = b"GET /nowhere HTTP/1.1\r\nHost: meet.example.com\r\n\r\n"
        opening = framed(f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>")
        status, _, transport = self.ask(page + request() + opening)
        self.assertEqual(404, status)
        heard = transport.value()
        self.assertIn(b"HTTP/1.1 101 ", heard)
        self.assertIn(b"<open xmlns=", heard.partition(b"\r\n\r\n")[2])
        self.assertIsInstance(transport.protocol, WebSocketStream)

    def test_counted(self) -> None:
        """The streams of a listener are in the metrics, with what they carry, until they end."""
        peer = self.peer()
        peer.open()
        answered = self.daemon.service.metrics.render().decode()
        self.assertIn('cms_xmpp_connections{listener="web_plain"} 1.0', answered)
        peer.transport.lose()
        answered = self.daemon.service.metrics.render().decode()
        self.assertIn('cms_xmpp_connections{listener="web_plain"} 0.0', answered)
        sent = 'cms_xmpp_bytes_total{direction="sent",listener="web_plain"} '
        (line,) = (x for x in answered.splitlines() if x.startswith(sent))
        self.assertGreater(float(line.removeprefix(sent)), 100)

    def test_drained(self) -> None:
        """A server that is drained opens none, also over a connection that it had."""
        sent = b"GET /host-meta.json HTTP/1.1\r\nHost: x\r\n\r\n"
        status, _, transport = self.ask(sent.replace(b"/host", b"/.well-known/host"))
        self.assertEqual(200, status)
        self.daemon.service.web.shut()
        self.assertIsNone(self.factory.buildProtocol(None))
        transport.clear()
        transport.protocol.dataReceived(request())
        answer = transport.value().decode()
        self.assertTrue(answer.startswith("HTTP/1.1 503 "), answer)
        self.assertIn("server-draining", answer)

    def test_pages_go_on(self) -> None:
        """Other requests of the listener are HTTP."""
        status, head, _ = self.ask(b"GET /nowhere HTTP/1.1\r\nHost: meet.example.com\r\n\r\n")
        self.assertEqual(404, status, head)

    def test_refused(self) -> None:
        """What is no handshake is answered as RFC 6455 4.2 and 4.4 say, and stays HTTP."""
        for changes, status, words in (
            ({"Upgrade": None}, 426, "upgrade: websocket"),
            ({"Connection": None}, 426, "upgrade: websocket"),
            ({"Upgrade": "h2c"}, 426, ""),
            ({"Sec_WebSocket_Key": None}, 400, ""),
            ({"Sec_WebSocket_Key": "short"}, 400, ""),
            ({"Sec_WebSocket_Version": None}, 400, ""),
            ({"Sec_WebSocket_Version": "8"}, 426, "sec-websocket-version: 13"),
            ({"Sec_WebSocket_Protocol": "chat"}, 400, ""),
        ):
            got, head, transport = self.ask(request(**changes))
            self.assertEqual(status, got, changes)
            self.assertIn(words, head.lower())
            lost = {"Upgrade", "Connection"} & set(changes)  # as by a proxy that does not pass it
            reason = "websocket-not-passed" if lost else "no-websocket"
            self.assertIn(f'"reason": "{reason}"', transport.take(), changes)
        for body in ("Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
            got, head, transport = self.ask(request()[:-2] + body.encode())
            self.assertEqual(400, got, head)
            self.assertIn('"reason": "no-websocket"', transport.take())
        for method, status in (("POST", 405), ("HEAD", 405)):
            self.assertEqual(status, self.ask(request(method=method))[0], method)

    def test_subprotocol(self) -> None:
        """RFC 7395 3.1: C{xmpp} is chosen of several, and none where none was asked for."""
        _, head, _ = self.ask(request(Sec_WebSocket_Protocol="chat, xmpp"))
        self.assertIn("sec-websocket-protocol: xmpp\r\n", f"{head}\r\n".lower())
        status, head, _ = self.ask(request(Sec_WebSocket_Protocol=None))
        self.assertEqual(101, status)
        self.assertNotIn("sec-websocket-protocol", head.lower())

    def test_no_compression(self) -> None:
        """An extension that is asked for is not agreed to: its memory would be the peer's."""
        _, head, _ = self.ask(request(Sec_WebSocket_Extensions="permessage-deflate"))
        self.assertNotIn("sec-websocket-extensions", head.lower())


class OriginTests(DoorTestCase):
    """Which pages may connect."""

    more = '[web]\norigins = ["https://www.example.com"]\n'

    def test_origins(self) -> None:
        """Our own, those of the configuration, and programs that are no browsers."""
        for origin, status in (
            (None, 101),
            ("https://meet.example.com", 101),
            ("https://www.example.com", 101),
            ("http://meet.example.com", 403),
            ("https://meet.example.com:444", 403),
            ("https://www.example.com.evil.example", 403),
            ("https://evil.example", 403),
            ("null", 403),
        ):
            self.assertEqual(status, self.ask(request(Origin=origin))[0], origin)
        both = request(Origin="https://evil.example").replace(
            b"\r\n\r\n", b"\r\nOrigin: https://meet.example.com\r\n\r\n"
        )
        self.assertEqual(400, self.ask(both)[0])

    def test_on_this_host(self) -> None:
        """A page that this host itself shows without TLS."""
        for host in ("localhost:5280", "127.0.0.1:5280", "[::1]:5280"):
            self.assertEqual(101, self.ask(request(Host=host, Origin=f"http://{host}"))[0])

    def test_told(self) -> None:
        """The operator reads who was refused, and how to let him in; a flood is not logged."""
        for _ in range(AT_ONCE + 9):
            _, _, transport = self.ask(request(Origin="https://evil.example"))
        self.assertIn('"reason": "origin-refused"', transport.take())
        lines = self.lines("was refused at /xmpp-websocket")
        self.assertIn("page of https://evil.example", lines[0])
        self.assertIn("is https://meet.example.com", lines[0])
        self.assertIn("web.origins", lines[0])
        self.assertEqual(AT_ONCE, len(lines))


class SeenTests(DoorTestCase):
    """What an operator sees of what is refused."""

    def status(self) -> Any:
        """The part of the status."""
        role = XmppAdministration(self.daemon.service, self.daemon.reactor)
        return role.status()["web"]

    def test_origin(self) -> None:
        """Counted, in the status and for the metrics."""
        self.assertEqual({"open": True, "guests": {}, "refused": {}}, self.status())
        for _ in range(2):
            self.ask(request(Origin="https://evil.example"))
        self.assertEqual({"origin-refused": 2}, self.status()["refused"])
        self.assertEqual(2, self.daemon.service.door.refused["origin-refused"])

    def test_not_passed(self) -> None:
        """A browser's request that has lost its upgrade on the way: the log has the cure."""
        lost: dict[str, Any] = {"Upgrade": None, "Connection": "close"}
        for sent in (request(**lost), request().replace(b"HTTP/1.1", b"HTTP/1.0")):
            status, _, transport = self.ask(sent)
            self.assertIn(status, (426, 505))
            self.assertIn('"reason": "websocket-not-passed"', transport.take())
        lines = self.lines("arrives without its headers Upgrade and Connection")
        self.assertEqual(2, len(lines))
        self.assertIn("Let the proxy pass both headers", lines[0])
        self.assertEqual({"websocket-not-passed": 2}, self.status()["refused"])

    def test_no_browser(self) -> None:
        """Whoever looks at the address without asking for a WebSocket is no fault of a proxy."""
        for sent in (
            b"GET /xmpp-websocket HTTP/1.1\r\nHost: meet.example.com\r\n\r\n",
            request(Sec_WebSocket_Version="8"),
        ):
            _, _, transport = self.ask(sent)
            self.assertIn('"reason": "no-websocket"', transport.take())
        self.assertEqual({}, self.status()["refused"])


class ClosedTests(DoorTestCase):
    """The door is closed."""

    more = "[web]\nenabled = false\n"

    def test_seen(self) -> None:
        """The status says so, and how many wanted to come in."""
        body = b'{"callId": "123456789", "name": "Bob"}'
        head = b"POST /join HTTP/1.1\r\nHost: meet.example.com\r\n"
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        status, _, _ = self.ask(head + body)
        self.assertEqual(503, status)
        role = XmppAdministration(self.daemon.service, self.daemon.reactor)
        self.assertEqual(
            {"open": False, "guests": {}, "refused": {"door-closed": 1}}, role.status()["web"]
        )


class ForwardedTests(DoorTestCase):
    """Behind a proxy that names its clients in C{X-Forwarded-For}."""

    listens = "forwarded_for = true\n"

    def hosts(self, header: str, host: str) -> list[str]:
        """From where a WebSocket is, for limits and logs."""
        _, _, transport = self.ask(request(X_Forwarded_For=header), host)
        stream: Any = transport.protocol
        return [stream.peer_host, stream.peer_text]

    def test_stream(self) -> None:
        """A stream is of the client, whose port is not known, and not of the proxy."""
        seen = self.hosts("192.0.2.66, 203.0.113.9", "127.0.0.1")
        self.assertEqual(["203.0.113.9", "203.0.113.9 port ?"], seen)

    def test_liar(self) -> None:
        """A client that comes without the proxy is who it is."""
        seen = self.hosts("203.0.113.9", "198.51.100.9")
        self.assertEqual("198.51.100.9", seen[0])


class HostMetaTests(DoorTestCase):
    """XEP-0156."""

    def links(self, host: str = "meet.example.com") -> list[tuple[str, str]]:
        """What both forms say, which is the same."""
        said = []
        for name in ("host-meta", "host-meta.json"):
            sent = f"GET /.well-known/{name} HTTP/1.1\r\nHost: {host}\r\n\r\n"
            status, head, transport = self.ask(sent.encode())
            self.assertEqual(200, status)
            self.assertIn("access-control-allow-origin: *", head.lower())
            said.append((head, transport.take()))
        (head, xrd), (json_head, jrd) = said
        self.assertIn("content-type: application/xrd+xml", head.lower())
        self.assertIn("content-type: application/json", json_head.lower())
        root = etree.fromstring(xrd.encode())
        self.assertEqual("{http://docs.oasis-open.org/ns/xri/xrd-1.0}XRD", root.tag)
        found = [(link.get("rel"), link.get("href")) for link in root]
        self.assertEqual(found, [(x["rel"], x["href"]) for x in json.loads(jrd)["links"]])
        return found

    def test_links(self) -> None:
        """Where the client itself reaches the listener."""
        for host, address in (
            ("meet.example.com", "wss://meet.example.com/xmpp-websocket"),
            ("meet.example.com:8443", "wss://meet.example.com:8443/xmpp-websocket"),
            ("localhost:5280", "ws://localhost:5280/xmpp-websocket"),
            ("it's&so", "wss://it's&so/xmpp-websocket"),
        ):
            found = self.links(host)
            self.assertEqual([("urn:xmpp:alt-connections:websocket", address)], found)


class ConfiguredHostMetaTests(HostMetaTests):
    """Behind a proxy that asks for another host than browsers do."""

    more = '[web]\nurl = "https://meet.example.com"\n'

    def test_links(self) -> None:
        """What the configuration says."""
        ((_, address),) = self.links("inner:5280")
        self.assertEqual("wss://meet.example.com/xmpp-websocket", address)

    def test_origin(self) -> None:
        """Our own page is that of the configuration."""
        for origin, status in (("https://meet.example.com", 101), ("https://inner:5280", 403)):
            got, _, _ = self.ask(request(Host="inner:5280", Origin=origin))
            self.assertEqual(status, got)


class SettingsTests(SynchronousTestCase):
    """C{[web]}."""

    def test_origins(self) -> None:
        """As browsers write them."""
        for text, origin in (
            ("https://Meet.Example.com", "https://meet.example.com"),
            ("https://meet.example.com/", "https://meet.example.com"),
            ("https://meet.example.com:443", "https://meet.example.com"),
            ("http://meet.example.com:443", "http://meet.example.com:443"),
            ("http://[::1]:5280", "http://[::1]:5280"),
        ):
            self.assertEqual(origin, parse_origin(text))
        for text in (
            "",
            "*",
            "meet.example.com",
            "https://",
            "ftp://x",
            "https://x/y",
            "https://x:y",
        ):
            self.assertRaises(ValueError, parse_origin, text)


class Secure:
    """A client of the listener with TLS, in memory."""

    def __init__(self, factory: Any, clock: Any) -> None:
        self._clock = clock
        self.transport = MemoryTransport("198.51.100.9")
        self.transport.connect(factory.buildProtocol(self.transport.getPeer()))
        self._tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self._tls.set_connect_state()
        with contextlib.suppress(SSL.WantReadError):
            self._tls.do_handshake()
        self.say(b"")

    def say(self, data: bytes) -> bytes:
        """Send bytes; what comes back for them."""
        if data:
            self._tls.send(data)
        heard = b""
        for _ in range(6):
            with contextlib.suppress(SSL.WantReadError):
                self.transport.protocol.dataReceived(self._tls.bio_read(65_536))
            self._clock.advance(0)
            if self.transport.value():
                self._tls.bio_write(self.transport.value())
                self.transport.clear()
            with contextlib.suppress(SSL.WantReadError):
                heard += self._tls.recv(65_536)
        return heard

    @property
    def serial(self) -> int:
        """Of the certificate that it was shown."""
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return int(certificate.serial_number)


class TLSTests(SynchronousTestCase):
    """C{listen.web}."""

    def setUp(self) -> None:
        """A daemon with a certificate."""
        self.folder = new_folder(self)
        self.issue()
        tls = f"[tls]\ncertificate = '{self.folder / 'crt'}'\nkey = '{self.folder / 'key'}'\n"
        web = 'web = ["tcp:5443:interface=127.0.0.1"]\n'
        self.daemon = Daemon(self, CONFIGURATION.replace("[listen]\n", f"{tls}[listen]\n{web}"))
        self.factory = next(s[1] for s in self.daemon.reactor.tcpServers if s[0] == 5443)
        self.factory.pace.timer = float

    def issue(self) -> None:
        """Write another one."""
        issued = CertificateAuthority("CA").issue("xmpp1", [DOMAIN, f"xmpp1.{DOMAIN}"])
        (self.folder / "crt").write_bytes(issued.certificate)
        (self.folder / "key").write_bytes(issued.key)

    def test_stream(self) -> None:
        """The stream is what speaks below TLS from then on, and no layer of HTTP is left."""
        client = Secure(self.factory, self.daemon.reactor)
        heard = client.say(request(Origin="https://meet.example.com"))
        self.assertTrue(heard.startswith(b"HTTP/1.1 101 "), heard)
        heard = client.say(framed(f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>"))
        self.assertIn(b"<open xmlns=", heard)
        layer = client.transport.protocol
        self.assertIsInstance(layer, TLSMemoryBIOProtocol)
        self.assertIsInstance(layer.wrappedProtocol, WebSocketStream)
        self.assertIs(client.transport, layer.transport)
        self.assertNotIn(b"-PLUS", heard)
        client.transport.lose()
        (factory,) = (f for f in self.daemon.service.factories if f.kind == "web")
        self.assertEqual((set(), 0), (factory.streams, factory.limiter.taken))

    def test_reload(self) -> None:
        """A new certificate is shown to who connects after the reload; streams go on."""
        client = Secure(self.factory, self.daemon.reactor)
        client.say(request())
        self.issue()
        self.daemon.service.reload()
        self.assertNotEqual(client.serial, Secure(self.factory, self.daemon.reactor).serial)
        heard = client.say(framed(f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>"))
        self.assertIn(b"<open xmlns=", heard)
