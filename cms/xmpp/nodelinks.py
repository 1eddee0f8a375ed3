"""
Components' links in a cluster: what the other nodes are told of this one's, and theirs as they
are entered here; and a link that goes to another node because its own is drained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cms.cluster.node import Node
from cms.cluster.peer import Peer
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmpp import announcements
from cms.xmpp import nodemessages as messages
from cms.xmpp.carbons import Carbons
from cms.xmpp.decided import Decided
from cms.xmpp.gate import Gate
from cms.xmpp.leavingparty import LeavingParty
from cms.xmpp.linkanswers import own_link
from cms.xmpp.links import Link, Links
from cms.xmpp.loginrelay import LoginRelay
from cms.xmpp.neighbour import Neighbour
from cms.xmpp.nodemessages import Facts, told
from cms.xmpp.ownsessions import OwnSessions
from cms.xmpp.remotelink import RemoteLink
from cms.xmpp.resumption import Resumptions
from cms.xmpp.router import Router
from cms.xmpp.sessions import Sessions
from cms.xmpp.telling import when_known
from cms.xmpp.undelivered import Undelivered

PASS_ON_SECONDS = 3.0  # that a node passes on what comes for a link that has moved
ORDER_SECONDS = 2.0  # at most, that stanzas wait for those that the node before passes on
ORDER_BYTES = 1024 * 1024  # at most, that wait so
AT_ONCE = 100  # stanzas that are passed on in one piece


class NodeLinks(OwnSessions):
    """
    Tells of links, and hears of them; L{Nodes<cms.xmpp.nodes.Nodes>} says to whom.

    @ivar node: This node; set before it starts.
    @ivar link_resumptions: Knows how much was handled of links that have ended; set before it
        starts.
    """

    log = Logger()
    node: Node
    link_resumptions: Resumptions

    def __init__(
        self,
        clock: IReactorTime,
        sessions: Sessions,
        links: Links,
        router: Router,
        relay: LoginRelay,
        *,
        carbons: Carbons,
    ) -> None:
        super().__init__(sessions, router, carbons, Decided(links, relay))
        self._clock = clock
        self._links = links
        self._relay = relay
        self._undelivered = Undelivered(
            clock, partial(router.give_back, condition="remote-server-timeout")
        )
        self._neighbours: dict[Peer, Neighbour] = {}
        self._coming: dict[str, RemoteLink] = {}  # at other nodes, that come here
        self._passing: dict[str, Deferred[None]] = {}  # by the id of the link before
        self._handlers: dict[int, Callable[[Neighbour, str, Facts], object]] = {
            messages.LINK: self._link,
            messages.LINK_END: self._link_end,
            messages.END_LINK: self._end_link,
            messages.LEFT: self._left,
        }
        links.on_up.append(self._link_up)
        links.on_down.append(self._link_down)
        for changes in (relay.on_authority, links.on_away, links.on_back, links.on_quiet):
            changes.append(self._link_decides)

    # this node's

    def _link_up(self, link: Link) -> None:
        before = self._coming.pop(link.component, None)
        name = link.component.encode()
        waits = before is not None and not before.is_gone
        self._receivers[name] = self._after(link, before) if before and waits else link
        self._tell(lambda: announcements.link_named(link))

    def _link_down(self, link: Link) -> None:
        if self._receivers.pop(link.component.encode(), None) is not None:
            self._tell(lambda: self._ended(link))
            self._freed(link.component)

    def _ended(self, link: Link) -> bytes:
        return told(messages.LINK_END, link.component, id=link.link_id)

    def _link_decides(self, link: Link) -> None:
        if self._links.own(link.component) is link:
            self._tell(lambda: announcements.link_named(link))

    # theirs

    def _link(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        neighbour.peer.acknowledge()  # its component may wait
        link_id, since = facts.text("id"), facts.number("since")
        link = neighbour.links.get(name)
        if link is None or link.link_id != link_id:
            if link is not None:
                self._forget_link(neighbour, link)
            holder = self._links.get(name)
            if not self._leaves_free(holder, neighbour, since):
                neighbour.refused.add(name)
                return
            link = RemoteLink(
                neighbour.peer,
                name,
                self._undelivered.add,
                neighbour.questions,
                since=since,
                link_id=link_id,
                address=facts.text("address"),
            )
            link.forget = partial(self._forget_link, neighbour)
            neighbour.links[name] = link
            if holder is not None and _has_left(holder):
                self._pass_on(holder, link)
            elif isinstance(holder, RemoteLink) and holder.leaves:
                self._after(link, holder)
            self._links.up_elsewhere(link)
        link.told = True
        before, link.mechanisms = link.mechanisms, facts.texts("mechanisms")
        link.admits, link.leaves = facts.flag("admits"), facts.says("leaves")
        link.knows_people = facts.says("people")
        if link.mechanisms not in ((), before):
            call_all(self.log, self._relay.on_authority, link)

    def _leaves_free(self, holder: Link | None, neighbour: Neighbour, since: float) -> bool:
        """Whether the address has no link that is older, which stays; the newer one ends."""
        if holder is None or _has_left(holder):
            return True
        where = (
            holder.peer.member.name if isinstance(holder, RemoteLink) else self.node.settings.name
        )
        older = (holder.since, where) < (since, neighbour.peer.member.name)
        if older and not holder.leaves:
            return False
        if isinstance(holder, RemoteLink):
            self._links.down_elsewhere(holder)
            self._router.forget(holder)
        else:
            holder.replace()
        return True

    def _forget_link(self, neighbour: Neighbour, link: RemoteLink) -> None:
        if neighbour.links.get(link.component) is link:
            del neighbour.links[link.component]
        if link.leaves and self._links.get(link.component) is link:
            self._coming[link.component] = link
        self._links.down_elsewhere(link)
        self._router.forget(link)
        neighbour.questions.lost(link.component)
        self._freed(link.component)

    def _link_end(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        neighbour.refused.discard(name)
        link_id = facts.text("id")
        link = neighbour.links.get(name)
        if link is not None and link.link_id == link_id:
            self._forget_link(neighbour, link)
        if name in self._coming and self._coming[name].link_id == link_id:
            del self._coming[name]
        passed = self._passing.pop(link_id, None)
        if passed is not None:
            passed.callback(None)

    def _end_link(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        link = own_link(self._links, name)
        if link is not None and link.link_id == facts.text("id") and not _has_left(link):
            link.replace()

    # those of a node that is drained, docs/design/drain.md

    def left(self, link: LeavingParty, component: str) -> Deferred[None]:
        """
        This node hears a link no more: its component goes to another one.

        @return: Fires when the others know how much of it was handled, and what that was for
            has reached them, or after a second.
        """
        handled = 0 if link.ledger is None else link.ledger.handled
        self._tell(lambda: told(messages.LEFT, component, previd=link.previd, handled=handled))
        return self.known()

    def _left(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        neighbour.peer.acknowledge()  # it waits
        self.link_resumptions.note(facts.text("previd"), name, facts.whole("handled"))

    def _pass_on(self, link: Link, to: RemoteLink) -> None:
        """
        A link of this node is at another one now: that one gets what waits, and what still
        comes; then the others hear that this is done.
        """
        assert isinstance(link, LeavingParty)  # noqa: S101 - it has left
        name, ended = to.component.encode(), self._ended(link)
        del self._receivers[name]  # nobody is told yet
        waiting: dict[str, list[bytes]] = {}
        for raw in link.moved():
            waiting.setdefault(of_bytes(raw).sender or "", []).append(raw)
        waiting.pop(self._router.domain, None)  # nobody waits for an answer to these
        for sender, raws in waiting.items():
            source = self._source(sender)
            for at in range(0, len(raws), AT_ONCE):
                self._undelivered.add(to.deliver(raws[at : at + AT_ONCE], source))
        self._receivers[name] = to

        def tell(_: object) -> None:
            self._tell(lambda: ended)

        when_known(self._clock, [to.peer]).addCallback(tell)

        def done() -> None:
            if self._receivers.get(name) is to:
                del self._receivers[name]

        self._clock.callLater(PASS_ON_SECONDS, done)

    def _source(self, sender: str) -> object:
        """The lane of a sender."""
        try:
            found = self._sessions.find(parse_jid(sender))
        except MalformedJID:
            found = None
        if found is not None and not self._sessions.is_elsewhere(found):
            return found
        return (None, sender.encode())

    def _after(self, link: Link, before: RemoteLink) -> Gate:
        """What this node has for a link waits for what the node before it passes on."""
        passed: Deferred[None] = Deferred()
        timer = self._clock.callLater(ORDER_SECONDS, self._passed, before.link_id)
        self._passing[before.link_id] = passed

        def then(_: object) -> Deferred[None]:
            if timer.active():
                timer.cancel()
            return when_known(self._clock, [before.peer])

        return Gate(link, passed.addCallback(then), self._undelivered.add, most=ORDER_BYTES)

    def _passed(self, link_id: str) -> None:
        passed = self._passing.pop(link_id, None)
        if passed is not None:
            passed.callback(None)


def _has_left(link: Link) -> bool:
    """Whether it is only kept here until its component is at another node."""
    return isinstance(link, LeavingParty) and link.leaves and link.is_away
