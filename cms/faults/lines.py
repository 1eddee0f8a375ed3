"""Lines to copy that mend faults of several steps."""

from __future__ import annotations

CLOCK = "timedatectl set-ntp true && timedatectl status"
SERVER_LOG = "journalctl -u cms-xmpp --since -10min     # the XMPP server's log"
