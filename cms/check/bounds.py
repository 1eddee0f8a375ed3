"""Time limits for the parts of a check, with a failure that says what it waited for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

from cms import faults
from cms.check.lane import Waiting
from cms.signalflow import Step, StepError


@define
class Waits:
    """
    Remembers what the check waits for.

    @ivar tell: Called for each wait that begins, with how long it may take.
    """

    tell: Waiting
    step: Step = Step.CONFIGURATION
    about: str = ""

    def __call__(self, step: Step, about: str, seconds: float) -> None:
        """A wait begins."""
        self.step, self.about = step, about
        self.tell(step, about, seconds)

    def at(self, step: Step) -> None:
        """The check is at this step now, without a wait to report."""
        self.step, self.about = step, ""

    def unfinished(self, seconds: float) -> StepError:
        """The failure of a check that did not end in time, at its current step."""
        waiting = f"{self.step} ({self.about})" if self.about else str(self.step)
        fault = faults.CHECK_UNFINISHED.at(self.step)
        return fault.error(seconds=f"{seconds:g}", waiting=waiting)


def explained(problem: BaseException | None, step: Step) -> StepError:
    """A L{StepError} as it is; any other exception as an error of this program, at this step."""
    if isinstance(problem, StepError):
        return problem
    return faults.INTERNAL.at(step).error(problem=f"{type(problem).__name__}: {problem}")


async def within(
    reactor: Any, seconds: float, work: Coroutine[Any, Any, None], waits: Waits
) -> StepError | None:
    """
    Run a part of a check.

    @return: Why it did not complete, or C{None}; nothing is raised.
    """
    working = Deferred.fromCoroutine(work)
    timer = reactor.callLater(seconds, working.cancel)
    try:
        await working
    except Exception as problem:  # noqa: BLE001 - it is told, like everything else
        if not timer.active():
            return waits.unfinished(seconds)
        return explained(problem, waits.step)
    finally:
        if timer.active():
            timer.cancel()
    return None
