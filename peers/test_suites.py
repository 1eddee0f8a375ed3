"""Other projects' own test suites, against ours."""

from __future__ import annotations

import os
import random
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from peers.certs import Certificates
from peers.contract import DOMAIN, ROOT
from peers.daemons import XmppServer
from peers.processes import Processes

ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
PORTS = (5222, 5223, 5347)
SLIXMPP = (
    *("test_basic_connect_and_message", "test_component", "test_disco", "test_ping"),
    *("test_reconnect", "test_tls_check", "test_version"),
)
TIMES = 2


def loopback() -> str:
    """An address of this host where nobody has the ports that these suites insist on."""
    numbers = random.SystemRandom()
    while True:
        address = (
            f"127.{numbers.randint(1, 254)}.{numbers.randint(0, 254)}.{numbers.randint(1, 254)}"
        )
        try:
            for port in PORTS:
                with socket.create_server((address, port)):
                    pass
        except OSError:
            continue
        return address


def slixmpp_sources() -> Path:
    """Where slixmpp's source distribution is."""
    folder = ROOT / ".venv-cache" / "suites" / f"slixmpp-{version('slixmpp')}"
    if not (folder / "itests").is_dir():
        pytest.fail("slixmpp's tests are not there; run: make test, or .ci/suites", pytrace=False)
    return folder


@pytest.fixture
def address(processes: Processes, certificates: Certificates) -> str:
    """Where our pair listens, with two users and one component beside the Callbridge."""
    address = loopback()
    server = XmppServer(processes, certificates, {"cb1": "s3cret", "suite": "an0ther"})
    server.settings["listen"].update(
        client=[f"tcp:5222:interface={address}"],
        client_direct=[f"tcp:5223:interface={address}"],
        component_plain=[f"tcp:5347:interface={address}"],
    )
    callbridge = server.callbridge()
    for jid in (ALICE, BOB):
        callbridge.add_user(jid, "pass word")
    server.start()
    callbridge.start()
    server.process.wait_for("decides log-ins", 10.0)
    return address


def test_slixmpp(address: str, processes: Processes, certificates: Certificates) -> None:
    """slixmpp's integration tests, as far as they need no contacts, twice in a row."""
    environment = {
        **os.environ,
        "CI_ACCOUNT1": ALICE,
        "CI_ACCOUNT2": BOB,
        "CI_ACCOUNT1_PASSWORD": "pass word",
        "CI_ACCOUNT2_PASSWORD": "pass word",
        "SSL_CERT_FILE": str(certificates.trust),
    }
    driver = str(ROOT / "peers" / "drivers" / "slixmpp_suite.py")
    component = f"suite.{DOMAIN}"
    command = [sys.executable, driver, str(slixmpp_sources()), address, component, "an0ther"]
    for _ in range(TIMES):
        status, output = processes.run(
            "slixmpp-suite", [*command, *SLIXMPP], seconds=180.0, env=environment
        )
        assert status == 0, output
