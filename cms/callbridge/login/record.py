"""Step 12 on the Callbridge: the recent log-ins that it decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from cms import faults
from cms.callbridge.login.decision import Decision
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
        self._good: deque[tuple[int, float, float, Decision]] = deque(maxlen=KEEP)
        self._bad: deque[Attempt] = deque(maxlen=KEEP)
        self._guests: deque[Attempt] = deque(maxlen=KEEP)
        self._turned_away: deque[Attempt] = deque(maxlen=KEEP)
        self._count = 0

    def decided(self, decision: Decision) -> None:
        """A log-in came to an end."""
        now = wall_clock(self._clock)()
        self._count += 1
        began = now - max(0.0, decision.seconds)
        if decision.result == "success":
            self._good.append((self._count, began, now, decision))
            return
        attempt = _begun(self._count, began, decision)
        if decision.result == "lost":
            attempt.abandoned(now)
        else:
            fault = faults.login_refused(self._component(), decision.result)
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
        for number, began, ended, decision in self._good:
            attempt = _begun(number, began, decision)
            attempt.passed(ended)
            good.append(attempt)
        both = (*good, *self._bad, *self._guests, *self._turned_away)
        return iter(sorted(both, key=lambda attempt: attempt.number, reverse=True))


def _begun(number: int, began: float, decision: Decision) -> Attempt:
    attempt = Attempt(number, began)
    seen = {"user": decision.user, "peer": decision.peer}
    shown = {key: value for key, value in seen.items() if value}
    attempt.begin(Step.LOGIN, began, mechanism=mechanism_label(decision.mechanism), **shown)
    return attempt
