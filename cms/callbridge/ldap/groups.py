"""
Groups of a directory whose members are contacts of each other: C{groups_base}.

A group names its members by DN (C{member}, C{uniqueMember}; Active Directory has the first) or by
C{uid} (C{memberUid}, RFC 2307).  Members that are no users of ours, such as groups in a group,
are passed over.

Active Directory gives at most 1,500 values of an attribute at once, as C{member;range=0-1499},
and the next ones to who asks for them (MS-ADTS 3.1.1.3.1.3.3).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from attrs import define, field

from cms.callbridge.directories.synced import LeftOut, SyncedUser
from cms.callbridge.ldap.connection import FoundEntry
from cms.linkprotocol.groups import MOST_BYTES, MOST_MEMBERS, MOST_NAME, MOST_OF_USER, Group

ATTRIBUTES: Final = ("cn", "member", "uniqueMember", "memberUid")
MOST_GROUPS: Final = 10_000  # entries that are read
MOST_RANGES: Final = 1_000  # of members, in a sync
MOST_IN_GROUP: Final = 20_000  # values of one, which take 0.2 s to read
MOST_OF_GROUP: Final = 1 << 20  # bytes of one
MOST_NAMED: Final = 1_000_000  # members of all of them, who are kept until the sync has ended
MOST_NAMED_BYTES: Final = 1 << 27  # and of their names
_BY_DN, _BY_UID = ("member", "uniquemember"), "memberuid"
_RANGE = re.compile(r"(member|uniquemember|memberuid);range=[0-9]+-(?:([0-9]{1,9})|\*)")
_ESCAPED = re.compile(rb"\\(?:([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_PART = re.compile(r"(?:[^,+\\]|\\.)+", re.DOTALL)
_BITS = re.compile(r"#'[01]*'B$")  # what follows a DN in uniqueMember (RFC 4517 3.3.21)


def comparable(dn: str) -> str:
    """
    A DN in one form, whoever wrote it (RFC 4514): without regard to case, to spaces around its
    parts, and to how characters are escaped.
    """
    parts = []
    for part in _PART.findall(dn):
        name, _, value = part.partition("=")
        parts.append(f"{name.strip()}={_unescaped(value.strip())}".casefold())
    return "\0".join(parts)


def _unescaped(value: str) -> str:
    """Escaped octets are those of UTF-8."""
    octets = _ESCAPED.sub(
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2],
        value.encode(errors="replace"),
    )
    return octets.decode(errors="replace")


@define
class _Found:
    """
    A group as it was read: DNs and C{uid}s of its members.

    @ivar problem: Why it is left out.
    @ivar rest: The attributes, with their ranges, that hold more of them.
    """

    dn: str
    name: str
    problem: str
    dns: list[str] = field(factory=list)
    uids: list[str] = field(factory=list)
    rest: list[str] = field(factory=list)


@define
class CollectedGroups:
    """
    What the pages hold, without I/O.

    @ivar number: How many there were.
    @ivar problem: Why they were not all read; empty: they were.
    """

    _directory: str
    _found: list[_Found] = field(factory=list)
    _unread: list[_Found] = field(factory=list)
    _texts: dict[bytes, str] = field(factory=dict)  # most members are in many groups
    _named: int = 0
    _bytes: int = 0
    number: int = 0
    problem: str = ""

    def take(self, entries: Iterable[FoundEntry]) -> None:
        """A page."""
        for entry in entries:
            self.number += 1
            name = next(iter(entry.values.get("cn", ())), b"").decode(errors="replace")
            found = _Found(entry.dn, name, entry.problem)
            self._add(found, entry)
            if self.problem:
                return
            self._found.append(found)
            if found.rest:
                self._unread.append(found)

    def unread(self) -> tuple[str, tuple[str, ...]]:
        """A group of which not all members were read, and what to ask it for; C{""}: none."""
        return (self._unread[-1].dn, tuple(self._unread[-1].rest)) if self._unread else ("", ())

    def take_more(self, entries: Sequence[FoundEntry]) -> None:
        """The answer to that; none if the group is gone, or hidden."""
        found = self._unread[-1]
        for entry in entries[:1]:
            found.problem = entry.problem
            self._add(found, entry)
        if self._unread and not (entries and found.rest):
            self._unread.pop()

    def _add(self, found: _Found, entry: FoundEntry) -> None:
        """What an entry says of the members of a group."""
        found.rest, texts = [], self._texts
        for attribute, octets in entry.values.items():
            part = _RANGE.fullmatch(attribute)
            name = part[1] if part else attribute
            if name not in (*_BY_DN, _BY_UID):
                continue
            self._bytes += sum(len(each) for each in octets if each not in texts)
            values = [texts.setdefault(each, each.decode(errors="replace")) for each in octets]
            (found.uids if name == _BY_UID else found.dns).extend(values)
            self._named += len(values)
            if part and part[2]:
                found.rest.append(f"{name};range={int(part[2]) + 1}-*")
        if self._named > MOST_NAMED or self._bytes > MOST_NAMED_BYTES:
            few = self._named <= MOST_NAMED
            most = f"{MOST_NAMED_BYTES} bytes of names" if few else f"{MOST_NAMED} members"
            self.problem = f"they have more than {most} together"
            self._found, self._unread, self._texts = [], [], {}

    def groups(
        self, users: Mapping[str, SyncedUser], uids: Mapping[str, str]
    ) -> tuple[list[Group], list[LeftOut]]:
        """
        The groups with their members, and what is left out of them; call it in a thread.

        @param users: By name; who is disabled is in no group.
        @param uids: The names of users, by C{uid}.
        """
        by_dn = {comparable(user.dn): name for name, user in users.items() if not user.disabled}
        whose: dict[str, str | None] = {}  # as it is written: most are in many groups
        by_uid = {uid: name for uid, name in uids.items() if name in users}
        made: list[Group] = []
        left_out: list[LeftOut] = []
        often: Counter[str] = Counter()
        for found in sorted(self._found, key=lambda each: (each.name.casefold(), each.dn)):
            for dn in found.dns:
                if dn not in whose:
                    whose[dn] = by_dn.get(comparable(_BITS.sub("", dn)))
            named = [whose[dn] for dn in found.dns]
            named += [by_uid.get(uid) for uid in found.uids]
            members = {name for name in named if name is not None and not users[name].disabled}
            reason = _reason(found, members)
            if reason:
                left_out.append(LeftOut(found.dn, "", reason))
                continue
            for name in [each for each in members if often[each] >= MOST_OF_USER]:
                members.discard(name)
                why = f"{name} is in {MOST_OF_USER} groups already, and not taken into {found.name}"
                left_out.append(LeftOut(found.dn, name, why))
            if len(members) > 1:
                often.update(members)
                made.append(Group(self._id(found.dn), found.name, tuple(members)))
        return made, left_out

    def _id(self, dn: str) -> str:
        return sha256(f"{self._directory}\0{comparable(dn)}".encode()).hexdigest()[:16]


def _reason(found: _Found, members: set[str]) -> str:
    """Why a group is left out."""
    if found.problem:
        return found.problem
    if found.rest:
        return f"of the group's members only the first {len(found.dns) + len(found.uids)} were read"
    if len(members) > MOST_MEMBERS:
        return f"the group has {len(members)} members, and at most {MOST_MEMBERS} are taken"
    if sum(len(name.encode()) for name in members) > MOST_BYTES:
        return "the names of the group's members are too long together"
    name = found.name
    if not name.strip() or not name.isprintable() or len(name.encode()) > MOST_NAME:
        return "the group has no cn that can be shown"
    return ""
