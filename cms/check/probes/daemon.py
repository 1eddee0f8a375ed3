"""The link's status, as reported by the Callbridge that runs with this configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from cms import faults
from cms.audit.finding import Finding
from cms.callbridge.directories import store
from cms.control.daemon import PATIENCE, ControlError, Daemon, NotRunning, segment
from cms.signalflow import Step, printable

ABOUT = "the running Callbridge"


@frozen
class Running:
    """
    @ivar state: C{running}, C{stopped}, or C{unknown}.
    @ivar peer: The target to which its link is up; empty if it is not.
    @ivar told: The status in words.
    """

    state: Literal["running", "stopped", "unknown"] = "unknown"
    peer: str = ""
    told: Finding | None = None


def look_at_daemon(state_dir: Path | None) -> Running:
    """Ask the daemon of a state directory, if one is known.  This blocks."""
    if state_dir is None:
        return Running()
    try:
        status = Daemon(state_dir, PATIENCE).status()
    except NotRunning:
        return Running("stopped")
    except ControlError as problem:
        return Running(
            told=Finding(Step.ACTIVE, "skipped", ABOUT, note=f"not known: {problem.problem}")
        )
    return judge_link(status.get("link") or {})


def is_stored(state_dir: Path, name: str, domain: str) -> bool:
    """Whether the local store of a Callbridge has a user, as far as that can be known here."""
    try:
        daemon = Daemon.find(state_dir, PATIENCE)
        if daemon is not None:
            daemon.get(f"users/{segment(f'{name}@{domain}')}")
            return True
    except ControlError:
        return False
    return store.is_stored(state_dir, name)


def judge_link(link: Mapping[str, Any]) -> Running:
    """What the state of its link means for the check."""
    shown = {
        key: printable(str(link[key]))
        for key in ("state", "peer", "since", "component")
        if link.get(key)
    }
    problem = link.get("problem") or {}
    if problem.get("fault") == faults.DOMAIN_NOT_SERVED.name:
        useless = faults.DOMAIN_NOT_SERVED.error(**problem["evidence"])
        told = Finding(Step.ACTIVE, "failed", ABOUT, evidence=shown, problem=useless)
        return Running("running", str(link.get("peer", "")), told)
    if link.get("state") == "active":
        told = Finding(Step.ACTIVE, "passed", ABOUT, evidence=shown)
        return Running("running", str(link.get("peer", "")), told)
    failure = link.get("lastFailure") or {}
    note = f"its link is not up; its last failure: {printable(str(failure.get('cause', 'none')))}"
    told = Finding(Step.ACTIVE, "skipped", ABOUT, evidence=shown, note=note)
    return Running("running", told=told)
