"""
The steps of one attempt at a link, which are one line of the record.

A registration has four within milliseconds.  In one line they cost a third of what they cost in
four, in time and in bytes (docs/design/record.md).  Readers get an entry for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring as quote
from typing import Any, Final

from cms.protection.sources import network_of
from cms.signalflow import Attempt, Step, StepRecord

Entry = dict[str, Any]

KIND: Final = "steps"
MOST: Final = 20  # steps of a line
_TITLES: Final = {step.value: step.title for step in Step}
_MOST_MILLISECONDS: Final = 10**12  # more is damage

# Made once: json.dumps makes an encoder for each line.
encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


class Steps:
    """
    Those that wait to be written.  They wait as text: of dictionaries the garbage collector
    would have to look at each, thousands of times while they wait.

    @ivar known: Whether the attempt is that of a component that is known here.
    @ivar left_out: How many lines of the same source were left out before it.
    """

    __slots__ = ("_began", "_component", "_failed", "_head", "_peer", "_texts", "known", "left_out")

    def __init__(self, attempt: Attempt, now: float, by: str, run: str) -> None:
        """
        @param now: Seconds since the epoch.
        @param by: The role.
        @param run: Names the attempt if it has no name.
        """
        self._began = round(now * 1000)
        name = attempt.id or f"{run}-{attempt.number}"
        at = self._began / 1000
        self._head = f'{{"at":{at},"kind":"{KIND}","by":{quote(by)},"attempt":{quote(name)}'
        if len(attempt.records) > 1 and (link := attempt.link_id) is not None:
            self._head += f',"link":{quote(link)}'
        self._component = self._peer = ""
        self._failed = self.known = False
        self._texts: list[str] = []
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, now: float, record: StepRecord) -> None:
        """One has ended, or the link is up."""
        result, evidence, seconds = record.result, record.evidence, record.seconds
        self._component = self._component or evidence.get("component", "")
        self._peer = self._peer or evidence.get("peer", "")
        told = ",".join([f"{quote(key)}:{quote(value)}" for key, value in evidence.items()])
        text = (
            f"[{round(now * 1000) - self._began},{int(record.step)},"
            f'"{"up" if result == "running" else result}",{{{told}}},'
            f"{'null' if seconds is None else round(seconds * 10_000)}"
        )
        failure = record.failure
        if failure is not None:
            self._failed = True
            facts = {"fault": failure.fault, "cause": failure.cause, "cure": failure.cure}
            text = f"{text},{encode(facts)}"
        self._texts.append(f"{text}]")

    @property
    def source(self) -> str:
        """What they are counted for: the component, apart when it failed; or the network."""
        if self.known and self._component:
            return f"{'!' if self._failed else '='}{self._component}"
        return f"#{network_of(self._peer.partition(' ')[0])}" if self._peer else ""

    @property
    def line(self) -> str:
        """That of all."""
        more = f',"leftOut":{self.left_out}' if self.left_out else ""
        return f'{self._head},"steps":[{",".join(self._texts)}]{more}}}'


def spread(line: Entry) -> Iterator[Entry]:
    """
    The entries that a line of the record stands for: of steps, one each; else itself.  What is
    damaged is passed over.
    """
    steps = line.get("steps")
    if line.get("kind") != KIND or not isinstance(steps, list):
        yield line
        return
    at = line.get("at")
    if not isinstance(at, int | float) or not abs(at) < _MOST_MILLISECONDS:
        return
    common: Entry = {key: line[key] for key in ("by", "attempt") if key in line}
    link, left_out = line.get("link"), line.get("leftOut")
    for told in steps:
        match told:
            case [int(later), int(step), str(result), dict(evidence), lasted, *failure] if (
                step in _TITLES and abs(later) < _MOST_MILLISECONDS
            ):
                link = evidence.get("link", link)
                entry: Entry = {"at": (round(at * 1000) + later) / 1000, "kind": "link", **common}
                entry |= {"step": step, "name": _TITLES[step], "result": result}
                entry["evidence"] = evidence
                if link is not None:
                    entry["link"] = link
                if isinstance(lasted, int):
                    entry["seconds"] = lasted / 10_000
                if failure and isinstance(failure[0], dict):
                    entry |= failure[0]
                if left_out is not None:
                    entry["leftOut"], left_out = left_out, None
                yield entry
