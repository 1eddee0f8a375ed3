"""DNS and listeners: what others find when they look for this server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.names import dns

from cms import faults
from cms.audit.results import Result, failed, passed, skipped, warned
from cms.audit.subject import Endpoint, OwnServer
from cms.discovery.lookup import SERVICE, Finder, Target, srv_targets
from cms.discovery.race import Race
from cms.discovery.resolver import DNS, NoSuchName
from cms.signalflow import Step, StepError

CLIENT_SERVICE = "_xmpp-client._tcp"
NAMELESS = "it does not exist; a server by the name of localhost has no use for it"
_NO_RECORD = {faults.SRV_NXDOMAIN.name, faults.SRV_NO_DATA.name}
CONNECT_TIMEOUT = 3.0  # seconds to reach a listener on this very host


def is_own_address(address: str) -> bool:
    """Whether an IP address belongs to this host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


async def audit_records(
    server: OwnServer, resolver: DNS, random: Random, *, needs_record: bool = True
) -> list[Result]:
    """
    The SRV records of this server's services: they exist, lead here, to the right ports.

    @param needs_record: Whether it is a failure that components cannot find the
        server by SRV; it never is where they can only be on this host.
    """
    found = []
    if server.listen.get("component"):
        needs_record = needs_record and not server.is_local
        found += await _component_record(server, resolver, random, needs_record)
    if server.listen.get("client"):
        found += await _client_record(server, resolver)
    return found


async def _component_record(
    server: OwnServer, resolver: DNS, random: Random, needed: bool
) -> list[Result]:
    record = f"{SERVICE}.{server.ascii_domain}"
    try:
        answer = await Finder(resolver, random).targets(server.ascii_domain)
    except StepError as problem:
        port = _listening(server, "component")
        if problem.fault in _NO_RECORD and server.is_nameless:
            return [skipped(Step.SRV, record, NAMELESS)]
        if problem.fault in _NO_RECORD and not needed:
            seen = {"record": record, "host": server.hostname, "port": port}
            return [warned(faults.OWN_SRV_MISSING.error(**seen), record)]
        if problem.fault in faults.RECORD_ABSENT:
            problem.mend = faults.srv_record(record, port, server.hostname)
        return [failed(problem, record)]
    results = _judge_targets(server, record, "component", answer.targets)
    return [*results, *(warned(doubt, record) for doubt in answer.warnings)]


async def _client_record(server: OwnServer, resolver: DNS) -> list[Result]:
    record = f"{CLIENT_SERVICE}.{server.ascii_domain}"
    try:
        answer = await resolver.ask(record, dns.SRV, Step.SRV)
    except NoSuchName:
        targets: list[Target] = []
    except StepError as problem:
        return [skipped(Step.SRV, record, f"not known: {problem.cause}")]
    else:
        targets = srv_targets(answer)
    offered = [target for target in targets if target.host]
    if targets and not offered:
        doubt = faults.CLIENT_SRV_NOT_OFFERED
    elif not targets and server.is_nameless:
        return [skipped(Step.SRV, record, NAMELESS)]
    elif not targets:
        doubt = faults.CLIENT_SRV_MISSING
    else:
        return _judge_targets(server, record, "client", offered)
    missing = doubt.error(record=record, domain=server.ascii_domain, host=server.hostname)
    missing.mend = faults.srv_record(record, _listening(server, "client"), server.hostname)
    return [warned(missing, record)]


def _listening(server: OwnServer, kind: str) -> str:
    """The port for a record to copy."""
    ports = sorted(endpoint.port for endpoint in server.endpoints(kind))
    return str(ports[0]) if ports else "<port>"


def _judge_targets(
    server: OwnServer, record: str, kind: str, targets: Sequence[Target]
) -> list[Result]:
    shown = "; ".join(target.source for target in targets)
    listening = sorted({endpoint.port for endpoint in server.endpoints(kind)})
    right = _listening(server, kind)
    here = [target for target in targets if target.host == server.hostname]
    if not here:
        others = ", ".join(str(target) for target in targets)
        problem = faults.OWN_SRV_ELSEWHERE.error(
            record=record, targets=others, host=server.hostname, port=right
        )
        return [failed(problem, record)]
    wrong = [target for target in here if target.port not in listening]
    if not wrong or not server.knows_ports(kind):
        return [passed(Step.SRV, record, record=record, found=shown)]
    ports = ", ".join(map(str, listening)) or "no TCP port"
    seen = {"record": record, "host": server.hostname, "listening": ports, "kind": kind}
    return [
        failed(faults.OWN_SRV_PORT.error(port=target.port, right=right, **seen), record)
        for target in wrong
    ]


async def audit_addresses(
    server: OwnServer,
    resolver: DNS,
    random: Random,
    is_own: Callable[[str], bool] = is_own_address,
) -> list[Result]:
    """The server's own name leads to this host, and the listeners are open there."""
    target = Target(server.hostname, 0, is_ip=False, source="hostname")
    try:
        found = await Finder(resolver, random).addresses(target)
    except StepError as problem:
        return [failed(problem, server.hostname)]
    results = [passed(Step.ADDRESS, server.hostname, **found.evidence)]
    results += [warned(doubt, server.hostname) for doubt in found.warnings]
    if not any(is_own(address) for address in found.addresses):
        doubt = faults.OWN_HOST_ELSEWHERE.error(
            host=server.hostname, addresses=", ".join(found.addresses)
        )
        return [*results, warned(doubt, server.hostname)]
    if not all(ip_address(address).is_loopback for address in found.addresses):
        results += _judge_reach(server)
    return results


def _judge_reach(server: OwnServer) -> list[Result]:
    """Listeners of which the world is told, but which are open on this host alone."""
    services = {"component": SERVICE, "client": CLIENT_SERVICE}
    results = []
    for kind, service in services.items():
        endpoints = server.endpoints(kind)
        if endpoints and all(endpoint.is_local for endpoint in endpoints):
            record = f"{service}.{server.ascii_domain}"
            doubt = faults.OWN_LISTENER_LOCAL.error(
                record=record, kind=kind, port=endpoints[0].port
            )
            results.append(warned(doubt, endpoints[0].text))
    return results


async def audit_listeners(
    server: OwnServer, reactor: Any, *, running: bool | None
) -> AsyncIterator[Result]:
    """
    Whether each listener can be reached from this host itself.

    @param running: Whether the daemon runs; C{None}: it does if any listener
        can be reached.
    """
    endpoints = server.endpoints("component", "component_plain", "client", "client_direct")
    trying = [Deferred.fromCoroutine(_reach(reactor, endpoint)) for endpoint in endpoints]
    outcomes = [await each for each in trying]
    if running is None:
        running = any(problem is None for problem in outcomes)
    for endpoint, problem in zip(endpoints, outcomes, strict=True):
        if problem is None:
            yield passed(Step.CONNECT, endpoint.text, listener=endpoint.kind)
        elif running:
            dead = faults.OWN_LISTENER_DEAD.error(
                endpoint=endpoint.text,
                kind=endpoint.kind,
                address=f"{endpoint.addresses[0]} port {endpoint.port}",
                problem=problem.cause.rstrip("."),
            )
            yield failed(dead, endpoint.text)
        else:
            yield skipped(Step.CONNECT, endpoint.text, "the server does not run")


async def _reach(reactor: Any, endpoint: Endpoint) -> StepError | None:
    race = Race(reactor, Protocol, endpoint.addresses, endpoint.port, timeout=CONNECT_TIMEOUT)
    try:
        protocol, _ = await race.run()
    except StepError as problem:
        return problem
    transport: Any = protocol.transport
    transport.abortConnection()
    return None
