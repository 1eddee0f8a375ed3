"""Fixtures for the tests against real peers."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

from peers.certs import Certificates
from peers.checkstage import House, Stage
from peers.processes import Processes, children

_KEPT = pytest.StashKey[Processes]()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the peers wrote when a test fails."""
    report = yield
    kept = item.stash.get(_KEPT, None)
    if kept is not None and report.failed:
        report.sections.extend((f"output of {name}", text) for name, text in kept.report())
    return report


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """The children of this test; all are ended with it, also by Ctrl-C and SIGTERM."""
    kept = Processes(tmp_path)
    request.node.stash[_KEPT] = kept
    # For each test anew: the reactor, which pytest-twisted starts, takes SIGTERM too.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield kept
    finally:
        kept.stop_all()
        signal.signal(signal.SIGTERM, previous)
    kept.judge()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, and whatever certificates a test wants from it."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[House]:
    """The peers that all cases share."""
    with children(tmp_path_factory.mktemp("house")) as processes:
        yield House(processes, certificates)


@pytest.fixture
def stage(house: House) -> Iterator[Stage]:
    """For one case."""
    with Stage(house) as made:
        yield made
