"""
Which server of a directory is used, and how a connection to it comes about.

A server that fails is left alone for a while: first for a second, then for twice as long each
time (RFC 6120 has the like for XMPP), up to L{MOST_DELAY}.  At the end of it not a log-in
tries whether it is back, but this module by itself.  So a log-in pays for a dead server once
at most, and for one that takes binds and answers no search ever more seldom.  If all servers
are left alone, whoever asks is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any, Protocol

from attrs import define
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from cms import faults
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.connection import LdapConnection, said
from cms.callbridge.ldap.settings import LDAPS_PORT, LdapServer, LdapSettings
from cms.discovery.lookup import Finder, Target
from cms.discovery.race import Race
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.trust.browser import BrowserVerification
from cms.trust.files import PEMFiles

SERVICE = "_ldap._tcp"  # RFC 2782, and what Active Directory registers
FIRST_DELAY, MOST_DELAY = 1.0, 60.0
REFUSED_DELAY, MOST_REFUSED_DELAY = 15.0, 300.0  # an account must not be locked by our tries
FRESH = 300.0  # seconds for which the answer of DNS is used
# Of a server that is up; "start a server" would help nobody if all fail so.
_OWN_CURES = frozenset(
    {
        faults.LDAP_NO_STARTTLS.name,
        faults.LDAP_UNTRUSTED.name,
        faults.LDAP_CERTIFICATE_NAME.name,
        faults.LDAP_REFERRAL.name,
    }
)
LEAST_WAIT = 0.05  # seconds; with less, nothing is begun


def server_of(target: Target) -> LdapServer:
    """The server that a record names; what TLS it speaks, its port says."""
    tls_first = target.port == LDAPS_PORT
    return LdapServer(target.host, target.port, target.is_ip, tls_first, target.source)


async def bind_account(connection: LdapConnection, settings: LdapSettings, seconds: float) -> None:
    """
    Be our own account on a connection, if there is one; it is closed if that fails.

    @raise StepError: there is no answer, or the server refuses the account.  That it is busy, or
        not up yet, says nothing of the account.
    """
    if settings.bind_password is None:
        return
    try:
        bound = await connection.bind(settings.bind_name, settings.bind_password.value, seconds)
    except BaseException:
        connection.close()
        raise
    if bound.code or bound.policy is not None:
        connection.close()
        if bound.code in (*codes.OF_THE_SERVER, codes.SASL_BIND_IN_PROGRESS):
            problem = f"it says {said(bound.code, bound.text)}"
            raise faults.LDAP_BROKEN.error(peer=connection.peer, doing="bind", problem=problem)
        if bound.code == codes.REFERRAL:
            raise faults.LDAP_REFERRAL.error(peer=connection.peer, doing="bind")
        problem = f"its password policy says {bound.policy}"
        if bound.code:
            problem = said(bound.code, bound.text)
            words = codes.ad_words(bound.text)
            problem += f" ({words})" if words else ""
        raise faults.LDAP_ACCOUNT_REFUSED.error(
            peer=connection.peer, account=settings.bind_name, problem=problem
        )


class Connector(Protocol):
    """Makes connections; given, so that tests have another."""

    def connect(self, server: LdapServer, seconds: float) -> Deferred[LdapConnection]:
        """
        A connection with TLS on which nobody is bound.

        @return: Fails with L{StepError} within these seconds.
        """
        ...


class TcpConnector:
    """
    Connections over TCP.

    @param files: Trust; read anew with L{reload}.
    """

    def __init__(self, reactor: Any, finder: Finder, files: PEMFiles) -> None:
        self._reactor = reactor
        self._finder = finder
        self._files = files
        self._context: SSL.Context = files.context()

    def reload(self) -> None:
        """
        Read the trust file again.

        @raise ConfigurationError: the new one is wrong; the old stays.
        """
        self._context = self._files.context()

    def connect(self, server: LdapServer, seconds: float) -> Deferred[LdapConnection]:
        """See L{Connector.connect}."""
        clock, peer = self._reactor, str(server)
        connecting = Deferred.fromCoroutine(self._connect(server, clock.seconds() + seconds))

        def late(_: Any, __: float) -> Any:
            raise faults.LDAP_SILENT.error(peer=peer, doing="connect", seconds=f"{seconds:.2g}")

        return connecting.addTimeout(seconds, clock, late)

    async def _connect(self, server: LdapServer, deadline: float) -> LdapConnection:
        clock, peer = self._reactor, str(server)
        target = Target(server.host, server.port, server.is_ip, server.source)
        try:
            found = await self._finder.addresses(target)
            race = Race(
                clock,
                lambda: LdapConnection(clock, server),
                found.addresses,
                server.port,
                timeout=max(LEAST_WAIT, deadline - clock.seconds()),
            )
            connected, _ = await race.run()
        except StepError as error:  # its cure is for the way to an XMPP server
            problem = error.cause.rstrip(".")
            raise faults.LDAP_BROKEN.error(peer=peer, doing="connect", problem=problem) from None
        connection: LdapConnection = connected  # type: ignore[assignment]
        verification = BrowserVerification(
            self._context,
            host=server.host,
            host_is_ip=server.is_ip,
            peer=peer,
            trusted=self._files.trusted,
            other_name=faults.LDAP_CERTIFICATE_NAME,
        )
        left = max(LEAST_WAIT, deadline - clock.seconds())
        try:
            if server.tls_first:
                await connection.secure(verification, left)
            else:
                await connection.start_tls(verification, left)
        except BaseException:
            connection.close()
            raise
        return connection


@define(eq=False)
class ServerState:
    """
    What is known of a server.

    @ivar problem: Why it is left alone; C{None}: it is used.
    @ivar failures: In a row, without an answer to a search between them.
    @ivar probe: When it is tried again.
    """

    server: LdapServer
    problem: StepError | None = None
    failures: int = 0
    probe: IDelayedCall | None = None

    def stop(self) -> None:
        """Forget the next try."""
        if self.probe is not None and self.probe.active():
            self.probe.cancel()
        self.probe = None


class Servers:
    """
    The servers of one directory.

    @param random: For jitter.
    @param noted: Called when a server begins to fail, with why, or works again, with C{None}.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        settings: LdapSettings,
        connector: Connector,
        finder: Finder,
        *,
        random: Random,
        noted: Callable[[LdapServer, StepError | None], object] = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._connector = connector
        self._finder = finder
        self._random = random
        self._noted = noted
        self._states = {each: ServerState(each) for each in settings.servers}
        self._looked_up: float | None = None
        self._probes: set[Deferred[None]] = set()
        self._stopped = False

    @property
    def states(self) -> Sequence[ServerState]:
        """What is known, the preferred first."""
        return tuple(self._states.values())

    @property
    def problem(self) -> StepError | None:
        """Why nobody of the directory can log in now, if none of its servers can be used."""
        problems = [state.problem for state in self.states]
        return self._none_works(problems[-1]) if problems and all(problems) else None

    def works(self, besides: Collection[LdapServer]) -> bool:
        """Whether a server is used besides these."""
        return any(each.problem is None and each.server not in besides for each in self.states)

    async def connect(
        self, deadline: float, *, as_account: bool, besides: Collection[LdapServer] = ()
    ) -> LdapConnection:
        """
        A connection to the first server that works.

        @param deadline: On the clock.
        @param as_account: Whether our own account is bound.
        @param besides: Servers that are not wanted.
        @raise StepError: C{ldap-unreachable}, with the failure of each.
        """
        await self._look_up()
        problem: StepError | None = None
        for state in self.states:
            if state.server in besides:
                continue
            left = deadline - self._clock.seconds()
            if state.problem is not None or left < LEAST_WAIT:
                problem = problem or state.problem
                continue
            seconds = min(left, self._settings.timeout)
            try:
                return await self._open(state.server, seconds, as_account)
            except StepError as error:
                self.failed(state.server, error, seconds)
                problem = error
        raise self._none_works(problem)

    async def _open(self, server: LdapServer, seconds: float, as_account: bool) -> LdapConnection:
        until = self._clock.seconds() + seconds
        connection = await self._connector.connect(server, seconds)
        if as_account:
            left = max(LEAST_WAIT, until - self._clock.seconds())
            await bind_account(connection, self._settings, left)
        return connection

    def _none_works(self, problem: StepError | None) -> StepError:
        kinds = {s.problem.fault for s in self.states if s.problem is not None}
        if problem is not None and (
            problem.fault == faults.LDAP_ACCOUNT_REFUSED.name
            or (problem.fault in _OWN_CURES and kinds <= {problem.fault})
        ):
            return problem
        failed = [(str(s.server), s.problem.cause) for s in self.states if s.problem is not None]
        causes = [cause if name in cause else f"{name}: {cause}" for name, cause in failed]
        told = " ".join(causes) or (problem.cause if problem else "there was no time left.")
        return faults.LDAP_UNREACHABLE.error(directory=self._settings.name, problem=told)

    def failed(self, server: LdapServer, problem: StepError, seconds: float) -> None:
        """
        A server is left alone for a while.

        @param seconds: That it had; silence is no failure of a server that had little time.
        """
        state = self._states.get(server)
        if state is None or self._stopped:
            return
        if problem.fault == faults.LDAP_SILENT.name and seconds < self._settings.timeout:
            return
        state.failures += 1
        if state.problem is None:
            self.log.warn(
                "directory {directory}: {server} fails: {cause} Cure: {cure}",
                directory=self._settings.name,
                server=str(server),
                **problem.fields,
            )
            self._noted(server, problem)
        state.problem = problem
        refused = problem.fault == faults.LDAP_ACCOUNT_REFUSED.name
        first, most = (REFUSED_DELAY, MOST_REFUSED_DELAY) if refused else (FIRST_DELAY, MOST_DELAY)
        delay = min(most, first * 2.0 ** min(state.failures - 1, 16))
        state.stop()
        state.probe = self._clock.callLater(
            delay * (0.75 + 0.5 * self._random.random()), self._probe, state
        )

    def answered(self, server: LdapServer) -> None:
        """A server has answered a search."""
        state = self._states.get(server)
        if state is not None:
            state.failures = 0

    def _probe(self, state: ServerState) -> None:
        """Is it back?"""
        state.probe = None
        probe = ensureDeferred(self._try(state))
        self._probes.add(probe)
        probe.addBoth(self._probed, probe)

    def _probed(self, result: object, probe: Deferred[None]) -> None:
        self._probes.discard(probe)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self.log.failure("unexpected error", result)

    async def _try(self, state: ServerState) -> None:
        try:
            connection = await self._open(state.server, self._settings.timeout, as_account=True)
        except StepError as problem:
            self.failed(state.server, problem, self._settings.timeout)
            return
        connection.close()
        state.problem = None  # and not the failures: that it takes a bind is not all
        self.log.info(
            "directory {directory}: {server} works again",
            directory=self._settings.name,
            server=str(state.server),
        )
        self._noted(state.server, None)

    async def _look_up(self) -> None:
        """The servers that DNS names, if none are configured."""
        if self._settings.servers:
            return
        now = self._clock.seconds()
        if self._looked_up is not None and now - self._looked_up < FRESH:
            return
        try:
            found = await self._finder.targets(self._settings.domain, SERVICE)
        except StepError as problem:
            if not self._states:
                raise faults.LDAP_UNREACHABLE.error(
                    directory=self._settings.name, problem=problem.cause
                ) from None
            return  # those of before
        self._looked_up = now
        states = {}
        for target in found.targets:
            server = server_of(target)
            known = next((s for s in self.states if str(s.server) == str(server)), None)
            states[server] = known or ServerState(server)
            if known is not None:
                states[server].server = server
        for state in self.states:
            if state not in states.values():
                state.stop()
        self._states = states

    def stop(self) -> None:
        """No further tries."""
        self._stopped = True
        for state in self.states:
            state.stop()
        for probe in list(self._probes):
            probe.cancel()
