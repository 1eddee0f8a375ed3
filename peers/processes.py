"""
The peers' processes: started, watched, and ended whatever happens.

Each child leads a process group of its own and dies with the test run, even
when that is killed.  What it writes goes to a file, which is shown when its
test fails.  An error in the log of a program of ours fails the test, unless it
was expected.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from peers.network import wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_REPORT_CHARACTERS = 20_000
_OURS = ("twistd", "cms", "from cms.cli import main; main()")
_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\dT\S+ \[|\{)", re.MULTILINE)  # as twistd writes, or JSON
_ERROR = re.compile(
    r"""\A\S+\ \[[^\]\n]*\#(?:error|critical)\]
    | \A\S+\ \[[^\]\n]*\]\ Unhandled\ [eE]rror
    | \A\{.*"level":\ "(?:error|critical)"[,}]
    | ^\s*Traceback\ \(most\ recent\ call\ last\):
    | ^Exception\ ignored\ in""",
    re.MULTILINE | re.VERBOSE,
)


def logged_errors(output: str) -> list[str]:
    """
    The entries of a log, as twistd writes it or in JSON, that are of level error or
    critical, or hold a traceback or an error that nobody handled.
    """
    return [entry.rstrip() for entry in _ENTRY.split(output) if _ERROR.search(entry)]


def _prepare_child() -> None:
    """It dies with the test run, and gets the signals that a job in the background ignores."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """
    One child.

    @ivar name: For messages and reports.
    @ivar pid: Its process id, and the id of its process group.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._log = log
        with log.open("xb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env if env is not None else os.environ),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
                preexec_fn=_prepare_child,  # noqa: PLW1509 - nothing here has threads
            )
        self._is_ours = any(Path(part).name in _OURS for part in command)
        self._cleared = False
        self.pid = self._child.pid

    @property
    def output(self) -> str:
        """All it has written since it was started."""
        return self._log.read_bytes().decode("utf-8", "replace")

    @property
    def errors(self) -> list[str]:
        """Of a program of ours, what it has logged as an error."""
        return logged_errors(self.output) if self._is_ours else []

    @property
    def running(self) -> bool:
        """Whether it is still there."""
        return self._child.poll() is None

    def write_line(self, line: str) -> None:
        """Send a line to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()

    def wait_for(self, text: str, seconds: float, *, times: int = 1) -> float:
        """
        Wait until it has written C{text}, C{times} times.

        @return: How many seconds that took.
        @raise AssertionError: it did not, or it ended before.
        """

        def seen() -> bool:
            ended = not self.running
            if self.output.count(text) >= times:
                return True
            if ended:
                raise AssertionError(
                    f'{self.name} ended with status {self._child.returncode} before "{text}"'
                )
            return False

        return wait_until(seen, seconds, f'"{text}" from {self.name}')

    def wait_for_exit(self, seconds: float) -> int:
        """
        Wait for its end.

        @return: Its exit status; negative when a signal ended it.
        @raise AssertionError: it is still running then.
        """
        wait_until(lambda: not self.running, seconds, f"the end of {self.name}")
        return self._child.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, to itself alone."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, with everything it started."""
        self._kill_group()
        self._child.wait(10)
        self.close_input()

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end; after C{seconds} it is killed.  Gives the exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
        return self._child.returncode

    def _kill_group(self) -> None:
        # Once only: later the number may belong to a stranger.
        if not self._cleared:
            self._cleared = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def close_input(self) -> None:
        """Let it see the end of its standard input."""
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()


class Processes:
    """All children of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all: list[Process] = []
        self._expected: list[str] = []
        self._allowed: list[str] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Process:
        """Start a child; it works in C{cwd}, or in the directory of this test."""
        log = self.directory / f"{len(self._all) + 1}-{name}.log"
        process = Process(name, command, log, cwd=cwd or self.directory, env=env, pass_fds=pass_fds)
        self._all.append(process)
        return process

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        text: str = "",
        seconds: float = 60.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Run a command to its end, with C{text} as its input; its status and output."""
        process = self.start(name, command, cwd=cwd, env=env)
        try:
            if text:
                process.write_line(text)
            process.close_input()
            status = process.wait_for_exit(seconds)
        finally:
            process.kill()
        return status, process.output

    def make_directory(self, name: str) -> Path:
        """A directory for one peer, within that of the test."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return directory

    def expect_error(self, text: str) -> None:
        """One or more errors with this text will be logged, which is no fault."""
        self._expected.append(text)

    def allow_error(self, text: str) -> None:
        """Errors with this text may be logged: what is broken is chosen at random."""
        self._allowed.append(text)

    def judge(self) -> None:
        """
        To be called when all have ended.

        @raise AssertionError: a program of ours has logged an error that nobody
            expects, or one that was expected is missing.
        """
        errors = [(process.name, error) for process in self._all for error in process.errors]
        surprises = [
            f"{name}: {error}"
            for name, error in errors
            if not any(text in error for text in self._expected + self._allowed)
        ]
        # The first is on the first line, which is all that a summary shows.
        assert not surprises, "logged errors: " + "\n".join(surprises)
        for text in self._expected:
            assert any(text in error for _, error in errors), f"nobody logged: {text}"

    def report(self) -> list[tuple[str, str]]:
        """Name and output of each child, for a failed test."""
        return [(p.name, p.output[-_REPORT_CHARACTERS:]) for p in self._all]

    def stop_all(self) -> None:
        """End all that is left, the youngest first."""
        deadline = time.monotonic() + 20.0
        for process in reversed(self._all):
            process.stop(max(0.1, min(5.0, deadline - time.monotonic())))


@contextlib.contextmanager
def children(directory: Path) -> Iterator[Processes]:
    """
    What the tests of a module share: all end with them, and are judged.

    @raise AssertionError: see L{Processes.judge}.
    """
    processes = Processes(directory)
    try:
        yield processes
    finally:
        processes.stop_all()
    processes.judge()
