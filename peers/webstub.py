"""
A web listener in a thread, right or wrong in any one respect.

What a real server and real proxies do is shown with these; this one says what they cannot
be made to say.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen
from scramp import ScramMechanism
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from peers.component import read
from peers.contract import DOMAIN

Says = str | Callable[[str], str]
"""What is said, several frames with line breaks between; or what makes it of what was heard."""

SPACE = f"sales@cb1.{DOMAIN}"
ADMITTED = {
    "jid": f"guest-1@{DOMAIN}",
    "password": "s3cret-of-a-guest",
    "space": SPACE,
    "nick": "cms check",
    "title": "Sales",
    "expires": 60,
    "reentry": "t0ken",
}
_FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
_BIND = "urn:ietf:params:xml:ns:xmpp-bind"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
_STREAMS = "http://etherx.jabber.org/streams"


def page(status: int = 200, body: str = "", kind: str = "text/html", more: str = "") -> bytes:
    """An answer of HTTP, complete."""
    raw = body.encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n"
    return f"{head}Connection: close\r\n{more}\r\n".encode() + raw


def told(status: int, **values: Any) -> bytes:
    """The same with JSON."""
    return page(status, json.dumps(values), "application/json")


def host_meta(address: str) -> dict[str, bytes]:
    """Both documents, as they should be."""
    relation = "urn:xmpp:alt-connections:websocket"
    link = f"<XRD><Link rel='{relation}' href='{address}'/></XRD>"
    links = json.dumps({"links": [{"rel": relation, "href": address}]})
    anybody = "Access-Control-Allow-Origin: *\r\n"
    return {
        "/.well-known/host-meta": page(200, link, "application/xrd+xml", anybody),
        "/.well-known/host-meta.json": page(200, links, "application/json", anybody),
    }


@frozen
class WebServer:
    """
    Call it with a connection, as the troubles of L{peers.stubs}.

    @ivar answers: In place of what it says to these paths; C{b""} is silence.
    @ivar says: In each frame's turn: what it answers to the frames of the client.
    @ivar subprotocol: Whether it chooses one.
    """

    answers: Mapping[str, bytes] = field(factory=dict)
    says: tuple[Says, ...] = ()
    subprotocol: bool = True

    def __call__(self, connection: socket.socket) -> None:
        """Serve one request."""
        heard = read(connection, b"", lambda data: re.search(rb"\r\n\r\n", data))
        found = re.match(rb"(?:GET|POST) (\S+) HTTP/1.1\r\n", heard)
        host = re.search(rb"\r\nHost: (\S+)\r\n", heard, re.IGNORECASE)
        if not found or not host:
            return
        path = found[1].decode()
        usual = {
            "/join": told(200, **ADMITTED),
            **host_meta(f"ws://{host[1].decode()}/xmpp-websocket"),
        }
        answer = self.answers.get(path, usual.get(path))
        if answer is None and path == "/xmpp-websocket":
            self._websocket(connection, heard)
            return
        if answer is None:
            answer = page(200, f'<html lang="en" data-domain="{DOMAIN}"></html>')
        connection.sendall(answer)
        if not answer:
            read(connection, b"", lambda data: None)

    def _websocket(self, connection: socket.socket, heard: bytes) -> None:
        names: Any = ["xmpp"] if self.subprotocol else None
        protocol = ServerProtocol(subprotocols=names)
        protocol.receive_data(heard)
        waiting = list(self.says)
        while True:
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif isinstance(event, Frame) and waiting:
                    say = waiting.pop(0)
                    words = say if isinstance(say, str) else say(bytes(event.data).decode())
                    for frame in words.split("\n"):
                        protocol.send_text(frame.encode())
            for data in protocol.data_to_send():
                connection.sendall(data)
            try:
                more = connection.recv(65536)
            except TimeoutError:
                continue
            if not more:
                return
            protocol.receive_data(more)


OPEN = f"<open xmlns='{_FRAMING}' from='{DOMAIN}' id='w1' version='1.0'/>"


def features(inside: str) -> str:
    """The features of a stream."""
    return f"<stream:features xmlns:stream='{_STREAMS}'>{inside}</stream:features>"


MECHANISMS = features(
    f"<mechanisms xmlns='{_SASL}'><mechanism>SCRAM-SHA-256</mechanism></mechanisms>"
)


def failure(condition: str) -> str:
    """What refuses a log-in."""
    return f"<failure xmlns='{_SASL}'><{condition}/></failure>"


def stream_error(condition: str) -> str:
    """What ends a stream."""
    return (
        f"<stream:error xmlns:stream='{_STREAMS}'>"
        f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    )


class Session:
    """The server's frames of a whole session of a guest, up to the room."""

    def __init__(self) -> None:
        kind = ScramMechanism("SCRAM-SHA-256")
        known = kind.make_auth_info(str(ADMITTED["password"]))
        self._scram = kind.make_server(lambda name: known)

    def says(self, room: str) -> tuple[Says, ...]:
        """@param room: What is said to the join."""
        bound = features(f"<bind xmlns='{_BIND}'/>")
        return (
            f"{OPEN}\n{MECHANISMS}",
            self._challenge,
            self._success,
            f"{OPEN}\n{bound}",
            _bound,
            room,
        )

    def _challenge(self, heard: str) -> str:
        self._scram.set_client_first(_content(heard))
        return _sasl("challenge", self._scram.get_server_first())

    def _success(self, heard: str) -> str:
        self._scram.set_client_final(_content(heard))
        return _sasl("success", self._scram.get_server_final())


def room_error(condition: str) -> str:
    """What refuses a join."""
    return (
        f"<presence xmlns='jabber:client' from='{SPACE}/cms check' type='error'><error type='wait'>"
        f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
    )


def _bound(heard: str) -> str:
    asked = re.search(" id='([^']+)'", heard)
    assert asked is not None
    jid = f"<bind xmlns='{_BIND}'><jid>{ADMITTED['jid']}/r1</jid></bind>"
    return f"<iq xmlns='jabber:client' type='result' id='{asked[1]}'>{jid}</iq>"


def _sasl(name: str, content: str) -> str:
    inside = base64.b64encode(content.encode()).decode()
    return f"<{name} xmlns='{_SASL}'>{inside}</{name}>"


def _content(heard: str) -> str:
    found = re.search(">([^<]*)<", heard)
    assert found is not None
    return base64.b64decode(found[1]).decode()
