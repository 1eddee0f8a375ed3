"""
Putting other files in the place of those in a state directory: all of them or none.

The new ones are laid beside the old (F{restore.new}).  A file then says that they count
(F{restore.pending}).  From then on the change is done to its end, after a crash by whoever uses
the folder next (L{cms.state.folder.claim}).  The old ones stay in F{before-restore}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from cms.state.atomicfile import replace_file, sync_folder

PENDING, STAGED, FORMER = "restore.pending", "restore.new", "before-restore"
_BESIDE = ("-wal", "-shm", "")  # what belongs to a database, itself last


def stage(folder: Path) -> Path:
    """An empty folder for the new files; what an attempt before it left is gone."""
    staged = folder / STAGED
    discard(folder)
    staged.mkdir(mode=0o700)
    return staged


def discard(folder: Path) -> None:
    """The new files do not count."""
    shutil.rmtree(folder / STAGED, ignore_errors=True)


def commit(folder: Path, names: Collection[str], replaces: Collection[str]) -> None:
    """
    The new files count.

    @param names: Those that are laid ready.
    @param replaces: Those that make way, among them C{names}.
    @raise OSError: if it is before C{PENDING} is there, nothing has changed; else it is done
        when the folder is used next.
    """
    shutil.rmtree(folder / FORMER, ignore_errors=True)
    sync_folder(folder / STAGED)
    content = json.dumps({"files": sorted(names), "replaces": sorted(replaces)})
    replace_file(folder / PENDING, content.encode())
    complete(folder)


def complete(folder: Path) -> None:
    """
    Do to its end what L{commit} began, if anything is.

    @raise OSError: it could not be done, and is tried again the next time.
    @raise ValueError: the file that says so is damaged.
    """
    with contextlib.suppress(FileNotFoundError), (folder / PENDING).open("rb") as pending:
        fcntl.flock(pending, fcntl.LOCK_EX)  # two processes may begin to use the folder
        if not (folder / PENDING).exists():
            return
        plain = json.load(pending)
        staged, former = folder / STAGED, folder / FORMER
        former.mkdir(mode=0o700, exist_ok=True)
        for name in plain["replaces"]:
            if name in plain["files"] and not (staged / name).exists():
                continue  # it is in its place already
            for part in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(folder / f"{name}{part}", former / f"{name}{part}")
            if name in plain["files"]:
                os.rename(staged / name, folder / name)
        for changed in (former, folder):
            sync_folder(changed)
        (folder / PENDING).unlink()
        discard(folder)
        sync_folder(folder)
