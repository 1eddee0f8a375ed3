"""
The interfaces of a daemon for API and pages.

The roles implement them, and API and pages use nothing else of a role.  Any method may
raise L{cms.web.refusal.Refused}.  Facts are plain data (strings, numbers, booleans,
C{None}, mappings and lists of these) with names as in the API, such as
C{serverAddressOverride}.  They hold no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from attrs import frozen

from cms.signalflow import Attempt, Step, StepError

Facts = Mapping[str, Any]


@frozen
class Health:
    """
    Whether the daemon does its job.

    @ivar step: Its step; L{Step.ACTIVE} if it does its job.
    @ivar fault: What prevents it, if that is known.
    """

    good: bool
    step: Step
    fault: StepError | None = None


@frozen
class Page:
    """
    A part of a list.

    @ivar items: Each with its id.
    @ivar total: The length of the list after the filter.
    """

    items: Sequence[tuple[str, Facts]]
    total: int


@frozen
class Selection:
    """The part of a list that is asked for."""

    offset: int = 0
    limit: int = 50
    filter: str = ""

    def of(self, items: Iterable[tuple[str, Facts]], *names: str) -> Page:
        """The part of a short list; the filter applies to the facts with these names."""
        wanted = self.filter.casefold()
        found = [
            item
            for item in items
            if not wanted or any(wanted in str(item[1].get(n, "")).casefold() for n in names)
        ]
        return Page(found[self.offset : self.offset + self.limit], len(found))


@frozen
class Recorded:
    """
    An attempt of the signal flow.

    @ivar kind: C{link} or C{login}.
    """

    kind: str
    attempt: Attempt


class Daemon(Protocol):
    """What both daemons show."""

    @property
    def role(self) -> str:
        """C{callbridge} or C{xmpp}."""
        ...

    def health(self) -> Health:
        """Whether it does its job now."""
        ...

    def status(self) -> Facts:
        """Its status, without version and uptime."""
        ...

    def attempts(self) -> Sequence[Recorded]:
        """The recent attempts, the newest first."""
        ...


class Callbridge(Daemon, Protocol):
    """The Callbridge role."""

    def configuration(self) -> Facts:
        """C{uniqueName}, C{domain}, C{serverAddressOverride}, C{source}."""
        ...

    async def configure(self, changes: Mapping[str, str]) -> None:
        """
        Check, store and apply other settings; returns when they are on the disk
        and the old link is ending.

        @param changes: Of C{uniqueName}, C{domain}, C{sharedSecret} and
            C{serverAddressOverride} those that change.
        """
        ...

    async def unconfigure(self) -> None:
        """Delete these settings; those of the file apply again."""
        ...

    def reconnect(self, *, even_if_up: bool) -> str:
        """
        Do not wait for the next attempt of the link.

        @param even_if_up: End a link that is up, or an attempt that is under way.
        @return: C{begun}: a new attempt; C{underWay}: one is made already; C{up}: the link is.
        """
        ...

    async def users(self, selection: Selection) -> Page:
        """The users of the local store."""
        ...

    async def user(self, id_: str) -> tuple[str, Facts]:
        """One user, by id or by address."""
        ...

    async def add_user(self, address: str, password: str) -> str:
        """
        @param address: With the domain or without.
        @return: The id.
        """
        ...

    async def change_user(self, id_: str, password: str | None, disabled: bool | None) -> Facts:
        """
        Set what is not C{None}.  Another password, and to be disabled, end the user's
        sessions.

        @return: What became of these: C{userJid}, C{sessionsEnded}, and C{problem}, why those
            that there may be have not ended; nothing if none had to.
        """
        ...

    async def name_user(self, id_: str, shown: str) -> None:
        """Give a user a name for people; empty: none."""
        ...

    async def delete_user(self, id_: str) -> Facts:
        """End the account, and the user's sessions; see L{change_user}."""
        ...


class XmppServer(Daemon, Protocol):
    """The XMPP server role."""

    def callbridges(self) -> Iterable[tuple[str, Facts]]:
        """Every component that is known or connected, with its link."""
        ...

    def callbridge(self, id_: str) -> tuple[str, Facts]:
        """One, by id, name or address."""
        ...

    async def add_callbridge(self, name: str, secret: str | None) -> tuple[str, str | None]:
        """
        @param secret: An existing one; C{None} generates one.
        @return: The id, and the secret if it was generated.
        """
        ...

    async def delete_callbridge(self, id_: str) -> None:
        """Forget it, and end its link."""
        ...

    async def rotate_secret(self, id_: str, secret: str | None, overlap: float) -> str | None:
        """
        Give it another secret; the old one is accepted for C{overlap} seconds more.

        @return: The new secret if it was generated.
        """
        ...

    @property
    def clients(self) -> Clients:
        """The sessions of clients."""
        ...

    def drain_facts(self) -> Facts:
        """
        Whether it is drained: C{state} (C{open}, C{draining}, C{drained}), C{secondsLeft},
        C{clients}, C{components}, C{given}, C{ended}, C{inCluster}, C{takers}.
        """
        ...

    def begin_drain(self, seconds: float, *, forced: bool) -> None:
        """
        Take nothing new, and send what is here to the other servers.

        @param seconds: Then what is left is ended.
        @param forced: Also if there is no other server.
        """
        ...

    async def cancel_drain(self) -> None:
        """Take what comes again."""
        ...


class Clients(Protocol):
    """
    The sessions of clients of an XMPP server, and of the other servers of its cluster.

    An address is C{alice}, C{alice@domain}, which are all sessions of that user, or the full
    address of one.
    """

    async def listed(self, selection: Selection, address: str = "") -> Page:
        """
        @param address: Only the sessions of this one.
        """
        ...

    def show(self, id_: str) -> tuple[str, Facts]:
        """One session."""
        ...

    def end(self, id_: str) -> None:
        """End a session."""
        ...

    def end_all(self, address: str) -> int:
        """End those of an address; how many there were."""
        ...

    async def tell(self, address: str, text: str) -> int:
        """
        Send a message from the server.

        @param address: C{all} is everybody.
        @return: How many sessions took it.
        """
        ...


def moment(seconds: float | None) -> str | None:
    """A time (seconds since the epoch) as in the API: RFC 3339, UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
