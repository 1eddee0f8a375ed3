"""
C{python -m bench}: run the cases over the servers in turn, and say what came.

Each server has core 0, the generator core 1.  Everything is on loopback and
ends by itself.
"""

from __future__ import annotations

import argparse
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType

from bench import cluster, extras, generator, ldap, plot, report
from bench.cases import CASES, LOAD_CASES
from bench.crowded import measure_crowded
from bench.harness import Bench, Options
from bench.results import Results
from bench.servers import GENERATOR_CORE, KINDS, SERVER_CORE, USUAL
from peers.contract import ROOT

PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.png"
EXTRAS = {**extras.EXTRAS, "ldap": ldap.measure_ldap, "cluster-sessions": measure_crowded}
RESULTS = ROOT / "build" / "bench.json"


def _arguments() -> argparse.Namespace:
    names = [case.name for case in (*CASES, *LOAD_CASES)] + list(EXTRAS)
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="that each run measures")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before them")
    parser.add_argument(
        "--cases",
        default="*",
        help=f"names or patterns, with commas between them; the cases are {', '.join(names)}",
    )
    usual = ",".join(kind.name for kind in USUAL)
    parser.add_argument("--servers", default=usual, help=f"of {', '.join(KINDS)}")
    parser.add_argument("--sessions", type=int, default=10_000, help="idle clients")
    parser.add_argument("--render", action="store_true", help="only write the page and the plot")
    parser.add_argument("--keep-page", action="store_true", help="only print")
    options = parser.parse_args()
    options.cases = options.cases.split(",")
    options.servers = options.servers.split(",")
    for pattern in options.cases:
        if not any(fnmatch(name, pattern) for name in names):
            parser.error(f"there is no case {pattern}; there are {', '.join(names)}")
    for name in options.servers:
        if name not in KINDS:
            parser.error(f"there is no server {name}; there are {', '.join(KINDS)}")
    return options


def _version(package: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _facts(options: Options, descriptors: int) -> dict[str, str]:
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_processor()}, Linux {platform.release().partition('-')[0]},"
        f" Python {platform.python_version()} in {sys.base_prefix}; servers on core {SERVER_CORE},"
        f" generator on core {GENERATOR_CORE}; {descriptors:,} file descriptors for each process",
        "peers": f"Prosody {_version('prosody')}, ejabberd {_version('ejabberd')}",
        "runs": f"medians of {options.rounds} rounds of {options.seconds:g} s each",
    }


def _raise_limit() -> int:
    """As many file descriptors as this user may have; how many they are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(options: Options) -> tuple[Results, list[str]]:
    descriptors = _raise_limit()
    generator.build()
    results = Results(facts=_facts(options, descriptors))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        bench = Bench(options, Path(directory), results, RESULTS)
        try:
            bench.run_cases()
            for name, extra in EXTRAS.items():
                if options.wants(name):
                    extra(bench)
                    results.save(RESULTS)
        finally:
            bench.stop()
    return results, bench.failures


def main() -> int:
    """Run it; the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    failures: list[str] = []
    if arguments.render:
        results = Results.load(RESULTS)
    else:
        results, failures = _measure(
            Options(
                rounds=arguments.rounds,
                seconds=arguments.seconds,
                warmup=arguments.warmup,
                cases=arguments.cases,
                servers=arguments.servers,
                sessions=arguments.sessions,
            )
        )
    told = cluster.render(results) if cluster.is_in(results) else ""
    print(f"\n{told}\n")
    if told and not arguments.keep_page:
        report.write(PAGE, told, "of the cluster")
    if cluster.is_all(results):
        return _ended(failures)
    text = report.render(results)
    print(f"\n{text}\n")
    if not arguments.keep_page:
        drawn = plot.draw(results, PICTURE)
        picture = f"\n\n![Throughput and latency by load]({PICTURE.name})" if drawn else ""
        report.write(PAGE, text + picture)
        print(f"written to {PAGE.relative_to(ROOT)}")
    return _ended(failures)


def _ended(failures: list[str]) -> int:
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
