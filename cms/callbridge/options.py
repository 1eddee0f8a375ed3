"""C{twistd cms-callbridge}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import MultiService, Service

from cms.callbridge.administration import make_administration
from cms.callbridge.service import make_daemon
from cms.startup import DaemonOptions, ReloadOnHangup, build


class Options(DaemonOptions):
    """The options of C{cms-callbridge}."""

    synopsis = "[options] --config callbridge.toml"
    longdesc = "Finds the XMPP server, registers with it, and decides log-ins."


def _make(file: Path, reactor: Any) -> Service:
    daemon = make_daemon(file, reactor)
    services = MultiService()
    daemon.setServiceParent(services)
    administration = make_administration(daemon, reactor)
    administration.setServiceParent(services)

    def reload() -> None:
        daemon.reload()
        administration.reload()

    ReloadOnHangup(reactor, reload).setServiceParent(services)
    return services


def makeService(options: DaemonOptions) -> Service:
    """From twistd."""
    return build(_make, options)
