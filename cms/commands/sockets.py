"""The configured listeners: whether they can be opened, or whether the daemon answers."""

from __future__ import annotations

import errno
import socket
from typing import Any

from cms.commands.outcomes import Outcome
from cms.process.endpoints import expand
from cms.process.endpointstrings import Endpoint, check_plain, read_endpoint
from cms.signalflow import StepError
from cms.xmpp.config import ADMINISTRATION, LISTENERS, WEB, XmppConfig

TIMEOUT = 2.0  # seconds for a connection to a listener of this host


def findings(config: XmppConfig, running: bool) -> list[Outcome]:
    """Each listener of the configuration."""
    return [
        _judge(f"listen.{kind}", description, config, running)
        for kind in (*LISTENERS, *WEB, *ADMINISTRATION)
        for description in config.listen[kind]
    ]


def _judge(key: str, description: str, config: XmppConfig, running: bool) -> Outcome:
    name = f"{key} {description}"
    try:
        endpoint = read_endpoint(key, description, config.file)
        if key.endswith("_plain"):
            check_plain(key, description, config.file)
    except StepError as error:
        return Outcome.of(error)
    if endpoint.kind == "systemd":
        return Outcome("ok", f"{name} is handed over by systemd; systemctl list-sockets shows it.")
    found = expand(endpoint)
    tried = [_answers(each) if running else _is_free(each) for each in found]
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


def address_of(endpoint: Endpoint) -> tuple[int, Any]:
    """The family, and the address to bind to."""
    if endpoint.kind == "unix":
        return socket.AF_UNIX, endpoint.path
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    return family, (endpoint.host, endpoint.port)


def _is_free(endpoint: Endpoint) -> str | None:
    """The name of the error that opening it ends with."""
    family, address = address_of(endpoint)
    if family == socket.AF_UNIX:
        return "EADDRINUSE" if _answers(endpoint) is None else None
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if endpoint.is_shared:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
            if not endpoint.is_shared:  # or clients of the others would come here
                probe.listen(1)
    except OSError as problem:
        return errno.errorcode.get(problem.errno or 0, str(problem))
    return None


def _answers(endpoint: Endpoint) -> str | None:
    """The name of the error that a connection ends with."""
    family, address = address_of(endpoint)
    if family != socket.AF_UNIX:
        here = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        address = (endpoint.host if endpoint.is_bound else here, endpoint.port)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(address)
    except OSError as problem:
        return problem.strerror or str(problem)
    return None
