"""
The Callbridge's link: a machine whose states are the steps of the signal flow.

    idle -> finding -> resolving -> connecting -> registering -> confirming -> active
             (3, 4)       (5)          (6)          (7 to 10)                   (11)

In resolving, connecting and registering, a failure leads to the next target, or to
waiting if there is none.  In confirming and active, the end of the link leads to
waiting.  After waiting, a new attempt begins.  A link whose connection was lost may be
resumed (docs/link-management.md): from active by resuming, connecting and registering back
to active.  A new configuration or a stop leads from
every state to halting, where the old connection ends.  docs/link-states.md has the
whole table.

An L{Attempt<cms.signalflow.Attempt>} records each step that was tried, with its
evidence, and how it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred

from cms.callbridge.config import LinkSettings
from cms.callbridge.link.core import LinkCore
from cms.callbridge.link.inputs import Inputs
from cms.callbridge.link.registration import ComponentRegistration
from cms.discovery.lookup import Found
from cms.fast.machines import Machine
from cms.signalflow import Step
from cms.xmlstream.traffic import Traffic


class Link:
    """
    The link as its owner sees it.

    @ivar history: The last attempts, oldest first.
    @ivar on_step: See L{LinkCore}.
    @ivar on_rest: See L{LinkCore}.
    """

    def __init__(self, core: LinkCore) -> None:
        self._core = core
        self._inputs = core.inputs = _machine(core)
        self.history = core.history
        self.on_step = core.on_step
        self.on_rest = core.on_rest

    def start(self) -> None:
        """
        Begin, and go on until L{stop}.  If an earlier stop is still under way, begin when
        the old connection is closed.
        """
        if not self._core.wanted:
            self._core.wanted = True
            self._inputs.start()

    def stop(self) -> Deferred[None]:
        """
        End the link properly.

        @return: Fires when nothing of it is open any more, within
            L{CLOSE_TIMEOUT<cms.xmlstream.stream.CLOSE_TIMEOUT>}.
        """
        stopped: Deferred[None] = Deferred()
        self._core.wanted = False
        self._core.stopped.append(stopped)
        self._inputs.halt()
        return stopped

    def configure(self, settings: LinkSettings) -> None:
        """Use other settings: the attempt or link ends, and a new attempt begins."""
        self._core.settings = settings
        if self._core.wanted:
            self._inputs.halt()

    def reconnect(self) -> None:
        """
        Begin a new attempt at once, with delays as at the start: what waits, is under way or
        is up ends.
        """
        self.configure(self._core.settings)

    @property
    def state(self) -> str:
        """What the link is doing, for people."""
        return self._core.state

    @property
    def resumed(self) -> int:
        """How often a link was resumed after its connection broke."""
        return self._core.comeback.resumed

    @property
    def since(self) -> float | None:
        """When it became active, in seconds since the epoch; C{None} while it is not."""
        return self._core.since

    @property
    def reached(self) -> int:
        """The furthest step of the last attempt, 0 before the first."""
        last = self.history.last
        return int(last.reached) if last is not None else 0

    @property
    def stream(self) -> ComponentRegistration | None:
        """Its connection, from step 7 on."""
        return self._core.stream

    @property
    def traffic(self) -> Traffic:
        """What its connections have carried since the process began."""
        return self._core.carried.with_live(self._core.streams)

    def describe(self) -> str:
        """What the link is doing, and why it is not active, on one line."""
        core, last = self._core, self.history.last
        peer = core.stream.peer if core.stream is not None else "the XMPP server"
        if core.since is not None:
            return f"{Step.ACTIVE}: the link to {peer} is up"
        if last is not None and last.running is not None:
            return f"{last.running.step}: attempt {last.number} for {core.settings.component}"
        if core.state == "waiting" and last is not None and last.failure is not None:
            return f"waiting; {last.failure.step} failed: {last.failure.cause}"
        return f"{core.state}; {core.settings.component}"

    def status(self) -> dict[str, Any]:
        """State, step, peer, since when, and the last failure, as plain data."""
        core, last = self._core, self.history.last
        failure = next((a.failure for a in reversed(list(self.history)) if a.failure), None)
        waits = core.state == "waiting"
        problem = core.stream.unserved if core.stream is not None else None
        return {
            "state": core.state,
            "step": int(last.reached) if last is not None else 0,
            "component": core.settings.component,
            "peer": core.stream.peer if core.stream is not None else None,
            "since": core.since,
            "nextAttempt": core.next_at if waits else None,
            "nextAttemptSeconds": max(0, ceil(core.next_at - core.now)) if waits else None,
            "unprotected": core.settings.unprotected,
            "problem": problem.as_dict() if problem is not None else None,
            "lastFailure": failure.as_dict() if failure is not None else None,
        }


def _make_machine() -> Callable[[LinkCore], Inputs]:
    machine = TypeMachineBuilder(Inputs, LinkCore)
    idle = machine.state("idle")
    finding = machine.state("finding")
    resolving = machine.state("resolving")
    connecting = machine.state("connecting")
    registering = machine.state("registering")
    confirming = machine.state("confirming")
    active = machine.state("active")
    waiting = machine.state("waiting")
    resuming = machine.state("resuming")
    halting = machine.state("halting")

    halting.upon(Inputs.start).loop().returns(None)  # a new attempt follows the end of the old one
    halting.upon(Inputs.halt).loop().returns(None)
    halting.upon(Inputs.halted).to(idle).returns(None)

    @idle.upon(Inputs.start).to(finding)
    @waiting.upon(Inputs.begin).to(finding)
    @halting.upon(Inputs.begin).to(finding)
    def find(inputs: Inputs, core: LinkCore) -> None:
        core.find()

    @finding.upon(Inputs.found).to(resolving)
    @resolving.upon(Inputs.try_next).to(resolving)
    @connecting.upon(Inputs.try_next).to(resolving)
    @registering.upon(Inputs.try_next).to(resolving)
    def resolve(inputs: Inputs, core: LinkCore) -> None:
        core.resolve()

    @active.upon(Inputs.broken).to(resuming)
    @connecting.upon(Inputs.again).to(resuming)
    @registering.upon(Inputs.again).to(resuming)
    def come_back(inputs: Inputs, core: LinkCore) -> None:
        core.come_back()

    @registering.upon(Inputs.resumed).to(active)
    def restore(inputs: Inputs, core: LinkCore) -> None:
        core.restore()

    @resolving.upon(Inputs.resolved).to(connecting)
    @resuming.upon(Inputs.resolved).to(connecting)
    def connect(inputs: Inputs, core: LinkCore, found: Found) -> None:
        core.connect(found)

    @connecting.upon(Inputs.connected).to(registering)
    def register(inputs: Inputs, core: LinkCore, stream: ComponentRegistration) -> None:
        core.register(stream)

    @registering.upon(Inputs.registered).to(confirming)
    def confirm(inputs: Inputs, core: LinkCore) -> None:
        core.confirm()

    @confirming.upon(Inputs.confirmed).to(active)
    def celebrate(inputs: Inputs, core: LinkCore) -> None:
        core.celebrate()

    @finding.upon(Inputs.rest).to(waiting)
    @resolving.upon(Inputs.rest).to(waiting)
    @connecting.upon(Inputs.rest).to(waiting)
    @registering.upon(Inputs.rest).to(waiting)
    @confirming.upon(Inputs.rest).to(waiting)
    @active.upon(Inputs.rest).to(waiting)
    def rest(inputs: Inputs, core: LinkCore) -> None:
        core.rest()

    @idle.upon(Inputs.halt).to(halting)
    @finding.upon(Inputs.halt).to(halting)
    @resolving.upon(Inputs.halt).to(halting)
    @connecting.upon(Inputs.halt).to(halting)
    @registering.upon(Inputs.halt).to(halting)
    @confirming.upon(Inputs.halt).to(halting)
    @active.upon(Inputs.halt).to(halting)
    @waiting.upon(Inputs.halt).to(halting)
    @resuming.upon(Inputs.halt).to(halting)
    def halt(inputs: Inputs, core: LinkCore) -> None:
        core.halt()

    return Machine(machine)


_machine = _make_machine()
