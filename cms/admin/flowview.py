"""The signal flow as a page shows it: twelve steps, and recent attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field
from twisted.web.template import Tag, tags

from cms.admin.interfaces import Recorded
from cms.signalflow import Attempt, Step, StepError, StepRecord

# Each state has a sign and a word besides its colour.
SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "waiting": "○",
    "running": "…",
    "skipped": "-",
    "unneeded": "-",
}
WORDS = {
    "passed": "passed",
    "failed": "failed",
    "waiting": "waiting",
    "running": "under way",
    "skipped": "broken off",
    "unneeded": "not needed",
}


@define
class StepView:
    """
    One of the twelve steps, as it is now.

    @ivar state: A key of L{WORDS}.
    @ivar record: What happened last.
    @ivar earlier: Its failures at earlier targets of the same attempt.
    @ivar note: The text shown while nothing has happened.
    """

    step: Step
    state: str = "waiting"
    record: StepRecord | None = None
    earlier: list[StepError] = field(factory=list)
    note: str = ""


def twelve_steps(recorded: Sequence[Recorded], *, active: bool) -> list[StepView]:
    """
    The steps as a Callbridge sees them.

    @param recorded: Its attempts, the newest first.
    @param active: Whether its link is up.
    """
    views = {step: StepView(step) for step in Step}
    link = next((r.attempt for r in recorded if r.kind == "link"), None)
    if link is not None:
        _walk(link, views)
        _pass_over(views)
    first, last = views[Step.LINK_BEFORE_LOGIN], views[Step.LOGIN]
    last.note = "No log-in is decided while the link is down."
    first.note = "Log-ins are refused until a Callbridge's link is active."
    if link is None or not link.records or not active:
        return list(views.values())
    first.state, first.note = "passed", "The link is active, so log-ins are let through."
    last.note = "Nobody has logged in over this link yet."
    up = link.records[-1].began
    logins = [r.attempt for r in recorded if r.kind == "login" and r.attempt.records]
    logins = [attempt for attempt in logins if attempt.began >= up]
    # A mistyped password does not mean that nobody can log in.
    login = next((a for a in logins if a.failure is None), logins[0] if logins else None)
    if login is not None:
        last.record = login.records[-1]
        last.state = last.record.result
    return list(views.values())


def _walk(attempt: Attempt, views: Mapping[Step, StepView]) -> None:
    """Take the records in order.  A record of an early step begins another target."""
    for record in attempt.records:
        for view in views.values():
            known = view.record
            if view.step >= record.step and known is not None:
                if known.failure is not None:
                    view.earlier.append(known.failure)
                view.record, view.state = None, "waiting"
        view = views[record.step]
        view.record, view.state = record, record.result
        if record.step is Step.ACTIVE and record.result == "running":
            view.state = "passed"


def _pass_over(views: Mapping[Step, StepView]) -> None:
    srv, address = views[Step.SRV], views[Step.ADDRESS]
    if srv.record is None and address.record is not None:
        srv.state, srv.note = "unneeded", "A server address is set, so SRV is not asked."


def clock_time(seconds: float) -> Tag:
    """A moment, for people and for machines."""
    return _moment_tag(datetime.fromtimestamp(seconds, UTC))


def clock_text(text: str) -> Tag:
    """The same for a moment as in the API."""
    return _moment_tag(datetime.fromisoformat(text))


def _moment_tag(moment: datetime) -> Tag:
    shown = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return tags.time(shown, datetime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def duration(seconds: float) -> str:
    """A time that a step took."""
    if seconds < 0.0001:
        return "less than 0.1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s"


def state_mark(state: str, word: str = "") -> Tag:
    """Sign and word of a state."""
    return tags.span(
        tags.span(SIGNS[state], **{"aria-hidden": "true"}),
        f" {word or WORDS[state]}",
        class_="state",
    )


def show_steps(views: Sequence[StepView]) -> Tag:
    """The list of the twelve."""
    return tags.ol(*(_show_view(view) for view in views), class_="steps")


def _show_view(view: StepView) -> Tag:
    parts: list[Any] = []
    word = "up" if view.step is Step.ACTIVE and view.state == "passed" else ""
    if view.record is not None:
        parts += _record_parts(view.record, live=bool(word))
    elif view.note:
        parts.append(tags.p(view.note, class_="quiet"))
    for failure in view.earlier:
        before = tags.strong("Before, in this round: ")
        parts.append(tags.p(before, failure.cause, class_="warn"))
    return _item(view.step, view.state, parts, word, id_=f"step-{view.step.value}")


def _item(step: Step, state: str, parts: Sequence[Any], word: str = "", id_: str = "") -> Tag:
    heading = tags.h3(
        tags.span(str(step.value), class_="number"),
        tags.span(step.title, class_="title"),
        state_mark(state, word),
    )
    named = {"id": id_} if id_ else {}
    return tags.li(heading, *parts, class_=f"step {state}", **named)


def _record_parts(record: StepRecord, *, live: bool = False) -> list[Any]:
    took = f", took {duration(record.seconds)}" if record.seconds is not None else ""
    parts: list[Any] = [
        tags.p("since " if live else "", clock_time(record.began), took, class_="quiet")
    ]
    if record.failure is not None:
        parts += cause_and_cure(record.failure)
    evidence = {**record.evidence, **(record.failure.evidence if record.failure else {})}
    if evidence:
        parts.append(facts(evidence))
    parts += [tags.p(tags.strong("Warning: "), text, class_="warn") for text in record.warnings]
    return parts


def cause_and_cure(failure: StepError) -> list[Tag]:
    """Cause and cure of a failure."""
    parts = [
        tags.p(tags.strong("Cause: "), failure.cause, class_="cause"),
        tags.p(tags.strong("Cure: "), failure.cure, class_="cure"),
    ]
    if failure.mend:
        parts.append(tags.pre(failure.mend))
    return parts


def facts(evidence: Mapping[str, Any]) -> Tag:
    """Names and values."""
    rows = (
        tags.div(tags.dt(key), tags.dd(value if isinstance(value, Tag) else str(value)))
        for key, value in evidence.items()
    )
    return tags.dl(*rows)


KINDS = {"link": "Link", "login": "Log-in"}


def show_attempts(recorded: Sequence[Recorded]) -> Tag:
    """Attempts, each with its outcome; the steps of successful ones are folded."""
    if not recorded:
        return tags.p("Nothing yet.", class_="quiet")
    return tags.ul(*(_show_attempt(each) for each in recorded), class_="attempts")


def outcome(attempt: Attempt) -> str:
    """A key of L{WORDS}."""
    if attempt.failure is not None:
        return "failed"
    running = attempt.running
    if running is not None:
        return "passed" if running.step is Step.ACTIVE else "running"
    return attempt.records[-1].result if attempt.records else "waiting"


def _show_attempt(recorded: Recorded) -> Tag:
    attempt, kind = recorded.attempt, KINDS.get(recorded.kind, recorded.kind)
    state = outcome(attempt)
    head = tags.h3(
        tags.span(f"{kind} {attempt.number}", class_="title"),
        state_mark(state, f"{WORDS[state]}, {attempt.reached}"),
    )
    if len(attempt.records) == 1:
        parts = [head, *_record_parts(attempt.records[0])]
        return tags.li(*parts, class_=f"attempt {state}", id=f"{recorded.kind}-{attempt.number}")
    parts = [head, tags.p(clock_time(attempt.began), class_="quiet")]
    if attempt.failure is not None:
        parts += cause_and_cure(attempt.failure)
    items = (_item(r.step, _state(r), _record_parts(r)) for r in attempt.records)
    parts.append(
        tags.details(
            tags.summary(f"Steps of {kind.lower()} {attempt.number}"),
            tags.ol(*items, class_="steps"),
        )
    )
    return tags.li(*parts, class_=f"attempt {state}", id=f"{recorded.kind}-{attempt.number}")


def _state(record: StepRecord) -> str:
    up = record.step is Step.ACTIVE and record.result == "running"
    return "passed" if up else record.result


def fingerprint(recorded: Sequence[Recorded], most: int) -> tuple[object, ...]:
    """A value that changes when L{show_attempts} or L{show_steps} would show something else."""
    return tuple(
        (r.kind, r.attempt.number, len(r.attempt.records), r.attempt.records[-1].result)
        for r in recorded[:most]
        if r.attempt.records
    )
