"""Limits on a peer's XML."""

from attrs import frozen


@frozen
class Limits:
    """
    Bounds on one stanza (or stream header).

    @ivar stanza_bytes: Bytes on the wire; RFC 6120 13.12 asks for at least
        10,000 once a peer is authenticated.
    @ivar elements: Elements in the tree, since each costs far more memory than
        its bytes.
    @ivar depth: How deep they nest.
    @ivar attributes: Attributes and namespace declarations in the whole tree; both cost
        the same.
    """

    stanza_bytes: int
    elements: int
    depth: int
    attributes: int = 4_096


UNAUTHENTICATED = Limits(stanza_bytes=8_192, elements=32, depth=8, attributes=512)
CLIENT = Limits(stanza_bytes=262_144, elements=4_096, depth=320)
COMPONENT = Limits(stanza_bytes=524_288, elements=8_192, depth=320, attributes=8_192)
