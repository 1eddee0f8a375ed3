"""
Steps 4 and 5: from a domain to targets, and from a target to addresses.

Finding is separate from connecting.  The link tries the targets found here one
after the other, and records each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest
from random import Random
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.names import dns
from twisted.python.failure import Failure

from cms import faults
from cms.discovery.address import ServerAddress, ascii_domain
from cms.discovery.message import MOST_ALIASES
from cms.discovery.resolver import DNS, Answer, NoSuchName
from cms.discovery.systemfiles import is_ip
from cms.signalflow import Step, StepError

SERVICE = "_xmpp-component._tcp"
MISSPELT = "_xmppcomponent._tcp"  # as the document that introduced the service prints it
CLIENT_SERVICE = "_xmpp-client._tcp"
CLIENT_PORT = 5222
MOST_TARGETS = 32  # of a record, and
MOST_ADDRESSES = 16  # of a target, that are tried; a round must end


@frozen
class Target:
    """
    A server to try.

    @ivar host: The name that its certificate must cover; A-labels or an IP.
    @ivar supplied: Addresses that came with the SRV answer.  They are a hint, used
        only when DNS does not answer the question for them.
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
    """What a step found, and its evidence."""

    targets: tuple[Target, ...] = ()
    addresses: tuple[str, ...] = ()
    evidence: dict[str, str] = field(factory=dict)
    warnings: tuple[StepError, ...] = ()


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

    def targets(self, domain: str, service: str = SERVICE) -> Deferred[Found]:
        """
        Step 4: the servers that a domain names for its components, or for another service.

        @param domain: In A-labels.
        @return: Fires with the targets in the order to try; fails with
            C{DiscoveryError}.
        """
        return Deferred.fromCoroutine(self._targets(domain, service))

    def addresses(self, target: Target) -> Deferred[Found]:
        """
        Step 5: a target's addresses, IPv6 and IPv4 in turn (RFC 8305 4).

        @return: Fires with them; fails with C{DiscoveryError}.
        """
        return Deferred.fromCoroutine(self._addresses(target))

    async def _targets(self, domain: str, service: str) -> Found:
        record = f"{service}.{domain}"
        try:
            answer = await self._dns.ask(record, dns.SRV, Step.SRV)
        except NoSuchName as missing:
            if service != SERVICE:
                seen = {"record": record, "server": missing.server, **_asked(missing.asked)}
                raise faults.SRV_NXDOMAIN.error(**seen) from None
            raise await self._why_missing(record, domain, missing) from None
        seen = {"record": record, **_asked(answer.asked)}
        named = srv_targets(answer)
        if not named:
            raise faults.SRV_NO_DATA.error(server=answer.server, **seen)
        targets = [target for target in dict.fromkeys(named) if target.host]
        if not targets:
            raise faults.SRV_NOT_OFFERED.error(**seen)
        ordered = order_targets(targets, self._random)
        evidence = {**seen, "found": "; ".join(t.source for t in ordered)}
        if len(ordered) > MOST_TARGETS:
            evidence["not_tried"] = ", ".join(map(str, ordered[MOST_TARGETS:]))
            ordered = ordered[:MOST_TARGETS]
        warnings = tuple(chain.from_iterable(_warnings_of(t) for t in ordered))
        return Found(targets=tuple(ordered), evidence=evidence, warnings=warnings)

    async def _why_missing(self, record: str, domain: str, missing: NoSuchName) -> StepError:
        misspelt = f"{MISSPELT}.{domain}"
        absent = faults.SRV_NXDOMAIN.error(
            record=record, server=missing.server, **_asked(missing.asked)
        )
        try:
            answer = await self._dns.ask(misspelt, dns.SRV, Step.SRV)
        except (NoSuchName, StepError):
            return absent
        if any(rr.type == dns.SRV for rr in answer.records):
            return faults.SRV_MISSPELT.error(record=record, misspelt=misspelt)
        return absent

    async def _addresses(self, target: Target) -> Found:
        if target.is_ip:
            return Found(addresses=(target.host,), evidence={"address": target.host})
        if target.host == "localhost" or target.host.endswith(".localhost"):
            local = ("::1", "127.0.0.1")  # RFC 6761 6.3: never asked of DNS
            return Found(addresses=local, evidence={"addresses": ", ".join(local)})
        known = self._dns.hosts(target.host)
        if known:
            shown = {"host": target.host, "addresses": ", ".join(known), "from": "/etc/hosts"}
            return Found(addresses=known[:MOST_ADDRESSES], evidence=shown)
        try:
            return await self._look_up(target)
        except StepError as problem:
            if not target.supplied:
                raise
            return _supplied(target, problem)

    async def _look_up(self, target: Target) -> Found:
        """A and AAAA at the same time; one of them is enough."""
        families = [
            Deferred.fromCoroutine(self._family(target.host, type_)) for type_ in (dns.AAAA, dns.A)
        ]
        results: list[_Family] = []
        # Errors are consumed: when the look-up is cancelled, both families fail.
        for _, result in await DeferredList(families, consumeErrors=True):
            if isinstance(result, Failure):
                result.raiseException()
            results.append(result)
        v6, v4 = results
        addresses = _in_turn([*v6.addresses, *v4.addresses])
        problems = [family.problem for family in results if family.problem is not None]
        if not addresses:
            if is_ip(target.host):
                raise faults.SRV_TARGET_ADDRESS.error(host=target.host, found=target.source)
            raise self._why_none(target.host, results, problems)
        if problems:  # the family that is silent may be the one that works
            addresses = _in_turn([*addresses, *target.supplied])
        warnings = [faults.ADDRESS_FAMILY_UNKNOWN.error(problem=p.cause) for p in problems]
        alias = v6.alias or v4.alias
        records = "; ".join([*v6.shown, *v4.shown])
        evidence = {"host": target.host, "addresses": ", ".join(addresses), "records": records}
        evidence.update(_asked(v6.asked or v4.asked))
        if alias:
            evidence["alias"] = alias
            if target.source != "configured":
                warnings.append(faults.SRV_TARGET_ALIAS.error(host=target.host, alias=alias))
        if len(addresses) > MOST_ADDRESSES:
            evidence["not_tried"] = ", ".join(addresses[MOST_ADDRESSES:])
        found = addresses[:MOST_ADDRESSES]
        return Found(addresses=found, evidence=evidence, warnings=tuple(warnings))

    def _why_none(
        self, host: str, results: Sequence[_Family], problems: Sequence[StepError]
    ) -> StepError:
        missing = any(family.missing for family in results)
        if problems and not missing:  # NXDOMAIN is true of every type (RFC 8020 2)
            return problems[0]
        told = [family for family in results if family.problem is None]
        best = next((family for family in told if family.missing), told[0])
        seen = {"host": host, "server": best.server, **_asked(best.asked)}
        alias = next((family.alias for family in results if family.alias), None)
        if alias is not None:
            return faults.HOST_ALIAS_BROKEN.error(alias=alias, **seen)
        if not all(family.missing for family in told):
            return faults.HOST_NO_DATA.error(**seen)
        if "." not in host:
            search = ", ".join(self._dns.search()) or "none"
            return faults.HOST_SHORT.error(search=search, **seen)
        return faults.HOST_NXDOMAIN.error(**seen)

    async def _family(self, host: str, type_: int) -> _Family:
        """One address family, aliases followed (RFC 1034 3.6.2)."""
        name, alias, missing = host, None, False
        tried: set[str] = set()
        server = asked = ""
        while name not in tried and len(tried) < MOST_ALIASES:
            tried.add(name)
            try:
                answer = await self._dns.ask(name, type_, Step.ADDRESS)
            except NoSuchName as end:
                records, missing = end.records, True
                server, asked = end.server, end.asked
            except StepError as problem:
                return _Family((), alias, problem=problem)
            else:
                records, server, asked = answer.records, answer.server, answer.asked
            chain = _follow(name, records)
            if chain:
                name = alias = chain[-1]
            own = [rr for rr in records if rr.type == type_ and _name(rr) == name]
            if own or missing or not chain:
                found = tuple(map(_address, own))
                return _Family(
                    found,
                    alias,
                    missing=missing,
                    shown=tuple(map(_shown, own)),
                    server=server,
                    asked=asked,
                )
        return _Family((), alias, server=server, asked=asked)


@frozen
class _Family:
    addresses: tuple[str, ...]
    alias: str | None = None
    missing: bool = False
    problem: StepError | None = None
    shown: tuple[str, ...] = ()
    server: str = ""
    asked: str = ""


def _asked(told: str) -> dict[str, str]:
    """What each of several DNS servers said, as evidence."""
    return {"asked": told} if told else {}


def _supplied(target: Target, problem: StepError) -> Found:
    """DNS does not give a target's addresses: use those that came with the SRV answer."""
    addresses = target.supplied[:MOST_ADDRESSES]
    warning = faults.ADDRESS_SUPPLIED.error(
        host=target.host, addresses=", ".join(addresses), problem=problem.cause.rstrip(".")
    )
    evidence = {"addresses": f"{', '.join(addresses)} (with the SRV answer)"}
    return Found(addresses=addresses, evidence=evidence, warnings=(warning,))


def srv_targets(answer: Answer) -> list[Target]:
    """The targets in an answer, as they came; an empty host is the "." of RFC 2782."""
    return [_target(rr, answer) for rr in answer.records if rr.type == dns.SRV]


def _target(record: dns.RRHeader, answer: Answer) -> Target:
    payload: Any = record.payload
    host = _text(payload.target)
    supplied = [
        _address(rr)
        for rr in answer.additional
        if rr.type in (dns.A, dns.AAAA) and _name(rr) == host
    ]
    source = f"SRV {payload.priority} {payload.weight} {payload.port} {host} (TTL {record.ttl} s)"
    return Target(
        host,
        payload.port,
        is_ip=False,
        source=source,
        supplied=_in_turn(supplied),
        priority=payload.priority,
        weight=payload.weight,
    )


def _warnings_of(target: Target) -> list[StepError]:
    """Warnings about a record that works now but may fail with other resolvers."""
    found = []
    if target.port == CLIENT_PORT:
        found.append(faults.SRV_CLIENT_PORT.error(host=target.host, found=target.source))
    try:
        ascii_domain(target.host)
    except ValueError:
        found.append(faults.SRV_TARGET_NO_NAME.error(host=target.host, found=target.source))
    return found


def _in_turn(addresses: Sequence[str]) -> tuple[str, ...]:
    """IPv6 and IPv4 alternate, IPv6 first (RFC 8305 4)."""
    v6 = [address for address in addresses if ":" in address]
    v4 = [address for address in addresses if ":" not in address]
    return tuple(a for pair in zip_longest(v6, v4) for a in pair if a)


def _follow(name: str, records: Sequence[dns.RRHeader]) -> list[str]:
    """The aliases that lead on from a name, in order; a loop ends where it closes."""
    aliases = {_name(rr): _alias_of(rr) for rr in records if _is_alias(rr)}
    chain: list[str] = []
    while name in aliases and aliases[name] not in chain:
        name = aliases[name]
        chain.append(name)
    return chain


def _is_alias(record: dns.RRHeader) -> bool:
    return bool(record.type == dns.CNAME)


def _alias_of(record: dns.RRHeader) -> str:
    payload: Any = record.payload
    return _text(payload.name)


def _name(record: dns.RRHeader) -> str:
    return _text(record.name)


def _text(name: dns.Name) -> str:
    """A name as text; octets that could disturb a log as in RFC 1035 5.1."""
    octets = name.name.rstrip(b".").lower()
    return "".join(chr(o) if 0x20 < o < 0x7F else f"\\{o:03}" for o in octets)


def _shown(record: dns.RRHeader) -> str:
    kind = "A" if record.type == dns.A else "AAAA"
    return f"{kind} {_address(record)} (TTL {record.ttl} s)"


def _address(record: dns.RRHeader) -> str:
    payload: Any = record.payload
    return str(ip_address(payload.dottedQuad() if record.type == dns.A else payload.address))
