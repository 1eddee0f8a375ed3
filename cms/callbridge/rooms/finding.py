"""
The space of a call ID, for somebody who is logged in.

Members find theirs.  What others ask for in vain counts as a guess.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms import faults
from cms.callbridge.rooms.admission import Admission, NotAdmitted
from cms.callbridge.spaces.model import Entry, SpaceError, checked_call_id
from cms.linkprotocol import join
from cms.protection.guessing import Guesses, Limit, Limits, TooManyGuesses
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.toldfault import ToldFault, as_condition

# Who is logged in asks each Callbridge, most of which do not have the space.
FINDS = Limits(
    pair=Limit(20, 6.0),
    known=Limit(20, 6.0),
    account=Limit(60, 60.0),
    address=Limit(200, 6.0),
)


class CallIds:
    """
    Answers C{<find xmlns='urn:x-cms:join:1' callId='...'/>}.

    @param component: The component's address now; rooms are below it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        admission: Admission,
        component: Callable[[], str],
    ) -> None:
        self._admission = admission
        self._component = component
        self._guesses = Guesses(clock, limits=FINDS)

    def find(self, address: str, call_id: str) -> Deferred[Element]:
        """
        @param address: Who asks.
        @return: C{<space jid='' name=''/>}; fails with L{StanzaError}: C{item-not-found}
            where there is none, or none for people who are not its members.
        """
        return Deferred.fromCoroutine(self._find(address, call_id))

    async def _find(self, address: str, call_id: str) -> Element:
        try:
            jid = parse_jid(address)
            call_id = checked_call_id(call_id)
        except (MalformedJID, SpaceError):
            raise StanzaError("bad-request", text="there is no call ID") from None
        if self._admission.is_visitor(jid):
            raise StanzaError("forbidden", text="a guest finds no spaces")
        account, host = str(jid.userhost()), await self._admission.host(jid)
        try:
            way = await self._admission.way("call_id", call_id)
            entry = await self._admission.entry("" if way is None else way.space.uri, account)
        except NotAdmitted as problem:
            raise StanzaError(problem.condition, type=problem.type) from None
        if entry is not None and entry.banned:
            entry = None
        if entry is None or entry.member is None:
            entry = self._for_others(entry, account, host)
        found = Element((join.NS, "space"))
        found["jid"] = f"{entry.space.uri}@{self._component()}"
        found["name"] = entry.space.name
        return found

    def _for_others(self, entry: Entry | None, account: str, host: str) -> Entry:
        try:
            guess = self._guesses.begin(account, host)
            guess.weigh()
        except TooManyGuesses as problem:
            raise _slowed(problem.seconds) from None
        if entry is None or not entry.space.non_member_access:
            guess.failed()
            raise StanzaError("item-not-found", text="no space has this call ID")
        guess.abandoned()
        return entry


def _slowed(seconds: float) -> StanzaError:
    told = ToldFault(faults.JOIN_SLOWED.name, join.seconds_of(seconds))
    text = "too many call IDs were wrong"
    return StanzaError("policy-violation", type="wait", text=text, appCondition=as_condition(told))
