"""C{twistd cms-xmpp}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import MultiService, Service

from cms.reactor import SPIN_SECONDS
from cms.startup import DaemonOptions, ReloadOnHangup, build
from cms.xmpp.service import make_daemon


class Options(DaemonOptions):
    """The options of C{cms-xmpp}."""

    synopsis = "[options] --config xmpp.toml"
    longdesc = "Accepts Callbridges and clients; every log-in is decided by a Callbridge."
    spin = SPIN_SECONDS


def _make(file: Path, reactor: Any) -> Service:
    daemon = make_daemon(file, reactor)
    services = MultiService()
    daemon.setServiceParent(services)
    ReloadOnHangup(reactor, daemon.reload).setServiceParent(services)
    return services


def makeService(options: DaemonOptions) -> Service:
    """From twistd."""
    return build(_make, options)
