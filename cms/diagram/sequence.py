"""
The recent attempts of a daemon as a sequence diagram: who said what to whom.

An attempt is plain data, as C{GET /api/v1/system/signalflow} gives it.  Nothing
here does input or output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from cms.signalflow import Step, printable

CALLBRIDGE, DNS, SERVER, CLIENT = "Callbridge", "DNS", "XMPP server", "Client"
PARTICIPANTS = {"link": (CALLBRIDGE, DNS, SERVER), "login": (CLIENT, SERVER, CALLBRIDGE)}
Attempt = Mapping[str, Any]
Record = Mapping[str, Any]


@frozen
class Message:
    """
    One arrow, or a note beside a lifeline.

    @ivar target: C{None} for a note about C{source} itself.
    @ivar step: The label with step and time, if it has one.
    """

    source: str
    target: str | None
    text: str
    step: str = ""
    failed: bool = False
    both: bool = False


def ended(attempt: Attempt) -> list[Record]:
    """The records that can be shown: those that have ended, and that of a link that is up."""
    return [
        record
        for record in attempt.get("steps", ())
        if record["result"] != "running" or record["step"] == Step.ACTIVE
    ]


def messages(record: Record, kind: str) -> list[Message]:
    """The arrows and notes of one step."""
    step = Step(record["step"])
    seen = {key: printable(str(value)) for key, value in record.get("evidence", {}).items()}
    label = f"step {step.value} {step.title}"
    if record.get("seconds"):
        label += f" [{record['seconds'] * 1000:.1f} ms]"
    make = _MAKERS.get(step, _note)
    made = make(seen, kind)
    failure = record.get("failure")
    if failure:
        made = [*made[:1], *_failure(made, failure)]
    made = [*made, *(_warning(text, kind) for text in record.get("warnings", ()))]
    if not made:
        made = [Message(PARTICIPANTS[kind][0], None, record["result"])]
    first, *rest = made
    return [Message(first.source, first.target, first.text, label, first.failed, first.both), *rest]


def _failure(made: Sequence[Message], failure: Mapping[str, Any]) -> list[Message]:
    asked = made[0] if made else Message(CALLBRIDGE, None, "")
    told = f"FAILED: {failure['fault']}"
    if asked.target is None:
        return [Message(asked.source, None, told, failed=True)]
    return [Message(asked.target, asked.source, told, failed=True)]


def _warning(text: str, kind: str) -> Message:
    return Message(PARTICIPANTS[kind][0], None, f"warning: {printable(text)}")


Seen = Mapping[str, str]


def _note(seen: Seen, kind: str) -> list[Message]:
    shown = ", ".join(f"{key} {value}" for key, value in seen.items())
    return [Message(PARTICIPANTS[kind][0], None, shown)] if shown else []


def _srv(seen: Seen, kind: str) -> list[Message]:
    if not seen:
        return []
    asked = Message(CALLBRIDGE, DNS, f"SRV {seen.get('record', seen.get('name', ''))}?")
    return [asked, Message(DNS, CALLBRIDGE, seen["found"])] if "found" in seen else [asked]


def _address(seen: Seen, kind: str) -> list[Message]:
    host = seen.get("host", seen.get("name"))
    if host is None:  # nobody was asked
        return [Message(CALLBRIDGE, None, seen.get("addresses", seen.get("address", "")))]
    asked = Message(CALLBRIDGE, DNS, f"A, AAAA {host}?")
    return [asked, Message(DNS, CALLBRIDGE, seen["addresses"])] if "addresses" in seen else [asked]


def _connect(seen: Seen, kind: str) -> list[Message]:
    where = seen.get("address", seen.get("target", ""))
    return [Message(CALLBRIDGE, SERVER, f"TCP {where} port {seen.get('port', '?')}")]


def _tls(seen: Seen, kind: str) -> list[Message]:
    agreed = ", ".join(seen[key] for key in ("protocol", "cipher") if key in seen)
    return [Message(CALLBRIDGE, SERVER, f"TLS {agreed}".strip(), both=True)]


def _identity(seen: Seen, kind: str) -> list[Message]:
    return [Message(CALLBRIDGE, None, f"certificate names {seen.get('names', '?')}")]


def _register(seen: Seen, kind: str) -> list[Message]:
    return [Message(CALLBRIDGE, SERVER, f"stream to {seen.get('component', '?')}")]


def _registered(seen: Seen, kind: str) -> list[Message]:
    return [
        Message(CALLBRIDGE, SERVER, "handshake (ID and secret)"),
        Message(SERVER, CALLBRIDGE, "success"),
    ]


def _active(seen: Seen, kind: str) -> list[Message]:
    return [Message(CALLBRIDGE, SERVER, "link active", both=True)]


def _login(seen: Seen, kind: str) -> list[Message]:
    whose = f"log-in of {seen['user']}" if "user" in seen else "log-in"
    if "mechanism" in seen:  # what the Callbridge has seen of it
        return [Message(SERVER, CALLBRIDGE, f"{whose} by {seen['mechanism']}")]
    if "admission" in seen or "guest" in seen:
        return _guest(seen)
    asked = Message(CLIENT, SERVER, f"{whose} from {seen.get('peer', '?')}")
    if "away" in seen:
        told = f"resumed: {seen.get('jid', '')}, away {seen['away']}, {seen['again']} sent again"
        return [asked, Message(SERVER, CLIENT, told)]
    if "callbridge" not in seen:
        return [asked]
    return [
        asked,
        Message(SERVER, CALLBRIDGE, f"asked {seen['callbridge']}"),
        Message(SERVER, CLIENT, f"success: {seen.get('jid', '')}"),
    ]


def _guest(seen: Seen) -> list[Message]:
    """Somebody without an account wants to come in, as either daemon has seen it."""
    wish = f"guest from {seen.get('peer', '?')}"
    if "admission" in seen:
        told = f"{seen['admission']}: {seen.get('space', '')}"
        return [Message(SERVER, CALLBRIDGE, wish), Message(CALLBRIDGE, SERVER, told)]
    told = f"admitted to {seen.get('space', '')}: {seen['guest']}"
    return [Message(CLIENT, SERVER, wish), Message(SERVER, CLIENT, told)]


_MAKERS: dict[Step, Callable[[Seen, str], list[Message]]] = {
    Step.LINK_BEFORE_LOGIN: _login,
    Step.SRV: _srv,
    Step.ADDRESS: _address,
    Step.CONNECT: _connect,
    Step.TLS: _tls,
    Step.IDENTITY: _identity,
    Step.REGISTER: _register,
    Step.REGISTERED: _registered,
    Step.ACTIVE: _active,
    Step.LOGIN: _login,
}


def heading(attempt: Attempt) -> str:
    """The line above an attempt."""
    reached = Step(attempt["reached"])
    failure = attempt.get("failure")
    outcome = f"failed at step {failure['step']} {failure['name']}" if failure else str(reached)
    return f"{attempt.get('id', attempt.get('number', ''))}  {attempt['began']}  {outcome}"


# The terminal


class Diagram:
    """
    Draws attempts on a terminal.

    @param width: In columns.
    """

    _LEFT, _LABEL = 2, 30

    def __init__(self, width: int, *, colour: bool = False) -> None:
        room = max(60, width - self._LEFT - self._LABEL - 4)
        self._gap = room // 2
        self._colour = colour

    def head(self, kind: str) -> list[str]:
        """The names of the participants above their lifelines."""
        line = [" "] * (self._column(2) + 8)
        for number, name in enumerate(PARTICIPANTS[kind]):
            start = max(0, self._column(number) - len(name) // 2)
            line[start : start + len(name)] = name
        return [self._paint("".join(line).rstrip(), 1)]

    def draw(self, record: Record, kind: str) -> list[str]:
        """The lines of one step."""
        lines = [self._one(message, kind) for message in messages(record, kind)]
        failure = record.get("failure")
        if failure:
            lines += [
                f"    {printable(failure['cause'])}",
                f"    Cure: {printable(failure['cure'])}",
            ]
            lines = [*lines[:-2], *(self._paint(line, 31) for line in lines[-2:])]
        return lines

    def _column(self, number: int) -> int:
        return self._LEFT + number * self._gap

    def _one(self, message: Message, kind: str) -> str:
        names = PARTICIPANTS[kind]
        line = [" "] * (self._column(2) + 1)
        for number in range(3):
            line[self._column(number)] = "│"
        at = self._column(names.index(message.source))
        if message.target is None:
            self._put(
                line, at + 2, message.text, self._column(2) - at - 3 if at < len(line) else 20
            )
        else:
            self._arrow(line, at, self._column(names.index(message.target)), message)
        text = "".join(line)
        label = self._paint(f"  {message.step}", 2) if message.step else ""
        return (self._paint(text, 31) if message.failed else text) + label

    def _arrow(self, line: list[str], start: int, end: int, message: Message) -> None:
        low, high = min(start, end), max(start, end)
        shaft = "═" if message.both else "─"
        for column in range(low + 1, high):
            line[column] = shaft
        if end > start or message.both:
            line[high - 1] = "▶"
        if end < start or message.both:
            line[low + 1] = "◀"
        room = high - low - 6
        text = f" {_cut(message.text, room - 2)} "
        at = low + 1 + (high - low - len(text)) // 2
        line[at : at + len(text)] = text

    def _put(self, line: list[str], at: int, text: str, room: int) -> None:
        shown = _cut(text, max(8, room))
        line.extend(" " * max(0, at + len(shown) - len(line)))
        line[at : at + len(shown)] = shown

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


# Mermaid


def mermaid(attempts: Sequence[Attempt]) -> str:
    """All attempts, the oldest first, as one Mermaid sequence diagram."""
    kinds = [attempt.get("kind", "link") for attempt in attempts]
    names = list(dict.fromkeys(name for kind in kinds or ["link"] for name in PARTICIPANTS[kind]))
    lines = ["sequenceDiagram"]
    lines += [f"    participant {_id(name)} as {name}" for name in names]
    for attempt, kind in zip(attempts, kinds, strict=True):
        first = PARTICIPANTS[kind][0]
        lines.append(f"    Note over {_id(first)}: {_escape(heading(attempt))}")
        for record in ended(attempt):
            lines += [f"    {line}" for line in _mermaid_step(record, kind)]
    return "\n".join(lines)


def _mermaid_step(record: Record, kind: str) -> Iterator[str]:
    for message in messages(record, kind):
        text = _escape(message.text + (f" ({message.step})" if message.step else ""))
        if message.target is None:
            yield f"Note over {_id(message.source)}: {text}"
        else:
            arrow = "--x" if message.failed else "->>"
            yield f"{_id(message.source)}{arrow}{_id(message.target)}: {text}"
    failure = record.get("failure")
    if failure:
        cause = _escape(printable(failure["cause"]))
        yield f"Note over {_id(PARTICIPANTS[kind][0])}: {cause}"


def _id(name: str) -> str:
    return name.replace(" ", "")


def _escape(text: str) -> str:
    """Semicolons end a statement in Mermaid, and # begins an entity."""
    return "".join({"#": "#35;", ";": "#59;"}.get(sign, sign) for sign in text)
