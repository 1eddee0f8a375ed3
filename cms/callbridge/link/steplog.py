"""The log lines of an attempt: one for each step that ended, and one when the link is up."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from cms.signalflow import Attempt, Step, StepError, StepRecord


def log_step(log: Logger, attempt: Attempt, record: StepRecord) -> None:
    """
    Log a record that began or ended, with its facts as fields of the event:
    C{attempt}, C{attempt_id}, C{link_id}, C{step}, C{result}, C{seconds},
    C{evidence}, and for a failure C{fault}, C{cause} and C{cure}.
    """
    if record.result == "failed":
        _log_failed(log, attempt, record)
    elif record.result == "passed":
        _log_passed(log, attempt, record)
    elif record.result == "running" and record.step is Step.ACTIVE:
        log.info(
            "attempt {attempt}: {step_text}: the link is up ({shown})", **_fields(attempt, record)
        )


def _log_failed(log: Logger, attempt: Attempt, record: StepRecord) -> None:
    failure = record.failure
    assert failure is not None  # noqa: S101 - that is what "failed" means
    log.warn(
        "attempt {attempt}: {step_text} FAILED: {where}{cause} Cure: {cure}",
        where=_where(failure),
        **{**failure.fields, **_fields(attempt, record)},
    )


def _where(failure: StepError) -> str:
    """The target and the address, unless the cause names them."""
    known = [failure.evidence.get(key, "") for key in ("target", "address")]
    told = [place for place in known if place and place not in failure.cause]
    return f"{', '.join(told)}: " if told else ""


def _log_passed(log: Logger, attempt: Attempt, record: StepRecord) -> None:
    fields = _fields(attempt, record)
    log.info("attempt {attempt}: {step_text} passed in {seconds:.3f} s ({shown})", **fields)
    for warning in record.warnings:
        log.warn("attempt {attempt}: {step_text}: {cause}", cause=warning, **fields)


def _fields(attempt: Attempt, record: StepRecord) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "attempt_id": attempt.id,
        **({"link_id": attempt.link_id} if attempt.link_id else {}),
        "step": int(record.step),
        "step_text": str(record.step),
        "result": record.result,
        "seconds": record.seconds or 0.0,
        "evidence": dict(record.evidence),
        "shown": ", ".join(f"{key} {value}" for key, value in record.evidence.items()),
    }
