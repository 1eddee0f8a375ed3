"""The stream features offered at each stage (RFC 6120 4.3.2), as bytes for the stream."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.serialize import serialize
from cms.xmpp import carbons, csi
from cms.xmpp.contacts import items


def _starttls() -> bytes:
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.STARTTLS, "starttls")).addElement("required")
    return serialize(features)


def _binding(*, contacts: bool) -> bytes:
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.BIND, "bind"))
    features.addElement((ns.SESSION, "session")).addElement("optional")
    _add_ongoing(features, managed=False, contacts=contacts)
    return serialize(features)


def _bound(*, managed: bool, contacts: bool) -> bytes:
    features = Element((ns.STREAMS, "features"))
    _add_ongoing(features, managed=managed, contacts=contacts)
    return serialize(features)


def _add_ongoing(features: Element, *, managed: bool, contacts: bool) -> None:
    if contacts:
        features.addElement((items.VERSIONING, "ver"))
    if not managed:
        features.addElement((ns.MANAGEMENT, "sm"))
    features.addElement((csi.NS, "csi"))


STARTTLS: Final = _starttls()
"""Only TLS, and TLS is required (RFC 6120 5.3.1)."""

BINDING: Final = {contacts: _binding(contacts=contacts) for contacts in (False, True)}
"""
Resource binding, the session of RFC 3921 for those who still ask for it, stream
management (XEP-0198) and client state indication (XEP-0352); by whether users have contacts,
the versions of rosters (RFC 6121 2.6).
"""

BOUND: Final = {
    (managed, contacts): _bound(managed=managed, contacts=contacts)
    for managed in (False, True)
    for contacts in (False, True)
}
"""
What is left when a resource was bound with the log-in, by whether the stream is managed, and
whether users have contacts.
"""


@lru_cache(maxsize=32)
def login(mechanisms: tuple[str, ...], *, channel_binding: bool, resumption: bool) -> bytes:
    """
    The SASL mechanisms, and what they may bind to (RFC 6120 6.3.3, XEP-0388, XEP-0440).

    @param resumption: Whether sessions can be resumed (XEP-0198 5).
    """
    features = Element((ns.STREAMS, "features"))
    offered = features.addElement((ns.SASL, "mechanisms"))
    for mechanism in mechanisms:
        offered.addElement("mechanism", content=mechanism)
    if mechanisms:  # XEP-0388 2.1
        _add_authentication(features, mechanisms, resumption=resumption)
    if channel_binding:
        binding = features.addElement((ns.SASL_CHANNEL_BINDING, "sasl-channel-binding"))
        binding.addElement("channel-binding")["type"] = "tls-exporter"
    return serialize(features)


def _add_authentication(
    features: Element, mechanisms: tuple[str, ...], *, resumption: bool
) -> None:
    authentication = features.addElement((ns.SASL2, "authentication"))
    for mechanism in mechanisms:
        authentication.addElement("mechanism", content=mechanism)
    inline = authentication.addElement("inline")
    if resumption:
        inline.addElement((ns.MANAGEMENT, "sm"))
    with_binding = inline.addElement((ns.BIND2, "bind")).addElement("inline")
    for feature in (ns.MANAGEMENT, csi.NS, carbons.NS):
        with_binding.addElement("feature")["var"] = feature
