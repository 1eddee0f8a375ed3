"""How a daemon starts, before there is a daemon."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import cms
from cms.process.logs import LEVELS, Logger, quieten
from cms.process.startup import DaemonOptions, ReloadOnHangup, settle
from cms.xmpp.router import Router
from tests.support import as_observer


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def options(self, *arguments: str, **twistd: Any) -> DaemonOptions:
        """Parsed below twistd's own options."""
        options = DaemonOptions()
        options.parent = cast("usage.Options", twistd)  # which are a dictionary too
        options.parseOptions(arguments)
        return options

    def test_refused(self) -> None:
        """Each mistake says what would be right."""
        for words, arguments, twistd in (
            ("--config FILE is missing", (), {}),
            ("text or json", ("--config", "x", "--log-format", "xml"), {}),
            ("debug, info, warn", ("--config", "x", "--log-level", "loud"), {}),
            ("without --uid", ("--config", "x"), {"uid": 0}),
            ("without --uid", ("--config", "x"), {"gid": 7}),
        ):
            with self.assertRaisesRegex(usage.UsageError, words):
                self.options(*arguments, **twistd)

    def test_log(self) -> None:
        """What is logged goes where twistd was told, in the form that we were told."""
        json_form = ("--config", "x", "--log-format", "json")
        for arguments, twistd, expected in (
            (json_form[:2], {"nodaemon": 1}, ("text", None)),
            (json_form, {"nodaemon": 1, "logfile": None}, ("json", None)),
            (json_form, {"nodaemon": 1, "logfile": "-"}, ("json", None)),
            (json_form, {"nodaemon": 1, "logfile": "a.log"}, ("json", "a.log")),
            (json_form[:2], {"logfile": "a.log"}, ("text", "a.log")),
            (json_form[:2], {"nodaemon": 0}, ("text", "twistd.log")),
        ):
            with patch("cms.process.startup.choose") as choose:
                options = self.options(*arguments, **twistd)
            choose.assert_called_once_with(*expected)
            assert options.parent is not None
            self.assertEqual("cms.process.logs.chosen", options.parent["logger"])

    def test_other_logs(self) -> None:
        """An observer that twistd was told of, and syslog, stay."""
        for twistd in ({"logger": "a.b"}, {"syslog": True}):
            with patch("cms.process.startup.choose") as choose:
                options = self.options("--config", "x", nodaemon=1, **twistd)
            choose.assert_not_called()
            assert options.parent is not None
            self.assertEqual(twistd.get("logger"), options.parent.get("logger"))
        with self.assertRaisesRegex(usage.UsageError, "no standard output"):
            self.options("--config", "x", logfile="-")


class ReactorTests(SynchronousTestCase):
    """Which reactor a daemon runs on."""

    def test_ours(self) -> None:
        """Nothing that twistd loads before the start brings in another one."""
        environment = {**os.environ, "PYTHONPATH": str(Path(cms.__file__).parents[1])}
        for role in ("xmpp", "callbridge"):
            code = (
                f"import sys, cms.{role}.options\n"
                "raise SystemExit('twisted.internet.reactor' in sys.modules)"
            )
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, timeout=60, env=environment, check=False)
            self.assertEqual(0, done.returncode, role)


class SettleTests(SynchronousTestCase):
    """The garbage collector."""

    def test_frozen(self) -> None:
        """What was loaded at the start is not looked at again."""
        self.addCleanup(gc.unfreeze)
        settle()
        self.assertGreater(gc.get_freeze_count(), 10_000)


class LevelTests(SynchronousTestCase):
    """How much is logged."""

    def test_levels(self) -> None:
        """What is below the level is no event at all; what is above is."""
        self.addCleanup(quieten, "debug")
        for least, expected in (
            ("debug", ["debug", "info", "warn", "error"]),
            ("warn", ["warn", "error"]),
            ("error", ["error"]),
        ):
            events: list[LogEvent] = []
            log = Logger(observer=as_observer(events.append))
            quieten(least)
            for level in LEVELS:
                getattr(log, level)("hello")
            self.assertEqual(expected, [event["log_level"].name for event in events])

    def test_source(self) -> None:
        """A logger on a class still says whose it is."""
        self.assertEqual("cms.xmpp.router.Router", Router.log.namespace)


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
