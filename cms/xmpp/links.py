"""The links that are up: every component registered now, by its address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from twisted.internet.defer import Deferred

from cms import faults
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.xmlstream.stanza import Stanza
from cms.xmpp.receiver import Receiver


class Asking(Protocol):
    """See L{Requests<cms.xmlstream.requests.Requests>}."""

    def __len__(self) -> int: ...

    def ask(self, request: Stanza, timeout: float) -> Deferred[Stanza]: ...

    def give_up(self) -> None: ...


class Link(Receiver, Protocol):
    """
    One registered component, wherever its stream ends.

    @ivar mechanisms: Its SASL mechanisms; none if it decides no log-ins, or is away.
    @ivar admits: It can be asked to admit guests.
    @ivar challenged: The log-ins over it whose client is to respond.
    @ivar leaves: Its server is drained, so that it goes to another one.
    @ivar knows_people: It can be asked who somebody is.
    @ivar no_authority: Why it decides no log-ins, once that is known.
    @ivar evidence: What TLS and the certificate showed.
    @ivar link_id: Its ID in the logs of both sides.
    @ivar since: When it registered, in seconds since the epoch.
    @ivar certificate_expires: When its certificate expires.
    """

    component: str
    mechanisms: tuple[str, ...]
    admits: bool
    leaves: bool
    challenged: set[str]
    knows_people: bool
    no_authority: StepError | None

    @property
    def requests(self) -> Asking: ...

    evidence: dict[str, str]
    link_id: str
    since: float
    certificate_expires: float | None

    @property
    def bytes_received(self) -> int: ...

    @property
    def bytes_sent(self) -> int: ...

    @property
    def stanzas_received(self) -> int: ...

    @property
    def stanzas_sent(self) -> int: ...

    @property
    def waiting_bytes(self) -> int:
        """How many bytes it has not read yet."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether it does not even read the server's requests, so that none should be added."""
        ...

    @property
    def is_stalled(self) -> bool:
        """Whether it has read nothing for some seconds."""
        ...

    @property
    def peer_text(self) -> str:
        """Where it connected from."""
        ...

    @property
    def is_away(self) -> bool:
        """It has no connection now, and may be resumed (docs/link-management.md)."""
        ...

    def probe(self) -> Deferred[bool]:
        """Ask whether it is alive; fires within seconds."""
        ...

    def replace(self) -> None:
        """End it in favour of a newer link."""
        ...

    def judge_secret(self) -> None:
        """End it if the secret that it registered with is not accepted any more."""
        ...


class Links:
    """
    The registered components, with callbacks for changes.

    Those of other nodes are found here as well, but they are not counted, and no callback
    is called for them.

    @ivar on_up: Called with a link that has become active.
    @ivar on_down: Called with a link that has ended.
    @ivar on_away: Called with a link that has lost its connection, and may be resumed.
    @ivar on_back: Called with a link that was resumed.
    @ivar on_quiet: Called with one that decides no more log-ins, since it goes elsewhere.
    """

    log = Logger()

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._elsewhere: dict[str, Link] = {}
        self._absent: dict[Link, tuple[str, ...]] = {}  # that are away, and what they decide
        self._turn = 0
        self.on_up: list[Callable[[Link], object]] = []
        self.on_down: list[Callable[[Link], object]] = []
        self.on_away: list[Callable[[Link], object]] = []
        self.on_back: list[Callable[[Link], object]] = []
        self.on_quiet: list[Callable[[Link], object]] = []

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def get(self, component: str) -> Link | None:
        """The link of a component address."""
        return self._links.get(component) or self._elsewhere.get(component)

    def own(self, component: str) -> Link | None:
        """The same, if it is connected to this node."""
        return self._links.get(component)

    def decides(self, component: str) -> bool:
        """Whether it decides log-ins, or has until it began to go to another server."""
        link = self.get(component)
        return link is not None and bool(link.mechanisms or self._absent.get(link))

    def components(self) -> list[str]:
        """The addresses of all."""
        return list({**self._links, **self._elsewhere})

    def up_elsewhere(self, link: Link) -> None:
        """A component has registered at another node."""
        self._elsewhere[link.component] = link

    def down_elsewhere(self, link: Link) -> None:
        """A link at another node has ended; a newer one of the same address stays."""
        if self._elsewhere.get(link.component) is link:
            del self._elsewhere[link.component]

    def up(self, link: Link) -> None:
        """A component has registered; its address must be free."""
        if link.component in self._links:
            raise ValueError(f"{link.component} is registered already")
        self._links[link.component] = link
        call_all(self.log, self.on_up, link)

    def down(self, link: Link) -> None:
        """A link has ended; a newer one of the same address stays."""
        if self._links.get(link.component) is link:
            del self._links[link.component]
            self._absent.pop(link, None)
            call_all(self.log, self.on_down, link)

    def away(self, link: Link) -> None:
        """A link has lost its connection: it decides no log-ins until it is back."""
        self._put_away(link)
        call_all(self.log, self.on_away, link)

    def _put_away(self, link: Link) -> None:
        self._absent[link] = link.mechanisms or self._absent.get(link, ())
        link.mechanisms = ()

    def back(self, link: Link) -> None:
        """It has another one."""
        link.mechanisms = self._absent.pop(link, link.mechanisms)
        call_all(self.log, self.on_back, link)

    def quiet(self, link: Link) -> None:
        """No new log-ins are sent over this link: it is about to go to another server."""
        self._put_away(link)
        call_all(self.log, self.on_quiet, link)

    def absent(self, mechanism: str) -> Link | None:
        """A link that is away, and decides by this mechanism when it is back."""
        return next((link for link, named in self._absent.items() if mechanism in named), None)

    @property
    def has_authority(self) -> bool:
        """Whether there is any of them."""
        for link in self._links.values():  # asked by each log-in
            if link.mechanisms:
                return True
        return bool(self._elsewhere) and any(link.mechanisms for link in self._elsewhere.values())

    @property
    def authorities(self) -> list[Link]:
        """The links that decide log-ins: those that named mechanisms; this node's first."""
        links = [link for link in self._links.values() if link.mechanisms]
        if self._elsewhere:
            links += [link for link in self._elsewhere.values() if link.mechanisms]
        return links

    @property
    def silent(self) -> list[Link]:
        """Those that decide nothing now: some may again, here or after they have gone elsewhere."""
        every = (*self._links.values(), *self._elsewhere.values())
        return [link for link in every if not link.mechanisms]

    def nobody(self) -> StepError:
        """The failure that says why no link decides log-ins."""
        for link in (*self._links.values(), *self._elsewhere.values()):
            inner = link.no_authority
            if inner is not None:
                return faults.NO_AUTHORITY.error(
                    problem=inner.cause, mend=inner.cure, fault=inner.fault
                )
        return faults.NO_CALLBRIDGE.error()

    def choose(self, mechanism: str) -> Link | None:
        """
        An authority for a new exchange, in rotation; those that read go first, and of these
        the ones of this node.
        """
        able = [link for link in self.authorities if mechanism in link.mechanisms]
        if not able:
            return None
        able = [link for link in able if not (link.is_stalled or link.is_full)] or able
        if self._elsewhere:
            able = [link for link in able if link.component in self._links] or able
        self._turn += 1
        return able[self._turn % len(able)]
