"""The passes of admitted guests, as a log-in finds them: a directory before the directory."""

from __future__ import annotations

from datetime import datetime
from random import Random

from twisted.internet.defer import Deferred, succeed

from cms.callbridge.directories.directory import Directory
from cms.callbridge.login.visitors import Visitors
from cms.callbridge.passwords.scram import HASHES, SALT_BYTES, StoredKeys, derive
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.people import Person

MECHANISM = "SCRAM-SHA-256"
ABLE = frozenset((MECHANISM, "PLAIN"))  # one of these has to be on offer
# What RFC 7677 asks for at least.  Rounds protect passwords that people choose; a pass is
# 128 random bits, and each join costs them here.
ROUNDS = 4_096


def keys_of(password: str, random: Random) -> StoredKeys:
    """The keys of a pass; this takes a millisecond or two, so call it in another thread."""
    return derive(password, HASHES[MECHANISM], random.randbytes(SALT_BYTES), ROUNDS)


class WithPasses:
    """
    A directory in which admitted guests are found by their passes, and nowhere else.

    Implements L{Directory<cms.callbridge.directories.directory.Directory>}.
    """

    def __init__(self, directory: Directory, visitors: Visitors) -> None:
        self._directory = directory
        self._visitors = visitors
        self.mechanisms = directory.mechanisms

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}."""
        if is_visitor(name):
            return succeed(self._visitors.keys(name) if mechanism == MECHANISM else None)
        return self._directory.keys(name, mechanism)

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """See L{Directory.verify}; a right pass is used up."""
        if is_visitor(name):
            return succeed(self._visitors.use_password(name, password) or None)
        return self._directory.verify(name, password)

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """See L{Directory.decoy}."""
        return self._directory.decoy(name, mechanism)

    def holds(self, name: str) -> Deferred[bool]:
        """See L{Directory.holds}."""
        return succeed(False) if is_visitor(name) else self._directory.holds(name)

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """See L{Directory.over}; a guest's session ends with his visit."""
        return succeed(None) if is_visitor(name) else self._directory.over(name, since)

    def person(self, name: str) -> Deferred[Person | None]:
        """See L{Directory.person}: what a guest is called is for the rooms that he is in."""
        return succeed(None) if is_visitor(name) else self._directory.person(name)

    def close(self) -> None:
        """See L{Directory.close}."""
        self._directory.close()
