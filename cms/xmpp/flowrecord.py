"""The signal flow on the XMPP server: recent registrations and log-ins, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from cms import faults
from cms.linkprotocol.mechanisms import mechanism_label
from cms.process.clocks import wall_clock
from cms.protection.sources import network_of
from cms.record.names import is_whole
from cms.record.record import Record
from cms.signalflow import Attempt, Step, StepError, StepObserver, StepRecord

KEEP = 50  # of each kind


_NO_IDS: Mapping[str, str] = MappingProxyType({})


def _ignore(attempt: Attempt, record: StepRecord) -> None:
    """Nobody wants to know."""


def _recent() -> deque[Any]:
    return deque(maxlen=KEEP)


@define
class ServerFlow:
    """
    A bounded record.  Attempts of unknown components and failed log-ins do not push out
    those of known components and users, nor do resumptions and guests, which may be many.

    @param observer: Called for each step of a registration.
    @param record: The record on disk.
    """

    _clock: IReactorTime
    _observer: StepObserver = _ignore
    _record: Record | None = None
    _count: int = 0
    _unknown: dict[int, Attempt] = field(factory=dict)
    _components: deque[Attempt] = field(factory=_recent)
    _refused: deque[Attempt] = field(factory=_recent)
    _logins: deque[tuple[int, float, dict[str, str]]] = field(factory=_recent)
    _guests: deque[Attempt] = field(factory=_recent)
    _turned_away: deque[Attempt] = field(factory=_recent)
    _resumptions: deque[tuple[int, float, dict[str, str]]] = field(factory=_recent)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return wall_clock(self._clock)()

    def _begin(self) -> Attempt:
        self._count += 1
        return Attempt(self._count, self.now)

    def connected(self) -> Attempt:
        """A peer has connected to a component listener."""
        attempt = self._begin()
        attempt.observer = self._step
        unknown = self._unknown
        unknown[attempt.number] = attempt
        if len(unknown) > KEEP:
            del unknown[next(iter(unknown))]
        return attempt

    def _step(self, attempt: Attempt, record: StepRecord) -> None:
        self._observer(attempt, record)
        if self._record is not None:
            self._record.step(attempt, record, known=attempt.number not in self._unknown)

    def named(self, attempt: Attempt) -> None:
        """It named a component that is known here."""
        self._unknown.pop(attempt.number, None)
        self._components.append(attempt)

    def logged_in(
        self,
        jid: str,
        peer: str,
        callbridge: str,
        login: Mapping[str, str] = _NO_IDS,
        *,
        guest: bool = False,
    ) -> None:
        """
        A client has logged in and bound its resource.

        @param login: The IDs of its log lines.
        """
        if self._record is not None:
            self._record.login(
                *(jid.partition("@")[0], ""),
                known=not guest,
                good=True,
                result="success",
                jid=jid,
                peer=peer,
                callbridge=callbridge,
                login=login.get("login_id"),
            )
        self._count += 1
        evidence = {"jid": jid, "peer": peer, "callbridge": callbridge}
        self._logins.append((self._count, self.now, evidence))

    def resumed(self, jid: str, peer: str, away: float, again: int) -> None:
        """
        A client has logged in and resumed its session (XEP-0198 5).

        @param away: Seconds that it had no connection.
        @param again: How many stanzas were sent to it again.
        """
        self._count += 1
        evidence = {"jid": jid, "peer": peer, "away": f"{away:.1f} s", "again": str(again)}
        self._resumptions.append((self._count, self.now, evidence))

    def login_failed(
        self,
        peer: str,
        condition: str,
        callbridge: str | None,
        fault: StepError | None,
        *,
        user: str = "",
        mechanism: str = "",
        login: Mapping[str, str] = _NO_IDS,
    ) -> None:
        """
        A log-in was refused.

        @param condition: Of RFC 6120 6.5.
        @param callbridge: The Callbridge that refused it; C{None} for this server.
        @param fault: Set if the system failed and not the client.
        @param user: Who that was, as the Callbridge says; of a name that nobody has, a part.
        @param login: The IDs of its log lines.
        """
        if self._record is not None:
            told = {} if fault is None else {"fault": fault.fault, "cause": fault.cause}
            self._record.login(
                *(user, network_of(peer.partition(" ")[0])),
                known=is_whole(user),
                good=False,
                result=condition,
                mechanism=mechanism_label(mechanism),
                peer=peer,
                callbridge=callbridge,
                login=login.get("login_id"),
                **told,
            )
        if fault is None and callbridge is not None:
            fault = faults.login_refused(callbridge, condition)
        elif fault is None:
            fault = faults.LOGIN_UNUSABLE.error(condition=condition)
        attempt = self._begin()
        attempt.begin(fault.step, self.now, peer=peer, **({"user": user} if user else {}))
        attempt.failed(self.now, fault)
        self._refused.append(attempt)

    def ended(
        self, jid: str, peer: str, reason: str, login: Mapping[str, str], *, guest: bool
    ) -> None:
        """A session is over."""
        if self._record is not None:
            self._record.session(
                jid.partition("@")[0],
                known=not guest,
                result="ended",
                reason=reason,
                jid=jid,
                peer=peer,
                login=login.get("login_id"),
            )

    def guest_admitted(self, jid: str, peer: str, space: str) -> None:
        """A Callbridge admits a guest; what he logs in with is not told."""
        attempt = self._begin()
        attempt.once(Step.LOGIN, self.now, guest=jid, peer=peer, space=space)
        self._guests.append(attempt)

    def guest_refused(self, peer: str, fault: StepError) -> None:
        """A guest was not admitted."""
        attempt = self._begin()
        attempt.begin(fault.step, self.now, guest="not admitted", peer=peer)
        attempt.failed(self.now, fault)
        self._turned_away.append(attempt)

    def registrations(self) -> Iterator[Attempt]:
        """Connections of components, in no order."""
        yield from self._unknown.values()
        yield from self._components

    def logins(self) -> Iterator[Attempt]:
        """Log-ins, resumptions and guests, in no order."""
        yield from (*self._refused, *self._guests, *self._turned_away)
        for number, when, evidence in (*self._logins, *self._resumptions):
            attempt = Attempt(number, when)
            attempt.once(Step.LOGIN, when, **evidence)
            yield attempt
