"""Standard output, whoever reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def put(text: str) -> bool:
    """
    Write text at once.

    @return: Whether anybody reads it; if not, the exit status may still be of
        interest.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
        return False
    return True
