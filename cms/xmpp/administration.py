"""What the API and the pages of an XMPP server show and change."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import ceil
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from cms import faults
from cms.admin.busy import answered
from cms.admin.contactpages import ContactPages
from cms.admin.contactsapi import ContactOperations
from cms.admin.drainpages import DrainPages
from cms.admin.interfaces import Facts, Health, Recorded, moment
from cms.admin.lacking import lacking_facts
from cms.admin.lockpages import LockPages
from cms.admin.locksapi import Counted, LockOperations, LockTable
from cms.admin.pages import MorePages
from cms.admin.recordapi import record_operation
from cms.admin.recordpages import RecordPages
from cms.admin.service import AdminService, AdminSettings
from cms.admin.xmppapi import operations_of_xmpp_server
from cms.admin.xmpppages import XmppPages
from cms.configuration.tomlfile import Secret
from cms.process import openfiles
from cms.process.clocks import wall_clock
from cms.process.threads import SlowWork, shielded
from cms.protection.guessing import Guesses
from cms.signalflow import Step, StepError
from cms.state.database import StoreError
from cms.web.refusal import Refused, wrong
from cms.xmpp.callbridges import Callbridges, KnownCallbridge
from cms.xmpp.callbridgestore import CallbridgeExists, check_secret, new_secret
from cms.xmpp.clientadministration import ClientAdministration
from cms.xmpp.contacts.administration import ContactAdministration
from cms.xmpp.daemon import XmppService
from cms.xmpp.drain import OPEN, NowhereToGo
from cms.xmpp.registry import component_address

_T = TypeVar("_T")
MOST_AWAY = 10  # sessions without a connection that the status names
AGREED_SECONDS = 2.0  # at most, that a change waits until the other servers can hear of it


class XmppAdministration:
    """Implements L{cms.admin.interfaces.XmppServer}."""

    role = "xmpp"

    def __init__(self, daemon: XmppService, reactor: Any) -> None:
        self._daemon = daemon
        self._reactor = reactor
        self._work = SlowWork(reactor, at_once=1, most_waiting=50)
        self.clients = ClientAdministration(
            daemon.config, daemon.sessions, daemon.session_service, reactor
        )

    # status

    def health(self) -> Health:
        """
        See L{cms.admin.interfaces.Daemon.health}: listening, in its cluster if it is to be in
        one, and with a Callbridge that reads what it is asked.
        """
        cluster, config = self._daemon.cluster, self._daemon.config
        if self._daemon.drain.state != OPEN:
            fault = faults.SERVER_DRAINING.error(node=config.hostname)
            return Health(False, fault.step, fault)
        if cluster is not None and cluster.fault is not None:
            return Health(False, cluster.fault.step, cluster.fault)
        links = self._daemon.links.authorities if self._daemon.running else []
        if any(not link.is_stalled for link in links):
            return Health(True, Step.ACTIVE)
        if links:
            fault = faults.LINK_STALLED.error(peer=links[0].component)
            return Health(False, Step.ACTIVE, fault)
        return Health(False, Step.LINK_BEFORE_LOGIN, self._daemon.links.nobody())

    def status(self) -> Facts:
        """See L{cms.admin.interfaces.Daemon.status}."""
        health, failed = self.health(), None
        for recorded in self.attempts():
            if recorded.attempt.failure is not None:
                failed = recorded.attempt.failure
                break
        links = [{"id": id_, **facts} for id_, facts in islice(self.callbridges(), 100)]
        return {
            "domain": self._daemon.config.domain,
            "hostname": self._daemon.config.hostname,
            "step": int(health.step),
            "stepName": health.step.title,
            "callBridgesKnown": len(self._callbridges.registry.secrets),
            "callBridgesActive": len(self._daemon.links),
            "callBridgesDeciding": len(self._daemon.links.authorities),
            "clients": len(self._daemon.sessions),
            "clientsAway": self._daemon.resumptions.away,
            "clientsAwayBytes": self._daemon.resumptions.away_bytes,
            "clientsAwayLongest": [
                {"jid": session.jid.full(), **self.clients.away_facts(session)}
                for session in self._daemon.resumptions.away_longest(MOST_AWAY)
            ],
            "openFiles": openfiles.in_use(),
            "mostFiles": openfiles.limit(),
            "wantedPlaces": self._daemon.config.wanted_connections,
            "places": self._daemon.config.connection_limits().most,
            "links": links,
            "drain": self.drain_facts(),
            **self._web(),
            **lacking_facts(self._daemon.databases()),
            **({} if self._daemon.cluster is None else {"cluster": self._daemon.cluster.status()}),
            "lastFailure": failed.as_dict() if failed is not None else None,
        }

    def _web(self) -> Facts:
        listen, door = self._daemon.config.listen, self._daemon.door
        if not listen.web and not listen.web_plain:
            return {}
        guests = {name: count for name, count in self._daemon.admissions.figures.items() if count}
        refused = {name: count for name, count in door.refused.items() if count}
        return {"web": {"open": door.settings.enabled, "guests": guests, "refused": refused}}

    def attempts(self) -> Sequence[Recorded]:
        """See L{cms.admin.interfaces.Daemon.attempts}."""
        flow = self._daemon.flow
        recorded = [Recorded("link", attempt) for attempt in flow.registrations()]
        recorded += [Recorded("login", attempt) for attempt in flow.logins()]
        return sorted(recorded, key=lambda r: r.attempt.number, reverse=True)

    # draining

    def drain_facts(self) -> Facts:
        """See L{cms.admin.interfaces.XmppServer.drain_facts}."""
        drain = self._daemon.drain
        return {
            "state": drain.state,
            "secondsLeft": ceil(drain.seconds_left),
            "clients": len(self._daemon.sessions),
            "components": len(self._daemon.links),
            "given": drain.given,
            "ended": drain.ended,
            "inCluster": self._daemon.cluster is not None,
            "takers": drain.takers,
        }

    def begin_drain(self, seconds: float, *, forced: bool) -> None:
        """See L{cms.admin.interfaces.XmppServer.begin_drain}."""
        try:
            self._daemon.drain.begin(seconds, forced=forced)
        except NowhereToGo:
            cause = "no other server of the cluster is there that is not drained itself"
            cure = "Start another one first, or use --force: then all sessions end."
            raise Refused("nowhereToGo", cause, cure) from None

    async def cancel_drain(self) -> None:
        """See L{cms.admin.interfaces.XmppServer.cancel_drain}."""
        try:
            await shielded(Deferred.fromCoroutine(self._daemon.drain.cancel()))
        except StepError as error:
            raise Refused("notOpened", error.cause, error.cure) from None

    # Callbridges

    @property
    def _callbridges(self) -> Callbridges:
        return self._daemon.callbridges

    def callbridges(self) -> Iterator[tuple[str, Facts]]:
        """See L{cms.admin.interfaces.XmppServer.callbridges}."""
        for known in self._callbridges.known():
            yield _id(known.address), self._callbridge_facts(known)

    def _callbridge_facts(self, known: KnownCallbridge) -> Facts:
        link = self._daemon.links.get(known.address)
        facts: dict[str, Any] = {
            "name": known.name,
            "component": known.address,
            "source": known.source,
            "created": moment(known.created),
            "secrets": len(self._callbridges.registry.secrets.get(known.address, ())),
            "state": "not connected" if link is None else "away" if link.is_away else "active",
        }
        if link is not None:
            facts.update(
                address=link.peer_text,
                since=moment(link.since),
                mechanisms=list(link.mechanisms),
                problem=link.no_authority.cause if link.no_authority is not None else None,
                certificate=dict(link.evidence),
                certificateExpires=moment(link.certificate_expires),
                linkId=link.link_id,
                bytesReceived=link.bytes_received,
                bytesSent=link.bytes_sent,
                stanzasReceived=link.stanzas_received,
                stanzasSent=link.stanzas_sent,
            )
        return facts

    def callbridge(self, id_: str) -> tuple[str, Facts]:
        """See L{cms.admin.interfaces.XmppServer.callbridge}."""
        known = self._find(id_)
        return _id(known.address), self._callbridge_facts(known)

    def _find(self, id_: str) -> KnownCallbridge:
        for known in self._callbridges.known():
            if id_.lower() in (_id(known.address), known.name, known.address):
                return known
        cure = "GET callBridges lists them."
        raise Refused("callBridgeDoesNotExist", "there is no such Callbridge", cure)

    def _changeable(self, id_: str) -> KnownCallbridge:
        known = self._find(id_)
        if known.source == "file":
            cause = f"{known.name} is in [callbridges] of {self._daemon.config.file.name}"
            raise Refused("callBridgeIsInFile", cause, "Change it there, and restart.")
        return known

    async def add_callbridge(self, name: str, secret: str | None) -> tuple[str, str | None]:
        """See L{cms.admin.interfaces.XmppServer.add_callbridge}."""
        try:
            usual = self._callbridges.name(name)
        except StoreError as problem:
            raise wrong("name", str(problem), "Write a name such as cb1.") from None
        given = _secret(secret)
        if any(known.name == usual for known in self._callbridges.known()):
            raise _exists(usual)
        await self._change(lambda: self._callbridges.store.add(usual, given))
        return self.callbridge(usual)[0], given.value if secret is None else None

    async def delete_callbridge(self, id_: str) -> None:
        """See L{cms.admin.interfaces.XmppServer.delete_callbridge}."""
        name = self._changeable(id_).name
        await self._change(lambda: self._callbridges.store.delete(name))

    async def rotate_secret(self, id_: str, secret: str | None, overlap: float) -> str | None:
        """See L{cms.admin.interfaces.XmppServer.rotate_secret}."""
        name, given = self._changeable(id_).name, _secret(secret)
        await self._change(lambda: self._callbridges.store.rotate(name, given, overlap))
        return given.value if secret is None else None

    async def _change(self, write: Callable[[], None]) -> None:
        """Write in a thread, then use it, even if the client has disconnected."""
        await shielded(Deferred.fromCoroutine(self._write_and_use(write)))

    async def _write_and_use(self, write: Callable[[], None]) -> None:
        try:
            await answered(self._work.run(write))
            self._callbridges.refresh()
            if self._daemon.cluster is not None:
                await self._daemon.cluster.agreed(AGREED_SECONDS)
        except CallbridgeExists as problem:
            raise _exists(str(problem)) from None


def _id(address: str) -> str:
    """A UUID: existing API clients take the last 36 characters of a C{Location}."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"xmpp:{address}"))


def _secret(given: str | None) -> Secret:
    try:
        return new_secret() if given is None else check_secret(given)
    except StoreError as problem:
        raise wrong("secret", str(problem), "Give another one, or none to have one made.") from None


def _exists(name: str) -> Refused:
    cause = f"there is a Callbridge {name} already"
    return Refused("callBridgeAlreadyExists", cause, "PUT changes its secret.")


def counted_component(text: str, domain: str) -> str:
    """A component as people write it, as it is counted."""
    try:
        return component_address(text, domain)
    except ValueError:
        return text


def make_administration(daemon: XmppService, reactor: Any) -> AdminService:
    """
    The administration of an XMPP server.

    @raise ConfigurationError: a listener of the configuration cannot be opened.
    """
    config = daemon.config
    settings = AdminSettings(
        file=config.file,
        state_dir=config.state_dir,
        accounts_dir=config.shared_dir,
        certificate=config.tls.certificate,
        key=config.tls.key,
        api=config.listen.api,
        api_plain=config.listen.api_plain,
        most=config.most_api_connections,
        proxies=config.listen.proxies,
        forwarded_for=config.listen.forwarded_for,
    )
    role = XmppAdministration(daemon, reactor)
    now = wall_clock(reactor)
    guesses = Guesses(reactor)

    locks = LockTable(
        {
            "callbridge": Counted(
                lambda: daemon.guesses, lambda name: counted_component(name, config.domain)
            ),
            "api": Counted(lambda: guesses),
        }
    )
    contacts = ContactAdministration(
        None if daemon.contacts is None else daemon.contacts.changes.store,
        daemon.forgetting,
        *(config.domain, reactor),
    )
    more: list[MorePages] = [
        *(RecordPages(daemon.record, now), LockPages(locks), ContactPages(contacts)),
        DrainPages(role),
    ]
    operations = operations_of_xmpp_server(
        *(role, reactor, daemon.metrics),
        more=[
            record_operation(daemon.record, now),
            *LockOperations(locks).operations(),
            *ContactOperations(contacts).operations(),
        ],
    )
    pages = XmppPages(role, reactor, more=more)
    return AdminService(reactor, settings, operations, prepare=pages.add_to, guesses=guesses)
