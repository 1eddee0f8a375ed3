"""DNS messages: what is read is what was written, and nothing costs more than it may."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from cms.discovery import message
from cms.discovery.message import MOST_RECORDS, NotAnAnswer, Question, Reply

NAME = b"_xmpp-component._tcp.meet.example.com"
HEAD = struct.Struct("!6H")
ASKED = Question(NAME, dns.SRV, 0x1234)

labels = st.text("abcxyz0189-_", min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)
payloads = st.one_of(
    st.ip_addresses(v=4).map(str).map(dns.Record_A),
    st.ip_addresses(v=6).map(str).map(dns.Record_AAAA),
    st.builds(
        dns.Record_SRV,
        *(st.integers(0, 65535) for _ in range(3)),
        names,
    ),
    names.map(lambda name: dns.Record_TXT(name.encode())),
    names.map(dns.Record_NS),
)


def answer(*records: dns.RRHeader, asked: Question = ASKED, additional: Any = ()) -> bytes:
    """A message by the encoder of C{twisted.names}."""
    message = dns.Message(asked.id, answer=1, recDes=1, recAv=1, maxSize=0)
    message.queries = [dns.Query(asked.name, asked.type, dns.IN)]
    message.answers = list(records)
    message.additional = list(additional)
    return message.toStr()


def record(payload: Any, name: bytes = NAME) -> dns.RRHeader:
    """One record."""
    payload.ttl = 300
    return dns.RRHeader(name, payload.TYPE, dns.IN, 300, payload)


def shown(records: Any) -> list[tuple[bytes, int, int, object]]:
    """Records, to be compared."""
    return [(r.name.name, r.type, r.ttl, r.payload) for r in records]


class QuestionTests(SynchronousTestCase):
    """What is sent."""

    def test_bytes(self) -> None:
        """The same bytes as those of C{twisted.names}."""
        message = dns.Message(0x1234, recDes=1)
        message.queries = [dns.Query(NAME, dns.SRV, dns.IN)]
        self.assertEqual(message.toStr(), ASKED.data)


class ReplyTests(SynchronousTestCase):
    """What is read."""

    @given(st.lists(payloads, max_size=12), st.lists(st.tuples(names, payloads), max_size=4))
    def test_as_written(self, written: list[Any], others: list[tuple[str, Any]]) -> None:
        """Records that are of use are read as they were written, compressed names and all."""
        records = [record(payload) for payload in written]
        more = [record(payload, name.encode()) for name, payload in others]
        reply = ASKED.read(answer(*records, additional=more))
        useful = (dns.A, dns.AAAA, dns.SRV, dns.CNAME)
        self.assertEqual(shown(r for r in records if r.type in useful), shown(reply.answers))
        self.assertEqual(shown(r for r in more if r.type in useful), shown(reply.additional))

    def test_case(self) -> None:
        """Case is not compared (RFC 4343)."""
        data = answer(record(dns.Record_SRV(1, 1, 1, b"x"), NAME.upper()))
        self.assertEqual(1, len(ASKED.read(data.replace(b"meet", b"MEET")).answers))

    def test_chain(self) -> None:
        """Aliases lead from the name that was asked for to what belongs to it, in any order."""
        real = record(dns.Record_SRV(1, 1, 5223, b"x1"), b"real")
        first, second = (
            record(dns.Record_CNAME(b"b"), NAME),
            record(dns.Record_CNAME(b"real"), b"b"),
        )
        stray = record(dns.Record_SRV(1, 1, 5223, b"evil"), b"foo")
        for records in ([first, second, real, stray], [stray, real, second, first]):
            read = ASKED.read(answer(*records)).answers
            self.assertEqual(shown(r for r in records if r is not stray), shown(read))
        with self.assertRaisesRegex(NotAnAnswer, "those of real"):
            ASKED.read(answer(real, second))

    def test_long_chain(self) -> None:
        """A chain ends after eight aliases, a loop where it closes."""
        links = [record(dns.Record_CNAME(b"c1"), NAME)]
        links += [record(dns.Record_CNAME(b"c%d" % (n + 1)), b"c%d" % n) for n in range(1, 40)]
        self.assertEqual(9, len(ASKED.read(answer(*links)).answers))
        loop = [record(dns.Record_CNAME(b"a"), NAME), record(dns.Record_CNAME(NAME), b"a")]
        self.assertEqual(2, len(ASKED.read(answer(*loop)).answers))

    def test_dot_within_a_label(self) -> None:
        """A dot in a label makes no name of two labels of it."""
        target = b"\x00\x01" * 3 + b"\x0bx1.evil\\com\x07example\x00"
        head = HEAD.pack(ASKED.id, 0x8180, 1, 1, 0, 0) + ASKED.data[12:]
        data = head + b"\xc0\x0c" + struct.pack("!HHIH", 33, 1, 9, len(target)) + target
        (read,) = ASKED.read(data).answers
        assert isinstance(read.payload, dns.Record_SRV)
        self.assertEqual(b"x1\\.evil\\\\com.example", read.payload.target.name)

    def test_truncated(self) -> None:
        """Nothing is read of an answer that is to be asked for by TCP."""
        data = HEAD.pack(ASKED.id, 0x8380, 1, 9, 9, 9) + ASKED.data[12:] + b"\xff"
        self.assertEqual(Reply(dns.OK, truncated=True), ASKED.read(data))

    def test_no_question_in_format_error(self) -> None:
        """Who could not read the question cannot repeat it."""
        self.assertEqual(Reply(dns.EFORMAT), ASKED.read(HEAD.pack(ASKED.id, 0x8181, 0, 0, 0, 0)))


class HostileTests(SynchronousTestCase):
    """Whatever comes, it is an answer or it is strange, and the work is bounded."""

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes at all."""
        for start in (
            b"",
            ASKED.data[:2],
            HEAD.pack(ASKED.id, 0x8180, 1, 3, 3, 3) + ASKED.data[12:],
        ):
            try:
                ASKED.read(start + data)
            except NotAnAnswer as problem:
                self.assertTrue(str(problem).isprintable())

    @given(st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        """A good answer with some bytes changed, or cut."""
        good = bytearray(answer(*(record(dns.Record_SRV(1, n, 5223, b"x1.a")) for n in range(3))))
        for _ in range(data.draw(st.integers(0, 4))):
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(NotAnAnswer):
            ASKED.read(bytes(good[: data.draw(st.integers(0, len(good)))]))

    def words(self, data: bytes) -> str:
        """What is said of a message that is no answer."""
        return str(self.assertRaises(NotAnAnswer, ASKED.read, data))

    def message(self, body: bytes, count: int = 1) -> bytes:
        """An answer with these records."""
        return HEAD.pack(ASKED.id, 0x8180, 1, count, 0, 0) + ASKED.data[12:] + body

    def test_pointers(self) -> None:
        """A pointer that does not lead back, or one too many of them."""
        start = 12 + len(ASKED.data[12:])
        for body in (
            struct.pack("!H", 0xC000 | start),  # to itself
            struct.pack("!H", 0xC000 | start + 2) + b"\x01a\x00",  # forwards
            b"\x01a" + struct.pack("!H", 0xC000 | start),  # to where its name begins
        ):
            self.assertIn("in circles", self.words(self.message(body + b"\0" * 20)))
        chain = b"".join(struct.pack("!H", 0xC000 | start - 5 + 2 * n) for n in range(40))
        self.assertIn("cannot be read", self.words(self.message(chain)))

    def test_lengths(self) -> None:
        """Names and records that are longer, or shorter, than they may be."""
        long_name = (b"\x3f" + b"a" * 63) * 4 + b"\0"
        fixed = b"\xc0\x0c" + struct.pack("!HHI", dns.A, dns.IN, 1)
        for body, said in (
            (long_name, "too long"),
            (b"\x40" + b"a" * 64, "unknown kind"),
            (fixed + b"\x00\x05" + b"\1" * 5, "cannot be read"),
            (fixed + b"\xff\xff" + b"\1" * 4, "longer than the message"),
            (fixed.replace(b"\0\1\0\1", b"\0\x21\0\1") + b"\0\x08" + b"\0" * 8, "wrong length"),
        ):
            self.assertIn(said, self.words(self.message(body)), body)

    def test_work(self) -> None:
        """The worst that 64 kB can ask for: steps are counted, not timed."""
        steps = 0
        read = message._read_name

        class Counted(bytes):
            def __getitem__(self, key: Any) -> Any:
                nonlocal steps
                steps += 1
                return super().__getitem__(key)

        def counting(data: bytes, at: int) -> tuple[bytes, int]:
            return read(Counted(data), at)

        for make, count in ((self.many_labels, MOST_RECORDS), (self.many_labels, 5000)):
            with patch.object(message, "_read_name", counting):
                steps = 0
                with contextlib.suppress(NotAnAnswer):
                    ASKED.read(make(count))
            self.assertLess(steps, MOST_RECORDS * 2 * 2 * (128 + message.MOST_POINTERS))

    def many_labels(self, count: int) -> bytes:
        """Records whose names are as long as they may be, all by one pointer."""
        start = 12 + len(ASKED.data[12:])
        name = b"\x01a" * 127 + b"\0"
        body = name + struct.pack("!HHIH", 99, 1, 0, 0)
        body += (struct.pack("!H", 0xC000 | start) + struct.pack("!HHIH", 99, 1, 0, 0)) * (
            count - 1
        )
        return self.message(body[:65000], count)

    def test_most_records(self) -> None:
        """No more records than a round of the link could use."""
        srv: Callable[[int], Any] = lambda n: dns.Record_SRV(n, 1, 5223, b"x1")  # noqa: E731
        many = [record(srv(n)) for n in range(MOST_RECORDS)]
        self.assertEqual(MOST_RECORDS, len(ASKED.read(answer(*many)).answers))
        self.assertIn("more than 512", self.words(answer(*many, many[0])))
