"""Listeners as configured: whether they could be opened, or what listens there now."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory

from cms.commands.outcomes import Outcome
from cms.process.endpoints import PROXIED, check_kind, check_plain, expand
from cms.signalflow import StepError
from cms.xmpp.config import ADMINISTRATION, LISTENERS, XmppConfig

TIMEOUT = 2.0  # seconds for a connection to a listener of this host


@frozen
class Place:
    """
    Where a listener listens.

    @ivar family: Of the socket module.
    """

    family: int
    address: Any

    @property
    def port(self) -> int | None:
        """Of TCP."""
        return None if self.family == socket.AF_UNIX else int(self.address[1])


@define
class _Recorder:
    """As much of a reactor as an endpoint needs to tell where it would listen."""

    places: list[Place] = field(factory=list)

    def listenTCP(
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> None:
        """See C{IReactorTCP}."""
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        self.places.append(Place(family, (interface or "0.0.0.0", port)))  # noqa: S104

    def listenUNIX(self, address: str, factory: Factory, *rest: Any, **options: Any) -> None:
        """See C{IReactorUNIX}."""
        self.places.append(Place(socket.AF_UNIX, address))


def places(description: str) -> list[Place]:
    """
    Where an endpoint string would listen.

    @raise ValueError: it is no endpoint.
    """
    recorder = _Recorder()
    for text in expand(description):
        try:
            endpoint = serverFromString(cast("Any", recorder), text)
        except Exception as problem:  # noqa: BLE001 - each parser, and each plugin, has its own
            raise ValueError(str(problem) or type(problem).__name__) from None
        endpoint.listen(Factory()).addErrback(lambda _: None)
    return recorder.places


def findings(config: XmppConfig, running: bool) -> list[Outcome]:
    """Each listener of the configuration."""
    return [
        _judge(f"listen.{kind}", description, config, running)
        for kind in (*LISTENERS, *ADMINISTRATION)
        for description in config.listen[kind]
    ]


def _judge(key: str, description: str, config: XmppConfig, running: bool) -> Outcome:
    name = f"{key} {description}"
    if description.removeprefix(PROXIED).startswith("systemd:"):
        return Outcome("ok", f"{name} is handed over by systemd; systemctl list-sockets shows it.")
    try:
        check_kind(key, description, config.file)
        if key.endswith("_plain"):
            check_plain(key, description, config.file)
        found = places(description)
    except StepError as error:
        return Outcome.of(error)
    except ValueError as problem:
        return Outcome("wrong", f"{name} is no endpoint ({problem}).", "Write tcp:PORT.")
    if not found:
        return Outcome("warning", f"{name} cannot be checked from here.")
    tried = [_answers(place) if running else _is_free(place) for place in found]
    problems = [problem for problem in tried if problem is not None]
    if running:
        return _judge_running(name, problems, len(tried))
    return judge_stopped(name, problems, len(tried))


def _judge_running(name: str, problems: list[str], tried: int) -> Outcome:
    if len(problems) < tried:
        return Outcome("ok", f"{name} listens.")
    cure = "Restart the server: it reads its listeners when it starts."
    return Outcome("wrong", f"{name} does not answer ({problems[0]}).", cure)


def judge_stopped(name: str, problems: list[str], tried: int) -> Outcome:
    """
    @param problems: Names of errors, of the attempts that failed.
    @param tried: How many there were.
    """
    # Of the two families of one port, one is enough where the other is not there.
    if not problems or (len(problems) < tried and "EADDRINUSE" not in problems):
        return Outcome("ok", f"{name} is free.")
    problem = problems[0]
    text = f"{name} cannot be opened: {_WORDS.get(problem, problem)}."
    return Outcome("wrong", text, _CURES.get(problem, "Correct the endpoint."))


_WORDS = {
    "EADDRINUSE": "something listens there already",
    "EACCES": "this user may not open it",
    "EADDRNOTAVAIL": "no interface of this host has that address",
}
_CURES = {
    "EADDRINUSE": "Stop that program (ss -ltnp names it), or choose another port.",
    "EACCES": "Choose a port above 1023, or give the daemon CAP_NET_BIND_SERVICE.",
    "EADDRNOTAVAIL": "Write an address of this host (ip address lists them).",
}


def _is_free(place: Place) -> str | None:
    """The name of the error that opening it ends with."""
    if place.family == socket.AF_UNIX:
        return "EADDRINUSE" if _answers(place) is None else None
    try:
        with socket.socket(place.family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place.address)
            probe.listen(1)
    except OSError as problem:
        return errno.errorcode.get(problem.errno or 0, str(problem))
    return None


def _answers(place: Place) -> str | None:
    """The name of the error that a connection ends with."""
    address = place.address
    if place.family != socket.AF_UNIX:
        host, port = address
        address = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
    try:
        with socket.socket(place.family, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(address)
    except OSError as problem:
        return problem.strerror or str(problem)
    return None
