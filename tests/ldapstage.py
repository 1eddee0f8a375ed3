"""LDAP directories of servers in memory, with what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.servers import Servers
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.callbridge.ldap.sync import Sync
from cms.configuration.tomlfile import Secret
from cms.process.threads import SlowWork
from tests.ldapserver import BASE, READER, READER_PASSWORD, MemoryConnector, MemoryLdap

_T = TypeVar("_T")
DOMAIN = "meet.example.com"
SERVERS = ("ldaps://dc1", "ldaps://dc2")


class AtOnce:
    """In place of L{SlowWork}: no thread."""

    def run(self, function: Callable[[], _T]) -> Deferred[_T]:
        """Its result."""
        return maybeDeferred(function)


class LdapStage:
    """
    Two servers, C{dc1} and C{dc2}, and a directory that asks them.

    @ivar domain: What is served.
    """

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.clock = Clock()
        self.random = Random(15)
        self.domain = DOMAIN
        self.dc1, self.dc2 = MemoryLdap(), MemoryLdap()
        self.connector = MemoryConnector(self.clock, dc1=self.dc1, dc2=self.dc2)
        values: dict[str, Any] = {
            "servers": tuple(map(parse_ldap_server, SERVERS)),
            "bind_name": READER,
            "bind_password": Secret(READER_PASSWORD),
            "base": BASE,
            "jid": parse_template(f"$uid$@{DOMAIN}"),
        }
        self.settings = LdapSettings(**{**values, **changes})
        self.store = SyncStore(folder)
        self.ended: list[tuple[tuple[str, ...], str]] = []
        self.work: SlowWork = AtOnce()  # type: ignore[assignment]
        finder: Any = None
        self.servers = Servers(
            *(self.clock, self.settings, self.connector), finder=finder, random=self.random
        )
        self.directory = LdapDirectory(
            *(self.clock, self.settings, self.servers),
            domain=lambda: self.domain,
            store=self.store,
            work=self.work,
            random=self.random,
            seconds=4.5,
            remember=300.0,
            renewed=lambda name: self.ended.append(((name,), "renewed")),
        )
        self.elsewhere: dict[str, str] = {}
        self.sync = Sync(
            *(self.clock, self.directory, self.store, self.work),
            random=self.random,
            elsewhere=lambda: self.elsewhere,
            ended=self.end,
        )

    def end(self, names: tuple[str, ...], reason: str) -> int:
        """They had a session each."""
        self.ended.append((names, reason))
        return len(names)

    def person(self, uid: str, password: str = "s3cret", **more: str | list[str]) -> None:
        """Somebody whom both servers know."""
        for server in (self.dc1, self.dc2):
            server.person(uid, password, **more)

    def close(self) -> None:
        """Nothing is left over."""
        self.sync.stop()
        self.directory.close()
        self.clock.advance(5)
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()
