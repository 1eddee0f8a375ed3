"""What the pages of a sync hold, and what it changes; without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve

from cms.callbridge.directories.store import StoreError
from cms.callbridge.directories.synced import MOST_LEFT_OUT, Difference, LeftOut, SyncedUser
from cms.callbridge.ldap.connection import FoundEntry
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.groups import comparable
from cms.callbridge.ldap.mapping import Lacking
from cms.callbridge.ldap.users import is_another, is_later, read_user, synced

MOST_UIDS, MOST_UID = 4, 256  # of an entry, and bytes of each


class Collected:
    """
    What the pages hold.

    @ivar left_out: Who can be no user, the first L{MOST_LEFT_OUT}.
    @ivar number_left_out: How many there were.
    @ivar uids: The names of those who have a C{uid}, by it.
    @ivar entries: How many there were.
    """

    def __init__(self, directory: LdapDirectory) -> None:
        self._settings = directory.settings
        self._domain, self._now = directory.domain(), directory.now()
        self._by_name: dict[str, list[SyncedUser]] = {}
        self.left_out: list[LeftOut] = []
        self.number_left_out = 0
        self.uids: dict[str, str] = {}
        self.entries = 0

    def take(self, entries: Iterable[FoundEntry]) -> None:
        """A page."""
        for entry in entries:
            self.entries += 1
            try:
                user = read_user(entry, self._settings, self._domain, self._now)
            except Lacking as lacking:
                self.leave_out(LeftOut(entry.dn, "", f"it has no {lacking.attribute}"))
            except StoreError as problem:
                self.leave_out(LeftOut(entry.dn, "", str(problem)))
            else:
                uids = entry.values.get("uid", ()) if self._settings.groups_base else ()
                for uid in uids[:MOST_UIDS]:
                    self.uids[uid[:MOST_UID].decode(errors="replace")] = user.name
                self._by_name.setdefault(user.name, []).append(synced(user))

    def leave_out(self, *entries: LeftOut) -> None:
        """They are counted, and the first are named."""
        self.number_left_out += len(entries)
        self.left_out += entries[: MOST_LEFT_OUT - len(self.left_out)]

    def users(self, elsewhere: Mapping[str, str]) -> dict[str, SyncedUser]:
        """
        Those that can be users, by name.

        @param elsewhere: Names that an earlier directory has, and its name.
        """
        found = {}
        for name, entries in self._by_name.items():
            # An entry that is told twice, as when it moves between pages, is one all the same.
            same = list({comparable(user.dn): user for user in entries}.values())
            if len(same) > 1:
                others = "; ".join(user.dn for user in same[:3])
                reason = f"{len(same)} entries have the address of {name}: {others}"
                self.leave_out(*(LeftOut(user.dn, name, reason) for user in same))
            elif name in elsewhere:
                reason = f"{name} is a user of the directory {elsewhere[name]}, which comes before"
                self.leave_out(LeftOut(same[0].dn, name, reason))
            else:
                found[name] = same[0]
        return found


def difference(before: Iterable[SyncedUser], now: dict[str, SyncedUser]) -> Difference:
    """
    What changes.

    @param now: Who is told an older time of his password, or none, by a replica that lags
        behind, is given the known one.
    """
    old = {user.name: user for user in before}
    passwords, others = [], []
    names: dict[str, set[str]] = {}  # by identity, before and now
    for each in (*old.values(), *now.values()):
        names.setdefault(each.identity, set()).add(each.name)
    for name, known in old.items():
        user = now.get(name)
        if user is not None and is_another(user, known, lambda identity: len(names[identity]) > 1):
            others.append(name)
            continue
        if user is None or (user.password == known.password and not known.seen):
            continue
        if is_later(user.password, than=known.password):
            passwords.append(name)
        elif not user.password or is_later(known.password, than=user.password):
            user = evolve(user, password=known.password)
        now[name] = evolve(user, seen=known.seen)
    return Difference(
        added=tuple(name for name in now if name not in old),
        changed=tuple(name for name in now if name in old and now[name] != old[name]),
        gone=tuple(name for name in old if name not in now),
        disabled=tuple(
            name
            for name, user in now.items()
            if user.disabled and name in old and not old[name].disabled
        ),
        passwords=tuple(passwords),
        others=tuple(others),
    )
