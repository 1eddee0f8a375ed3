"""The life of client sessions: begin, presence, end, and the notices about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel

from cms.linkprotocol import login as lp
from cms.process.clocks import wall_clock
from cms.process.logs import Logger, wanted
from cms.signalflow import Step, counted
from cms.xmlstream.stanza import Stanza
from cms.xmpp.carbons import Carbons
from cms.xmpp.elsewhere import Others
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.links import Link, Links
from cms.xmpp.local import LocalServices
from cms.xmpp.loginrelay import LoginRelay, Refusal
from cms.xmpp.reconnecting import Reconnecting
from cms.xmpp.sessions import Session, Sessions


class SessionService:
    """
    Adds sessions to the table and removes them, and tells the Callbridge that decided the
    log-in.  When a Callbridge's link comes up again, it repeats the sessions that still exist.

    @ivar others: The other nodes, if there can be any.
    @ivar endings: Ends sessions for the Callbridge that decided their log-in.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        sessions: Sessions,
        links: Links,
        local: LocalServices,
        relay: LoginRelay,
        *,
        flow: ServerFlow,
        carbons: Carbons,
        reconnecting: Reconnecting,
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._links = links
        self._local = local
        self._carbons = carbons
        self._reconnecting = reconnecting
        self._relay = relay
        self._flow = flow
        self.others: Others | None = None
        self.endings = local.endings
        self._began: dict[Session, lp.SessionBegin] = {}
        self._authority: dict[Session, str] = {}
        relay.on_authority.append(self._replay)

    @property
    def has_contacts(self) -> bool:
        """Whether users have rosters."""
        return self._local.contacts is not None

    def began(self, session: Session) -> Deferred[None] | None:
        """
        A resource was bound; an older session of the same address, or guest, ends.

        @return: Fires when the other nodes know of it; C{None}: there can be none.
        """
        older = self._sessions.add(session)
        if older is not None:
            older.replace()
        if session.is_guest:
            for other in self._sessions.of(session.jid.userhost()):
                if other is not session:
                    other.replace()
        if session.jid.userhost() in self._carbons.enabled:
            self._carbons.began(session)
        if session.jid.userhost() in self._local.blocklists.users:
            session.set_guarded(True)
        begin = lp.SessionBegin(
            jid=session.jid.full(),
            peer=session.peer_host,
            since=datetime.fromtimestamp(wall_clock(self._clock)(), UTC).isoformat(),
        )
        self._began[session] = begin
        self._authority[session] = session.authority
        if wanted(LogLevel.info):
            self._log_begin(session)
        self._flow.logged_in(
            *(begin.jid, session.peer_text, session.authority, session.ids), guest=session.is_guest
        )
        self._tell(session.authority, begin)
        return None if self.others is None else self.others.began(session, begin.since)

    def _log_begin(self, session: Session) -> None:
        self.log.info(
            "{step_text}: {jid} logged in from {peer}, decided by {authority}",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            jid=session.jid.full(),
            peer=session.peer_text,
            authority=session.authority,
            **session.ids,
        )

    def left(self, session: Session) -> None:
        """The connection of a session is gone, and the session is kept."""
        self._reconnecting.left(session)

    def resumed(self, session: Session, away: float, again: int) -> None:
        """
        A session goes on over another connection (XEP-0198 5).

        @param away: Seconds that it had none.
        @param again: How many stanzas were sent again.
        """
        self._reconnecting.returned(session)
        jid = session.jid.full()
        self._flow.resumed(jid, session.peer_text, away, again)
        if wanted(LogLevel.info):
            self.log.info(
                "{step_text}: {jid} resumed its session from {peer} after {away:.1f} s without a"
                " connection, {again} sent again",
                step=int(Step.LOGIN),
                step_text=str(Step.LOGIN),
                jid=jid,
                peer=session.peer_text,
                away=away,
                again=counted(again, "stanza"),
                **session.ids,
            )

    def facts(self, session: Session) -> tuple[str, str]:
        """
        When a session began (RFC 3339), and which Callbridge decided its log-in.

        @raise KeyError: it has ended.
        """
        return self._began[session].since, self._authority[session]

    def ended(self, session: Session, reason: str) -> None:
        """
        A session is over.

        @param reason: For log and record; what is no word of docs/login-protocol.md, 4.2, such
            as C{disabled}, is told to others as C{closed}.
        """
        self._sessions.remove(session)
        self._carbons.ended(session)
        if session in self._reconnecting.shown:
            self._reconnecting.ended(session)
        begin = self._began.pop(session, None)
        if begin is None:
            return  # a fault of ours kept it from beginning: nobody knows of it
        jid = begin.jid
        del self._authority[session]
        if wanted(LogLevel.info):
            self.log.info(
                "{jid} is gone from {peer} ({reason})",
                jid=jid,
                peer=session.peer_text,
                reason=reason,
                **session.ids,
            )
        if reason != "shutdown":  # the record has other things to tell of a restart
            self._flow.ended(*(jid, session.peer_text, reason, session.ids), guest=session.is_guest)
        told = reason if reason in lp.REASONS else "closed"
        self._tell(session.authority, lp.SessionEnd(jid=jid, reason=told))
        self._local.over(session)
        if self.others is not None:
            self.others.ended(session, told)

    def rooms(self, session: Session) -> tuple[dict[str, bytes], list[str]]:
        """What it shows in rooms, and which of them know that it has no connection."""
        return self._reconnecting.shown.get(session, {}), self._reconnecting.told(session)

    def handed_over(self, session: Session) -> None:
        """It goes on at another node; nobody is told."""
        self._local.forget(session)
        self._sessions.remove(session)
        self._carbons.ended(session)
        self._reconnecting.ended(session)
        del self._began[session], self._authority[session]

    def adopted(
        self, session: Session, since: str, shown: dict[str, bytes], told: Sequence[str]
    ) -> None:
        """
        It goes on here, and had begun at another node; nobody is told.

        @param shown: See L{rooms}, as C{told}.
        """
        self._sessions.add(session)
        if session.jid.userhost() in self._carbons.enabled:
            self._carbons.began(session)
        jid = session.jid.full()
        self._began[session] = lp.SessionBegin(jid=jid, peer=session.peer_host, since=since)
        self._authority[session] = session.authority
        self._reconnecting.adopted(session, shown, told)
        if session.jid.userhost() in self._local.blocklists.users:
            session.set_guarded(True)

    def lists(self, session: Session) -> list[str]:
        """Of which lists it is told the changes, for another node."""
        return self._local.lists(session)

    def listens(self, session: Session, lists: Sequence[str]) -> None:
        """It is told those, as it was at another node."""
        self._local.listens(session, lists)

    def presence(self, session: Session, stanza: Stanza) -> None:
        """A client sent presence."""
        self._reconnecting.showed(session, stanza)
        self._local.client_presence(session, stanza)

    def refused(
        self,
        peer: str,
        refusal: Refusal,
        callbridge: str | None = None,
        ids: Mapping[str, str] = MappingProxyType({}),
        mechanism: str = "",
    ) -> None:
        """
        A log-in failed; log whose fault it was.

        @param ids: What ties the line to others.
        @param callbridge: Which refused it; C{None} when none was asked.
        @param mechanism: As the client named it.
        """
        fault = refusal.fault
        self._flow.login_failed(
            *(peer, refusal.condition, callbridge, fault),
            user=refusal.user,
            mechanism=mechanism,
            login=ids,
        )
        if fault is not None:
            self.log.warn(
                "log-in from {peer} failed: {step_text}: {cause} Cure: {cure}",
                peer=peer,
                **fault.fields,
                **ids,
            )
        else:
            self.log.info(
                "log-in{user} from {peer} refused ({condition}{text})",
                user=f" of {refusal.user}" if refusal.user else "",
                peer=peer,
                condition=refusal.condition,
                text=f": {refusal.text}" if refusal.text else "",
                step=int(Step.LOGIN),
                **ids,
            )

    def _tell(self, component: str, notice: lp.SessionBegin | lp.SessionEnd) -> None:
        link = self._links.own(component)  # of another node: that one tells it
        if link is not None:
            self._relay.notify(link, notice)

    def _replay(self, link: Link) -> None:
        if self._links.own(link.component) is not link:
            return
        owned = [s for s, component in self._authority.items() if component == link.component]

        def resumed() -> Iterator[lp.SessionBegin]:
            for session in owned:
                if session in self._began:  # it may have ended while others were told of
                    begin = self._began[session]
                    yield lp.SessionBegin(begin.jid, begin.peer, begin.since, resumed=True)

        Deferred.fromCoroutine(self._relay.replay(link, resumed())).addErrback(
            lambda failure: self.log.failure("sessions were not repeated", failure)
        )
