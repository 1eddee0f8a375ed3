"""How a daemon starts, before there is a daemon."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from cms.startup import DaemonOptions, ReloadOnHangup


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def options(self, *arguments: str, **twistd: Any) -> DaemonOptions:
        """Parsed below twistd's own options."""
        options = DaemonOptions()
        options.parent = twistd
        options.parseOptions(arguments)
        return options

    def test_refused(self) -> None:
        """Each mistake says what would be right."""
        for words, arguments, twistd in (
            ("--config FILE is missing", (), {}),
            ("text or json", ("--config", "x", "--log-format", "xml"), {}),
            ("without --uid", ("--config", "x"), {"uid": 0}),
            ("without --uid", ("--config", "x"), {"gid": 7}),
        ):
            with self.assertRaisesRegex(usage.UsageError, words):
                self.options(*arguments, **twistd)

    def test_json(self) -> None:
        """twistd is told which logger to use."""
        options = self.options("--config", "x", "--log-format", "json", uid=None)
        self.assertEqual("cms.logs.json_to_stdout", options.parent["logger"])


class ReloadTests(SynchronousTestCase):
    """SIGHUP."""

    def test_reload(self) -> None:
        """It is handed to the reactor while the service runs, and given back after."""
        reloads: list[str] = []
        reactor: Any = MemoryReactorClock()
        reactor.callFromThread = lambda f: f()
        before = signal.getsignal(signal.SIGHUP)
        service = ReloadOnHangup(reactor, lambda: reloads.append("again"))
        service.startService()
        os.kill(os.getpid(), signal.SIGHUP)
        service.stopService()
        self.assertEqual(["again"], reloads)
        self.assertEqual(before, signal.getsignal(signal.SIGHUP))
