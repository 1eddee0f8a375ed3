"""The project's two daemons, each under twistd with a configuration file of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import (
    ADMINISTRATION_READY,
    CALLBRIDGE_PLUGIN,
    DOMAIN,
    LINK_ACTIVE,
    LINK_SECONDS,
    LISTENER_READY,
    ROOT,
    START_SECONDS,
    XMPP_PLUGIN,
)
from peers.network import free_port
from peers.processes import Process, Processes
from peers.tools import script

Settings = dict[str, Any]


def toml_text(settings: Mapping[str, Any], path: str = "") -> str:
    """
    TOML for strings, numbers, booleans, lists of strings, tables and lists of tables.

    A value of C{None} is left out.
    """
    tables = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    lists = {
        key: value
        for key, value in settings.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    }
    lines = [
        # JSON's strings, numbers, booleans and lists are TOML's too.
        f"{key} = {json.dumps(value)}"
        for key, value in settings.items()
        if key not in tables and key not in lists and value is not None
    ]
    text = "".join(f"{line}\n" for line in lines)
    for key, table in tables.items():
        text += f"\n[{path}{key}]\n{toml_text(table, f'{path}{key}.')}"
    for key, list_ in lists.items():
        for table in list_:
            text += f"\n[[{path}{key}]]\n{toml_text(table, f'{path}{key}.')}"
    return text


def daemon_environment() -> dict[str, str]:
    """The sources of this clone go before whatever is installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Daemon:
    """
    One daemon.

    @ivar settings: What its file holds; may be changed until C{start}.
    @ivar file: Its configuration file.
    @ivar environment: What is added to its environment.
    @ivar options: What follows its file on the command line.
    @ivar twistd_options: What stands before its plugin there.
    @ivar launcher: A command that starts the one that follows.
    """

    plugin: str
    file_name: str

    def __init__(self, processes: Processes, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.environment: dict[str, str] = {}
        self.options: list[str] = []
        self.twistd_options: list[str] = []
        self.launcher: list[str] = []
        self._processes = processes
        self.directory = processes.make_directory(name)
        self.file = self.directory / self.file_name
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The one that was started last."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def expect_error(self, text: str) -> None:
        """See L{Processes.expect_error}."""
        self._processes.expect_error(text)

    def write(self) -> Path:
        """Write the configuration file."""
        self.file.write_text(toml_text(self.settings))
        return self.file

    def launch(self) -> Process:
        """Start it, and wait for nothing."""
        self.write()
        command = [
            *self.launcher,
            *script("twistd"),
            *("--nodaemon", "--pidfile=", *self.twistd_options),
            *(self.plugin, "--config", str(self.file)),
            *self.options,
        ]
        self._process = self._processes.start(
            self.name,
            command,
            cwd=self.directory,
            env={**daemon_environment(), **self.environment},
        )
        return self._process


class XmppServer(Daemon):
    """
    The XMPP server role, on free ports.

    @ivar component_port: TLS from the first byte.
    @ivar component_plain_port: Without TLS.
    @ivar client_port: STARTTLS.
    @ivar pair: Its certificate.
    """

    plugin = XMPP_PLUGIN
    file_name = "xmpp.toml"

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        secrets: Mapping[str, str],
        name: str = "xmpp1",
    ) -> None:
        """
        @param secrets: The secret of each Callbridge, by unique name.
        @param name: Its host within the domain.
        """
        self.component_port = free_port()
        self.component_plain_port = free_port()
        self.client_port = free_port()
        self.hostname = f"{name}.{DOMAIN}"
        self._certificates = certificates
        self.pair = pair = certificates.issue(DOMAIN, self.hostname, "localhost")
        settings = {
            "domain": DOMAIN,
            "hostname": self.hostname,
            "state_dir": "state",
            "tls": {
                "certificate": str(pair.certificate),
                "key": str(pair.key),
                "trust": str(certificates.trust),
            },
            "listen": {
                "component": [f"tcp:{self.component_port}:interface=127.0.0.1"],
                "component_plain": [f"tcp:{self.component_plain_port}:interface=127.0.0.1"],
                "client": [f"tcp:{self.client_port}:interface=127.0.0.1"],
            },
            "callbridges": {key: {"secret": secret} for key, secret in secrets.items()},
            # Nobody: its look at its own records must not leave this host.
            "dns": {"servers": [f"127.0.0.1:{free_port()}"]},
        }
        super().__init__(processes, name, settings)

    def listen_web(self) -> tuple[int, int]:
        """Ports for browsers, with TLS and without; before the start."""
        ports = free_port(), free_port()
        for kind, port in zip(("web", "web_plain"), ports, strict=True):
            self.settings["listen"][kind] = [f"tcp:{port}:interface=127.0.0.1"]
        return ports

    def callbridge(self) -> Callbridge:
        """Its C{cb1}, which is to find it on this host."""
        secret = self.settings["callbridges"]["cb1"]["secret"]
        address = f"localhost:{self.component_port}"
        return Callbridge(self._processes, self._certificates, secret, server_address=address)

    def start(self) -> Process:
        """Start it, and wait until its listeners are ready."""
        process = self.launch()
        self.wait_ready()
        return process

    def wait_ready(self) -> None:
        """Wait until the listeners of one that was launched are ready."""
        for listener, where in self.settings["listen"].items():
            if not isinstance(where, list) or listener == "proxies":
                continue
            self.process.wait_for(LISTENER_READY.format(listener=listener), START_SECONDS)
        self.process.wait_for(ADMINISTRATION_READY, START_SECONDS)


class Callbridge(Daemon):
    """
    The Callbridge role.

    @ivar pair: Its certificate.
    """

    plugin = CALLBRIDGE_PLUGIN
    file_name = "callbridge.toml"

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        secret: str,
        *,
        name: str = "cb1",
        server_address: str = "",
        dns: Bind | None = None,
    ) -> None:
        """@param server_address: As in its file; empty means SRV, which C{dns} answers."""
        self.pair = pair = certificates.issue(f"{name}.{DOMAIN}")
        settings: Settings = {
            "unique_name": name,
            "domain": DOMAIN,
            "server_address": server_address,
            "shared_secret": secret,
            "state_dir": "state",
            "tls": {
                "trust": str(certificates.trust),
                "certificate": str(pair.certificate),
                "key": str(pair.key),
            },
        }
        if dns is not None:
            settings["dns"] = {"servers": [dns.address]}
        super().__init__(processes, name, settings)

    def add_user(self, jid: str, password: str) -> None:
        """C{cms callbridge user add}; to be called before the start or while it runs."""
        self.write()
        command = [
            *script("cms"),
            *("callbridge", "user", "add", jid, "--password-stdin", "--config", str(self.file)),
        ]
        status, output = self._processes.run(
            f"{self.name}-user-add", command, text=password, env=daemon_environment()
        )
        assert status == 0, output

    def say(self, *arguments: str) -> str:
        """C{cms callbridge} with these; what it prints."""
        command = [*script("cms"), "callbridge", *arguments, "--config", str(self.file)]
        label = "-".join((self.name, *arguments[:2]))
        status, output = self._processes.run(label, command, env=daemon_environment())
        assert status == 0, output
        return output

    def space(self, *arguments: str, text: str = "") -> dict[str, Any]:
        """C{cms callbridge space}; what it prints."""
        self.write()
        command = [*script("cms"), "callbridge", "space", *arguments]
        command += ["--json", "--config", str(self.file)]
        status, output = self._processes.run(
            f"{self.name}-space", command, text=text, env=daemon_environment()
        )
        assert status == 0, output
        found: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
        return found

    def start(self) -> Process:
        """Start it, and wait until its link is up."""
        process = self.launch()
        self.wait_active()
        return process

    def wait_active(self, times: int = 1, seconds: float = LINK_SECONDS) -> float:
        """Wait until its link has come up C{times} times since its start; how long it took."""
        return self.process.wait_for(LINK_ACTIVE, seconds, times=times)
