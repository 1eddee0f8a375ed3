"""Whether a server's listeners can be connected to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred

from cms import faults
from cms.audit.finding import Finding, failed, passed, skipped
from cms.audit.ownserver import OwnServer
from cms.discovery.race import reach
from cms.signalflow import Step

CONNECT_TIMEOUT = 3.0  # seconds to reach a listener on this very host


async def audit_listeners(
    server: OwnServer, reactor: Any, *, running: bool | None
) -> AsyncIterator[Finding]:
    """
    Whether each listener can be connected to from this host.

    @param running: Whether the daemon runs; C{None}: it does if any listener
        can be reached.
    """
    kinds = ("component", "component_plain", "client", "client_direct", "web", "web_plain")
    listeners = server.listeners(*kinds)
    trying = [
        Deferred.fromCoroutine(
            reach(reactor, each.endpoint.addresses, each.port, timeout=CONNECT_TIMEOUT)
        )
        for each in listeners
    ]
    outcomes = [await each for each in trying]
    if running is None:
        running = any(problem is None for problem in outcomes)
    for listener, problem in zip(listeners, outcomes, strict=True):
        endpoint = listener.endpoint
        if problem is None:
            yield passed(Step.CONNECT, endpoint.text, {"listener": listener.kind})
        elif running:
            dead = faults.OWN_LISTENER_DEAD.error(
                endpoint=endpoint.text,
                kind=listener.kind,
                address=f"{endpoint.addresses[0]} port {endpoint.port}",
                problem=problem.cause.rstrip("."),
            )
            yield failed(dead, endpoint.text)
        else:
            yield skipped(Step.CONNECT, endpoint.text, "the server does not run")
