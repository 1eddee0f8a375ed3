"""All checks of one's own set-up, in the order of the steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random
from typing import Any

from cms.audit.owncertificate import audit_certificate, audit_clock, audit_secrets
from cms.audit.reach import audit_addresses, audit_listeners, audit_records
from cms.audit.results import Result
from cms.audit.subject import OwnServer
from cms.discovery.resolver import DNS
from cms.process.clocks import wall_clock

STAGES = 5  # how many waits for DNS can follow each other, at the most


async def audit(
    server: OwnServer,
    reactor: Any,
    resolver: DNS,
    random: Random,
    *,
    running: bool | None = None,
    starting: bool = False,
) -> AsyncIterator[Result]:
    """
    Judge a set-up.

    @param running: Whether the daemon runs, where that is known.
    @param starting: Whether the server asks this of itself: then it does not
        connect to its listeners, and takes it that Callbridges which SRV does not
        lead to it have its address.
    """
    now = datetime.fromtimestamp(wall_clock(reactor)(), UTC)
    clock = audit_clock(now)
    yield clock
    for result in audit_secrets(server.secrets):
        yield result
    for result in await audit_records(server, resolver, random, needs_record=not starting):
        yield result
    for result in await audit_addresses(server, resolver, random):
        yield result
    if not starting:
        async for result in audit_listeners(server, reactor, running=running):
            yield result
    right = clock.result == "passed"
    for result in audit_certificate(server, now, clock_is_right=right):
        yield result
