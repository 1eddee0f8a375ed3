"""
The folder that holds a daemon's secrets: no other user may write to it, and it holds no
symbolic links.

A user who can write to a folder can replace any file in it by his own file or by a link to
one of ours, whatever the modes of the files are.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from cms import faults
from cms.signalflow import StepError
from cms.state.restoring import PENDING, STAGED, complete

WRITABLE = "Name a folder that this user can write."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeFolder(OSError):
    """
    Another user could change the files in the folder.

    @ivar strerror: What is wrong.
    @ivar mend: What to do.
    """

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(None, problem)
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.strerror}. Cure: {self.mend}"


def claim(folder: Path, *, of_anybody: bool = False) -> None:
    """
    Make the folder (0700) if it is missing, and check that only we can write to it.

    @param of_anybody: It may belong to another user instead, so that root can look into
        a daemon's folder.

    The path may lead to the folder by a link, as with systemd's C{DynamicUser}.

    @raise UnsafeFolder: another user can write to it.
    @raise OSError: it cannot be made or examined.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    real = folder.resolve(strict=True)
    _judge(real, of_anybody=of_anybody)
    for above in real.parents:
        _judge_above(above)
    with os.scandir(real) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise UnsafeFolder(
                    f"{real / entry.name} is a link",
                    f"See who made it; put the file itself there, or: rm '{real / entry.name}'",
                )
    _complete_restore(real)


def _complete_restore(folder: Path) -> None:
    """After a crash in the middle of one, the files are of two times until it is complete."""
    try:
        complete(folder)
    except (ValueError, KeyError, TypeError):
        raise UnsafeFolder(
            f"{folder / PENDING} is damaged, and says that a restore is not complete",
            f"See what is in {folder / STAGED}, remove both, and restore again.",
        ) from None


def claim_for(file: Path, folder: Path) -> None:
    """
    The same for a daemon.

    @param file: Its configuration file.
    @raise ConfigurationError: the folder cannot be used.
    """
    try:
        claim(folder)
    except OSError as problem:
        raise unusable(file, folder, problem) from None


def unusable(file: Path, folder: Path, problem: OSError) -> StepError:
    """
    The error of a daemon that cannot start because of the folder, or of a file in it.

    @param file: The configuration that names the folder.
    """
    return unusable_for(file, explain_os(folder, problem))


def unusable_for(file: Path, fault: StepError) -> StepError:
    """The same for a fault that is already known."""
    names_another = fault.fault in (faults.STATE_FORBIDDEN.name, faults.STATE_UNUSABLE.name)
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key="state_dir",
        problem=fault.cause.rstrip("."),
        mend=WRITABLE if names_another else fault.cure,
    )


def explain_os(path: Path, problem: OSError) -> StepError:
    """
    The entry of the fault catalogue for an error with a file or folder of the state
    directory.

    @param path: The file or folder, unless C{problem} names one.
    """
    if isinstance(problem, UnsafeFolder):
        return faults.STATE_UNSAFE.error(problem=problem.strerror, mend=problem.mend)
    named = problem.filename if isinstance(problem.filename, str) else None
    path = Path(named) if named and named.startswith("/") else path
    seen: dict[str, object] = {"path": path, "folder": path.parent}
    if problem.errno in _FULL:
        return faults.STATE_FULL.error(**seen)
    if problem.errno == errno.EROFS:
        return faults.STATE_READ_ONLY.error(**seen)
    if problem.errno in _FORBIDDEN:
        return faults.STATE_FORBIDDEN.error(**seen, user=this_user())
    return faults.STATE_UNUSABLE.error(**seen, problem=problem.strerror or type(problem).__name__)


def mend_unread(problem: OSError, otherwise: str) -> str:
    """
    What mends that a file of the configuration cannot be read.

    @param otherwise: If it is not that this user may not.
    """
    if problem.errno not in _FORBIDDEN:
        return otherwise
    return (
        f"Run it as the user of the daemon, or as root: this is {this_user()}. If the daemon is"
        " to run as that user, let it read the file."
    )


def this_user() -> str:
    """The name of the user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"


def has_room(folder: Path) -> bool:
    """Whether the file system has room, as far as it says."""
    found = os.statvfs(folder)
    return found.f_bavail > 0 and (found.f_favail > 0 or found.f_files == 0)


def _judge(folder: Path, *, of_anybody: bool) -> None:
    facts = folder.stat()
    if not of_anybody and facts.st_uid not in (os.geteuid(), 0):
        raise UnsafeFolder(
            f"{folder} belongs to another user (uid {facts.st_uid}), who could change what is"
            " in it",
            f"Run this as that user, or: chown -R {os.geteuid()} '{folder}'",
        )
    if facts.st_mode & _OTHERS:
        mode = stat.S_IMODE(facts.st_mode)
        raise UnsafeFolder(
            f"others than its owner may write to {folder} (mode {mode:04o})",
            f"See that nobody has put anything there, then: chmod go-w '{folder}'",
        )


def _judge_above(folder: Path) -> None:
    """A user who can write to a folder above could replace this one."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UnsafeFolder(
            f"everybody may write to {folder}, above it (mode {stat.S_IMODE(mode):04o})",
            f"Choose another place, or: chmod o-w '{folder}'",
        )


def open_private(path: Path, flags: int) -> int:
    """
    Open a file of the folder that only its owner may read; never through a link.

    @return: A descriptor.
    @raise OSError: it cannot be opened; C{ELOOP} for a link.
    """
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
