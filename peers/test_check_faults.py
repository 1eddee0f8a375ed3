"""
Every fault of the catalogue, brought about for real, and what C{cms check} says of it:
the right step, cause and cure, and nothing else that is not true.
"""

from __future__ import annotations

import pytest

from cms import faults
from peers.checking import Checked, run_check
from peers.checkstage import PASSWORD, SECRET, Stage
from peers.contract import LINK_ACTIVE
from peers.faultcases import CASES, EXCEPTIONS, Case
from peers.processes import Processes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault(case: Case, stage: Stage, processes: Processes) -> None:
    """It is found at its step, with its cause and its cure, and nothing else is accused."""
    arguments = case.arrange(stage)
    checked = run_check(
        processes, arguments, text=case.text, command=case.command, seconds=case.seconds
    )
    assert_found(case, checked)
    assert_nothing_else(case, checked)
    shown = str(checked.report)
    assert SECRET not in shown
    assert PASSWORD not in shown


def assert_found(case: Case, checked: Checked) -> None:
    """The fault is among the failures, or the warnings."""
    said = checked.warnings if case.warns else checked.failures
    found = [one for one in said if one.fault == case.fault]
    assert found, checked.report
    assert {one.step for one in found} == {case.step}
    assert any(case.cause in one.cause for one in found), found
    assert all(case.cure in one.cure + one.mend for one in found), found
    assert all(one.cause and one.cure for one in found)


def assert_nothing_else(case: Case, checked: Checked) -> None:
    """Whatever else is said is true as well."""
    failures = {one.fault for one in checked.failures} - case.also
    warnings = {one.fault for one in checked.warnings} - case.also
    assert failures == (set() if case.warns else {case.fault}), checked.failures
    assert warnings == ({case.fault} if case.warns else set()), checked.warnings
    assert checked.status == (1 if checked.failures else 0)


def test_already_connected(stage: Stage, processes: Processes) -> None:
    """Where this Callbridge is up its secret is proven, and the live link is not disturbed."""
    server, callbridge = stage.house.linked
    checked = run_check(processes, stage.against(server.component_port))
    assert checked.status == 0, checked.report
    assert not checked.failures
    assert not checked.warnings
    assert "already connected, which proves the secret" in checked.notes
    assert callbridge.process.output.count(LINK_ACTIVE) == 1
    assert " FAILED: " not in callbridge.process.output


def test_whole_catalogue() -> None:
    """Every fault that concerns the link is brought about, or there is a reason why not."""
    injected = {case.fault for case in CASES}
    assert injected <= set(faults.CATALOGUE)
    assert not injected & set(EXCEPTIONS)
    assert set(faults.CATALOGUE) == injected | set(EXCEPTIONS)
    assert len(injected) >= 40
