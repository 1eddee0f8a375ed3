"""
The servers of the bench, each configured as a good administrator would.

They come from the tests' harness; what differs here is only what matters for
speed: one core, quiet logs, hashed passwords with equal rounds, no shapers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from bench import generator
from cms.callbridge.directories.store import UserStore
from peers.api import Administration
from peers.bind import Bind
from peers.certs import Certificates, Pair
from peers.contract import DOMAIN, LINK_SECONDS, START_SECONDS
from peers.daemons import Callbridge, XmppServer
from peers.ejabberd import Ejabberd
from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.prosody import Prosody
from peers.tools import require

SERVER_CORE = 0
GENERATOR_CORE = 1 if (os.cpu_count() or 1) > 1 else 0

SECRET = "secret"
PASSWORD = "password"
ROUNDS = 10_000
"""Of PBKDF2 with SHA-256, in every server's store."""

COMPONENTS = 1100
"""Components c0 .. that every server knows."""

USERS = 100
"""Users u0 .. that every server knows."""


class Pinned(Processes):
    """Children that stay on one core."""

    def __init__(self, directory: Path, core: int) -> None:
        super().__init__(directory)
        self._core = core

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Process:
        """Start a child there."""
        pinned = ["taskset", "-c", str(self._core), *command]
        return super().start(name, pinned, cwd=cwd, env=env, pass_fds=pass_fds)


@frozen
class Ports:
    """
    Where a server listens; C{None} where it cannot.

    @ivar component: XEP-0114 without TLS.
    @ivar component_tls: XEP-0114 with TLS from the first byte.
    @ivar component_managed: XEP-0114 without TLS, with link management.
    @ivar client: STARTTLS.
    @ivar client_plain: Without TLS.
    @ivar client_sasl2: STARTTLS, then SASL2 (XEP-0388).
    @ivar client_managed: STARTTLS, with stream management (XEP-0198).
    @ivar client_plain_managed: The same without TLS.
    """

    component: int
    component_tls: int | None = None
    component_managed: int | None = None
    client: int | None = None
    client_plain: int | None = None
    client_sasl2: int | None = None
    client_managed: int | None = None
    client_plain_managed: int | None = None


class Server(Protocol):
    """One server under load."""

    name: str
    ports: Ports

    def start(self) -> None:
        """Start it, and wait until it is ready."""

    def stop(self) -> None:
        """End it."""

    def processes(self) -> list[Process]:
        """Those whose CPU time is spent on stanzas and log-ins."""


def component(number: int) -> str:
    """The address of a component."""
    return f"c{number}.{DOMAIN}"


def _secrets() -> dict[str, str]:
    return {component(number): SECRET for number in range(COMPONENTS)}


def _users() -> dict[str, str]:
    return {f"u{number}": PASSWORD for number in range(USERS)}


def make_server(
    processes: Processes, certificates: Certificates, name: str
) -> tuple[XmppServer, Ports]:
    """
    One of ours, which is not started.

    @param name: Its host within the domain.
    """
    secrets = {f"c{number}": SECRET for number in range(COMPONENTS)}
    server = XmppServer(processes, certificates, {**secrets, "cb1": SECRET}, name)
    server.options = ["--log-level", "warn"]
    client_plain = free_port()
    server.settings["listen"]["client_plain"] = [f"tcp:{client_plain}:interface=127.0.0.1"]
    ports = Ports(
        component=server.component_plain_port,
        component_tls=server.component_port,
        component_managed=server.component_plain_port,
        client=server.client_port,
        client_plain=client_plain,
        client_sasl2=server.client_port,
        client_managed=server.client_port,
        client_plain_managed=client_plain,
    )
    return server, ports


def make_callbridge(
    processes: Processes, certificates: Certificates, ports: Ports
) -> tuple[Bind, Callbridge]:
    """A Callbridge that knows the users, and the DNS by which it finds the server."""
    srv = f"_xmpp-component._tcp SRV 10 10 {ports.component_tls} xmpp1"
    dns = Bind(processes, {DOMAIN: [srv, "xmpp1 A 127.0.0.1"]})
    callbridge = Callbridge(processes, certificates, SECRET, dns=dns)
    callbridge.options = ["--log-level", "warn"]
    store = UserStore(callbridge.directory / "state")
    for user, password in _users().items():
        store.set_password(user, password, iterations=ROUNDS)
    return dns, callbridge


class Ours:
    """
    C{twistd cms-xmpp}, and a Callbridge that decides its log-ins.

    @ivar callbridge: That.
    """

    name = "ours"

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._server, self.ports = make_server(processes, certificates, "xmpp1")
        self._dns, self.callbridge = make_callbridge(processes, certificates, self.ports)

    def start(self) -> None:
        """Start all three."""
        self._dns.start()
        # Their logs are too quiet here to tell when they are ready.
        for daemon in (self._server, self.callbridge):
            daemon.launch()
            Administration(daemon.directory / "state").wait(START_SECONDS)
        Administration(self._server.directory / "state").wait_for_health(200, LINK_SECONDS)

    def stop(self) -> None:
        """End all three."""
        for process in (self.callbridge.process, self._server.process, self._dns.process):
            if process is not None:
                process.stop()

    def processes(self) -> list[Process]:
        """The server's and the Callbridge's."""
        return [self._server.process, self.callbridge.process]


@frozen
class _Keys:
    """What a server stores of the password (RFC 5802)."""

    salt: bytes
    stored_key: bytes
    server_key: bytes


def _derive() -> _Keys:
    salt = base64.b64encode(os.urandom(12))
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, ROUNDS)
    return _Keys(
        salt=salt,
        stored_key=hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest(),
        server_key=hmac.digest(salted, b"Server Key", "sha256"),
    )


def _prosody_account(keys: _Keys) -> str:
    """The same, as Prosody's file of an account."""
    return (
        f'return {{ ["iteration_count"] = {ROUNDS}; ["salt"] = "{keys.salt.decode()}"; '
        f'["stored_key"] = "{keys.stored_key.hex()}"; '
        f'["server_key"] = "{keys.server_key.hex()}"; }};\n'
    )


_PROSODY_MORE = """\
gc = { mode = "generational" }
password_hash = "SHA-256"
"""


class _FastProsody(Prosody):
    def __init__(self, processes: Processes, pair: Pair) -> None:
        super().__init__(processes, pair, DOMAIN, _secrets(), _users())
        self.environment: dict[str, str] = {}
        self.replace('authentication = "internal_plain"', 'authentication = "internal_hashed"')
        self.replace("c2s_require_encryption = true", "c2s_require_encryption = false")
        self.replace('min = "info"', 'min = "warn"')
        self._config.write_text(_PROSODY_MORE + self._config.read_text())
        account = _prosody_account(_derive())
        for file in (self._directory / "data").glob("*/accounts/*.dat"):
            file.write_text(account)

    def replace(self, old: str, new: str) -> None:
        """Write something else into its configuration."""
        text = self._config.read_text()
        assert old in text, old
        self._config.write_text(text.replace(old, new))

    def start(self) -> Process:
        # Its log is too quiet here to tell when it is ready.
        command = [require("prosody", "prosody"), "-F", "--config", str(self._config)]
        environment = {**os.environ, **self.environment}
        self.process = self._processes.start(
            self.name, command, cwd=self._directory, env=environment
        )
        for port in (self.component_port, self.client_port):
            wait_until(lambda port=port: listens(port), 60.0, f"Prosody's port {port}")  # type: ignore[misc]
        return self.process


def _scram_record(keys: _Keys) -> str:
    """What ejabberd stores for the password, as an Erlang term."""
    texts = [base64.b64encode(value) for value in (keys.stored_key, keys.server_key, keys.salt)]
    binaries = ", ".join(f'<<"{text.decode()}">>' for text in texts)
    return f"{{scram, {binaries}, sha256, {ROUNDS}}}"


class QuickEjabberd(Ejabberd):
    """ejabberd: one scheduler, no shaper."""

    def __init__(self, processes: Processes, pair: Pair) -> None:
        self.client_plain_port = free_port()
        super().__init__(processes, pair, DOMAIN, _secrets(), _users())

    @property
    def ports(self) -> Ports:
        """Where it listens."""
        return Ports(
            component=self.plain_port,
            component_tls=self.component_port,
            client=self.client_port,
            client_plain=self.client_plain_port,
        )

    def _settings(self, pair: Pair, components: Mapping[str, str]) -> dict[str, object]:
        settings = super()._settings(pair, components)
        listeners = settings["listen"]
        assert isinstance(listeners, list)
        plain = {"port": self.client_plain_port, "module": "ejabberd_c2s", "ip": "127.0.0.1"}
        return {
            **settings,
            "loglevel": "warning",
            "auth_scram_hash": "sha256",
            "shaper_rules": {"max_user_sessions": {"infinity": "all"}},
            "listen": [*listeners, plain],
        }

    def configure(self, **settings: object) -> None:
        """More of its settings, or others."""
        before = json.loads(self._config.read_text())
        self._config.write_text(json.dumps({**before, **settings}))

    def _register_users(self) -> str:
        # ejabberd's own number of rounds is 4,096 and cannot be configured.
        assert set(self._users.values()) == {PASSWORD}
        record = _scram_record(_derive())
        numbers = f"lists:seq(0, {len(self._users) - 1})"
        user = 'iolist_to_binary(io_lib:format("u~b", [N]))'
        store = f'ejabberd_auth_mnesia:set_password({user}, <<"{self._domain}">>, {record})'
        ready = 'io:format("test users are registered~n")'
        return f"lists:foreach(fun(N) -> {store} end, {numbers}), {ready}."

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "ERL_AFLAGS": "+S 1:1 +K true"}


class _Peer:
    """What the two foreign servers have in common."""

    name: str
    ports: Ports
    peer: Prosody | Ejabberd

    def start(self) -> None:
        """Start it."""
        self.peer.start()

    def stop(self) -> None:
        """End it."""
        self.peer.process.stop()

    def processes(self) -> list[Process]:
        """It is one."""
        return [self.peer.process]


class FastProsody(_Peer):
    """Prosody: one process, generational garbage collection."""

    name = "Prosody"
    peer: _FastProsody

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.peer = _FastProsody(processes, certificates.issue(DOMAIN))
        port = self.peer.client_port
        self.ports = Ports(component=self.peer.component_port, client=port, client_plain=port)


class FastEjabberd(_Peer):
    """ejabberd: one scheduler, no shaper."""

    name = "ejabberd"
    peer: QuickEjabberd

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.peer = QuickEjabberd(processes, certificates.issue(DOMAIN))
        self.ports = self.peer.ports


class Sink:
    """The generator's own ceiling: a server that does nothing but forward bytes."""

    name = "sink"

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        self.ports = Ports(component=free_port())

    def start(self) -> None:
        """Start it."""
        command = [str(generator.PROGRAM), "sink", "--port", str(self.ports.component)]
        self._process = self._processes.start(self.name, command)
        self._process.wait_for("listening", 10.0)

    def stop(self) -> None:
        """End it."""
        self._process.kill()

    def processes(self) -> list[Process]:
        """It is one."""
        return [self._process]


class UnmanagedLink(Ours):
    """The same, where the link of the Callbridge is not managed (C{resume.links = 0})."""

    name = "unmanaged"

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        super().__init__(processes, certificates)
        self._server.settings["resume"] = {"links": 0}


USUAL = (Ours, FastProsody, FastEjabberd, Sink)
KINDS = {kind.name: kind for kind in (*USUAL, UnmanagedLink)}


def _children() -> dict[int, list[int]]:
    """The ids of all processes by that of their parent."""
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    return found


def _descend(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _descend(child, children)


def pids(server: Server) -> list[int]:
    """The ids of all its processes, with those that they started."""
    children = _children()
    return [pid for process in server.processes() for pid in _descend(process.pid, children)]


def memory(server: Server) -> int:
    """Its proportional set size in bytes, summed over its processes."""
    total = 0
    for pid in pids(server):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        assert found is not None
        total += int(found[1]) * 1024
    return total
