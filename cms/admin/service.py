"""The administration of one daemon: its operations, its accounts and its listeners."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import field, frozen
from klein import Klein
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.web.iweb import IRequest

from cms import faults
from cms.admin.accounts import Accounts
from cms.admin.basicauth import BasicGate
from cms.admin.operations import Operation
from cms.admin.routes import ApiApplication, Gate, OpenGate
from cms.control.place import LOCK, SOCKET, UNTIL, short_path
from cms.process import openfiles
from cms.process.endpoints import close_ports
from cms.process.endpointstrings import BACKLOG, check_plain
from cms.process.logs import Logger
from cms.process.proxy import Network
from cms.process.startup import give_up
from cms.process.threads import SlowWork
from cms.protection.connections import MOST_API_CONNECTIONS, ConnectionLimiter, Limits
from cms.protection.guessing import Guesses
from cms.signalflow import StepError
from cms.state.folder import claim, open_private, unusable
from cms.trust.files import PEMFiles
from cms.trust.server import ServerTrust
from cms.web.listeners import HTTPListeners
from cms.web.messages import header
from cms.web.refusal import Refused
from cms.web.root import Root


@frozen
class AdminSettings:
    """
    The configuration of the API.

    @ivar file: The configuration file, for messages.
    @ivar api: Endpoint strings, with TLS.
    @ivar api_plain: Endpoint strings that only this host can reach.
    @ivar most: Connections at a time, to each kind of listener.
    @ivar proxies: The peers that may say who their clients are.
    @ivar forwarded_for: Whether they do so in C{X-Forwarded-For}.
    @ivar accounts_dir: Where the administrators' accounts are, of several daemons; left out:
        C{state_dir}.
    """

    file: Path
    state_dir: Path
    certificate: Path | None
    key: Path | None
    api: tuple[str, ...] = ()
    api_plain: tuple[str, ...] = field(default=())
    most: int = MOST_API_CONNECTIONS
    proxies: tuple[Network, ...] = field(default=())
    forwarded_for: bool = False
    accounts_dir: Path | None = None

    def check(self) -> None:
        """
        @raise ConfigurationError: a listener cannot be opened as configured.
        """
        for description in self.api_plain:
            check_plain("listen.api_plain", description, self.file)
        if self.api and (self.certificate is None or self.key is None):
            raise faults.CONFIGURATION_VALUE.error(
                file=self.file,
                key="tls.certificate" if self.certificate is None else "tls.key",
                problem="it is missing, and listen.api speaks TLS",
                mend="Give tls.certificate and tls.key, or leave listen.api out.",
            )


class AdminService(Service):
    """
    Serves the operations of a daemon: over HTTPS to its administrators, and on a
    UNIX socket in the state directory to the owner of that directory.

    @param prepare: Called with the application's routes before the start, for further ones.
    @raise ConfigurationError: the settings are wrong.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: AdminSettings,
        operations: Sequence[Operation],
        prepare: Callable[[Klein], None] = lambda routes: None,
        guesses: Guesses | None = None,
    ) -> None:
        settings.check()
        self._guesses = Guesses(reactor) if guesses is None else guesses
        self._reactor = reactor
        self._settings = settings
        self._application = ApiApplication(operations)
        prepare(self._application.routes)
        self._numbers = count(1)
        self._listeners = HTTPListeners(
            reactor, settings.file, settings.proxies, forwarded_for=settings.forwarded_for
        )
        # A pace of its own, so that a flood on the other listeners does not keep the owner out.
        self._owner = HTTPListeners(reactor, settings.file)
        self._socket: list[IListeningPort] = []
        self._lock: int | None = None
        self._folder: int | None = None
        self._accounts: Accounts | None = None
        self._trust: ServerTrust | None = None
        if settings.api:
            files = PEMFiles(str(settings.file), None, settings.certificate, settings.key)
            self._trust = ServerTrust(files, alpn=b"http/1.1")

    def privilegedStartService(self) -> None:
        """Open the listeners, or end the process with one clear line."""
        super().privilegedStartService()
        try:
            self.open()
        except StepError as error:
            give_up(error)

    def open(self) -> None:
        """
        Take the state directory, then open the listeners.

        @raise ConfigurationError: another daemon has the directory, the accounts
            cannot be used, or a listener cannot be opened.
        """
        self._take_state_dir()
        self._open_socket()
        if self._settings.api or self._settings.api_plain:
            self._accounts = self._open_accounts()
            gate = BasicGate(
                self._reactor,
                self._get_accounts,
                SlowWork(self._reactor, at_once=1, most_waiting=50),
                self._guesses,
            )
            root, most = self._root(gate), self._settings.most
            self._listeners.open("api", self._settings.api, root, most, self._trust)
            self._listeners.open("api_plain", self._settings.api_plain, root, most)

    def _open_accounts(self) -> Accounts:
        return Accounts.open(self._settings.accounts_dir or self._settings.state_dir)

    def _get_accounts(self) -> Accounts:
        assert self._accounts is not None  # noqa: S101 - opened before the listeners
        return self._accounts

    def _root(self, gate: Gate) -> Root:
        return self._behind(self._application.admission(gate))

    def _owners_root(self) -> Root:
        """Of the socket.  What was given up while the daemon hung is not done when it goes on."""
        admit = self._application.admission(OpenGate())

        async def in_time(request: IRequest) -> None:
            _check_until(header(request, UNTIL), self._reactor.seconds())
            await admit(request)

        return self._behind(in_time)

    def _behind(self, admit: Callable[[IRequest], Awaitable[None]]) -> Root:
        return Root(self._application, admit, self._numbers, self._reactor)

    # the UNIX socket

    def _take_state_dir(self) -> None:
        """The lock ends with the process, however that ends."""
        state_dir = self._settings.state_dir
        try:
            claim(state_dir)
            self._lock = open_private(state_dir / LOCK, os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise faults.CONFIGURATION_VALUE.error(
                file=self._settings.file,
                key="state_dir",
                problem=f"another daemon uses {state_dir}",
                mend="Stop the other one, or give each a state_dir of its own.",
            ) from None
        except OSError as problem:
            self._let_go()
            raise unusable(self._settings.file, state_dir, problem) from None

    def _open_socket(self) -> None:
        path = self._settings.state_dir / SOCKET
        path.unlink(missing_ok=True)  # we have the lock, so the daemon that made it has ended
        limits = Limits.of(openfiles.connections_each(MOST_API_CONNECTIONS, 8))
        factory = self._owner.factory(
            self._owners_root(), ConnectionLimiter(limits, self._reactor.seconds, SOCKET)
        )
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        before = os.umask(0o177)
        try:
            port = self._reactor.listenUNIX(
                short_path(path, self._folder), factory, backlog=BACKLOG, mode=0o600
            )
        except CannotListenError as problem:
            raise faults.LISTEN_FAILED.error(
                file=self._settings.file,
                key="state_dir",
                endpoint=path,
                problem=str(problem).rstrip("."),
            ) from None
        finally:
            os.umask(before)
        self._socket.append(port)
        self.log.info("administration on {path}", path=str(path))

    def _let_go(self) -> None:
        for descriptor in (self._lock, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._folder = None

    # its life

    def reload(self) -> None:
        """
        Read key, certificate and accounts again.  If one is wrong, the old one stays.
        """
        try:
            if self._trust is not None:
                self._trust.reload()
            if self._accounts is not None:
                self._accounts = self._open_accounts()
        except StepError as error:
            self.log.error("not reloaded: {cause} Cure: {cure}", **error.fields)

    def stopService(self) -> Deferred[Any]:
        """Accept no more requests."""
        super().stopService()
        socket, self._socket = self._socket, []
        closing = [self._listeners.close(), self._owner.close(), close_ports(socket)]

        def closed(result: Any) -> Any:
            self._let_go()
            return result

        return gatherResults(closing, consumeErrors=True).addBoth(closed)


def _check_until(until: str | None, now: float) -> None:
    """
    @raise Refused: who asked has been told meanwhile that there is no answer.
    """
    if until is None:
        return
    try:
        late = now > float(until)
    except ValueError:
        raise Refused("badRequest", f"{UNTIL} is no time") from None
    if late:
        raise Refused("tooLate", "who asked waits no longer", "Ask again.", status=503)
