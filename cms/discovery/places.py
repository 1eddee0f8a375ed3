"""
Steps 4 and 5: from a domain to targets, and from a target to addresses.

Finding is separate from connecting: the link tries what is found here, one
place after another, and records each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from random import Random
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.names import dns

from cms import errors
from cms.discovery.address import ServerAddress, ascii_domain
from cms.discovery.resolver import DNS, Answer, NoSuchName
from cms.signalflow import Step, StepError

SERVICE = "_xmpp-component._tcp"
MISSPELT = "_xmppcomponent._tcp"  # as the document that introduced the service prints it
CLIENT_PORT = 5222
MOST_ALIASES = 8


@frozen
class Target:
    """
    One place to try.

    @ivar host: The name that its certificate must cover; A-labels or an IP.
    @ivar supplied: Addresses that came with the SRV answer.
    @ivar source: For evidence: the SRV record, or "configured".
    """

    host: str
    port: int
    is_ip: bool
    source: str
    supplied: tuple[str, ...] = ()
    priority: int = 0
    weight: int = 0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Found:
    """What a step found, with what it shows for it."""

    targets: tuple[Target, ...] = ()
    addresses: tuple[str, ...] = ()
    evidence: dict[str, str] = field(factory=dict)
    warnings: tuple[str, ...] = ()


def configured_target(address: ServerAddress) -> Target:
    """The single target of a configured server address."""
    return Target(address.host, address.port, address.is_ip, "configured")


def order_targets(targets: Iterable[Target], random: Random) -> list[Target]:
    """
    RFC 2782: lower priorities first; among equals a weighted draw, with the
    weights of 0 first in the running sum so that they keep a small chance.
    """
    ordered: list[Target] = []
    left = sorted(targets, key=lambda t: (t.priority, t.weight))
    while left:
        equals = [t for t in left if t.priority == left[0].priority]
        drawn = random.randint(0, sum(t.weight for t in equals))
        running = 0
        for target in equals:
            running += target.weight
            if running >= drawn:
                ordered.append(target)
                left.remove(target)
                break
    return ordered


class Finder:
    """
    Finds XMPP servers in DNS.

    @param random: Draws among SRV records of equal priority.
    """

    def __init__(self, dns: DNS, random: Random) -> None:
        self._dns = dns
        self._random = random

    def targets(self, domain: str) -> Deferred[Found]:
        """
        Step 4: the servers that a domain names for its components.

        @param domain: In A-labels.
        @return: Fires with the targets in the order to try; fails with
            C{DiscoveryError}.
        """
        return Deferred.fromCoroutine(self._targets(domain))

    def addresses(self, target: Target) -> Deferred[Found]:
        """
        Step 5: a target's addresses, IPv6 and IPv4 in turn (RFC 8305 4).

        @return: Fires with them; fails with C{DiscoveryError}.
        """
        return Deferred.fromCoroutine(self._addresses(target))

    async def _targets(self, domain: str) -> Found:
        record = f"{SERVICE}.{domain}"
        try:
            answer = await self._dns.ask(record, dns.SRV, Step.SRV)
        except NoSuchName:
            raise await self._why_missing(record, domain) from None
        records = [rr for rr in answer.records if rr.type == dns.SRV]
        if not records:
            raise errors.SRV_NO_DATA.error(record=record, server=self._dns.servers)
        targets = [_target(rr, answer) for rr in records]
        if [t.host for t in targets] == [""]:
            raise errors.SRV_NOT_OFFERED.error(record=record)
        ordered = order_targets([t for t in targets if t.host], self._random)
        evidence = {"record": record, "found": "; ".join(t.source for t in ordered)}
        warnings = tuple(chain.from_iterable(_doubts(t) for t in ordered))
        return Found(targets=tuple(ordered), evidence=evidence, warnings=warnings)

    async def _why_missing(self, record: str, domain: str) -> StepError:
        misspelt = f"{MISSPELT}.{domain}"
        try:
            answer = await self._dns.ask(misspelt, dns.SRV, Step.SRV)
        except (NoSuchName, StepError):
            return errors.SRV_NXDOMAIN.error(record=record, server=self._dns.servers)
        if any(rr.type == dns.SRV for rr in answer.records):
            return errors.SRV_MISSPELT.error(record=record, misspelt=misspelt)
        return errors.SRV_NXDOMAIN.error(record=record, server=self._dns.servers)

    async def _addresses(self, target: Target) -> Found:
        if target.is_ip:
            return Found(addresses=(target.host,), evidence={"address": target.host})
        if target.host == "localhost" or target.host.endswith(".localhost"):
            local = ("::1", "127.0.0.1")  # RFC 6761 6.3: never asked of DNS
            return Found(addresses=local, evidence={"addresses": ", ".join(local)})
        if target.supplied:
            shown = f"{', '.join(target.supplied)} (with the SRV answer)"
            return Found(addresses=target.supplied, evidence={"addresses": shown})
        return await self._look_up(target)

    async def _look_up(self, target: Target) -> Found:
        """A and AAAA at the same time; one of them is enough."""
        families = [
            Deferred.fromCoroutine(self._family(target.host, type_)) for type_ in (dns.AAAA, dns.A)
        ]
        results: list[_Family] = []
        try:
            for family in families:
                results.append(await family)  # noqa: PERF401 - both are under way already
        finally:
            for family in families:
                family.cancel()
        v6, v4 = results
        addresses = tuple(a for pair in zip_longest(v6.addresses, v4.addresses) for a in pair if a)
        problems = [family.problem for family in results if family.problem is not None]
        if not addresses:
            raise self._why_none(target.host, results, problems)
        warnings = [f"one address family could not be asked: {p.cause}" for p in problems]
        alias = v6.alias or v4.alias
        evidence = {"host": target.host, "addresses": ", ".join(addresses)}
        if alias:
            evidence["alias"] = alias
            if target.source != "configured":
                warnings.append(
                    f"the SRV target {target.host} is an alias for {alias}, which RFC 2782 forbids"
                )
        return Found(addresses=addresses, evidence=evidence, warnings=tuple(warnings))

    def _why_none(
        self, host: str, results: Sequence[_Family], problems: Sequence[StepError]
    ) -> StepError:
        alias = next((family.alias for family in results if family.alias), None)
        if alias is not None:
            return errors.HOST_ALIAS_BROKEN.error(host=host, alias=alias, server=self._dns.servers)
        if problems:
            return problems[0]
        missing = all(family.missing for family in results)
        fault = errors.HOST_NXDOMAIN if missing else errors.HOST_NO_DATA
        return fault.error(host=host, server=self._dns.servers)

    async def _family(self, host: str, type_: int) -> _Family:
        """One address family, aliases followed (RFC 1034 3.6.2)."""
        name, alias = host, None
        for _ in range(MOST_ALIASES):
            try:
                answer = await self._dns.ask(name, type_, Step.ADDRESS)
            except NoSuchName:
                return _Family((), alias, missing=True)
            except StepError as problem:
                return _Family((), alias, problem=problem)
            aliases = {_name(rr): _alias_of(rr) for rr in answer.records if _is_alias(rr)}
            followed = 0
            while name in aliases and followed < MOST_ALIASES:
                name = alias = aliases[name]
                followed += 1
            found = tuple(
                _address(rr) for rr in answer.records if rr.type == type_ and _name(rr) == name
            )
            if found or not followed:
                return _Family(found, alias)
        return _Family((), alias)


@frozen
class _Family:
    addresses: tuple[str, ...]
    alias: str | None = None
    missing: bool = False
    problem: StepError | None = None


def _target(record: dns.RRHeader, answer: Answer) -> Target:
    payload: Any = record.payload
    host = _text(payload.target)
    supplied = [
        _address(rr)
        for rr in answer.additional
        if rr.type in (dns.A, dns.AAAA) and _name(rr) == host
    ]
    supplied.sort(key=lambda a: not isinstance(ip_address(a), IPv6Address))
    source = f"SRV {payload.priority} {payload.weight} {payload.port} {host} (TTL {record.ttl} s)"
    return Target(
        host,
        payload.port,
        is_ip=False,
        source=source,
        supplied=tuple(supplied),
        priority=payload.priority,
        weight=payload.weight,
    )


def _doubts(target: Target) -> list[str]:
    """What works with this record only by luck."""
    doubts = []
    if target.port == CLIENT_PORT:
        doubts.append(
            f"the SRV record for {target.host} names port 5222, which is for clients;"
            " components use 5223"
        )
    try:
        ascii_domain(target.host)
    except ValueError:
        doubts.append(f"the SRV target {target.host} is not a host name")
    return doubts


def _is_alias(record: dns.RRHeader) -> bool:
    return bool(record.type == dns.CNAME)


def _alias_of(record: dns.RRHeader) -> str:
    payload: Any = record.payload
    return _text(payload.name)


def _name(record: dns.RRHeader) -> str:
    return _text(record.name)


def _text(name: dns.Name) -> str:
    return name.name.decode("ascii", "replace").rstrip(".").lower()


def _address(record: dns.RRHeader) -> str:
    payload: Any = record.payload
    return str(ip_address(payload.dottedQuad() if record.type == dns.A else payload.address))
