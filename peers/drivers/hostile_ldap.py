"""
LDAP servers on loopback that are honest until they are told to be what they are: hostile or broken.

The settings come as the first line of standard input: certificate and key, the account that
searches, the password of all users, the port of a trap to which referrals lead, and of each server
its port, its kind and its users.  Further lines turn all of them C{bad} or C{good}.  What happens
is written to standard output, one JSON object a line.

All messages are made by hand, since no library makes those that are wanted here (RFC 4511).
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

BASE = b"dc=example,dc=com"
PAGED = b"1.2.840.113556.1.4.319"
_STARTTLS, _GOODBYE = b"1.3.6.1.4.1.1466.20037", b"1.3.6.1.4.1.1466.20036"
_BIND, _SEARCH, _EXTENDED, _UNBIND = 0x60, 0x63, 0x77, 0x42
_BOUND, _ENTRY, _DONE, _REFERENCE, _ANSWERED, _BETWEEN = 0x61, 0x64, 0x65, 0x73, 0x78, 0x79


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def element(tag: int, content: bytes = b"") -> bytes:
    """Tag, length and content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return bytes((tag, 0x84)) + size.to_bytes(4, "big") + content


def text(content: bytes) -> bytes:
    """An OCTET STRING."""
    return element(0x04, content)


def message(number: int, operation: bytes, beside: bytes = b"") -> bytes:
    """An LDAPMessage."""
    id_ = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return element(0x30, element(0x02, id_) + operation + beside)


def result(tag: int, code: int = 0, words: bytes = b"", more: bytes = b"") -> bytes:
    """An operation that ends another."""
    octets = code.to_bytes(code.bit_length() // 8 + 1, "big")
    return element(tag, element(0x0A, octets) + text(b"") + text(words) + more)


def entry(dn: bytes, **attributes: bytes | list[bytes]) -> bytes:
    """A SearchResultEntry."""
    each = b"".join(
        element(
            0x30,
            text(name.encode())
            + element(0x31, b"".join(map(text, value if isinstance(value, list) else [value]))),
        )
        for name, value in attributes.items()
    )
    return element(_ENTRY, text(dn) + element(0x30, each))


def cookie(value: bytes) -> bytes:
    """The control of an answer that is a page (RFC 2696)."""
    held = element(0x30, element(0x02, b"\0") + text(value))
    return element(0xA0, element(0x30, text(PAGED) + text(held)))


def read_element(data: bytes, at: int = 0) -> tuple[int, bytes, int]:
    """Tag, content, and where the next one begins; C{IndexError}: that has not come yet."""
    tag, size, begin = data[at], data[at + 1], at + 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(data[at + 2 : begin], "big")
    if len(data) < begin + size:
        raise IndexError
    return tag, data[begin : begin + size], begin + size


class Request:
    """
    What was asked.

    @ivar paged: Whether for a page, as a sync does.
    """

    def __init__(self, data: bytes) -> None:
        _, number, at = read_element(data)
        self.number = int.from_bytes(number, "big")
        self.tag, self.body, at = read_element(data, at)
        self.paged = PAGED in data[at:]

    @property
    def is_for_base(self) -> bool:
        """Of a search: whether it is for the base alone, as C{cms check} does it first."""
        _, base, at = read_element(self.body)
        return base == BASE and read_element(self.body, at)[1] == b"\0"

    @property
    def name(self) -> bytes:
        """Of a bind."""
        _, _, at = read_element(self.body)
        return read_element(self.body, at)[1]

    @property
    def password(self) -> bytes:
        """Of a bind."""
        _, _, at = read_element(self.body)
        _, _, at = read_element(self.body, at)
        return read_element(self.body, at)[1]


class Peer:
    """A connection, from a server's side."""

    def __init__(self, server: Server, raw: socket.socket) -> None:
        self.server = server
        self._socket = raw
        self._held = b""

    def read(self) -> Request | None:
        """The next message; C{None}: there is none any more."""
        while True:
            try:
                _, content, end = read_element(self._held)
            except IndexError:
                data = self._socket.recv(65536)
                if not data:
                    return None
                self._held += data
            else:
                self._held = self._held[end:]
                return Request(content)

    def send(self, data: bytes) -> None:
        """As fast as it is taken."""
        self._socket.sendall(data)

    def drip(self, data: bytes, seconds: float = 0.02) -> None:
        """One octet at a time."""
        for octet in data:
            self._socket.sendall(bytes((octet,)))
            time.sleep(seconds)

    def flood(self, data: bytes) -> None:
        """Until the other side has enough."""
        while True:
            self._socket.sendall(data)

    def hang(self) -> None:
        """Say nothing until the other side has gone."""
        while self._socket.recv(65536):
            pass

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def secure(self) -> None:
        """TLS from here on."""
        self._socket = self.server.context.wrap_socket(self._socket, server_side=True)

    def close(self) -> None:
        """Whatever state it is in."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Server:
    """
    One port.

    @ivar kind: What it is when it is bad.
    @ivar users: Names of those who are in it.
    """

    is_bad = False

    def __init__(self, settings: dict[str, Any], port: int, kind: str, users: list[str]) -> None:
        self.kind = kind
        self.users = [user.encode() for user in users]
        self.reader = settings["reader"].encode(), settings["reader_password"].encode()
        self.password = settings["password"].encode()
        self.trap = b"ldap://127.0.0.1:%d/" % settings["trap"]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(settings["certificate"], settings["key"])
        listener = socket.create_server(("127.0.0.1", port), backlog=20)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            raw, _ = listener.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(Peer(self, raw),), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        try:
            if not self._is_bad(AT_ACCEPT, peer, None):
                while (request := peer.read()) is not None and request.tag != _UNBIND:
                    self._answer(peer, request)
        except OSError:
            pass  # it has gone
        finally:
            peer.close()

    def _is_bad(self, stage: dict[str, Bad], peer: Peer, request: Request | None) -> bool:
        """Whether that was answered as it should not be."""
        answer = stage.get(self.kind) if self.is_bad else None
        if answer is None:
            return False
        answer(peer, request)  # type: ignore[arg-type]
        return True

    def _answer(self, peer: Peer, request: Request) -> None:
        if request.tag == _EXTENDED:
            if not self._is_bad(AT_STARTTLS, peer, request):
                peer.send(message(request.number, result(_ANSWERED)))
                peer.secure()
        elif request.tag == _BIND:
            stage = AT_BIND if request.name == self.reader[0] else AT_USERS_BIND
            if not self._is_bad(stage, peer, request):
                right = (request.name, request.password) == self.reader
                right = right or request.password == self.password
                peer.send(message(request.number, result(_BOUND, 0 if right else 49)))
        elif request.tag == _SEARCH and request.is_for_base:
            peer.send(message(request.number, entry(BASE)) + self.done(request))
        elif request.tag == _SEARCH and not self._is_bad(AT_SEARCH, peer, request):
            peer.send(self.found(request) + self.done(request))

    def found(self, request: Request) -> bytes:
        """Whoever was asked for; all but those who are new, if for a page."""
        asked = [
            user
            for user in self.users
            if (b".new" not in user if request.paged else text(user) in request.body)
        ]
        return b"".join(message(request.number, self.person(user)) for user in asked)

    def person(self, user: bytes, **more: bytes | list[bytes]) -> bytes:
        """An entry."""
        return entry(b"uid=%b,%b" % (user, BASE), uid=user, cn=user.title(), **more)

    def done(self, request: Request, more: bytes = b"") -> bytes:
        """The end of an answer."""
        beside = cookie(more) if request.paged else b""
        return message(request.number, result(_DONE), beside)


Bad = Callable[[Peer, Request], object]


def _goodbye(peer: Peer, request: Request) -> None:
    """At the second page of a sync."""
    server = peer.server
    last = message(0, result(_ANSWERED, 52, b"down\n\x1b[31m", element(0x8A, _GOODBYE)))
    peer.send(server.found(request) + server.done(request, b"more"))
    peer.read()
    peer.send(last)


def _beside(sent: Callable[[Peer, Request], bytes]) -> Bad:
    """What comes before an answer that is right."""

    def answer(peer: Peer, request: Request) -> None:
        server = peer.server
        peer.send(sent(peer, request) + server.found(request) + server.done(request))

    return answer


def _then_hang(sent: Callable[[Peer, Request], bytes]) -> Bad:
    def answer(peer: Peer, request: Request) -> None:
        peer.send(sent(peer, request))
        peer.hang()

    return answer


def _early(peer: Peer, _: Request) -> None:
    peer.send(message(1, result(_BOUND)) + message(1, result(_ANSWERED)))
    peer.hang()


def _injected(rest: bytes) -> Bad:
    """In the segment of the answer to STARTTLS, and all is right afterwards."""

    def answer(peer: Peer, request: Request) -> None:
        peer.send(message(request.number, result(_ANSWERED)) + rest)
        peer.secure()

    return answer


def _bound_early(peer: Peer, request: Request) -> None:
    """Before it is asked, but in TLS."""
    peer.send(message(request.number, result(_ANSWERED)))
    peer.secure()
    peer.send(message(1, result(_BOUND)))


def _giant(peer: Peer, request: Request) -> None:
    size = (0x7FFFFF00).to_bytes(4, "big")
    head = b"\x30\x84" + size + element(0x02, bytes((request.number,)))
    peer.send(head + b"\x64\x84" + size + text(b"uid=giant,%b" % BASE) + b"\x30\x84" + size)
    peer.flood(bytes(65536))


def _pages(peer: Peer, request: Request) -> None:
    """Always another page that is full."""
    server, begin = peer.server, request.number * 100
    sent, more = server.found(request), b""
    if request.paged:
        many = (server.person(b"%d" % each) for each in range(begin, begin + 100))
        sent, more = b"".join(message(request.number, each) for each in many), b"more"
    peer.send(sent + server.done(request, more))


def _nested(depth: int, tag: int, inner: bytes = b"") -> bytes:
    for _ in range(depth):
        inner = element(tag, inner)
    return inner


def _nested_filter(_: Peer, request: Request) -> bytes:
    """A request that a server sends, with a filter of many layers."""
    numbers = b"".join((element(0x0A, b"\0") * 2, element(0x02, b"\0") * 2, element(0x01, b"\0")))
    return message(request.number, element(_SEARCH, text(b"") + numbers + _nested(400, 0xA2)))


def _with_number(octets: bytes) -> bytes:
    held = element(0x30, element(0x02, octets) + text(b""))
    return element(0xA0, element(0x30, text(PAGED) + text(held)))


def _only(number: int) -> Bad:
    """To a sync only so many are shown."""

    def answer(peer: Peer, request: Request) -> None:
        server = peer.server
        shown = (message(request.number, server.person(user)) for user in server.users[:number])
        found = b"".join(shown) if request.paged else server.found(request)
        peer.send(found + server.done(request))

    return answer


def _ranges(peer: Peer, request: Request) -> None:
    """A group that has always another member (MS-ADTS 3.1.1.3.1.3.3)."""
    server, asked = peer.server, re.search(rb"member;range=([0-9]+)-", request.body)
    if text(b"member") not in request.body and asked is None:
        peer.send(server.found(request) + server.done(request))
        return
    at = int(asked[1]) if asked else 0
    member = {f"member;range={at}-{at}": b"uid=%b,%b" % (server.users[0], BASE)}
    group = entry(b"cn=g,%b" % BASE, cn=b"G", **member)
    peer.send(message(request.number, group) + server.done(request))


def _cut(peer: Peer, request: Request) -> None:
    peer.send(peer.server.found(request)[:-9])
    peer.close()


def _empty_pages(value: bytes) -> Bad:
    return lambda peer, request: peer.send(
        peer.server.done(request, value)
        if request.paged
        else peer.server.found(request) + peer.server.done(request)
    )


AT_ACCEPT: dict[str, Bad] = {
    "silent": lambda peer, _: peer.hang(),
    "reset": lambda peer, _: peer.reset(),
    "early": _early,
}
AT_STARTTLS: dict[str, Bad] = {
    "no-starttls": _then_hang(lambda _, r: message(r.number, result(_ANSWERED, 2, b"no TLS"))),
    "no-tls": _then_hang(lambda _, r: message(r.number, result(_ANSWERED))),
    "starttls-id": _then_hang(lambda _, r: message(r.number + 1, result(_ANSWERED))),
    "bound-early": _bound_early,
    "injected": _injected(message(1, result(_BOUND)) + message(2, result(_DONE))),
    "injected-half": _injected(message(1, result(_BOUND))[:9]),
}
AT_BIND: dict[str, Bad] = {
    "bind-tag": _then_hang(lambda _, r: message(r.number, result(_DONE))),
    "bind-id": _then_hang(lambda _, r: message(r.number + 1, result(_BOUND))),
    "bind-empty": _then_hang(lambda _, r: message(r.number, element(_BOUND))),
    "bind-code": _then_hang(
        lambda _, r: message(r.number, element(_BOUND, element(0x0A, b"\x01" * 9_000)))
    ),
    "bind-drip": lambda peer, r: peer.drip(message(r.number, result(_BOUND)), 0.1),
    "bind-goes-on": _then_hang(lambda _, r: message(r.number, result(_BOUND, 14))),
    "bind-referral": _then_hang(
        lambda p, r: message(r.number, result(_BOUND, 10, more=element(0xA3, text(p.server.trap))))
    ),
}
AT_USERS_BIND: dict[str, Bad] = {
    "user-referral": lambda p, r: p.send(
        message(r.number, result(_BOUND, 10, more=element(0xA3, text(p.server.trap))))
    ),
}
AT_SEARCH: dict[str, Bad] = {
    "drip": lambda p, r: p.drip(p.server.found(r) + p.server.done(r)),
    "giant": _giant,
    "indefinite": _then_hang(lambda _, r: b"\x30\x80\x02\x01" + bytes((r.number,)) + b"\x64\x80"),
    "nested": _then_hang(
        lambda _, r: message(r.number, element(_ENTRY, text(b"cn=n") + _nested(1_500, 0x30)))
    ),
    "nested-filter": _then_hang(_nested_filter),
    "long-tag": _then_hang(
        lambda p, r: message(r.number, p.server.person(b"long"), b"\xbf" + b"\xff" * 120_000)
    ),
    "long-number": _then_hang(
        lambda p, r: message(r.number, p.server.person(b"long"), _with_number(b"\x7f" * 120_000))
    ),
    "other-id": _then_hang(lambda p, r: message(r.number + 1, p.server.person(b"other"))),
    "no-id": _then_hang(lambda p, _: message(0, p.server.person(b"other"))),
    "goodbye": _goodbye,
    "referral": lambda p, r: p.send(
        message(r.number, result(_DONE, 10, more=element(0xA3, text(p.server.trap))))
    ),
    "references": _beside(
        lambda p, r: message(r.number, element(_REFERENCE, text(p.server.trap))) * 3
    ),
    "many-references": lambda p, r: p.flood(
        message(r.number, element(_REFERENCE, text(p.server.trap))) * 1_000
    ),
    "empty-pages": _empty_pages(b"once more"),
    "pages": _pages,
    "entries": lambda p, r: p.flood(message(r.number, p.server.person(b"for-ever")) * 100),
    "intermediate": lambda p, r: p.flood(message(r.number, element(_BETWEEN)) * 1_000),
    "unasked": _beside(
        lambda p, r: message(
            r.number,
            p.server.person(b"unasked", userPassword=b"hidden", junk=[b"j" * 1_000] * 100),
        )
    ),
    "told-twice": _beside(lambda p, r: p.server.found(r)),
    "two-entries": _beside(
        lambda p, r: message(r.number, entry(b"cn=two,%b" % BASE, uid=p.server.users[0], cn=b"Two"))
    ),
    "long-dn": _beside(
        lambda _, r: message(r.number, entry(b"uid=long," + b"x" * 1_000_000, uid=b"l", cn=b"L"))
    ),
    "large": _beside(
        lambda p, r: message(r.number, p.server.person(b"large", junk=b"j" * 3_000_000))
    ),
    "octets": _beside(
        lambda _, r: message(r.number, entry(b"cn=octets,%b" % BASE, uid=b"o\xff", cn=b"\xfe\xff"))
    ),
    "octets-dn": _beside(lambda _, r: message(r.number, entry(b"cn=\xff,%b" % BASE, uid=b"o"))),
    "nul": _beside(
        lambda _, r: message(r.number, entry(b"cn=\0nul,%b" % BASE, uid=b"n\0ul", cn=b"\0\n\x1b["))
    ),
    "cut": _cut,
    "nobody": _only(0),
    "few": _only(5),
    "ranges": _ranges,
    "stray": lambda p, r: p.send(
        p.server.found(r) + p.server.done(r) + message(0, p.server.person(b"stray"))
    ),
}


def _trap(port: int) -> None:
    """Nobody may come here."""
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        listener.accept()[0].close()
        tell("trapped")


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_trap, args=(settings["trap"],), daemon=True).start()
    servers = [Server(settings, *each) for each in settings["servers"]]
    tell("ready")
    for line in sys.stdin:
        for server in servers:
            server.is_bad = json.loads(line)["do"] == "bad"
        tell("changed")


if __name__ == "__main__":
    main()
