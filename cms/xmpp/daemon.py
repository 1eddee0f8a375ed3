"""The XMPP server daemon: listeners, links, sessions, administration and metrics together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from random import SystemRandom
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

import cms
from cms.admin.lacking import tell_lacking
from cms.audit.ownserver import OwnServer
from cms.discovery.resolver import make_dns
from cms.door.application import DoorApplication
from cms.metrics.exposition import Exposition, RecordCollector
from cms.process.cleanup import call_all
from cms.process.clocks import wall_clock
from cms.process.endpointstrings import check_plain
from cms.process.logs import Logger
from cms.process.openfiles import told_few
from cms.process.startup import give_up
from cms.process.threads import SlowWork
from cms.protection.guessing import Guesses
from cms.record.record import make_record
from cms.signalflow import Step, StepError, counted
from cms.state.database import Database, StoreUnusable
from cms.state.folder import claim_for, unusable_for
from cms.trust.files import PEMFiles
from cms.trust.server import ServerTrust
from cms.xmlstream import ns
from cms.xmlstream.stream import XMLStream
from cms.xmpp import clientstates, componentstates
from cms.xmpp.admissions import Admissions
from cms.xmpp.broadcast import Broadcast
from cms.xmpp.callbridges import Callbridges, CallbridgeWatch
from cms.xmpp.carbons import Carbons
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.componentpolicy import ComponentPolicy
from cms.xmpp.config import LISTENERS, XmppConfig, read_config
from cms.xmpp.contacts.cards import Cards
from cms.xmpp.contacts.changes import Changes
from cms.xmpp.contacts.figures import ContactFigures
from cms.xmpp.contacts.people import People
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.store import ContactStore
from cms.xmpp.drain import DRAINED, DRAINING, Drain
from cms.xmpp.elsewhere import Cluster
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.instances import of_instance
from cms.xmpp.keptbytes import UNLIMITED, KeptBytes
from cms.xmpp.links import Link, Links
from cms.xmpp.listeners import Listeners, StreamFactory
from cms.xmpp.local import LocalServices
from cms.xmpp.loginrelay import LoginRelay
from cms.xmpp.metrics import (
    ClusterCollector,
    ContactsCollector,
    DrainCollector,
    GuestsCollector,
    PeopleCollector,
    ServerCollector,
    ServerCounters,
)
from cms.xmpp.reconnecting import Reconnecting
from cms.xmpp.resumption import Resumable, Resumptions
from cms.xmpp.router import Router
from cms.xmpp.selfcheck import SelfCheck, own_server
from cms.xmpp.sessions import Sessions
from cms.xmpp.sessionservice import SessionService
from cms.xmpp.undelivered import Undelivered
from cms.xmpp.waitingroom import WaitingRoom
from cms.xmpp.webdoor import WebDoor


class XmppService(Service):
    """
    An XMPP server: its listeners, its links and its sessions.

    @ivar callbridges: The Callbridges that may register.
    @ivar links: The components that are registered now.
    @ivar sessions: The clients that are logged in now.
    @ivar admissions: Has guests admitted by Callbridges.
    @ivar contacts: The users' contacts; C{None}: they are not offered.
    @ivar people: Asks Callbridges who users are.
    @ivar forgetting: Forgets them; C{None} as well.
    @ivar flow: The recent registrations and log-ins.
    @ivar guesses: Counts the wrong secrets of components.
    @ivar record: The record on disk of them.
    @ivar cluster: Its part in a cluster; C{None}: it is alone.
    @ivar listeners: For components and clients.
    @ivar web: For browsers.
    @ivar drain: Sends all that it has to the others.
    @ivar on_change: Called when a link comes or goes, or another server of the cluster.
    @ivar metrics: Its figures; what C{GET /metrics} answers.
    """

    log = Logger()

    def __init__(self, config: XmppConfig, reactor: Any) -> None:
        self.config = config
        self._reactor = reactor
        _claim(config)
        self.links = Links()
        self.sessions = Sessions(most_per_user=config.clients.most_resources)
        self.callbridges = _callbridges(config, wall_clock(reactor))
        self.callbridges.on_change.append(self._judge_links)
        self._watch = CallbridgeWatch(self.callbridges, reactor)
        registry = self.callbridges.registry
        broadcast = Broadcast(reactor)
        carbons = Carbons(self.sessions, broadcast)
        router = Router(config.domain, self.links, self.sessions, registry, carbons)
        local = self._local = LocalServices(router, self.links, self.sessions, broadcast)
        router.local = local
        self.people = People(reactor, config.domain, self.links)
        self.contacts = self._make_contacts(router, broadcast, local)
        self.forgetting = local.forgetting
        timeout = config.components.answer_timeout
        relay = self._relay = LoginRelay(
            *(reactor, config.domain, self.links), timeout=timeout, wait=config.login.wait
        )
        counters = self._make_counters()
        self.record = make_record(reactor, config.record, config.state_dir, "xmpp")
        self.flow = ServerFlow(reactor, counters.registration_step, self.record)
        self.admissions = Admissions(reactor, config.domain, self.links, self.flow)
        relay.issuer = self.admissions.issuer
        self.session_service = SessionService(
            *(reactor, self.sessions, self.links, local, relay),
            flow=self.flow,
            carbons=carbons,
            reconnecting=Reconnecting(reactor, router),
        )
        self.cluster = self._make_cluster(router, local, relay, carbons)
        undelivered = Undelivered(reactor, router.give_back)
        # Links are those that the operator named, and each has a limit of its own.
        no_limit: KeptBytes[Resumable] = KeptBytes(UNLIMITED, UNLIMITED)
        self.link_resumptions = Resumptions(reactor, config.resume.links, kept=no_limit)
        self._component = self._make_component_policy(router, undelivered)
        self.resumptions = Resumptions(
            reactor,
            config.resume.seconds,
            most_away=config.resume.most,
            kept=KeptBytes(config.resume.most_bytes),
        )
        self._client = self._make_client_policy(router, relay, counters, undelivered)
        if self.cluster is not None:
            self.cluster.serves(self._client, self._component)
        self._trust = self._make_trust()
        self.listeners = Listeners(reactor, config.file, config.listen.proxies)
        self.web = WebDoor(
            *(config, reactor, self._client, self.admissions), self._trust.get("web")
        )
        resolver = make_dns(reactor, config.dns.servers)
        self.drain = Drain(reactor, self._client, self.links, _Doors(self), self.cluster)
        self._self_check = SelfCheck(reactor, self._own, resolver, SystemRandom())
        self.on_change: list[Callable[..., object]] = []
        self._watch_changes()
        self.metrics = self._make_metrics(counters, router)

    def _watch_changes(self) -> None:
        links = self.links
        for changes in (
            *(links.on_up, links.on_down, links.on_away, links.on_back),
            *(self._relay.on_authority, self.callbridges.on_change, self.drain.on_change),
        ):
            changes.append(self._changed)
        self.callbridges.on_change.append(self._name_callbridges)

    def _make_metrics(self, counters: ServerCounters, router: Router) -> Exposition:
        guests = GuestsCollector(self.admissions.figures, self.door.refused)
        every = [counters, self._make_collector(router), guests]
        every += [DrainCollector(self.drain), PeopleCollector(self.people.figures)]
        every.append(RecordCollector("xmpp", self.record))
        if self.contacts is not None:
            figures = ContactFigures(self.contacts, SlowWork(self._reactor, at_once=1))
            every.append(ContactsCollector(figures))
        if self.cluster is not None:
            every.append(ClusterCollector(self.cluster))
        return Exposition("xmpp", *every)

    def _make_contacts(
        self, router: Router, broadcast: Broadcast, local: LocalServices
    ) -> Contacts | None:
        config, reactor, contacts = self.config.contacts, self._reactor, None
        if config.offered:
            changes = Changes(reactor, self._contact_store(), SlowWork(reactor, at_once=1))
            contacts = Contacts(changes, router, broadcast, config)
            local.offer(contacts, self.callbridges.registry)
        local.introduce(Cards(self.people, router, contacts, config))
        return contacts

    def _contact_store(self) -> ContactStore:
        config, cluster = self.config, self.config.cluster
        maker = "" if cluster is None else cluster.node or config.hostname
        try:
            return ContactStore(config.state_dir, wall_clock(self._reactor), maker)
        except StoreUnusable as problem:
            raise unusable_for(config.file, problem.fault) from None

    def _make_component_policy(self, router: Router, undelivered: Undelivered) -> ComponentPolicy:
        config, reactor, registry = self.config, self._reactor, self.callbridges.registry
        self.guesses = guesses = Guesses(reactor, together=False)
        return ComponentPolicy(
            *(reactor, config.domain, registry, self.links, router, guesses, self.flow),
            settings=config.components,
            send_limits=config.send_limits(config.components.send_limit),
            resumptions=self.link_resumptions,
            undelivered=undelivered,
            others=self.session_service.others,
        )

    def _make_client_policy(
        self,
        router: Router,
        relay: LoginRelay,
        counters: ServerCounters,
        undelivered: Undelivered,
    ) -> ClientPolicy:
        config = self.config
        return ClientPolicy(
            self._reactor,
            config.domain,
            router,
            self.sessions,
            self.session_service,
            relay,
            self._make_waiting_room(relay),
            counters,
            self.resumptions,
            settings=config.clients,
            send_limits=config.send_limits(config.clients.send_limit),
            undelivered=undelivered,
        )

    def _make_cluster(
        self, router: Router, local: LocalServices, relay: LoginRelay, carbons: Carbons
    ) -> Cluster | None:
        settings = self.config.cluster
        if settings is None:
            return None
        # Late: a server that is alone needs neither these modules nor hiredis.
        from cms.xmpp.clustering import make_clustering  # noqa: PLC0415
        from cms.xmpp.nodes import Nodes  # noqa: PLC0415

        nodes = Nodes(
            *(self._reactor, self.sessions, self.links, router, relay),
            carbons=carbons,
            endings=local.endings,
        )
        local.others = self.session_service.others = local.endings.others = nodes
        if local.blocking is not None:
            nodes.share(local.blocking)
        cluster: Cluster = make_clustering(
            *(self.config, settings, self._reactor, nodes, self.callbridges)
        )
        cluster.on_change.append(self._changed)
        self.admissions.ready = nodes.learning.over
        return cluster

    def _own(self) -> OwnServer:
        return own_server(self.config, self.callbridges.registry.secrets)

    def _make_waiting_room(self, relay: LoginRelay) -> WaitingRoom:
        known, below = self.callbridges.registry, f".{self.config.domain}"
        return WaitingRoom(
            self._reactor,
            relay,
            lambda: any(address.endswith(below) for address in known.secrets),
            seconds=self.config.login.wait,
            most=self.config.login.most_waiting,
        )

    def _make_counters(self) -> ServerCounters:
        counters, registry = ServerCounters(), self.callbridges.registry
        counters.know(registry.secrets)
        self.callbridges.on_change.append(lambda: counters.know(registry.secrets))
        self.links.on_down.append(counters.link_ended)
        return counters

    def _make_collector(self, router: Router) -> ServerCollector:
        return ServerCollector(
            *(self.callbridges.registry, self.links, self.sessions, router),
            resumptions=self.resumptions,
            link_resumptions=self.link_resumptions,
            factories=lambda: self.factories,
            expires=self._expires,
        )

    def databases(self) -> list[Database]:
        """The files of its state directory that may be changed while it runs."""
        contacts = [] if self.contacts is None else [self.contacts.changes.store.database]
        return [self.callbridges.store.database, *contacts]

    def _expires(self) -> float | None:
        known = [trust.expires for trust in self._trust.values() if trust.expires is not None]
        return min(known, default=None)

    def _make_trust(self) -> dict[str, ServerTrust]:
        config = self.config
        files = PEMFiles(str(config.file), config.tls.trust, config.tls.certificate, config.tls.key)
        trust = {}
        if config.listen["component"]:
            trust["component"] = ServerTrust(files, peers=config.tls.callbridge_certificates)
        if config.listen["client"] or config.listen["client_direct"]:
            trust["client"] = ServerTrust(files, alpn=b"xmpp-client")
        if config.listen.web:
            trust["web"] = ServerTrust(files, alpn=b"http/1.1")
        return trust

    def _makers(self) -> dict[str, Callable[[], XMLStream]]:
        component, client = self._trust.get("component"), self._trust.get("client")

        def link(trust: ServerTrust | None) -> XMLStream:
            return XMLStream(self._reactor, componentstates.begin(self._component, trust))

        def session(trust: ServerTrust | None, *, direct: bool = False) -> XMLStream:
            handler = clientstates.begin(self._client, trust, direct=direct)
            return XMLStream(self._reactor, handler)

        return {
            "component": lambda: link(component),
            "component_plain": lambda: link(None),
            "client": lambda: session(client),
            "client_direct": lambda: session(client, direct=True),
            "client_plain": lambda: session(None),
        }

    @property
    def door(self) -> DoorApplication:
        """What browsers are served."""
        return self.web.application

    @property
    def factories(self) -> list[StreamFactory]:
        """The streams of each listener."""
        return [*self.listeners.factories, *self.web.factories]

    def _judge_links(self) -> None:
        for link in self.links:
            link.judge_secret()

    def privilegedStartService(self) -> None:
        """Open the listeners before the process gives up its rights."""
        super().privilegedStartService()
        self.log.info("cms-xmpp {version} starts", version=cms.__version__)
        makers, limits = self._makers(), self.config.connection_limits()
        told_few(self.config.file, "most_connections", self.config.wanted_connections, limits.most)
        try:
            for kind in LISTENERS:
                factory = StreamFactory(makers[kind], limits, self._reactor.seconds, kind=kind)
                watched = kind in ("component", "component_plain")
                seconds = self.config.components.tcp_user_timeout if watched else 0.0
                self.listeners.open(self.config.listen[kind], factory, user_timeout=seconds)
            self.web.open()
        except StepError as error:
            give_up(error)

    def startService(self) -> None:
        """Log what is missing."""
        super().startService()
        self.record.start()
        self._watch.startService()
        tell_lacking(self.log, self.databases())
        for name in self.callbridges.doubled():
            self.log.warn(
                "{name} was added, and is in [callbridges] too, which counts; delete it there",
                name=name,
            )
        self._self_check.start()
        self._name_callbridges(first=True)
        if self.cluster is not None:
            self.cluster.start()

    def _name_callbridges(self, *, first: bool = False) -> None:
        """Tell of those that may register; a server of a cluster does not know all at first."""
        if self._local.groups is not None:
            known = [callbridge.address for callbridge in self.callbridges.known()]
            self._local.groups.known(known, only=first and self.cluster is None)

    def stopService(self) -> Deferred[Any]:
        """Close every stream properly, then stop."""
        super().stopService()
        self._watch.stopService()
        self._self_check.stop()
        self.drain.stop()
        closed = [self.listeners.close(), self.web.close()]
        streams = [s for factory in self.factories for s in factory.streams]
        links = [stream for stream in streams if stream.handler.content_namespace == ns.COMPONENT]
        for stream in streams:
            if stream not in links:
                stream.handler.shut_down()
        self.resumptions.shut_down()
        undelivered = self._client.undelivered
        undelivered.finish()
        self._relay.send_notices()  # of the ends of sessions, before the links end
        for link in links:
            link.handler.shut_down()
        self.link_resumptions.shut_down()
        undelivered.finish()
        left = [] if self.cluster is None else [self.cluster.stop()]
        if self.contacts is not None:
            left.append(self.contacts.stop())
        if self._local.groups is not None:
            self._local.groups.stop()
        ended = DeferredList([*closed, *left, *(stream.ended for stream in streams)])
        return ended.addCallback(lambda _: self.record.stop())

    def _changed(self, _: Link | None = None) -> None:
        call_all(self.log, self.on_change)

    def describe(self) -> str:
        """Which steps of the signal flow are done: the links that are up."""
        if self.drain.state == DRAINED:
            return "drained: it can be stopped"
        known = len(self.callbridges.registry.secrets)
        up = f"{len(self.links)} of {counted(known, 'component')} registered"
        names = ", ".join(sorted(link.component for link in self.links.authorities))
        if self.drain.state == DRAINING:
            clients = counted(len(self.sessions), "client")
            return f"it is drained: {clients} and {counted(len(self.links), 'component')}"
        if names:
            return f"{Step.ACTIVE}: {up}; log-ins are decided by {names}"
        return f"{Step.LINK_BEFORE_LOGIN}: listening, {up}; no Callbridge, so nobody can log in"

    def reload(self) -> None:
        """Read keys and certificates again; new connections use them."""
        try:
            for trust in self._trust.values():
                trust.reload()
        except StepError as error:
            self.log.error("not reloaded: {cause} Cure: {cure}", **error.fields)
        else:
            self.log.info("keys and certificates were read again")
            self._self_check.start()


class _Doors:
    """Implements L{Doors<cms.xmpp.drain.Doors>}."""

    def __init__(self, daemon: XmppService) -> None:
        self._daemon = daemon

    def shut(self) -> None:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        self._daemon.listeners.shut()
        self._daemon.web.shut()

    async def reopen(self) -> None:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        try:
            await self._daemon.listeners.reopen()
        finally:
            await self._daemon.web.reopen()

    def streams(self) -> Iterable[XMLStream]:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        for factory in self._daemon.factories:
            yield from factory.streams


def _claim(config: XmppConfig) -> None:
    """
    Take the state directories, after a look at the listeners without TLS.

    @raise ConfigurationError: others could reach one, or another process has the directory.
    """
    for kind in ("component_plain", "client_plain", "web_plain"):
        for description in config.listen[kind]:
            check_plain(f"listen.{kind}", description, config.file)
    if config.instance:
        claim_for(config.file, config.shared_dir)
    claim_for(config.file, config.state_dir)


def _callbridges(config: XmppConfig, now: Callable[[], float]) -> Callbridges:
    try:
        return Callbridges(config, now)
    except StoreUnusable as problem:
        raise unusable_for(config.file, problem.fault) from None


def make_daemon(file: Path, reactor: Any, instance: str = "") -> XmppService:
    """
    @param instance: See L{of_instance}.
    @raise ConfigurationError: the file, or what it names, is wrong.
    """
    return XmppService(of_instance(read_config(file), instance), reactor)
