"""
C{python -m bench.api}: what the administration and the router cost each other.

How fast C{system/status} is answered while the router carries all it can, and
how fast the router is while the API is flooded: by connections that ask without
end, and by ones that begin anew each time.  Server on core 0, all clients on
core 1; the medians of some rounds, in turn.
"""

from __future__ import annotations

import argparse
import base64
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from statistics import median, quantiles

from bench import generator
from bench.servers import GENERATOR_CORE, SECRET, SERVER_CORE, Pinned
from cms.admin.accounts import PASSWORD
from peers.certs import Certificates
from peers.contract import START_SECONDS
from peers.daemons import XmppServer
from peers.network import free_port

STATUS = "/api/v1/system/status"
ASK_EVERY = 0.02  # seconds
FLOODERS = 16


class Api:
    """The API of the server under load."""

    def __init__(self, port: int, trust: Path, password: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(trust))
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
        }

    def connect(self) -> HTTPSConnection:
        """A new connection."""
        return HTTPSConnection("127.0.0.1", self._port, timeout=60, context=self._context)

    def ask(self, connection: HTTPSConnection) -> float:
        """One request; how long it took."""
        began = time.monotonic()
        connection.request("GET", STATUS, headers=self._headers)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise AssertionError(f"the API answered {response.status}")
        return time.monotonic() - began


class Clients:
    """Threads that ask until they are told to stop."""

    def __init__(self, work: Callable[[], float | None], count: int) -> None:
        self._work = work
        self._over = threading.Event()
        self.times: list[float] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                taken = self._work()
            except (OSError, HTTPException):
                continue
            if taken is not None:
                self.times.append(taken)

    def __enter__(self) -> Clients:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more."""
        self._over.set()


def _polite(api: Api) -> Clients:
    connection = api.connect()
    api.ask(connection)

    def work() -> float:
        time.sleep(ASK_EVERY)
        return api.ask(connection)

    return Clients(work, 1)


def _flood(api: Api) -> Clients:
    own = threading.local()

    def work() -> float:
        if not hasattr(own, "connection"):
            own.connection = api.connect()
        return api.ask(own.connection)

    return Clients(work, FLOODERS)


def _new_connections(api: Api) -> Clients:
    def work() -> float:
        connection = api.connect()
        try:
            return api.ask(connection)
        finally:
            connection.close()

    return Clients(work, FLOODERS)


def _nobody(api: Api) -> Clients:
    return Clients(lambda: None, 0)


KINDS = {
    "nobody": _nobody,
    f"a client that asks every {ASK_EVERY * 1000:.0f} ms": _polite,
    f"{FLOODERS} that ask without end": _flood,
    f"{FLOODERS} that connect anew each time": _new_connections,
}


def _show(kind: str, rates: list[float], times: list[float], quiet: float) -> None:
    line = f"{kind:40} {median(rates):10,.0f} messages/s ({median(rates) / quiet - 1:+.1%})"
    if len(times) > 1:
        percentile = quantiles(times, n=100)[98] * 1000
        line += (
            f"; {len(times)} answers, p50 {median(times) * 1000:.1f} ms, p99 {percentile:.1f} ms"
        )
    print(line, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.api", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--window", type=int, default=64, help="0 is unbounded")
    options = parser.parse_args()
    generator.build()
    os.sched_setaffinity(0, {GENERATOR_CORE})
    with tempfile.TemporaryDirectory() as directory:
        _measure(Path(directory), options)


def _measure(directory: Path, options: argparse.Namespace) -> None:
    (directory / "certificates").mkdir()
    certificates = Certificates(directory / "certificates")
    processes = Pinned(directory, SERVER_CORE)
    generators = Pinned(directory, GENERATOR_CORE)
    server = XmppServer(processes, certificates, {f"c{n}": SECRET for n in range(4)})
    pair = certificates.issue(server.hostname, "127.0.0.1")
    server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
    port = free_port()
    server.settings["listen"]["api"] = [f"tcp:{port}:interface=127.0.0.1"]
    try:
        server.launch().wait_for("api listener ready", START_SECONDS)
        password = (server.directory / "state" / PASSWORD).read_text().strip()
        api = Api(port, certificates.trust, password)
        rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        busy: dict[str, list[float]] = {kind: [] for kind in KINDS}
        words = ["pair", "--seconds", str(options.seconds), "--warmup", "1"]
        words += ["--pids", str(server.process.pid), "--core", str(SERVER_CORE)]
        words += ["--window", str(options.window), "--port", str(server.component_plain_port)]
        for _ in range(options.rounds):
            for kind, make in KINDS.items():
                with make(api) as clients:
                    values = generator.run(generators, words, options.seconds + 1)
                rates[kind].append(values["rate"])
                busy[kind].append(values["cpu"] / values["seconds"])
                times[kind] += clients.times
                time.sleep(1.5)  # the account of time fills again
        quiet = median(rates["nobody"])
        for kind, measured in rates.items():
            _show(kind, measured, times[kind], quiet)
            print(f"{'':40} the server's core is {median(busy[kind]):.0%} busy", flush=True)
    finally:
        processes.stop_all()
        generators.stop_all()


if __name__ == "__main__":
    main()
