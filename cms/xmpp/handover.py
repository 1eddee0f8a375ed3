"""
Sessions that go on at another node: when their client resumes there, or this node is drained.

The node that has a session gives it away whole, in one message, and from then on passes on what
still comes for it.  It keeps it until the other one has it, and takes it back if that one is
gone.  docs/design/cluster.md has the reasons.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from cms.cluster.peer import Peer
from cms.process.logs import Logger
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.management import Ledger
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmpp import nodemessages as messages
from cms.xmpp.announcements import Ours
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.gate import let_out
from cms.xmpp.handedsession import HandedSession, read_handed
from cms.xmpp.nodemessages import Facts, told
from cms.xmpp.remotelink import Questions
from cms.xmpp.remotesession import RemoteSession
from cms.xmpp.sessions import Session

FETCH_SECONDS = 5.0  # for a node to hand over what a client asks for
PASS_ON_SECONDS = 3.0  # after which the others know where it is now
MOST_REMEMBERED = 10_000  # sessions that have gone elsewhere: where
MOST_HOPS = 4  # nodes that are asked for one session


class Book(Protocol):
    """The sessions of this node and the others', which L{Nodes<cms.xmpp.nodes.Nodes>} keeps."""

    def ours(self, session: Session) -> Ours | None:
        """This node's entry of it."""
        ...

    def moved(self, ours: Ours, remote: RemoteSession) -> None:
        """It is at another node now; what comes for it is passed on to that."""
        ...

    def settled(self, ours: Ours, remote: RemoteSession) -> None:
        """The others know that."""
        ...

    def came(self, session: Session, since: str, stamp: int) -> None:
        """It goes on here: who finds it at another node forgets that."""
        ...

    def make_room(self, session: Session) -> None:
        """Forget silently what another node had of this address."""
        ...

    def keep_order(self, session: Session, peer: Peer) -> None:
        """What this node has for it waits for what it has sent to it at that node before."""
        ...

    def all_said(self) -> Deferred[None]:
        """
        Fires when the other nodes have got all that this one's clients have said until now, or
        after C{ORDER_SECONDS}.
        """
        ...

    def questions(self, peer: Peer) -> Questions:
        """What that node is asked."""
        ...

    def peer_named(self, name: str) -> Peer | None:
        """The node of this name."""
        ...


@define(eq=False)
class _Move:
    """One that was given away, until the other node has it."""

    handed: HandedSession
    ours: Ours
    remote: RemoteSession
    cut: Callable[[], object]


class Handover:
    """
    Gives sessions away, and takes them.

    @ivar policy: Of this node's clients; set before it starts.
    @ivar given: How many the others have got.
    @ivar taken: How many came from others.
    @ivar back: Those that were taken back from a node just now: what was passed on to it is theirs.
    """

    log = Logger()
    policy: ClientPolicy

    def __init__(
        self,
        clock: IReactorTime,
        book: Book,
        give_back: Callable[[Sequence[bytes]], object],
    ) -> None:
        self.given = self.taken = 0
        self.returned = self.unanswered = 0
        self._clock = clock
        self._book = book
        self._give_back = give_back
        self.back: dict[bytes, Peer] = {}
        self._moves: dict[str, _Move] = {}
        self._leaving: set[ClientSession] = set()
        self._burdens: Counter[Peer] = Counter()
        self._gone: OrderedDict[str, tuple[str, str]] = OrderedDict()  # account and node, by id

    def __len__(self) -> int:
        """How many are on their way."""
        return len(self._moves)

    @property
    def results(self) -> Mapping[str, int]:
        """What became of them: docs/metrics.md."""
        return {
            "given": self.given,
            "taken": self.taken,
            "returned": self.returned,
            "unanswered": self.unanswered,
        }

    def burden(self, peer: Peer) -> int:
        """How many are on their way to that node, or will be."""
        return self._burdens[peer]

    def may_leave(self, session: ClientSession) -> bool:
        """Whether its client can resume it, and it is not about to leave already."""
        return session not in self._leaving and session.previd is not None and session.is_open

    # giving

    def send_away(
        self, session: ClientSession, peer: Peer, gone: Callable[[], object] = lambda: None
    ) -> None:
        """
        Let it go on at that node, see L{give}, as soon as it may; it L{may_leave}.

        @param gone: Called when it is on its way.
        """
        self._leaving.add(session)
        self._burdens[peer] += 1

        def give() -> bool:
            self._leaving.remove(session)
            self._burdens[peer] -= 1
            goes = not peer.is_over and self.give(session, peer)
            if goes:
                gone()
            return goes

        self._when_said(session, give)

    def _when_said(self, session: object, give: Callable[[], bool]) -> None:
        """
        Give a session away when the other nodes have got what its client has said, or soon
        (L{ORDER_SECONDS<cms.xmpp.telling.ORDER_SECONDS>}): what it says at the next one must not
        overtake that.
        """
        wire = session.wire if isinstance(session, ClientSession) else None
        if wire is not None:
            wire.stand_still()  # its client will say it again

        def go(_: object) -> None:
            if not give() and wire is not None:
                wire.go_on()

        self._book.all_said().addCallback(go)

    def give(self, session: ClientSession, peer: Peer) -> bool:
        """
        Let it go on at that node; the others should have got what its client has said.

        @return: Whether it can: its client must be able to resume it.
        """
        ours, previd, ledger = self._book.ours(session), session.previd, session.ledger
        if ours is None or previd is None or ledger is None or not session.is_open:
            return False
        policy = self.policy
        let_out(session)
        session.indicate(inactive=False)  # what it held back goes along
        since, authority = policy.service.facts(session)
        sent = list(ledger.waiting())
        rooms, reconnecting = policy.service.rooms(session)
        copied = session in policy.router.carbons.enabled.get(session.jid.userhost(), ())
        handed = HandedSession(
            previd=previd,
            jid=session.jid.full(),
            stamp=ours.stamp,
            since=since,
            authority=authority,
            host=session.peer_host,
            language=session.language or "",
            guest=session.is_guest,
            presence="" if session.presence is None else session.presence.raw.decode(),
            priority=session.priority,
            directed=sorted(session.directed),
            rooms={to: raw.decode() for to, raw in rooms.items()},
            reconnecting=reconnecting,
            copied=copied,
            lists=policy.service.lists(session),
            handled=ledger.handled,
            acknowledged=ledger.acknowledged,
            sent=sent,
            waiting=session.take_stanzas()[len(sent) :],
        )
        remote = RemoteSession(
            *(peer, session.jid, self._give_back),
            number=0,
            stamp=ours.stamp,
            authority=authority,
            host=session.peer_host,
            guest=session.is_guest,
        )
        remote.presence, remote.priority = session.presence, session.priority
        remote.directed = set(session.directed)
        cut = session.hand_over()
        policy.service.handed_over(session)
        self._book.moved(ours, remote)
        if copied:
            policy.router.carbons.enable(remote)
        self._moves[previd] = _Move(handed, ours, remote, cut)
        self._burdens[peer] += 1
        self._remember(previd, session.jid.userhost(), peer.member.name)
        peer.party.write(handed.to_message())
        return True

    def _remember(self, previd: str, account: str, node: str) -> None:
        self._gone[previd] = account, node
        self._gone.move_to_end(previd)
        if len(self._gone) > MOST_REMEMBERED:
            self._gone.popitem(last=False)

    def _arrived(self, move: _Move) -> None:
        """There, or back here."""
        del self._moves[move.handed.previd]
        self._burdens[move.remote.peer] -= 1

    def has_it(self, peer: Peer, facts: Facts) -> None:
        """The other node has it: its client may look for it."""
        move = self._moves.get(facts.text("previd"))
        if move is None or move.remote.peer is not peer:
            return
        self._arrived(move)
        self.given += 1
        self.log.info("{jid} was handed over to {node}", jid=move.handed.jid, node=peer.member.name)
        move.cut()
        self._clock.callLater(PASS_ON_SECONDS, self._book.settled, move.ours, move.remote)

    def lost(self, peer: Peer, jid: str | None = None) -> None:
        """The other node is gone, or perhaps has not got it: it stays here."""
        for move in list(self._moves.values()):
            if move.remote.peer is peer and jid in (None, move.handed.jid):
                self._arrived(move)
                self.returned += 1
                move.cut()
                if self._adopt(move.handed, None):
                    name = move.handed.jid.encode()
                    self.back[name] = peer
                    self._clock.callLater(0, self.back.pop, name, None)

    # taking

    def arrived(self, peer: Peer, body: memoryview) -> None:
        """
        A node gives one away.

        @raise Unreadable: it is none.
        """
        handed = read_handed(body)
        peer.party.write(told(messages.HAS_IT, handed.jid, previd=handed.previd))
        if self._adopt(handed, peer):
            self.taken += 1
            self.log.info("{jid} was handed over by {node}", jid=handed.jid, node=peer.member.name)

    def _adopt(self, handed: HandedSession, before: Peer | None) -> bool:
        policy = self.policy
        try:
            jid = parse_jid(handed.jid)
        except MalformedJID:
            return False
        own = policy.sessions.find(jid)
        if own is not None and not policy.sessions.is_elsewhere(own):
            policy.undelivered.add(handed.undelivered)  # it was bound anew here
            return False
        session = ClientSession(
            *(policy, jid),
            authority=handed.authority,
            language=handed.language or None,
            ids={},
            is_guest=handed.guest,
        )
        if handed.presence:
            session.presence = of_bytes(handed.presence.encode())
        session.priority, session.directed = handed.priority, set(handed.directed)
        self._book.make_room(session)
        # What was not sent yet comes before all that follows: as if it had been.
        ledger = Ledger.continued(handed.handled, handed.acknowledged, handed.undelivered)
        session.adopt(handed.previd, ledger, handed.host)
        rooms = {to: raw.encode() for to, raw in handed.rooms.items()}
        policy.service.adopted(session, handed.since, rooms, handed.reconnecting)
        policy.service.listens(session, handed.lists)
        if handed.copied:
            policy.router.carbons.enable(session)
        self._gone.pop(handed.previd, None)
        self._book.came(session, handed.since, handed.stamp + 1)
        if before is not None:
            self._book.keep_order(session, before)
        return True

    # asking

    def fetch(self, previd: str, account: str) -> Deferred[int | None]:
        """
        Have a session handed over that a client of this node wants to resume.

        @return: Fires when it is here, or is not to be had: then with how many stanzas it has
            handled, if that is known.
        """
        return Deferred.fromCoroutine(self._fetch(previd, account))

    async def _fetch(self, previd: str, account: str) -> int | None:
        known = (s for s in self.policy.sessions.of(account) if isinstance(s, RemoteSession))
        peers = {session.peer: None for session in known}
        handled = None
        for _ in range(MOST_HOPS):
            owner, node = self._gone.get(previd, ("", ""))
            named = self._book.peer_named(node) if owner == account else None
            if named is not None and not peers:
                peers = {named: None}
            if not peers:
                return handled
            peer = next(iter(peers))
            del peers[peer]
            asked = self._book.questions(peer).ask(
                messages.TAKE, account, FETCH_SECONDS, previd=previd
            )
            try:
                answer = await asked
            except (DeferredTimeout, RequestLost, TooManyRequests):
                self.unanswered += 1
                continue
            if answer.flag("given"):
                return None
            if answer.whole("handled") >= 0:
                handled = answer.whole("handled")
            at = self._book.peer_named(answer.text("at"))
            if at is not None:
                peers = {at: None, **peers}
        return handled

    def asked(self, peer: Peer, account: str, facts: Facts) -> None:
        """Another node wants one whose client has come there; it waits for L{FETCH_SECONDS}."""
        session = self.policy.resumptions.find(facts.text("previd"), account)
        self._when_said(
            session, lambda: not peer.is_over and self._give_asked(peer, account, facts)
        )

    def _give_asked(self, peer: Peer, account: str, facts: Facts) -> bool:
        previd, resumptions = facts.text("previd"), self.policy.resumptions
        session = resumptions.find(previd, account)
        given = isinstance(session, ClientSession) and self.give(session, peer)
        owner, node = self._gone.get(previd, ("", ""))
        on_its_way = owner == account and node == peer.member.name
        handled = resumptions.handled(previd, account)
        peer.party.write(
            told(
                messages.ANSWER,
                "",
                number=facts.whole("number"),
                given=given or on_its_way,
                at=node if owner == account and not on_its_way else "",
                handled=-1 if handled is None else handled,
            )
        )
        return given
