"""
The record of a daemon: who logged in, or not, and why; and what became of its links.

An entry costs the reactor's thread an append; a thread makes lines of them and writes them,
some times a second.  Steps of one link that wait together are one line (L{cms.record.steps}).
What cannot be written is lost, said once, and counted in the record.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from cms.configuration.shared import RecordSettings
from cms.process.clocks import wall_clock
from cms.process.logs import Logger, login_id
from cms.process.threads import SlowWork, shielded
from cms.record.files import LINKS, STRANGERS, USERS, Files, read
from cms.record.reading import Wanted
from cms.record.steps import MOST as MOST_STEPS
from cms.record.steps import Entry, Steps
from cms.signalflow import Attempt, Step, StepRecord, counted
from cms.state.folder import explain_os

WRITE_EVERY = 0.5  # seconds; so much may be lost in a crash
SWEEP_EVERY = 3_600.0
STOP_SECONDS = 3.0  # a disk that hangs does not keep the daemon from its end
MOST_WAITING = 5_000  # entries
# Log-ins, ends of sessions, and failures of one user, failures from one network, and lines of
# links of one component: of each so many in a row, and then one every some seconds.
BURST, EVERY = 100, 10.0
MOST_SOURCES = 2_000


class Record:
    """
    The record of one daemon.

    @param days: How long an entry is kept; 0: there is no record.
    @param most: Bytes of all files together.
    @param run: Names this run of the daemon.
    @ivar lost: How many entries could not be written, or were too many at once.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, state_dir: Path, role: str, run: str, *, days: int, most: int
    ) -> None:
        self._clock: IReactorTime = reactor
        self._now = wall_clock(reactor)
        self._state_dir = state_dir
        self._run = run
        self._role = role
        self.is_on = days > 0
        self._files = Files(state_dir, days, most)
        self._work = SlowWork(reactor, at_once=1, most_waiting=4)
        self._reads = SlowWork(reactor, at_once=1, most_waiting=20)
        self._waiting: list[tuple[str, Entry | Steps]] = []
        self._attempts: dict[Attempt, Steps] = {}  # of these, the last of each
        self._timer: IDelayedCall | None = None
        self._sweeps: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self.lost = self._lost = 0
        self._is_failing = False
        self._sources: OrderedDict[str, tuple[float, float, int]] = OrderedDict()

    def start(self) -> None:
        """Delete what is too old, now and then."""
        if self.is_on:
            self._sweep()

    def _sweep(self) -> None:
        self._sweeps = self._clock.callLater(SWEEP_EVERY, self._sweep)
        self._run_in_thread(lambda: self._files.sweep(self._now()), 0)

    def stop(self) -> Deferred[None]:
        """Write what waits."""
        if self._sweeps is not None:
            self._sweeps.cancel()
            self._sweeps = None
        stopped = self._flush().addTimeout(STOP_SECONDS, self._clock)
        return stopped.addErrback(_gave_up)

    def _flush(self) -> Deferred[None]:
        """Write what waits now, unless something is being written already."""
        if self._writing is not None:
            return shielded(self._writing)
        if self._timer is not None:
            self._timer.cancel()
        self._write()
        return succeed(None) if self._writing is None else shielded(self._writing)

    # what is recorded

    def login(self, user: str, source: str, *, known: bool, good: bool, **facts: object) -> None:
        """
        A log-in came to an end.

        @param user: What may be shown of the name (L{cms.record.names}).
        @param source: The network that it came from, which has a limit of its own for failures.
        @param known: Whether there is such a user; a guest is none.
        @param facts: No password, no SASL data.
        """
        if not self.is_on:
            return
        entry: Entry = {"at": self._now(), "kind": "login", "by": self._role, "user": user, **facts}
        whose = f"{'+' if good else '@'}{user}" if known else ""
        left_out = self._left_out(whose, "" if good else source)
        self._add(USERS if known else STRANGERS, entry, left_out)

    def _left_out(self, *sources: str) -> int | None:
        """
        Count an entry for its sources.

        @return: How many of these were left out since the last that was kept; C{None}: so is
            this one, since there were too many of one source.
        """
        now, told, admitted = self._clock.seconds(), 0, True
        states = []
        for source in sources:
            if source:
                level, at, left_out = self._sources.get(source, (0.0, now, 0))
                level = max(0.0, level - (now - at) / EVERY)
                states.append((source, level, left_out))
                admitted = admitted and level < BURST
                told += left_out
        for source, level, left_out in states:
            kept = (level + 1, now, 0) if admitted else (level, now, left_out + 1)
            self._sources[source] = kept
            self._sources.move_to_end(source)
        while len(self._sources) > MOST_SOURCES:
            self._sources.popitem(last=False)
        return told if admitted else None

    def guest(self, result: str, peer: str, source: str, *, good: bool, **facts: object) -> None:
        """It was decided whether a guest is admitted; no passcode, secret or token."""
        if not self.is_on:
            return
        entry: Entry = {"at": self._now(), "kind": "guest", "by": self._role, **facts}
        entry |= {"result": result, "peer": peer}
        self._add(STRANGERS, entry, self._left_out("" if good else source))

    def session(self, user: str, *, known: bool = True, **facts: object) -> None:
        """
        Something happened to a session.

        @param known: See L{login}.
        """
        if self.is_on:
            entry = {"at": self._now(), "kind": "session", "by": self._role, "user": user, **facts}
            left_out = self._left_out(f"-{user}" if known else "")
            self._add(USERS if known else STRANGERS, entry, left_out)

    def step(self, attempt: Attempt, record: StepRecord, *, known: bool = True) -> None:
        """
        A step of a link has ended, or the link is up.

        @param known: Whether it is a component that is known here.
        """
        if not self.is_on or (record.result == "running" and record.step is not Step.ACTIVE):
            return
        steps = self._attempts.get(attempt)
        if steps is None or len(steps) >= MOST_STEPS:
            steps = Steps(attempt, self._now(), self._role, self._run)
            if not self._add(LINKS, steps):
                return
            self._attempts[attempt] = steps
        steps.known = known
        steps.add(self._now(), record)
        if record.step is Step.ACTIVE and record.result != "running":
            del self._attempts[attempt]  # it was the last of them

    def _add(self, share: str, entry: Entry | Steps, left_out: int | None = 0) -> bool:
        """Whether it waits to be written."""
        if left_out is None:
            return False
        if left_out and isinstance(entry, dict):
            entry["leftOut"] = left_out
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            self._lost += 1
            return False
        self._waiting.append((share, entry))
        if self._timer is None:
            self._timer = self._clock.callLater(WRITE_EVERY, self._write)
        return True

    # writing

    def _write(self) -> None:
        self._timer = None
        if self._writing is not None:
            self._timer = self._clock.callLater(WRITE_EVERY, self._write)
            return
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._attempts.clear()
        entries = [each for each in map(self._judged, waiting) if each is not None]
        if self._lost and not self._is_failing:
            entries.append((USERS, self._lost_entry()))
        number = sum(len(each) if isinstance(each, Steps) else 1 for _, each in entries)
        made = partial(_finished, entries)
        self._run_in_thread(lambda: self._files.write(made(), self._now()), number)

    def _judged(self, waiting: tuple[str, Entry | Steps]) -> tuple[str, Entry | Steps] | None:
        """Of steps it is known only now whose they are."""
        steps = waiting[1]
        if not isinstance(steps, Steps):
            return waiting
        left_out = self._left_out(steps.source)
        if left_out is None:
            return None
        steps.left_out = left_out
        return LINKS if steps.known else STRANGERS, steps

    def _lost_entry(self) -> Entry:
        lost, self._lost = self._lost, 0
        return {"at": self._now(), "kind": "lost", "by": self._role, "number": lost}

    def _run_in_thread(self, work: Callable[[], None], entries: int) -> None:
        running = self._writing = self._work.run(work)

        def done(result: Any) -> None:
            if self._writing is running:
                self._writing = None
            if isinstance(result, Failure):
                self._failed(result, entries)
            elif entries:
                self._succeeded()

        running.addBoth(done)
        if running.called:
            self._writing = None

    def _failed(self, failure: Failure, entries: int) -> None:
        self.lost += entries
        self._lost += entries
        if self._is_failing:
            return
        self._is_failing = True
        problem = failure.value
        if isinstance(problem, OSError):
            fault = explain_os(self._state_dir, problem)
            self.log.warn(
                "the record of log-ins loses entries: {cause} Cure: {cure}", **fault.fields
            )
        else:
            self.log.failure("the record of log-ins loses entries", failure)

    def _succeeded(self) -> None:
        if self._is_failing:
            self._is_failing = False
            lost = counted(self._lost, "entry", "entries")
            self.log.info("the record of log-ins goes on; {lost} lost", lost=lost)

    # reading

    def find(self, wanted: Wanted) -> Deferred[list[Entry]]:
        """
        What is asked for, read in a thread.

        @return: Fails with C{OSError} and L{TooMuchWork<cms.process.threads.TooMuchWork>}.
        """
        asked: Deferred[list[Entry]] = self._flush().addBoth(
            lambda _: self._reads.run(
                lambda: wanted.of(read(self._state_dir, wanted.since, wanted.needles))
            )
        )
        return asked


def _gave_up(failure: Failure) -> None:
    failure.trap(DeferredTimeout)


def _finished(entries: list[tuple[str, Entry | Steps]]) -> list[tuple[str, Entry | Steps]]:
    """With what the reactor's thread had no time for."""
    for _, entry in entries:
        if isinstance(entry, Steps):
            continue
        exchange = entry.pop("exchange", "")
        if exchange:
            entry["login"] = login_id(exchange)
        entry["at"] = round(entry["at"], 3)
        if "seconds" in entry:
            entry["seconds"] = round(entry["seconds"], 4)
    return entries


def make_record(reactor: Any, settings: RecordSettings, state_dir: Path, role: str) -> Record:
    """The record of a daemon, as it is configured."""
    run = os.urandom(4).hex()
    return Record(*(reactor, state_dir, role, run), days=settings.days, most=settings.most_bytes)
