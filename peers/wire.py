"""
A client that sends exactly the bytes it is told to, to whatever server, and hears all.

Stock clients mend what they send and swallow what they hear; this one shows what a
server does.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast
from xml.etree.ElementTree import Element, XMLPullParser

from peers.contract import DOMAIN

STREAMS = "http://etherx.jabber.org/streams"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_CLIENT = "{jabber:client}"
_SECONDS = 30.0


class WireClient:
    """
    A stream with STARTTLS and PLAIN, up to its bound resource.

    @ivar jid: The full address that the server bound.
    @ivar header: The attributes of its last stream header.
    """

    def __init__(
        self,
        port: int,
        trust: Path,
        user: str,
        password: str,
        *,
        resource: str = "",
        attributes: str = "",
    ) -> None:
        """
        @param resource: Asked for; with none the server chooses.
        @param attributes: More of the stream header, such as C{xml:lang}.
        """
        self._ids = count(1)
        self._attributes = attributes
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._open()
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        next(self._elements)
        context = ssl.create_default_context(cafile=str(trust))
        self._socket = context.wrap_socket(self._socket, server_hostname=DOMAIN)
        self._open()
        proof = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{proof}</auth>"
        )
        assert next(self._elements).tag.endswith("}success"), "the log-in was refused"
        self.features = self._open()
        wanted = f"<resource>{resource}</resource>" if resource else ""
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{wanted}</bind>"
        self.send(f"<iq type='set' id='bind'>{bind}</iq>")
        bound = next(self._elements)
        assert bound.get("type") == "result", shape(bound)
        self.jid = "".join(bound.itertext())

    def _open(self) -> Element:
        """Send a header; the features that come back."""
        self._elements = self._read()
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
            f" xmlns:stream='{STREAMS}'{self._attributes}>"
        )
        return next(self._elements)

    def _read(self) -> Iterator[Element]:
        """What the server sends, element by element, until it ends the stream."""
        parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
        depth = 0
        while data := self._socket.recv(65536):
            parser.feed(data)
            for kind, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
                depth += 1 if kind == "start" else -1
                if kind == "start" and depth == 1:
                    self.header = dict(element.attrib)
                elif kind == "end" and depth == 1:
                    yield element

    def send(self, xml: str) -> None:
        """Send it as it is; a byte that is no text is written as a lone surrogate."""
        self._socket.sendall(xml.encode("utf-8", "surrogateescape"))

    def ask(self, type_: str, payload: str, to: str = "") -> Element:
        """Send an IQ request; its answer, or whatever else has its id."""
        identifier = f"ask{next(self._ids)}"
        address = f" to='{to}'" if to else ""
        self.send(f"<iq type='{type_}' id='{identifier}'{address}>{payload}</iq>")
        return self._upto(identifier)[-1]

    def hear(self) -> list[Element]:
        """
        What has come since the last time.

        A server answers in order, so what came before the answer to a ping is all
        that there is.
        """
        identifier = f"hear{next(self._ids)}"
        self.send(
            f"<iq type='get' id='{identifier}' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
        return self._upto(identifier)[:-1]

    def _upto(self, identifier: str) -> list[Element]:
        heard: list[Element] = []
        for element in self._elements:
            heard.append(element)
            if element.get("id") == identifier and element.tag == _CLIENT + "iq":
                return heard
        raise AssertionError(f"the stream ended, after {[shape(e) for e in heard]}")

    def rest(self) -> list[Element]:
        """What still comes until the server ends the stream."""
        return list(self._elements)

    def leave(self) -> None:
        """Close the stream, if it is open still, and wait until the server has, too."""
        with contextlib.suppress(OSError):
            self.send("</stream:stream>")
            self.rest()
        self.close()

    def close(self) -> None:
        """Hang up, without a word."""
        self._socket.close()


def shape(element: Element) -> str:
    """
    A stanza in one line: name, type, sender and what it holds, as
    C{message chat bob/r: body} or C{iq error -: bad-request}.

    Of a sender at our domain only the rest is told; no sender at all is C{-}.
    """
    words = [_local(element.tag)]
    if "type" in element.attrib:
        words.append(element.attrib["type"])
    words.append(element.get("from", "-").replace(f"@{DOMAIN}", ""))
    return f"{' '.join(words)}: {' '.join(_content(element))}".removesuffix(": ")


def _content(element: Element) -> Iterator[str]:
    """
    The names of the children; of an error the condition, and whether it answers a join.

    What else an error repeats of what it answers is its sender's choice (RFC 6120 8.3.1).
    """
    failed = element.get("type") == "error"
    for child in element:
        if child.tag == _CLIENT + "error":
            conditions = (_local(c.tag) for c in child if c.tag.startswith(f"{{{STANZAS}}}"))
            yield from (condition for condition in conditions if condition != "text")
        elif not failed or child.tag == "{http://jabber.org/protocol/muc}x":
            yield _local(child.tag)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
