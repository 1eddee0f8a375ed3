"""What somebody is told who adds local users that no log-in will find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories.synced import FILE, SyncStore
from cms.callbridge.ldap.settings import LocalSettings
from cms.commands.common import note

_MOST_NAMED = 5


def elsewhere(state_dir: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """By LDAP directory, those of the names that it has; without any, no file is made."""
    found: dict[str, list[str]] = {}
    if (state_dir / FILE).exists():
        store = SyncStore(state_dir)
        for name in names:
            for directory in store.directories_of(name):
                found.setdefault(directory, []).append(name)
    return dict(sorted(found.items()))


def tell_namesakes(config: CallbridgeConfig, names: Sequence[str]) -> None:
    """
    Say whose names other directories have as well, and who decides then; and if there are no
    local users at all.

    @param names: Prepared local parts.
    """
    order = config.directories
    local = next((n for n, each in enumerate(order) if isinstance(each, LocalSettings)), None)
    if local is None:
        note(
            'local users cannot log in: no [[directory]] has kind = "local". Cure: add one to'
            f" {config.file}."
        )
        return
    before = {each.name for each in order[:local]}
    for directory, same in elsewhere(config.state_dir, names).items():
        shown = ", ".join(same[:_MOST_NAMED]) + ", ..." * (len(same) > _MOST_NAMED)
        decides = (
            "comes before the local store: its passwords count"
            if directory in before
            else "comes after the local store: the local passwords count"
        )
        note(f"the directory {directory} has {shown} too, and {decides}")
