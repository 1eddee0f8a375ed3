"""What was measured, kept as JSON, and its medians."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from attrs import field, frozen

from bench.cases import Case
from bench.generator import Values


@frozen
class Results:
    """
    All runs of all cases.

    @ivar runs: By the case's name and the server's, one C{Values} a round.
    @ivar facts: What the runs were made with, for people.
    @ivar extra: What is no run of a case: memory, sessions, failover.
    """

    runs: dict[str, dict[str, list[Values]]] = field(factory=dict)
    facts: dict[str, str] = field(factory=dict)
    extra: dict[str, dict[str, Values]] = field(factory=dict)

    def add(self, case: str, server: str, values: Values) -> None:
        """Note one run."""
        self.runs.setdefault(case, {}).setdefault(server, []).append(values)

    def median(self, case: Case, server: str, key: str | None = None) -> float | None:
        """The median over the rounds of C{key}, or of what counts for the case."""
        return self.median_of(case.name, server, key or case.value)

    def median_of(self, name: str, server: str, key: str) -> float | None:
        """The median over the rounds of C{key}, by names."""
        values = [run[key] for run in self.runs.get(name, {}).get(server, []) if key in run]
        return median(values) if values else None

    def cpu(self, case: Case, server: str) -> float | None:
        """The server's CPU seconds per stanza, registration or log-in: the median."""
        values = [
            run["cpu"] / number
            for run in self.runs.get(case.name, {}).get(server, [])
            if (number := run.get("stanzas", run.get("done", 0)))
        ]
        return median(values) if values else None

    def lost(self) -> int:
        """Stanzas that never arrived, of all runs."""
        return sum(
            run.get("lost", 0)
            for servers in self.runs.values()
            for runs in servers.values()
            for run in runs
        )

    def save(self, file: Path) -> None:
        """Write them."""
        text = json.dumps({"facts": self.facts, "runs": self.runs, "extra": self.extra}, indent=1)
        file.write_text(text + "\n")

    @classmethod
    def load(cls, file: Path) -> Results:
        """Read what C{save} wrote."""
        return cls(**json.loads(file.read_text()))
