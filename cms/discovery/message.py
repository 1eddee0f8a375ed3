"""
DNS messages as bytes (RFC 1035 4.1): a question, and the answer that belongs to it.

A DNS server is not trusted, so everything is bounded before it is read: the records of
a message, the length of a name, the pointers that a name is made of.  Only A, AAAA,
CNAME and SRV are read.  C{twisted.names} reads more: names of any length made of a
thousand pointers (4.8 s for one message of 28 kB), records of forty types, and any
answer with the right id.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from attrs import field, frozen
from twisted.names import dns

MOST_RECORDS = 512  # of an answer, in all its sections
MOST_ALIASES = 8  # from the name that was asked for to the one that has the record
MOST_NAME, MOST_LABEL = 255, 63  # octets, RFC 1035 2.3.4
MOST_POINTERS = 16  # of one name

_HEAD = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length
_QUESTION = struct.Struct("!HH")
_ANSWERS, _OPCODE, _TRUNCATED, _RECURSION, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_UNREADABLE = (IndexError, ValueError, struct.error)


class NotAnAnswer(Exception):
    """
    A message that does not answer the question, or cannot be read.

    @ivar args: What is wrong with it, in words.
    """


@frozen
class Reply:
    """
    An answer.

    @ivar answers: The records that belong to the question; never others.
    @ivar additional: The additional section, which is only a hint (RFC 2181 5.4.1).
    """

    rcode: int
    truncated: bool = False
    answers: Sequence[dns.RRHeader] = ()
    additional: Sequence[dns.RRHeader] = ()


@frozen
class Question:
    """
    One question, asked once of one server.

    @ivar id: 16 bits that nobody can guess.
    @ivar data: The message to send.
    """

    name: bytes
    type: int
    id: int
    data: bytes = field(init=False)

    @data.default
    def _encode(self) -> bytes:
        head = _HEAD.pack(self.id, _RECURSION, 1, 0, 0, 0)
        return head + _encode_name(self.name) + _QUESTION.pack(self.type, dns.IN)

    def read(self, data: bytes) -> Reply:
        """
        The answer in a message.

        @raise NotAnAnswer: it is not the answer to this question (RFC 5452 9.1): another
            id, name, type or class, or records of names that were not asked for.
        """
        try:
            return self._read(data)
        except _UNREADABLE as problem:
            raise NotAnAnswer(f"it cannot be read ({problem})") from None

    def _read(self, data: bytes) -> Reply:
        id_, flags, questions, *counts = _HEAD.unpack_from(data)
        if id_ != self.id:
            raise NotAnAnswer("its id is another one")
        if not flags & _ANSWERS or flags & _OPCODE:
            raise NotAnAnswer("it is no answer to a query")
        rcode = flags & _RCODE
        if questions == 0 and rcode == dns.EFORMAT:
            return Reply(rcode)  # a server need not repeat what it could not read
        at = self._check_question(data, questions)
        if flags & _TRUNCATED:
            return Reply(rcode, truncated=True)
        if sum(counts) > MOST_RECORDS:
            raise NotAnAnswer(f"it holds {sum(counts)} records, more than {MOST_RECORDS}")
        sections = []
        for count in counts:
            records = []
            for _ in range(count):
                record, at = _read_record(data, at)
                if record is not None:
                    records.append(record)
            sections.append(records)
        return Reply(rcode, answers=self._own(sections[0]), additional=sections[2])

    def _check_question(self, data: bytes, questions: int) -> int:
        """Where the records begin."""
        if questions != 1:
            raise NotAnAnswer(f"it repeats {questions} questions in place of one")
        name, at = _read_name(data, _HEAD.size)
        type_, class_ = _QUESTION.unpack_from(data, at)
        if (name.lower(), type_, class_) != (self.name.lower(), self.type, dns.IN):
            raise NotAnAnswer(f"it answers a question for {_shown(name)} (type {type_})")
        return at + _QUESTION.size

    def _own(self, records: list[dns.RRHeader]) -> list[dns.RRHeader]:
        """What belongs to the name that was asked for, and to what its aliases lead to."""
        if not records:
            return []
        aliases: dict[bytes, bytes] = {}
        for record in records:
            if record.type == dns.CNAME:
                payload: Any = record.payload
                aliases.setdefault(record.name.name.lower(), payload.name.name.lower())
        name = self.name.lower()
        reached: set[bytes] = set()
        while name not in reached and len(reached) <= MOST_ALIASES:
            reached.add(name)
            name = aliases.get(name, name)
        own = [record for record in records if record.name.name.lower() in reached]
        if not own:
            raise NotAnAnswer(f"its records are those of {_shown(records[0].name.name)}")
        return own


def follow(name: bytes, type_: int) -> Callable[[int], Question]:
    """
    Makes the questions for a name, each with its own id.

    @raise ValueError: DNS can hold no such name.
    """
    _encode_name(name)
    return lambda id_: Question(name, type_, id_)


def _encode_name(name: bytes) -> bytes:
    labels = name.split(b".") if name else []
    data = b"".join(bytes([len(label)]) + label for label in labels if len(label) <= MOST_LABEL)
    if not all(0 < len(label) <= MOST_LABEL for label in labels) or len(data) >= MOST_NAME:
        raise ValueError(
            "a name, or a part of it between dots, has a length that DNS does not know"
        )
    return data + b"\0"


def _read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """A name, and where what follows it begins; pointers lead backwards only (RFC 1035 4.1.4)."""
    labels: list[bytes] = []
    size, end, pointers, before = 1, 0, 0, at
    while True:
        length = data[at]
        if length >= 0xC0:
            pointers += 1
            target = (length & 0x3F) << 8 | data[at + 1]
            if target >= before or pointers > MOST_POINTERS:
                raise ValueError("a name in it leads round in circles")
            end = end or at + 2
            at = before = target
        elif length > MOST_LABEL:
            raise ValueError("a name in it has a part of an unknown kind")
        elif length == 0:
            return b".".join(labels), end or at + 1
        else:
            label = data[at + 1 : at + 1 + length]
            size += length + 1
            if len(label) < length or size > MOST_NAME:
                raise ValueError("a name in it is too long")
            # A dot within a label is no dot between labels (RFC 1035 5.1).
            labels.append(label.replace(b"\\", b"\\\\").replace(b".", b"\\."))
            at += length + 1


def _read_record(data: bytes, at: int) -> tuple[dns.RRHeader | None, int]:
    """A record, C{None} for a type that is not needed, and where the next begins."""
    name, at = _read_name(data, at)
    type_, class_, ttl, length = _FIXED.unpack_from(data, at)
    at += _FIXED.size
    end = at + length
    if end > len(data):
        raise ValueError("a record in it is longer than the message")
    read = _PAYLOADS.get(type_)
    if read is None or class_ != dns.IN:
        return None, end
    payload, after = read(data, at, end, ttl)
    if after != end:
        raise ValueError("a record in it has a wrong length")
    return dns.RRHeader(name, type_, class_, ttl, payload), end


def _read_a(data: bytes, at: int, end: int, ttl: int) -> tuple[Any, int]:
    return dns.Record_A(str(IPv4Address(data[at:end])), ttl), end


def _read_aaaa(data: bytes, at: int, end: int, ttl: int) -> tuple[Any, int]:
    return dns.Record_AAAA(str(IPv6Address(data[at:end])), ttl), end


def _read_cname(data: bytes, at: int, end: int, ttl: int) -> tuple[Any, int]:
    name, after = _read_name(data, at)
    return dns.Record_CNAME(name, ttl), after


def _read_srv(data: bytes, at: int, end: int, ttl: int) -> tuple[Any, int]:
    priority, weight, port = struct.unpack_from("!HHH", data, at)
    target, after = _read_name(data, at + 6)
    return dns.Record_SRV(priority, weight, port, target, ttl), after


_PAYLOADS = {
    dns.A: _read_a,
    dns.AAAA: _read_aaaa,
    dns.CNAME: _read_cname,
    dns.SRV: _read_srv,
}


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")[:80] or "."
