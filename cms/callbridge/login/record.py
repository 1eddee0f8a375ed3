"""Step 12 on the Callbridge: the recent log-ins that it decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from cms import faults
from cms.linkprotocol.mechanisms import mechanism_label
from cms.process.clocks import wall_clock
from cms.signalflow import Attempt, Step, StepError

KEEP = 20  # of each kind


class Logins:
    """
    A bounded record.  Failed log-ins do not push out successful ones, nor do guests who are
    not admitted push out log-ins.

    @param component: The address of this Callbridge.
    """

    def __init__(self, clock: IReactorTime, component: Callable[[], str]) -> None:
        self._clock = clock
        self._component = component
        self._good: deque[tuple[int, float, float, str]] = deque(maxlen=KEEP)
        self._bad: deque[Attempt] = deque(maxlen=KEEP)
        self._guests: deque[Attempt] = deque(maxlen=KEEP)
        self._turned_away: deque[Attempt] = deque(maxlen=KEEP)
        self._count = 0

    def decided(self, mechanism: str, result: str, seconds: float) -> None:
        """
        A log-in came to an end.

        @param mechanism: As the client named it.
        @param result: C{success}, C{lost} with the link, or a SASL condition.
        """
        now = wall_clock(self._clock)()
        self._count += 1
        began = now - max(0.0, seconds)
        if result == "success":
            self._good.append((self._count, began, now, mechanism))
            return
        attempt = _begun(self._count, began, mechanism)
        if result == "lost":
            attempt.abandoned(now)
        else:
            fault = faults.login_refused(self._component(), result)
            attempt.failed(now, fault)
        self._bad.append(attempt)

    def guest(self, result: str, peer: str, fault: StepError | None, **seen: str) -> None:
        """
        It was decided whether a guest is admitted.

        @param result: Of L{cms.callbridge.rooms.doorkeeper.RESULTS}.
        @param seen: What is shown besides; no passcode, secret or token.
        """
        now = wall_clock(self._clock)()
        self._count += 1
        attempt = Attempt(self._count, now)
        attempt.begin(Step.LOGIN, now, admission=result, peer=peer, **seen)
        if fault is None:
            attempt.passed(now)
            self._guests.append(attempt)
        else:
            attempt.failed(now, fault)
            self._turned_away.append(attempt)

    def __iter__(self) -> Iterator[Attempt]:
        """The newest first."""
        good = []
        for number, began, ended, mechanism in self._good:
            attempt = _begun(number, began, mechanism)
            attempt.passed(ended)
            good.append(attempt)
        both = (*good, *self._bad, *self._guests, *self._turned_away)
        return iter(sorted(both, key=lambda attempt: attempt.number, reverse=True))


def _begun(number: int, began: float, mechanism: str) -> Attempt:
    attempt = Attempt(number, began)
    attempt.begin(Step.LOGIN, began, mechanism=mechanism_label(mechanism))
    return attempt
