"""Right log-ins are no guesses, whatever a client tries before it finds its mechanism."""

from __future__ import annotations

import pytest

from peers.certs import Certificates
from peers.contract import DOMAIN, ROOT
from peers.daemons import XmppServer
from peers.processes import Processes
from peers.tools import require

ALICE = f"alice@{DOMAIN}"


def test_debian_slixmpp(processes: Processes, certificates: Certificates) -> None:
    """
    slixmpp 1.8.3 says that it could bind to a channel (RFC 5802, C{y}) when it
    cannot: it is refused, and tries the next mechanism.  Ten log-ins from one
    address, with the right password, succeed all the same.
    """
    python = require("/usr/bin/python3", "python3")
    status, version = processes.run(
        "version", [python, "-c", "import slixmpp; print('slixmpp', slixmpp.__version__)"]
    )
    if status != 0:
        pytest.fail(
            "slixmpp is not installed; run:"
            " apt-get install --no-install-recommends python3-slixmpp",
            pytrace=False,
        )
    assert "slixmpp 1." in version
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    server.start()
    callbridge = server.callbridge()
    callbridge.add_user(ALICE, "pencil")
    callbridge.start()
    driver = ROOT / "peers" / "drivers" / "slixmpp_logins.py"
    command = [python, "-u", str(driver), str(server.client_port), ALICE, "10"]
    status, output = processes.run("slixmpp-logins", command, text="pencil", seconds=120)
    lines = [line for line in output.splitlines() if line.startswith(("right", "refused"))]
    assert (status, len(lines)) == (0, 10), output
    assert all(line.startswith("right ") for line in lines), lines
    assert callbridge.process.output.count("successful login request from") >= 10
