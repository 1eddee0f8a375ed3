"""The stream features offered at each stage (RFC 6120 4.3.2), as bytes for the stream."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.serialize import serialize
from cms.xmpp import csi


def _starttls() -> bytes:
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.STARTTLS, "starttls")).addElement("required")
    return serialize(features)


def _binding() -> bytes:
    features = Element((ns.STREAMS, "features"))
    features.addElement((ns.BIND, "bind"))
    features.addElement((ns.SESSION, "session")).addElement("optional")
    features.addElement((ns.MANAGEMENT, "sm"))
    features.addElement((csi.NS, "csi"))
    return serialize(features)


STARTTLS: Final = _starttls()
"""Only TLS, and TLS is required (RFC 6120 5.3.1)."""

BINDING: Final = _binding()
"""
Resource binding, the session of RFC 3921 for those who still ask for it, stream
management (XEP-0198) and client state indication (XEP-0352).
"""


@lru_cache(maxsize=32)
def login(mechanisms: tuple[str, ...], *, channel_binding: bool) -> bytes:
    """The SASL mechanisms, and what they may bind to (RFC 6120 6.3.3, XEP-0440)."""
    features = Element((ns.STREAMS, "features"))
    offered = features.addElement((ns.SASL, "mechanisms"))
    for mechanism in mechanisms:
        offered.addElement("mechanism", content=mechanism)
    if channel_binding:
        binding = features.addElement((ns.SASL_CHANNEL_BINDING, "sasl-channel-binding"))
        binding.addElement("channel-binding")["type"] = "tls-exporter"
    return serialize(features)
