"""
Other people's XMPP programs, driven by the tests, each in a process of its own.

The drivers take settings and commands as lines of JSON and tell events as lines
of JSON; L{Driver} is the test's end of that.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from peers.contract import ROOT
from peers.network import wait_until
from peers.processes import Process, Processes
from peers.tools import require

_PEERS = ROOT / "peers"
_START_SECONDS = 60.0


class Driver:
    """
    One program that speaks XMPP, ready but not yet connected.

    @ivar process: The program.
    """

    def __init__(
        self,
        processes: Processes,
        name: str,
        command: list[str],
        settings: dict[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.process: Process = processes.start(name, command, env=env)
        self._seen = 0
        self._say(settings)
        self.expect("ready", _START_SECONDS)

    def _say(self, words: dict[str, Any]) -> None:
        self.process.write_line(json.dumps(words))

    def _events(self) -> list[dict[str, Any]]:
        whole = self.process.output.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith('{"event"')]

    def next_event(self, seconds: float = 30.0) -> dict[str, Any]:
        """
        The next thing that happens.

        @raise AssertionError: nothing did.
        """

        def more() -> bool:
            assert self.process.running or len(self._events()) > self._seen, (
                f"{self.process.name} ended"
            )
            return len(self._events()) > self._seen

        wait_until(more, seconds, f"an event of {self.process.name}")
        event = self._events()[self._seen]
        self._seen += 1
        return event

    def expect(self, name: str, seconds: float = 30.0) -> dict[str, Any]:
        """
        The next event of that name; others are passed over.

        @raise AssertionError: it did not come within C{seconds}.
        """
        passed: list[dict[str, Any]] = []

        def seen() -> bool:
            events = self._events()
            while self._seen < len(events):
                event = events[self._seen]
                self._seen += 1
                passed.append(event)
                if event["event"] == name:
                    return True
            return not self.process.running

        wait_until(seen, seconds, f'the event "{name}" of {self.process.name}, after {passed}')
        assert passed, f'{self.process.name} ended before "{name}"'
        assert passed[-1]["event"] == name, f'{self.process.name} ended before "{name}": {passed}'
        return passed[-1]

    def connect(self, **different: Any) -> None:
        """Open the stream; C{different} goes before the settings."""
        self._say({"do": "connect", **different})

    def connected(self, **different: Any) -> dict[str, Any]:
        """Open the stream, and wait until it is of use: the event C{online}."""
        self.connect(**different)
        return self.expect("online")

    def ping(self, to: str) -> dict[str, Any]:
        """XEP-0199: the event C{result}."""
        self._say({"do": "ping", "to": to})
        return self.expect("result")

    def disco(self, to: str) -> dict[str, Any]:
        """XEP-0030: the event C{result}, with C{features} and C{identities}."""
        self._say({"do": "disco", "to": to})
        return self.expect("result")

    def message(self, to: str, body: str) -> None:
        """Send a chat message."""
        self._say({"do": "message", "to": to, "body": body})

    def do(self, command: str, **more: Any) -> None:
        """What only some of them know."""
        self._say({"do": command, **more})

    def disconnect(self) -> None:
        """Close the stream."""
        self._say({"do": "disconnect"})
        self.expect("disconnected")


def slixmpp_client(
    processes: Processes,
    jid: str,
    password: str,
    port: int,
    trust: Path,
    **more: Any,
) -> Driver:
    """
    A stock slixmpp client with STARTTLS.

    @param more: C{mechanism} for one alone, C{direct_tls=True} for TLS from
        the first byte.
    """
    return _slixmpp(processes, "slixmpp_peer.py", (jid, password, port, trust), **more)


def slixmpp_guest(processes: Processes, jid: str, password: str, port: int, trust: Path) -> Driver:
    """The same with its plug-in for rooms, see F{drivers/slixmpp_room.py}."""
    return _slixmpp(processes, "slixmpp_room.py", (jid, password, port, trust))


def nbxmpp_guest(
    processes: Processes, jid: str, password: str, port: int, certificate: Path
) -> Driver:
    """
    The library of Gajim in rooms, see F{drivers/nbxmpp_room.py}.

    @param certificate: The server's, which it trusts.
    """
    return _nbxmpp(processes, "nbxmpp_room.py", (jid, password, port, certificate))


def nbxmpp_managed(
    processes: Processes, jid: str, password: str, port: int, certificate: Path, **more: Any
) -> Driver:
    """The same, over managed streams, see F{drivers/nbxmpp_managed.py}."""
    return _nbxmpp(processes, "nbxmpp_managed.py", (jid, password, port, certificate), **more)


def _nbxmpp(
    processes: Processes, driver: str, who: tuple[str, str, int, Path], **more: Any
) -> Driver:
    require("gajim", "gajim")
    jid, password, port, certificate = who
    settings = {
        "jid": jid,
        "password": password,
        "host": "127.0.0.1",
        "port": port,
        "certificate": str(certificate),
        **more,
    }
    command = ["/usr/bin/python3", "-u", str(_PEERS / "drivers" / driver)]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return Driver(processes, f"nbxmpp-{jid.partition('@')[0]}", command, settings, env)


def slixmpp_reader(processes: Processes, jid: str, password: str, port: int, trust: Path) -> Driver:
    """The same with its plug-in for carbons, see F{drivers/slixmpp_carbons.py}."""
    return _slixmpp(processes, "slixmpp_carbons.py", (jid, password, port, trust))


def slixmpp_contact(
    processes: Processes, jid: str, password: str, port: int, trust: Path
) -> Driver:
    """The same with its roster and blocking, see F{drivers/slixmpp_contacts.py}."""
    return _slixmpp(processes, "slixmpp_contacts.py", (jid, password, port, trust))


def nbxmpp_contact(
    processes: Processes, jid: str, password: str, port: int, certificate: Path
) -> Driver:
    """The library of Gajim with its roster and blocking, see F{drivers/nbxmpp_contacts.py}."""
    return _nbxmpp(processes, "nbxmpp_contacts.py", (jid, password, port, certificate))


def slixmpp_managed(
    processes: Processes, jid: str, password: str, port: int, trust: Path
) -> Driver:
    """The same with its plug-in for stream management, see F{drivers/slixmpp_managed.py}."""
    return _slixmpp(processes, "slixmpp_managed.py", (jid, password, port, trust))


def _slixmpp(
    processes: Processes, driver: str, who: tuple[str, str, int, Path], **more: Any
) -> Driver:
    jid, password, port, trust = who
    settings = {
        "kind": "client",
        "jid": jid,
        "password": password,
        "host": "127.0.0.1",
        "port": port,
        "trust": str(trust),
        **more,
    }
    name = f"slixmpp-{jid.partition('@')[0]}"
    return Driver(processes, name, _python(driver), settings)


def slixmpp_component(processes: Processes, address: str, secret: str, port: int) -> Driver:
    """slixmpp's C{ComponentXMPP}, without TLS."""
    settings = {"kind": "component", **_component(address, secret, port)}
    return Driver(processes, "slixmpp-component", _python("slixmpp_peer.py"), settings)


def wokkel_component(processes: Processes, address: str, secret: str, port: int) -> Driver:
    """wokkel's C{Component}, without TLS."""
    settings = _component(address, secret, port)
    return Driver(processes, "wokkel-component", _python("wokkel_peer.py"), settings)


def npm_component(processes: Processes, address: str, secret: str, port: int) -> Driver:
    """xmpp.js's C{@xmpp/component}, without TLS."""
    settings = _component(address, secret, port)
    return Driver(processes, "npm-component", _npm("component", "@xmpp/component"), settings)


def npm_client(
    processes: Processes,
    service: str,
    domain: str,
    user: str,
    password: str,
    trust: Path,
    *,
    sasl2: bool = False,
    **more: Any,
) -> Driver:
    """
    xmpp.js's C{@xmpp/client}.

    @param service: C{xmpp://host:port}, or C{xmpps://host:port} for direct TLS.
    @param sasl2: Version 0.14, which knows it.
    @param more: C{resource}, which is the tag of Bind 2.
    """
    account = {"domain": domain, "username": user, "password": password}
    settings = {"service": service, **account, **more}
    env = {**os.environ, "NODE_EXTRA_CA_CERTS": str(trust)}
    return Driver(
        processes,
        f"npm-{user}",
        _npm("client", "xmpp-client-sasl2" if sasl2 else "@xmpp/client"),
        settings,
        env,
    )


def _npm(driver: str, package: str) -> list[str]:
    node = require("node", "nodejs")
    if not (_PEERS / "npm" / "node_modules" / package).is_dir():
        pytest.fail(
            f"{package} is not installed; run: make test, or npm ci --prefix peers/npm",
            pytrace=False,
        )
    return [node, str(_PEERS / "npm" / f"{driver}.js"), package]


def _component(address: str, secret: str, port: int) -> dict[str, Any]:
    return {"jid": address, "password": secret, "host": "127.0.0.1", "port": port}


def _python(driver: str) -> list[str]:
    return [sys.executable, "-u", str(_PEERS / "drivers" / driver)]


class GoSendxmpp:
    """
    Debian's go-sendxmpp, a client written in Go.

    It checks the server's certificate against C{trust} for the domain of the JID.
    """

    def __init__(
        self, processes: Processes, jid: str, password: str, port: int, trust: Path
    ) -> None:
        self._processes = processes
        self._name = f"go-sendxmpp-{jid.partition('@')[0]}"
        self._command = [
            require("go-sendxmpp", "go-sendxmpp"),
            *("--username", jid, "--password", password),
            *("--jserver", f"127.0.0.1:{port}", "--timeout", "10", "--debug"),
        ]
        # Go believes the CAs of SSL_CERT_FILE alone; HOME keeps it off the user's files.
        home = processes.make_directory(self._name)
        self._env = {
            **os.environ,
            "SSL_CERT_FILE": str(trust),
            "SSL_CERT_DIR": str(home),
            "HOME": str(home),
        }

    def send(self, to: str, body: str) -> tuple[int, str]:
        """Log in, send one message, log out; its exit status and what it wrote."""
        return self._processes.run(
            self._name, [*self._command, to], text=body, seconds=30.0, env=self._env
        )

    def listen(self) -> Process:
        """Log in and write each message that comes to the output."""
        return self._processes.start(
            f"{self._name}-listen", [*self._command, "--listen"], env=self._env
        )
