"""
The Callbridges that may register: those of F{xmpp.toml} and those added later.

The command line uses L{Callbridges} on the state directory of a server that is
stopped; a running server keeps its L{Registry} current by L{CallbridgeWatch}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cms.configuration.tomlfile import Secret
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.state.database import ChangeWatch, StoreError
from cms.xmpp.callbridgestore import (
    CallbridgeExists,
    CallbridgeStore,
    HeldCallbridge,
    HeldSecret,
    UnknownCallbridge,
    new_secret,
)
from cms.xmpp.config import XmppConfig
from cms.xmpp.registry import NAME_CURE, Registry, component_address, component_name

USUAL_OVERLAP = 86_400.0  # seconds
POLL_SECONDS = 0.5


class FixedCallbridge(StoreError):
    """The Callbridge is in F{xmpp.toml}, which administration does not change."""


@frozen
class KnownCallbridge:
    """
    A Callbridge that may register.

    @ivar source: C{"file"}, or C{"administration"}.
    @ivar created: Seconds since the epoch; C{None} in the file.
    @ivar secrets: Those that are accepted, the newest first.
    """

    name: str
    address: str
    source: str
    created: float | None
    secrets: tuple[HeldSecret, ...]


class Callbridges:
    """
    All Callbridges of one server.

    Names may be given as in F{xmpp.toml}.  What changes something takes effect
    in this process before it returns, and in another one within a second.

    @ivar registry: What streams ask about names and secrets.
    @ivar on_change: Called when what is accepted has changed.
    @ivar on_refresh: Called when the store was read again, since it may have changed.
    """

    log = Logger()

    def __init__(self, config: XmppConfig, now: Callable[[], float]) -> None:
        """
        @param now: Seconds since the epoch.
        @raise StoreError: the state directory cannot be used.
        """
        self._domain = config.domain
        self._file = config.file
        self._fixed = config.callbridges
        self._now = now
        self.store = CallbridgeStore(config.state_dir, now)
        self.on_change: list[Callable[[], object]] = []
        self.on_refresh: list[Callable[[], object]] = []
        self._held: dict[str, HeldCallbridge] = {}
        self.registry = Registry({})
        self.refresh()

    def name(self, text: str) -> str:
        """
        The name in its usual form: C{cb1}, or the whole address of a component
        that is not directly below the domain.

        @raise StoreError: it makes no component address.
        """
        return component_name(self._address(text), self._domain)

    def _address(self, text: str) -> str:
        try:
            return component_address(text, self._domain)
        except ValueError as problem:
            raise StoreError(f"{problem}. Cure: {NAME_CURE}") from None

    def known(self) -> list[KnownCallbridge]:
        """All, by name, as of the last L{refresh}."""
        fixed = [
            KnownCallbridge(self.name(address), address, "file", None, (HeldSecret(s, 0.0, None),))
            for address, s in self._fixed.items()
        ]
        added = [
            KnownCallbridge(
                held.name, address, "administration", held.created, self._unexpired(held)
            )
            for address, held in self._held.items()
            if address not in self._fixed
        ]
        return sorted([*fixed, *added], key=lambda callbridge: callbridge.name)

    def find(self, text: str) -> KnownCallbridge:
        """
        @raise UnknownCallbridge: there is none of this name.
        """
        name = self.name(text)
        for callbridge in self.known():
            if callbridge.name == name:
                return callbridge
        raise UnknownCallbridge(f"there is no Callbridge {name}")

    def add(self, text: str, secret: Secret | None = None) -> KnownCallbridge:
        """
        @param secret: Left out: a new one is made.
        @raise CallbridgeExists: and nothing is changed.
        """
        name = self.name(text)
        if self._is_fixed(name):
            raise CallbridgeExists(f"there is a Callbridge {name} already, in {self._file}")
        self.store.add(name, secret or new_secret())
        self.refresh()
        return self.find(name)

    def delete(self, text: str) -> None:
        """
        End its link too.

        @raise UnknownCallbridge: there is none.
        @raise FixedCallbridge: it is in the file.
        """
        self.store.delete(self._changeable(text))
        self.refresh()

    def rotate(
        self, text: str, overlap: float = USUAL_OVERLAP, secret: Secret | None = None
    ) -> KnownCallbridge:
        """
        Make a new secret, and accept the old one for C{overlap} more seconds.  A
        link that registered with the old one ends when that expires.

        @raise UnknownCallbridge: there is none.
        @raise FixedCallbridge: it is in the file.
        """
        name = self._changeable(text)
        self.store.rotate(name, secret or new_secret(), overlap)
        self.refresh()
        return self.find(name)

    def _is_fixed(self, name: str) -> bool:
        return self._address(name) in self._fixed

    def _changeable(self, text: str) -> str:
        name = self.name(text)
        if self._is_fixed(name):
            raise FixedCallbridge(
                f"{name} is in [callbridges] of {self._file}. Cure: change it there"
            )
        return name

    def refresh(self) -> None:
        """Read the store again."""
        self._held = dict(self._held_by_address())
        self.expire()
        call_all(self.log, self.on_refresh)

    def _held_by_address(self) -> Iterator[tuple[str, HeldCallbridge]]:
        for held in self.store.callbridges():
            try:
                yield component_address(held.name, self._domain), held
            except ValueError:
                # It was added while the domain was another one.
                self.log.warn(
                    "{name} is no Callbridge of {domain}", name=held.name, domain=self._domain
                )

    def expire(self) -> None:
        """Stop accepting expired secrets; report a change."""
        accepted = {
            address: tuple(held_secret.secret for held_secret in self._unexpired(held))
            for address, held in self._held.items()
        }
        accepted |= {address: (secret,) for address, secret in self._fixed.items()}
        if accepted != self.registry.secrets:
            self.registry.secrets = accepted
            call_all(self.log, self.on_change)

    def _unexpired(self, held: HeldCallbridge) -> tuple[HeldSecret, ...]:
        now = self._now()
        return tuple(s for s in held.secrets if s.expires is None or s.expires > now)

    def doubled(self) -> list[str]:
        """The names that were added and are in the file too; the file counts."""
        return [held.name for address, held in self._held.items() if address in self._fixed]


class CallbridgeWatch(Service):
    """Updates a server's L{Callbridges} when another process changes the store."""

    log = Logger()

    def __init__(self, callbridges: Callbridges, clock: IReactorTime) -> None:
        self._callbridges = callbridges
        self._loop = LoopingCall(self.look)
        self._loop.clock = clock
        self._watch: ChangeWatch | None = None
        self._complained = False

    def startService(self) -> None:
        """Begin; the process has forked by now if it does at all."""
        super().startService()
        self._loop.start(POLL_SECONDS).addErrback(self._unexpected)

    def stopService(self) -> None:
        """Close the file."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def look(self) -> None:
        """See whether the store has changed, or a secret expired."""
        try:
            self._look()
        except StoreError as problem:
            if not self._complained:
                self.log.error("the Callbridges stay as they are: {problem}", problem=str(problem))
            self._complained = True
        else:
            self._complained = False

    def _look(self) -> None:
        if self._watch is None:
            self._watch = ChangeWatch(self._callbridges.store.database)
        # Once it failed it is read again, changed or not.
        if self._watch.changed() or self._complained:
            self._callbridges.refresh()
        else:
            self._callbridges.expire()

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("the Callbridges are not watched any more", failure)
