"""What somebody is told who adds local users that no log-in will find."""

from __future__ import annotations

from collections.abc import Sequence

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.settings import LocalSettings
from cms.commands.common import note

_MOST_NAMED = 5


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
    store = SyncStore(config.state_dir)
    found: dict[str, list[str]] = {}
    for name in names:
        for directory in store.directories_of(name):
            found.setdefault(directory, []).append(name)
    for directory, same in sorted(found.items()):
        shown = ", ".join(same[:_MOST_NAMED]) + ", ..." * (len(same) > _MOST_NAMED)
        decides = (
            "comes before the local store: its passwords count"
            if directory in before
            else "comes after the local store: the local passwords count"
        )
        note(f"the directory {directory} has {shown} too, and {decides}")
