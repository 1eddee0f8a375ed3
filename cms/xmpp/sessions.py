"""The client sessions of this server: who is logged in, with which resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream.stanza import Stanza
from cms.xmpp.receiver import Receiver

ADMINISTRATOR, REPLACED = "closed", "replaced"  # why a session ends
MOST_RESOURCES = 50  # of one user


class Session(Receiver, Protocol):
    """
    One bound resource.

    @ivar authority: The Callbridge that decided its log-in.
    @ivar is_guest: It is a guest's, who has one session.
    @ivar node: The other node of the cluster where it is; empty if it is here.
    @ivar since: When it was bound there, in seconds since the epoch.
    @ivar presence: Its last broadcast presence, C{None} while unavailable.
    @ivar priority: Of that presence (RFC 6121 4.7.2.3).
    @ivar directed: Addresses that were sent presence and must be told when the
        session ends (RFC 6121 4.6).
    @ivar is_copied: Whether another session of the user wants copies of the messages to and
        from it (XEP-0280).
    """

    jid: JID
    authority: str
    is_guest: bool
    node: str
    since: float
    presence: Stanza | None
    priority: int
    directed: set[str]
    is_copied: bool

    @property
    def peer_text(self) -> str:
        """Where it connected from."""
        ...

    @property
    def peer_host(self) -> str:
        """The IP address of that."""
        ...

    @property
    def ids(self) -> dict[str, str]:
        """The IDs for its log lines: of the connection, and of the log-in."""
        ...

    @property
    def is_away(self) -> bool:
        """It has no connection now, and may be resumed (XEP-0198 5)."""
        ...

    @property
    def away_seconds(self) -> float:
        """For how long; 0 while it has one."""
        ...

    @property
    def kept_bytes(self) -> int:
        """What waits for it, or was not acknowledged."""
        ...

    def set_guarded(self, guarded: bool) -> None:
        """
        Set whether its user has blocked anybody (XEP-0191).

        While it is set, nothing that it sends takes the fast way.
        """
        ...

    def set_copied(self, copied: bool) -> None:
        """
        Set C{is_copied}.

        While it is set, no message to or from it takes the fast way (L{cms.xmpp.forward}).
        """
        ...

    def end(self, why: str = ADMINISTRATOR) -> None:
        """
        End it.

        @param why: Unless an administrator does: the reason of its Callbridge
            (L{End<cms.linkprotocol.ending.End>}).
        """
        ...

    def replace(self) -> None:
        """End it, because a newer stream bound the resource (RFC 6120 7.7.2.2)."""
        ...


class Sessions:
    """
    Sessions by bare address, then by resource.

    Those of other nodes are found here as well, but neither counted nor iterated over.

    @ivar most_per_user: A user's further resources are refused.
    """

    def __init__(self, *, most_per_user: int = MOST_RESOURCES) -> None:
        self.most_per_user = most_per_user
        self._users: dict[str, dict[str | None, Session]] = {}
        self._count = 0
        self._elsewhere: set[Session] = set()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Session]:
        for resources in list(self._users.values()):
            yield from [each for each in resources.values() if each not in self._elsewhere]

    def everywhere(self) -> Iterator[Session]:
        """Those of other nodes, too."""
        for resources in list(self._users.values()):
            yield from list(resources.values())

    def is_elsewhere(self, session: Session) -> bool:
        """Whether it is at another node."""
        return session in self._elsewhere

    def add(self, session: Session, *, elsewhere: bool = False) -> Session | None:
        """
        Enter a session.

        @param elsewhere: Whether it is at another node.
        @return: The session that held the same full address until now.
        """
        resources = self._users.setdefault(session.jid.userhost(), {})
        older = resources.get(session.jid.resource)
        resources[session.jid.resource] = session
        self._count += (not elsewhere) - (older is not None and older not in self._elsewhere)
        if older is not None:
            self._elsewhere.discard(older)
        if elsewhere:
            self._elsewhere.add(session)
        return older

    def remove(self, session: Session) -> None:
        """Forget a session; a newer one of the same address stays."""
        bare = session.jid.userhost()
        resources = self._users.get(bare, {})
        if resources.get(session.jid.resource) is session:
            del resources[session.jid.resource]
            self._count -= session not in self._elsewhere
            self._elsewhere.discard(session)
            if not resources:
                del self._users[bare]

    def find(self, jid: JID) -> Session | None:
        """The session with this full address."""
        return self._users.get(jid.userhost(), {}).get(jid.resource)

    def of(self, bare: str) -> list[Session]:
        """All sessions of a user."""
        return list(self._users.get(bare, {}).values())

    def available(self, bare: str) -> list[Session]:
        """The sessions of a user that have sent presence."""
        return [session for session in self.of(bare) if session.presence is not None]

    def willing(self, bare: str) -> list[Session]:
        """
        The available sessions whose priority is not negative: no message to the
        bare address goes to any other (RFC 6121 8.5.2.1.1).
        """
        return [session for session in self.available(bare) if session.priority >= 0]

    def preferred(self, bare: str) -> list[Session]:
        """The willing sessions that have the highest priority."""
        able = self.willing(bare)
        highest = max((session.priority for session in able), default=0)
        return [session for session in able if session.priority == highest]
