"""C{cms backup} and C{cms restore}: the state of a daemon in one file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import asdict, evolve, frozen

import cms
from cms.callbridge import statefiles as callbridge_files
from cms.callbridge.config import read_config as read_callbridge
from cms.callbridge.settings import FILE as SETTINGS
from cms.callbridge.settings import StoredSettings
from cms.commands.common import (
    JSON,
    Complaint,
    Row,
    Wrong,
    check_owner,
    in_the_way,
    note,
    print_json,
    print_rows,
    when,
)
from cms.commands.configfile import CALLBRIDGE, SYSTEM, VARIABLE, XMPP, find_all, is_callbridge
from cms.commands.instances import INSTANCE, server_config
from cms.control.daemon import Daemon
from cms.state import restoring
from cms.state.backup import Known, Manifest, Unusable, look, unpack, write
from cms.state.folder import claim, explain_os
from cms.xmpp import statefiles as xmpp_files

KNOWN: dict[str, Known] = {
    "callbridge": callbridge_files.STATE_FILES,
    "xmpp": xmpp_files.STATE_FILES,
}
TITLES = {"callbridge": "Callbridge", "xmpp": "XMPP server"}
UNITS = {"callbridge": "cms-callbridge", "xmpp": "cms-xmpp"}
FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The daemon's configuration. Default: what {VARIABLE} names, else {XMPP} or {CALLBRIDGE}"
    f" in the current folder or {SYSTEM}.",
)


@frozen
class Place:
    """
    A daemon's configuration, as far as it matters here.

    @ivar name: See L{Manifest}.
    """

    role: str
    file: Path
    state_dir: Path
    domain: str
    name: str

    @classmethod
    def read(cls, file: Path) -> Place:
        """
        As the file has it.

        @raise StepError: the configuration is wrong.
        """
        if not is_callbridge(file):
            server = server_config(file)
            return cls("xmpp", file, server.state_dir, server.domain, server.hostname)
        base = read_callbridge(file)
        return cls("callbridge", file, base.state_dir, base.link.domain, base.unique_name)

    def with_settings(self, folder: Path) -> Place:
        """
        With what API or page have changed.

        @param folder: Where that is stored.
        @raise StepError: it is damaged, or does not fit the file.
        """
        if self.role != "callbridge":
            return self
        stored = StoredSettings(read_callbridge(self.file))
        stored.path = folder / SETTINGS
        config = stored.current()
        return evolve(self, domain=config.link.domain, name=config.unique_name)

    @property
    def title(self) -> str:
        """For people."""
        return TITLES[self.role]

    @property
    def known(self) -> Known:
        """The files that a backup of it may hold."""
        return KNOWN[self.role]


@click.command(context_settings={"allow_extra_args": True})
@FILE
@INSTANCE
@JSON
@CONFIG
@click.pass_context
def backup(context: click.Context, file: Path, as_json: bool, config_file: Path | None) -> None:
    """
    Write the state of a daemon into FILE, which must not exist, while it runs or not.

    It holds what the state directory holds: users with their SCRAM keys, spaces,
    Callbridges with their secrets, contacts, settings made by API, administrators.
    It does not hold the configuration, certificates and keys, nor sessions and logs.
    All of it is secret: only its owner can read FILE.
    """
    if context.args:
        raise Complaint("nothing was done. Cure: cms backup FILE, and cms restore FILE.")
    file = file.absolute()
    found = [config_file.absolute()] if config_file is not None else find_all(())
    if len(found) > 1:
        raise Complaint(
            f"there is a {XMPP} and a {CALLBRIDGE}, and a backup is of one daemon. Cure: give"
            " --config FILE, once for each."
        )
    place = Place.read(found[0])
    if not place.state_dir.is_dir():
        raise Wrong(f"there is no {place.state_dir}. Cure: start the {place.title} once.")
    if not any((place.state_dir / name).exists() for name in place.known):
        raise Wrong(
            f"{place.state_dir} holds nothing that a backup is of. Cure: start the {place.title}"
            " once, or name another configuration."
        )
    place = place.with_settings(place.state_dir)
    manifest = _write(place, file)
    _print(manifest, file, as_json)
    note(f"copied {place.state_dir}")


def _write(place: Place, file: Path) -> Manifest:
    about = Manifest(
        *(place.role, place.domain, place.name, str(when(time.time())), cms.__version__)
    )
    try:
        write(place.state_dir, place.known, about, file)
    except FileExistsError:
        raise in_the_way(file) from None
    except OSError as problem:
        raise _trouble(file, problem) from None
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
            return _unpacked(file, Path(folder))
    except BaseException:
        file.unlink(missing_ok=True)  # nobody may rely on it
        raise


@click.command()
@FILE
@click.option("--check", is_flag=True, help="Check FILE alone; nothing is changed.")
@INSTANCE
@JSON
@CONFIG
def restore(file: Path, check: bool, as_json: bool, config_file: Path | None) -> None:
    """
    Put the state in FILE in the place of a daemon's, which must be stopped.

    All of FILE is checked before anything is changed: that it is a whole backup, of this
    kind of daemon and of its domain, and not of a newer version.  --check needs no daemon to
    be stopped, and says with --config whether FILE is of that one.  Then all files are
    replaced or none, also if the power fails.  The former ones stay in the folder
    before-restore of the state directory until the next restore.
    """
    file = file.absolute()
    if check:
        fits = _place(file, config_file) if config_file is not None else None
        _print(_checked(file, fits), file, as_json)
        there = "" if fits is None else f" for {fits.file}"
        note(f"it is whole, and can be restored by this version{there}")
        return
    place = _place(file, config_file)
    if Daemon.find(place.state_dir) is not None:
        _checked(file, place)  # nobody stops a daemon for a file that is of no use
    _refuse_running(place)
    check_owner(place.state_dir)
    manifest = _restore(place, file)
    _print(manifest, file, as_json)
    note(f"restored in {place.state_dir}; what was there is in {restoring.FORMER} in it")


def _checked(file: Path, place: Place | None) -> Manifest:
    """
    What a backup says of itself, if it can be restored.

    @param place: Of which daemon, if that is known.
    @raise Wrong: it cannot.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = _unpacked(file, folder)
        if place is not None:
            _check_fits(place, manifest, folder)
    return manifest


def _refuse_running(place: Place) -> None:
    """
    A daemon holds its databases open, and much of them in memory.

    @raise Wrong: it runs.
    """
    if Daemon.find(place.state_dir) is not None:
        raise Wrong(
            f"the {place.title} runs on {place.state_dir}; nothing was changed. Cure: systemctl"
            f" stop {UNITS[place.role]}, restore, and start it again."
        )


def _restore(place: Place, file: Path) -> Manifest:
    try:
        claim(place.state_dir)
        staged = restoring.stage(place.state_dir)
        try:
            manifest = _unpacked(file, staged)
            _check_fits(place, manifest, staged)
            _refuse_running(place)  # it may have been started meanwhile
        except BaseException:
            restoring.discard(place.state_dir)
            raise
        names = [entry.name for entry in manifest.files]
        restoring.commit(place.state_dir, names, place.known)
    except OSError as problem:
        raise explain_os(place.state_dir, problem) from None
    return manifest


def _unpacked(file: Path, folder: Path) -> Manifest:
    return _read(file, lambda: unpack(file, KNOWN, folder))


def _read(file: Path, read: Callable[[], Manifest]) -> Manifest:
    try:
        return read()
    except Unusable as problem:
        raise Wrong(f"{file} {problem.problem}. Cure: {problem.mend}") from None
    except OSError as problem:
        raise _trouble(file, problem) from None


def _trouble(file: Path, problem: OSError) -> Complaint:
    return Complaint(
        f"{file}: {problem.strerror or problem}. Cure: name a file that this user can use, where"
        " there is room."
    )


def _place(file: Path, config_file: Path | None) -> Place:
    """The daemon that the backup is of."""
    if config_file is not None:
        return Place.read(config_file.absolute())
    found = find_all(())
    if len(found) > 1:
        role = _read(file, lambda: look(file)).role
        found = [one for one in found if is_callbridge(one) == (role == "callbridge")]
    return Place.read(found[0])


def _check_fits(place: Place, manifest: Manifest, staged: Path) -> None:
    """
    Whether the backup is this daemon's.

    @raise Wrong: it is of another kind of daemon, or of another domain.
    """
    if manifest.role != place.role:
        raise Wrong(
            f"this is a backup of a {TITLES[manifest.role]}, and {place.file} is of a"
            f" {place.title}. Cure: give the other configuration with --config."
        )
    domain = place.with_settings(staged).domain
    if manifest.domain != domain:
        raise Wrong(
            f"this is a backup of the domain {manifest.domain}, and {place.file} is for {domain}."
            f" Cure: restore it with that domain; docs/operate.md says how a domain is renamed."
        )


def _print(manifest: Manifest, file: Path, as_json: bool) -> None:
    facts: dict[str, Any] = {"file": str(file), **asdict(manifest)}
    if as_json:
        print_json(facts)
        return
    files = [f"{entry.name} ({entry.size:,} bytes)" for entry in manifest.files]
    rows: list[Row] = [
        ("File", file),
        ("Backup of", f"{TITLES[manifest.role]} {manifest.name}"),
        ("Domain", manifest.domain),
        ("Made", f"{manifest.created} by cms {manifest.software}"),
        ("Holds", files),
    ]
    print_rows(rows)
