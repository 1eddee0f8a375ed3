"""What is no run of a case: memory, many sessions, failover."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from statistics import median

from bench import generator, report
from bench.cases import CASES, Case
from bench.cluster import measure_cluster
from bench.generator import Idle
from bench.harness import Bench
from bench.servers import PASSWORD, USERS, Ports, Server, memory
from peers.processes import Processes
from peers.test_failover import start_two_servers

SETTLE_SECONDS = 2.0
"""For a server to be at rest before its memory is read."""

IDLE_CONNECTIONS = 1000
"""For the memory of one."""

WARM_CONNECTIONS = 50
"""Before the first reading, so that what a server loads once is not counted."""

MOST_ROUNDS = 3
"""Of what takes long."""

_KINDS: dict[str, tuple[str, list[str]]] = {
    "component, plain": ("component", []),
    "component, TLS": ("component_tls", ["--tls"]),
    "client, plain": ("client_plain", ["--client"]),
    "client, TLS": ("client", ["--client", "--tls"]),
}


def _idle(ports: Ports, kind: str, count: int) -> list[str] | None:
    """The generator's words for idle connections; C{None} when there is no such port."""
    attribute, options = _KINDS[kind]
    port = getattr(ports, attribute)
    if port is None:
        return None
    common = ["--users", str(USERS), "--password", PASSWORD]
    return ["--port", str(port), "--count", str(count), *common, *options]


def _peers(bench: Bench) -> list[str]:
    return [name for name in bench.options.servers if name != report.SINK]


def _growth(bench: Bench, server: Server, kind: str) -> float | None:
    """Bytes for each idle connection; C{None} when the server has no such port."""
    warm = _idle(server.ports, kind, WARM_CONNECTIONS)
    many = _idle(server.ports, kind, IDLE_CONNECTIONS)
    if warm is None or many is None:
        return None
    with Idle(bench.generators, warm):
        pass
    time.sleep(SETTLE_SECONDS)
    before = memory(server)
    idle = Idle(bench.generators, many)
    with idle:
        time.sleep(SETTLE_SECONDS)
        after = memory(server)
    if idle.lost():
        bench.fail(f"memory, {kind}, {server.name}: {idle.lost()} connections were closed")
    return (after - before) / IDLE_CONNECTIONS


def measure_memory(bench: Bench) -> None:
    """What an idle connection costs, each kind with a server just started."""
    table = bench.results.extra.setdefault("Memory for an idle connection", {})
    for kind in _KINDS:
        for name in _peers(bench):
            with bench.server(name) as server:
                try:
                    growth = _growth(bench, server, kind)
                except generator.GeneratorFailed as problem:
                    bench.fail(f"memory, {kind}, {name}: {problem}")
                    continue
            if growth is not None:
                table.setdefault(kind, {})[name] = f"{growth / 1024:.1f} KiB"
                print(f"  memory, {kind:18} {name:9} {growth / 1024:8.1f} KiB", flush=True)


def _repeated(bench: Bench, case: Case, server: Server) -> Iterator[generator.Values]:
    for _ in range(min(bench.options.rounds, MOST_ROUNDS)):
        values = bench.run_case(case, server)
        if values is not None:
            yield values


def _words(case: Case, runs: list[generator.Values]) -> str:
    if not runs:
        return "-"
    if case.value == "p50":
        return f"{median(run['p50'] for run in runs):.0f} us"
    cpu = median(run["cpu"] / run["stanzas"] for run in runs if run["stanzas"])
    return f"{median(run['rate'] for run in runs):,.0f}/s, {report.duration(cpu)}"


def measure_sessions(bench: Bench) -> None:
    """What other people's idle sessions cost: the same cases without and with them."""
    count = bench.options.sessions
    table = bench.results.extra.setdefault(f"Beside {count:,} idle clients", {})
    cases = [case for case in CASES if case.name in ("message-64", "message-unbounded", "rtt")]

    def note(server: Server, when: str) -> None:
        for case in cases:
            words = _words(case, list(_repeated(bench, case, server)))
            title = f"{case.group}: {case.title}" if case.value == "p50" else case.title
            table.setdefault(f"{title}; {when}", {})[server.name] = words
            print(f"  sessions, {case.name:18} {server.name:9} {when:7} {words}", flush=True)

    for name in _peers(bench):
        with bench.server(name) as server:
            words = _idle(server.ports, "client, plain", count)
            assert words is not None
            note(server, "none")
            try:
                with Idle(bench.generators, [*words, "--parallel", "32"]) as opened:
                    print(f"  sessions, {name}: {count:,} in {opened['seconds']:.0f} s", flush=True)
                    note(server, f"{count:,}")
            except generator.GeneratorFailed as problem:
                bench.fail(f"sessions, {name}: {problem}")


def _fail_over(processes: Processes, bench: Bench) -> float:
    """Seconds from the kill until the Callbridge is active on the next server."""
    first, _, callbridge = start_two_servers(processes, bench.certificates)
    killed = time.monotonic()
    first.process.signal(signal.SIGKILL)
    callbridge.wait_active(times=2)
    return time.monotonic() - killed


def measure_failover(bench: Bench) -> None:
    """Two XMPP servers in SRV order; the first is killed."""
    times = []
    for _ in range(bench.options.rounds):
        processes = bench.processes("failover")
        try:
            times.append(_fail_over(processes, bench))
        finally:
            processes.stop_all()
    words = f"{report.duration(median(times))} (at most {report.duration(max(times))})"
    print(f"  failover: {words}", flush=True)
    table = bench.results.extra.setdefault("Failover", {})
    table["from kill to active on the next server"] = {report.OURS: words}


EXTRAS: dict[str, Callable[[Bench], None]] = {
    "memory": measure_memory,
    "sessions": measure_sessions,
    "failover": measure_failover,
    "cluster": measure_cluster,
}
"""By their names for C{--cases}."""
