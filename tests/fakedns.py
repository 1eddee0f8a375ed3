"""A DNS of the test's own making."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.names import dns, error

from cms.discovery.message import Reply
from cms.discovery.nameservers import Outcomes


class FakeResolver:
    """
    Answers from a zone: for each name a list of records, an exception to fail
    with, or C{None} for a question that is never answered.  A name that is not
    there does not exist.

    @ivar asked: Each question, as name and type.
    """

    def __init__(
        self, zone: dict[str, Any], additional: dict[str, list[Any]] | None = None
    ) -> None:
        self.zone = zone
        self.additional = additional or {}
        self.asked: list[tuple[str, int]] = []

    async def ask(
        self, name: bytes, type_: int, waits: Sequence[float], outcomes: Outcomes
    ) -> Reply:
        """See L{cms.discovery.nameservers.Servers}."""
        text = name.decode()
        self.asked.append((text, type_))
        entry = self.zone.get(text, error.DNSNameError())
        if isinstance(entry, dict):
            entry = entry.get(type_, [])
        if entry is None:
            await Deferred()
        if isinstance(entry, Exception):
            raise entry
        matching = [r for r in entry if r.TYPE in (type_, dns.CNAME)]
        answers = [_header(text, record) for record in matching]
        for record in list(matching):
            if record.TYPE == dns.CNAME and type_ != dns.CNAME:
                target = record.name.name.decode()
                more = self.zone.get(target, [])
                if isinstance(more, list):
                    answers += [_header(target, r) for r in more if r.TYPE in (type_, dns.CNAME)]
        extra = [_header(n, r) for n, rs in self.additional.items() for r in rs]
        return Reply(dns.OK, answers=answers, additional=extra)


def _header(name: str, record: Any) -> dns.RRHeader:
    return dns.RRHeader(name.encode(), record.TYPE, dns.IN, 300, record)


def srv(priority: int, weight: int, port: int, target: str) -> dns.Record_SRV:
    """An SRV record; the target "." is the root."""
    return dns.Record_SRV(priority, weight, port, b"" if target == "." else target)


def a(address: str) -> dns.Record_A:
    """An A record."""
    return dns.Record_A(address)


def aaaa(address: str) -> dns.Record_AAAA:
    """An AAAA record."""
    return dns.Record_AAAA(address)


def cname(target: str) -> dns.Record_CNAME:
    """A CNAME record."""
    return dns.Record_CNAME(target)
