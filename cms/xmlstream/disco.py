"""
Service discovery (XEP-0030), as both daemons answer it.

Neither has nodes, except the list of ad-hoc commands (XEP-0050 2.2), which clients ask
for.  That list is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns


def info(
    query: Element, category: str, type_: str, name: str | None, features: Iterable[str]
) -> Element:
    """
    The answer to C{disco#info}: one identity, and the features.

    @raise StanzaError: C{item-not-found}: there is no such node.
    """
    answer = _answer(query)
    if _node(query) is not None:
        category, type_, name, features = "automation", "command-list", None, (ns.DISCO_INFO,)
    identity = answer.addElement("identity")
    identity["category"], identity["type"] = category, type_
    if name is not None:
        identity["name"] = name
    for feature in features:
        answer.addElement("feature")["var"] = feature
    return answer


def items(query: Element, addresses: Iterable[str] = ()) -> Element:
    """
    The answer to C{disco#items}.

    @raise StanzaError: C{item-not-found}: there is no such node.
    """
    answer = _answer(query)
    if _node(query) is None:
        for address in addresses:
            answer.addElement("item")["jid"] = address
    return answer


def _answer(query: Element) -> Element:
    """An empty answer, for the node that was asked (XEP-0030 3.2)."""
    answer = Element((query.uri, "query"))
    node = _node(query)
    if node is not None:
        if node != ns.COMMANDS:
            raise StanzaError("item-not-found")
        answer["node"] = node
    return answer


def _node(query: Element) -> str | None:
    return query.getAttribute("node") or None
