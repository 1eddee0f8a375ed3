"""
Blocking (XEP-0191): what a user asks for, and what follows for his sessions.

While a user has blocked anybody, nothing that he says or hears takes the fast way, and the
router looks who it is from.  Nobody else pays anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.xmlstream.jid import MalformedJID, parse_jid, prepared_jid
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp.broadcast import addressed, unavailable
from cms.xmpp.contacts.acts import MOST_BLOCKED, Outcome
from cms.xmpp.contacts.blocklists import Blocklists, matches
from cms.xmpp.contacts.pace import SECONDS_EACH
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.store import Refused
from cms.xmpp.router import Router
from cms.xmpp.sessions import Session

NS: Final = "urn:xmpp:blocking"
MOST_BYTES: Final = 1_024  # of an address
MOST_AHEAD: Final = 10.0  # seconds of work at the server's pace, for what a user has changed


class Blocking:
    """
    The blocked addresses of all users.

    @ivar contacts: Their contacts.
    @ivar requests: What clients may ask of their own accounts, by type, namespace and name.
    """

    def __init__(self, contacts: Contacts, router: Router) -> None:
        self.contacts = contacts
        self._router = router
        self._sessions = router.sessions
        self._lists: Blocklists = router.blocklists
        self._interested: dict[str, dict[Session, None]] = {}
        self._pushed = 0
        self._until: dict[str, float] = {}  # when each user's changes are done at that pace
        self.requests = {
            ("get", NS, "blocklist"): self.list,
            ("set", NS, "block"): self.block,
            ("set", NS, "unblock"): self.unblock,
        }
        contacts.on_outcome.append(self._follow)
        address = contacts.keys.address
        for owner, blocked in contacts.changes.store.all_blocked().items():
            self._lists.set(address(owner), [address(each) for each in blocked])

    # what clients ask for

    def list(self, session: Session, stanza: Stanza, _: Element) -> None:
        """The list; whoever asks is told of its changes from then on."""
        user = session.jid.userhost()
        if not session.is_guest:
            self.tell(session)
        items = _items(sorted(self._lists.users.get(user, ())))
        session.send(written_result(stanza, f"<blocklist xmlns='{NS}'>{items}</blocklist>"))

    def block(self, session: Session, stanza: Stanza, payload: Element) -> None:
        """Block some addresses."""
        self._change(session, stanza, payload, active=True)

    def unblock(self, session: Session, stanza: Stanza, payload: Element) -> None:
        """Block some no more; all, if none is named."""
        self._change(session, stanza, payload, active=False)

    def _change(self, session: Session, stanza: Stanza, payload: Element, *, active: bool) -> None:
        contacts = self.contacts
        keys = contacts.keys
        try:
            named = [keys.full_key(jid) for jid in _read(session, payload)]
            if active and not named:
                raise Refused("bad-request", "no address is named")  # noqa: TRY301
        except Refused as refused:
            contacts.refuse(stanza, refused)
            return
        owner = keys.own(session.jid.userhost())
        if self._until.get(owner, 0.0) - contacts.changes.clock.seconds() > MOST_AHEAD:
            # Each goes to many, and nobody has to do the opposite at once.
            contacts.refuse(stanza, Refused("resource-constraint", "too many changes", "wait"))
            return
        if active:
            asked = contacts.change(owner, lambda act: act.block(owner, named))
        else:
            asked = contacts.change(owner, lambda act: act.unblock(owner, named))
        contacts.answer(asked, stanza, lambda: session.send(written_result(stanza)))

    # what follows

    def tell(self, session: Session) -> None:
        """It is told the changes of its list from now on."""
        self._interested.setdefault(session.jid.userhost(), {})[session] = None

    def is_told(self, session: Session) -> bool:
        """Whether it is."""
        return session in self._interested.get(session.jid.userhost(), ())

    def ended(self, session: Session) -> None:
        """It is over."""
        user = session.jid.userhost()
        interested = self._interested.get(user, {})
        interested.pop(session, None)
        if not interested:
            self._interested.pop(user, None)

    def _follow(self, outcome: Outcome) -> None:
        for owner, (now, changed) in outcome.blocked.items():
            address, sent = self.contacts.keys.address, 0
            added = {*map(address, changed)} & {*map(address, now)}
            if added:
                sent += self.contacts.hide(address(owner), added)
            self.listed(owner, now, changed)
            removed = {*map(address, changed)} - added
            if removed:
                sent += self.contacts.seen_again(owner, removed)
            self._note(owner, sent)

    def _note(self, owner: str, sent: int) -> None:
        """So many stanzas followed from a user's change."""
        now = self.contacts.changes.clock.seconds()
        self._until = {each: until for each, until in self._until.items() if until > now}
        if sent:
            self._until[owner] = max(now, self._until.get(owner, now)) + sent * SECONDS_EACH

    def listed(self, owner: str, now: Iterable[str], changed: Iterable[str]) -> None:
        """
        A user has another list, here or at another server.

        @param owner: As the store has him, and so are the addresses.
        @param now: All that are blocked now.
        @param changed: Those that are blocked now and were not before, or the other way round.
        """
        address = self.contacts.keys.address
        user, blocked = address(owner), {*map(address, now)}
        added = {*map(address, changed)} & blocked
        self._push(user, "block", added)
        self._push(user, "unblock", {*map(address, changed)} - blocked)
        if added:
            self._leave(user, added)
        self._lists.set(user, blocked)
        for session in self._sessions.of(user):
            session.set_guarded(bool(blocked))
            self._router.forget(session)

    def _push(self, user: str, name: str, addresses: Iterable[str]) -> None:
        interested = self._interested.get(user)
        items = _items(sorted(addresses))
        for session in interested if items and interested else ():
            self._pushed += 1
            start = f"<iq type='set' id='block{self._pushed}' to="
            payload = f"<{name} xmlns='{NS}'>{items}</{name}>"
            push = f"{start}{quote_attribute(session.jid.full())}>{payload}</iq>"
            session.send(SplicedStanza((b"iq", None, None, push.encode())))

    def _leave(self, user: str, added: set[str]) -> None:
        """To whom a user has shown himself, and who is blocked now, sees him go."""
        for session in self._sessions.of(user):
            if self._sessions.is_elsewhere(session):
                continue  # its own server does it
            gone = [to for to in session.directed if matches(added, to)]
            for to in gone:
                session.directed.discard(to)
                left = addressed(unavailable(session), to)
                self._router.route(left, session, prepared_jid(to))


def _read(session: Session, payload: Element) -> list[JID]:
    if session.is_guest:
        raise Refused("not-allowed", "a guest can block nobody")
    named = []
    items = list(payload.elements(NS, "item"))
    if len(items) > MOST_BLOCKED:  # before the work of preparing them
        raise Refused("resource-constraint", f"at most {MOST_BLOCKED} addresses are blocked")
    for item in items:
        text = item.getAttribute("jid") or ""
        try:
            jid = parse_jid(text)
        except MalformedJID:
            raise Refused("jid-malformed") from None
        if len(jid.full().encode()) > MOST_BYTES:
            raise Refused("not-acceptable", f"an address has at most {MOST_BYTES} bytes")
        named.append(jid)
    return named


def _items(addresses: Iterable[str]) -> str:
    return "".join(f"<item jid={quote_attribute(address)}/>" for address in addresses)
