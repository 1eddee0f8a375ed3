"""
Contacts as clients meet them: rosters, subscriptions, and who is told of whose presence.

Where a change is made, what follows from it is done when it is on the disk: pushes to the
resources that asked for the roster, the stanza to the contact, and presence that may be seen
now, or not any more.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.process.logs import Logger
from cms.state.database import StoreUnusable
from cms.xmlstream import ns
from cms.xmlstream.jid import parse_jid
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza, of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp.broadcast import Broadcast, unavailable
from cms.xmpp.contacts import items
from cms.xmpp.contacts.acts import Act, Outcome, Told
from cms.xmpp.contacts.blocklists import matches
from cms.xmpp.contacts.changes import Changes
from cms.xmpp.contacts.items import Keys
from cms.xmpp.contacts.pace import Pace
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import Contact, Refused, Row, as_mate
from cms.xmpp.router import Router
from cms.xmpp.sessions import Session

MOST_KEPT = 1_024  # bytes of a request that are kept for later; of a longer one less is told
TOLD_AGAIN = 60.0  # seconds until a store that cannot be read is told of again
CACHED_FROM, MOST_CACHED = 50, 32  # contacts of a roster whose text is kept; and of such rosters


_T = TypeVar("_T")


class Contacts:
    """
    The contacts of all users.

    @ivar keys: How the store writes addresses.
    @ivar requests: What clients may ask of their own accounts, by type, namespace and name.
    @ivar changes: What is on its way to the store.
    @ivar on_outcome: Called with what follows from a change, before it is followed.
    @ivar interested: The sessions that have asked for their roster, by user.
    @ivar pushed: How many roster pushes were sent.
    @ivar refused: How many changes were refused with each condition.
    @ivar on_shared: Called with rows of groups of a directory that came from another server.
    @ivar unsettled: Whether some have yet to be told what is different in such groups.
    """

    log = Logger()

    def __init__(
        self,
        changes: Changes,
        router: Router,
        broadcast: Broadcast,
        settings: ContactSettings = ContactSettings(),  # noqa: B008 - it is frozen
    ) -> None:
        self.keys = Keys(router.domain)
        self.changes = changes
        self.pushed = 0
        self.refused: Counter[str] = Counter()
        self.on_shared: list[Callable[[list[Row]], object]] = []
        self.unsettled = False
        self.on_outcome: list[Callable[[Outcome], object]] = []
        self._store = changes.store
        self._router = router
        self._sessions = router.sessions
        self._lists = router.blocklists
        self._broadcast = broadcast
        self._told_unreadable = -TOLD_AGAIN
        self.settings = settings
        self.interested: dict[str, dict[Session, None]] = {}
        self._pace = Pace(changes.clock, self._say)
        self._newcomers: set[Session] = set()
        self._texts: OrderedDict[str, tuple[str, str]] = OrderedDict()

        self.requests = {(kind, ns.ROSTER, "query"): self.roster for kind in ("get", "set")}

    def stop(self) -> Deferred[None]:
        """Let what was asked for be made."""
        return self.changes.finish().addCallback(lambda _: self._store.close())

    # rosters, RFC 6121 2

    def roster(self, session: Session, stanza: Stanza, query: Element) -> None:
        """Answer a roster get or set of a client to its own account."""
        if session.is_guest:
            if stanza.type == "get":
                session.send(written_result(stanza, items.query("", None)))
            else:
                self._router.bounce(stanza, "not-allowed", text="a guest has no contacts")
        elif stanza.type == "get":
            self._get(session, stanza, query.getAttribute("ver"))
        else:
            self._set(session, stanza, query)

    def _get(self, session: Session, stanza: Stanza, known: str | None) -> None:
        owner = self._own(session)
        self.tell(session)
        try:
            version = self._store.version(owner)
            text = "" if version == known else self._text(owner, version)
        except StoreUnusable as problem:
            self.unreadable(problem)
            self._router.bounce(stanza, "internal-server-error", "wait")
            return
        session.send(written_result(stanza, text))

    def _text(self, owner: str, version: str) -> str:
        """The payload; kept if it was dear, since a client may ask for it again and again."""
        kept = self._texts.get(owner)
        if kept is not None and kept[0] == version:
            return kept[1]
        contacts = self._store.roster(owner)
        address = self.keys.address
        rows = [items.written(address(each.address), each) for each in contacts]
        text = items.query("".join(rows), version)
        if len(rows) >= CACHED_FROM:
            self._texts[owner] = version, text
            if len(self._texts) > MOST_CACHED:
                self._texts.popitem(last=False)
        return text

    def _set(self, session: Session, stanza: Stanza, query: Element) -> None:
        try:
            wanted = items.read(query, session.jid)
        except Refused as refused:
            self.refuse(stanza, refused)
            return
        owner, key = self._own(session), self.keys.key(wanted.jid)
        if wanted.removed:
            asked = self.change(owner, lambda act: act.remove(owner, key))
        else:
            name, groups = wanted.name, wanted.groups
            asked = self.change(owner, lambda act: act.name(owner, key, name, groups))
        self.answer(asked, stanza, lambda: self._router.route(written_result(stanza)))

    def answer(
        self,
        asked: Deferred[Outcome],
        stanza: Stanza,
        done: Callable[[], object],
        session: Session | None = None,
    ) -> None:
        def refused(failure: Failure) -> None:
            if isinstance(failure.value, Refused):
                self.refuse(stanza, failure.value, session)
                return
            if not failure.check(StoreUnusable):  # of that is told where it was noticed
                self.log.failure("unexpected error in contacts", failure)
            self.refuse(stanza, Refused("internal-server-error", kind="wait"), session)

        asked.addCallback(lambda _: done()).addErrback(refused)

    def refuse(self, stanza: Stanza, refused: Refused, session: Session | None = None) -> None:
        """
        @param session: Who is told, if the stanza names his account alone.
        """
        self.refused[refused.condition] += 1
        if session is not None:
            stanza.stamp(session.jid.full())
        self._router.bounce(stanza, refused.condition, refused.kind, refused.text)

    # subscriptions, RFC 6121 3

    def subscription(self, session: Session, stanza: Stanza, to: JID) -> None:
        """
        A client sends a subscription stanza to a user of ours.

        @param stanza: With both addresses bare (3.1.2).
        """
        if session.is_guest:
            self.refuse(stanza, Refused("not-allowed", "a guest has no contacts"), session)
            return
        owner, key, kind = self._own(session), self.keys.key(to), stanza.type or ""
        if key == owner:
            return  # his resources see each other anyway
        try:
            if self._store.in_common(owner, key):
                self._stays(owner, key, kind)
                return
        except StoreUnusable as problem:
            self.unreadable(problem)
            self.refuse(stanza, Refused("internal-server-error", kind="wait"), session)
            return
        raw = self._kept(stanza)
        reaches = not self._lists.blocks(to.userhost(), session.jid)
        asked = self.change(owner, lambda act: act.send(owner, key, kind, raw, reaches=reaches))
        self.answer(asked, stanza, lambda: None, session)

    def _stays(self, owner: str, key: str, kind: str) -> None:
        """Who is in a group of a directory with somebody sees him, and cannot but be seen."""
        if kind == "subscribe":
            self._tell(Told(owner, key, "subscribed"))
        contact = self._store.contact(owner, key)
        self.push(owner, key, contact if contact.listed else None, self._store.version(owner))

    def tell_of(self, owner: str, other: str) -> None:
        """
        Tell a user who is here what another one is to him now that one of them has come to a
        group of a directory, or left it.

        @raise StoreUnusable: that cannot be read.
        """
        contact = self._store.contact(owner, other)
        here = [each for each in self.interested.get(owner, ()) if each.presence is not None]
        shown = self._available((other,)) if here else []
        seen = self._store.may_see(other, owner)
        for session in () if seen else shown:  # before it is no contact, of which none is heard
            self._send(unavailable(session), here, session)
        self.push(owner, other, contact if contact.listed else None, "")
        for session in shown if seen else ():
            self._show(session, [e for e in self._known(session, (owner,)) if e in here])

    def _kept(self, stanza: Stanza) -> str:
        """The stanza, of which a request is kept (3.1.3); of a long one the content is left out."""
        raw = stanza.raw
        if len(raw) > MOST_KEPT:
            raw = self._plain(stanza.type or "", stanza.sender or "", stanza.to or "")
        return raw.decode()

    def _plain(self, kind: str, sender: str, to: str) -> bytes:
        addresses = f" from={quote_attribute(sender)} to={quote_attribute(to)}"
        return f"<presence type='{kind}'{addresses}/>".encode()

    def probe(self, session: Session, to: JID) -> None:
        """
        A client asks for a user's presence (RFC 6121 4.3).

        If it may not see it, it hears nothing, as it does where there is no such user.
        """
        owner, watcher = self.keys.key(to), self._own(session)
        try:
            if not self._store.may_see(owner, watcher):
                return
        except StoreUnusable as problem:
            self.unreadable(problem)
            return
        for other in self._known(session, (owner,)):
            if to.resource in (None, other.jid.resource):
                self._show(other, (session,))

    # who sees whom

    def audience(self, session: Session) -> list[Session]:
        """The sessions of others who may see this one."""
        owner = self._own(session)
        if owner not in self._store.owners or session.is_guest:
            return []
        return self._known(session, self._read(self._store.watchers, owner))

    def showed(self, session: Session, *, first: bool) -> None:
        """
        It has broadcast that it is available (RFC 6121 4.2.2, 4.4.2).

        @param first: It was not until now, so it is shown whom it may see, and who asks to see it.
        """
        if self._own(session) in self._store.owners and not session.is_guest:
            if first:
                self._newcomers.add(session)
            if not self._pace.holds(session):
                self._say(session)

    def _say(self, session: Session) -> None:
        """Tell of a session what it is now; and it, if it has just come."""
        stanza = session.presence or unavailable(session)
        receivers = self.audience(session)
        self._send(stanza, receivers, session)
        seen: list[Session] = []
        if session in self._newcomers and session.presence is not None:
            owner = self._own(session)
            seen = self._known(session, self._read(self._store.watched, owner))
            for other in seen:
                self._show(other, (session,))
            for request in self._read(self._store.requests, owner):
                self._deliver(request.encode(), session)
        self._newcomers.discard(session)
        self._pace.sent(session, len(receivers) + len(seen))

    def vanished(self, session: Session, stanza: Stanza) -> set[str]:
        """
        It is unavailable (4.5.2).

        @return: The addresses of those who know it now, or will soon.
        """
        owner = self._own(session)
        if owner not in self._store.owners or session.is_guest:
            return set()
        self._newcomers.discard(session)
        watchers = self._read(self._store.watchers, owner)
        receivers = self._known(session, watchers)
        if not self._pace.holds(session):
            self._send(stanza, receivers, session)
            self._pace.sent(session, len(receivers))
        return {*map(self.keys.address, watchers), *(each.jid.full() for each in receivers)}

    def tell(self, session: Session) -> None:
        """It is told the changes of its roster from now on."""
        self.interested.setdefault(self._own(session), {})[session] = None

    def is_told(self, session: Session) -> bool:
        """Whether it is."""
        return session in self.interested.get(self._own(session), ())

    def ended(self, session: Session) -> None:
        """It is over, or goes on at another server: what had to wait is told now."""
        if self._pace.ended(session):
            self._say(session)
            self._pace.ended(session)
        self._newcomers.discard(session)
        owner = self._own(session)
        interested = self.interested.get(owner, {})
        interested.pop(session, None)
        if not interested:
            self.interested.pop(owner, None)

    def _read(self, read: Callable[[str], list[_T]], owner: str) -> list[_T]:
        try:
            return read(owner)
        except StoreUnusable as problem:
            self.unreadable(problem)
            return []

    def _available(self, keys: Iterable[str]) -> list[Session]:
        available, address = self._sessions.available, self.keys.address
        return [other for key in keys for other in available(address(key))]

    def _known(self, session: Session, keys: Iterable[str]) -> list[Session]:
        """The available sessions of users, without those who are blocked, or have blocked."""
        found = self._available(keys)
        if self._lists.users:
            found = [other for other in found if not self._lists.part(session.jid, other.jid)]
        return found

    def hide(self, user: str, others: Collection[str]) -> int:
        """
        A user has blocked others: those who could see him see him go.

        @return: How many stanzas that takes.
        """
        shown = self._sessions.available(user)
        watchers = self._available(self._read(self._store.watchers, self.keys.own(user)))
        receivers = [each for each in watchers if matches(others, each.jid.full())]
        for session in shown if receivers else ():
            self._send(unavailable(session), receivers, session)
        return len(shown) * len(receivers)

    def seen_again(self, owner: str, others: Collection[str]) -> int:
        """
        And does not block them any more: they see each other, as far as they may.

        @return: See L{hide}.
        """
        sent, shown = 0, self._available((owner,))
        watchers = self._read(self._store.watchers, owner)
        watched = self._read(self._store.watched, owner)
        for session in shown:
            known = self._known(session, watchers)
            receivers = [each for each in known if matches(others, each.jid.full())]
            self._show(session, receivers)
            sent += len(receivers)
            for other in self._known(session, watched):
                if matches(others, other.jid.full()):
                    self._show(other, (session,))
                    sent += 1
        return sent

    def _show(self, shown: Session, receivers: Iterable[Session]) -> None:
        if shown.presence is not None:
            self._send(shown.presence, receivers, shown)

    def _send(self, stanza: Stanza, receivers: Iterable[Session], source: object) -> None:
        """In a lane that is no party's: nobody waits for who may see him and does not read."""
        copies = [(receiver, receiver.jid.full()) for receiver in receivers]
        sent = self._broadcast.send(stanza, copies, ("contacts", source))
        self._router.dropped["presence"] += sent

    # changes

    def change(self, account: str, change: Callable[[Act], Outcome]) -> Deferred[Outcome]:
        """
        Make a change, and do what follows from it.

        @param account: Who asked for it.
        """
        asked = self.changes.ask(account, lambda book: change(Act(book, self.settings)))
        return asked.addCallback(self._follow)

    def _follow(self, outcome: Outcome) -> Outcome:
        for told in self.on_outcome:
            told(outcome)
        for owner, watcher in outcome.lost:
            self._vanish(owner, watcher)
        for stanza in outcome.told:
            self._tell(stanza)
        for (owner, key), (contact, version) in outcome.pushes.items():
            self.push(owner, key, contact, version)
        for owner, watcher in outcome.gained:
            self._appear(owner, watcher)
        return outcome

    def push(self, owner: str, key: str, contact: Contact | None, version: str) -> None:
        """Tell each resource that has asked for the roster (RFC 6121 2.1.6)."""
        interested = self.interested.get(owner)
        if not interested:
            return
        for group, shown in self._in_common(owner, key):
            contact = as_mate(contact or Contact(key), group, shown)
        if self.unsettled:
            version += "~"  # of no roster, so that it is asked for as a whole
        payload = items.query(items.written(self.keys.address(key), contact), version)
        for session in interested:
            self.pushed += 1
            to = quote_attribute(session.jid.full())
            push = f"<iq type='set' id='push{self.pushed}' to={to}>{payload}</iq>"
            session.send(SplicedStanza((b"iq", None, None, push.encode())))

    def _in_common(self, owner: str, key: str) -> list[tuple[str, str]]:
        return self._read(lambda user: self._store.in_common(user, key), owner)

    def _tell(self, told: Told) -> None:
        """
        Deliver a subscription stanza: a request to those who are available, the others to
        those too who have asked for the roster (RFC 6121 3.1.3, 3.1.6, 3.2.3, 3.3.3).
        """
        address = self.keys.address
        to = address(told.owner)
        raw = told.raw.encode() or self._plain(told.kind, address(told.sender), to)
        receivers = dict.fromkeys(self._sessions.available(to))
        if told.kind != "subscribe":
            receivers |= self.interested.get(told.owner, {})
        for receiver in receivers:
            self._deliver(raw, receiver)

    def _deliver(self, raw: bytes, receiver: Session) -> None:
        """A subscription stanza; nothing from who is blocked."""
        user = receiver.jid.userhost()
        if user in self._lists.users:
            sender = parse_jid(of_bytes(raw).sender or self.keys.domain)
            if self._lists.blocks(user, sender):
                return
        if receiver.deliver((raw,), None):
            self._router.refuse(of_bytes(raw))

    def _appear(self, owner: str, watcher: str) -> None:
        for shown in self._available((owner,)):
            self._show(shown, self._known(shown, (watcher,)))

    def _vanish(self, owner: str, watcher: str) -> None:
        if self._in_common(owner, watcher):
            return
        receivers = self._available((watcher,))
        for shown in self._available((owner,)) if receivers else ():
            self._send(unavailable(shown), receivers, shown)

    def _own(self, session: Session) -> str:
        return self.keys.own(session.jid.userhost())

    def unreadable(self, problem: StoreUnusable) -> None:
        """Tell of a store that cannot be read, now and then."""
        now = self.changes.clock.seconds()
        if now - self._told_unreadable >= TOLD_AGAIN:
            self._told_unreadable = now
            self.log.error("contacts cannot be read: {cause} Cure: {cure}", **problem.fault.fields)
