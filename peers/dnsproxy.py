"""A path to a DNS server that loses, truncates or changes what runs over it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from twisted.names import dns

from peers.network import free_port

Treatment = Callable[[dns.Query, bytes], bytes | list[bytes] | None]
"""Given a question and the server's answer, what arrives of it, in one or more datagrams."""


@contextlib.contextmanager
def dns_path(server_port: int, treat: Treatment) -> Iterator[str]:
    """
    A UDP port before a DNS server on loopback; nothing answers there by TCP.

    @return: What goes into C{[dns] servers}.
    """
    port = free_port()
    over = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front:
        front.bind(("127.0.0.1", port))
        front.settimeout(0.1)

        def serve() -> None:
            while not over.is_set():
                try:
                    question, peer = front.recvfrom(4096)
                except OSError:
                    continue
                for answer in _pass_on(question, server_port, treat):
                    front.sendto(answer, peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            over.set()
            thread.join()


def _pass_on(question: bytes, port: int, treat: Treatment) -> list[bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.settimeout(20)
        back.sendto(question, ("127.0.0.1", port))
        answer = back.recv(4096)
    message = dns.Message()
    message.fromStr(question)
    treated = treat(message.queries[0], answer)
    return treated if isinstance(treated, list) else [treated] if treated is not None else []


def truncates(*types: int) -> Treatment:
    """Answers to questions for these types are cut to nothing, with the TC bit set."""

    def treat(query: dns.Query, answer: bytes) -> bytes:
        if query.type not in types:
            return answer
        message = dns.Message()
        message.fromStr(answer)
        message.answers, message.additional, message.authority = [], [], []
        message.trunc = 1
        return message.toStr()

    return treat


def loses(*types: int) -> Treatment:
    """Answers to questions for these types are lost."""
    return lambda query, answer: None if query.type in types else answer


def answers_another(*types: int) -> Treatment:
    """Questions for these types are answered with a record for C{foo}, all ids being right."""

    def treat(query: dns.Query, answer: bytes) -> bytes:
        if query.type not in types:
            return answer
        message = dns.Message()
        message.fromStr(answer)
        message.queries = [dns.Query(b"foo", query.type, dns.IN)]
        for record in message.answers:
            record.name = dns.Name(b"foo")
        return message.toStr()

    return treat


def strays_first(*types: int) -> Treatment:
    """The same, and then the right answer."""
    another = answers_another(*types)

    def treat(query: dns.Query, answer: bytes) -> list[bytes]:
        stray = another(query, answer)
        assert isinstance(stray, bytes)
        return [stray, answer] if query.type in types else [answer]

    return treat


def says(rcode: int, *types: int) -> Treatment:
    """Questions for these types are answered with this code alone."""

    def treat(query: dns.Query, answer: bytes) -> bytes:
        if query.type not in types:
            return answer
        message = dns.Message()
        message.fromStr(answer)
        message.answers, message.additional, message.authority = [], [], []
        message.rCode = rcode
        return message.toStr()

    return treat
