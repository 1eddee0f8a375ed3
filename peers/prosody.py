"""Prosody (Debian's prosody) as an XMPP server that takes components and clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from peers.certs import Pair
from peers.network import free_port
from peers.processes import Process, Processes
from peers.tools import require

_CONFIG = """\
daemonize = false
run_as_root = true
pidfile = {pid_file}
data_path = {data}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {client_port} }}
c2s_direct_tls_ports = {{ }}
s2s_ports = {{ }}
component_interfaces = {{ "127.0.0.1" }}
component_ports = {{ {component_port} }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping"{modules} }}
modules_disabled = {{ "s2s" }}
http_ports = {{ {http_port} }}
http_interfaces = {{ "127.0.0.1" }}
https_ports = {{ }}
http_default_host = {domain}
consider_websocket_secure = true
cross_domain_websocket = true
authentication = "internal_plain"
c2s_require_encryption = true
ssl = {{ certificate = {certificate}, key = {key} }}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost {domain}
"""

_COMPONENT = """\
Component {address}
    component_secret = {secret}
"""


_ROOMS = """\
Component {address} "muc"
    muc_room_locking = false
"""


def _quoted(value: object) -> str:
    # JSON's escapes are Lua's too, for the plain texts used here.
    return json.dumps(str(value))


def hashed_accounts(processes: Processes, domain: str, users: Mapping[str, str]) -> Path:
    """The folder with the accounts of a Prosody that keeps no passwords; it does not run."""
    directory = processes.make_directory("prosody-hashed")
    config = directory / "prosody.cfg.lua"
    config.write_text(
        f"data_path = {_quoted(directory / 'data')}\npidfile = {_quoted(directory / 'pid')}\n"
        f'run_as_root = true\nauthentication = "internal_hashed"\nVirtualHost {_quoted(domain)}\n'
    )
    program = require("prosodyctl", "prosody")
    for user, password in users.items():
        command = [program, "--root", "--config", str(config), "register", user, domain, password]
        status, output = processes.run("prosodyctl", command, cwd=directory)
        assert status == 0, output
    return directory / "data" / domain.replace(".", "%2e") / "accounts"


class Prosody:
    """
    One Prosody.

    @ivar component_port: XEP-0114, without TLS.
    @ivar client_port: STARTTLS required.
    @ivar http_port: XMPP over WebSocket without TLS, with the module C{websocket}.
    """

    name = "prosody"

    def __init__(
        self,
        processes: Processes,
        pair: Pair,
        domain: str,
        components: Mapping[str, str],
        users: Mapping[str, str],
        *modules: str,
        rooms: str = "",
    ) -> None:
        """
        @param components: Component addresses and their secrets.
        @param users: Local parts and their passwords.
        @param modules: More of them.
        @param rooms: The address of its rooms, if it is to have any.
        """
        self._processes = processes
        self._directory = processes.make_directory("prosody")
        self.component_port = free_port()
        self.client_port = free_port()
        self.http_port = free_port()
        self._config = self._directory / "prosody.cfg.lua"
        self._config.write_text(
            _CONFIG.format(
                pid_file=_quoted(self._directory / "pid"),
                data=_quoted(self._directory / "data"),
                client_port=self.client_port,
                component_port=self.component_port,
                http_port=self.http_port,
                certificate=_quoted(pair.certificate),
                key=_quoted(pair.key),
                domain=_quoted(domain),
                modules="".join(f", {_quoted(module)}" for module in modules),
            )
            + (_ROOMS.format(address=_quoted(rooms)) if rooms else "")
            + "".join(
                _COMPONENT.format(address=_quoted(address), secret=_quoted(secret))
                for address, secret in components.items()
            )
        )
        (self._directory / "certs").mkdir()
        accounts = self._directory / "data" / domain.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True)
        for user, password in users.items():
            text = f'return {{ ["password"] = {_quoted(password)} }};\n'
            (accounts / f"{user}.dat").write_text(text)

    def start(self) -> Process:
        """Start it, and wait until its ports are open."""
        command = [require("prosody", "prosody"), "-F", "--config", str(self._config)]
        self.process = self._processes.start(self.name, command, cwd=self._directory)
        for service in ("c2s", "component"):
            self.process.wait_for(f"Activated service '{service}'", 20.0)
        return self.process
