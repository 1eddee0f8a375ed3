"""The peers' programs: where they are, and what installs them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

# Debian keeps daemons where the PATH of a plain user does not look.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require(program: str, package: str) -> str:
    """
    The path of a program.  A test that needs one that is missing fails and
    says how to install it; it never passes by skipping.

    @param package: The Debian package that holds it.
    """
    found = shutil.which(program, path=SEARCH)
    if found is None:
        pytest.fail(
            f"{program} is not installed; run: apt-get install --no-install-recommends {package}",
            pytrace=False,
        )
    return found


def script(name: str) -> list[str]:
    """The command line of a script of the environment that runs the tests."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return [str(beside)]
    if name == "cms":  # not installed, as when one runs the tests of a work tree by hand
        return [sys.executable, "-c", "from cms.cli import main; main()"]
    pytest.fail(f"{beside} does not exist; run: make test", pytrace=False)
