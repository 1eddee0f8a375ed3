"""
The other nodes of the cluster: they are told of this one's sessions and links, and theirs are
entered where this one looks for its own (docs/design/cluster.md).

Each node writes only of what it has itself.  The node of a sender decides who gets a stanza;
the others only deliver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.words.protocols.jabber.jid import JID

from cms.cluster.entries import Unreadable, message, read_messages
from cms.cluster.peer import Peer
from cms.process.logs import Logger
from cms.xmlstream.flow import Party
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmpp import announcements
from cms.xmpp import nodemessages as messages
from cms.xmpp.brakes import Brake, Lane, Writers
from cms.xmpp.carbons import Carbons
from cms.xmpp.contacts.blocking import Blocking
from cms.xmpp.contacts.replicas import Replicas
from cms.xmpp.endings import Endings
from cms.xmpp.gate import Gate, let_out
from cms.xmpp.handover import Handover
from cms.xmpp.learning import Learning
from cms.xmpp.linkanswers import LinkAnswers
from cms.xmpp.links import Links
from cms.xmpp.loginrelay import LoginRelay
from cms.xmpp.neighbour import Neighbour
from cms.xmpp.nodelinks import NodeLinks
from cms.xmpp.nodemessages import Facts, told
from cms.xmpp.remotelink import Questions
from cms.xmpp.remotesession import Remote, RemoteSession
from cms.xmpp.router import Router
from cms.xmpp.sessions import Session, Sessions
from cms.xmpp.telling import ORDER_SECONDS, Telling, when_known
from cms.xmpp.vanishing import Vanishing


class Nodes(NodeLinks):
    """
    Implements L{Others<cms.xmpp.elsewhere.Others>} and
    L{Neighbourhood<cms.cluster.node.Neighbourhood>}.

    @ivar contacts: The users' contacts, if they have any.
    @ivar drains: Whether this node is drained.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        sessions: Sessions,
        links: Links,
        router: Router,
        relay: LoginRelay,
        *,
        carbons: Carbons,
        endings: Endings,
    ) -> None:
        super().__init__(clock, sessions, links, router, relay, carbons=carbons)
        self._endings = endings
        self._answers = LinkAnswers(links)
        self.learning = Learning(clock, self)
        self.handover = Handover(clock, self, self._undelivered.add)
        self._vanishing = Vanishing(
            clock, sessions, self._receivers, partial(self._forget_session, reason="lost")
        )
        self.contacts: Replicas | None = None
        self.drains = False
        self._handlers |= {
            messages.SESSION: self._session,
            messages.SESSION_END: self._session_end,
            messages.PRESENCE: self._presence,
            messages.DIRECTED: self._directed,
            messages.COPIES: self._copies,
            messages.END_SESSION: self._end_session,
            messages.ASK: lambda neighbour, *told: self._answers.ask(neighbour.peer, *told),
            messages.PROBE: lambda neighbour, *told: self._answers.probe(neighbour.peer, *told),
            messages.ANSWER: lambda neighbour, _, facts: neighbour.questions.answered(facts),
            messages.TAKE: lambda neighbour, *told: self.handover.asked(neighbour.peer, *told),
            messages.HAS_IT: lambda neighbour, _, facts: self.handover.has_it(
                neighbour.peer, facts
            ),
            messages.AGAIN: lambda neighbour, *_: neighbour.telling.begin(),
            messages.BEGIN: self._begin,
            messages.ALL: self._all,
            messages.HOLD: self._hold,
            messages.STATE: self._state_told,
        }

    def share(self, blocking: Blocking) -> None:
        """Users have contacts, which all nodes have."""
        replicas = self.contacts = Replicas(blocking, self._tell)
        self._vanishing.audience = blocking.contacts.audience
        self._handlers[messages.ROWS] = lambda _, __, facts: replicas.taken(facts)
        self._handlers[messages.DIGESTS] = lambda it, _, facts: replicas.compare(it.peer, facts)

    @property
    def is_learning(self) -> bool:
        """Whether a node that is there has not told all that it has."""
        return not all(self._neighbour(peer).has_told for peer in self.node.peers.values())

    def held(self, peer: Peer) -> tuple[int, int, int]:
        """How many sessions and links another node has, and how many of these decide log-ins."""
        return self._neighbour(peer).counts

    # draining, docs/design/drain.md

    def set_draining(self, on: bool) -> None:
        """Tell the other nodes that this one is drained, or not any more."""
        self.drains = on
        self._tell(self._state)

    def _state(self) -> bytes:
        return told(messages.STATE, "", drains=self.drains)

    def _state_told(self, neighbour: Neighbour, _: str, facts: Facts) -> None:
        neighbour.drains = facts.flag("drains")

    def takers(self) -> Iterator[Neighbour]:
        """The nodes that take what this one has."""
        if self.node.is_open:
            yield from [each for each in self._neighbours.values() if each.takes]

    def is_draining(self, peer: Peer) -> bool:
        """Whether another node is drained."""
        return self._neighbour(peer).drains

    @property
    def is_settled(self) -> bool:
        """Whether nothing of this node is on its way, or is passed on by it."""
        waits = any(peer.kept_bytes for peer in self.node.peers.values() if peer.is_ready)
        return not (waits or self._receivers or len(self.handover))

    # what this node has: Others

    def _now(self) -> float:
        return self.node.now()

    def _known(self) -> Deferred[None]:
        return when_known(self._clock, [each.peer for each in self._neighbours.values()])

    def all_said(self) -> Deferred[None]:
        """See L{Book<cms.xmpp.handover.Book>}."""
        peers = [each.peer for each in self._neighbours.values()]
        return when_known(self._clock, peers, ORDER_SECONDS)

    def end_user(self, component: str, address: str, reason: str) -> None:
        """See L{Others<cms.xmpp.elsewhere.Others>}; an older node finds no session 0."""
        end = told(messages.END_SESSION, address, number=0, why=reason, authority=component)
        for neighbour in self._neighbours.values():
            neighbour.telling.insist(end)

    # sessions that are handed over: Book

    def make_room(self, session: Session) -> None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        holder = self._sessions.find(session.jid)
        if isinstance(holder, RemoteSession):
            let_out(holder)
            self._decided.take(holder)
            self._forget_session(holder, "replaced")

    def keep_order(self, session: Session, peer: Peer) -> None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        known = when_known(self._clock, [peer], ORDER_SECONDS)
        gate = Gate(session, known, self._undelivered.add)
        self._receivers[session.jid.full().encode()] = gate

    def questions(self, peer: Peer) -> Questions:
        """See L{Book<cms.xmpp.handover.Book>}."""
        return self._neighbour(peer).questions

    def peer_named(self, name: str) -> Peer | None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        return self.node.peers.get(name)

    def _tell(self, make: Callable[[], bytes], *, later: bool = False) -> None:
        knowing = [each for each in self._neighbours.values() if each.telling.knows]
        if knowing:
            change = make()
            for neighbour in knowing:
                tell = neighbour.telling.tell_later if later else neighbour.telling.tell
                tell(change)

    def _everything(self, writers: Writers) -> Iterator[bytes]:
        yield told(messages.BEGIN, "")
        yield self._state()
        for link in self._links:
            yield announcements.link_named(link)
        for ours in list(self._ours.values()):
            if self._ours.get(ours.session.jid.full()) is ours:
                yield from self._all_of(ours)
        yield from writers.told()
        yield told(messages.ALL, "")

    # the cluster: Neighbourhood

    def _neighbour(self, peer: Peer) -> Neighbour:
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            clock, window = self._clock, self.node.settings.peers.window
            writers = Writers(clock, peer, window)
            telling = Telling(clock, peer, partial(self._everything, writers))
            own = Questions(clock, peer), telling, writers, Brake(clock)
            neighbour = self._neighbours[peer] = Neighbour(peer, *own)
        return neighbour

    def tell(self, peer: Peer) -> None:
        """A node knows nothing of this one: tell it all."""
        self._neighbour(peer).telling.begin()

    def arrived(self, peer: Peer, data: bytes | memoryview) -> None:
        """Messages of a node, in their order."""
        neighbour = self._neighbour(peer)
        for kind, name, body in read_messages(data):
            try:
                if kind == messages.DELIVER:
                    self._deliver(neighbour, name, body)
                    continue
                if kind == messages.HANDED:
                    self.handover.arrived(peer, body)
                    continue
                handler = self._handlers.get(kind)
                if handler is not None:  # a newer version may say more
                    handler(neighbour, name.decode(), Facts(body))
            except UnicodeDecodeError as problem:
                raise Unreadable(repr(problem)) from None
            except Unreadable:
                raise
            except Exception:  # noqa: BLE001 - what follows it must be taken as well
                self.log.failure("unexpected error in what {node} says", node=peer.member.name)

    def handed_back(self, peer: Peer, entries: Sequence[bytes]) -> None:
        """
        What a node did not get is answered with errors, but for what was passed on to it for a
        session that is here again.
        """
        neighbour = self._neighbours.get(peer)
        for data in entries:
            for kind, name, body in read_messages(data):
                if kind == messages.DELIVER:
                    raws: Sequence[bytes] = messages.delivered(body)[1]
                    if self.handover.back.get(name) is peer:
                        raws = self._receivers[name].deliver(raws, None)
                    self._undelivered.add(raws)
                elif neighbour is not None and kind == messages.END_SESSION:
                    neighbour.telling.insist(message(kind, name, bytes(body)))
                elif kind == messages.HANDED:
                    self.handover.lost(peer, name.decode())
                elif neighbour is not None and kind in messages.QUESTIONS:
                    neighbour.questions.lost(name.decode())

    def gone(self, peer: Peer) -> None:
        """A node is dead, or has left: what it had has ended."""
        neighbour = self._neighbours.pop(peer, None)
        if neighbour is None:
            return
        neighbour.telling.stop()
        neighbour.writers.stop()
        neighbour.brake.release_all()
        for link in list(neighbour.links.values()):
            self._forget_link(neighbour, link)
        neighbour.questions.lost()
        self.handover.lost(peer)
        self._vanishing.add(neighbour.sessions.values())

    # their sessions

    def _session(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        neighbour.peer.acknowledge()  # its client waits
        number, stamp = facts.whole("number"), facts.whole("stamp")
        # So that what is bound here from now on is newer, whatever the engine's clock says then.
        self._last_stamp = max(self._last_stamp, stamp)
        known = self._of(neighbour, name, facts)
        if known is not None:
            if not known.told:  # what it has follows
                known.told, known.presence = True, None
                known.directed.clear()
                self._carbons.disable(known)
            return
        try:
            jid = parse_jid(name)
        except MalformedJID as problem:
            raise Unreadable(str(problem)) from None
        holder = self._sessions.find(jid)
        begun = before = None
        if facts.says("moved") and isinstance(holder, RemoteSession) and holder.stamp < stamp:
            let_out(holder)
            begun, before = self._decided.take(holder), holder.peer
        if not self._yields(neighbour, jid, stamp):
            neighbour.refused.add(name)
            return
        remote = RemoteSession(
            neighbour.peer,
            jid,
            self._undelivered.add,
            number=number,
            stamp=stamp,
            authority=facts.text("authority"),
            host=facts.text("host"),
            guest=facts.flag("guest"),
        )
        remote.forget = self._router.forget
        remote.on_replaced = partial(self._forget_session, reason="replaced")
        if before is not None and before is not neighbour.peer:
            passed = when_known(self._clock, [before], ORDER_SECONDS)
            Gate(remote, passed, self._undelivered.add)
        neighbour.sessions[name] = remote
        self._sessions.add(remote, elsewhere=True)
        if jid.userhost() in self._carbons.enabled:
            self._carbons.began(remote)
        self._decided.began(remote, facts.text("since"), begun)

    def _yields(self, neighbour: Neighbour, jid: JID, stamp: int) -> bool:
        """Whether nobody holds this address who has bound it later; who holds it ends."""
        holder = self._sessions.find(jid)
        if holder is None:
            return True
        theirs = stamp, neighbour.peer.member.name
        if isinstance(holder, RemoteSession):
            if (holder.stamp, holder.peer.member.name) > theirs:
                return False
            self._forget_session(holder, "replaced")  # its node ends it
            return True
        ours = self._ours.get(jid.full())
        if ours is not None and (ours.stamp, self.node.settings.name) > theirs:
            return False
        holder.replace()
        return True

    def _forget_session(self, remote: RemoteSession, reason: str) -> None:
        neighbour = self._neighbours.get(remote.peer)
        full = remote.jid.full()
        if neighbour is not None and neighbour.sessions.get(full) is remote:
            del neighbour.sessions[full]
        self._sessions.remove(remote)
        self._carbons.disable(remote)
        self._router.forget(remote)
        self._decided.ended(remote, reason)
        self._freed(full)

    def _freed(self, name: str) -> None:
        """
        Nobody holds an address now.  A node to which it was refused has it perhaps: it did not
        know of the holder, which was at a third that it holds for dead.
        """
        for neighbour in self._neighbours.values():
            if name in neighbour.refused:
                neighbour.refused.discard(name)
                neighbour.peer.party.write(told(messages.AGAIN, ""))

    def _of(self, neighbour: Neighbour, name: str, facts: Facts) -> RemoteSession | None:
        remote = neighbour.sessions.get(name)
        return remote if remote is not None and remote.number == facts.whole("number") else None

    def _session_end(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        neighbour.refused.discard(name)
        remote = self._of(neighbour, name, facts)
        if remote is not None and facts.says("moved"):
            self._vanishing.add([remote])  # nobody has told where it went to
        elif remote is not None:
            self._forget_session(remote, facts.text("reason"))

    def _presence(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        remote = self._of(neighbour, name, facts)
        if remote is not None:
            raw = facts.text("stanza").encode()
            remote.presence = of_bytes(raw) if raw else None
            remote.priority = facts.whole("priority")

    def _directed(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        remote = self._of(neighbour, name, facts)
        if remote is not None:
            change = remote.directed.add if facts.flag("on") else remote.directed.discard
            change(facts.text("to"))

    def _copies(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        remote = self._of(neighbour, name, facts)
        if remote is not None:
            switch = self._carbons.enable if facts.flag("on") else self._carbons.disable
            switch(remote)

    def _end_session(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        ours, number, why = self._ours.get(name), facts.whole("number"), facts.text("why")
        if ours is not None and ours.number == number:
            ours.session.end(why)
        elif not number:
            self._endings.end(facts.text("authority"), name, why)

    def _hold(self, neighbour: Neighbour, name: str, facts: Facts) -> None:
        """A receiver there reads too slowly what this client writes, or reads again."""
        ours = self._ours.get(name)
        if ours is not None and isinstance(ours.session, Party):
            change = neighbour.brake.hold if facts.flag("on") else neighbour.brake.release
            change(ours.session)

    def _begin(self, neighbour: Neighbour, _: str, facts: Facts) -> None:
        """It begins to tell all that it has."""
        neighbour.refused.clear()
        neighbour.brake.release_all()
        remotes: tuple[Remote, ...] = (*neighbour.sessions.values(), *neighbour.links.values())
        for remote in remotes:
            remote.told = False

    def _all(self, neighbour: Neighbour, _: str, facts: Facts) -> None:
        """It has told all: what it did not name has ended meanwhile."""
        neighbour.has_told = True
        self.learning.look()
        if self.contacts is not None:
            self.contacts.tell(neighbour.peer)  # it may have left out changes
        for link in [link for link in neighbour.links.values() if not link.told]:
            self._forget_link(neighbour, link)
        self._vanishing.add([each for each in neighbour.sessions.values() if not each.told])

    def _deliver(self, neighbour: Neighbour, name: bytes, body: memoryview) -> None:
        raws: Sequence[bytes]
        source, raws = messages.delivered(body)
        receiver = self._receivers.get(name)
        if receiver is None:
            for raw in raws:
                self._router.bounce(of_bytes(raw), "service-unavailable")
            return
        blocking = self._router.blocklists.users
        if blocking and (user := name.partition(b"/")[0].decode()) in blocking:
            # That node may not know yet whom he has blocked.
            raws = [raw for raw in raws if not self._router.keeps_out(of_bytes(raw), user)]
        for raw in receiver.deliver(raws, Lane((neighbour.writers, source))):
            self._router.refuse(of_bytes(raw))
