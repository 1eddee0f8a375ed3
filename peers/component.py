"""
A small XEP-0114 server in a thread, right or wrong in any one respect.

What a real server does is shown with real servers; this one says what those
cannot be made to say.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from attrs import frozen

STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
STREAM_ID = "x1"

_IQ = re.compile(rb"<iq\b([^>]*)>(.*?)</iq>", re.DOTALL)
_END = b"</stream:stream>"
_IQ_OR_END = re.compile(_IQ.pattern + b"|" + _END, re.DOTALL)
_SPACE = re.compile(rb"xmlns=['\"]([^'\"]+)['\"]")
_MOST = 65536


def header(namespace: str = "jabber:component:accept", ident: str | None = STREAM_ID) -> bytes:
    """The opening of a stream."""
    stream_id = f" id='{ident}'" if ident else ""
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' from='cb1.meet.example.com'"
        f" xmlns:stream='http://etherx.jabber.org/streams'{stream_id}>"
    ).encode()


def stream_error(condition: str, text: str = "", told: str = "") -> bytes:
    """A stream error and the end of the stream (RFC 6120 4.9)."""
    words = f"<text xmlns='{STREAM_ERRORS}'>{text}</text>" if text else ""
    return (
        f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'/>{words}{told}</stream:error>"
        "</stream:stream>"
    ).encode()


@frozen
class ComponentServer:
    """
    Call it with a connection, as the troubles of L{peers.stubs}.

    @ivar secrets: By component address.
    @ivar before: Said in place of the header; silence follows.
    @ivar answer: Said in place of the answer to the handshake, whatever that was.
    @ivar hangs_up: Close the connection after C{before} or C{answer}.
    @ivar after: Said right after a registration that succeeded.
    @ivar answers: Whether anything that is asked on the link is answered.
    @ivar clock: What it answers to XEP-0202, in seconds from now; C{None} is
        no answer but service-unavailable.
    """

    secrets: Mapping[str, str]
    before: bytes | None = None
    answer: bytes | None = None
    hangs_up: bool = False
    after: bytes = b""
    answers: bool = True
    clock: float | None = 0.0

    def __call__(self, connection: socket.socket) -> None:
        """Serve one stream."""
        heard = read(connection, b"", lambda data: re.search(rb"<stream:stream[^>]*>", data))
        if self.before is not None:
            self._say_and_stop(connection, self.before)
            return
        connection.sendall(header())
        heard = read(connection, heard, lambda data: b"</handshake>" in data)
        answer = self.answer if self.answer is not None else self._judge(heard)
        if answer != b"<handshake/>":
            self._say_and_stop(connection, answer)
            return
        connection.sendall(answer + self.after)
        if not self.answers:
            read(connection, b"", lambda data: None)
        elif not self.hangs_up:
            self._answer(connection, heard.partition(b"</handshake>")[2])

    def _say_and_stop(self, connection: socket.socket, words: bytes) -> None:
        connection.sendall(words)
        if not self.hangs_up:
            read(connection, b"", lambda data: None)

    def _judge(self, heard: bytes) -> bytes:
        asked = re.search(rb"<stream:stream[^>]*\sto=['\"]([^'\"]+)", heard)
        secret = self.secrets.get(asked[1].decode() if asked else "")
        if secret is None:
            return stream_error("host-unknown")
        proof = hashlib.sha1((STREAM_ID + secret).encode()).hexdigest()
        said = re.search(rb"<handshake[^>]*>([^<]*)<", heard)
        right = said is not None and said[1].decode() == proof
        return b"<handshake/>" if right else stream_error("not-authorized")

    def _answer(self, connection: socket.socket, heard: bytes) -> None:
        """Ping, and the time; for anything else there is an error; and a goodbye for a goodbye."""
        while True:
            heard = read(connection, heard, _IQ_OR_END.search)
            if not (found := _IQ.search(heard)):
                connection.sendall(_END)
                return
            heard = heard[found.end() :]
            attributes = dict(re.findall(rb"([\w:]+)=['\"]([^'\"]*)['\"]", found[1]))
            space = _SPACE.search(found[2])
            connection.sendall(self._reply(attributes, space[1] if space else b""))

    def _reply(self, iq: dict[bytes, bytes], space: bytes) -> bytes:
        kind, payload = b"result", b""
        if space == b"urn:xmpp:time" and self.clock is not None:
            now = datetime.fromtimestamp(time.time() + self.clock, UTC)
            payload = (
                f"<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>{now:%Y-%m-%dT%H:%M:%SZ}"
                "</utc></time>"
            ).encode()
        elif space != b"urn:xmpp:ping":
            kind = b"error"
            payload = (
                b"<error type='cancel'><service-unavailable"
                b" xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
            )
        return b"<iq type='%s' id='%s' from='%s' to='%s'>%s</iq>" % (
            *(kind, iq.get(b"id", b""), iq.get(b"to", b""), iq.get(b"from", b"")),
            payload,
        )


def read(connection: socket.socket, heard: bytes, enough: Callable[[bytes], object]) -> bytes:
    """What was heard, when there is enough of it or the peer has gone."""
    while not enough(heard):
        try:
            data = connection.recv(_MOST)
        except TimeoutError:
            continue
        if not data or len(heard) > _MOST:
            break
        heard += data
    return heard
