"""
The metrics of a daemon in Prometheus's text format.

Each role has its own collectors (C{cms/xmpp/metrics.py}, C{cms/callbridge/metrics.py}).
L{Exposition} adds the metrics of every process and renders them all.  docs/metrics.md
lists them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Final, Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

import cms
from cms.xmlstream.traffic import Traffic

# The creation time of a series is of no use in the text format.
disable_created_metrics()

# Seconds: a step within one rack takes milliseconds, and gives up after 10.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Exposition:
    """
    Renders the metrics of one daemon.

    @ivar content_type: For the answer to C{GET /metrics}.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, role: str, *collectors: Collector) -> None:
        """@param role: C{xmpp} or C{callbridge}."""
        self._registry = CollectorRegistry()
        for collector in (_Build(role), *collectors):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics as they are now."""
        return generate_latest(self._registry)


class _Build(Collector):
    """C{cms_build_info}: the versions of this program."""

    def __init__(self, role: str) -> None:
        self._facts = {
            "role": role,
            "version": cms.__version__,
            "python": platform.python_version(),
            "twisted": version("Twisted"),
        }

    def collect(self) -> Iterator[Metric]:
        """See L{Collector}."""
        yield InfoMetricFamily("cms_build", "The program that runs.", value=self._facts)


def counter(name: str, text: str, *labels: str) -> Counter:
    """A counter outside any registry; a role's collector yields its samples."""
    return _remembering(Counter(name, text, labels, registry=None))


def durations(name: str, text: str, *labels: str) -> Histogram:
    """A histogram of seconds outside any registry."""
    return _remembering(Histogram(name, text, labels, registry=None, buckets=SECONDS))


_M = TypeVar("_M", Counter, Histogram)


def _remembering(metric: _M) -> _M:
    """Cache the series by labels, because looking one up costs more than counting."""
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge with one value."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(
    name: str, text: str, label: str, values: Mapping[str, float] | Iterable[tuple[str, float]]
) -> Metric:
    """A gauge with a value for each value of a label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items() if isinstance(values, Mapping) else values:
        family.add_metric([key], value)
    return family


def expiries(certificates: Mapping[str, float | None]) -> Metric:
    """
    When certificates expire.

    @param certificates: Seconds since the epoch for each; those that are
        C{None} are left out.
    """
    known = {name: when for name, when in certificates.items() if when is not None}
    text = "When a certificate expires: this side's own, or the peer's."
    return gauges("cms_certificate_expiry_timestamp_seconds", text, "certificate", known)


def traffic(prefix: str, carried: Mapping[str, Traffic], label: str = "") -> Iterator[Metric]:
    """Bytes and stanzas by direction, for each value of a label if there is one."""
    labels = [label, "direction"] if label else ["direction"]
    size = CounterMetricFamily(f"{prefix}_bytes", "Bytes of XML, without TLS.", labels=labels)
    number = CounterMetricFamily(
        f"{prefix}_stanzas", "Top-level elements of streams.", labels=labels
    )
    for key, total in carried.items():
        more = [key] if label else []
        size.add_metric([*more, "received"], total.bytes_received)
        size.add_metric([*more, "sent"], total.bytes_sent)
        number.add_metric([*more, "received"], total.stanzas_received)
        number.add_metric([*more, "sent"], total.stanzas_sent)
    yield size
    yield number


class Losing(Protocol):
    """L{Record<cms.record.record.Record>}."""

    lost: int


class RecordCollector(Collector):
    """What is lost of a daemon's record of log-ins and links."""

    def __init__(self, role: str, record: Losing) -> None:
        """@param role: C{xmpp} or C{callbridge}."""
        self._role = role
        self._record = record

    def collect(self) -> Iterator[Metric]:
        """See L{Collector}."""
        text = "Entries of the record that are lost."
        yield CounterMetricFamily(f"cms_{self._role}_record_lost", text, self._record.lost)
