"""One run of the bench: servers started and ended, cases run over them in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from bench import generator, report
from bench.cases import CASES, LOAD_CASES, Case
from bench.results import Results
from bench.servers import GENERATOR_CORE, KINDS, SERVER_CORE, Pinned, Server, pids
from peers.certs import Certificates
from peers.processes import Processes

_S = TypeVar("_S", bound=Server)
OVERLOADED = 0.95
"""A server that does less than this share of a load is given no higher one."""

BUSY = 0.05
"""More than this share of the server's core for others is worth a word."""


@frozen
class Options:
    """
    What the command line said.

    @ivar seconds: That each run measures, after C{warmup} seconds.
    @ivar cases: Names or patterns.
    @ivar sessions: How many idle clients.
    """

    rounds: int
    seconds: float
    warmup: float
    cases: list[str]
    servers: list[str]
    sessions: int

    def wants(self, name: str) -> bool:
        """Whether the case was asked for."""
        return any(fnmatch(name, pattern) for pattern in self.cases)


def line(values: generator.Values) -> str:
    """What came of a run, for a terminal."""
    words = f"{values['rate']:12,.0f}/s {values['cpu'] / values['seconds']:5.0%} CPU"
    if "p50" in values:
        words += f"  p50 {values['p50']:.0f} us"
    if values["others"] > BUSY:
        words += f", the core was {values['others']:.0%} busy with others"
    if values.get("lost"):
        words += f", LOST {values['lost']}"
    if values.get("failures"):
        words += f", {values['failures']} failures, the last: {values['failure']}"
    return words


class Bench:
    """
    One run of C{make bench}.

    @ivar failures: Runs that came to nothing, and why.
    """

    def __init__(self, options: Options, directory: Path, results: Results, file: Path) -> None:
        """
        @param directory: For the files of all processes.
        @param file: Where the results are saved after each round.
        """
        self.options = options
        self.file = file
        self.results = results
        self.failures: list[str] = []
        self._directory = directory
        self._count = 0
        self.generators = Pinned(self.make_directory("generator"), GENERATOR_CORE)
        self.certificates = Certificates(self.make_directory("certificates"))

    def make_directory(self, name: str) -> Path:
        """A new one below that of this run."""
        self._count += 1
        directory = self._directory / f"{self._count}-{name}"
        directory.mkdir()
        return directory

    def processes(self, name: str) -> Pinned:
        """Children on the server's core."""
        return Pinned(self.make_directory(name), SERVER_CORE)

    @contextmanager
    def server(self, name: str) -> Iterator[Server]:
        """One server, just started; ended in any case."""
        with self.started(KINDS[name]) as server:
            yield server

    @contextmanager
    def started(self, kind: Callable[[Processes, Certificates], _S]) -> Iterator[_S]:
        """The same of a kind that is not in the usual tables."""
        processes = self.processes("server")
        try:
            server = kind(processes, self.certificates)
            server.start()
            yield server
        finally:
            processes.stop_all()

    def run_case(self, case: Case, server: Server) -> generator.Values | None:
        """One run; C{None} when the server has no such port, or it failed."""
        seconds, warmup = self.options.seconds, self.options.warmup
        arguments = case.arguments(server.ports, seconds, warmup)
        if arguments is None:
            return None
        arguments += ["--pids", ",".join(map(str, pids(server))), "--core", str(SERVER_CORE)]
        try:
            return generator.run(self.generators, arguments, seconds + warmup)
        except (generator.GeneratorFailed, AssertionError) as problem:
            self.fail(f"{case.name}, {server.name}: {problem}")
            return None

    def fail(self, text: str) -> None:
        """Note it, and go on."""
        print(f"FAILED {text}", flush=True)
        self.failures.append(text)

    def run_cases(self) -> None:
        """All cases, their rounds interleaved over the servers."""
        cases = [case for case in CASES if self.options.wants(case.name)]
        loads = [case for case in LOAD_CASES if self.options.wants(case.name)]
        if not cases and not loads:
            return
        with ExitStack() as stack:
            servers = [stack.enter_context(self.server(name)) for name in self.options.servers]
            self.run_rounds(cases, loads, servers)

    def run_rounds(self, cases: list[Case], loads: list[Case], servers: list[Server]) -> None:
        """These cases over these servers, which run."""
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", flush=True)
            # Nobody is always the first.
            turn = number % len(servers)
            self._run_round(cases, loads, servers[turn:] + servers[:turn])

    def _run_round(self, cases: list[Case], loads: list[Case], servers: list[Server]) -> None:
        for case in cases:
            for server in servers:
                if server.name != report.SINK or case.ceiling:
                    self._note(case, server)
        for server in servers:
            self._run_loads(loads, server)
        self.results.save(self.file)

    def _note(self, case: Case, server: Server) -> generator.Values | None:
        values = self.run_case(case, server)
        if values is not None:
            self.results.add(case.name, server.name, values)
            print(f"  {case.name:22} {server.name:9} {line(values)}", flush=True)
        return values

    def _run_loads(self, cases: list[Case], server: Server) -> None:
        for case in cases:
            values = self._note(case, server)
            offered = float(case.options[case.options.index("--rate") + 1])
            if values is None or values["rate"] < OVERLOADED * offered:
                return

    def stop(self) -> None:
        """End the generators that are left."""
        self.generators.stop_all()
