"""The reactor's own two habits, with real sockets on a reactor that nobody else uses."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

from twisted.internet import main
from twisted.trial.unittest import SynchronousTestCase

from cms.fast import reactor as module
from cms.fast.reactor import PromptReactor


class Sender:
    """
    A descriptor that writes what it is given, as Twisted's own do.

    @ivar lost: Why its connection ended.
    """

    def __init__(self, reactor: PromptReactor, handle: socket.socket) -> None:
        handle.setblocking(False)
        self.reactor = reactor
        self.handle = handle
        self.waiting = b""
        self.lost: Any = None
        self.on_write: Any = None

    def say(self, data: bytes) -> None:
        """Write it when there is time."""
        self.waiting += data
        self.reactor.addWriter(self)

    def fileno(self) -> int:
        """From C{IFileDescriptor}."""
        return self.handle.fileno()

    def logPrefix(self) -> str:
        """From C{ILoggingContext}."""
        return "-"

    def doWrite(self) -> Any:
        """From C{IWriteDescriptor}."""
        if self.on_write is not None:
            self.on_write()
        try:
            self.waiting = self.waiting[self.handle.send(self.waiting) :]
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not self.waiting:
            self.reactor.removeWriter(self)
        return None

    def doRead(self) -> Any:
        """From C{IReadDescriptor}."""
        return None if self.handle.recv(65536) else main.CONNECTION_DONE

    def connectionLost(self, reason: Any) -> None:
        """From C{IFileDescriptor}."""
        self.lost = reason
        self.handle.close()


class ReactorTests(SynchronousTestCase):
    """One turn at a time."""

    def setUp(self) -> None:
        """A reactor that does not run, and a connection on it."""
        self.reactor = PromptReactor()
        self.addCleanup(self.reactor._poller.close)
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.sender = Sender(self.reactor, ours)
        self.addCleanup(self.peer.close)
        self.addCleanup(ours.close)

    def heard(self) -> bytes:
        """What has arrived at the other end."""
        said = b""
        while True:
            try:
                data = self.peer.recv(65536)
            except BlockingIOError:
                return said
            if not data:
                return said
            said += data

    def turn(self) -> None:
        """What the main loop does, without waiting."""
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(0)

    def test_sent_at_the_end_of_the_turn(self) -> None:
        """Everything written in one turn leaves together, and nothing is waited for."""
        self.sender.say(b"one")
        self.sender.say(b"two")
        self.assertEqual(b"", self.heard())
        self.assertIn(self.sender, self.reactor.getWriters())
        self.reactor.runUntilCurrent()
        self.assertEqual(b"onetwo", self.heard())
        self.assertNotIn(self.sender, self.reactor.getWriters())
        self.assertNotIn(self.sender.fileno(), self.reactor._writes)

    def test_the_rest_is_waited_for(self) -> None:
        """What the socket does not take is sent when it can, once the peer has read."""
        much = b"x" * 4_000_000
        self.sender.say(much)
        self.reactor.runUntilCurrent()
        self.assertIn(self.sender.fileno(), self.reactor._writes)
        self.assertIn(self.sender, self.reactor.getWriters())
        received = 0
        for _ in range(1000):
            received += len(self.heard())
            self.turn()
            if received == len(much):
                break
        self.assertEqual(len(much), received)
        self.assertNotIn(self.sender.fileno(), self.reactor._writes)
        self.assertEqual([], [w for w in self.reactor.getWriters() if w is self.sender])

    def test_written_while_sending(self) -> None:
        """What sending leads to leaves in the same turn: a writer may write to another."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        second = Sender(self.reactor, ours)
        self.sender.on_write = lambda: second.say(b"more") if not second.waiting else None
        self.sender.say(b"x")
        self.reactor.runUntilCurrent()
        self.assertEqual(b"more", theirs.recv(100))

    def test_call_made_while_sending(self) -> None:
        """A call that sending has scheduled is not slept through."""
        self.sender.on_write = lambda: self.reactor.callLater(0, lambda: None)
        self.sender.say(b"x")
        self.reactor.runUntilCurrent()
        self.assertEqual(0, self.reactor.timeout())

    def test_broken_connection(self) -> None:
        """A peer that is gone is noticed at once, and the writer forgotten."""
        self.peer.close()
        self.sender.say(b"x")
        self.reactor.runUntilCurrent()
        self.assertTrue(self.sender.lost)
        self.assertEqual([], [w for w in self.reactor.getWriters() if w is self.sender])

    def test_exception_while_writing(self) -> None:
        """An error in a writer is logged, and ends that connection only."""

        def fail() -> None:
            raise RuntimeError("on purpose")

        self.sender.on_write = fail
        self.sender.say(b"x")
        self.reactor.runUntilCurrent()
        self.assertTrue(self.sender.lost.check(RuntimeError))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_remove_all(self) -> None:
        """At the end every writer is handed over once, sent or not."""
        self.sender.say(b"x")
        self.reactor.addReader(self.sender)
        self.assertEqual(1, self.reactor.removeAll().count(self.sender))
        self.assertEqual([], [w for w in self.reactor.getWriters() if w is self.sender])

    def test_remove_all_that_wait(self) -> None:
        """A writer whose rest is waited for is let go too: its number may come again."""
        self.sender.say(b"x" * 4_000_000)
        self.reactor.runUntilCurrent()
        self.assertIn(self.sender.fileno(), self.reactor._writes)
        self.assertEqual(1, self.reactor.removeAll().count(self.sender))
        self.assertNotIn(self.sender.fileno(), self.reactor._writes)
        self.assertEqual([], [w for w in self.reactor.getWriters() if w is self.sender])

    def test_stopped_while_sending(self) -> None:
        """C{stop} called by a writer takes effect in the same turn."""
        events: list[str] = []
        self.reactor.addSystemEventTrigger("before", "shutdown", events.append, "stopped")
        self.reactor._stopped = False  # as when it runs
        self.sender.on_write = self.reactor.stop
        self.sender.say(b"x")
        self.reactor.runUntilCurrent()
        self.assertEqual(["stopped"], events)

    def test_reading(self) -> None:
        """A readable descriptor is read, and one whose peer left is lost."""
        self.reactor.addReader(self.sender)
        self.peer.send(b"hello")
        self.turn()
        self.assertIsNone(self.sender.lost)
        self.peer.close()
        self.turn()
        self.assertTrue(self.sender.lost)


class FakePoller:
    """C{select.epoll}, with time that passes at each look."""

    def __init__(self, answers: list[list[tuple[int, int]]]) -> None:
        self.answers = answers
        self.asked: list[float] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """The next answer."""
        self.asked.append(timeout)
        return self.answers.pop(0) if self.answers else []

    def close(self) -> None:
        """From C{epoll}."""


class SpinTests(SynchronousTestCase):
    """How long it looks before it sleeps."""

    def setUp(self) -> None:
        """A reactor whose kernel and whose time are ours."""
        self.reactor = PromptReactor(spin=3.0)
        self.reactor._poller.close()
        self.now = 0.0
        self.patch(time, "perf_counter", lambda: self.now)
        self.patch(os, "sched_yield", lambda: self.passes(1.0))
        self.patch(module, "CROWDED_SECONDS", 1.5)

    def passes(self, seconds: float) -> None:
        """So much time."""
        self.now += seconds

    def poll(self, timeout: float | None, *answers: list[tuple[int, int]]) -> list[float]:
        """Poll once; with which time limits the kernel was asked."""
        self.reactor._poller = poller = FakePoller(list(answers))
        self.reactor.doPoll(timeout)
        return poller.asked

    def test_idle_sleeps(self) -> None:
        """Nothing happened lately: it sleeps at once, as long as it was told."""
        self.assertEqual([-1], self.poll(None))
        self.assertEqual([7.0], self.poll(7.0))

    def test_busy_looks_again(self) -> None:
        """After something happened it looks for a while, sleeps, and is then idle."""
        self.poll(None, [(-7, 1)])
        asked = self.poll(9.0)
        self.assertEqual([0, 0, 0, 0, 9.0], asked)
        self.assertEqual([9.0], self.poll(9.0))

    def test_crowded(self) -> None:
        """Where others want the processor it does not compete for it."""
        self.patch(os, "sched_yield", lambda: self.passes(2.0))
        self.poll(None, [(-7, 1)])
        self.assertEqual([0, 9.0], self.poll(9.0))

    def test_found(self) -> None:
        """What comes while it looks is handled without sleeping."""
        self.poll(None, [(-7, 1)])
        self.assertEqual([0, 0], self.poll(9.0, [], [(-7, 1)]))

    def test_in_vain(self) -> None:
        """Where that brings nothing it is done in ever fewer turns, and again when it does."""

        def turns(number: int, *, bring: bool = False) -> list[bool]:
            looked = []
            for _ in range(number):
                self.poll(None, [(-7, 1)])
                answers = ([], [(-7, 1)]) if bring else ()
                looked.append(len(self.poll(9.0, *answers)) > 1)
            return looked

        self.assertEqual([True, False, True, False, False, False, True], turns(7))
        turns(200)
        self.assertEqual(3, sum(turns(96)))
        turns(32, bring=True)
        self.assertTrue(all(turns(5, bring=True)))

    def test_due_soon(self) -> None:
        """A call that is due sooner than that is not delayed."""
        self.poll(None, [(-7, 1)])
        self.assertEqual([2.0], self.poll(2.0))

    def test_without(self) -> None:
        """No spin, no second look."""
        self.reactor = PromptReactor()
        self.reactor._poller.close()
        self.poll(None, [(-7, 1)])
        self.assertEqual([9.0], self.poll(9.0))


class InstallTests(SynchronousTestCase):
    """Becoming the reactor of a process."""

    def install(self, modules: dict[str, object], processors: int) -> list[PromptReactor]:
        """Which reactors were installed."""
        installed: list[PromptReactor] = []
        self.patch(module, "installReactor", installed.append)
        self.patch(sys, "modules", modules)
        self.patch(os, "cpu_count", lambda: processors)
        module.install(3.0)
        for reactor in installed:
            reactor._poller.close()
        return installed

    def test_only_once(self) -> None:
        """A process that has a reactor keeps it."""
        self.assertEqual([], self.install({"twisted.internet.reactor": object()}, 2))

    def test_spin(self) -> None:
        """With one processor there is nothing to look for while others wait for it."""
        self.assertEqual([3.0, 0.0], [self.install({}, n)[0]._spin for n in (2, 1)])
