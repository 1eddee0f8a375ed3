"""
Recognise a peer that does not speak XMPP by its first bytes.

A part of the first line is shown, made safe for a log.  It never holds an HTTP client's
path or cookies, or anything after the first tag.
"""

from __future__ import annotations

import re
from typing import Literal

from attrs import frozen

from cms.fast.tls import MOST_HEARD
from cms.signalflow import printable
from cms.xmlstream import ns

MOST_SHOWN = 80  # characters

Kind = Literal["component", "client", "server", "stream", "http", "tls", "other", "unknown"]

_STREAMS = {ns.COMPONENT: "component", "jabber:server": "server", ns.CLIENT: "client"}
_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PRI) [^\r\n]*HTTP/")


def _is(pattern: bytes, kind: Kind, what: str) -> tuple[re.Pattern[bytes], Kind, str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL), kind, what


_SIGNS = (
    _is(rb"[\x14-\x17]\x03[\x00-\x04]", "tls", "TLS"),
    _is(rb"HTTP/|\s*<(?:!doctype )?html", "http", "a web server (HTTP)"),
    _is(rb"SSH-\d", "other", "an SSH server or client"),
    _is(rb"PROXY (?:TCP|UNKNOWN)", "other", "a proxy (PROXY protocol)"),
    _is(rb"\r\n\r\n\0\r\nQUIT\n", "other", "a proxy (PROXY protocol)"),
    _is(rb"(?:220|421|554)[ -][^\r\n]*(?:smtp|mail)", "other", "a mail server (SMTP)"),
    _is(rb"(?:220|421|530)[ -]", "other", "a mail or file server (SMTP or FTP)"),
    _is(rb"(?:EHLO|HELO) ", "other", "a mail client (SMTP)"),
    _is(rb"\* (?:OK|PREAUTH|BYE)", "other", "a mail server (IMAP)"),
    _is(rb"[+]OK", "other", "a mail server (POP3)"),
    _is(rb"RFB \d", "other", "a VNC server"),
    _is(rb"SIP/2|[A-Z]+ sips?:", "other", "a SIP server or client"),
    _is(rb"...\x00\x0a[\d.]+", "other", "a MySQL server"),
)


@frozen
class Heard:
    """
    What a peer sent first.

    @ivar kind: The protocol: XMPP of some kind, HTTP, TLS and others.
    @ivar what: In words, such as C{a web server (HTTP)}.
    @ivar shown: A part of the first line.
    """

    kind: Kind
    what: str
    shown: str


def recognise(data: bytes) -> Heard | None:
    """
    Recognise the protocol.

    @param data: The first bytes; at most C{MOST_HEARD} are examined.
    @return: C{None} for no bytes.
    """
    data = data[:MOST_HEARD]
    if not data:
        return None
    if ns.STREAMS.encode() in data:
        return _stream(data)
    request = _REQUEST.match(data)
    if request:
        return Heard("http", "an HTTP request", f"{request[1].decode()} ... HTTP")
    for sign, kind, what in _SIGNS:
        if sign.match(data):
            return Heard(kind, what, what if kind == "tls" else _first_line(data))
    return Heard("unknown", "something unknown", _first_line(data))


def _stream(data: bytes) -> Heard:
    text = data.decode("utf-8", "replace")
    found = re.search(r"""\sxmlns=(["'])(.*?)\1""", text)
    name = _STREAMS.get(found[2] if found else "", "stream")
    start = text.find("<stream:stream")
    shown = printable(text[max(0, start) :].partition(">")[0][:MOST_SHOWN])
    what = "an XMPP stream" if name == "stream" else f"an XMPP stream for {name}s"
    return Heard(name, what, shown)  # type: ignore[arg-type]


def _first_line(data: bytes) -> str:
    line = data.splitlines()[0] if data.strip() else b""
    if line.lstrip().startswith(b"<"):
        line = line.partition(b">")[0]
    text = line.decode("utf-8", "replace")
    if not text.isprintable():
        visible = sum(c.isprintable() and c != "\ufffd" for c in text)
        text = printable(text) if visible > len(text) // 2 else f"{len(data)} bytes of no text"
    return text[:MOST_SHOWN].strip()
