"""This server's own DNS records: what peers find, and where it leads them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from random import Random

from cms import faults
from cms.audit.finding import Finding, failed, passed, skipped, warned
from cms.audit.ownserver import OwnServer
from cms.audit.records import NAMELESS, judge_client_record, look_for_clients
from cms.discovery.lookup import CLIENT_SERVICE, SERVICE, Finder, Target
from cms.discovery.resolver import DNS
from cms.signalflow import Step, StepError

_NO_RECORD = {faults.SRV_NXDOMAIN.name, faults.SRV_NO_DATA.name}


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
) -> list[Finding]:
    """
    The SRV records of this server's services: they exist, lead here, to the right ports.

    @param needs_record: Whether it is a failure if components cannot find the server by
        SRV.  It never is if all component listeners are local.
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
) -> list[Finding]:
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
    return [*results, *(warned(warning, record) for warning in answer.warnings)]


async def _client_record(server: OwnServer, resolver: DNS) -> list[Finding]:
    seen = await look_for_clients(resolver, server.ascii_domain)
    if seen.targets:
        return _judge_targets(server, seen.name, "client", seen.targets)
    found = judge_client_record(seen, server.ascii_domain, nameless=server.is_nameless)
    for finding in found:
        if finding.problem is not None:
            port = _listening(server, "client")
            finding.problem.mend = faults.srv_record(seen.name, port, server.hostname)
    return found


def _listening(server: OwnServer, kind: str) -> str:
    """The port for a record to copy."""
    ports = sorted(listener.port for listener in server.listeners(kind))
    return str(ports[0]) if ports else "<port>"


def _judge_targets(
    server: OwnServer, record: str, kind: str, targets: Sequence[Target]
) -> list[Finding]:
    shown = "; ".join(target.source for target in targets)
    listening = sorted({listener.port for listener in server.listeners(kind)})
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
        return [passed(Step.SRV, record, {"record": record, "found": shown})]
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
) -> list[Finding]:
    """Whether the server's name leads to this host, and the listeners are open there."""
    target = Target(server.hostname, 0, is_ip=False, source="hostname")
    try:
        found = await Finder(resolver, random).addresses(target)
    except StepError as problem:
        return [failed(problem, server.hostname)]
    results = [passed(Step.ADDRESS, server.hostname, found.evidence)]
    results += [warned(warning, server.hostname) for warning in found.warnings]
    if not any(is_own(address) for address in found.addresses):
        warning = faults.OWN_HOST_ELSEWHERE.error(
            host=server.hostname, addresses=", ".join(found.addresses)
        )
        return [*results, warned(warning, server.hostname)]
    if not all(ip_address(address).is_loopback for address in found.addresses):
        results += _judge_reach(server)
    return results


def _judge_reach(server: OwnServer) -> list[Finding]:
    """Warn of listeners that DNS announces but that are open on this host only."""
    services = {"component": SERVICE, "client": CLIENT_SERVICE}
    results = []
    for kind, service in services.items():
        listeners = server.listeners(kind)
        if listeners and all(listener.endpoint.is_local for listener in listeners):
            record = f"{service}.{server.ascii_domain}"
            warning = faults.OWN_LISTENER_LOCAL.error(
                record=record, kind=kind, port=listeners[0].port
            )
            results.append(warned(warning, listeners[0].endpoint.text))
    return results
