"""A client port in a thread, which falls silent, hangs up or says no where a test wants it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Literal

from attrs import frozen

from peers.certs import Pair
from peers.component import read, stream_error

Stop = Literal["", "header", "features", "proceed", "mechanisms", "challenge"]

_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


@frozen
class ClientServer:
    """
    Call it with a connection, as the troubles of L{peers.stubs}.

    It never lets anybody in.

    @ivar stops: Before which of its words it falls silent.
    @ivar hangs_up: It closes the connection there instead.
    @ivar error: A stream error in place of its first features.
    @ivar failure: The SASL condition, with a text, with which it answers C{auth}.
    @ivar marks: Attributes of that failure.
    """

    pair: Pair
    domain: str
    stops: Stop = ""
    hangs_up: bool = False
    starttls: bool = True
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-1")
    error: str = ""
    failure: tuple[str, str] = ("temporary-auth-failure", "")
    marks: str = ""

    def __call__(self, connection: socket.socket) -> None:
        """Serve one stream."""
        _heard(connection, rb"<stream:stream[^>]*>")
        self._say(connection, "header", self._header())
        if self.error:
            self._say(connection, "features", stream_error(self.error))
            _silence(connection)
            return
        offer = f"<starttls xmlns='{_TLS}'><required/></starttls>" if self.starttls else ""
        self._say(connection, "features", _features(offer))
        _heard(connection, rb"<starttls")
        self._say(connection, "proceed", f"<proceed xmlns='{_TLS}'/>".encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.certificate, self.pair.key)
        connection.settimeout(20)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.settimeout(0.2)
            self._log_in(secure)

    def _log_in(self, secure: socket.socket) -> None:
        _heard(secure, rb"<stream:stream[^>]*>")
        offer = "".join(f"<mechanism>{name}</mechanism>" for name in self.mechanisms)
        offered = _features(f"<mechanisms xmlns='{_SASL}'>{offer}</mechanisms>")
        self._say(secure, "mechanisms", self._header() + offered)
        _heard(secure, rb"<auth[^>]*>[^<]*</auth>")
        condition, text = self.failure
        words = f"<text>{text}</text>" if text else ""
        answer = f"<failure xmlns='{_SASL}'{self.marks}><{condition}/>{words}</failure>"
        self._say(secure, "challenge", answer.encode())
        _silence(secure)

    def _header(self) -> bytes:
        return (
            f"<?xml version='1.0'?><stream:stream xmlns='jabber:client' from='{self.domain}'"
            " xmlns:stream='http://etherx.jabber.org/streams' id='c1' version='1.0'>"
        ).encode()

    def _say(self, connection: socket.socket, what: Stop, words: bytes) -> None:
        if self.stops != what:
            connection.sendall(words)
            return
        if not self.hangs_up:
            _silence(connection)
        raise ConnectionResetError(f"stopped before {what}")


def _features(inside: str) -> bytes:
    return f"<stream:features>{inside}</stream:features>".encode()


def _heard(connection: socket.socket, pattern: bytes) -> bytes:
    heard = read(connection, b"", lambda data: re.search(pattern, data))
    if not re.search(pattern, heard):
        raise ConnectionResetError("the client left")
    return heard


def _silence(connection: socket.socket) -> None:
    read(connection, b"", lambda data: None)
