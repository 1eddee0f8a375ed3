"""A session as it is handed to another node: all that goes on there, as bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, fields, frozen

from cms.cluster.entries import Unreadable, message
from cms.xmlstream.joined import Joined
from cms.xmpp import nodemessages as messages

_SIZES = struct.Struct("!III")  # of the facts; how many stanzas were sent, and how many wait
_STANZAS = ("sent", "waiting")


@frozen(kw_only=True)
class HandedSession:
    """
    A session.

    @ivar previd: The id by which its client asks for it (XEP-0198 5).
    @ivar stamp: When it was bound, by the engine's clock, in milliseconds since the epoch.
    @ivar since: The same, as RFC 3339 writes it.
    @ivar host: Where its client was connected from.
    @ivar presence: Its last broadcast presence; empty while unavailable.
    @ivar directed: Addresses that were sent presence.
    @ivar rooms: What it shows in rooms, by its address there.
    @ivar reconnecting: Which of them were told that it has no connection.
    @ivar copied: Whether it wants copies (XEP-0280).
    @ivar lists: What it is told the changes of: C{roster}, C{blocklist}.
    @ivar handled: How many of its client's stanzas were handled.
    @ivar acknowledged: How many of those to its client were acknowledged.
    @ivar sent: Those that were not, in their order.
    @ivar waiting: Those that were not sent yet.
    """

    previd: str
    jid: str
    stamp: int
    since: str
    authority: str
    host: str
    language: str
    guest: bool
    presence: str
    priority: int
    directed: Sequence[str]
    rooms: Mapping[str, str]
    reconnecting: Sequence[str]
    copied: bool
    handled: int
    acknowledged: int
    sent: Sequence[bytes]
    waiting: Sequence[bytes]
    lists: Sequence[str] = ()

    def to_message(self) -> bytes:
        """As one node gives it to another: in one piece, which arrives or does not."""
        facts = json.dumps({k: v for k, v in asdict(self).items() if k not in _STANZAS}).encode()
        raws = (*self.sent, *self.waiting)
        head = _SIZES.pack(len(facts), len(self.sent), len(self.waiting))
        sizes = struct.pack(f"!{len(raws)}I", *map(len, raws))
        body = b"".join((head, sizes, facts, *raws))
        return message(messages.HANDED, self.jid.encode(), body)

    @property
    def undelivered(self) -> Sequence[bytes]:
        """All that its client has not acknowledged, or was not sent."""
        return (*self.sent, *self.waiting)


def read_handed(data: bytes | memoryview) -> HandedSession:
    """
    The body of what L{HandedSession.to_message} has made.

    @raise Unreadable: it has not.
    """
    body = bytes(data)
    try:
        length, sent, waiting = _SIZES.unpack_from(body)
        sizes = struct.unpack_from(f"!{sent + waiting}I", body, _SIZES.size)
        at = _SIZES.size + 4 * len(sizes)
        facts: Any = json.loads(body[at : at + length])
        at += length
        if at + sum(sizes) != len(body):
            raise Unreadable("stanzas of another length")
        raws = Joined(body[at:], sizes)
        known = {each.name for each in fields(HandedSession)}
        facts = {key: value for key, value in facts.items() if key in known}
        return HandedSession(**facts, sent=raws[:sent], waiting=raws[sent:])
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise Unreadable(type(problem).__name__) from None
    except MemoryError:
        raise Unreadable("too many stanzas") from None
