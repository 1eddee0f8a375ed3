"""
One room (XEP-0045), without I/O: what somebody in it does, and what each hears of it.

Who may enter has been decided before.  Moderators see real addresses, others do not
(semi-anonymous, XEP-0045 4.2).  What is heard goes out as L{Item}s, in the order in
which everybody hears it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, field, frozen
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms.callbridge.rooms.copies import (
    MESSAGE,
    PRESENCE,
    Copies,
    Item,
    Roll,
    closed,
    delay,
    item,
    occupant_id,
    opened,
    plain,
    receiver,
    stanza_id,
    subject,
    user_x,
)
from cms.callbridge.rooms.history import History, Wanted, stamp
from cms.xmlstream import ns
from cms.xmlstream.serialize import escape_text, quote_attribute

MOST_MESSAGE_BYTES = 32_768
MOST_PRESENCE_BYTES = 8_192
MOST_SUBJECT = 1_000  # characters
MOST_REASON = 500  # characters of why somebody was thrown out
MOST_PENDING = 16  # things of one occupant that have not left yet

SELF, ASSIGNED, BANNED, NICK, KICKED, NOT_A_MEMBER, SHUTDOWN = 110, 210, 301, 303, 307, 321, 332


@frozen
class Standing:
    """
    What an occupant is and may do (XEP-0045 5).

    @ivar affiliation: C{owner}, C{admin}, C{member} or C{none}.
    @ivar role: C{moderator}, C{participant} or C{visitor}.
    """

    affiliation: str
    role: str


@define(eq=False)
class Occupant:
    """
    Somebody in a room.

    @ivar jid: The full address, prepared.
    @ivar account: The bare one.
    @ivar usual: What its membership makes of it, whatever moderators gave or took.
    @ivar head: The last presence, as L{opened} has it.
    @ivar shown: The whole of it, for others and for moderators.
    @ivar stale: It has changed since it was told, and will be told again.
    """

    jid: str
    account: str
    nick: str
    id: str
    standing: Standing
    usual: Standing = field(init=False)
    head: bytes = b""
    shown: tuple[bytes, bytes] = b"", b""
    stale: bool = False
    to: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.to = receiver(self.jid)
        self.usual = self.standing

    def move(self, jid: str) -> None:
        """It has another full address from now on."""
        self.jid, self.to = jid, receiver(jid)

    @property
    def moderates(self) -> bool:
        """Whether it is a moderator."""
        return self.standing.role == "moderator"


class Room:
    """
    The occupants of a space, and what they say.

    @param space: The id of the space.
    @param address: The room's, C{uri@component}.
    @param post: Sends something, and calls a function when all of it has left.
    @param now: Seconds since the epoch.
    @param run: Random: the ids of messages begin with it.
    @ivar empty: There is nobody in it.
    """

    def __init__(
        self,
        space: str,
        address: str,
        post: Callable[[Item, Callable[[], object]], object],
        now: Callable[[], float],
        run: str,
    ) -> None:
        self.space = space
        self.address = address
        self._put = post
        self._now = now
        self._run = run
        self._numbers = itertools.count(1)
        self.occupants: dict[str, Occupant] = {}
        self.by_jid: dict[str, Occupant] = {}
        self._history = History()
        nothing = plain(address, "groupchat", subject(""), "message")
        self._subject: tuple[bytes, bytes] = MESSAGE, nothing
        self._pending: Counter[str] = Counter()
        self._everybody: list[bytes] | None = None

    @property
    def uri(self) -> str:
        """The local part of its address."""
        return self.address.partition("@")[0]

    @property
    def empty(self) -> bool:
        """Whether nobody is in it."""
        return not self.occupants

    def sender(self, nick: str) -> str:
        """An occupant's address in the room."""
        return f"{self.address}/{nick}"

    # presence

    def enter(
        self,
        occupant: Occupant,
        element: Element,
        wanted: Wanted,
        *,
        assigned: bool = False,
    ) -> None:
        """
        Somebody has come in (XEP-0045 7.2).

        @param element: The presence.
        @param assigned: The nickname is not written as it was asked for.
        @raise StanzaError: the nickname is somebody else's, the presence is too long, or too
            much of this account waits already.
        """
        if occupant.nick in self.occupants:
            raise StanzaError("conflict", text="the nickname is in use")
        self._check_pending(occupant)
        self._set_presence(occupant, element)
        others = list(self.occupants.values())
        self.occupants[occupant.nick] = self.by_jid[occupant.jid] = occupant
        self._everybody = None
        self._tell_who_is_here(occupant, others)
        self._announce(occupant, (ASSIGNED,) if assigned else ())
        self._tell_what_was_said(occupant, wanted)

    def enter_again(self, occupant: Occupant, element: Element, wanted: Wanted) -> None:
        """
        An occupant asks to enter: its program has forgotten that it is in.  It is told
        everything; for the others its presence has changed.

        @raise StanzaError: see L{enter}.
        """
        self._check_pending(occupant)
        self._set_presence(occupant, element)
        others = [other for other in self.occupants.values() if other is not occupant]
        self._tell_who_is_here(occupant, others)
        self._announce(occupant)
        self._tell_what_was_said(occupant, wanted)

    def take_over(
        self,
        occupant: Occupant,
        jid: str,
        element: Element,
        wanted: Wanted,
    ) -> None:
        """
        Another session of a guest is the occupant from now on.  The one before is told that
        it is in no more; for the others the presence has changed.

        @raise StanzaError: see L{enter}.
        """
        self._check_pending(occupant)
        self._set_presence(occupant, element)
        gone = user_x(item("none", "none"), (SELF,))
        rest = closed(self._gone_head(occupant), "presence", gone)
        self._post(Copies(PRESENCE, (occupant.to,), rest))
        del self.by_jid[occupant.jid]
        occupant.move(jid)
        self.by_jid[jid] = occupant
        self._everybody = None
        others = [other for other in self.occupants.values() if other is not occupant]
        self._tell_who_is_here(occupant, others)
        self._announce(occupant)
        self._tell_what_was_said(occupant, wanted)

    def show(self, occupant: Occupant, element: Element) -> None:
        """
        An occupant's presence has changed (7.7).  A flood of changes is told as one.

        @raise StanzaError: it is too long.
        """
        self._set_presence(occupant, element)
        if self._pending[occupant.account] >= MOST_PENDING:
            occupant.stale = True
        else:
            self._announce(occupant)

    def rename(self, occupant: Occupant, nick: str, element: Element, *, assigned: bool) -> None:
        """
        An occupant wants another nickname (7.6).

        @raise StanzaError: it is somebody else's, or too much of this waits already.
        """
        if nick in self.occupants:
            raise StanzaError("conflict", text="the nickname is in use")
        self._check_pending(occupant)
        before, old = occupant.nick, self._gone_head(occupant)
        occupant.nick = nick
        try:
            self._set_presence(occupant, element)
        except StanzaError:
            occupant.nick = before
            raise
        tails = self._tails(occupant, nick=nick, statuses=(NICK,), role=occupant.standing.role)
        self._spread(occupant, old, tails)
        del self.occupants[before]
        self.occupants[nick] = occupant
        self._announce(occupant, (ASSIGNED,) if assigned else ())

    def leave(self, occupant: Occupant, element: Element | None = None) -> None:
        """
        An occupant is gone (7.14).

        @param element: What it said, if it did.
        """
        head = self._gone_head(occupant)
        if element is not None:
            head = opened(element, self.sender(occupant.nick), occupant_id(occupant.id))
        self._remove(occupant, head, self._tails(occupant, role="none"))

    def throw_out(
        self,
        occupant: Occupant,
        *statuses: int,
        affiliation: str | None = None,
        reason: str = "",
        actor: str | None = None,
    ) -> None:
        """
        An occupant has to leave.

        @param statuses: Why (XEP-0045 15.6).
        @param affiliation: What it is from now on.
        @param actor: The nickname of who wanted it so.
        """
        tails = self._tails(
            *(occupant,),
            role="none",
            affiliation=affiliation,
            reason=reason[:MOST_REASON],
            actor=actor,
            statuses=statuses,
        )
        self._remove(occupant, self._gone_head(occupant), tails)

    def close(self, *statuses: int, ended: str | None = None, alternate: str | None = None) -> None:
        """
        Everybody has to leave, and each hears of himself alone.

        @param ended: Why there is no such room any more (10.9).
        @param alternate: Where it is now.
        """
        destroyed = ""
        if ended is not None:
            named = "" if alternate is None else f" jid={quote_attribute(alternate)}"
            destroyed = f"<destroy{named}><reason>{escape_text(ended)}</reason></destroy>"
        for occupant in list(self.occupants.values()):
            own = user_x(item("none", "none"), (SELF, *statuses), destroyed)
            rest = closed(self._gone_head(occupant), "presence", own)
            self._forget(occupant)
            self._post(Copies(PRESENCE, (occupant.to,), rest))

    def stand(self, occupant: Occupant, standing: Standing, reason: str = "") -> None:
        """What an occupant may do has changed (8.3, 8.4)."""
        if standing != occupant.standing:
            occupant.standing = standing
            self._announce(occupant, reason=reason)
            if occupant.moderates:  # who sees real addresses from now on
                others = [other for other in self.occupants.values() if other is not occupant]
                self._tell_who_is_here(occupant, others)

    def _sent(self, occupant: Occupant) -> None:
        account = occupant.account
        self._pending[account] -= 1
        if self._pending[account] <= 0:
            del self._pending[account]
        if occupant.stale and self._pending[account] < MOST_PENDING and self._is_here(occupant):
            occupant.stale = False
            self._announce(occupant)

    # messages

    def say(self, occupant: Occupant, element: Element) -> None:
        """
        An occupant says something to all (7.4), or sets the subject (8.1).

        @raise StanzaError: it may not, or too much of this waits already.
        """
        if occupant.standing.role == "visitor":
            raise StanzaError("forbidden", text="visitors may not write to all")
        self._check_pending(occupant)
        named = list(element.elements(ns.CLIENT, "subject"))
        has_body = any(True for _ in element.elements(ns.CLIENT, "body"))
        sets_subject = (
            bool(named)
            and not has_body
            and not any(True for _ in element.elements(ns.CLIENT, "thread"))
        )
        if sets_subject:
            if not occupant.moderates:
                raise StanzaError("forbidden", text="the subject is for moderators to set")
            if len(str(named[0])) > MOST_SUBJECT:
                text = f"a subject has at most {MOST_SUBJECT} characters"
                raise StanzaError("policy-violation", type="modify", text=text)
        own = stanza_id(f"{self._run}-{next(self._numbers)}", self.address)
        sender = self.sender(occupant.nick)
        head = opened(element, sender, own + occupant_id(occupant.id))
        if len(head) > MOST_MESSAGE_BYTES:
            text = f"a message has at most {MOST_MESSAGE_BYTES} bytes"
            raise StanzaError("policy-violation", type="modify", text=text)
        if self._everybody is None:
            self._everybody = [other.to for other in self.occupants.values()]
        now = self._now()
        later = MESSAGE, closed(head, "message", delay(self.address, stamp(now)))
        if sets_subject:
            self._subject = later
        elif has_body:
            self._history.add(now, later)
        self._send(Copies(MESSAGE, self._everybody, closed(head, "message")), occupant)

    def whisper(self, occupant: Occupant, nick: str, element: Element) -> None:
        """
        An occupant says something to another (7.5).

        @raise StanzaError: there is no such one, or too much of this waits already.
        """
        other = self.occupant(nick)
        self._check_pending(occupant)
        own = occupant_id(occupant.id) + f"<x xmlns='{ns.MUC_USER}'/>"
        head = opened(element, self.sender(occupant.nick), own)
        if len(head) > MOST_MESSAGE_BYTES:
            text = f"a message has at most {MOST_MESSAGE_BYTES} bytes"
            raise StanzaError("policy-violation", type="modify", text=text)
        self._send(Copies(MESSAGE, (other.to,), closed(head, "message")), occupant)

    def probe(self, occupants: Iterable[Occupant]) -> None:
        """
        Say something that programs ignore: for a session that is gone it comes back as
        an error (10.2.1, status 104).
        """
        rest = plain(self.address, "groupchat", user_x("", (104,)), "message")
        self._post(Copies(MESSAGE, [occupant.to for occupant in occupants], rest))

    def occupant(self, nick: str) -> Occupant:
        """
        @raise StanzaError: there is nobody of that name.
        """
        found = self.occupants.get(nick)
        if found is None:
            raise StanzaError("item-not-found", text="there is nobody of that name")
        return found

    # parts

    def _is_here(self, occupant: Occupant) -> bool:
        return self.by_jid.get(occupant.jid) is occupant

    def _check_pending(self, occupant: Occupant) -> None:
        if self._pending[occupant.account] >= MOST_PENDING:
            text = "too much of this waits to be sent"
            raise StanzaError("resource-constraint", type="wait", text=text)

    def _post(self, what: Item) -> None:
        self._put(what, _nothing)

    def _send(self, what: Item, occupant: Occupant) -> None:
        """It counts against the account until it has left."""
        self._pending[occupant.account] += 1
        self._put(what, partial(self._sent, occupant))

    def _set_presence(self, occupant: Occupant, element: Element) -> None:
        head = opened(
            element, self.sender(occupant.nick), occupant_id(occupant.id), without=("priority",)
        )
        if len(head) > MOST_PRESENCE_BYTES:
            text = f"a presence has at most {MOST_PRESENCE_BYTES} bytes"
            raise StanzaError("policy-violation", type="modify", text=text)
        occupant.head = head

    def _gone_head(self, occupant: Occupant) -> bytes:
        sender = self.sender(occupant.nick)
        return plain(sender, "unavailable", occupant_id(occupant.id), "presence").removesuffix(
            b"</presence>"
        )

    def _announce(
        self, occupant: Occupant, statuses: tuple[int, ...] = (), reason: str = ""
    ) -> None:
        """Tell everybody of an occupant's presence and standing."""
        role = occupant.standing.role
        tails = self._tails(occupant, role=role, own=statuses)
        occupant.shown = (
            closed(occupant.head, "presence", tails[0]),
            closed(occupant.head, "presence", tails[1]),
        )
        if reason:
            tails = self._tails(occupant, role=role, own=statuses, reason=reason)
        self._spread(occupant, occupant.head, tails)

    def _tails(
        self,
        occupant: Occupant,
        *,
        role: str,
        affiliation: str | None = None,
        nick: str | None = None,
        reason: str = "",
        actor: str | None = None,
        statuses: tuple[int, ...] = (),
        own: tuple[int, ...] = (),
    ) -> tuple[str, str, str]:
        """For others, for moderators, and for the occupant itself."""
        given = affiliation or occupant.standing.affiliation

        def said(jid: str | None, codes: tuple[int, ...]) -> str:
            about = item(given, role, jid=jid, nick=nick, reason=reason, actor=actor)
            return user_x(about, codes)

        return (
            said(None, statuses),
            said(occupant.jid, statuses),
            said(occupant.jid, (SELF, *own, *statuses)),
        )

    def _spread(self, occupant: Occupant, head: bytes, tails: tuple[str, str, str]) -> None:
        """Tell everybody, the occupant itself at last."""
        seeing: list[bytes] = []
        others: list[bytes] = []
        for other in self.occupants.values():
            if other is not occupant:
                (seeing if other.moderates else others).append(other.to)
        for receivers, tail in ((others, tails[0]), (seeing, tails[1])):
            if receivers:
                self._post(Copies(PRESENCE, receivers, closed(head, "presence", tail)))
        self._send(Copies(PRESENCE, (occupant.to,), closed(head, "presence", tails[2])), occupant)

    def _remove(self, occupant: Occupant, head: bytes, tails: tuple[str, str, str]) -> None:
        self._spread(occupant, head, tails)
        self._forget(occupant)

    def _forget(self, occupant: Occupant) -> None:
        del self.occupants[occupant.nick], self.by_jid[occupant.jid]
        self._everybody = None

    def _tell_who_is_here(self, occupant: Occupant, others: list[Occupant]) -> None:
        which = 1 if occupant.moderates else 0
        stanzas = [(PRESENCE, other.shown[which]) for other in others]
        if stanzas:
            self._post(Roll(occupant.to, stanzas))

    def _tell_what_was_said(self, occupant: Occupant, wanted: Wanted) -> None:
        stanzas = [*self._history.what(wanted), self._subject]
        self._post(Roll(occupant.to, stanzas))


def _nothing() -> None:
    """Nobody waits for it."""
