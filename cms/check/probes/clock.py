"""The time by a server's clock (XEP-0202)."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.replies import request
from cms.xmlstream.requests import RequestLost, Requests

PATIENCE = 2.0  # seconds for an answer that is useful, but not essential


async def ask_time(requests: Requests, sender: str, domain: str, timeout: float) -> datetime | None:
    """
    The server's time (XEP-0202).

    @param sender: Empty on a client's stream, where the server adds it.
    @param timeout: In seconds.
    @return: C{None} if the server does not answer with a time, or not in time.
    """
    iq = request("get", sender, domain, Element((ns.TIME, "time")))
    if not sender:
        del iq.element["from"]
    try:
        answer = await requests.ask(iq, timeout)
    except (StanzaError, DeferredTimeout, RequestLost):
        return None
    return read_time(answer.element)


def read_time(iq: Element) -> datetime | None:
    """The C{utc} in an answer, C{None} when there is none that can be read (XEP-0082)."""
    for time in iq.elements(ns.TIME, "time"):
        for utc in time.elements(ns.TIME, "utc"):
            try:
                moment = datetime.fromisoformat(str(utc).strip())
            except ValueError:
                return None
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
