"""Steps 5 to 8 as a browser takes them, before it asks for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from attrs import field, frozen
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from cms import faults
from cms.audit.certificate import chain_evidence, chain_warnings
from cms.check.lane import Lane, Waiting
from cms.check.probes.port import client_hello, hears
from cms.check.website import Website
from cms.discovery.lookup import Finder
from cms.discovery.race import Race
from cms.discovery.resolver import DNS
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError
from cms.trust.browser import BrowserVerification
from cms.trust.connection import connection_of, explain_handshake, tls_evidence
from cms.trust.facts import CertificateFacts
from cms.trust.files import PEMFiles

# Why a browser that has only the system's CAs refuses what one with a further CA may trust.
_UNTRUSTED = {
    fault.name
    for fault in (
        faults.CERTIFICATE_UNTRUSTED,
        faults.CERTIFICATE_ROOT_UNTRUSTED,
        faults.CERTIFICATE_SELF_SIGNED,
    )
}
_REQUEST = b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """One handshake; C{over} fires with C{None}, or fails with why it failed."""

    transport: Any

    def __init__(self, verification: BrowserVerification | None) -> None:
        self.verification = verification
        self.over: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Start it."""
        self.transport.startTLS(self.verification)

    def handshakeCompleted(self) -> None:
        if not self.over.called:
            self.over.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.over.called:
            self.over.errback(reason)


@implementer(IStreamClientEndpoint)
@frozen
class _Secured:
    """An endpoint with TLS; Twisted's own takes the time of its writes from the global reactor."""

    plain: IStreamClientEndpoint
    verification: BrowserVerification
    clock: Any

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = TLSMemoryBIOFactory(self.verification, True, protocolFactory, self.clock)
        connecting: Deferred[Any] = self.plain.connect(factory)
        return connecting.addCallback(lambda secured: secured.wrappedProtocol)


@frozen
class Reached:
    """
    A server of pages that a browser accepts.

    @ivar address: What answered.
    @ivar verify: Makes the judge of each further connection; C{None} without TLS.
    """

    website: Website
    address: str
    verify: Callable[[], BrowserVerification] | None

    def endpoint(self, reactor: Any, timeout: float) -> IStreamClientEndpoint:
        """For one more connection."""
        kind = TCP6ClientEndpoint if ":" in self.address else TCP4ClientEndpoint
        plain: IStreamClientEndpoint = kind(
            reactor, self.address, self.website.port, timeout=timeout
        )
        return plain if self.verify is None else _Secured(plain, self.verify(), reactor)


@frozen
class BrowserProbe:
    """
    The way to one server of pages.

    @ivar own: CAs besides the system's that some browsers were given.
    @ivar stage: Seconds for each wait.
    """

    reactor: Any
    website: Website
    dns: DNS
    lane: Lane
    waiting: Waiting
    random: Random
    stage: float
    own: PEMFiles | None = None
    _system: PEMFiles = field(factory=lambda: PEMFiles("the system", None, None, None))

    @property
    def peer(self) -> str:
        """The server for messages, as C{openssl s_client -connect} takes it."""
        host = f"[{self.website.host}]" if ":" in self.website.host else self.website.host
        return f"{host}:{self.website.port}"

    @property
    def _request(self) -> bytes:
        return _REQUEST % self.website.authority.encode()

    async def run(self) -> Reached | None:
        """Connect, and report to the lane; C{None} if a browser comes no further."""
        url = self.website.url
        try:
            address = await self._connect()
            if self.website.is_secure:
                return await self._secure(address)
            return await self._plain(address)
        except StepError as error:
            self.lane.failed(error, url)
            return None

    async def _connect(self) -> str:
        website, target = self.website, self.website.target
        began = self._begin(Step.ADDRESS, target.host)
        found = await Finder(self.dns, self.random).addresses(target)
        self._pass(Step.ADDRESS, target.host, began, found.evidence)
        began = self._begin(Step.CONNECT, website.url)
        race = Race(self.reactor, Protocol, found.addresses, website.port, timeout=self.stage)
        try:
            protocol, address = await race.run()
        except StepError as error:
            raise faults.WEB_UNREACHABLE.error(
                url=website.url,
                problem=error.cause,
                port=website.port,
                host=target.host,
                fault=error.fault,
            ) from None
        transport: Any = protocol.transport
        transport.abortConnection()
        self._pass(Step.CONNECT, website.url, began, {"address": address})
        return address

    # without TLS

    async def _plain(self, address: str) -> Reached:
        website = self.website
        began = self._begin(Step.TLS, website.url)
        place = address, website.port
        heard = await hears(self.reactor, place, self._request, b"\r\n", self.stage)
        # A server with TLS may refuse plain HTTP in plain HTTP.
        if not heard.startswith(b"HTTP/") or b" 400" in heard.partition(b"\r\n")[0]:
            heard = await hears(self.reactor, place, client_hello(), b"\x16\x03", self.stage)
            if heard.startswith(b"\x16\x03"):
                raise faults.WEB_NOT_PLAIN.error(url=website.url)
        if not website.is_here:
            raise faults.WEB_INSECURE.error(url=website.url)
        note = "no TLS; browsers trust pages of their own computer without it"
        self._pass(Step.TLS, website.url, began, {}, note)
        return Reached(website, address, None)

    # with TLS

    async def _secure(self, address: str) -> Reached:
        began = self._begin(Step.TLS, self.website.url)
        context = self._system.context()
        tried = await self._shake(address, context, ())
        problem = tried.error
        private = False
        if problem is not None and problem.fault in _UNTRUSTED:
            problem = self._untrusted(problem)
            if self.own is not None:
                context = self.own.context()
                again = await self._shake(address, context, self.own.trusted)
                if again.error is None or again.error.fault not in _UNTRUSTED:
                    tried, problem, private = again, again.error, True
        if problem is not None:
            await self._fail(problem, tried, address, began)
        self._pass(Step.TLS, self.website.url, began, tried.evidence)
        self._warn(tried.chain, tried.path, private=private)
        names = ", ".join(CertificateFacts.of(tried.chain[0]).names)
        self.lane.passed(Step.IDENTITY, self.website.url, 0.0, {"names": names})
        trusted = self.own.trusted if private and self.own is not None else ()
        return Reached(self.website, address, lambda: self._verification(context, trusted))

    def _verification(
        self, context: SSL.Context, trusted: Sequence[x509.Certificate]
    ) -> BrowserVerification:
        website = self.website
        return BrowserVerification(
            context,
            host=website.host,
            host_is_ip=website.host_is_ip,
            peer=self.peer,
            other_name=faults.WEB_CERTIFICATE_NAME,
            trusted=trusted,
        )

    async def _shake(
        self, address: str, context: SSL.Context, trusted: Sequence[x509.Certificate]
    ) -> _Tried:
        verification = self._verification(context, trusted)
        race = Race(
            self.reactor,
            lambda: _Handshake(verification),
            [address],
            self.website.port,
            timeout=self.stage,
        )
        protocol, _ = await race.run()
        assert isinstance(protocol, _Handshake)  # noqa: S101 - made above
        timer = self.reactor.callLater(self.stage, protocol.transport.abortConnection)
        protocol.begin()
        error: StepError | None = None
        agreed: dict[str, str] = {}
        try:
            await protocol.over
            seen = tls_evidence(connection_of(protocol.transport))
            agreed = {key: seen[key] for key in ("protocol", "cipher")}
        except Exception as problem:  # noqa: BLE001 - it is told, as the step's failure
            verdict = verification.verdict
            error = explain_handshake(
                Failure(problem), peer=self.peer, presented=False, verdict=verdict
            )
            if not timer.active():
                error = faults.TLS_SILENT.error(peer=self.peer, seconds=f"{self.stage:g}")
        if timer.active():
            timer.cancel()
        protocol.transport.abortConnection()
        verdict = verification.verdict
        return _Tried(error, verdict.chain, verdict.path, agreed or verdict.agreed)

    def _untrusted(self, problem: StepError) -> StepError:
        return faults.WEB_CERTIFICATE_UNTRUSTED.error(
            peer=self.peer, problem=problem.cause, host=self.website.host, fault=problem.fault
        )

    async def _fail(self, problem: StepError, tried: _Tried, address: str, began: float) -> None:
        """
        @raise StepError: always.
        """
        if problem.step is Step.IDENTITY:
            self._pass(Step.TLS, self.website.url, began, tried.evidence)
        elif not tried.chain:
            place = address, self.website.port
            heard = await hears(self.reactor, place, self._request, b"\r\n", self.stage)
            if heard.startswith(b"HTTP/"):
                raise faults.WEB_NOT_TLS.error(url=self.website.url, port=self.website.port)
        problem.evidence.update(chain_evidence(tried.chain))
        raise problem

    def _warn(
        self, chain: Sequence[x509.Certificate], path: Sequence[x509.Certificate], *, private: bool
    ) -> None:
        url = self.website.url
        now = datetime.fromtimestamp(wall_clock(self.reactor)(), UTC)
        for warning in chain_warnings(chain, path, self.peer, now):
            self.lane.warned(warning, url)
        if private:
            issuer = CertificateFacts.of(chain[0]).issuer
            warning = faults.WEB_CERTIFICATE_PRIVATE.error(
                peer=self.peer, issuer=issuer, host=self.website.host
            )
            self.lane.warned(warning, url)

    # telling

    def _begin(self, step: Step, about: str) -> float:
        self.waiting(step, about, self.stage)
        return float(self.reactor.seconds())

    def _pass(
        self, step: Step, about: str, began: float, evidence: dict[str, str], note: str = ""
    ) -> None:
        self.lane.passed(step, about, self.reactor.seconds() - began, evidence, note)


@frozen
class _Tried:
    """One handshake."""

    error: StepError | None
    chain: Sequence[x509.Certificate]
    path: Sequence[x509.Certificate]
    agreed: dict[str, str]

    @property
    def evidence(self) -> dict[str, str]:
        return {**self.agreed, **chain_evidence(self.chain)}
