"""Checks the server's own set-up when it starts, and logs what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from cms.audit.finding import Finding
from cms.audit.ownserver import OwnServer
from cms.audit.setup import audit_setup
from cms.configuration.tomlfile import Secret
from cms.discovery.resolver import DNS
from cms.process.logs import Logger
from cms.trust.files import PEMFiles
from cms.xmpp.callbridges import Callbridges
from cms.xmpp.callbridgestore import FILE_NAME
from cms.xmpp.config import XmppConfig


def own_server(config: XmppConfig, secrets: Mapping[str, Sequence[Secret]]) -> OwnServer:
    """
    The parts of a configuration that are checked.

    @param secrets: The accepted secrets of each component address, of file and store.
    """
    return OwnServer(
        file=config.file,
        domain=config.domain,
        hostname=config.hostname,
        state_dir=config.state_dir,
        files=PEMFiles(str(config.file), config.tls.trust, config.tls.certificate, config.tls.key),
        listen=config.listen.by_kind(),
        secrets=secrets,
    )


def held_secrets(config: XmppConfig) -> dict[str, list[Secret]]:
    """
    The secrets of the file, and of the store where there is one.

    @raise StoreError: the store cannot be used.
    """
    if not (config.state_dir / FILE_NAME).exists():
        return {address: [secret] for address, secret in config.callbridges.items()}
    known = Callbridges(config, time.time).known()
    return {each.address: [held.secret for held in each.secrets] for each in known}


class SelfCheck:
    """
    Runs the checks of L{cms.audit} and logs every failure and warning.

    @param server: Called each time: secrets may have changed.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, server: Callable[[], OwnServer], resolver: DNS, random: Random
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._resolver = resolver
        self._random = random
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin, unless a check is still under way."""
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: failure.trap(CancelledError))
            self._running.addErrback(
                lambda failure: self.log.failure("the check of the own set-up broke", failure)
            )
            self._running.addBoth(self._ended)

    def stop(self) -> None:
        """Stop."""
        if self._running is not None:
            self._running.cancel()

    def _ended(self, _: object) -> None:
        self._running = None

    async def _run(self) -> None:
        await deferLater(self._reactor, 0)  # serve first
        told = 0
        findings = audit_setup(
            self._server(), self._reactor, self._resolver, self._random, starting=True
        )
        async for finding in findings:
            if finding.problem is not None:
                told += 1
                self._tell(finding)
        if not told:
            self.log.info("own set-up checked: nothing is wrong")

    def _tell(self, finding: Finding) -> None:
        problem = finding.problem
        assert problem is not None  # noqa: S101 - asked before
        self.log.warn(
            "own set-up: {step_text}: {cause} Cure: {cure}",
            **problem.fields,
            result=finding.result,
            evidence=dict(problem.evidence),
        )
