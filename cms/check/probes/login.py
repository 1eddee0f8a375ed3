"""Steps 1 and 12 from outside: a client finds the server, logs in, and says what happened."""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import field, frozen
from twisted.internet.protocol import Protocol
from twisted.names import dns

from cms import faults
from cms.audit.clock import judge_clock
from cms.check.bounds import Waits, within
from cms.check.lane import Lane, Waiting
from cms.check.probes.clock import PATIENCE, ask_time
from cms.check.subject import Subject
from cms.client.login import Account, LoginFailed, LoginStream
from cms.discovery.address import ascii_domain
from cms.discovery.lookup import (
    CLIENT_PORT,
    CLIENT_SERVICE,
    MOST_TARGETS,
    Finder,
    Target,
    order_targets,
    srv_targets,
)
from cms.discovery.race import Race
from cms.discovery.resolver import DNS, NoSuchName
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError, printable
from cms.trust.connection import connection_of, tls_evidence

STAGES = 6  # how many waits of a stage's length a log-in has, besides the decision
DECISION = 4.0  # stages that the Callbridge has for each answer


@frozen
class Login:
    """The account that logs in."""

    user: str
    domain: str
    password: str = field(repr=False)

    @property
    def address(self) -> str:
        """As people write it."""
        return f"{self.user}@{self.domain}"


class LoginProbe:
    """
    One log-in.

    @param lane: Where it reports.
    """

    def __init__(
        self,
        reactor: Any,
        subject: Subject,
        resolver: DNS,
        login: Login,
        *,
        lane: Lane,
        waiting: Waiting,
        random: Random,
    ) -> None:
        self._reactor = reactor
        self._subject = subject
        self._dns = resolver
        self._finder = Finder(resolver, random)
        self._random = random
        self._login = login
        self._lane = lane
        self._waiting = Waits(waiting)
        self._peer = login.domain
        self._chosen: LoginStream | None = None

    @staticmethod
    def bound_of(subject: Subject) -> float:
        """Seconds within which it ends."""
        return (STAGES + 2 * DECISION) * subject.timing.stage

    async def run(self) -> None:
        """Log in and out again, and report what happens to the lane."""
        bound = self.bound_of(self._subject)
        self._waiting(Step.LOGIN, self._login.address, bound)
        error = await within(self._reactor, bound, self._try(), self._waiting)
        if error is not None:
            if self._chosen is not None:
                self._chosen.session.addErrback(lambda failure: None)
                self._chosen.abort()
            self._lane.failed(error, self._login.address, bound)

    async def _try(self) -> None:
        began = self._reactor.seconds()
        try:
            evidence = await self._log_in()
        except StepError as error:
            told = error
        except LoginFailed as refusal:
            told = self._explain(refusal)
        else:
            self._lane.passed(Step.LOGIN, self._login.address, self._since(began), evidence)
            return
        self._lane.failed(told, self._login.address, self._since(began))

    def _since(self, began: float) -> float:
        return float(self._reactor.seconds() - began)

    # finding it, as RFC 6120 3.2 has it

    async def _targets(self) -> list[Target]:
        domain = ascii_domain(self._login.domain)
        fallback = [Target(domain, CLIENT_PORT, is_ip=False, source="the domain itself")]
        try:
            name = f"{CLIENT_SERVICE}.{domain}"
            answer = await self._dns.ask(name, dns.SRV, Step.SRV)
        except NoSuchName:
            return self._configured() or fallback
        except StepError:
            if self._configured():
                return self._configured()
            raise
        found = [target for target in srv_targets(answer) if target.host]
        return order_targets(found, self._random)[:MOST_TARGETS] or self._configured() or fallback

    def _configured(self) -> list[Target]:
        server = self._subject.link.server
        if server is None:
            return []
        return [Target(server.host, CLIENT_PORT, is_ip=server.is_ip, source="configured")]

    async def _connect(self) -> LoginStream:
        """
        @raise StepError: no target can be connected to.
        """
        problem: StepError | None = None
        try:
            for target in await self._targets():
                try:
                    return await self._connect_to(target)
                except StepError as error:
                    problem, self._peer = problem or error, str(target)
        except StepError as error:
            problem = error
        assert problem is not None  # noqa: S101 - there is a target at least
        port = problem.evidence.get("port", str(CLIENT_PORT))
        raise faults.LOGIN_UNREACHABLE.error(
            problem=problem.cause, port=port, fault=problem.fault
        ) from None

    async def _connect_to(self, target: Target) -> LoginStream:
        stage = self._subject.timing.stage
        found = await self._finder.addresses(target)
        account = Account(self._login.user, ascii_domain(self._login.domain), self._login.password)
        context = self._subject.files.context()

        def make() -> Protocol:
            stream = LoginStream(
                self._reactor, account, context, stage, decision=DECISION * stage, peer=str(target)
            )
            stream.ended.addCallback(self._forget, stream)
            return stream

        race = Race(self._reactor, make, found.addresses, target.port, timeout=stage)
        stream, _ = await race.run()
        assert isinstance(stream, LoginStream)  # noqa: S101 - from make
        self._peer = str(target)
        self._chosen = stream
        return stream

    def _forget(self, _: None, stream: LoginStream) -> None:
        """Ignore the end of a connection that lost the race."""
        if stream is not self._chosen:
            stream.session.addErrback(lambda failure: None)

    # logging in

    async def _log_in(self) -> dict[str, str]:
        stream = await self._connect()
        try:
            await stream.session
        except StepError as refused:
            error = faults.LOGIN_UNTRUSTED.error(
                problem=refused.cause, mend=refused.cure, fault=refused.fault
            )
            error.mend = refused.mend
            raise error from None
        tls = tls_evidence(connection_of(stream.transport))
        evidence: dict[str, str] = {
            "server": self._peer,
            "address": stream.jid,
            "mechanism": stream.mechanism,
            **{key: tls[key] for key in ("protocol", "cipher", "names") if key in tls},
        }
        told = await ask_time(
            stream.requests, "", self._login.domain, min(PATIENCE, self._subject.timing.stage)
        )
        if told is not None:
            evidence["server_time"] = told.isoformat()
        stream.close()
        await stream.ended
        if told is not None:
            warning = judge_clock(told, wall_clock(self._reactor)(), self._peer)
            if warning is not None:
                self._lane.warned(warning, self._peer)
        return evidence

    def _explain(self, refusal: LoginFailed) -> StepError:
        stage = self._subject.timing.stage
        return explain_refusal(
            refusal,
            peer=self._peer,
            user=self._login.address,
            domain=self._login.domain,
            patience=self._chosen.patience if self._chosen is not None else stage,
        )


def explain_refusal(
    refusal: LoginFailed, *, peer: str, user: str, domain: str, patience: float
) -> StepError:
    """
    The catalogue's entry for a refusal: is the link down, or did the Callbridge refuse?

    @param patience: How many seconds it waited, if it waited in vain.
    """
    text = printable(refusal.text)
    seen = {
        "peer": peer,
        "user": user,
        "domain": domain,
        "condition": printable(refusal.condition),
        "text": text or "no text",
    }
    return _undecided(refusal, text, seen) or _decided(refusal, text, seen, patience)


def _undecided(refusal: LoginFailed, text: str, seen: dict[str, str]) -> StepError | None:
    """The failure if the log-in was not decided; else C{None}."""
    if refusal.fault == faults.NO_CALLBRIDGE.name:
        return faults.NO_CALLBRIDGE.error(**seen)
    if refusal.fault == faults.NO_AUTHORITY.name:
        mend = "The status page of that server, or cms status on its host, says more."
        return faults.NO_AUTHORITY.error(problem=text, mend=mend, **seen)
    if refusal.fault == faults.LOGIN_SLOWED.name:
        return faults.LOGIN_SLOWED.error(**seen)
    if refusal.condition == "temporary-auth-failure" or refusal.fault in faults.CATALOGUE:
        return faults.LOGIN_TEMPORARY.error(**seen)
    return None


def _decided(refusal: LoginFailed, text: str, seen: dict[str, str], patience: float) -> StepError:
    condition = seen["condition"]
    if condition in ("account-disabled", "credentials-expired"):
        return faults.LOGIN_DISABLED.error(**seen)
    if condition in ("not-authorized", "invalid-authzid", "bad-protocol", "not-allowed"):
        return faults.LOGIN_DENIED.error(**seen)
    return _explain_other(refusal, text, seen, patience)


def _explain_other(
    refusal: LoginFailed, text: str, seen: dict[str, str], patience: float
) -> StepError:
    condition = seen["condition"]
    if condition in ("no-mechanism", "invalid-mechanism", "mechanism-too-weak"):
        return faults.LOGIN_NO_MECHANISM.error(offered=text or condition, **seen)
    if condition == "no-starttls":
        return faults.LOGIN_NO_STARTTLS.error(**seen)
    if condition in ("host-unknown", "host-gone"):
        return faults.LOGIN_WRONG_DOMAIN.error(**seen)
    if condition == "timeout":
        waited = f"{patience:g}"
        return faults.LOGIN_TIMEOUT.error(seconds=waited, waiting=refusal.waiting, **seen)
    problem = f"{condition}: {text}" if text else condition
    return faults.LOGIN_BROKEN.error(problem=problem, **seen)
