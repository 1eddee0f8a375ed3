"""Step 4: the SRV records that a Callbridge follows, and those beside them."""

from __future__ import annotations

from attrs import field, frozen
from twisted.names import dns

from cms import faults
from cms.audit.reach import NAMELESS
from cms.check.findings import Lane
from cms.discovery.lookup import MISSPELT, SERVICE, Found, Target
from cms.discovery.lookup import srv_targets as targets_in
from cms.discovery.resolver import DNS, Answer, NoSuchName
from cms.signalflow import Step, StepError

CLIENT_SERVICE = "_xmpp-client._tcp"
COMPONENT_PORT = 5223
# Records of Cisco's presence and collaboration servers, which have XMPP records
# of their own on a company's main domain.
OTHERS = ("_cisco-uds._tcp", "_cuplogin._tcp", "_collab-edge._tls")


@frozen
class Beside:
    """
    What DNS holds beside the component's record.

    @ivar silent: DNS did not answer at all, so nothing is known.
    """

    client: tuple[Target, ...] = ()
    misspelt: tuple[Target, ...] = ()
    client_missing: bool = False
    client_closed: bool = False
    others: tuple[str, ...] = ()
    silent: StepError | None = field(default=None)


async def look(resolver: DNS, name: str) -> tuple[tuple[Target, ...], bool]:
    """
    The targets of a record of any service.

    @return: They, and whether the record says that nothing is offered.
    @raise DiscoveryError: DNS gave no usable answer.
    """
    try:
        answer: Answer = await resolver.ask(name, dns.SRV, Step.SRV)
    except NoSuchName:
        return (), False
    found = targets_in(answer)
    offered = tuple(target for target in found if target.host)
    return offered, bool(found) and not offered


async def look_beside(resolver: DNS, domain: str) -> Beside:
    """Ask for the records beside the component's."""
    try:
        client, closed = await look(resolver, f"{CLIENT_SERVICE}.{domain}")
    except StepError as problem:
        return Beside(silent=problem)
    misspelt: tuple[Target, ...] = ()
    others: list[str] = []
    try:
        misspelt, _ = await look(resolver, f"{MISSPELT}.{domain}")
        others = [
            f"{service}.{domain}"
            for service in OTHERS
            if (await look(resolver, f"{service}.{domain}"))[0]
        ]
    except StepError:
        pass  # an answer for one record was enough to know that DNS works
    return Beside(
        client=client,
        misspelt=misspelt,
        client_missing=not client and not closed,
        client_closed=closed,
        others=tuple(others),
    )


def judge_found(lane: Lane, found: Found, domain: str, *, seconds: float) -> None:
    """The component's record was found: tell of it, and of what is lucky in it."""
    record = f"{SERVICE}.{domain}"
    lane.passed(Step.SRV, record, seconds, found.evidence)
    for doubt in found.warnings:
        if not _is_ip(doubt.evidence.get("host", "")):  # step 5 tells of that one
            lane.warned(doubt, record)
    for target in found.targets:
        if target.host == "localhost" or target.host.endswith(".localhost"):
            lane.warned(faults.SRV_TARGET_LOCAL.error(host=target.host), record)
    hosts = sorted({target.host for target in found.targets})
    if len(hosts) == 1:
        lane.warned(
            faults.SRV_SINGLE_TARGET.error(record=record, host=hosts[0], domain=domain), record
        )


def judge_beside(
    lane: Lane, beside: Beside, domain: str, *, misspelt_told: bool, nameless: bool
) -> None:
    """
    Tell of the records beside the component's.

    @param nameless: The server is C{localhost}, which no record leads to.
    """
    record = f"{CLIENT_SERVICE}.{domain}"
    if beside.silent is not None:
        lane.skipped(Step.SRV, record, f"not known: {beside.silent.cause}")
        return
    if beside.client:
        shown = "; ".join(target.source for target in beside.client)
        lane.passed(Step.SRV, record, 0.0, {"record": record, "found": shown}, "for clients")
    if beside.client_missing and nameless:
        lane.skipped(Step.SRV, record, NAMELESS)
    elif beside.client_missing:
        lane.warned(faults.CLIENT_SRV_MISSING.error(record=record, domain=domain), record)
    if beside.client_closed:
        lane.warned(faults.CLIENT_SRV_NOT_OFFERED.error(record=record), record)
    for target in beside.client:
        if target.port == COMPONENT_PORT:
            lane.warned(
                faults.CLIENT_SRV_PORT.error(
                    record=record,
                    host=target.host,
                    priority=target.priority,
                    weight=target.weight,
                ),
                record,
            )
    if beside.misspelt and not misspelt_told:
        right, wrong = f"{SERVICE}.{domain}", f"{MISSPELT}.{domain}"
        lane.warned(faults.SRV_MISSPELT_BESIDE.error(record=right, misspelt=wrong), wrong)
    if beside.others:
        lane.warned(faults.DOMAIN_OF_OTHERS.error(domain=domain, records=", ".join(beside.others)))


def _is_ip(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host
