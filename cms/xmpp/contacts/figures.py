"""
How many contacts there are.

They are counted in a thread, since a house may have a million, and at most once a minute: who
asks is told what was counted before.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen
from twisted.python.failure import Failure

from cms.process.logs import Logger
from cms.process.threads import SlowWork
from cms.state.database import StoreUnusable
from cms.xmpp.contacts.service import Contacts

COUNTED: Final = 60.0  # seconds for which a count holds
_QUESTIONS: Final = (
    "SELECT total(listed), total(theirs = 1) FROM contacts",
    "SELECT count(*) FROM blocked WHERE active",
    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
)


@frozen
class Counted:
    """
    Of all users together.

    @ivar listed: Contacts on rosters.
    @ivar requests: That have no answer yet.
    @ivar blocked: Addresses.
    @ivar size: Bytes of the file.
    """

    listed: int
    requests: int
    blocked: int
    size: int


class ContactFigures:
    """
    Counts them.

    @param work: Runs the count in a thread.
    @ivar contacts: Of whom.
    @ivar counted: What was counted; C{None}: nothing yet.
    """

    log = Logger()

    def __init__(self, contacts: Contacts, work: SlowWork) -> None:
        self.contacts = contacts
        self.counted: Counted | None = None
        self._clock = contacts.changes.clock
        self._database = contacts.changes.store.database
        self._work = work
        self._next = 0.0

    def count(self) -> None:
        """Count anew, if it is time."""
        now = self._clock.seconds()
        if now >= self._next:
            self._next = now + COUNTED
            self._work.run(self._look).addCallbacks(self._note, self._failed)

    def _look(self) -> Counted:
        with self._database.open() as connection:
            return Counted(
                *(int(n) for each in _QUESTIONS for n in connection.execute(each).fetchone())
            )

    def _note(self, counted: Counted) -> None:
        self.counted = counted

    def _failed(self, failure: Failure) -> None:
        self.counted = None
        if not failure.check(StoreUnusable):  # of that is told where contacts are used
            self.log.failure("contacts were not counted", failure)
