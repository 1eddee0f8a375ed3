"""
To Redis: where it is now, TLS, log-in, and whether it can be used.

Every problem ends as a fault of the catalogue, in L{Refused}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from zope.interface import implementer

from cms import faults
from cms.cluster.engine import EngineAway, Refused
from cms.cluster.resp import Complaint, RedisConnection
from cms.signalflow import StepError
from cms.trust.files import PEMFiles
from cms.trust.verdict import Verdict

LEAST_VERSION = (6, 2)
SECONDS = 2.0  # for an answer, and for a connection
_HARMLESS = "noeviction"
_UNWRITABLE = {"READONLY", "MASTERDOWN", "LOADING"}


@frozen
class EngineSettings:
    """
    Where the engine is, and as whom it is asked.

    @ivar file: The configuration file, for messages.
    @ivar shown: What it is called in messages.
    @ivar hosts: Host and port; of Sentinels, all of them.
    @ivar master: The name by which Sentinels know it; empty: it is asked directly.
    @ivar trust: PEM; C{None}: the system's CAs.
    """

    file: str
    shown: str
    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    tls: bool
    user: str
    password: str = field(repr=False)
    trust: Path | None


@implementer(IOpenSSLClientConnectionCreator)
class EngineVerification:
    """Judges the certificate of the engine, which must name the host that was connected to."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host
        self.verdict = Verdict(host, self._check)

    def _check(self, certificate: x509.Certificate) -> None:
        wanted: ServiceID
        try:
            ip_address(self._host)
        except ValueError:
            wanted = DNS_ID(self._host)
        else:
            wanted = IPAddress_ID(self._host)
        try:
            verify_service_identity(extract_patterns(certificate), [wanted], [])
        except (VerificationError, CertificateError) as problem:
            error = f"it does not name {self._host}"
            raise faults.ENGINE_TLS.error(engine=self._host, problem=error) from problem

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """From Twisted."""
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_PEER, self.verdict.callback)
        if not self._host[-1:].isdigit() and ":" not in self._host:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection


class Connector:
    """Makes connections to the engine that can be used."""

    def __init__(self, reactor: Any, settings: EngineSettings) -> None:
        self._reactor = reactor
        self.settings = settings
        self.shown = settings.shown
        self._first = 0
        self._context: SSL.Context | None = None
        if settings.tls:
            self._context = PEMFiles(settings.file, settings.trust, None, None).context()

    async def find(self) -> tuple[str, int]:
        """
        Host and port of the engine, or of the master that a Sentinel names.

        @raise Refused: it cannot be found.
        """
        settings = self.settings
        if not settings.master:
            return settings.hosts[0]
        problem = ""
        # The next time another one is asked first: one that is cut off from the others goes on to
        # name who was the master before.
        first, self._first = self._first, (self._first + 1) % len(settings.hosts)
        for host, port in settings.hosts[first:] + settings.hosts[:first]:
            try:
                sentinel = await self.connect(host, port, tls=False)
            except Refused as refused:
                problem = refused.error.evidence["problem"]
                continue
            try:
                answer = await sentinel.ask(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.master, seconds=SECONDS
                )
                if answer:
                    return answer[0].decode(), int(answer[1])
                problem = f"the Sentinel at {host}:{port} knows no master {settings.master}"
            except (EngineAway, Complaint, ValueError) as trouble:
                problem = f"the Sentinel at {host}:{port}: {trouble}"
            finally:
                sentinel.abort("done")
        raise self._away(problem)

    async def connect(self, host: str, port: int, *, tls: bool) -> RedisConnection:
        """
        A connection that is not logged in.

        @raise Refused: nobody is there, or its certificate is not accepted.
        """
        endpoint: Any = HostnameEndpoint(self._reactor, host, port, timeout=SECONDS)
        verification = None
        if tls and self._context is not None:
            verification = EngineVerification(self._context, host)
            endpoint = wrapClientTLS(verification, endpoint)
        try:
            factory = Factory.forProtocol(lambda: RedisConnection(self._reactor))
            factory.noisy = False
            connection: RedisConnection = await endpoint.connect(factory)
        except (ConnectError, OSError) as problem:
            shown = str(problem).rstrip(".")
            raise self._away(f"{host}:{port}: {shown}") from None
        except DNSLookupError:
            raise self._away(f"the name {host} has no address") from None
        connection.verdict = None if verification is None else verification.verdict
        return connection

    def _away(self, problem: str) -> Refused:
        return Refused(faults.ENGINE_UNREACHABLE.error(engine=self.shown, problem=problem))

    async def open(self, host: str, port: int, *, judged: bool) -> RedisConnection:
        """
        A connection that is logged in.

        @param judged: Whether to look at what is there.
        @raise Refused: it cannot be used.
        """
        settings = self.settings
        connection = await self.connect(host, port, tls=settings.tls)
        try:
            if settings.password:
                who = (settings.user,) if settings.user else ()
                await connection.ask("AUTH", *who, settings.password, seconds=SECONDS)
            if settings.database:
                await connection.ask("SELECT", settings.database, seconds=SECONDS)
            if judged:
                self._judge(await facts_of(connection))
        except Complaint as complaint:
            connection.abort("refused")
            raise Refused(self.explain(complaint)) from None
        except EngineAway as away:
            verdict = connection.verdict
            if verdict is not None and verdict.error is not None:
                problem = verdict.error.evidence.get("problem") or verdict.error.cause
                error = faults.ENGINE_TLS.error(engine=self.shown, problem=problem)
                raise Refused(error) from None
            raise self._away(f"{host}:{port}: {away}") from None
        except Refused:
            connection.abort("refused")
            raise
        return connection

    def _judge(self, info: Mapping[str, str]) -> None:
        version = info.get("redis_version", "0")
        if _numbers(version) < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise Refused(faults.ENGINE_OLD.error(engine=self.shown, version=version, least=least))
        policy = info.get("maxmemory_policy", _HARMLESS)
        if policy != _HARMLESS and info.get("maxmemory", "0") != "0":
            raise Refused(faults.ENGINE_EVICTS.error(engine=self.shown, policy=policy))
        if info.get("role", "master") != "master":
            problem = "it is a replica"
            raise Refused(faults.ENGINE_NOT_MASTER.error(engine=self.shown, problem=problem))

    def explain(self, complaint: Complaint) -> StepError:
        """The fault that a complaint of Redis stands for."""
        text, codes = str(complaint).rstrip("."), complaint.codes
        if "OOM" in codes:
            return faults.ENGINE_FULL.error(engine=self.shown)
        if codes & _UNWRITABLE:
            return faults.ENGINE_NOT_MASTER.error(engine=self.shown, problem=text)
        if "MISCONF" in codes:
            return faults.ENGINE_UNSAVED.error(engine=self.shown, problem=text)
        if "NOREPLICAS" in codes:
            return faults.ENGINE_ALONE.error(engine=self.shown, problem=text)
        if "WRONGTYPE" in codes:
            return faults.ENGINE_OF_OTHERS.error(engine=self.shown, problem=text)
        return faults.ENGINE_REFUSED.error(engine=self.shown, problem=text)


async def facts_of(connection: RedisConnection) -> Mapping[str, str]:
    """
    What C{INFO} says.

    @raise Complaint: this user may not ask.
    """
    answer = await connection.ask("INFO", seconds=SECONDS)
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {key: value.strip() for key, _, value in pairs}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
