"""One log-in under way, and what became of it: for metrics, signal flow and record."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall

from cms.callbridge.login.mechanisms import Mechanism
from cms.callbridge.passwords.scram import SASLFailure, WrongProof
from cms.linkprotocol import login as lp
from cms.protection.guessing import Guess
from cms.record.names import shown_name

_T = TypeVar("_T")
Answer = lp.Challenge | lp.Success | lp.Failed

# Why a log-in failed, for the operator alone.  What is not here is a condition of RFC 6120 6.5.
WRONG_PASSWORD, NO_SUCH_USER = "wrong-password", "no-such-user"
LOCKED: Final = "locked"  # too many were wrong before
LOCKED_THERE: Final = "locked-by-directory"
DIRECTORY: Final = "directory"  # it failed, or did not answer
CHANGED: Final = "changed"  # the user was disabled, deleted or given another password meanwhile


class Decision(NamedTuple):
    """
    A log-in that has ended.

    @ivar mechanism: As the client named it.
    @ivar result: C{success}, C{lost} with the link, or a SASL condition.
    @ivar seconds: How long it took.
    @ivar user: What may be shown of its name (L{cms.record.names}); empty if none was named.
    @ivar known: Whether there is such a user; C{None}: it is not known.
    @ivar reason: Why it failed, in a word; empty if it did not.
    @ivar text: What is said of that, which holds no secret.
    @ivar peer: Where it came from.
    @ivar exchange: Its ID at the link, which is not shown; empty for one that never began.
    @ivar guest: Whether a guest has logged in, who is no user.
    """

    mechanism: str
    result: str
    seconds: float
    user: str = ""
    known: bool | None = None
    reason: str = ""
    text: str = ""
    peer: str = ""
    exchange: str = ""
    guest: bool = False


def reason_of(failure: SASLFailure, known: bool | None) -> str:
    """Why the client was refused."""
    if isinstance(failure, WrongProof):
        if failure.locked:
            return LOCKED_THERE
        return NO_SUCH_USER if known is False else WRONG_PASSWORD
    return LOCKED if failure.wait else failure.condition


@define(eq=False)
class Exchange:
    """
    One log-in under way.

    @ivar guess: Set once the client has named an account.
    @ivar pending: The decision under way.
    @ivar ended: It was ended from outside.
    @ivar last: The answer in that case; C{None} if the link is gone and nobody could
        receive one.
    @ivar known: Whether there is such a user; C{None}: it is not known.
    @ivar reason: Why it fails, for the operator, and what is said of it.
    @ivar guest: See L{Decision}.
    """

    id: str
    mechanism_name: str
    peer: str
    expiry: IDelayedCall
    began: float
    mechanism: Mechanism = field(init=False)
    claimed: str | None = None
    guess: Guess | None = None
    pending: Deferred[Answer] | None = None
    ended: bool = False
    last: lp.Failed | None = None
    known: bool | None = None
    reason: str = ""
    text: str = ""
    guest: bool = False

    @property
    def shown(self) -> str:
        """What may be shown of the name."""
        return shown_name(self.claimed or "", known=bool(self.known))

    def decision(self, result: str, seconds: float) -> Decision:
        """It has ended like this."""
        user = (self.known and self.claimed) or self.shown  # a call less for each log-in
        return Decision(
            *(self.mechanism_name, result, seconds, user, self.known),
            *(self.reason, self.text, self.peer, self.id, self.guest),
        )


def run(coroutine: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """
    Like C{Deferred.fromCoroutine}, but cheaper for a coroutine that does not wait, as in
    most log-ins.
    """
    try:
        waiting = coroutine.send(None)
    except StopIteration as done:
        return succeed(done.value)
    except Exception:  # noqa: BLE001 - it is the result, whatever it is
        return fail()
    return Deferred.fromCoroutine(_go_on(coroutine, waiting))


async def _go_on(coroutine: Coroutine[Deferred[Any], Any, _T], waiting: Deferred[Any]) -> _T:
    try:
        while True:
            try:
                result = await waiting
            except Exception as problem:  # noqa: BLE001 - it is the coroutine's
                waiting = coroutine.throw(problem)
            else:
                waiting = coroutine.send(result)
    except StopIteration as done:
        value: _T = done.value
        return value
