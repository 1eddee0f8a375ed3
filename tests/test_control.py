"""A daemon that is asked through its socket: in time, and with a clear word for what goes wrong."""

from __future__ import annotations

import os
import socket
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.directories.store import UserStore
from cms.check.probes.daemon import is_stored, look_at_daemon
from cms.commands.common import Complaint, Root, Wrong
from cms.control.daemon import (
    TIMEOUT,
    ControlError,
    Daemon,
    Forbidden,
    NoAnswer,
    NotRunning,
    Refused,
)
from cms.control.place import SOCKET, short_path, socket_path
from cms.signalflow import Step
from tests.fakedaemon import FakeDaemon
from tests.support import new_folder

SILENCE = 0.05  # seconds that a socket without a daemon is given; nothing answers in any time


class ControlTests(SynchronousTestCase):
    """One client for commands, checks and diagrams."""

    def setUp(self) -> None:
        """A state directory."""
        self.folder = new_folder(self) / "state"
        self.folder.mkdir()

    def left(self, *, listens: bool) -> None:
        """A socket that some other program left, or listens on without a word."""
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        other.bind(str(self.folder / SOCKET))
        if listens:
            other.listen()

    def test_not_running(self) -> None:
        """No folder, no socket, a file in its place, or the socket of one that was killed."""
        file = self.folder / "file"
        file.touch()
        self.left(listens=False)
        for folder in (self.folder / "none", self.folder, file):
            self.assertIsNone(Daemon.find(folder))
            self.assertRaises(NotRunning, Daemon(folder).status)
            self.assertEqual("stopped", look_at_daemon(folder).state)

    def test_silent(self) -> None:
        """Who takes the request and says nothing is not waited for longer than that."""
        self.left(listens=True)
        error = self.assertRaises(NoAnswer, Daemon(self.folder, SILENCE).status)
        path = self.folder / SOCKET
        self.assertEqual(f"the daemon at {path} does not answer (timed out)", error.problem)
        self.assertIn("look at its log", error.cure)

    def test_slow(self) -> None:
        """The time is for the whole answer: bytes that trickle do not buy more of it."""
        FakeDaemon(self, self.folder).get("system/status", {"status": {"domain": "x" * 100_000}})
        steps = count(0, 4)
        daemon = Daemon(self.folder, 10, lambda: float(next(steps)))
        error = self.assertRaises(NoAnswer, daemon.status)
        self.assertIn("timed out", error.problem)

    def test_forbidden(self) -> None:
        """Who may not is told who may; a check goes on without."""
        with patch(
            "cms.control.place.os.open", side_effect=PermissionError(13, "Permission denied")
        ):
            error = self.assertRaises(Forbidden, Daemon.find, self.folder)
            told = look_at_daemon(self.folder).told
        self.assertIn("run the command as the user of the daemon", str(error))
        assert told is not None
        self.assertEqual((Step.ACTIVE, "skipped"), (told.step, told.result))
        self.assertIn(f"not known: {self.folder / SOCKET}: Permission denied", told.note)

    def test_nonsense(self) -> None:
        """What is no daemon of ours, or has another answer than was asked for."""
        fake = FakeDaemon(self, self.folder)
        daemon = Daemon(self.folder)
        for status, answer in ((200, b"<html>"), (502, b""), (500, {"failureDetails": 7})):
            fake.get("system/status", answer, status)
            self.assertRaises(NoAnswer, daemon.status)
        others: tuple[object, ...] = ([], {}, {"status": []})
        for other in others:
            fake.get("system/status", other)
            error = self.assertRaises(NoAnswer, daemon.status)
            self.assertIn("it says nothing of its status", error.problem)
            self.assertEqual("unknown", look_at_daemon(self.folder).state)

    def test_attempts(self) -> None:
        """As many as are asked for."""
        fake, before = FakeDaemon(self, self.folder), monotonic() - 0.001
        fake.get("system/signalflow", {"signalFlow": {"attempt": [{"id": "b"}, {"id": "a"}]}})
        self.assertEqual(["b", "a"], [one["id"] for one in Daemon(self.folder).attempts(7)])
        self.assertEqual([("GET", "/api/v1/system/signalflow", {"limit": "7"})], fake.asked)
        self.assertTrue(before + TIMEOUT <= fake.until[0] <= monotonic() + TIMEOUT)
        fake.get("system/signalflow", {"signalFlow": {}})
        self.assertEqual([], Daemon(self.folder).attempts(7))

    def test_is_stored(self) -> None:
        """By the daemon; without it in a store of our own, and nothing is made there."""
        domain, fake = "meet.example.com", FakeDaemon(self, self.folder)
        details = {"reason": "userDoesNotExist", "cause": "No.", "cure": ""}
        for name in ("bob", "cleo"):
            fake.get(f"users/{name}%40{domain}", {"failureDetails": details}, 400)
        fake.get(f"users/alice%40{domain}", {"user": {}})
        self.assertTrue(is_stored(self.folder, "alice", domain))
        self.assertFalse(is_stored(self.folder, "bob", domain))
        stopped = self.folder / "stopped"
        stopped.mkdir()
        self.assertFalse(is_stored(stopped, "alice", domain))
        self.assertEqual([], list(stopped.iterdir()))
        UserStore(stopped).set_password("alice", "s3cret")
        self.assertTrue(is_stored(stopped, "alice", domain))
        with patch("cms.callbridge.directories.store.os.geteuid", return_value=-1):
            self.assertFalse(is_stored(stopped, "alice", domain))

    def test_refused(self) -> None:
        """With its reason, and the cure if there is one."""
        details = {"reason": "busy", "cause": "Too much at once.", "cure": "Try again."}
        FakeDaemon(self, self.folder).get("users", {"failureDetails": details}, 400)
        error = self.assertRaises(Refused, Daemon(self.folder).get, "users")
        self.assertEqual(("busy", "Too much at once. Cure: Try again."), (error.reason, str(error)))
        self.assertEqual("no", str(ControlError("no")))

    def test_too_long(self) -> None:
        """A daemon that answers before it has read all, and hangs up, is heard."""
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        other.bind(str(self.folder / SOCKET))
        other.listen()

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")

        thread = Thread(target=answer)
        thread.start()
        asked = Daemon(self.folder).post
        error = self.assertRaises(Refused, asked, "clientMessages", text="x" * 5_000_000)
        thread.join()
        self.assertEqual("that is more than the daemon reads. Cure: Give less.", str(error))

    def test_long_path(self) -> None:
        """A socket's address has room for some hundred bytes only."""
        deep = self.folder / ("d" * 120)
        deep.mkdir()
        with socket_path(deep) as path:
            self.assertLess(len(path), 100)
            self.assertTrue(os.path.samefile(Path(path).parent, deep))
        self.assertEqual("/a/admin.sock", short_path(Path("/a/admin.sock"), 7))

    def test_statuses(self) -> None:
        """What a command ends with: 2 for who may not ask, 1 for what went wrong."""
        path = self.folder / SOCKET
        for problem, kind in (
            (Forbidden(path, PermissionError(13, "no")), Complaint),
            (NoAnswer(path, "no"), Wrong),
            (NotRunning(path, "no"), Wrong),
            (Refused("busy", "no", ""), Wrong),
        ):
            with patch("click.Group.invoke", side_effect=problem):
                error = self.assertRaises(kind, Root("cms").invoke, None)
            self.assertIn("no", error.message)
