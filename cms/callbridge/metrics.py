"""The metrics of a Callbridge: its link, its attempts, its log-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cms import faults
from cms.callbridge.directories.administration import Known
from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.directories.synced import SyncOutcome
from cms.callbridge.link.machine import Link
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.visitors import Visitors
from cms.callbridge.passwords.scram import HASHES
from cms.callbridge.rooms.doorkeeper import DoorFigures
from cms.callbridge.rooms.service import Rooms
from cms.linkprotocol.mechanisms import mechanism_label
from cms.metrics.exposition import counter, durations, expiries, gauge, gauges, traffic
from cms.signalflow import Attempt, Step, StepError, StepRecord

_TRIED = tuple(step for step in Step if Step.CONFIGURATION <= step <= Step.REGISTERED)
STATES = ("stopped", "waiting", *(step.title for step in _TRIED), "active", "resuming", "ending")


class CallbridgeCounters(Collector):
    """Counters, increased as things happen."""

    def __init__(self) -> None:
        self._attempts = counter(
            "cms_callbridge_attempts",
            "Rounds to bring the link up, by how they ended and the step that decided.",
            *("result", "step"),
        )
        self._steps = counter(
            "cms_callbridge_steps", "Steps tried, several in a round.", "step", "result"
        )
        self._seconds = durations(
            "cms_callbridge_step_duration_seconds",
            "Time that a step took, however it ended; a log-in's time includes the client's.",
            "step",
        )
        self._failures = counter(
            "cms_callbridge_failures", "Steps that failed, by their fault.", "step", "reason"
        )
        self._logins = counter(
            "cms_callbridge_logins", "Log-ins that came to an end.", "mechanism", "result"
        )
        for step in (*_TRIED, Step.LOGIN):
            self._seconds.labels(step.title)
        self._attempts.labels("active", Step.ACTIVE.title)
        # A series that begins at 0 lets a rate see the first failure too.
        for fault in faults.CATALOGUE.values():
            fails = faults.Side.LINK in fault.on and not fault.is_warning
            if fails and fault is not faults.INTERNAL:  # which can be at each step
                self._failures.labels(fault.step.title, fault.name)
        for mechanism in (*HASHES, *(f"{name}-PLUS" for name in HASHES), "PLAIN"):
            for result in ("success", "not-authorized", "temporary-auth-failure"):
                self._logins.labels(mechanism, result)

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        for each in (self._attempts, self._steps, self._seconds, self._failures, self._logins):
            yield from each.collect()

    def step(self, attempt: Attempt, record: StepRecord) -> None:
        """A step of an attempt began or ended."""
        title = record.step.title
        if record.result != "running":
            self._steps.labels(title, record.result).inc()
            if record.step is not Step.ACTIVE:
                self._seconds.labels(title).observe(record.seconds or 0.0)
            if record.failure is not None:
                self._failures.labels(title, record.failure.fault).inc()
        elif record.step is Step.ACTIVE:
            self._attempts.labels("active", title).inc()

    def rest(self, failure: StepError | None) -> None:
        """An attempt failed, or a link that was up ended."""
        if failure is not None:
            self._attempts.labels("failed", failure.step.title).inc()

    def login(self, mechanism: str, result: str, seconds: float) -> None:
        """
        A log-in came to an end.

        @param result: C{success}, C{lost} with the link, or a SASL condition.
        """
        self._logins.labels(mechanism_label(mechanism), result).inc()
        self._seconds.labels(Step.LOGIN.title).observe(max(0.0, seconds))


class CallbridgeCollector(Collector):
    """
    Metrics of the current state, collected when they are asked for.

    @param authority: The current authority.
    @param expires: When our own certificate expires.
    """

    def __init__(
        self,
        link: Link,
        authority: Callable[[], Authority],
        expires: Callable[[], float | None],
    ) -> None:
        self._link = link
        self._authority = authority
        self._expires = expires

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        link, authority, stream = self._link, self._authority(), self._link.stream
        yield from self._of_state()
        yield gauge(
            "cms_callbridge_link_open_requests",
            "Questions to the XMPP server that wait for its answer.",
            len(stream.requests) if stream is not None else 0,
        )
        yield gauge(
            "cms_callbridge_link_queue_bytes",
            "Bytes that wait for the XMPP server to read.",
            stream.party.waiting_bytes if stream is not None else 0,
        )
        yield from traffic("cms_callbridge", {"": link.traffic})
        text = "Clients logged in through this Callbridge."
        yield gauge("cms_callbridge_sessions", text, len(authority.sessions))
        yield gauge("cms_callbridge_exchanges", "Log-ins under way.", authority.exchanges)
        server = stream.certificate_expires if stream is not None else None
        yield expiries({"own": self._expires(), "server": server})

    def _of_state(self) -> Iterator[Metric]:
        link = self._link
        up = link.since is not None
        yield gauge("cms_callbridge_link_up", "Whether the link is active (step 11).", float(up))
        yield gauges(
            "cms_callbridge_link_state",
            "1 for what the link is doing, 0 for what it is not.",
            "state",
            {state: float(state == link.state) for state in STATES},
        )
        yield gauge(
            "cms_callbridge_link_step",
            "The furthest step of the last attempt; 11 is active.",
            link.reached,
        )
        text = "Links whose connection broke, and that were resumed."
        yield CounterMetricFamily("cms_callbridge_links_resumed", text, link.resumed)
        if link.since is not None:
            text = "When the link became active."
            yield gauge("cms_callbridge_link_since_timestamp_seconds", text, link.since)


class RoomsCollector(Collector):
    """Rooms, occupants, who came in and who did not; looked at when asked."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        rooms = self._rooms
        yield gauge("cms_callbridge_rooms", "Spaces with somebody in their room.", rooms.count)
        text = "Who is in the rooms, all told."
        yield gauge("cms_callbridge_room_occupants", text, rooms.occupants)
        joins = CounterMetricFamily(
            "cms_callbridge_room_joins",
            "Wishes to enter a room, by what became of them.",
            labels=["result"],
        )
        joins.add_metric(["joined"], rooms.figures.joined)
        for reason, count in rooms.figures.refused.items():
            joins.add_metric([reason], count)
        yield joins
        sent = "Copies of stanzas that rooms have sent to their occupants."
        yield CounterMetricFamily("cms_callbridge_room_copies", sent, rooms.outbox.copies)
        text = "Bytes that rooms hold for what they have not sent yet."
        yield gauge("cms_callbridge_room_held_bytes", text, rooms.outbox.held)


class GuestsCollector(Collector):
    """Guests who were admitted, and what became of those who asked; looked at when asked."""

    def __init__(self, door: DoorFigures, visitors: Visitors) -> None:
        self._door = door
        self._visitors = visitors

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        text = "Guests who are logged in, on their way, or may come back."
        yield gauge("cms_callbridge_guests_known", text, len(self._visitors))
        asked = CounterMetricFamily(
            "cms_callbridge_guests",
            "Guests who asked to be admitted, by what became of it.",
            labels=["result"],
        )
        for result, count in self._door.results.items():
            asked.add_metric([result], count)
        yield asked


class DirectoriesCollector(Collector):
    """The directories that are asked by LDAP; looked at when asked."""

    def __init__(self, house: Known) -> None:
        self._house = house

    def collect(self) -> Iterator[Metric]:
        """See C{Collector}."""
        servers = GaugeMetricFamily(
            "cms_callbridge_directory_servers",
            "Servers of a directory that are used, and that are left alone after a failure.",
            labels=["directory", "state"],
        )
        directories = {name: sync.directory for name, sync in self._house.syncs.items()}
        last: dict[str, SyncOutcome] = {}
        for name, directory in directories.items():
            states = directory.servers.states
            away = sum(state.problem is not None for state in states)
            servers.add_metric([name, "up"], len(states) - away)
            servers.add_metric([name, "away"], away)
            with suppress(DirectoryError):  # it has none while they cannot be read
                outcome = directory.last_sync()
                last |= {} if outcome is None else {name: outcome}
        yield servers
        for what, text, value in (
            ("connections", "Connections to its servers.", lambda one: one.connections),
            ("waiting", "Log-ins and syncs that wait for one.", lambda one: one.waiting),
        ):
            values = {name: float(value(one)) for name, one in directories.items()}
            yield gauges(f"cms_callbridge_directory_{what}", text, "directory", values)
        yield gauges(
            "cms_callbridge_directory_synced_timestamp_seconds",
            "When the last sync ended that could be believed.",
            "directory",
            {
                name: datetime.fromisoformat(outcome.succeeded).timestamp()
                for name, outcome in last.items()
                if outcome.succeeded
            },
        )
        yield gauges(
            "cms_callbridge_directory_sync_failed",
            "Whether the last sync failed.",
            "directory",
            {name: float(outcome.problem is not None) for name, outcome in last.items()},
        )
