"""
Pictures of users, read from an LDAP directory when somebody asks.

They are kept nowhere here.  A picture may be as large as somebody has put it there, and many may be
asked for.  So they have a connection of their own, and what goes wrong with it says nothing of the
servers to log-ins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import evolve
from sansldap import FilterAnd

from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.directories.store import StoreError, user_name
from cms.callbridge.ldap.connection import LdapConnection, Page, Refused
from cms.callbridge.ldap.mapping import Lacking, entries_of
from cms.callbridge.ldap.pool import Pool
from cms.callbridge.ldap.servers import Servers
from cms.callbridge.ldap.settings import LdapSettings
from cms.linkprotocol.people import MOST_PICTURE, kind_of
from cms.signalflow import StepError

MOST_MESSAGE: Final = 8 * 1024 * 1024  # bytes of an entry: a photograph as a camera makes it
MOST_WAITING: Final = 50  # questions
SECONDS: Final = 4.0  # for an answer
MOST_SAME: Final = 2  # entries


class Pictures:
    """
    Reads them.

    @param servers: Of nobody else.
    @param domain: Gives the domain that is served.
    """

    def __init__(
        self, clock: Any, settings: LdapSettings, servers: Servers, domain: Callable[[], str]
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._servers = servers
        self._domain = domain
        few = evolve(settings, most_connections=1, most_waiting=MOST_WAITING)
        self._pool = Pool(clock, few, servers, as_account=True)

    async def of(self, name: str) -> bytes:
        """
        The picture of a user; empty if there is none that can be passed on.

        @param name: The prepared local part.
        @raise DirectoryError: the directory cannot answer.
        """
        settings, domain = self._settings, self._domain()
        attribute = settings.picture_attribute
        his = entries_of(f"{name}@{domain}", settings.jid)
        if his is None:
            return b""
        wanted = FilterAnd([settings.search_filter, his])

        def look(connection: LdapConnection, seconds: float) -> Awaitable[Page]:
            connection.most_message, connection.most_value = MOST_MESSAGE, MOST_PICTURE
            attributes = (*settings.jid.attributes, attribute)
            return connection.search(settings.base, wanted, attributes, seconds, most=MOST_SAME)

        try:
            page = await self._pool.use(look, self._clock.seconds() + SECONDS)
        except StepError as problem:
            raise DirectoryError(problem.cause, problem) from None
        except Refused:
            return b""
        for entry in page.entries:
            try:
                if user_name(settings.jid.fill(entry.values), domain) != name:
                    continue
            except (Lacking, StoreError):
                continue
            found = entry.values.get(attribute.lower(), ())
            return next((picture for picture in found if kind_of(picture)), b"")
        return b""

    def close(self) -> None:
        """End it."""
        self._pool.stop()
        self._servers.stop()
