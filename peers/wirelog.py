"""
What a chat program wrote and read on managed streams (XEP-0198), by its own log.

With that, what the server did is told apart from what the program did: of what it wrote on a
connection the server has handled as many stanzas as it says when the session is resumed, and
those and no others, in their order, must arrive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import define, field

_STANZA = re.compile(r"(?:\{jabber:client\}:)?(message|iq|presence)\b")
_NUMBER = re.compile(r"body[^>]*>\s*(\d+) ")


@define
class Connection:
    """
    One connection, from its log-in on.

    @ivar began: How many stanzas of the session the server had handled when it began.
    @ivar wrote: The number of each stanza since then, C{None} for one that has none.
    @ivar read: The numbers of the messages.
    @ivar is_resumed: Whether it goes on with the session of the one before.
    """

    began: int = 0
    wrote: list[int | None] = field(factory=list)
    read: list[int] = field(factory=list)
    is_resumed: bool = False


def of_profanity(log: str) -> list[Connection]:
    """Of its log with the level C{DEBUG}."""
    return _connections(
        (match[1] == "SENT", match[2])
        for match in re.finditer(r"(?:conn|xmpp): DBG: (SENT|RECV): <(.*)", log)
    )


def of_dino(log: str) -> list[Connection]:
    """Of what it prints with C{--print-xmpp=all}."""
    return _connections(
        (match[1] == "OUT", match[2])
        for match in re.finditer(r"XMPP (OUT|IN) \[[^]]*\]\n<(.*?)\n\n", log, re.DOTALL)
    )


def _connections(lines: Iterator[tuple[bool, str]]) -> list[Connection]:
    found: list[Connection] = []
    for is_sent, xml in lines:
        name = xml.split(maxsplit=1)[0].rpartition(":")[2].rstrip("/>")
        handled = re.search(r"\bh=[\"'](\d+)", xml)
        if is_sent and name == "enable" and "urn:xmpp:sm:3" in xml:
            found.append(Connection())  # the server counts from there on
        elif name == "resumed" and handled is not None:
            found.append(Connection(began=int(handled[1]), is_resumed=True))
        elif found and _STANZA.match(xml):
            number = _NUMBER.search(xml)
            if is_sent:
                found[-1].wrote.append(None if number is None else int(number[1]))
            elif number is not None:
                found[-1].read.append(int(number[1]))
    return found


def must_be_heard(connections: list[Connection]) -> list[int]:
    """The numbers of the messages that the server has handled, in their order."""
    heard: list[int] = []
    for one, following in zip(connections, [*connections[1:], None], strict=True):
        wrote = one.wrote
        if following is not None and following.is_resumed:
            wrote = wrote[: following.began - one.began]
        heard += [number for number in wrote if number is not None]
    return heard
