"""
Many sessions on three servers of a cluster: what each costs the others, and how long it takes to
make them known and to forget them.

C{make bench ARGS="--cases cluster-sessions --keep-page"}, of C{--sessions} altogether.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from bench.generator import Idle
from bench.harness import Bench
from bench.servers import PASSWORD, make_server
from cms.callbridge.directories.store import UserStore
from peers.api import Administration
from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import DOMAIN, LINK_SECONDS, START_SECONDS
from peers.daemons import Callbridge
from peers.network import wait_until
from peers.numbered import Client, Crowd
from peers.processes import Processes
from peers.redis import Redis

SERVERS = 3
RESOURCES = 20  # of one user
ITERATIONS = 4_096  # of PBKDF2: who logs in is not what is measured
SETTLE_SECONDS = 3.0
PATIENCE = 60.0
PROBE, LISTENER = "probe", "listener"  # the user who logs in, and who is there


class Three:
    """Three servers, their Redis, and a Callbridge at the first."""

    def __init__(self, processes: Processes, certificates: Certificates, sessions: int) -> None:
        self.redis = Redis(processes)
        self.users = max(1, -(-sessions // (SERVERS * RESOURCES))) * SERVERS
        made = [make_server(processes, certificates, f"xmpp{n + 1}") for n in range(SERVERS)]
        self.servers = [server for server, _ in made]
        self.ports = [ports for _, ports in made]
        for server in self.servers:
            server.settings["cluster"] = {"engine": self.redis.address}
        records = [
            f"_xmpp-component._tcp SRV {n} 10 {ports.component_tls} xmpp{n + 1}"
            for n, ports in enumerate(self.ports)
        ]
        records += [f"xmpp{n + 1} A 127.0.0.1" for n in range(SERVERS)]
        self.dns = Bind(processes, {DOMAIN: records})
        self.callbridge = Callbridge(processes, certificates, "secret", dns=self.dns)
        self.callbridge.options = ["--log-level", "warn"]
        store = UserStore(self.callbridge.directory / "state")
        for name in (*(f"u{number}" for number in range(self.users)), PROBE, LISTENER):
            store.set_password(name, PASSWORD, iterations=ITERATIONS)

    def start(self) -> None:
        """Start all, which know each other then."""
        self.redis.start()
        self.dns.start()
        for daemon in (*self.servers, self.callbridge):
            daemon.launch()
            Administration(daemon.directory / "state").wait(START_SECONDS)
        for server in self.servers:
            Administration(server.directory / "state").wait_for_health(200, LINK_SECONDS)

    def known(self, server: int) -> int:
        """How many sessions it shows, its own and the others'."""
        administration = Administration(self.servers[server].directory / "state")
        return int(administration.get("clients?limit=1")["clients"]["total"])

    def joined(self, server: int) -> int:
        """How often it has joined."""
        administration = Administration(self.servers[server].directory / "state")
        return int(administration.get("system/status")["status"]["cluster"]["joined"])

    def memory(self) -> list[int]:
        """KiB that are resident of each server; 0 of one that does not run."""
        found = []
        for server in self.servers:
            try:
                text = Path(f"/proc/{server.process.pid}/statm").read_text()
            except OSError:
                text = "0 0"
            found.append(int(text.split()[1]) * 4)
        return found

    def idle(self, generators: Processes, server: int, count: int) -> Idle:
        """So many sessions at a server."""
        port = self.ports[server].client_plain
        words = ["--port", str(port), "--count", str(count), "--client"]
        words += ["--users", str(self.users), "--password", PASSWORD]
        return Idle(generators, words)


class Probe:
    """Logs in and leaves at a server, over and over."""

    def __init__(self, port: int | None, user: str = PROBE) -> None:
        ports = [] if port is None else [port]
        self.client = Client(user, DOMAIN, ports, 0, managed=False, random=Random(1))

    def first(self, crowd: Crowd) -> float:
        """Seconds until it is logged in."""
        began = time.monotonic()
        crowd.enter(self.client)
        wait_until(lambda: self.client.is_there, PATIENCE, "a log-in")
        took = time.monotonic() - began
        crowd.send_away(self.client)
        return took


def _until(what: str, done: Callable[[], bool]) -> float:
    """Wait for that; how many seconds."""
    began = time.monotonic()

    def is_so() -> bool:
        try:
            return done()
        except OSError:
            return False

    wait_until(is_so, PATIENCE, what)
    return time.monotonic() - began


@contextmanager
def _filled(
    bench: Bench, three: Three, count: int, note: Callable[[str, str], None]
) -> Iterator[None]:
    """A third of them at each server in turn; what each costs."""
    with ExitStack() as stack:
        for number in range(SERVERS):  # what is loaded once
            with three.idle(bench.generators, number, 30):
                pass
        time.sleep(SETTLE_SECONDS)
        before = three.memory()
        note("resident before, MiB", _row(kib / 1024 for kib in before))
        total = three.known(0)
        for number in range(SERVERS):
            values = stack.enter_context(three.idle(bench.generators, number, count))
            total += count
            _until(
                "all to be known",
                lambda total=total: all(three.known(n) == total for n in range(SERVERS)),  # type: ignore[misc]
            )
            time.sleep(SETTLE_SECONDS)
            after = three.memory()
            grown = [(b - a) / count for a, b in zip(before, after, strict=True)]
            note(
                f"KiB for each of {count:,} sessions at server {number + 1}",
                f"{_row(grown)} ({values['seconds']:.1f} s for their log-ins)",
            )
            before = after
        note(f"resident with {total:,} sessions, MiB", _row(kib / 1024 for kib in before))
        yield


def _row(values: object) -> str:
    return ", ".join(f"{value:.1f}" for value in values)  # type: ignore[attr-defined]


def _measure(
    bench: Bench, three: Three, crowd: Crowd, count: int, note: Callable[[str, str], None]
) -> None:
    first, last = 0, SERVERS - 1
    with _filled(bench, three, count, note):
        total = three.known(first)
        probe = Probe(three.ports[first].client_plain)
        note("s for a log-in at rest", f"{probe.first(crowd):.2f}")
        joined = [three.joined(number) for number in range(SERVERS)]
        three.redis.command("FLUSHALL")
        took = _until(
            "all to have joined again",
            lambda: all(
                three.joined(n) > joined[n] and three.known(n) == total for n in range(SERVERS)
            ),
        )
        note("s after FLUSHALL, until all have joined and know all", f"{took:.1f}")
        three.servers[last].process.signal(signal.SIGKILL)
        killed = time.monotonic()
        took = probe.first(crowd)
        note("s after a kill, until the first log-in elsewhere", f"{took:.2f}")
        longest = took
        gone: dict[int, float] = {}
        while len(gone) < last:
            assert time.monotonic() - killed < PATIENCE, "ghosts"
            longest = max(longest, probe.first(crowd))
            for number in range(last):
                # The others may not know yet that the probe has left.
                if number not in gone and three.known(number) <= total - count + 1:
                    gone[number] = time.monotonic() - killed
        ghosts = _row(gone[number] for number in range(last))
        note("s after the kill, until the last ghost is gone at each", ghosts)
        note("s for the slowest log-in meanwhile", f"{longest:.2f}")
        _comes_back(three, crowd, note)


def _comes_back(three: Three, crowd: Crowd, note: Callable[[str, str], None]) -> None:
    """A server starts, and who comes at once writes to the last who came elsewhere."""
    number = SERVERS - 1
    listener = Probe(three.ports[0].client_plain, LISTENER).client
    crowd.enter(listener)
    wait_until(lambda: listener.is_there, PATIENCE, "who is there")
    left = three.known(0)
    three.servers[number].launch()
    began = time.monotonic()
    client = Probe(three.ports[number].client_plain).client
    crowd.enter(client)
    wait_until(lambda: client.is_there, PATIENCE, "the first to come")
    took = time.monotonic() - began
    crowd.call(client.say, listener.jid, 1)
    knew = three.known(number)
    wait_until(lambda: bool(client.life.errors or listener.life.heard), PATIENCE, "an answer")
    told = "was answered with an error" if client.life.errors else "arrived"
    note("s from its start until the first is logged in at a server that joins", f"{took:.2f}")
    note("what it writes at once to who is elsewhere", f"{told} ({knew - 1:,} of {left:,} known)")


def measure_crowded(bench: Bench) -> None:
    """All of it, once."""
    count = bench.options.sessions // SERVERS
    title = f"{count * SERVERS:,} sessions on three servers"
    table = bench.results.extra.setdefault(title, {})

    def note(what: str, value: str) -> None:
        table.setdefault(what, {})["ours"] = value
        print(f"  {what}: {value}", flush=True)

    processes = bench.processes("three")
    try:
        three = Three(processes, bench.certificates, count * SERVERS)
        three.start()
        with Crowd() as crowd:
            _measure(bench, three, crowd, count, note)
    except AssertionError as problem:
        bench.fail(f"cluster-sessions: {problem}")
    finally:
        processes.stop_all()
