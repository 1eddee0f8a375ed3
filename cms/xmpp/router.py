"""
Where a stanza goes (RFC 6120 10, RFC 6121 8).

The router reads only the addresses, the kind and the type of a stanza.  The caller must
have checked its C{from}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Protocol

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms import faults
from cms.process.logs import Logger
from cms.xmlstream import limits
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.replies import error_reply
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_error
from cms.xmlstream.toldfault import ToldFault, as_condition
from cms.xmpp.carbons import Carbons
from cms.xmpp.contacts.blocklists import Blocklists
from cms.xmpp.links import Links
from cms.xmpp.receiver import Receiver
from cms.xmpp.sessions import Session, Sessions

_BLOCKED = "urn:xmpp:blocking:errors"  # XEP-0191
MOST_ADDRESSES = 64  # spellings of one receiver's address that are cached
MOST_BYTES = limits.CLIENT.stanza_bytes  # what every receiver of ours accepts
SUBSCRIPTION = frozenset({"subscribe", "subscribed", "unsubscribe", "unsubscribed"})
_PRESENCE = frozenset({None, "unavailable", "error", "probe"}) | SUBSCRIPTION
_AWAY = ToldFault(faults.NO_CALLBRIDGE.name, step=int(faults.NO_CALLBRIDGE.step))
_SPECIAL = frozenset({"chat", "groupchat", "headline", "error"})  # all else is normal


class Local(Protocol):
    """The services that the server answers itself."""

    def request(self, stanza: Stanza, to: JID) -> None:
        """An IQ get or set for the server, or for a user's account."""
        ...

    def presence(self, stanza: Stanza, to: JID, source: object) -> None:
        """A presence stanza for a user of ours."""
        ...


class Router:
    """
    Delivers each stanza, or answers its sender with an error.

    @ivar known: Component addresses that exist, connected or not.
    @ivar bounced: How many stanzas were answered with each error condition.
    @ivar dropped: How many of each kind had no room at a receiver that does not read,
        and must not be answered: presence, IQ answers, messages that are errors or copies.
    @ivar carbons: The copies of messages (XEP-0280).
    @ivar blocklists: What users have blocked (XEP-0191).
    """

    log = Logger()

    def __init__(
        self,
        domain: str,
        links: Links,
        sessions: Sessions,
        known: Container[str],
        carbons: Carbons,
    ) -> None:
        self.domain = domain
        self.links = links
        self.sessions = sessions
        self.known = known
        self.carbons = carbons
        self.blocklists = Blocklists(domain)
        self.local: Local | None = None
        self._found: dict[bytes, Receiver] = {}
        self._addresses: dict[Receiver, list[bytes]] = {}
        self.bounced: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def find(self, to: bytes) -> Receiver | None:
        """
        The receiver, if the address alone decides: a component, or the session with this
        full address, if its messages are not copied.  C{None} leaves it to L{route}.

        @param to: As it is written in the stanza.
        """
        receiver = self._found.get(to)
        if receiver is None:
            try:
                address = parse_jid(to.decode())
            except MalformedJID:
                return None
            if address.host != self.domain:
                receiver = self.links.get(address.host)
            elif address.resource is not None:
                session = self.sessions.find(address)
                if session is not None and not (
                    session.is_copied or address.userhost() in self.blocklists.users
                ):
                    receiver = session
            if receiver is not None:
                known = self._addresses.setdefault(receiver, [])
                if len(known) < MOST_ADDRESSES:
                    known.append(to)
                    self._found[to] = receiver
        return receiver

    def forget(self, receiver: Receiver) -> None:
        """It has ended, or L{find} may answer anew."""
        for address in self._addresses.pop(receiver, ()):
            del self._found[address]

    def refuse(self, stanza: Stanza) -> None:
        """Answer a stanza for which there is no room, cheaply, since a flood has many."""
        reply = None
        if stanza.name != "presence":
            reply = written_error(stanza, "wait", "resource-constraint")
        if reply is None:
            self.dropped[stanza.name] += 1
        else:
            self.bounced["resource-constraint"] += 1
            self.route(reply)

    def _deliver(self, receiver: Receiver, stanza: Stanza, source: object) -> bool:
        refused = receiver.deliver((stanza.raw,), source)
        if refused:
            self.refuse(stanza)
        return not refused

    def route(self, stanza: Stanza, source: object = None, to: JID | None = None) -> None:
        """
        Deliver a stanza by its C{to}; without one it is for the server.

        @param source: The party that it came from, which waits for a receiver that
            does not read (L{Party.deliver<cms.xmlstream.flow.Party.deliver>});
            C{None} for what the server answers.
        @param to: The address, if it was prepared already.
        """
        if stanza.name == "iq" and not (stanza.is_request or stanza.is_answer):
            self.bounce(stanza, "bad-request")
            return
        if stanza.name == "presence" and stanza.type not in _PRESENCE:
            self.bounce(stanza, "bad-request")  # RFC 6121 4.7.1
            return
        if len(stanza.raw) > MOST_BYTES:
            self.bounce(stanza, "policy-violation", "modify", "the stanza is too long")
            return
        try:
            address = to or parse_jid(self.domain if stanza.to is None else stanza.to)
        except MalformedJID:
            self.bounce(stanza, "jid-malformed")
            return
        if address.host == self.domain:
            self._route_locally(stanza, address, source)
            return
        link = self.links.get(address.host)
        if link is not None:
            self._deliver(link, stanza, source)
        elif address.host in self.known:
            self.bounce(
                stanza, "service-unavailable", "wait", "this component is not connected", _AWAY
            )
        else:
            self.bounce(stanza, "remote-server-not-found")

    def bounce(
        self,
        stanza: Stanza,
        condition: str,
        type_: str | None = None,
        text: str | None = None,
        fault: ToldFault | None = None,
    ) -> None:
        """
        Answer a stanza that cannot be delivered with an error, where one is due.

        @param fault: For programs, beside the condition.
        """
        if stanza.name == "presence" and stanza.type in ("unavailable", "error", "probe"):
            return
        why = None if fault is None else as_condition(fault)
        error = StanzaError(condition, type=type_, text=text, appCondition=why)
        reply = error_reply(stanza, error)
        if reply is not None and reply.to is not None:
            self.bounced[condition] += 1
            self.route(reply)

    def give_back(self, raw: bytes, condition: str = "recipient-unavailable") -> None:
        """Answer a stanza that its receiver never acknowledged, or never got, with an error."""
        stanza = of_bytes(raw)
        reply = None
        if stanza.name != "presence" and not self._is_of_account(stanza.sender or ""):
            reply = written_error(stanza, "wait", condition)
        if reply is not None and reply.to is not None:
            self.bounced[condition] += 1
            self.route(reply)

    def may_send(self, stanza: Stanza, session: Session) -> bool:
        """
        Whether what a session sends is for nobody whom its user has blocked; else it is told
        (XEP-0191 3.3).
        """
        try:
            to = parse_jid(stanza.to or self.domain)
        except MalformedJID:
            return True  # that is told elsewhere
        if not self.blocklists.blocks(session.jid.userhost(), to):
            return True
        silent = stanza.name == "presence" and stanza.type in ("unavailable", "probe")
        error = StanzaError("not-acceptable", appCondition=Element((_BLOCKED, "blocked")))
        reply = None if silent else error_reply(stanza, error)
        if reply is not None:
            self.bounced["not-acceptable"] += 1
            self._deliver(session, reply, None)  # it seems to come from who is blocked
        return False

    def keeps_out(self, stanza: Stanza, user: str) -> bool:
        """
        Whether a stanza comes from whom its receiver has blocked; its sender is told as little
        as if nobody were there (XEP-0191 3.3, 7).

        @param user: The receiver's prepared bare address.
        """
        if user not in self.blocklists.users or stanza.sender is None:
            return False
        sender = parse_jid(stanza.sender)
        if not self.blocklists.blocks(user, sender):
            return False
        # A room that gets an error for a message lets its occupant go.
        is_told = stanza.name == "message" and sender.host == self.domain
        if stanza.name == "iq" or (is_told and stanza.type != "headline"):
            self.bounce(stanza, "service-unavailable")
        return True

    def _route_locally(self, stanza: Stanza, to: JID, source: object) -> None:
        if to.user is None:
            self._to_server(stanza, to)
        elif self.blocklists.users and self.keeps_out(stanza, to.userhost()):
            return
        elif stanza.name == "message":
            self._message(stanza, to, source)
        elif stanza.name == "iq":
            self._iq(stanza, to, source)
        elif to.resource is not None and stanza.type in (None, "unavailable", "error"):
            session = self.sessions.find(to)
            if session is not None:
                self._deliver(session, stanza, source)
        elif self.local is not None:
            self.local.presence(stanza, to, source)

    def _to_server(self, stanza: Stanza, to: JID) -> None:
        if stanza.is_request and self.local is not None:
            self.local.request(stanza, to)
        elif stanza.name == "message":
            self.bounce(stanza, "service-unavailable")

    def _iq(self, stanza: Stanza, to: JID, source: object) -> None:
        if to.resource is not None:
            session = self.sessions.find(to)
            if session is not None:
                self._deliver(session, stanza, source)
            else:
                self.bounce(stanza, "service-unavailable")
        elif stanza.is_request and self.local is not None:
            self.local.request(stanza, to)

    def _message(self, stanza: Stanza, to: JID, source: object) -> None:
        """RFC 6121 8.5.2 and 8.5.3, with table 1; that an unknown type is normal, 5.2.2."""
        session = self.sessions.find(to) if to.resource is not None else None
        if session is not None:
            took = [session] if self._deliver(session, stanza, source) else []
            if took and session.is_copied:
                self._copy(stanza, to.userhost(), took, source)
            return
        kind = stanza.type if stanza.type in _SPECIAL else "normal"
        receivers: list[Session] = []
        if kind == "chat" or (kind == "normal" and to.resource is None):
            receivers = self.sessions.preferred(to.userhost())
        elif kind == "headline" and to.resource is None:
            receivers = self.sessions.willing(to.userhost())
        took = [r for r in receivers if self._deliver(r, stanza, source)]
        if took and to.userhost() in self.carbons.enabled:
            self._copy(stanza, to.userhost(), took, source)
        if not receivers and kind != "headline":
            self.bounce(stanza, "service-unavailable")

    def _copy(self, stanza: Stanza, account: str, took: list[Session], source: object) -> None:
        """What nobody took was answered with an error, and so is not copied."""
        self.dropped["message"] += self.carbons.received(stanza, account, took, source)

    def _is_of_account(self, sender: str) -> bool:
        """Whether this server says it for a user, as it does in a copy: nobody is to be told."""
        return "/" not in sender and sender.endswith(f"@{self.domain}")

    def copy_sent(self, stanza: Stanza, session: Session) -> None:
        """Copy a message that a session sent to the user's others, before any error comes of it."""
        if len(stanza.raw) <= MOST_BYTES:
            self.dropped["message"] += self.carbons.sent(stanza, session)
