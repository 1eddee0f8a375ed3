"""Where the socket is, and a path to it that the kernel takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "admin.sock"
LOCK = "admin.lock"  # beside it; whoever holds it uses the directory
# A header: until when a command waits, by the clock that all processes of this host share
# (CLOCK_MONOTONIC), which is that of a daemon's reactor.  What comes later is not done, since its
# user was told that the daemon does not answer.
UNTIL = "X-Until"
LONGEST_PATH = 100  # bytes; the kernel takes 107


def short_path(path: Path, folder: int) -> str:
    """
    The path, or one to the same file that is short enough for the kernel.

    @param folder: A descriptor of the folder that the file is in.
    """
    text = str(path)
    return text if len(os.fsencode(text)) <= LONGEST_PATH else f"/proc/self/fd/{folder}/{path.name}"


@contextmanager
def socket_path(state_dir: Path) -> Iterator[str]:
    """
    A path under which a client reaches the socket of a state directory.

    @raise OSError: the folder cannot be opened.
    """
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield short_path(state_dir / SOCKET, folder)
    finally:
        os.close(folder)
