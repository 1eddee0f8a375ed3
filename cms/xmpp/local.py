"""What the XMPP server answers itself: disco, ping, time, version, roster, presence."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import partial

from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

import cms
from cms.linkprotocol import ending, groups
from cms.process.logs import Logger
from cms.xmlstream import disco, ns
from cms.xmlstream.jid import MalformedJID, parse_jid, prepared_jid
from cms.xmlstream.replies import result_reply
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp import carbons
from cms.xmpp.broadcast import BYTES_A_TURN, Broadcast, addressed, unavailable
from cms.xmpp.contacts import blocking
from cms.xmpp.contacts.blocking import Blocking
from cms.xmpp.contacts.cards import VCARD, Cards
from cms.xmpp.contacts.forgetting import Forgetting
from cms.xmpp.contacts.groups import SharedGroups
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.elsewhere import Others
from cms.xmpp.endings import Endings
from cms.xmpp.links import Links
from cms.xmpp.router import MOST_BYTES, SUBSCRIPTION, Router
from cms.xmpp.sessions import Session, Sessions

FEATURES = (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.TIME, ns.VERSION, carbons.NS)
ACCOUNT_FEATURES = (ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, carbons.NS)
Mark = Callable[[Session, Stanza, Callable[[Session, Stanza], object]], Stanza]
_PRIORITY = re.compile("[+-]?[0-9]{1,9}")  # xs:byte, and numbers outside its bounds
MOST_DIRECTED = 1_000  # addresses remembered for a session's final unavailable


class LocalServices:
    """
    Answers requests to the server and to the accounts of its users.

    @ivar others: The other nodes, if there can be any.
    @ivar contacts: Rosters and subscriptions; without them each roster is empty.
    @ivar blocklists: See L{Router}.
    @ivar groups: Groups of directories, if users have contacts.
    @ivar blocking: What users have blocked, if they have contacts.
    @ivar forgetting: Forgets them, if they have any.
    """

    log = Logger()

    def __init__(
        self, router: Router, links: Links, sessions: Sessions, broadcast: Broadcast
    ) -> None:
        self._router = router
        self._links = links
        self._sessions = sessions
        self._broadcast = broadcast
        self.others: Others | None = None
        self.endings = Endings(sessions)
        self.blocklists = router.blocklists
        self.contacts: Contacts | None = None
        self.blocking: Blocking | None = None
        self.forgetting: Forgetting | None = None
        self.groups: SharedGroups | None = None
        self._features: tuple[str, ...] = FEATURES
        self._account_features: tuple[str, ...] = ACCOUNT_FEATURES
        self._marked: Mark | None = None
        self._about: dict[
            tuple[str, str, str], Callable[[Session, Stanza, Element, JID], object]
        ] = {}
        self._own: dict[tuple[str, str, str], Callable[[Session, Stanza, Element], object]] = {
            ("set", carbons.NS, "enable"): self._switch_carbons,
            ("set", carbons.NS, "disable"): self._switch_carbons,
        }
        self._of_callbridges: dict[tuple[str, str, str], Callable[[Stanza], object]] = {
            ("set", ending.NS, "end"): self._end_sessions
        }
        self._server: dict[tuple[str, str, str], Callable[[Element], Element | None]] = {
            ("get", ns.PING, "ping"): lambda _: None,
            ("get", ns.TIME, "time"): lambda _: _time(),
            ("get", ns.VERSION, "query"): lambda _: _version(),
            ("get", ns.DISCO_INFO, "query"): lambda query: disco.info(
                query, "server", "im", "cms", self._features
            ),
            ("get", ns.DISCO_ITEMS, "query"): lambda query: disco.items(
                query, self._links.components()
            ),
        }
        self._account: dict[tuple[str, str, str], Callable[[Element], Element | None]] = {
            ("get", ns.PING, "ping"): lambda _: None,
            ("get", ns.DISCO_INFO, "query"): lambda query: disco.info(
                query, "account", "registered", None, self._account_features
            ),
            ("get", ns.DISCO_ITEMS, "query"): disco.items,
            ("get", ns.ROSTER, "query"): lambda _: Element((ns.ROSTER, "query")),
            ("set", ns.SESSION, "session"): lambda _: None,
        }

    def offer(self, contacts: Contacts, known: Iterable[str]) -> None:
        """
        Users have contacts, and can block.

        @param known: The addresses of components, connected or not.
        """
        self.forgetting = Forgetting(contacts, self._links, known)
        self._of_callbridges["set", ending.NS, "forget"] = partial(self._forget, self.forgetting)
        shared = self.groups = SharedGroups(contacts, self._router)
        for kind, name in (("get", "groups"), ("set", "group")):
            self._of_callbridges[kind, groups.NS, name] = shared.request
        self.contacts, self.blocking = contacts, Blocking(contacts, self._router)
        self._own.update(contacts.requests)
        self._own.update(self.blocking.requests)
        self._features = (*self._features, blocking.NS)

    def introduce(self, cards: Cards) -> None:
        """Clients are told who somebody is."""
        self._about.update(cards.requests)
        if cards.announces:
            self._marked = cards.marked
        self._features = (*self._features, VCARD)
        self._account_features = (*ACCOUNT_FEATURES, VCARD)

    # from the router

    def request(self, stanza: Stanza, to: JID) -> None:
        """Answer an IQ request (RFC 6120 8.2.3, 10.3.3)."""
        payload = stanza.child
        if payload is None or not stanza.id or stanza.only_child is None:
            self._router.bounce(stanza, "bad-request")
            return
        key = (stanza.type or "", payload.uri, payload.name)
        answers = self._server
        if stanza.to is None or to.user is not None:
            if self._of_account(stanza, to, payload, key):
                return
            answers = self._account if key in self._account else self._server
        if to.user is None and key in self._of_callbridges:
            if self._links.decides(stanza.sender or ""):
                self._of_callbridges[key](stanza)
            else:
                text = "only a Callbridge that decides log-ins may"
                self._router.bounce(stanza, "forbidden", text=text)
            return
        if to.user is None and key == ("set", ns.SESSION, "session"):
            answers = self._account  # RFC 3921: clients address it to the server
        if key == ("set", ns.ROSTER, "query"):
            self._router.bounce(stanza, "not-allowed", text="there is no roster here")
            return
        if key not in answers:
            self._router.bounce(stanza, "service-unavailable")
            return
        try:
            self._router.route(result_reply(stanza, answers[key](payload)))
        except StanzaError as error:
            self._router.bounce(stanza, error.condition)

    def _of_account(
        self, stanza: Stanza, to: JID, payload: Element, key: tuple[str, str, str]
    ) -> bool:
        """Whether a request to an account was answered: it is another's, or about a session."""
        session = self._sessions.find(parse_jid(stanza.sender or "-"))
        if key in self._about and session is not None:
            whom = session.jid if stanza.to is None else to
            self._about[key](session, stanza, payload, whom)
            return True
        if stanza.to is not None and not self._is_own(stanza, to):
            # nobody else may learn whether the account exists
            self._router.bounce(stanza, "service-unavailable")
            return True
        if key not in self._own:
            return False
        assert session is not None  # noqa: S101 - nobody else has this account
        self._own[key](session, stanza, payload)
        return True

    def _end_sessions(self, stanza: Stanza) -> None:
        """A Callbridge says that sessions are over."""
        try:
            ended = self.endings.asked(stanza)
        except StanzaError as error:
            self._router.bounce(stanza, error.condition, text=error.text)
        else:
            self._router.route(written_result(stanza, ended.to_xml()))

    def _forget(self, forgetting: Forgetting, stanza: Stanza) -> None:
        """A Callbridge says that a user was deleted."""

        def refused(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, StanzaError):
                self.log.failure("unexpected error in contacts", failure)
                error = StanzaError("internal-server-error", type="wait")
            self._router.bounce(stanza, error.condition, error.type, error.text)

        asked = maybeDeferred(forgetting.asked, stanza)
        asked.addCallback(lambda done: self._router.route(written_result(stanza, done.to_xml())))
        asked.addErrback(refused)

    def _switch_carbons(self, session: Session, stanza: Stanza, payload: Element) -> None:
        """Message carbons, for the session that asks (XEP-0280 4 and 5)."""
        on = payload.name == "enable"
        switch = self._router.carbons.enable if on else self._router.carbons.disable
        switch(session)
        if self.others is not None:
            self.others.copies(session, on)
        self._router.route(result_reply(stanza))

    def presence(self, stanza: Stanza, to: JID, source: object) -> None:
        """
        Presence sent to a user's bare address (RFC 6121 8.5.2.1.2).

        Subscriptions that do not come from our users are ignored, as 8.5.1 requires for an
        account that does not exist.  Only the Callbridges know which accounts exist, and another
        answer would tell who is logged in.  Others' probes are ignored too (4.3.2).
        """
        if stanza.type in (None, "unavailable", "error"):
            for session in self._sessions.available(to.userhost()):
                if session.deliver((stanza.raw,), source):
                    self._router.refuse(stanza)
        elif stanza.type == "probe" and self.contacts is not None:
            asking = self._sessions.find(parse_jid(stanza.sender or "-"))
            if asking is not None:
                self.contacts.probe(asking, to)

    # from a client's session

    def client_presence(self, session: Session, stanza: Stanza) -> None:
        """Presence from one of our clients, broadcast or directed."""
        if stanza.to is not None:
            self._directed(session, stanza)
        elif len(stanza.raw) > MOST_BYTES:  # rewritten, each tag may name its namespace in full
            self._router.bounce(stanza, "policy-violation", "modify", "the stanza is too long")
        elif stanza.type is None:
            first = session.presence is None
            session.priority = _priority(stanza)
            # Keep the bytes: the tree, made for the priority, is some twenty times as large.
            stanza = SplicedStanza((b"presence", None, None, stanza.raw))
            if self._marked is not None:
                stanza = self._marked(session, stanza, self.client_presence)
            session.presence = stanza
            if self.others is not None:
                self.others.presence(session)
            others = self._sessions.available(session.jid.userhost())
            self._send_to(others, stanza, session)
            for other in others if first else ():
                if other is not session and other.presence is not None:
                    self._send_to((session,), other.presence, other)
            if self.contacts is not None:
                self.contacts.showed(session, first=first)
        elif stanza.type == "unavailable":
            self.ended(session, stanza)
        else:
            self._router.bounce(stanza, "bad-request")

    def over(self, session: Session) -> None:
        """It has ended."""
        self.ended(session)
        self.forget(session)

    def forget(self, session: Session) -> None:
        """It is told nothing any more."""
        if self.contacts is not None and self.blocking is not None:
            self.contacts.ended(session)
            self.blocking.ended(session)

    def lists(self, session: Session) -> list[str]:
        """Of which of its user's lists a session is told the changes."""
        kinds = {"roster": self.contacts, "blocklist": self.blocking}
        return [name for name, kind in kinds.items() if kind and kind.is_told(session)]

    def listens(self, session: Session, lists: Collection[str]) -> None:
        """Tell it the changes of those."""
        kinds = {"roster": self.contacts, "blocklist": self.blocking}
        for name, kind in kinds.items():
            if kind is not None and name in lists:
                kind.tell(session)

    def ended(self, session: Session, stanza: Stanza | None = None) -> None:
        """
        Send unavailable presence to everybody who saw the session (RFC 6121 4.5, 4.6.3).

        @param stanza: The unavailable presence that the session sent itself, if it did.  The
            session gets a copy too (4.5.2).
        """
        said = stanza is not None
        if session.presence is None and not session.directed:
            return
        if stanza is None:
            stanza = unavailable(session)
        told: set[str] = set()
        if session.presence is not None:
            session.presence = None
            if said and self.others is not None:
                self.others.presence(session)
            bare = session.jid.userhost()
            others = self._sessions.available(bare)
            if said:
                others.append(session)
            told = {bare, *(other.jid.full() for other in others)}
            self._send_to(others, stanza, session)
            if self.contacts is not None:
                told |= self.contacts.vanished(session, stanza)
        directed, session.directed = session.directed, set()
        if len(stanza.raw) * len(directed) > BYTES_A_TURN:
            stanza = unavailable(session)  # without the content of the client's own stanza
        for address in directed - told:
            self._router.route(addressed(stanza, address), session, prepared_jid(address))

    def _send_to(self, receivers: Iterable[Session], stanza: Stanza, source: Session) -> None:
        copies = [(receiver, receiver.jid.full()) for receiver in receivers]
        self._router.dropped["presence"] += self._broadcast.send(stanza, copies, source)

    def _directed(self, session: Session, stanza: Stanza) -> None:
        try:
            address = parse_jid(stanza.to or "")
        except MalformedJID:
            self._router.bounce(stanza, "jid-malformed")
            return
        to = address.full()
        if stanza.type in SUBSCRIPTION:  # both addresses are bare ones, RFC 6121 3.1.2
            stanza.stamp(session.jid.userhost())
            stanza.address(address.userhost())
            is_user = address.user is not None and address.host == self._router.domain
            if is_user and self.contacts is not None:
                self.contacts.subscription(session, stanza, address)
                return
        elif stanza.type == "unavailable":
            session.directed.discard(to)
            if self.others is not None:
                self.others.directed(session, to, False)
        elif stanza.type is None and to not in session.directed:
            if len(session.directed) >= MOST_DIRECTED:
                # What could not be taken back at the end would leave a ghost (RFC 6121 4.6.3).
                text = f"presence was sent to {MOST_DIRECTED} addresses"
                self._router.bounce(stanza, "resource-constraint", "wait", text)
                return
            session.directed.add(to)
            if self.others is not None:
                self.others.directed(session, to, True)
        self._router.route(stanza, session)

    def _is_own(self, stanza: Stanza, to: JID) -> bool:
        return bool(parse_jid(stanza.sender or "-").userhost() == to.userhost())


def _priority(stanza: Stanza) -> int:
    """The priority (RFC 6121 4.7.2.3); 0 if it cannot be read."""
    for child in stanza.element.elements(ns.CLIENT, "priority"):
        text = str(child).strip()
        return max(-128, min(127, int(text))) if _PRIORITY.fullmatch(text) else 0
    return 0


def _time() -> Element:
    """The answer of XEP-0202, always in UTC."""
    time = Element((ns.TIME, "time"))
    time.addElement("tzo", content="+00:00")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    time.addElement("utc", content=now.replace("+00:00", "Z"))
    return time


def _version() -> Element:
    query = Element((ns.VERSION, "query"))
    query.addElement("name", content="cms-xmpp")
    query.addElement("version", content=cms.__version__)
    return query
