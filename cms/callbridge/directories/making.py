"""The directories of a configuration, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from attrs import field, frozen

from cms import faults
from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories.directory import Directory, LocalDirectory
from cms.callbridge.directories.several import Directories, Source
from cms.callbridge.directories.store import UserStore
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.pictures import Pictures
from cms.callbridge.ldap.servers import Connector, Servers, TcpConnector
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.ldap.sync import Sync
from cms.callbridge.passwords.scram import HASHES
from cms.discovery.lookup import Finder
from cms.process.threads import SlowWork
from cms.signalflow import StepError
from cms.trust.files import PEMFiles

STRENGTH = (*reversed(HASHES), "PLAIN")
PART = 0.9  # of the time of a log-in's step, so that it is a directory that gives up, and says why


@frozen
class House:
    """
    All directories of a Callbridge.

    @ivar directory: All as one, for log-ins.
    @ivar order: The names of all, in the order in which users are looked up.
    @ivar syncs: Of the LDAP directories, by name.
    @ivar warnings: What is offered and does not work for everybody.
    @ivar store: Of what the syncs found; C{None} without LDAP.
    """

    directory: Directory
    syncs: Mapping[str, Sync] = field(factory=dict)
    warnings: tuple[StepError, ...] = ()
    store: SyncStore | None = None
    _connectors: tuple[TcpConnector, ...] = ()
    _decoys: LocalDirectory | None = None
    order: tuple[str, ...] = (LocalDirectory.name,)

    def start(self) -> None:
        """Begin to sync."""
        for sync in self.syncs.values():
            sync.start()

    def reload(self) -> None:
        """
        Read the trust files again.

        @raise ConfigurationError: one is wrong, and stays as it was.
        """
        for connector in self._connectors:
            connector.reload()

    def close(self) -> None:
        """End it all."""
        for sync in self.syncs.values():
            sync.stop()
        self.directory.close()
        if self._decoys is not None:
            self._decoys.close()


@frozen(kw_only=True)
class Surroundings:
    """
    What the directories of a Callbridge have around them.

    @ivar users: The local store.
    @ivar domain: Gives the domain that is served.
    @ivar ended: Called with names, and why their sessions are over; how many there were.
    @ivar renewed: See L{LdapDirectory}.
    @ivar synced: See L{Sync}.
    @ivar open_store: Called if there is LDAP.
    @ivar connect: Makes connections to LDAP servers; left out: over TCP.
    """

    reactor: Any
    finder: Finder
    random: Random
    users: UserStore
    domain: Callable[[], str]
    ended: Callable[[Sequence[str], str], int]
    renewed: Callable[[str], object]
    synced: Callable[[], object]
    open_store: Callable[[], SyncStore]
    connect: Connector | None = None


def make_directories(config: CallbridgeConfig, around: Surroundings) -> House:
    """@raise ConfigurationError: a file of trust is wrong."""
    users, reactor = around.users, around.reactor
    local = LocalDirectory(users, reactor, limits=config.login, remember=config.remember_passwords)
    settings = config.directories
    chosen = tuple(each for each in STRENGTH if each in config.login.mechanisms)
    if not any(isinstance(each, LdapSettings) for each in settings):
        local.mechanisms = chosen or local.mechanisms
        return House(local, warnings=tuple(_without_keys(users, local.mechanisms)))
    store, work = around.open_store(), SlowWork(reactor, at_once=1)
    sources: list[Source] = []
    syncs: dict[str, Sync] = {}
    connectors: list[TcpConnector] = []
    for each in settings:
        if not isinstance(each, LdapSettings):
            sources.append(local)
            continue
        connector = around.connect
        if connector is None:
            files = PEMFiles(
                *(str(config.file), each.trust, None, None),
                role="client",
                section=f"[[directory]] {each.name}:",
            )
            connector = TcpConnector(reactor, around.finder, files)
            connectors.append(connector)
        one = _ldap_directory(config, around, each, connector, store=store, work=work)
        syncs[each.name] = Sync(
            *(reactor, one, store, work),
            random=around.random,
            elsewhere=partial(_taken, tuple(source.name for source in sources), users, store),
            ended=around.ended,
            synced=around.synced,
        )
        sources.append(one)
    offered = chosen or _common(sources)
    return House(
        Directories(reactor, sources, offered, local.decoy),
        syncs,
        (
            *_warnings(sources, offered, settings),
            *(_without_keys(users, offered) if local in sources else ()),
        ),
        store,
        tuple(connectors),
        None if local in sources else local,
        tuple(source.name for source in sources),
    )


def _ldap_directory(
    config: CallbridgeConfig,
    around: Surroundings,
    settings: LdapSettings,
    connector: Connector,
    *,
    store: SyncStore,
    work: SlowWork,
) -> LdapDirectory:
    reactor, domain, random = around.reactor, around.domain, around.random
    servers = partial(Servers, reactor, settings, connector, around.finder, random=random)
    shows = bool(settings.picture_attribute)
    return LdapDirectory(
        *(reactor, settings, servers()),
        domain=domain,
        store=store,
        work=work,
        random=random,
        seconds=config.login.directory_timeout * PART,
        remember=config.remember_passwords,
        renewed=around.renewed,
        pictures=Pictures(reactor, settings, servers(), domain) if shows else None,
    )


def _taken(before: Iterable[str], users: UserStore, store: SyncStore) -> dict[str, str]:
    """Names of earlier directories; in a thread."""
    taken: dict[str, str] = {}
    for name in before:
        stored = users.users() if name == LocalDirectory.name else store.users(name)
        for user in stored:
            taken.setdefault(user.name, name)
    return taken


def _common(sources: Iterable[Source]) -> tuple[str, ...]:
    """What works for the users of each."""
    every = [set(source.mechanisms) for source in sources]
    return tuple(each for each in STRENGTH if all(each in able for able in every))


def _without_keys(users: UserStore, offered: Sequence[str]) -> Iterable[StepError]:
    """Local users who were taken from another server, with keys for one mechanism."""
    lacking = {each: users.without_keys(each) for each in HASHES}
    able = [each for each in STRENGTH if not lacking.get(each)]
    for mechanism in offered:
        if number := lacking.get(mechanism):
            yield faults.MECHANISM_WITHOUT_KEYS.error(
                mechanism=mechanism, number=number, able=json.dumps(able)
            )


def _warnings(
    sources: Iterable[Source], offered: Sequence[str], settings: Iterable[object]
) -> Iterable[StepError]:
    scram = [each for each in offered if each in HASHES]
    for source, each in zip(sources, settings, strict=True):
        lacking = [mechanism for mechanism in offered if mechanism not in source.mechanisms]
        if lacking:
            yield faults.MECHANISM_PARTIAL.error(
                mechanisms=", ".join(lacking),
                whom=f"the users of directory {source.name}",
                why="it only checks passwords",
                key="login.mechanisms",
            )
        elif scram and isinstance(each, LdapSettings):
            kept = each.keep_keys
            yield faults.MECHANISM_PARTIAL.error(
                mechanisms=", ".join(scram),
                whom=(
                    f"users of directory {source.name}"
                    f" {'before their first log-in with PLAIN' if kept else 'without keys there'}"
                ),
                why="no keys of theirs are known",
                key="keep_keys" if kept else "keys_attribute",
            )
