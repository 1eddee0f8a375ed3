"""C{cms check --server} of a server in a cluster: the engine, its Sentinels, and who is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen
from twisted.internet.defer import Deferred, gatherResults

from cms import faults
from cms.audit.clock import judge_clock
from cms.audit.finding import Finding, failed, passed, warned
from cms.cluster import scripts
from cms.cluster.connecting import SECONDS, Connector, EngineSettings, facts_of
from cms.cluster.engine import EngineAway, Member, Refused
from cms.cluster.redisengine import read_member
from cms.cluster.resp import Complaint, RedisConnection
from cms.cluster.rights import missing_rights
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError

_ENGINE, _SENTINELS, _NODES = "engine", "Sentinels", "nodes"
# Of Sentinels, which are asked at the same time, a connection and two answers; of the engine
# what can be waited for before it counts as away, and as long again for one that is slow.
MOST_SECONDS: Final = 3 * SECONDS + 8 * SECONDS


@frozen
class OwnNode:
    """
    A server of a cluster, as its configuration says.

    @ivar host: Its hostname.
    """

    name: str
    host: str
    domain: str
    engine: EngineSettings = field(repr=False)


@frozen
class _Told:
    """
    What a Sentinel says.

    @ivar master: Host and port; empty: it knows none, or was not asked.
    @ivar problem: What is wrong with it.
    """

    sentinel: str
    master: str = ""
    problem: Finding | None = None
    sentinels: int = 0


class ClusterCheck:
    """
    Asks; what is found is yielded.

    @param random: Makes that many unpredictable bytes.
    @param status: What the running server says of its cluster; C{None}: it does not run.
    """

    def __init__(self, reactor: Any, own: OwnNode, random: Any, status: Mapping[str, Any] | None):
        self._reactor = reactor
        self._own = own
        self._random = random
        self._status = status
        self._connector: Connector

    async def findings(self) -> AsyncIterator[Finding]:
        """All, in their order."""
        try:
            self._connector = Connector(self._reactor, self._own.engine)
        except StepError as problem:  # the CAs cannot be read
            yield failed(problem, _ENGINE)
            return
        if self._own.engine.master:
            async for finding in self._sentinels():
                yield finding
        try:
            host, port = await self._connector.find()
            connection = await self._connector.open(host, port, judged=True)
        except Refused as refused:
            yield failed(refused.error, _ENGINE)
            return
        try:
            async for finding in self._asked(connection, f"{host}:{port}"):
                yield finding
        except Complaint as complaint:
            yield failed(self._connector.explain(complaint), _ENGINE)
        except EngineAway as away:
            engine = self._connector.shown
            error = faults.ENGINE_UNREACHABLE.error(engine=engine, problem=str(away))
            yield failed(error, _ENGINE)
        finally:
            connection.abort("done")

    # Sentinels

    async def _sentinels(self) -> AsyncIterator[Finding]:
        asked = [Deferred.fromCoroutine(self._sentinel(*at)) for at in self._own.engine.hosts]
        told: list[_Told] = await gatherResults(asked)
        for each in told:
            if each.problem is not None:
                yield each.problem
        named = Counter(each.master for each in told if each.master)
        if len(named) > 1:
            words = ", ".join(f"{e.sentinel} names {e.master}" for e in told if e.master)
            master = self._own.engine.master
            yield failed(faults.SENTINELS_DISAGREE.error(named=words, master=master), _SENTINELS)
        elif named:
            evidence = {"master": next(iter(named)), "asked": ", ".join(e.sentinel for e in told)}
            evidence["known"] = str(max(each.sentinels for each in told))
            yield passed(Step.CONFIGURATION, _SENTINELS, evidence)

    async def _sentinel(self, host: str, port: int) -> _Told:
        shown, master = f"{host}:{port}", self._own.engine.master
        try:
            connection = await self._connector.connect(host, port, tls=False)
        except Refused as refused:
            problem = str(refused.error.evidence["problem"]).removeprefix(f"{shown}: ")
            return self._silent(shown, problem)
        try:
            found = await connection.ask("SENTINEL", "MASTER", master, seconds=SECONDS)
        except Complaint as complaint:
            if complaint.codes & {"NOAUTH", "NOPERM"}:
                return self._silent(shown, str(complaint))
            warning = faults.SENTINEL_KNOWS_NOT.error(sentinel=shown, master=master)
            return _Told(shown, problem=warned(warning, _SENTINELS))
        except EngineAway as away:
            return self._silent(shown, str(away))
        else:
            facts = _pairs(found)
            sentinels = int(facts.get("num-other-sentinels", "0")) + 1
            where = f"{facts.get('ip', '?')}:{facts.get('port', '?')}"
            problem_found = await self._quorum(connection, shown)
            return _Told(shown, where, problem_found, sentinels)
        finally:
            connection.abort("done")

    async def _quorum(self, connection: RedisConnection, shown: str) -> Finding | None:
        master = self._own.engine.master
        try:
            await connection.ask("SENTINEL", "CKQUORUM", master, seconds=SECONDS)
        except Complaint as complaint:
            problem = str(complaint)
            warning = faults.SENTINELS_NO_QUORUM.error(
                sentinel=shown, master=master, problem=problem
            )
            return warned(warning, _SENTINELS)
        except EngineAway as away:
            return self._silent(shown, str(away)).problem
        return None

    def _silent(self, shown: str, problem: str) -> _Told:
        warning = faults.SENTINEL_UNREACHABLE.error(sentinel=shown, problem=problem)
        return _Told(shown, problem=warned(warning, _SENTINELS))

    # the engine

    async def _asked(self, connection: RedisConnection, where: str) -> AsyncIterator[Finding]:
        settings, shown = self._own.engine, self._connector.shown
        info = await facts_of(connection)
        key = f"cms:check:{self._random(8).hex()}"
        missing = await missing_rights(connection, key)
        user = settings.user or "default"
        if missing:
            words = ", ".join(missing)
            yield failed(
                faults.ENGINE_RIGHTS.error(engine=shown, user=user, missing=words),
                _ENGINE,
            )
        evidence = {
            "address": where,
            "version": info.get("redis_version", "?"),
            "role": info.get("role", "?"),
            "tls": "yes" if settings.tls else "no",
            "user": user,
            "rights": "all that are needed" if not missing else "not all",
            "memory": f"{info.get('used_memory_human', '?')} of "
            + (info.get("maxmemory_human", "?") if info.get("maxmemory", "0") != "0" else "any"),
            "maxmemory_policy": info.get("maxmemory_policy", "?"),
            "replicas": info.get("connected_slaves", "?"),
            "saves": "AOF" if info.get("aof_enabled") == "1" else "no AOF",
        }
        note = "nothing in it needs to be saved: the servers tell all again"
        yield passed(Step.CONFIGURATION, _ENGINE, evidence, note)
        if {"time", "hgetall"} & set(missing):
            return
        async for finding in self._members(connection):
            yield finding

    async def _members(self, connection: RedisConnection) -> AsyncIterator[Finding]:
        asked_at = wall_clock(self._reactor)()
        seconds, micros = await connection.ask("TIME", seconds=SECONDS)
        now = int(seconds) + int(micros) / 1_000_000
        middle = (asked_at + wall_clock(self._reactor)()) / 2
        told = datetime.fromtimestamp(now, UTC)
        apart = judge_clock(told, middle, f"the engine ({self._connector.shown})")
        evidence = {"apart": f"{abs(now - middle):.1f} s"}
        yield warned(apart, _CLOCK) if apart else passed(Step.CONFIGURATION, _CLOCK, evidence)
        found = [
            _pairs(await connection.ask("HGETALL", key, seconds=SECONDS))
            for key in (scripts.SERVICE, scripts.NODES, scripts.LEASES)
        ]
        for finding in self._judge(*found, now=now):
            yield finding

    def _judge(
        self,
        service: Mapping[str, str],
        nodes: Mapping[str, str],
        leases: Mapping[str, str],
        *,
        now: float,
    ) -> Sequence[Finding]:
        own, engine = self._own, self._connector.shown
        findings = []
        domain, protocol = service.get("domain", own.domain), service.get("protocol")
        if domain != own.domain:
            error = faults.CLUSTER_OTHER_DOMAIN.error(
                engine=engine, other=domain, domain=own.domain
            )
            return [failed(error, _NODES)]
        alive = _alive(nodes, leases, now)
        if protocol not in (None, scripts.PROTOCOL) and set(alive) - {own.name}:
            error = faults.CLUSTER_OTHER_PROTOCOL.error(other=str(protocol), own=scripts.PROTOCOL)
            findings.append(failed(error, _NODES))
        there = alive.get(own.name)
        if there is None or not self._is_own(there):
            if self._is_joining():  # the lease may be that of its process before
                findings.append(failed(faults.CLUSTER_NOT_YET.error(node=own.name), _NODES))
            elif there is not None:
                shown = ", ".join(f"{key} {value}" for key, value in there.facts.items())
                error = faults.CLUSTER_NAME_TAKEN.error(node=own.name, other=shown)
                findings.append(failed(error, _NODES))
            elif self._status is not None:
                findings.append(failed(faults.CLUSTER_CUT_OFF.error(node=own.name), _NODES))
        words = ", ".join(f"{name} {_version(alive[name])}" for name in sorted(alive))
        if len({_version(member) for member in alive.values()}) > 1:
            findings.append(warned(faults.CLUSTER_VERSIONS.error(versions=words), _NODES))
        if not findings:
            evidence = {"domain": domain, "protocol": protocol or scripts.PROTOCOL, "nodes": words}
            note = "" if alive else "no server is in the cluster"
            findings.append(passed(Step.CONFIGURATION, _NODES, evidence, note))
        return findings

    def _is_own(self, member: Member) -> bool:
        """Whether the node with this server's name is this server."""
        if self._status is None:
            return False
        return bool(self._status.get("generation") == member.generation)

    def _is_joining(self) -> bool:
        """Whether this server was started a moment ago, as it says itself."""
        problem = (self._status or {}).get("problem") or {}
        return bool(problem.get("fault") == faults.CLUSTER_NOT_YET.name)


_CLOCK: Final = "clock of the engine"


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _pairs(answer: object) -> dict[str, str]:
    flat = [_text(each) for each in answer] if isinstance(answer, list) else []
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _until(lease: str | None) -> float:
    """When a lease is over, by the engine's clock."""
    return int(lease) / 1000 if lease is not None and lease.isdecimal() else 0.0


def _alive(nodes: Mapping[str, str], leases: Mapping[str, str], now: float) -> dict[str, Member]:
    """Those that have a lease."""
    found = {}
    for name, value in nodes.items():
        if _until(leases.get(name)) > now:
            with suppress(ValueError):  # nobody of ours has written it
                found[name] = read_member(name, value)
    return found


def _version(member: Member) -> str:
    return member.facts.get("version", "?")
