"""The stream features offered at each stage (RFC 6120 4.3.2)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.words.xish.domish import Element

from cms.xmlstream import ns


def starttls() -> Element:
    """Nothing but TLS, and TLS is a must (RFC 6120 5.3.1)."""
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.STARTTLS, "starttls")).addElement("required")
    return features


def login(mechanisms: Iterable[str], *, channel_binding: bool) -> Element:
    """The SASL mechanisms, and what they may bind to (RFC 6120 6.3.3, XEP-0440)."""
    features = Element((ns.STREAMS, "features"))
    offered = features.addElement((ns.SASL, "mechanisms"))
    for mechanism in mechanisms:
        offered.addElement("mechanism", content=mechanism)
    if channel_binding:
        binding = features.addElement((ns.SASL_CHANNEL_BINDING, "sasl-channel-binding"))
        binding.addElement("channel-binding")["type"] = "tls-exporter"
    return features


def binding() -> Element:
    """Resource binding, and the session of RFC 3921 for those who still ask for it."""
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.BIND, "bind"))
    features.addElement((ns.SESSION, "session")).addElement("optional")
    return features
