"""All checks of a server's own set-up, in the order of the steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from cms.audit.callbridges import audit_secrets
from cms.audit.clock import audit_clock
from cms.audit.finding import Finding
from cms.audit.listeners import audit_listeners
from cms.audit.owncertificate import audit_certificate, audit_names
from cms.audit.owndns import audit_addresses, audit_records
from cms.audit.ownserver import OwnServer
from cms.discovery.resolver import DNS
from cms.process.clocks import wall_clock
from cms.signalflow import Step

STAGES = 5  # how many waits for DNS can follow each other at most


async def audit_setup(
    server: OwnServer,
    reactor: Any,
    resolver: DNS,
    random: Random,
    *,
    running: bool | None = None,
    starting: bool = False,
    begun: Callable[[Step], object] = lambda _: None,
) -> AsyncIterator[Finding]:
    """
    Judge a set-up.

    @param running: Whether the daemon runs, if that is known.
    @param starting: Whether the starting server itself asks.  Then its listeners are not
        connected to, and a missing SRV record is only a warning, because Callbridges may
        have the server's address.
    @param begun: Called with the step of each part.
    """
    begun(Step.CONFIGURATION)
    now = datetime.fromtimestamp(wall_clock(reactor)(), UTC)
    yield audit_clock(now)
    for finding in audit_secrets(server.secrets):
        yield finding
    begun(Step.SRV)
    for finding in await audit_records(server, resolver, random, needs_record=not starting):
        yield finding
    begun(Step.ADDRESS)
    for finding in await audit_addresses(server, resolver, random):
        yield finding
    if not starting:
        begun(Step.CONNECT)
        async for finding in audit_listeners(server, reactor, running=running):
            yield finding
    begun(Step.TLS)
    for finding in audit_certificate(server.files, now, tells_clock=False):
        yield finding
    begun(Step.IDENTITY)
    for finding in audit_names(server.names, server.files.own, str(server.files.certificate)):
        yield finding
