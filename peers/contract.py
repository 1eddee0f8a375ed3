"""
What the tests expect of the two daemons, in one place.

Command names and file keys are the project's contract; the texts are parts of
log lines that the tests wait for.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

XMPP_PLUGIN = "cms-xmpp"
CALLBRIDGE_PLUGIN = "cms-callbridge"

DOMAIN = "meet.example.com"
SRV_NAME = f"_xmpp-component._tcp.{DOMAIN}."

LISTENER_READY = "{listener} listener ready on"
"""The XMPP server's line for each listener, which is named as in C{[listen]}."""

ADMINISTRATION_READY = "administration on "
"""Its line when its socket in the state directory can be used."""

LINK_ACTIVE = "step 11 active: the link is up"
"""The Callbridge's line when its link is up."""

NO_LINK_CONDITION = "remote-connection-failed"
"""How a client's stream ends when no Callbridge came in time to decide (step 1)."""

START_SECONDS = 60.0
"""For a daemon to be ready, on a busy machine."""

LINK_SECONDS = 60.0
"""For a link to come up, its delays included."""

FAILOVER_SECONDS = 2.0
"""From the death of one XMPP server until log-ins work again through the other."""
