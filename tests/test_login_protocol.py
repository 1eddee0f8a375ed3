"""The messages of the log-in protocol: what is written is read, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element

from cms.linkprotocol import ending, groups, join, people
from cms.linkprotocol import login as lp
from tests.support import one_stanza

DOCUMENT = Path(__file__).parent.parent / "docs" / "login-protocol.md"

exchanges = st.from_regex(r"[!-~]{1,64}", fullmatch=True)
payloads = st.none() | st.binary(max_size=lp.MOST_PAYLOAD)
mechanisms = st.from_regex(r"[A-Z0-9_-]{1,20}", fullmatch=True)
bindings = st.tuples(st.from_regex(r"[A-Za-z0-9.-]{1,64}", fullmatch=True), st.binary(max_size=64))
peers = st.ip_addresses().map(str)
locals_ = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
bares = locals_.map(lambda name: f"{name}@meet.example.com")
fulls = st.tuples(bares, st.from_regex(r"[a-zA-Z0-9]{1,20}", fullmatch=True)).map("/".join)
times = st.sampled_from(["2026-11-24T12:00:00+00:00", "2026-11-24T12:00:00.123456Z"])
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=99)
messages: st.SearchStrategy[lp.Message] = st.one_of(
    st.just(lp.AskMechanisms()),
    st.builds(
        lp.Mechanisms, st.lists(mechanisms, min_size=1, max_size=32).map(tuple), st.booleans()
    ),
    st.builds(lp.Start, exchanges, mechanisms, payloads, peers, st.none() | bindings),
    st.builds(lp.Response, exchanges, payloads),
    st.builds(lp.Challenge, exchanges, payloads),
    st.builds(lp.Abort, exchanges),
    st.builds(lp.Success, exchanges, bares, payloads, st.booleans()),
    st.builds(
        lp.Failed,
        exchanges,
        st.sampled_from(sorted(lp.CONDITIONS)),
        st.none() | texts,
        st.booleans(),
        st.integers(0, lp.MOST_WAIT),
        st.just("") | locals_ | st.just("e… (3 characters)"),
    ),
    st.builds(lp.SessionBegin, fulls, peers, times, st.booleans()),
    st.builds(lp.SessionEnd, fulls, st.sampled_from(sorted(lp.REASONS))),
    st.builds(
        lp.Sessions,
        st.lists(
            st.one_of(
                st.builds(lp.SessionBegin, fulls, peers, times, st.booleans()),
                st.builds(lp.SessionEnd, fulls, st.sampled_from(sorted(lp.REASONS))),
            ),
            min_size=1,
            max_size=5,
        ).map(tuple),
    ),
)


tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
call_ids = st.from_regex(r"[0-9]{1,32}", fullmatch=True)
names = st.sampled_from(["Bob", "Bób B", "x<'&> y", "علي"])
admitted = st.builds(
    join.Admitted,
    *(bares, tokens, st.integers(0, 999_999), bares, names, names, tokens),
    st.just("") | call_ids,
)
join_messages: st.SearchStrategy[join.Message] = st.one_of(
    st.builds(
        join.Admit,
        peers,
        call_id=call_ids,
        passcode=st.just("") | st.from_regex(r"[!-~]{1,32}", fullmatch=True),
        name=names,
    ),
    st.builds(join.Admit, peers, secret=tokens, name=names),
    st.builds(join.Admit, peers, reentry=tokens, id=st.just("") | tokens),
    st.builds(join.Elsewhere, tokens),
    admitted,
    st.builds(join.Slowed, st.integers(0, lp.MOST_WAIT)),
    st.sampled_from([join.Refused(), join.Over(), join.Undecided()]),
)
ends: st.SearchStrategy[ending.Message] = st.one_of(
    st.builds(ending.End, bares | fulls, st.from_regex(r"[a-z-]{1,32}", fullmatch=True)),
    st.builds(ending.Ended, st.integers(0, ending.MOST_NUMBER)),
    st.builds(ending.Forget, bares),
    st.builds(ending.Forgotten, st.integers(0, ending.MOST_NUMBER)),
)
pictures = st.sampled_from([b"", b"\xff\xd8\xff\xe0" * 9, b"\x89PNG\r\n\x1a\n\0"])
people_messages: st.SearchStrategy[people.Message] = st.one_of(
    st.builds(people.Ask, bares),
    st.builds(people.Person, names | st.text().map(people.tidy), pictures, st.booleans()),
    st.sampled_from([people.Nobody(), people.Undecided()]),
)
EVERY_JOIN: tuple[join.Message, ...] = (
    join.Admit("::1", call_id="1", passcode="2", name="Bob"),
    join.Admit("::1", secret="s", name="Bob"),
    join.Admit("::1", reentry="r", id="i"),
    join.Elsewhere("i"),
    join.Admitted("a@b", "p", 60, "r@c", "Bob", "Team", "t", "1"),
    *(join.Refused(), join.Over(), join.Slowed(3), join.Undecided()),
)


def read(xml: str) -> lp.Message:
    """Parse a message from text, as it comes over a link."""
    with_namespace = re.sub(r"^<([a-z-]+)", rf"<\1 xmlns='{lp.NS}'", xml)
    stanza = one_stanza(f"<iq type='set' id='1'>{with_namespace}</iq>")
    return lp.parse(stanza.element.firstChildElement())


def element_of(
    message: lp.Message | join.Message | ending.Message | people.Message | groups.Message,
) -> Element:
    """A message as it comes out of the stream's reader."""
    stanza = one_stanza(f"<iq type='set' id='1'>{message.to_xml()}</iq>")
    child: Element = stanza.element.firstChildElement()
    return child


class RoundTripTests(SynchronousTestCase):
    """What one side writes, the other reads."""

    @given(messages)
    def test_over_the_wire(self, message: lp.Message) -> None:
        """Each message survives being written as XML and read again."""
        self.assertEqual(lp.parse(element_of(message)), message)

    @given(ends)
    def test_ends_over_the_wire(self, message: ending.Message) -> None:
        """The same for those that end sessions."""
        self.assertEqual(ending.parse(element_of(message)), message)

    @given(people_messages)
    def test_people_over_the_wire(self, message: people.Message) -> None:
        """The same of the part that says who somebody is."""
        self.assertEqual(people.parse(element_of(message)), message)

    @given(join_messages)
    def test_guests_over_the_wire(self, message: join.Message) -> None:
        """The same of the part for guests."""
        self.assertEqual(join.parse(element_of(message)), message)

    def test_guests_in_no_repr(self) -> None:
        """No passcode, secret, password or token shows in a repr."""
        for message in (
            join.Admit("::1", call_id="1", passcode="sekrit", name="Bob"),
            join.Admit("::1", secret="sekrit", name="Bob"),
            join.Admit("::1", reentry="sekrit"),
            join.Admitted("a@b", "sekrit", 60, "r@c", "Bob", "Team", "sekrit"),
        ):
            self.assertNotIn("sekrit", repr(message))

    def test_empty_and_absent(self) -> None:
        """A payload of no bytes and no payload at all are two things (RFC 6120 6.4.2)."""
        self.assertEqual(str(element_of(lp.Response("e", b""))), "=")
        self.assertEqual(str(element_of(lp.Response("e", None))), "")
        self.assertEqual(read("<response exchange='e'>=</response>"), lp.Response("e", b""))
        self.assertEqual(read("<response exchange='e'/>"), lp.Response("e", None))

    def test_reprs(self) -> None:
        """No payload and no channel binding shows in a repr."""
        for message in (
            lp.Start("e", "PLAIN", b"sekrit", "192.0.2.7", ("tls-exporter", b"sekrit")),
            lp.Response("e", b"sekrit"),
            lp.Challenge("e", b"sekrit"),
            lp.Success("e", "alice@meet.example.com", b"sekrit"),
        ):
            self.assertNotIn("sekrit", repr(message))

    def test_jid_is_prepared(self) -> None:
        """Addresses come out prepared, so that they can be compared."""
        message = read("<success exchange='e' jid='Alice@MEET.example.com'/>")
        self.assertEqual(message, lp.Success("e", "alice@meet.example.com"))


class MalformedTests(SynchronousTestCase):
    """Whatever is no message is refused with a sentence."""

    def refused(self, xml: str) -> str:
        """Parse what must fail."""
        return str(self.assertRaises(lp.MalformedLogin, read, xml))

    def test_base64(self) -> None:
        """Base64 is strict: no white space, no other alphabet, no stray bits, no half groups."""
        for text in ("QQ", "Q", "QQ=", "QR==", "QQ==QQ==", " QQ==", "Q Q==", "Q_-=", "====", "ä"):
            said = self.refused(f"<response exchange='e'>{text}</response>")
            self.assertEqual(said, "the payload is not base64")

    def test_long_payload(self) -> None:
        """4096 bytes pass; one more does not, and is not decoded first."""
        self.assertEqual(
            read(f"<response exchange='e'>{'AAAA' * 1365}AA==</response>"),
            lp.Response("e", bytes(4096)),
        )
        for text in ("AAAA" * 1365 + "AAA=", "!" * 5465):
            said = self.refused(f"<response exchange='e'>{text}</response>")
            self.assertEqual(said, "the payload is too long")

    def test_refusals(self) -> None:
        """Each field that is missing or has not its form is named, never repeated."""
        since = "since='2026-11-24T12:00:00Z'"
        for xml, word in (
            ("<unknown/>", "no element"),
            ("<response>QQ==</response>", "exchange"),
            ("<response exchange=''>QQ==</response>", "exchange"),
            (f"<response exchange='{'e' * 65}'>QQ==</response>", "exchange"),
            ("<response exchange='a b'>QQ==</response>", "exchange"),
            ("<response exchange='e'>QQ<b/>==</response>", "element"),
            ("<start exchange='e' peer='::1'/>", "mechanism"),
            ("<start exchange='e' peer='::1' mechanism='plain'/>", "mechanism"),
            ("<start exchange='e' mechanism='PLAIN'/>", "peer"),
            ("<start exchange='e' mechanism='X' peer='::1' channel-binding='QQ=='/>", "binding"),
            ("<start exchange='e' mechanism='X' peer='::1' channel-binding-type='a'/>", "binding"),
            ("<success exchange='e'/>", "jid"),
            ("<success exchange='e' jid='meet.example.com'/>", "bare"),
            ("<success exchange='e' jid='a@meet.example.com/r'/>", "bare"),
            ("<success exchange='e' jid='a@b..c'/>", "prepare"),
            ("<success exchange='e' jid='a b@meet.example.com'/>", "prepare"),
            ("<success exchange='e' jid='a@b' guest='so'/>", "guest"),
            ("<mechanisms admits='so'><mechanism>A</mechanism></mechanisms>", "admits"),
            ("<failure exchange='e'/>", "condition"),
            ("<failure exchange='e'><bad-luck/></failure>", "belong"),
            ("<failure exchange='e'><not-authorized/><aborted/></failure>", "condition"),
            ("<failure exchange='e'><text>x</text></failure>", "condition"),
            (
                f"<failure exchange='e'><aborted/><text>{'x' * 1025}</text></failure>",
                "too long",
            ),
            ("<failure exchange='e'><aborted/><text>a</text><text>b</text></failure>", "one text"),
            ("<failure exchange='e' wait='soon'><aborted/></failure>", "wait"),
            ("<failure exchange='e' wait='-1'><aborted/></failure>", "wait"),
            ("<failure exchange='e' wait='1000000'><aborted/></failure>", "wait"),
            ("<mechanisms><mechanism>a b</mechanism></mechanisms>", "names"),
            ("<mechanisms><x/></mechanisms>", "belong"),
            (f"<session-begin jid='a@b' peer='::1' {since}/>", "full"),
            (f"<session-begin jid='a@b/c' {since}/>", "peer"),
            ("<session-begin jid='a@b/c' peer='::1'/>", "since"),
            ("<session-begin jid='a@b/c' peer='::1' since='now'/>", "since"),
            ("<session-begin jid='a@b/c' peer='::1' since='2026-13-24T12:00:00Z'/>", "since"),
            (f"<session-begin jid='a@b/c' peer='::1' {since} resumed='yes'/>", "resumed"),
            ("<session-end jid='a@b/c'/>", "reason"),
            ("<sessions/>", "no notice"),
            (
                "<sessions>" + "<session-end jid='a@b/c' reason='lost'/>" * 101 + "</sessions>",
                "many",
            ),
            ("<sessions><session-end jid='a@b/c'/></sessions>", "reason"),
            ("<sessions><abort exchange='e'/></sessions>", "belong"),
            ("<session-end jid='a@b/c' reason='tired'/>", "reason"),
        ):
            self.assertIn(word, self.refused(xml), xml)

    def test_guests(self) -> None:
        """The same of the part for guests: each value that has not its form is named."""
        good = "jid='a@b' password='p' expires='60' space='r@c' nick='B' reentry='t'"
        for xml, word in (
            ("<unknown/>", "no element"),
            ("<refused><x/></refused>", "empty"),
            ("<refused>x</refused>", "empty"),
            ("<admit peer='::1' name='B'/>", "callId"),
            ("<admit peer='::1' name='B' callId='1' secret='s'/>", "callId"),
            ("<admit peer='::1' name='B' callId='x'/>", "callId"),
            ("<admit peer='::1' name='B' callId='1' passcode=' '/>", "passcode"),
            ("<admit peer='::1' name='B' secret='s' passcode='1'/>", "passcode"),
            ("<admit peer='::1' name='B' secret='s/'/>", "secret"),
            ("<admit peer='::1' reentry='r' name='B'/>", "name"),
            ("<admit peer='::1' secret='s'/>", "name"),
            ("<admit peer='::1' secret='s' name=' B'/>", "name"),
            (f"<admit peer='::1' secret='s' name='{'x' * 101}'/>", "name"),
            ("<admit secret='s' name='B'/>", "peer"),
            (f"<admitted {good.replace('a@b', 'b')}/>", "jid"),
            (f"<admitted {good.replace('r@c', 'r@c/x')}/>", "space"),
            (f"<admitted {good.replace('60', 'x')}/>", "expires"),
            (f"<admitted {good.replace('=' + chr(39) + 'p', '=' + chr(39))}/>", "password"),
            (f"<admitted {good} title='{'x' * 801}'/>", "title"),
            (f"<admitted {good} callId='x'/>", "callId"),
            ("<elsewhere/>", "id"),
            ("<elsewhere id='/'/>", "id"),
            ("<slowed/>", "seconds"),
            ("<slowed seconds='1000000'/>", "seconds"),
        ):
            with_namespace = re.sub(r"^<([a-z]+)", rf"<\1 xmlns='{join.NS}'", xml)
            child = one_stanza(f"<iq type='set' id='1'>{with_namespace}</iq>").child
            said = str(self.assertRaises(lp.MalformedLogin, join.parse, child))
            self.assertIn(word, said, xml)

    def test_people(self) -> None:
        """The same of the part that says who somebody is."""
        long = "A" * (people.MOST_PICTURE * 4 // 3 + 8)
        for xml, word in (
            ("<unknown/>", "no element"),
            ("<nobody>x</nobody>", "empty"),
            ("<person name='x'><x/></person>", "children"),
            ("<ask/>", "jid"),
            ("<ask jid='a@b/c'/>", "jid"),
            ("<ask jid='b'/>", "jid"),
            ("<person/>", "name"),
            ("<person name=' x'/>", "name"),
            (f"<person name='{'x' * 201}'/>", "name"),
            ("<person name='x\u202ey'/>", "name"),
            ("<person name='x'>/9j/ </person>", "base64"),
            ("<person name='x'>/9j/4</person>", "base64"),
            ("<person name='x'>PHN2Zz4=</person>", "none"),
            (f"<person name='x'>{long}</person>", "too long"),
        ):
            with_namespace = re.sub(r"^<([a-z]+)", rf"<\1 xmlns='{people.NS}'", xml)
            child = one_stanza(f"<iq type='set' id='1'>{with_namespace}</iq>").child
            said = str(self.assertRaises(lp.MalformedLogin, people.parse, child))
            self.assertIn(word, said, xml)
        child = one_stanza(f"<iq type='set' id='1'>{people.Ask('a@b').to_xml()}</iq>").child
        self.assertRaises(lp.MalformedLogin, people.parse_answer, child)

    def test_names_are_tidy(self) -> None:
        """One line, nothing that is not seen, and not endless."""
        for name, shown in (
            (" Alice\t\nLiddell ", "Alice Liddell"),
            ("evil\u202egnp.exe", "evil gnp.exe"),
            ("evil\u061cgnp.exe", "evil gnp.exe"),
            ("\ud800x", "x"),
            ("x" * 300, "x" * 200),
            ("علي", "علي"),
        ):
            self.assertEqual(shown, people.tidy(name))

    def test_other_versions(self) -> None:
        """Another namespace is another protocol, and so is no element at all."""
        other = Element(("urn:x-cms:login:2", "abort"))
        other["exchange"] = "e"
        self.assertRaises(lp.MalformedLogin, lp.parse, other)
        self.assertRaises(lp.MalformedLogin, lp.parse, None)

    @given(st.data())
    def test_fuzz(self, data: Any) -> None:
        """Any element is read or refused, and nothing else happens."""
        names = st.sampled_from(
            ["mechanisms", "start", "response", "success", "failure", "session-begin"]
        )
        values = st.text() | st.sampled_from(["e", "PLAIN", "::1", "a@b", "a@b/c", "true", "QQ=="])
        keys = st.sampled_from(
            ["exchange", "mechanism", "peer", "jid", "since", "resumed", "channel-binding",
             "channel-binding-type"]
        )  # fmt: skip
        element = Element((lp.NS, data.draw(names)))
        for key, value in data.draw(st.dictionaries(keys, values)).items():
            element[key] = value
        for child in data.draw(st.lists(st.text() | names, max_size=4)):
            if data.draw(st.booleans()):
                element.addElement(child or "x")
            else:
                element.addContent(child)
        try:
            message = lp.parse(element)
        except lp.MalformedLogin:
            return
        self.assertEqual(lp.parse(element_of(message)), message)


class DocumentTests(SynchronousTestCase):
    """docs/login-protocol.md cannot drift from the code."""

    def examples(self) -> list[Element]:
        """The messages in the document's examples, which leave some of the IQs out."""
        blocks = re.findall(r"```xml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        iqs = [b if b.startswith("<iq") else f"<iq type='set' id='1'>{b}</iq>" for b in blocks]
        found = [one_stanza(iq.strip()).element.firstChildElement() for iq in iqs]
        return [element for element in found if element is not None]

    def test_examples(self) -> None:
        """Each example is read by our own parser, and every kind of message has one."""
        kinds = {type(lp.parse(element)) for element in self.examples() if element.uri == lp.NS}
        self.assertEqual(kinds, set(get_args(lp.Message)))
        of_guests = {type(join.parse(one)) for one in self.examples() if one.uri == join.NS}
        self.assertEqual(of_guests, set(get_args(join.Message)))
        of_people = {type(people.parse(one)) for one in self.examples() if one.uri == people.NS}
        self.assertEqual(of_people, set(get_args(people.Message)))
        of_ends = {type(ending.parse(one)) for one in self.examples() if one.uri == ending.NS}
        self.assertEqual(of_ends, set(get_args(ending.Message)))
        of_groups = {type(groups.parse(one)) for one in self.examples() if one.uri == groups.NS}
        self.assertEqual(of_groups, set(get_args(groups.Message)))

    def test_schemas_of_parts(self) -> None:
        """They name each element and each attribute of their part."""
        ends = (
            *(ending.End("a@b", "deleted"), ending.Ended(1)),
            *(ending.Forget("a@b"), ending.Forgotten(1)),
        )
        persons = (
            people.Ask("a@b"),
            people.Person("A", undecided=True),
            people.Nobody(),
            people.Undecided(),
        )
        id_ = "0" * 16
        of_groups = (groups.Ask(), groups.Known(((id_, id_),)), groups.Group(id_, "x", ("a",)))
        parts = (("guests", EVERY_JOIN), ("sessions", ends), ("people", persons))
        for part, messages_ in (*parts, ("groups", of_groups)):
            schema = (DOCUMENT.parent / f"login-protocol-{part}.xsd").read_text()
            for message in messages_:
                element = element_of(message)
                for name in (element.name, *element.attributes):
                    self.assertIn(f'name="{name}"', schema)

    def test_words(self) -> None:
        """Document and schema name each condition, each reason and the namespace."""
        schema = DOCUMENT.with_suffix(".xsd").read_text()
        for text in (DOCUMENT.read_text(), schema):
            self.assertIn(lp.NS, text)
            for word in lp.CONDITIONS | lp.REASONS:
                self.assertIn(word, text)
