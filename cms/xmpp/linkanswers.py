"""What other nodes ask of the links of this one."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cms.cluster.peer import Peer
from cms.linkprotocol import login as lp
from cms.process.logs import Logger
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmpp import nodemessages as messages
from cms.xmpp.links import Link, Links
from cms.xmpp.nodemessages import Facts, told
from cms.xmpp.remotelink import PROBED, RemoteLink, trouble_of

MOST_CHALLENGED = 2_000
_EXCHANGE = re.compile(rb"><[a-z]+ xmlns='%s' exchange='([^']+)'" % re.escape(lp.NS).encode())
_CHALLENGE = lp.NS, "challenge"


def own_link(links: Links, component: str) -> Link | None:
    """The link of a component, if it is one of this node."""
    found = links.get(component)
    return None if isinstance(found, RemoteLink) else found


class LinkAnswers:
    """Asks the links of this node for others, and answers these."""

    log = Logger()

    def __init__(self, links: Links) -> None:
        self._links = links

    def ask(self, peer: Peer, component: str, facts: Facts) -> None:
        """A step of a log-in, or a notice."""
        link, number = own_link(self._links, component), facts.whole("number")
        if link is None or link.is_full:
            problem = RequestLost() if link is None else TooManyRequests()
            self._answer(peer, number, **trouble_of(Failure(problem)))
            return
        request = of_bytes(facts.text("stanza").encode())
        exchange = _EXCHANGE.search(request.raw)
        if exchange is not None:
            link.challenged.discard(exchange[1].decode())

        def answered(stanza: Stanza) -> None:
            if exchange is not None and stanza.payload == _CHALLENGE:
                if len(link.challenged) >= MOST_CHALLENGED:
                    link.challenged.clear()  # of nodes that have died
                link.challenged.add(exchange[1].decode())
            self._answer(peer, number, stanza=stanza.raw.decode())

        answer: Deferred[Stanza] = link.requests.ask(request, facts.number("seconds"))
        answer.addCallbacks(
            answered,
            lambda failure: self._answer(peer, number, **trouble_of(failure)),
        )
        answer.addErrback(self._unexpected)

    def probe(self, peer: Peer, component: str, facts: Facts) -> None:
        """Whether a link lives; one that is away does not, and may come back at the other node."""
        link, number = own_link(self._links, component), facts.whole("number")
        if link is None or link.is_away:
            self._answer(peer, number, **{PROBED: False})
            return
        probing = link.probe()
        probing.addCallback(lambda alive: self._answer(peer, number, **{PROBED: alive}))
        probing.addErrback(self._unexpected)

    def _answer(self, peer: Peer, number: int, **facts: object) -> None:
        usual = {"trouble": "", "error": "", "type": "", "text": "", "stanza": "", PROBED: False}
        if not peer.is_over:
            peer.party.write(told(messages.ANSWER, "", **{**usual, **facts, "number": number}))

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("unexpected error in an answer to another node", failure)
