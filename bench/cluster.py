"""
What a cluster costs: the same traffic at one server, at one of two, and from one to the other.

C{make bench ARGS="--cases cluster"}: of ours, and of ejabberd as its administrator would do it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Final

from attrs import field, frozen

from bench import generator, report
from bench.clusters import Cluster, EjabberdCluster, OurCluster
from bench.harness import Bench, line
from bench.results import Results
from bench.servers import SERVER_CORE, FastEjabberd, Ours, Ports, Server, pids

_PREFIX: Final = "cluster-"
ONE, LOCAL, ACROSS = "one server", "two, at one of them", "two, across"
_PLACES: Final = (ONE, LOCAL, ACROSS)
_Made = tuple[Callable[..., Server], Callable[..., Cluster]]
_KINDS: Final[dict[str, _Made]] = {
    "ours": (Ours, OurCluster),
    "ejabberd": (FastEjabberd, EjabberdCluster),
}


@frozen
class Traffic:
    """
    What is measured: a row of the table.

    @ivar mode: Of the generator.
    @ivar second: The port that is the other server's across: C{component} or C{client...};
        everything, if the generator has one port only.
    """

    name: str
    title: str
    mode: str
    second: str
    options: list[str] = field(factory=list)
    value: str = "cpu"

    def words(self, first: Ports, other: Ports, seconds: float, warmup: float) -> list[str]:
        """The generator's command line."""
        port, words = getattr(other, self.second), [self.mode, *self.options]
        if self.mode == "relay":
            words += ["--port", str(first.component), "--client-port", str(port), "--settle"]
        elif self.mode == "pair":
            words += ["--port", str(first.component), "--other-port", str(port)]
        else:
            words += ["--port", str(port)]
        return [*words, "--seconds", str(seconds), "--warmup", str(warmup)]


TRAFFIC: Final = [
    *(
        Traffic(
            f"{stanza}-{window or 'unbounded'}",
            f"{word}, {f'window {window}' if window else 'unbounded'}",
            "pair",
            "component",
            ["--stanza", stanza, "--window", str(window)],
        )
        for stanza, word in (("message", "message"), ("jingle", "Jingle IQ"))
        for window in (64, 0)
    ),
    Traffic(
        "relay-64",
        "message from client to component and back, window 64",
        "relay",
        "client_plain",
        ["--window", "64"],
    ),
    Traffic(
        "rtt", "round trip, one at a time", "pair", "component", ["--window", "1", "--echo"], "p50"
    ),
    Traffic("login", "log-in, SCRAM after STARTTLS, 16 at once", "login", "client", ["--tls"]),
    Traffic("register", "registration of a component, 16 at once", "register", "component"),
]


def _run(bench: Bench, kind: str, servers: tuple[Server, Cluster], traffic: Traffic) -> None:
    """One round of one row: each place in turn."""
    one, two = servers
    places = ((ONE, one, one.ports), (LOCAL, two, two.ports), (ACROSS, two, two.other))
    for place, server, other in places:
        options = bench.options
        words = traffic.words(server.ports, other, options.seconds, options.warmup)
        words += ["--pids", ",".join(map(str, pids(server))), "--core", str(SERVER_CORE)]
        apart = [process.pid for process in getattr(server, "apart", list)()]
        if apart:
            words += ["--apart", ",".join(map(str, apart))]
        try:
            values = generator.run(bench.generators, words, options.seconds + options.warmup + 1)
        except (generator.GeneratorFailed, AssertionError) as problem:
            bench.fail(f"cluster, {traffic.name}, {kind}, {place}: {problem}")
            continue
        number = values.get("stanzas", values.get("done", 0)) or 1
        values["each"], values["engine"] = values["cpu"] / number, values["apart"] / number
        bench.results.add(f"{_PREFIX}{traffic.name}", f"{kind}, {place}", values)
        told = f"{line(values)}, {report.duration(values['each'])} each"
        if values["engine"]:
            told += f", Redis {report.duration(values['engine'])}"
        print(f"  {traffic.name:18} {kind:9} {place:20} {told}", flush=True)


def measure_cluster(bench: Bench) -> None:
    """All of it, the rounds interleaved."""
    wanted = [kind for kind in _KINDS if kind in bench.options.servers]
    with ExitStack() as stack:
        servers = {}
        for kind in wanted:
            alone, cluster = _KINDS[kind]
            one = stack.enter_context(bench.started(alone))
            servers[kind] = (one, stack.enter_context(bench.started(cluster)))
        for number in range(bench.options.rounds):
            print(f"cluster, round {number + 1} of {bench.options.rounds}", flush=True)
            for traffic in TRAFFIC:
                for kind in wanted:
                    _run(bench, kind, servers[kind], traffic)


def _median(results: Results, traffic: Traffic, kind: str, place: str, key: str) -> float | None:
    return results.median_of(f"{_PREFIX}{traffic.name}", f"{kind}, {place}", key)


def _cell(results: Results, traffic: Traffic, kind: str, place: str) -> str:
    if traffic.value == "p50":
        p50 = _median(results, traffic, kind, place, "p50")
        return "-" if p50 is None else f"{p50:.0f} us"
    each = _median(results, traffic, kind, place, "each")
    return "-" if each is None else report.duration(each)


def render(results: Results) -> str:
    """The tables."""
    facts = {**results.facts, "others": _others(results)}
    parts = ["\n".join(f"- {name}: {text}" for name, text in facts.items())]
    key = {"cpu": "each", "p50": "p50"}
    for kind in _KINDS:
        rows = []
        for traffic in TRAFFIC:
            what = key[traffic.value]
            found = [_median(results, traffic, kind, place, what) for place in _PLACES]
            if found[0] is None:
                continue
            engine = _median(results, traffic, kind, ACROSS, "engine")
            theirs = _median(results, traffic, "ejabberd", ACROSS, what)
            more = [report.duration(engine) if engine else "-"] if kind == "ours" else []
            more += [report.ratio(found[2], theirs)] if kind == "ours" else []
            rows.append(
                [
                    traffic.title,
                    *(_cell(results, traffic, kind, place) for place in _PLACES),
                    report.ratio(found[1], found[0]),
                    report.ratio(found[2], found[0]),
                    *more,
                ]
            )
        if rows:
            heads = [kind, *_PLACES, "at one / one server", "across / one server"]
            heads += ["Redis besides, across", "across, ours / ejabberd"] if kind == "ours" else []
            parts.append(report.table(heads, rows))
    return "\n\n".join(parts)


def _others(results: Results) -> str:
    mine = [places for name, places in results.runs.items() if name.startswith(_PREFIX)]
    runs = [run for places in mine for rounds in places.values() for run in rounds]
    share, lost = median(run["others"] for run in runs), sum(run.get("lost", 0) for run in runs)
    return f"the servers' core was {share:.0%} busy with other programs (median); lost: {lost}"


def is_in(results: Results) -> bool:
    """Whether it was measured."""
    return any(name.startswith(_PREFIX) for name in results.runs)


def is_all(results: Results) -> bool:
    """Whether nothing else was."""
    return not results.extra and all(name.startswith(_PREFIX) for name in results.runs)
