"""The operations that both daemons have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

import cms
from cms.admin import schemas
from cms.admin.interfaces import Daemon, Facts, Recorded, moment
from cms.admin.openapi import document
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Listing, Reply
from cms.web.forms import Parameter
from cms.web.messages import Raw
from cms.web.refusal import Refused

API = "/api/v1"


class Metrics(Protocol):
    """
    The metrics of a daemon: L{cms.metrics.exposition.Exposition}.

    @ivar content_type: The content type of L{render}.
    """

    content_type: str

    def render(self) -> bytes:
        """All metrics as they are now."""
        ...


KIND = Parameter("kind", "Both when it is left out.", choices=("link", "login"))
SHOWN_ATTEMPTS = 10  # unless asked otherwise


class CommonOperations:
    """
    Version, status, signal flow, health and metrics.

    @param metrics: The answer of C{/metrics}; C{None} leaves that out.
    """

    def __init__(
        self,
        daemon: Daemon,
        clock: IReactorTime,
        *,
        status_schema: schemas.Schema,
        metrics: Metrics | None = None,
    ) -> None:
        self._daemon = daemon
        self._clock = clock
        self._began = clock.seconds()
        self._status_schema = status_schema
        self._metrics = metrics

    def operations(self) -> list[Operation]:
        """The list, without the OpenAPI document of the whole."""
        found = [
            Operation(
                "GET",
                f"{API}/system/status",
                "getStatus",
                "Version, uptime, and the link or links.",
                self.status,
                answers=schemas.named("status", self._status_schema),
            ),
            Operation(
                "GET",
                f"{API}/system/signalflow",
                "getSignalFlow",
                "The recent attempts, the newest first, step by step.",
                self.signal_flow,
                query=(*SELECTION[:2], KIND),
                answers=schemas.listing("signalFlow", "attempt", schemas.ATTEMPT),
            ),
            Operation(
                "GET",
                "/healthz",
                "getHealth",
                "Whether the daemon does its job.",
                self.health,
                raw="text/plain",
                open=True,
                statuses={503: "It does not; the body names the step."},
            ),
        ]
        if self._metrics is not None:
            found.append(
                Operation(
                    "GET",
                    "/metrics",
                    "getMetrics",
                    "The figures, for Prometheus.",
                    self.metrics,
                    raw="text/plain",
                )
            )
        return found

    def status(self, call: Call) -> Reply:
        """GET system/status."""
        facts = {
            "softwareVersion": cms.__version__,
            "uptimeSeconds": int(self._clock.seconds() - self._began),
            "role": self._daemon.role,
            **self._daemon.status(),
        }
        return Document("status", facts)

    def signal_flow(self, call: Call) -> Reply:
        """GET system/signalflow."""
        kind = call.query.get("kind")
        recorded = [r for r in self._daemon.attempts() if kind in (None, r.kind)]
        part = selection(call.query, SHOWN_ATTEMPTS)
        shown = recorded[part.offset : part.offset + part.limit]
        items = [(f"{r.kind}-{r.attempt.number}", attempt_facts(r)) for r in shown]
        return Listing("signalFlow", "attempt", items, len(recorded))

    def health(self, call: Call) -> Reply:
        """GET healthz."""
        health = self._daemon.health()
        facts: dict[str, Any] = {
            "healthy": health.good,
            "step": int(health.step),
            "name": health.step.title,
        }
        if health.fault is not None:
            facts.update(cause=health.fault.cause, cure=health.fault.cure)
        status = 200 if health.good else 503
        if call.wants_json:
            return Raw(json.dumps(facts).encode(), "application/json", status)
        line = f"{'ok' if health.good else 'not ready'}: {health.step}"
        if health.fault is not None:
            line += f": {health.fault.cause}"
        return Raw(f"{line}\n".encode(), "text/plain; charset=utf-8", status)

    def metrics(self, call: Call) -> Reply:
        """GET metrics."""
        if self._metrics is None:
            raise Refused("notFound", "there are no metrics", status=404)
        return Raw(self._metrics.render(), self._metrics.content_type)


def attempt_facts(recorded: Recorded) -> Facts:
    """An attempt as the API has it: L{cms.signalflow.Attempt.as_dict}, times for people."""
    plain = recorded.attempt.as_dict()
    del plain["number"]
    for record in (plain, *plain["steps"]):
        record["began"] = moment(record["began"])
    return {"kind": recorded.kind, **plain}


def with_document(title: str, operations: Sequence[Operation]) -> list[Operation]:
    """The operations, and the one that describes them all."""

    def describe(call: Call) -> Reply:
        return Raw(body, "application/json")

    described = Operation(
        "GET",
        f"{API}/openapi.json",
        "getOpenAPI",
        "This document.",
        describe,
        raw="application/json",
    )
    every = [*operations, described]
    body = json.dumps(document(title, every), indent=1).encode()
    return every
