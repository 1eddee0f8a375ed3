"""
The metrics of the XMPP server.

L{ServerCounters} counts rare events (registrations, log-ins, refusals) as they happen.
L{ServerCollector} collects everything else when it is asked: links, sessions, and the
counts of the streams.  So the way of a stanza does not touch metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from cms import faults
from cms.linkprotocol.mechanisms import mechanism_label
from cms.metrics.exposition import counter, durations, expiries, gauge, gauges, traffic
from cms.signalflow import Attempt, Step, StepRecord
from cms.xmlstream.stanza import KINDS
from cms.xmlstream.traffic import Traffic
from cms.xmpp.contacts.figures import ContactFigures
from cms.xmpp.drain import DRAINED, DRAINING, OPEN, Drain
from cms.xmpp.elsewhere import Cluster
from cms.xmpp.links import Link, Links
from cms.xmpp.listeners import StreamFactory
from cms.xmpp.loginrelay import USUAL
from cms.xmpp.registry import Registry
from cms.xmpp.resumption import Resumptions
from cms.xmpp.router import Router
from cms.xmpp.sessions import Sessions

_STREAM_GAUGES = {
    "connections": "Connections that are open.",
    "slow_streams": "Streams whose peer reads too slowly now.",
    "held_streams": "Streams that are not read now, because others do not keep up.",
    "queue_bytes": "Bytes that wait for peers to read.",
}
_TIMED = (Step.TLS, Step.REGISTER, Step.REGISTERED, Step.LOGIN)


class ServerCounters(Collector):
    """Counters, increased as things happen: an L{cms.xmpp.observer.Observer}."""

    def __init__(self) -> None:
        self._registrations = counter(
            "cms_xmpp_registrations",
            "Components that tried to register, by how it ended and the step that decided.",
            *("result", "step"),
        )
        self._steps = durations("cms_xmpp_step_duration_seconds", "Time that a step took.", "step")
        self._logins = counter(
            "cms_xmpp_logins", "Log-ins that came to an end.", "mechanism", "result"
        )
        self._refusals = counter(
            "cms_xmpp_refusals",
            "What was refused: a registration or a log-in by its fault or SASL condition, a"
            " client's stream by its stream error.",
            *("stage", "reason"),
        )
        self._ended = counter("cms_xmpp_links_ended", "Links that were up and ended.", "component")
        for step in _TIMED:
            self._steps.labels(step.title)
        self._registrations.labels("active", Step.ACTIVE.title)
        # A series that begins at 0 lets a rate see the first refusal too.
        for fault in faults.CATALOGUE.values():
            if faults.Side.REGISTRATION in fault.on:
                self._refusals.labels("registration", fault.name)
            if faults.Side.LOGIN in fault.on:
                self._refusals.labels("login", fault.name)
        self._refusals.labels("login", "not-authorized")
        for mechanism in USUAL:
            for result in ("success", "not-authorized", "temporary-auth-failure"):
                self._logins.labels(mechanism, result)

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        for each in (self._registrations, self._steps, self._logins, self._refusals, self._ended):
            yield from each.collect()

    def know(self, components: Iterable[str]) -> None:
        """Begin to count the ends of these components' links."""
        for component in components:
            self._ended.labels(component)

    def registration_step(self, attempt: Attempt, record: StepRecord) -> None:
        """See L{Observer}."""
        title, fault = record.step.title, record.failure
        if record.result == "running":
            if record.step is Step.ACTIVE:
                self._registrations.labels("active", title).inc()
        elif fault is not None:
            self._refusals.labels("registration", fault.fault).inc()
            if record.step is not Step.ACTIVE:
                self._registrations.labels("failed", title).inc()
        elif record.result == "passed" and record.step is not Step.ACTIVE:
            self._passed(record.step, record.seconds or 0.0)

    def _passed(self, step: Step, seconds: float) -> None:
        self._steps.labels(step.title).observe(max(0.0, seconds))

    def link_ended(self, link: Link) -> None:
        """See L{Observer}."""
        self._ended.labels(link.component).inc()

    def login_decided(self, seconds: float) -> None:
        """See L{Observer}."""
        self._passed(Step.LOGIN, seconds)

    def login_refused(self, reason: str) -> None:
        """See L{Observer}."""
        self._refusals.labels("login", reason).inc()

    def login_ended(self, mechanism: str, result: str) -> None:
        """See L{Observer}."""
        self._logins.labels(mechanism_label(mechanism), result).inc()

    def stream_refused(self, condition: str) -> None:
        """See L{Observer}."""
        self._refusals.labels("stream", condition).inc()


class ClusterCollector(Collector):
    """The figures of a server that is to be in a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        status = self._cluster.status()
        nodes = {node["node"]: node for node in status["nodes"]}
        there = status["state"] == "in"
        yield gauge("cms_xmpp_cluster_in", "Whether this server is in its cluster.", float(there))
        yield gauge("cms_xmpp_cluster_nodes", "Other servers that are known.", len(nodes))
        for key, name, text in _OF_NODES:
            yield gauges(name, text, "node", {n: float(facts[key]) for n, facts in nodes.items()})
        entries = CounterMetricFamily(
            "cms_xmpp_cluster_entries", "Entries between servers.", labels=["node", "direction"]
        )
        for node, facts in nodes.items():
            entries.add_metric([node, "sent"], facts["entriesSent"])
            entries.add_metric([node, "received"], facts["entriesReceived"])
            entries.add_metric([node, "sent_again"], facts["sentAgain"])
        yield entries
        yield _counted("cms_xmpp_cluster_joined", "Times that it has joined.", status["joined"])
        yield _counted("cms_xmpp_cluster_lost", "Servers that have gone.", status["lostNodes"])
        moved = CounterMetricFamily(
            "cms_xmpp_cluster_handovers", "Sessions between servers.", labels=["result"]
        )
        for result, number in self._cluster.handovers.items():
            moved.add_metric([result], number)
        yield moved


_OF_NODES = (
    ("draining", "cms_xmpp_cluster_draining", "Whether another server is drained."),
    ("sessions", "cms_xmpp_cluster_sessions", "Clients of another server."),
    ("links", "cms_xmpp_cluster_links", "Components of another server."),
    ("deciding", "cms_xmpp_cluster_deciding", "Of these, those that decide log-ins, here too."),
    ("waitingBytes", "cms_xmpp_cluster_waiting_bytes", "Not acknowledged by another server."),
    ("behindSeconds", "cms_xmpp_cluster_behind_seconds", "Age of the oldest of these."),
)


def _counted(name: str, text: str, number: int) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], number)
    return family


class ServerCollector(Collector):
    """
    Metrics of the current state, collected when they are asked for.

    @param factories: The listeners that are open.
    @param expires: When our own certificate expires.
    """

    def __init__(
        self,
        registry: Registry,
        links: Links,
        sessions: Sessions,
        router: Router,
        *,
        resumptions: Resumptions,
        link_resumptions: Resumptions,
        factories: Callable[[], Iterable[StreamFactory]],
        expires: Callable[[], float | None],
    ) -> None:
        self._registry = registry
        self._links = links
        self._sessions = sessions
        self._router = router
        self._resumptions = resumptions
        self._link_resumptions = link_resumptions
        self._factories = factories
        self._expires = expires

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        yield from self._of_links()
        yield from self._of_streams()
        yield gauge("cms_xmpp_sessions", "Clients that are logged in.", len(self._sessions))
        yield from self._of_resumptions()
        bounced = CounterMetricFamily(
            "cms_xmpp_bounced_stanzas", "Stanzas answered with an error.", labels=["condition"]
        )
        for condition, number in self._router.bounced.items():
            bounced.add_metric([condition], number)
        yield bounced
        dropped = CounterMetricFamily(
            "cms_xmpp_dropped_stanzas",
            "Stanzas that had no room at a receiver that does not read, and must not be answered.",
            labels=["kind"],
        )
        for kind in sorted(KINDS):
            dropped.add_metric([kind], self._router.dropped[kind])
        yield dropped
        peers = {link.component: link.certificate_expires for link in self._links}
        yield expiries({"own": self._expires(), **peers})

    def _of_resumptions(self) -> Iterator[Metric]:
        resumptions = self._resumptions
        yield gauge(
            "cms_xmpp_sessions_away",
            "Of these, without a connection: they can be resumed.",
            resumptions.away,
        )
        yield gauge(
            "cms_xmpp_sessions_away_bytes",
            "What waits for them, or was not acknowledged.",
            resumptions.away_bytes,
        )
        for what, known in (("sessions", resumptions), ("links", self._link_resumptions)):
            returned = CounterMetricFamily(
                f"cms_xmpp_{what}_returned",
                f"{what.title()} without a connection that were resumed, expired or crowded out.",
                labels=["result"],
            )
            returned.add_metric(["resumed"], known.resumed)
            returned.add_metric(["expired"], known.expired)
            returned.add_metric(["crowded_out"], known.crowded_out)
            yield returned

    def _of_links(self) -> Iterator[Metric]:
        known = sorted({*self._registry.secrets, *(link.component for link in self._links)})
        here = {link.component: link for link in self._links}
        up = {component: here.get(component) for component in known}
        links = [(component, link) for component, link in up.items() if link is not None]
        yield gauges(
            "cms_xmpp_link_up",
            "Whether the component is registered now (step 11).",
            "component",
            {component: float(link is not None) for component, link in up.items()},
        )
        yield gauges(
            "cms_xmpp_link_away",
            "Whether the link has no connection now, and may be resumed.",
            "component",
            ((component, float(link.is_away)) for component, link in links),
        )
        yield gauges(
            "cms_xmpp_link_since_timestamp_seconds",
            "When the link became active.",
            "component",
            ((component, link.since) for component, link in links),
        )
        yield gauges(
            "cms_xmpp_link_decides_logins",
            "Whether the component is a Callbridge, which decides log-ins.",
            "component",
            ((component, float(bool(link.mechanisms))) for component, link in links),
        )
        yield gauges(
            "cms_xmpp_link_open_requests",
            "Questions to the component that wait for its answer.",
            "component",
            ((component, len(link.requests)) for component, link in links),
        )
        yield gauges(
            "cms_xmpp_link_queue_bytes",
            "Bytes that wait for the component to read.",
            "component",
            ((component, link.waiting_bytes) for component, link in links),
        )

    def _of_streams(self) -> Iterator[Metric]:
        carried: dict[str, Traffic] = {}
        gauged: dict[str, dict[str, float]] = {name: {} for name in _STREAM_GAUGES}
        turned_away = CounterMetricFamily(
            "cms_xmpp_refused_connections",
            "Connections closed for want of a place, at once or for others that came.",
            labels=["listener"],
        )
        for factory in self._factories():
            kind, streams = factory.kind, factory.streams
            carried[kind] = factory.carried.with_live(streams)
            turned_away.add_metric([kind], factory.turned_away)
            gauged["connections"][kind] = len(streams)
            slow = [stream.party for stream in streams if stream.party.is_slow]
            gauged["slow_streams"][kind] = len(slow)
            gauged["queue_bytes"][kind] = sum(party.waiting_bytes for party in slow)
            gauged["held_streams"][kind] = sum(stream.held for stream in streams)
        for name, text in _STREAM_GAUGES.items():
            yield gauges(f"cms_xmpp_{name}", text, "listener", gauged[name])
        yield turned_away
        yield from traffic("cms_xmpp", carried, "listener")


class GuestsCollector(Collector):
    """
    What became of guests who asked to be admitted.

    @param figures: By outcome.
    @param refused: What the web listeners refused before that, by fault.
    """

    def __init__(self, figures: Mapping[str, int], refused: Mapping[str, int]) -> None:
        self._figures = figures
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        asked = CounterMetricFamily(
            "cms_xmpp_guests",
            "Guests who asked to be admitted, by what became of it: admitted, or a fault.",
            labels=["result"],
        )
        for result, count in self._figures.items():
            asked.add_metric([result], count)
        yield asked
        refused = CounterMetricFamily(
            "cms_xmpp_web_refusals",
            "Requests of browsers that the web listeners refused, by fault.",
            labels=["fault"],
        )
        for fault, count in self._refused.items():
            refused.add_metric([fault], count)
        yield refused


class PeopleCollector(Collector):
    """
    Who asked who users are.

    @param figures: By what it came to.
    """

    def __init__(self, figures: Mapping[str, int]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        asked = CounterMetricFamily(
            "cms_xmpp_people", "Names and pictures that were looked for.", labels=["result"]
        )
        for result, count in self._figures.items():
            asked.add_metric([result], count)
        yield asked


class ContactsCollector(Collector):
    """The figures of contacts; what is counted of them may be a minute old."""

    def __init__(self, figures: ContactFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        self._figures.count()
        contacts, counted = self._figures.contacts, self._figures.counted
        changes = contacts.changes
        users = len(changes.store.owners)
        yield gauge("cms_xmpp_contacts_users", "Users with contacts or requests.", users)
        for key, name, text in _OF_CONTACTS if counted is not None else ():
            yield gauge(name, text, getattr(counted, key))
        yield gauge("cms_xmpp_contacts_changes_waiting", "Not on the disk yet.", changes.waiting)
        yield _counted("cms_xmpp_contacts_changes", "Changes on the disk.", changes.made)
        refused = CounterMetricFamily(
            "cms_xmpp_contacts_refused", "What was refused to clients.", labels=["condition"]
        )
        for condition, number in contacts.refused.items():
            refused.add_metric([condition], number)
        yield refused


_OF_CONTACTS = (
    ("listed", "cms_xmpp_contacts", "Contacts on the rosters of all users."),
    ("requests", "cms_xmpp_contacts_requests", "Requests that have no answer yet."),
    ("blocked", "cms_xmpp_contacts_blocked", "Addresses that users have blocked."),
    ("size", "cms_xmpp_contacts_bytes", "Size of the file of contacts."),
)


class DrainCollector(Collector):
    """Whether the server is drained, and what became of its sessions."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        drain = self._drain
        yield gauge(
            "cms_xmpp_draining",
            "0: this server takes what comes; 1: it is being drained; 2: it can be stopped.",
            (OPEN, DRAINING, DRAINED).index(drain.state),
        )
        gone = CounterMetricFamily(
            "cms_xmpp_drained_sessions",
            "Sessions that went to other servers, or were ended, when this one was drained.",
            labels=["result"],
        )
        gone.add_metric(["given"], drain.given)
        gone.add_metric(["ended"], drain.ended)
        yield gone
