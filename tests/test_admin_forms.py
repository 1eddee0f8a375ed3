"""Parameters in and documents out, for anything that may come."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.operations import SELECTION, selection
from cms.admin.replies import (
    Document,
    Listing,
    clean,
    failure_json,
    failure_xml,
    singular,
    text,
    to_json,
    to_xml,
)
from cms.web.forms import FORM, Parameter, read_form, read_pairs
from cms.web.refusal import Refused

NAMES = ("uniqueName", "domain", "sharedSecret", "serverAddressOverride")
KNOWN = tuple(Parameter(name, "") for name in NAMES)
VALUES = st.text(st.characters(codec="utf-8"), max_size=50).filter(
    lambda value: value.isprintable()
)


class FormTests(SynchronousTestCase):
    """What a client sends."""

    @given(st.dictionaries(st.sampled_from(NAMES), VALUES))
    def test_round_trip(self, sent: dict[str, str]) -> None:
        """What was encoded is what is read."""
        self.assertEqual(sent, read_form(FORM, urlencode(sent).encode(), KNOWN))

    @given(st.binary(max_size=300))
    def test_anything(self, body: bytes) -> None:
        """Any bytes are read or refused, and what is read is known and printable."""
        try:
            found = read_pairs(body, KNOWN)
        except Refused as refused:
            self.assertIn(refused.status, (400, 415))
            self.assertRegex(refused.reason, r"\A[A-Za-z]+\Z")
        else:
            self.assertTrue(found.keys() <= set(NAMES))
            self.assertTrue(all(value.isprintable() for value in found.values()))

    def test_unencoded(self) -> None:
        """Spaces and signs that the field's clients leave as they are."""
        body = b"uniqueName=a b&sharedSecret=x@y:z/\xc3\xa4\r\n"
        expected = {"uniqueName": "a b", "sharedSecret": "x@y:z/\xe4"}
        self.assertEqual(expected, read_form(f"{FORM}; charset=UTF-8", body, KNOWN))

    def test_selection(self) -> None:
        """Part of a list."""
        part = selection(read_pairs(b"limit=2&offset=1&filter=B", SELECTION))
        items = [(str(n), {"name": name}) for n, name in enumerate(["xb", "a", "b1", "B2", "b3"])]
        page = part.of(items, "name")
        self.assertEqual((["2", "3"], 4), ([id_ for id_, _ in page.items], page.total))
        self.assertEqual(50, selection({}).limit)

    def test_schema(self) -> None:
        """A parameter as JSON Schema has it."""
        self.assertEqual({"type": "boolean"}, Parameter("b", "", "boolean").schema())
        self.assertEqual({"type": "integer", "minimum": 1, "maximum": 200}, SELECTION[0].schema())
        secret = Parameter("s", "", secret=True, least=1, most=9).schema()
        self.assertEqual(
            ("password", 1, 9), (secret["format"], secret["minLength"], secret["maxLength"])
        )
        self.assertEqual(["x"], Parameter("c", "", choices=("x",)).schema()["enum"])


KEYS = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,10}\Z")
ANY_TEXT = st.text(max_size=30)
PLAIN = st.none() | st.booleans() | st.integers() | ANY_TEXT
FACTS = st.dictionaries(
    KEYS,
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner.filter(lambda value: value is not None), max_size=3)
            | st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def as_read(key: str, value: Any, element: ET.Element) -> bool:
    """Whether an element says what a value is."""
    if isinstance(value, dict):
        kept = [(k, v) for k, v in value.items() if v is not None]
        return [child.tag for child in element] == [k for k, _ in kept] and all(
            as_read(k, v, child) for (k, v), child in zip(kept, element, strict=True)
        )
    if isinstance(value, list):
        return [child.tag for child in element] == [singular(key)] * len(value) and all(
            as_read(key, v, child) for v, child in zip(value, element, strict=True)
        )
    return (element.text or "") == text(value)


class DocumentTests(SynchronousTestCase):
    """What a client gets."""

    @given(FACTS)
    def test_xml_round_trip(self, facts: dict[str, Any]) -> None:
        """An XML parser reads what was written."""
        written = to_xml(Document("thing", facts, "1"))
        self.assertTrue(written.startswith(b'<?xml version="1.0"?><thing id="1"'))
        self.assertTrue(as_read("thing", facts, ET.fromstring(written)), written)

    @given(FACTS)
    def test_json_round_trip(self, facts: dict[str, Any]) -> None:
        """JSON has the same, without what is not known."""
        read = json.loads(to_json(Document("thing", facts)))["thing"]
        self.assertEqual({k for k, v in facts.items() if v is not None}, read.keys())

    @given(ANY_TEXT, ANY_TEXT)
    def test_ids_and_odd_names(self, id_: str, key: str) -> None:
        """Whatever an id or a key holds."""
        listing = Listing("things", "thing", [(id_, {key: "x"})], 1)
        (thing,) = ET.fromstring(to_xml(listing))
        (child,) = thing
        # A parser makes spaces of line ends within an attribute.
        expected = clean(id_).replace("\n", " ").replace("\t", " ")
        self.assertEqual(expected, (thing.get("id") or "").replace("\n", " ").replace("\t", " "))
        self.assertEqual("x", child.text)

    def test_singular(self) -> None:
        """The name of one of a list."""
        self.assertEqual("step", singular("steps"))
        self.assertEqual("item", singular("evidence"))
        self.assertEqual("item", singular("s"))

    def test_failures(self) -> None:
        """The exact framing, and JSON with cause and cure."""
        framed = failure_xml("domainInvalid")
        self.assertEqual(b"domainInvalid", framed[38:-20])
        plain = json.loads(failure_json(Refused("x", "cause", "", parameter=None)))
        self.assertEqual({"failureDetails": {"reason": "x", "cause": "cause"}}, plain)
