"""The Callbridge daemon: its link, log-in authority, administration and metrics together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, TypeVar

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

import cms
from cms.admin.lacking import tell_lacking
from cms.callbridge.config import CallbridgeConfig, LinkSettings, link_warnings, read_config
from cms.callbridge.directories.current import CurrentHouse
from cms.callbridge.directories.directory import Directory
from cms.callbridge.directories.making import House, Surroundings, make_directories
from cms.callbridge.directories.own import OwnGroups, former_store
from cms.callbridge.directories.people import People
from cms.callbridge.directories.store import UserStore
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.objects import StoredObjects
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.link.backoff import Backoff
from cms.callbridge.link.connector import TCPConnector
from cms.callbridge.link.core import LinkCore
from cms.callbridge.link.handlers import CallbridgeHandler, LinkTraffic, LoginHandler
from cms.callbridge.link.machine import Link
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.decision import Decision
from cms.callbridge.login.departures import Departures
from cms.callbridge.login.endings import Endings
from cms.callbridge.login.groups import GroupTeller
from cms.callbridge.login.record import Logins
from cms.callbridge.login.visitors import Visitors
from cms.callbridge.metrics import (
    CallbridgeCollector,
    CallbridgeCounters,
    DirectoriesCollector,
    GuestsCollector,
    RoomsCollector,
)
from cms.callbridge.rooms.doorkeeper import MOST_JOINING, Doorkeeper
from cms.callbridge.rooms.finding import CallIds
from cms.callbridge.rooms.service import Rooms
from cms.callbridge.settings import StoredSettings
from cms.callbridge.spaces.directory import LocalSpaces
from cms.callbridge.spaces.store import SpaceStore
from cms.discovery.lookup import Finder
from cms.discovery.resolver import make_dns
from cms.linkprotocol.mechanisms import mechanism_label
from cms.metrics.exposition import Exposition, RecordCollector
from cms.process.cleanup import call_all
from cms.process.clocks import wall_clock
from cms.process.logs import LineLimiter, Logger
from cms.process.threads import SlowWork
from cms.protection.sources import network_of
from cms.record.record import make_record
from cms.signalflow import AttemptHistory, StepError
from cms.state.database import Database, StoreUnusable
from cms.state.folder import claim_for, unusable_for
from cms.trust.files import PEMFiles

_S = TypeVar("_S")


class CallbridgeService(Service):
    """
    A Callbridge with its link and its log-in authority.

    @ivar stored: What the administration changes of its configuration.
    @ivar link: See L{Link}; L{configure} hands it new settings.
    @ivar on_change: Called when the state of the link changes.
    @ivar metrics: Its figures; what C{GET /metrics} answers.
    @ivar store: The local users.
    @ivar directories: Where users are looked up.
    @ivar made: The directories that the administration has made.
    @ivar spaces: The spaces.
    @ivar visitors: The guests that were admitted to one of them.
    @ivar rooms: Their rooms.
    @ivar door: Admits guests.
    @ivar logins: The recent log-ins.
    @ivar record: The record on disk.
    @ivar groups: Tells the XMPP server of groups of directories.
    @ivar endings: Ends the sessions of a user who may not have them any more.
    @ivar departures: Has the contacts of deleted users forgotten.
    """

    log = Logger()

    def __init__(self, stored: StoredSettings, reactor: Any) -> None:
        self.stored = stored
        self.config = config = stored.current()
        files = PEMFiles(
            str(config.file),
            config.tls.trust,
            config.tls.certificate,
            config.tls.key,
            role="client",
        )
        self._connector = TCPConnector(reactor, config.timing, files)
        self._reactor = reactor
        self._counters = CallbridgeCounters()
        self.logins = Logins(reactor, lambda: self.config.link.component)
        self.record = make_record(reactor, config.record, config.state_dir, "callbridge")
        self.store = _opened(UserStore, config)
        self.spaces = LocalSpaces(_opened(SpaceStore, config), reactor)
        random = SystemRandom()
        finder = Finder(make_dns(reactor, config.dns.servers), random)
        self.made = StoredObjects(config.state_dir)

        self.directories = self._make_directories(finder, random)
        self.visitors = Visitors(reactor, random)
        self.rooms = self._make_rooms(random)
        self.door = self._make_door(random)
        self.endings = Endings(lambda: self.authority, self._names)
        self.departures = Departures(
            *(reactor, self.store, self.endings, self.directories.beside, random)
        )
        self.groups = GroupTeller(
            *(reactor, self._own_groups, SlowWork(reactor, at_once=1), self._names, random)
        )
        self.authority = self._make_authority(config.link.domain)
        self._logins = self._make_logins()
        self.link = self._make_link(finder, random)
        self.link.on_step.append(self._counters.step)
        self.link.on_rest.append(self._counters.rest)
        self.link.on_step.append(self.record.step)
        self.on_change: list[Callable[..., object]] = []
        self.link.on_step.append(self._changed)
        self.link.on_rest.append(self._changed)
        self.metrics = self._make_metrics()

    def _make_directories(self, finder: Finder, random: Random) -> CurrentHouse:
        config = self.config
        around = Surroundings(
            reactor=self._reactor,
            finder=finder,
            random=random,
            users=self.store,
            domain=lambda: self.config.link.domain,
            ended=self._users_ended,
            synced=self._synced,
            renewed=lambda name: self.endings.end_sessions(name, "password"),
            open_store=lambda: _opened(SyncStore, config),
        )

        def house(made: tuple[LdapSettings, ...]) -> House:
            every = (*config.directories, *made)
            return make_directories(evolve(config, directories=every), around)

        return CurrentHouse(
            *(house, tuple(self.made.directories(self.made.read()).values()), self._reactor),
            former=lambda: former_store(config.state_dir),
            used=self._use_directory,
            ended=self._users_ended,
        )

    def _make_rooms(self, random: Random) -> Rooms:
        return Rooms(
            self._reactor,
            self.spaces,
            _DecidedSessions(lambda: self.authority),
            component=lambda: self.config.link.component,
            domain=lambda: self.config.link.domain,
            run=f"{random.getrandbits(64):016x}",
            visitors=self.visitors,
            most_occupants=self.config.rooms.most_occupants,
        )

    def _make_door(self, random: Random) -> Doorkeeper:
        reactor, at_once = self._reactor, self.config.login.hashes_at_once
        return Doorkeeper(
            *(self.spaces, self.visitors, self.rooms.admission.guesses),
            SlowWork(reactor, at_once=at_once, most_waiting=MOST_JOINING),
            random,
            nicknames=self.rooms.nicknames,
            where=self._names,
            lines=LineLimiter(reactor.seconds),
            told=self._guest,
        )

    def _make_link(self, finder: Finder, random: Random) -> Link:
        config, reactor = self.config, self._reactor
        call_ids = CallIds(reactor, self.rooms.admission, lambda: self.config.link.component)
        return Link(
            LinkCore(
                clock=reactor,
                discovery=finder,
                connector=self._connector,
                traffic=LinkTraffic(
                    *(reactor, [CallbridgeHandler(self.rooms, call_ids.find)], self._logins),
                    rooms=self.rooms,
                ),
                backoff=Backoff(config.timing, random),
                settings=config.link,
                history=AttemptHistory(run=f"{random.getrandbits(32):08x}"),
            )
        )

    def _make_authority(self, domain: str) -> Authority:
        return Authority(
            *(self._reactor, self.directories.directory, domain),
            allow_guests=self.config.allow_guests,
            visitors=self.visitors,
            limits=self.config.login,
            decided=self._decided,
            ended=self.rooms.session_ended,
            over=self.endings.end_one,
        )

    def _make_logins(self) -> LoginHandler:
        people = People(
            lambda: self.directories.directory,
            lambda: self.config.link.domain,
            LineLimiter(self._reactor.seconds),
        )
        return LoginHandler(
            *(self.authority, self.config.link.domain, self.door, self.endings, people),
            groups=self.groups,
        )

    def _make_metrics(self) -> Exposition:
        figures = CallbridgeCollector(
            self.link, lambda: self.authority, lambda: self._connector.expires
        )
        return Exposition(
            *("callbridge", self._counters, figures, RoomsCollector(self.rooms)),
            GuestsCollector(self.door.figures, self.visitors),
            DirectoriesCollector(self.directories),
            RecordCollector("callbridge", self.record),
        )

    def _use_directory(self, directory: Directory) -> None:
        self.authority.use(directory)
        self.groups.changed()  # those of a directory that is no more are gone

    def _users_ended(self, names: Sequence[str], reason: str) -> int:
        """A sync has found that users may not have their sessions any more; how many."""
        self.authority.drop(*names)
        users = self.authority.users()
        gone = [name for name in names if name in users]  # of thousands, when a department goes
        for name in gone:
            self.endings.end(name, reason)
        return sum(users[name] for name in gone)

    def _synced(self) -> None:
        self.groups.changed()

    def _own_groups(self) -> OwnGroups | None:
        """Those of all directories."""
        store, syncs = self.directories.store, self.directories.syncs
        names = [name for name, sync in syncs.items() if sync.directory.settings.groups_base]
        return None if store is None else OwnGroups(store, names, self.config.link.component)

    def _names(self) -> tuple[str, str]:
        """The XMPP domain, and this component's address."""
        return self.config.link.domain, self.config.link.component

    def _decided(self, decision: Decision) -> None:
        self._counters.login(decision.mechanism, decision.result, decision.seconds)
        self.logins.decided(decision)
        good = decision.result == "success"
        self.record.login(
            *(decision.user, network_of(decision.peer)),
            known=decision.known is True and not decision.guest,
            good=good,
            result=decision.result,
            reason=decision.reason,
            text=decision.text,
            mechanism=mechanism_label(decision.mechanism),
            peer=decision.peer,
            exchange=decision.exchange,
            link=self.authority.link_id,
            seconds=decision.seconds,
        )

    def _guest(self, result: str, peer: str, fault: StepError | None, **seen: str) -> None:
        self.logins.guest(result, peer, fault, **seen)
        self.record.guest(result, peer, network_of(peer), good=fault is None, **seen)

    def startService(self) -> None:
        """Begin to look for the XMPP server."""
        super().startService()
        self.log.info("cms-callbridge {version} starts", version=cms.__version__)
        self._warn(self.config.warnings)
        self.log.info(
            "configuration from the {source}: component {component}, server {server}",
            source="API, which wins over the file" if self.config.source == "api" else "file",
            component=self.config.link.component,
            server=str(self.config.link.server or "by SRV"),
        )
        tell_lacking(self.log, self.databases())
        self._judge_certificates()
        self.record.start()
        self.directories.start()
        self.link.start()

    def databases(self) -> list[Database]:
        """The files of its state directory that may be changed while it runs."""
        synced = self.directories.store
        found = [self.store.database, self.spaces.store.database]
        return found if synced is None else [*found, synced.database]

    def _judge_certificates(self) -> None:
        """Log what peers will object to in our certificate."""
        now = datetime.fromtimestamp(wall_clock(self._reactor)(), UTC)
        for problem in self._connector.judge(now, serves=bool(self.config.listen.api)):
            self.log.warn(
                "own certificates: {cause} Cure: {cure}",
                **problem.fields,
                evidence=dict(problem.evidence),
            )

    def stopService(self) -> Deferred[None]:
        """End the link properly."""
        super().stopService()
        self.rooms.stop()
        self.visitors.stop()
        self.departures.stop()
        stopped = DeferredList([self.link.stop(), self.record.stop()])
        return stopped.addCallback(lambda _: self._close())

    def _close(self) -> None:
        self.directories.close()
        self.spaces.close()

    def use(self, config: CallbridgeConfig) -> None:
        """
        Use another configuration of the link.  If the link is up and the settings are the
        same, it stays.  If it waits, the next attempt begins at once.
        """
        is_up = self.link.status()["state"] in ("registered", "active")
        same = is_up and config.link == self.config.link
        self.config = evolve(self.config, source=config.source)
        if not same:
            self.configure(config.link)

    def configure(self, settings: LinkSettings) -> None:
        """
        Use other link settings from now on.  The old link is down when this
        returns; with another domain, log-ins are decided for that domain.
        """
        before, self.config = self.config.link, evolve(self.config, link=settings)
        self._warn(link_warnings(settings))
        self.link.configure(settings)
        if settings.domain != before.domain:
            self.authority = self._make_authority(settings.domain)
            self._logins.serve(self.authority, settings.domain)

    def _warn(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            self.log.warn("WARNING: {cause}", cause=warning)

    def _changed(self, *_: object) -> None:
        call_all(self.log, self.on_change)

    def describe(self) -> str:
        """The link's state and step."""
        return self.link.describe()

    def reload(self) -> None:
        """Read keys and certificates again; the next connection uses them."""
        try:
            self._connector.reload()
            self.directories.reload()
        except StepError as error:
            self.log.error("not reloaded: {cause} Cure: {cure}", **error.fields)
        else:
            self.log.info("keys and certificates were read again")
            self._judge_certificates()


class _DecidedSessions:
    """The sessions that the authority of now has decided."""

    def __init__(self, authority: Callable[[], Authority]) -> None:
        self._authority = authority

    def began(self, jid: str) -> str | None:
        """See L{cms.callbridge.rooms.places.Sessions.began}."""
        session = self._authority().sessions.get(jid)
        return None if session is None else session.since

    def peer(self, jid: str) -> str | None:
        """See L{cms.callbridge.rooms.places.Sessions.peer}."""
        session = self._authority().sessions.get(jid)
        return None if session is None else session.peer


def _opened(store: Callable[[Path], _S], config: CallbridgeConfig) -> _S:
    try:
        return store(config.state_dir)
    except StoreUnusable as problem:
        raise unusable_for(config.file, problem.fault) from None


def make_daemon(file: Path, reactor: Any) -> CallbridgeService:
    """
    @raise ConfigurationError: the file, what it names, or what the
        administration has stored beside it, is wrong.
    """
    base = read_config(file)
    claim_for(file, base.state_dir)
    stored = StoredSettings(base)
    stored.sweep()
    StoredObjects(base.state_dir).sweep()
    return CallbridgeService(stored, reactor)
