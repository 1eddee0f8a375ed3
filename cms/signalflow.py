"""
The signal flow: its twelve steps, and the record of one attempt to walk them.

This is the one definition of the steps.  Logs, status, metrics, C{cms check}
and the documents all speak of a step by the number and name given here.  The
module does no input or output and imports nothing of ours; time comes in as an
argument (seconds since the epoch).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from attrs import define, field


class Step(enum.IntEnum):
    """
    One step of the signal flow between Callbridge and XMPP server.

    @ivar title: Its name as people read it, such as C{link-before-login}.
    """

    LINK_BEFORE_LOGIN = 1
    CONFIGURATION = 2
    PORT = 3
    SRV = 4
    ADDRESS = 5
    CONNECT = 6
    TLS = 7
    IDENTITY = 8
    REGISTER = 9
    REGISTERED = 10
    ACTIVE = 11
    LOGIN = 12

    title: str

    def __init__(self, _: int) -> None:
        self.title = self._name_.lower().replace("_", "-")

    def __str__(self) -> str:
        return f"step {self.value} {self.title}"


def printable(text: str) -> str:
    """Peers' own words are among the evidence; they must not draw on a log or a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def counted(number: object, noun: str, plural: str = "") -> str:
    """
    A number with its noun: C{1 client}, C{2 clients}.

    @param number: Or its text.
    @param plural: Of a noun that takes more than an C{s}.
    """
    return f"{number} {noun if str(number) == '1' else plural or f'{noun}s'}"


class StepError(Exception):
    """
    A step of the signal flow failed.

    @ivar fault: The name of the catalogue entry, such as C{srv-missing}.
    @ivar step: Where in the signal flow it failed.
    @ivar cause: What is wrong, in one sentence.
    @ivar cure: What mends it, in one sentence.
    @ivar evidence: What was seen; never a secret, password or stanza body.
    @ivar mend: The command, record or setting that mends it, ready to be
        copied; empty where there is none.
    """

    def __init__(
        self,
        fault: str,
        step: Step,
        cause: str,
        cure: str,
        evidence: Mapping[str, str],
        *,
        mend: str = "",
    ) -> None:
        super().__init__(f"{step}: {cause} Cure: {cure}")
        self.fault = fault
        self.step = step
        self.cause = cause
        self.cure = cure
        self.evidence = dict(evidence)
        self.mend = mend

    @property
    def fields(self) -> dict[str, Any]:
        """What a line of the log about it has as fields, whatever of them its text shows."""
        return {
            "step": int(self.step),
            "step_text": str(self.step),
            "fault": self.fault,
            "cause": self.cause,
            "cure": self.cure,
        }

    def as_dict(self) -> dict[str, Any]:
        """The same facts as plain data, for status pages and JSON."""
        return {
            "fault": self.fault,
            "step": int(self.step),
            "name": self.step.title,
            "cause": self.cause,
            "cure": self.cure,
            "mend": self.mend,
            "evidence": dict(self.evidence),
        }


Result = Literal["running", "passed", "failed", "skipped"]


@define
class StepRecord:
    """
    What happened when one step was tried once.

    @ivar began: Seconds since the epoch.
    @ivar seconds: How long it took; C{None} while it runs.
    @ivar warnings: What works now but may fail later, one sentence each.
    """

    step: Step
    began: float
    result: Result = "running"
    seconds: float | None = None
    evidence: dict[str, str] = field(factory=dict)
    warnings: list[str] = field(factory=list)
    failure: StepError | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "step": int(self.step),
            "name": self.step.title,
            "began": self.began,
            "result": self.result,
            "seconds": self.seconds,
            "evidence": dict(self.evidence),
            "warnings": list(self.warnings),
            "failure": self.failure.as_dict() if self.failure else None,
        }


StepObserver = Callable[["Attempt", StepRecord], None]


@define(eq=False)
class Attempt:
    """
    One round from step 2 towards step 11: every step tried, in order.

    A round may try several targets and addresses, so a step can occur more
    than once.  At most one record is running at any time.

    @ivar number: Counts from 1 within a process.
    @ivar observer: Called each time a record begins or ends.
    @ivar id: Names it in logs, beyond this process.
    @ivar running: The record of the step being tried now.
    """

    number: int
    began: float
    observer: StepObserver = field(default=lambda attempt, record: None, repr=False)
    records: list[StepRecord] = field(factory=list)
    id: str = ""
    running: StepRecord | None = field(default=None, init=False)

    def begin(self, step: Step, now: float, **evidence: str) -> StepRecord:
        """Start trying C{step}; whatever was still running has passed."""
        if self.running is not None:
            self.passed(now)
        record = self.running = StepRecord(step, now, evidence=evidence)
        self.records.append(record)
        self.observer(self, record)
        return record

    def passed(self, now: float, **evidence: str) -> None:
        """The running step succeeded."""
        self._end("passed", now, None, evidence)

    def failed(self, now: float, error: StepError) -> None:
        """
        C{error} happened.  When it belongs to another step than the running
        one (a TLS alert can arrive during step 9), that step gets a record of
        its own.
        """
        if self.running is None or self.running.step is not error.step:
            if self.running is not None:
                done = error.step > self.running.step
                self._end("passed" if done else "skipped", now, None, {})
            self.running = StepRecord(error.step, now)
            self.records.append(self.running)
        self._end("failed", now, error, error.evidence)

    def once(self, step: Step, now: float, **evidence: str) -> None:
        """Record a step that begins and passes at the same moment."""
        self.begin(step, now)
        self.passed(now, **evidence)

    def abandoned(self, now: float) -> None:
        """The attempt ended for a reason that is nobody's failure."""
        if self.running is not None:
            self._end("skipped", now, None, {})

    def _end(
        self,
        result: Result,
        now: float,
        failure: StepError | None,
        evidence: Mapping[str, str],
    ) -> None:
        record = self.running
        if record is None:
            raise ValueError("no step is running")
        self.running = None
        record.result = result
        record.seconds = max(0.0, now - record.began)
        record.failure = failure
        for key, value in evidence.items():
            record.evidence[key] = printable(value)
        self.observer(self, record)

    @property
    def link_id(self) -> str | None:
        """Names its last connection in the logs of both sides, once the server has answered."""
        links = (r.evidence["link"] for r in reversed(self.records) if "link" in r.evidence)
        return next(links, None)

    @property
    def current(self) -> Step:
        """The step that is being tried, or was last."""
        return self.records[-1].step if self.records else Step.CONFIGURATION

    @property
    def reached(self) -> Step:
        """The furthest step that was tried."""
        return max((r.step for r in self.records), default=Step.CONFIGURATION)

    @property
    def failure(self) -> StepError | None:
        """
        The failure that tells most: of those that happened, the one at the
        furthest step, the latest of equals.
        """
        failures = [r.failure for r in self.records if r.failure is not None]
        return max(reversed(failures), key=lambda f: f.step, default=None)

    def as_dict(self) -> dict[str, Any]:
        """The attempt as plain data."""
        failure = self.failure
        return {
            "number": self.number,
            "began": self.began,
            "reached": int(self.reached),
            "failure": failure.as_dict() if failure else None,
            "steps": [record.as_dict() for record in self.records],
        }


class AttemptHistory:
    """
    The last attempts of one link, oldest first, never more than C{keep}.

    @param run: Names this run of the process; attempts count from 1 in each.
    """

    def __init__(self, keep: int = 20, run: str = "") -> None:
        self._run = run
        self._attempts: deque[Attempt] = deque(maxlen=keep)
        self._count = 0

    def begin(self, now: float, observer: StepObserver) -> Attempt:
        """Start the record of a new attempt."""
        self._count += 1
        name = f"{self._run}-{self._count}" if self._run else str(self._count)
        attempt = Attempt(self._count, now, observer, id=name)
        self._attempts.append(attempt)
        return attempt

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts)

    def __len__(self) -> int:
        return len(self._attempts)

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self._attempts[-1] if self._attempts else None
