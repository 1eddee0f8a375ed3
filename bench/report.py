"""The tables: on the terminal and, between two marks, in a page of the documentation."""

from __future__ import annotations

from pathlib import Path

from bench.cases import CASES, LDAP_CASES, LOAD_CASES, Case
from bench.results import Results

BEGIN = "<!-- bench begins: written by `make bench` -->"
END = "<!-- bench ends -->"

PEERS = ("Prosody", "ejabberd")
OURS = "ours"
SINK = "sink"


def duration(seconds: float) -> str:
    """With three digits and a unit that fits."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number < 1000 else f"{float(f'{number:.3g}'):,.0f}"


def _cell(results: Results, case: Case, server: str) -> str:
    if case.value == "p50":
        values = [results.median(case, server, key) for key in ("p50", "p99", "p999")]
        return " / ".join("-" if v is None else _count(v) for v in values)
    rate, cpu = results.median(case, server), results.cpu(case, server)
    if rate is None:
        return "-"
    return f"{_count(rate)}/s, {duration(cpu)}" if cpu else f"{_count(rate)}/s"


def ratio(ours: float | None, theirs: float | None) -> str:
    """How many times as much."""
    return "-" if not ours or not theirs else f"{ours / theirs:.2f}"


def _row(results: Results, case: Case) -> list[str]:
    servers = (*PEERS, OURS)
    rate = results.median(case, OURS)
    cpu = results.cpu(case, OURS)
    ratios = [ratio(rate, results.median(case, peer)) for peer in PEERS]
    cpu_ratios = [ratio(cpu, results.cpu(case, peer)) for peer in PEERS]
    ceiling = results.median(case, SINK)
    return [
        case.title,
        *(_cell(results, case, server) for server in servers),
        *ratios,
        *(["-", "-"] if case.value == "p50" else cpu_ratios),
        _count(ceiling) if ceiling else "-",
    ]


_HEADINGS = [
    "case",
    *PEERS,
    OURS,
    *(f"ours / {peer}" for peer in PEERS),
    *(f"CPU, ours / {peer}" for peer in PEERS),
    "generator alone",
]


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns line up on a terminal too."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (headings, *rows)
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


_NOTES = {
    "rate": "Rate, and the server's CPU time for each. A ratio of rates above 1 and a ratio of"
    " CPU times below 1 speak for ours.",
    "p50": "Microseconds, p50 / p99 / p99.9. A ratio of p50 below 1 speaks for ours.",
}


def _group(results: Results, name: str, cases: list[Case]) -> list[str]:
    parts = [f"### {name}"]
    for value, note in _NOTES.items():
        rows = [_row(results, case) for case in cases if case.value == value]
        if rows:
            parts += [note, table(_HEADINGS, rows)]
    return parts


def _extra(results: Results) -> list[str]:
    """Each as its own table: a row for each entry, a column for each server."""
    parts = []
    for title, rows in results.extra.items():
        servers = [s for s in (*PEERS, OURS) if any(s in row for row in rows.values())]
        body = [[name, *(str(row.get(s, "-")) for s in servers)] for name, row in rows.items()]
        parts += [f"### {title}", table(["", *servers], body)]
    return parts


def render(results: Results) -> str:
    """All tables, as Markdown."""
    facts = "\n".join(f"- {name}: {text}" for name, text in results.facts.items())
    parts = [facts, f"Stanzas lost, of all runs: {results.lost()}."]
    groups: dict[str, list[Case]] = {}
    for case in (*CASES, *LDAP_CASES, *LOAD_CASES):
        if case.name in results.runs:
            groups.setdefault(case.group, []).append(case)
    for name, cases in groups.items():
        parts += _group(results, name, cases)
    return "\n\n".join([*parts, *_extra(results)])


def write(page: Path, text: str, part: str = "") -> None:
    """
    Put the text between the marks of a page.

    @param part: Which of the marks, if they are not those of all.
    """
    begin, end = (mark.replace("bench", f"bench {part}".strip(), 1) for mark in (BEGIN, END))
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place for the results: {begin} ... {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
