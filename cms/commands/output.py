"""Standard output, perhaps into a pipe that nobody reads."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def put(text: str) -> bool:
    """
    Write text at once.

    @return: Whether it can be written; if the reader has gone, the exit status may still be
        of interest.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
        return False
    return True
