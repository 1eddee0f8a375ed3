"""
Elements to bytes, safely.

C{domish} writes namespace URIs unescaped.  So a peer could smuggle markup through a
router that parses and serialises.  This serialiser escapes every value.
"""

from __future__ import annotations

import re
import sys

from twisted.words.xish.domish import Element, SerializedXML

from cms.xmlstream import ns

# Escape only what must be escaped: a stanza must not grow on its way.
_ESCAPES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&apos;",
    "\r": "&#13;",
    "\n": "&#10;",
    "\t": "&#9;",
}
_TEXT_SPECIAL = re.compile("[&<\r]|(?<=]])>")
_ATTRIBUTE_SPECIAL = re.compile("[&<\r\n\t]")
_QUOTED_SPECIAL = re.compile("[&<'\r\n\t]")
# XML 1.0 section 2.2: characters that no escape can express.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Prefixes that need no declaration.  C{xml} must have no other one
# (Namespaces in XML 1.0 section 3).
_BOUND = {ns.STREAMS: "stream", ns.XML: "xml"}
_REFERENCE = re.compile("&(?:#0*([0-9]{1,7})|#x0*([0-9A-Fa-f]{1,6})|(lt|gt|quot|apos|amp));")
_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "amp": "&"}  # XML 1.0 4.6, amp last
_BREAK = re.compile("\r\n|[\t\r\n]")
# Values that the functions below would not change, which are nearly all.
_PLAIN = re.compile("[ !#-%(-;=?-~]*").fullmatch


def escape_text(value: str) -> str:
    """Character data; characters that XML cannot hold become U+FFFD."""
    if _PLAIN(value):
        return value
    return _TEXT_SPECIAL.sub(lambda m: _ESCAPES[m[0]], _FORBIDDEN.sub("\ufffd", value))


def quote_attribute(value: str) -> str:
    """An attribute's value in quotes that it does not contain, or escaped."""
    if _PLAIN(value):
        return f"'{value}'"
    value = _FORBIDDEN.sub("\ufffd", value)
    if "'" in value and '"' not in value:
        return f'"{_ATTRIBUTE_SPECIAL.sub(lambda m: _ESCAPES[m[0]], value)}"'
    return f"'{_QUOTED_SPECIAL.sub(lambda m: _ESCAPES[m[0]], value)}'"


def unquote_attribute(written: str) -> str:
    """
    The value of an attribute that was proved well-formed, of what is between its
    quotes (XML 1.0 2.11, 3.3.3, 4.6).
    """
    value = _BREAK.sub(" ", written)
    if "&#" in value:
        return _REFERENCE.sub(_referred, value)
    if "&" in value:
        for name, character in _ENTITIES.items():
            value = value.replace(f"&{name};", character)
    return value


def _referred(reference: re.Match[str]) -> str:
    decimal, hexadecimal, name = reference.groups()
    if name:
        return _ENTITIES[name]
    number = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(number) if number <= sys.maxunicode else reference[0]


def serialize(element: Element, default_namespace: str = ns.CLIENT) -> bytes:
    """
    The element as bytes for a stream.

    Stanzas of every stream are held in C{jabber:client}.  That namespace is not written,
    so the same bytes fit a client stream and a component stream.

    @param default_namespace: The default namespace of the stream that the bytes go to.
    """
    parts: list[str] = []
    _write(parts, element, default_namespace, _BOUND)
    return "".join(parts).encode()


def _write(parts: list[str], element: Element, default: str, prefixes: dict[str, str]) -> None:
    uri = default if element.uri is None else element.uri
    bound = _BOUND.get(uri)
    name = f"{bound}:{element.name}" if bound else element.name
    parts.append(f"<{name}")
    if uri != default and not bound:
        parts.append(f" xmlns={quote_attribute(uri)}")
        default = uri
    for key, value in element.attributes.items():
        if isinstance(key, tuple):
            key, prefixes = _qualify(parts, key, prefixes)  # noqa: PLW2901
        parts.append(f" {key}={quote_attribute(value)}")
    if not element.children:
        parts.append("/>")
        return
    parts.append(">")
    text: list[str] = []
    for child in element.children:
        if isinstance(child, Element):
            _write_text(parts, text)
            _write(parts, child, default, prefixes)
        elif isinstance(child, SerializedXML):
            _write_text(parts, text)
            parts.append(child)
        else:
            text.append(child)
    _write_text(parts, text)
    parts.append(f"</{name}>")


def _write_text(parts: list[str], text: list[str]) -> None:
    """Escape joined text: a reader leaves it in pieces, perhaps cut within C{]]>}."""
    if text:
        parts.append(escape_text("".join(text)))
        text.clear()


def _qualify(
    parts: list[str], key: tuple[str, str], prefixes: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """The attribute's prefixed name, declaring the prefix where it is new."""
    uri, name = key
    if uri not in prefixes:
        prefixes = prefixes | {uri: f"n{len(prefixes)}"}
        parts.append(f" xmlns:{prefixes[uri]}={quote_attribute(uri)}")
    return f"{prefixes[uri]}:{name}", prefixes
