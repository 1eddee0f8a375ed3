"""The header of a client's stream, and the answers to it (RFC 6120 4.7 to 4.9)."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.words.protocols.jabber.error import StreamError

from cms.xmlstream import ns
from cms.xmlstream.header import new_stream_id
from cms.xmlstream.reader import StreamStart

LANGUAGE = (ns.XML, "lang")
# What a stream's xml:lang may be; RFC 5646 4.4.1 has the length that is enough.
_LANGUAGE = re.compile(r"(?=.{1,35}$)[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")


def judge(start: StreamStart, is_ours: Callable[[str], bool]) -> StreamError | None:
    """
    What is wrong with a header; RFC 6120 4.9.3 has the conditions.

    @param is_ours: Whether an address is that of this server.
    """
    if (start.uri, start.name) != (ns.STREAMS, "stream"):
        return StreamError("invalid-namespace")
    if start.default_namespace != ns.CLIENT:
        return StreamError("invalid-namespace")
    to = start.get("to")
    if to is not None and not is_ours(to):
        return StreamError("host-unknown")
    version = (start.get("version") or "0.9").partition(".")[0]
    if not version.isdecimal() or int(version[:9]) < 1:
        return StreamError("unsupported-version")
    return None


def usable(language: str) -> str | None:
    """The stream's language, if it is a valid language tag."""
    return language if _LANGUAGE.fullmatch(language) else None


def answer(start: StreamStart, domain: str) -> dict[str, str | None]:
    """The header that answers a good one."""
    return {
        "id": new_stream_id(),
        "from": domain,
        "to": start.get("from"),
        "version": "1.0",
        "xml:lang": "en",
    }


def unasked(domain: str) -> dict[str, str | None]:
    """Our attributes for a header sent before the peer's (RFC 6120 4.7.1, 4.9.1.2)."""
    return {"id": new_stream_id(), "version": "1.0", "from": domain}
