"""
Log in again and again with the slixmpp of the distribution, each time with the right
password: C{python3 slixmpp_logins.py PORT JID TIMES}, the password on standard input.

One line is written for each: C{right MECHANISM}, or C{refused}.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

from slixmpp import ClientXMPP


def log_in(port: int, jid: str, password: str) -> str:
    """One stream, from its header to its session, or to slixmpp's giving up."""
    client: Any = ClientXMPP(jid, password)  # the distribution's, which is another than the tests'
    context = client.ssl_context
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outcome: asyncio.Future[str] = client.loop.create_future()

    def settle(what: str) -> None:
        if not outcome.done():
            outcome.set_result(what)

    def began(_: object) -> None:
        settle(f"right {client.plugin['feature_mechanisms'].mech.name}")

    client.add_event_handler("session_start", began)
    client.add_event_handler("failed_all_auth", lambda _: settle("refused"))
    client.add_event_handler("disconnected", lambda _: settle("refused"))
    client.connect(("127.0.0.1", port))
    try:
        told: str = client.loop.run_until_complete(asyncio.wait_for(outcome, 30))
        return told
    finally:
        client.abort()


def main() -> None:
    """All of them."""
    port, jid, times = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    password = sys.stdin.readline().strip()
    for _ in range(times):
        sys.stdout.write(log_in(port, jid, password) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
