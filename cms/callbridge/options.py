"""C{twistd cms-callbridge}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import Service

from cms.process.startup import DaemonOptions, build, supervise


class Options(DaemonOptions):
    """The options of C{cms-callbridge}."""

    synopsis = "[options] --config callbridge.toml"
    longdesc = "Finds the XMPP server, registers with it, and decides log-ins."


def _make(file: Path, reactor: Any) -> Service:
    # Import late: some of these modules import a reactor, which must be ours.
    from cms.callbridge.administration import make_administration  # noqa: PLC0415
    from cms.callbridge.daemon import make_daemon  # noqa: PLC0415

    daemon = make_daemon(file, reactor)
    return supervise(daemon, reactor, make_administration(daemon, reactor))


def makeService(options: DaemonOptions) -> Service:
    """From twistd."""
    return build(_make, options)
