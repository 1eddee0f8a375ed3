"""
Tells a Callbridge of the sessions at other nodes that it decided.

The node that holds its link does, from what it knows of the others, and so in the order in which
they took an address from each other: what two nodes tell would come in any order, and the end of
an older session is told by nobody if its node dies.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred

from cms.linkprotocol import login as lp
from cms.process.logs import Logger
from cms.xmpp.links import Link, Links
from cms.xmpp.loginrelay import LoginRelay
from cms.xmpp.remotesession import RemoteSession


class Decided:
    """The sessions of other nodes, for the Callbridges that are connected to this one."""

    log = Logger()

    def __init__(self, links: Links, relay: LoginRelay) -> None:
        self._links = links
        self._relay = relay
        self._begun: dict[RemoteSession, lp.SessionBegin] = {}
        relay.on_authority.append(self._replay)

    def began(self, remote: RemoteSession, since: str, told: lp.SessionBegin | None = None) -> None:
        """
        One is known.

        @param since: When it began, as RFC 3339 writes it.
        @param told: What its Callbridge knows of it already, since it was somewhere else.
        """
        begin = self._begun[remote] = told or lp.SessionBegin(
            remote.jid.full(), remote.peer_host, since
        )
        if told is None:
            self._tell(remote, begin)

    def take(self, remote: RemoteSession) -> lp.SessionBegin | None:
        """It goes on somewhere else: what its Callbridge knows of it."""
        return self._begun.pop(remote, None)

    def ended(self, remote: RemoteSession, reason: str) -> None:
        """It is over, or another one has its address."""
        begin = self._begun.pop(remote, None)
        if begin is not None:
            self._tell(remote, lp.SessionEnd(begin.jid, reason))

    def _tell(self, remote: RemoteSession, notice: lp.SessionBegin | lp.SessionEnd) -> None:
        link = self._links.own(remote.authority)
        if link is not None:
            self._relay.notify(link, notice)

    def _replay(self, link: Link) -> None:
        if self._links.own(link.component) is not link:
            return
        theirs = [each for each in self._begun if each.authority == link.component]

        def resumed() -> Iterator[lp.SessionBegin]:
            for remote in theirs:
                begin = self._begun.get(remote)
                if begin is not None:
                    yield lp.SessionBegin(begin.jid, begin.peer, begin.since, resumed=True)

        Deferred.fromCoroutine(self._relay.replay(link, resumed())).addErrback(
            lambda failure: self.log.failure("sessions were not repeated", failure)
        )
