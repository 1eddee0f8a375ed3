"""The SRV records of a domain: those for Callbridges, for clients, and others."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen
from twisted.names import dns

from cms import faults
from cms.audit.finding import Finding, passed, skipped, warned
from cms.discovery.address import COMPONENT_PORT
from cms.discovery.lookup import CLIENT_SERVICE, MISSPELT, SERVICE, Found, Target
from cms.discovery.lookup import srv_targets as targets_in
from cms.discovery.resolver import DNS, Answer, NoSuchName
from cms.signalflow import Step, StepError

NAMELESS = "it does not exist; a server by the name of localhost has no use for it"

# Records of Cisco's presence and collaboration servers, which have XMPP records
# of their own on a company's main domain.
OTHERS = ("_cisco-uds._tcp", "_cuplogin._tcp", "_collab-edge._tls")


@frozen
class ClientRecord:
    """
    The record by which clients find the server.

    @ivar targets: Its targets.
    @ivar closed: It says that the service is not offered.
    @ivar silent: DNS gave no usable answer, so nothing is known.
    """

    name: str
    targets: tuple[Target, ...] = ()
    closed: bool = False
    silent: StepError | None = None


@frozen
class Beside:
    """What DNS holds besides the component's record."""

    client: ClientRecord
    misspelt: tuple[Target, ...] = ()
    others: tuple[str, ...] = ()


async def _look(resolver: DNS, name: str) -> tuple[tuple[Target, ...], bool]:
    """
    The targets of a record of any service.

    @return: The targets, and whether the record says that the service is not offered.
    @raise DiscoveryError: DNS gave no usable answer.
    """
    try:
        answer: Answer = await resolver.ask(name, dns.SRV, Step.SRV)
    except NoSuchName:
        return (), False
    found = targets_in(answer)
    offered = tuple(target for target in found if target.host)
    return offered, bool(found) and not offered


async def look_for_clients(resolver: DNS, domain: str) -> ClientRecord:
    """Ask for the clients' record."""
    name = f"{CLIENT_SERVICE}.{domain}"
    try:
        return ClientRecord(name, *await _look(resolver, name))
    except StepError as problem:
        return ClientRecord(name, silent=problem)


async def look_beside(resolver: DNS, domain: str) -> Beside:
    """Ask for the records beside the component's."""
    client = await look_for_clients(resolver, domain)
    misspelt: tuple[Target, ...] = ()
    others: list[str] = []
    try:
        if client.silent is None:
            misspelt, _ = await _look(resolver, f"{MISSPELT}.{domain}")
            others = [
                f"{service}.{domain}"
                for service in OTHERS
                if (await _look(resolver, f"{service}.{domain}"))[0]
            ]
    except StepError:
        pass  # an answer for one record was enough to know that DNS works
    return Beside(client, misspelt, tuple(others))


def judge_client_record(record: ClientRecord, domain: str, *, nameless: bool) -> list[Finding]:
    """
    What is wrong with the clients' record, or why that is not known; nothing if it offers a
    server.

    @param nameless: The server is C{localhost}, which no record leads to.
    """
    if record.silent is not None:
        return [skipped(Step.SRV, record.name, f"not known: {record.silent.cause}")]
    if record.targets:
        return []
    if record.closed:
        warning = faults.CLIENT_SRV_NOT_OFFERED
    elif nameless:
        return [skipped(Step.SRV, record.name, NAMELESS)]
    else:
        warning = faults.CLIENT_SRV_MISSING
    return [warned(warning.error(record=record.name, domain=domain), record.name)]


def judge_found(found: Found, domain: str, *, seconds: float) -> Iterator[Finding]:
    """The component's record was found: what it holds, and the warnings about it."""
    record = f"{SERVICE}.{domain}"
    yield passed(Step.SRV, record, found.evidence, seconds=seconds)
    for warning in found.warnings:
        if not _is_ip(warning.evidence.get("host", "")):  # step 5 tells of that one
            yield warned(warning, record)
    for target in found.targets:
        if target.host == "localhost" or target.host.endswith(".localhost"):
            yield warned(faults.SRV_TARGET_LOCAL.error(host=target.host), record)
    hosts = sorted({target.host for target in found.targets})
    if len(hosts) == 1:
        warning = faults.SRV_SINGLE_TARGET.error(record=record, host=hosts[0], domain=domain)
        yield warned(warning, record)


def judge_beside(
    beside: Beside, domain: str, *, misspelt_told: bool, nameless: bool
) -> Iterator[Finding]:
    """
    Judge the records beside the component's.

    @param nameless: The server is C{localhost}, which no record leads to.
    """
    client = beside.client
    if client.targets:
        shown = "; ".join(target.source for target in client.targets)
        yield passed(Step.SRV, client.name, {"record": client.name, "found": shown}, "for clients")
    yield from judge_client_record(client, domain, nameless=nameless)
    for target in client.targets:
        if target.port == COMPONENT_PORT:
            warning = faults.CLIENT_SRV_PORT.error(
                record=client.name,
                host=target.host,
                priority=target.priority,
                weight=target.weight,
            )
            yield warned(warning, client.name)
    if beside.misspelt and not misspelt_told:
        right, wrong = f"{SERVICE}.{domain}", f"{MISSPELT}.{domain}"
        yield warned(faults.SRV_MISSPELT_BESIDE.error(record=right, misspelt=wrong), wrong)
    if beside.others:
        yield warned(faults.DOMAIN_OF_OTHERS.error(domain=domain, records=", ".join(beside.others)))


def _is_ip(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host
