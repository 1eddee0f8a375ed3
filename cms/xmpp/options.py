"""C{twistd cms-xmpp}."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service

from cms.fast.reactor import SPIN_SECONDS
from cms.process.startup import DaemonOptions, build, supervise


class Options(DaemonOptions):
    """The options of C{cms-xmpp}."""

    synopsis = "[options] --config xmpp.toml"
    longdesc = "Accepts Callbridges and clients; every log-in is decided by a Callbridge."
    spin = SPIN_SECONDS
    optParameters = [
        ["instance", None, "", "Which of the servers of this host that share the file."],
    ]


def _make(file: Path, reactor: Any, *, instance: str) -> Service:
    # Import late: some of these modules import a reactor, which must be ours.
    from cms.xmpp.administration import make_administration  # noqa: PLC0415
    from cms.xmpp.daemon import make_daemon  # noqa: PLC0415

    daemon = make_daemon(file, reactor, instance)
    return supervise(daemon, reactor, make_administration(daemon, reactor))


def makeService(options: DaemonOptions) -> Service:
    """From twistd."""
    return build(partial(_make, instance=options["instance"]), options)
