"""Starting a daemon under twistd, or stopping the start with one clear line."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from twisted.application.service import IService, MultiService, Service
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.python import usage

import cms
from cms.fast import reactor as prompt
from cms.process.clocks import make_steady, steady
from cms.process.logs import LEVELS, Logger, choose, quieten
from cms.process.openfiles import raise_limit, tell_when_out
from cms.process.systemd import ServiceManager
from cms.signalflow import StepError

log = Logger()


def give_up(error: StepError) -> NoReturn:
    """
    End the process with the error on one line and exit status 1.

    @raise SystemExit: always.
    """
    sys.stderr.write(f"{error.cause} Cure: {error.cure}\n")
    raise SystemExit(1)


class DaemonOptions(usage.Options):
    """
    The options of both daemons.

    @cvar spin: Seconds to look for more work before sleeping; see L{cms.fast.reactor}.
    """

    spin = 0.0

    optParameters = [
        ["config", "c", None, "The configuration file, in TOML."],
        ["log-format", None, "text", "text or json (one object a line)."],
        ["log-level", None, "info", f"{', '.join(LEVELS)}: what is logged, that and above."],
    ]

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"cms {cms.__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Check the options that twistd does not know."""
        if self["config"] is None:
            raise usage.UsageError("--config FILE is missing")
        if self["log-format"] not in ("text", "json"):
            raise usage.UsageError("--log-format is text or json")
        if self["log-level"] not in LEVELS:
            raise usage.UsageError(f"--log-level is one of {', '.join(LEVELS)}")
        parent: Any = getattr(self, "parent", None) or {}
        if parent.get("uid") is not None or parent.get("gid") is not None:
            # The state directory is made before twistd would change its user.
            raise usage.UsageError("start it as the user it is to run as, without --uid and --gid")
        self._choose_log(parent)

    def _choose_log(self, parent: Any) -> None:
        """Use our log observer, unless twistd's options name another or syslog."""
        if parent.get("logger") is not None or parent.get("syslog"):
            return
        file = parent.get("logfile")
        if not parent.get("nodaemon"):
            file = file or "twistd.log"  # twistd's own default
        if file == "-":
            if not parent.get("nodaemon"):
                raise usage.UsageError("a daemon in the background has no standard output")
            file = None
        choose(self["log-format"], file)
        parent["logger"] = "cms.process.logs.chosen"

    @property
    def config_file(self) -> Path:
        """The file that --config names."""
        return Path(self["config"]).absolute()


class Reloadable(Protocol):
    """A service with files that may change."""

    def reload(self) -> None:
        """Read keys and certificates again."""
        ...


class Daemon(Reloadable, Protocol):
    """
    The service of a role.

    @ivar on_change: Called when the result of L{describe} may have changed.
    """

    on_change: list[Callable[..., object]]

    def describe(self) -> str:
        """What the daemon is doing, on one line."""
        ...


def supervise(daemon: Daemon, reactor: Any, *others: Reloadable) -> MultiService:
    """
    The daemon with the services that connect it to its service manager.

    @param others: Services that start after the daemon, before it is ready.
    """
    services, manager = MultiService(), ServiceManager(reactor, daemon.describe)
    daemon.on_change.append(manager.refresh)

    def reload() -> None:
        for service in (daemon, *others):
            service.reload()

    def reload_and_tell() -> None:
        manager.reloading(reload)

    for service in (daemon, *others, ReloadOnHangup(reactor, reload_and_tell), manager):
        cast("IService", service).setServiceParent(services)
    return services


def build(make: Callable[[Path, Any], Service], options: DaemonOptions) -> Service:
    """
    A daemon's service from its options, with the real reactor: ours, unless
    C{twistd --reactor} has chosen one.

    @raise SystemExit: the configuration is wrong.
    """
    prompt.install(options.spin)
    quieten(options["log-level"])
    from twisted.internet import reactor  # noqa: PLC0415 - the place where a process starts

    make_steady(reactor)
    log.info("may have {files} files open; every connection is one", files=raise_limit())
    tell_when_out(steady)
    try:
        service = make(options.config_file, reactor)
    except StepError as error:
        give_up(error)
    cast("IReactorCore", reactor).callWhenRunning(settle)
    return service


def settle() -> None:
    """
    Exclude the objects loaded by now from garbage collection: they stay for good, and
    visiting them takes 24 ms each time.
    """
    gc.collect()
    gc.freeze()


class ReloadOnHangup(Service):
    """Calls C{reload} when the process gets SIGHUP."""

    def __init__(self, reactor: IReactorFromThreads, reload: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._previous: Any = None

    def startService(self) -> None:
        """Take the signal."""
        super().startService()
        self._previous = signal.signal(signal.SIGHUP, self._signalled)

    def stopService(self) -> None:
        """Give it back."""
        super().stopService()
        signal.signal(signal.SIGHUP, self._previous or signal.SIG_DFL)

    def _signalled(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload)
