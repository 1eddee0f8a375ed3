"""Who may enter a room: its members, and whoever knows its passcode (XEP-0045 7.2)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID

from cms.callbridge.login.visitors import Visitors
from cms.callbridge.rooms.room import Standing
from cms.callbridge.spaces.directory import Spaces
from cms.callbridge.spaces.model import Entry, Member, Way
from cms.callbridge.spaces.rows import WayBy
from cms.linkprotocol.join import is_visitor
from cms.process.logs import LineLimiter, Logger
from cms.process.threads import TooMuchWork
from cms.protection.guessing import Guesses, Limit, Limits, TooManyGuesses
from cms.state.database import StoreError, StoreUnusable

# One space from one address: 10 wrong ones, then one in six seconds; where the right one
# was given before, a hundred.  A space from everywhere: 20, then 20 an hour.  An address
# for all spaces: 10, then one a minute.
PASSCODES = Limits(
    pair=Limit(10, 6.0),
    known=Limit(100, 60.0),
    account=Limit(20, 180.0),
    address=Limit(10, 60.0),
)
NOTICE = 0.1  # seconds until the notice of a session that has just begun is here at the latest

REASONS = (
    *("unknown", "moved", "banned", "members-only", "passcode", "undecided"),
    *("conflict", "full", "nickname", "busy", "guest"),
)
UNKNOWN, MOVED, BANNED, MEMBERS, PASSCODE, UNDECIDED, CONFLICT, FULL, NICKNAME, BUSY, GUEST = (
    REASONS
)


@define
class Figures:
    """
    What happened.

    @ivar joined: How often somebody came in.
    @ivar refused: Likewise, somebody did not, by reason.
    """

    joined: int = 0
    refused: dict[str, int] = field(factory=lambda: dict.fromkeys(REASONS, 0))


class NotAdmitted(StanzaError):
    """
    Somebody may not enter.

    @ivar reason: For figures and the log.
    @ivar elsewhere: The address that the space has, where that is another.
    """

    def __init__(self, reason: str, condition: str, text: str, kind: str | None = None) -> None:
        super().__init__(condition, type=kind, text=text)
        self.reason = reason
        self.elsewhere: str | None = None


def standing_of(member: Member | None) -> Standing:
    """What the permissions of a member, or having none, come to in a room."""
    if member is None:
        return Standing("none", "participant")
    if "canDestroy" in member.permissions:
        return Standing("owner", "moderator")
    if member.moderates:
        return Standing("admin", "moderator")
    return Standing(
        "member", "participant" if "canPostMessage" in member.permissions else "visitor"
    )


class Admission:
    """
    Decides who enters.

    A passcode is looked at for strangers alone, so nobody's guesses keep a member out.
    One that is not looked at, because too many were wrong, is answered like a wrong one.

    @param domain: The XMPP domain now.
    @param peer: The IP address behind a full address of that domain; C{None} where it is
        not known.
    @ivar visitors: The guests that were admitted to a space.  Each enters that, and no other.
    @ivar guesses: Counts wrong passcodes.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spaces: Spaces,
        domain: Callable[[], str],
        peer: Callable[[str], str | None],
        visitors: Visitors,
    ) -> None:
        self.visitors = visitors
        self._clock = clock
        self._spaces = spaces
        self._domain = domain
        self._peer = peer
        self._lines = LineLimiter(clock.seconds)
        self.guesses = Guesses(clock, limits=PASSCODES)

    def admit(self, uri: str, jid: JID, passcode: str) -> Deferred[Entry]:
        """
        @param uri: The prepared local part of the room's address.
        @param passcode: What was given; empty: nothing.
        @return: Fails with L{NotAdmitted}.
        """
        return Deferred.fromCoroutine(self._admit(uri, jid, passcode))

    async def entry(self, uri: str, account: str) -> Entry | None:
        """
        What there is of a space, whoever asks.

        @raise NotAdmitted: it cannot be told now.
        """
        try:
            return await self._spaces.entry(uri, account)
        except (StoreError, TooMuchWork) as problem:
            raise self._undecided(problem) from None

    def _complain(self, problem: Exception) -> None:
        """An operator hears why nobody comes in; a flood of joins does not fill the log."""
        if not self._lines.allows():
            return
        if isinstance(problem, StoreUnusable):
            self.log.warn("nobody enters a room: {cause} Cure: {cure}", **problem.fault.fields)
        else:
            why = str(problem) or "too many look-ups wait"
            self.log.warn("somebody did not enter a room: {why}", why=why)

    def is_visitor(self, jid: JID) -> bool:
        """Whether somebody is a guest that was admitted, here or by another Callbridge."""
        return jid.host == self._domain() and bool(is_visitor(str(jid.user or "")))

    async def _admit_visitor(self, uri: str, jid: JID) -> Entry:
        """A guest hears nothing of other spaces, not even whether there are any."""
        visitor = self.visitors.find(str(jid.user))
        entry = await self.entry(uri, jid.userhost())
        if (
            visitor is None
            or entry is None
            or entry.space.id != visitor.space
            or not visitor.may_come_by(await self.way("id", visitor.way))
        ):
            raise NotAdmitted(GUEST, "forbidden", "a guest enters the space of his pass", "auth")
        return entry

    async def way(self, by: WayBy, value: str) -> Way | None:
        """
        See L{Spaces.way}.

        @raise NotAdmitted: it cannot be told now.
        """
        try:
            return await self._spaces.way(by, value)
        except (StoreError, TooMuchWork) as problem:
            raise self._undecided(problem) from None

    def _undecided(self, problem: Exception) -> NotAdmitted:
        self._complain(problem)
        text = "the spaces cannot be looked up now"
        return NotAdmitted(UNDECIDED, "internal-server-error", text, "wait")

    async def _admit(self, uri: str, jid: JID, passcode: str) -> Entry:
        if self.is_visitor(jid):
            return await self._admit_visitor(uri, jid)
        entry = await self.entry(uri, jid.userhost())
        if entry is None:
            raise NotAdmitted(UNKNOWN, "item-not-found", "there is no such space")
        if entry.space.uri != uri:
            moved = NotAdmitted(MOVED, "gone", "the space has another address")
            moved.elsewhere = entry.space.uri
            raise moved
        if entry.banned:
            raise NotAdmitted(BANNED, "forbidden", "you were banned from this space", "auth")
        if entry.member is not None:
            return entry
        if not entry.space.non_member_access:
            text = "this space is for its members"
            raise NotAdmitted(MEMBERS, "registration-required", text, "auth")
        if entry.passcodes and not (passcode and await self._opens(entry, jid, passcode)):
            text = "this space needs its passcode"
            raise NotAdmitted(PASSCODE, "not-authorized", text, "auth")
        return entry

    async def _opens(self, entry: Entry, jid: JID, passcode: str) -> bool:
        try:
            guess = self.guesses.begin(entry.space.id, await self.host(jid))
            guess.weigh()
        except TooManyGuesses:
            return False
        given = passcode.encode()
        right = [hmac.compare_digest(given, code.encode()) for code in entry.passcodes]
        if any(right):
            guess.succeeded()
            return True
        guess.failed()
        guess.name(entry.space.name)
        return False

    async def host(self, jid: JID) -> str:
        """What guesses are counted for: an IP address, or the account where none is known."""
        peer = self._peer(jid.full())
        if peer is None and jid.host == self._domain():
            await deferLater(self._clock, NOTICE)
            peer = self._peer(jid.full())
        return str(jid.userhost()) if peer is None else peer
