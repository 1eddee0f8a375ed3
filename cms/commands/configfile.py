"""
Find the configuration file of a command.

In this order: C{--config}; the environment variable C{CMS_CONFIG}, a file or a
folder that holds F{xmpp.toml} and F{callbridge.toml}; the file of that name in
the current folder; the one in F{/etc/cms}.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cms.commands.common import Complaint, inherited

_F = TypeVar("_F", bound=Callable[..., Any])
XMPP, CALLBRIDGE = "xmpp.toml", "callbridge.toml"
SYSTEM = Path("/etc/cms")
VARIABLE = "CMS_CONFIG"


def config_option(name: str) -> Callable[[_F], _F]:
    """The option C{--config} of a command about one of the daemons."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=inherited,
        help=f"The configuration. Default: what {VARIABLE} names (a file, or a folder"
        f" with a {name}), else ./{name}, else {SYSTEM / name}.",
    )


def find_config(given: Path | None, name: str) -> Path:
    """
    The file, as an absolute path.

    @param given: By C{--config}.
    @param name: L{XMPP} or L{CALLBRIDGE}.
    @raise Complaint: there is none.
    """
    if given is not None:
        return given.absolute()
    variable = os.environ.get(VARIABLE)
    if variable:
        path = Path(variable)
        return (path / name if path.is_dir() else path).absolute()
    for folder in (Path(), SYSTEM):
        if (folder / name).is_file():
            return (folder / name).absolute()
    raise Complaint(
        f"there is no ./{name} and no {SYSTEM / name}. Cure: give --config FILE, or set {VARIABLE}."
    )


def find_all(given: tuple[Path, ...]) -> list[Path]:
    """
    The files of both roles, as many as there are.

    @raise Complaint: there is none.
    """
    if given:
        return [file.absolute() for file in given]
    variable = os.environ.get(VARIABLE)
    if variable and not Path(variable).is_dir():
        return [Path(variable).absolute()]
    folders = (Path(variable),) if variable else (Path(), SYSTEM)
    found = []
    for name in (XMPP, CALLBRIDGE):
        files = [folder / name for folder in folders if (folder / name).is_file()]
        found += [file.absolute() for file in files[:1]]
    if not found:
        where = " or ".join(str(folder) for folder in folders)
        raise Complaint(
            f"there is no {XMPP} and no {CALLBRIDGE} in {where}."
            f" Cure: give --config FILE, or set {VARIABLE}."
        )
    return found


def is_callbridge(file: Path) -> bool:
    """
    Whether a file is a Callbridge's; one that cannot be read says so when it is
    read as what its name suggests.
    """
    try:
        return "unique_name" in tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return "callbridge" in file.name
