"""
ejabberd (Debian's ejabberd) as an XMPP server that takes components over TLS.

C{ejabberdctl} insists on the system's own account and starts epmd, which would
stay behind.  So the Erlang machine is started here as that script starts it,
but as the current user and without distribution: no epmd, no cookie.
"""

from __future__ import annotations

import glob
import json
import os
import string
from collections.abc import Mapping
from pathlib import Path

import pytest

from peers.certs import Pair
from peers.network import free_port, listens, wait_until
from peers.processes import Process, Processes
from peers.tools import require

_READY = "test users are registered"


def _libraries() -> str:
    """The folder that holds the ejabberd package's Erlang applications."""
    found = sorted(glob.glob("/usr/lib/*/ejabberd-*/ebin")) or sorted(
        glob.glob("/usr/lib/ejabberd-*/ebin")
    )
    if not found:
        pytest.fail(
            "ejabberd is not installed; run: apt-get install --no-install-recommends ejabberd",
            pytrace=False,
        )
    return str(Path(found[-1]).parent.parent)


class Ejabberd:
    """
    One ejabberd.

    @ivar component_port: XEP-0114 with TLS from the first byte.
    @ivar plain_port: XEP-0114 without TLS.
    @ivar client_port: STARTTLS required.
    @ivar dump: Where its start writes what C{ejabberdctl dump} does, if it shall.
    """

    name = "ejabberd"
    dump: Path | None = None

    def __init__(
        self,
        processes: Processes,
        pair: Pair,
        domain: str,
        components: Mapping[str, str],
        users: Mapping[str, str],
    ) -> None:
        """
        @param components: Component addresses and their secrets.
        @param users: Local parts and their passwords.
        """
        self._processes = processes
        self._directory = processes.make_directory(self.name)
        self._domain = domain
        self._users = dict(users)
        self.component_port = free_port()
        self.plain_port = free_port()
        self.client_port = free_port()
        self._config = self._directory / "ejabberd.yml"
        # JSON is YAML.
        self._config.write_text(json.dumps(self._settings(pair, components), indent=1))

    def _settings(self, pair: Pair, components: Mapping[str, str]) -> dict[str, object]:
        hosts = {address: {"password": secret} for address, secret in components.items()}
        service = {
            "module": "ejabberd_service",
            "ip": "127.0.0.1",
            "hosts": hosts,
            # Else a component is given what is meant for another (and answers nothing).
            "global_routes": False,
        }
        tls = {"tls": True, "certfile": str(pair.both)}
        client = {"module": "ejabberd_c2s", "ip": "127.0.0.1", "starttls_required": True}
        return {
            "hosts": [self._domain],
            "loglevel": "info",
            "log_rotate_count": 0,
            "certfiles": [str(pair.both)],
            "auth_password_format": "scram",
            "listen": [
                {"port": self.client_port, **client},
                {"port": self.component_port, **service, **tls},
                {"port": self.plain_port, **service},
            ],
            "modules": {"mod_disco": {}, "mod_ping": {}, "mod_roster": {}},
        }

    def start(self) -> Process:
        """Start it, and wait until its users are registered and its ports are open."""
        command = [
            require("erl", "ejabberd"),
            "-noinput",
            *("-mnesia", "dir", json.dumps(str(self._directory / "spool"))),
            *("-s", "ejabberd"),
            *("-eval", self._register_users()),
        ]
        self.process = self._processes.start(
            self.name, command, cwd=self._directory, env=self._environment()
        )
        self.process.wait_for(_READY, 60.0)
        for port in (self.client_port, self.component_port, self.plain_port):
            wait_until(lambda port=port: listens(port), 20.0, f"ejabberd's port {port}")  # type: ignore[misc]
        return self.process

    def _register_users(self) -> str:
        for text in (self._domain, *self._users, *self._users.values()):
            assert set(text) <= set(string.ascii_letters + string.digits + ".-"), text
        calls = [
            f'ejabberd_auth:try_register(<<"{user}">>, <<"{self._domain}">>, <<"{password}">>)'
            for user, password in self._users.items()
        ]
        if self.dump is not None:
            calls.append(f"ejabberd_admin:dump_mnesia({json.dumps(str(self.dump))})")
        return ", ".join([*calls, f'io:format("{_READY}~n")']) + "."

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._directory),
            "ERL_LIBS": _libraries(),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "EJABBERD_CONFIG_PATH": str(self._config),
            "EJABBERD_LOG_PATH": str(self._directory / "ejabberd.log"),
        }
