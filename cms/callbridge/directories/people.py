"""The XMPP server asks who somebody is (docs/login-protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from cms.callbridge.directories.directory import Directory, DirectoryError
from cms.linkprotocol.people import Answer, Ask, Nobody, Person, Undecided
from cms.process.logs import LineLimiter, Logger
from cms.xmlstream.jid import parse_jid

MOST_OPEN: Final = 200  # questions that are under way


class People:
    """
    Answers.

    @param directory: Gives the one of now.
    @param domain: Gives the domain that is served.
    """

    log = Logger()

    def __init__(
        self, directory: Callable[[], Directory], domain: Callable[[], str], lines: LineLimiter
    ) -> None:
        self._directory = directory
        self._domain = domain
        self._lines = lines
        self._open = 0

    def answer(self, asked: Ask) -> Deferred[Answer]:
        """Who it is; never fails."""
        jid = parse_jid(asked.jid)
        if jid.host != self._domain():
            return succeed(Nobody())
        if self._open >= MOST_OPEN:
            return succeed(Undecided())
        self._open += 1
        asking = self._directory().person(str(jid.user))
        answer: Deferred[Answer] = asking.addCallbacks(_told, self._undecided)
        return answer.addBoth(self._over)

    def _undecided(self, failure: Failure) -> Answer:
        if not failure.check(DirectoryError):
            self.log.failure("unexpected error in a directory", failure)
        elif self._lines.allows():
            self.log.warn("who a user is cannot be told: {why}", why=failure.getErrorMessage())
        return Undecided()

    def _over(self, answer: Answer) -> Answer:
        self._open -= 1
        return answer


def _told(person: Person | None) -> Answer:
    return Nobody() if person is None else person
