"""Endings that go on to their end."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from cms.process.cleanup import call_all, run_all
from tests import LoggedError


class EndingTests(SynchronousTestCase):
    """What fails is logged, and the rest is done."""

    log = Logger()

    def fail_once(self, *told: object) -> None:
        """A part that fails."""
        raise ZeroDivisionError

    def test_every_part(self) -> None:
        """In their order, whatever one does."""
        done: list[str] = []
        run_all(self.log, "it", lambda: done.append("a"), self.fail_once, lambda: done.append("b"))
        self.assertEqual(["a", "b"], done)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_every_listener(self) -> None:
        """All are told, also one that leaves meanwhile."""
        told: list[str] = []

        def leave(what: str) -> None:
            told.append(f"leaver {what}")
            listeners.remove(leave)

        listeners: list[Callable[[str], object]] = [leave, self.fail_once, told.append]
        call_all(self.log, listeners, "news")
        self.assertEqual(["leaver news", "news"], told)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class LoggedErrorTests(SynchronousTestCase):
    """The net under all tests."""

    def test_an_error_is_a_failure(self) -> None:
        """trial hears of a line that has no failure with it."""
        log = Logger()
        log.error("this {word} fell", word="much")
        log.critical("and this")
        log.warn("this is well")
        said = [str(failure.value) for failure in self.flushLoggedErrors(LoggedError)]
        self.assertEqual(["this much fell", "and this"], said)
