"""The plot: throughput by window, and latency by load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.cases import CASES, LOAD_CASES
from bench.results import Results

SERVERS = ("ours", "ejabberd", "Prosody")
WINDOWS = ("1", "64", "1024", "unbounded")


def _throughput(axes: Any, results: Results, stanza: str) -> None:
    by_name = {case.name: case for case in CASES}
    for server in SERVERS:
        values = [results.median(by_name[f"{stanza}-{window}"], server) for window in WINDOWS]
        axes.plot(WINDOWS, [v or float("nan") for v in values], marker="o", label=server)
    axes.set_yscale("log")
    axes.set_xlabel("window (stanzas on their way)")
    axes.set_ylabel("stanzas/s")
    axes.set_title(f"{stanza}: throughput")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()


def _latency(axes: Any, results: Results) -> None:
    for number, server in enumerate(SERVERS):
        for key, style in (("p50", "-"), ("p99", "--")):
            points = [
                (rate, latency)
                for case in LOAD_CASES
                if (rate := results.median(case, server, "rate")) is not None
                and (latency := results.median(case, server, key)) is not None
            ]
            if points:
                label = f"{server}, {key}"
                axes.plot(
                    *zip(*points, strict=True), style, marker="o", color=f"C{number}", label=label
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("messages/s beside it")
    axes.set_ylabel("round trip, us")
    axes.set_title("round trip under load")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()


def draw(results: Results, file: Path) -> bool:
    """Draw what there is; whether there was anything."""
    names = set(results.runs)
    wanted = [stanza for stanza in ("message", "jingle") if f"{stanza}-64" in names]
    load = any(case.name in names for case in LOAD_CASES)
    if not wanted and not load:
        return False
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and only wanted here

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    parts = len(wanted) + load
    figure, axes = plt.subplots(1, parts, figsize=(5.5 * parts, 4.5), squeeze=False)
    for number, stanza in enumerate(wanted):
        _throughput(axes[0][number], results, stanza)
    if load:
        _latency(axes[0][-1], results)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return True
