"""What the API and the pages of an XMPP server show and do of its clients."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from twisted.internet.task import deferLater
from twisted.words.protocols.jabber.jid import JID

from cms.admin.interfaces import Facts, Page, Selection, moment
from cms.process.clocks import wall_clock
from cms.process.logs import Logger
from cms.signalflow import counted
from cms.web.refusal import Refused, wrong
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmpp.config import XmppConfig
from cms.xmpp.resumption import Resumable
from cms.xmpp.sessions import Session, Sessions
from cms.xmpp.sessionservice import SessionService

AT_ONCE = 500  # sessions that are examined, or written to, in one turn of the reactor
EVERYBODY = "all"


class ClientAdministration:
    """
    Implements L{cms.admin.interfaces.Clients}.

    Sessions at other servers of the cluster are among them; what only their own server knows
    is left out.
    """

    log = Logger()

    def __init__(
        self, config: XmppConfig, sessions: Sessions, service: SessionService, reactor: Any
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._service = service
        self._reactor = reactor
        self._ids: WeakKeyDictionary[Session, str] = WeakKeyDictionary()
        self._by_id: WeakValueDictionary[str, Session] = WeakValueDictionary()

    # what there is

    async def listed(self, selection: Selection, address: str = "") -> Page:
        """See L{cms.admin.interfaces.Clients.listed}."""
        wanted = selection.filter.casefold()
        sessions = self._of(address) if address else list(self._sessions.everywhere())
        if wanted:
            sessions = await self._holding(sessions, wanted)
        shown = sessions[selection.offset : selection.offset + selection.limit]
        items = [item for item in map(self._facts, shown) if item is not None]
        return Page(items, len(sessions))

    async def _holding(self, sessions: list[Session], wanted: str) -> list[Session]:
        found: list[Session] = []
        for start in range(0, len(sessions), AT_ONCE):
            part = sessions[start : start + AT_ONCE]
            found += [session for session in part if wanted in session.jid.full().casefold()]
            await deferLater(self._reactor, 0)  # let the reactor do other work
        return found

    def _of(self, address: str) -> list[Session]:
        """
        The sessions of an address: of a user, or with this resource.

        @raise Refused: it is no address of this domain.
        """
        jid = self._address(address)
        if jid.resource is None:
            return self._sessions.of(jid.userhost())
        session = self._sessions.find(jid)
        return [] if session is None else [session]

    def _address(self, address: str) -> JID:
        domain = self._config.domain
        bare, slash, resource = address.partition("/")
        whole = bare if "@" in bare else f"{bare}@{domain}"
        try:
            jid = parse_jid(f"{whole}{slash}{resource}")
        except MalformedJID:
            jid = None
        if jid is None or jid.user is None or jid.host != domain:
            raise wrong("jid", f"it is no address of {domain}", f"Give alice, or alice@{domain}.")
        return jid

    def _facts(self, session: Session) -> tuple[str, Facts] | None:
        facts: dict[str, Any] = {"jid": session.jid.full(), "address": session.peer_text}
        if self._sessions.is_elsewhere(session):
            facts |= {"since": moment(session.since), "callBridge": session.authority}
        else:
            try:
                since, authority = self._service.facts(session)
            except KeyError:
                return None  # it has ended meanwhile
            facts |= {"since": since, "callBridge": authority}
            facts["connected"] = not session.is_away
        facts["available"] = session.presence is not None
        facts["guest"] = session.is_guest
        facts["server"] = session.node or self._own_node
        if session.is_away:
            facts |= self.away_facts(session)
        return self._id(session), facts

    @property
    def _own_node(self) -> str | None:
        settings = self._config.cluster
        return None if settings is None else settings.node or self._config.hostname

    def away_facts(self, session: Session | Resumable) -> dict[str, Any]:
        """Of one without a connection: since when, and what is kept for it."""
        since = wall_clock(self._reactor)() - session.away_seconds
        return {"awaySince": moment(since), "keptBytes": session.kept_bytes}

    def _id(self, session: Session) -> str:
        id_ = self._ids.get(session)
        if id_ is None:
            id_ = self._ids[session] = str(uuid.uuid4())
            self._by_id[id_] = session
        return id_

    def _session(self, id_: str) -> tuple[Session, tuple[str, Facts]]:
        session = self._by_id.get(id_)
        item = self._facts(session) if session is not None else None
        if session is None or item is None:
            raise Refused(
                "clientDoesNotExist", "there is no such session", "GET clients lists them."
            )
        return session, item

    def show(self, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.interfaces.Clients.show}."""
        return self._session(id_)[1]

    # what is done

    def end(self, id_: str) -> None:
        """See L{cms.admin.interfaces.Clients.end}."""
        self._session(id_)[0].end()

    def end_all(self, address: str) -> int:
        """See L{cms.admin.interfaces.Clients.end_all}."""
        sessions = self._of(address)
        for session in sessions:
            session.end()
        return len(sessions)

    async def tell(self, address: str, text: str) -> int:
        """See L{cms.admin.interfaces.Clients.tell}."""
        if address == EVERYBODY:
            sessions: Iterator[Session] = self._sessions.everywhere()
        else:
            sessions = iter(self._of(address))
        told, domain = 0, self._config.domain
        for number, session in enumerate(list(sessions), 1):
            told += not session.deliver((_message(domain, session.jid.full(), text),), None)
            if number % AT_ONCE == 0:
                await deferLater(self._reactor, 0)
        self.log.info(
            "an administrator told {sessions} something", sessions=counted(told, "session")
        )
        return told


def _message(domain: str, to: str, text: str) -> bytes:
    """A message of the server's own (RFC 6121 5.2.2: normal, which every client shows)."""
    start = f"<message from={quote_attribute(domain)} to={quote_attribute(to)}"
    return f"{start} id='{uuid.uuid4()}'><body>{escape_text(text)}</body></message>".encode()
