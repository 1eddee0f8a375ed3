"""
The registered Callbridges as records that the servers of a cluster share.

Their secrets are in the engine as they are in each server's file: XEP-0114's proof needs them.
Who reads the engine's data can register as a Callbridge; who writes them can anyway
(docs/design/cluster.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from cms import faults
from cms.cluster.shared import Untaken, stamp_of
from cms.configuration.tomlfile import Secret
from cms.process.logs import Logger
from cms.process.threads import TooMuchWork
from cms.state.database import StoreError
from cms.xmpp.callbridges import Callbridges
from cms.xmpp.callbridgestore import (
    MOST_SECRET,
    CallbridgeRecord,
    HeldCallbridge,
    HeldSecret,
)
from cms.xmpp.registry import component_address, component_name

MOST_SECRETS = 100  # of one Callbridge


class NoRecord(Exception):
    """It is no record of a Callbridge."""


def written(record: CallbridgeRecord) -> bytes:
    """A record as it is shared."""
    held = record.held
    facts: dict[str, object] = {}
    if held is not None:
        secrets = [[each.secret.value, each.created, each.expires] for each in held.secrets]
        facts = {"created": held.created, "secrets": secrets}
    return b"%d %s" % (record.stamp, json.dumps(facts, separators=(",", ":")).encode())


def read(name: str, data: bytes, domain: str) -> CallbridgeRecord:
    """
    What L{written} has made.

    @raise NoRecord: it has not; the text quotes nothing of it.
    """
    try:
        if component_name(component_address(name, domain), domain) != name:
            raise NoRecord("the name is not in its usual form")
        facts = json.loads(data.partition(b" ")[2])
        if facts == {}:
            return CallbridgeRecord(stamp_of(data), None)
        secrets = tuple(_secret(*each) for each in facts["secrets"])
        created = float(facts["created"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise NoRecord(type(problem).__name__) from None
    if not 0 < len(secrets) <= MOST_SECRETS:
        raise NoRecord("it has no secret, or too many")
    return CallbridgeRecord(stamp_of(data), HeldCallbridge(name, created, secrets))


def _secret(text: Any, created: Any, expires: Any) -> HeldSecret:
    if not isinstance(text, str) or not 0 < len(text) <= MOST_SECRET:
        raise TypeError
    return HeldSecret(Secret(text), float(created), None if expires is None else float(expires))


class SharedCallbridges:
    """
    This server's copy; implements L{Copy<cms.cluster.shared.Copy>}.

    @param run: Runs a function in a thread.
    """

    log = Logger()

    def __init__(
        self,
        callbridges: Callbridges,
        domain: str,
        run: Callable[[Callable[[], None]], Deferred[None]],
    ) -> None:
        self._callbridges = callbridges
        self._domain = domain
        self._run = run
        self._complained = False

    def held(self) -> Mapping[str, bytes]:
        """See L{Copy<cms.cluster.shared.Copy>}."""
        return {name: written(record) for name, record in self._read().items()}

    def _read(self) -> dict[str, CallbridgeRecord]:
        try:
            return self._callbridges.store.records()
        except StoreError as problem:
            raise self._complain(problem) from None

    def _complain(self, problem: Exception) -> Untaken:
        if not self._complained:
            self.log.error("the Callbridges stay as they are: {problem}", problem=str(problem))
        self._complained = True
        return Untaken()

    def take(self, records: Mapping[str, bytes], *, first: bool) -> Deferred[None]:
        """See L{Copy<cms.cluster.shared.Copy>}."""
        return Deferred.fromCoroutine(self._take(records, first))

    async def _take(self, records: Mapping[str, bytes], first: bool) -> None:
        here = self._read()
        newer = {}
        for name, data in records.items():
            try:
                newer[name] = read(name, data, self._domain)
            except NoRecord as problem:
                error = faults.CLUSTER_BAD_CALLBRIDGE.error(name=name[:80], problem=problem)
                self.log.warn("{step_text}: {cause} Cure: {cure}", **error.fields)
        try:
            await self._run(lambda: self._callbridges.store.take(newer))
            self._callbridges.refresh()
        except (StoreError, TooMuchWork) as problem:
            raise self._complain(problem) from None
        self._complained = False
        for name, record in newer.items():
            self._tell(name, here.get(name), record, first=first)

    def _tell(
        self, name: str, before: CallbridgeRecord | None, now: CallbridgeRecord, *, first: bool
    ) -> None:
        old = None if before is None else before.held
        if first and old is not None and now.held is not None:
            accepted = {each.secret for each in now.held.secrets}
            if old.secrets and old.secrets[0].secret not in accepted:
                error = faults.CLUSTER_OTHER_SECRET.error(name=name)
                self.log.warn("{step_text}: {cause} Cure: {cure}", **error.fields)
                return
        if old is not None or now.held is not None:
            what = "deleted" if now.held is None else "added" if old is None else "changed"
            self.log.info("{name} was {what} for the cluster", name=name, what=what)
