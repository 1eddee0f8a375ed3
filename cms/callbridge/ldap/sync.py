"""
Sync: the users of a directory are read page by page (RFC 2696) and stored here.

Log-ins do not need it, since the directory is asked at each.  A sync is for what no log-in
notices: who is gone or disabled has sessions, and these end; whose a name is must be known
when the directory is away; and entries that can be no users are reported.

What a sync found is believed if the directory answered to the end.  It shuts out nobody if
the answer was cut or empty, or if it would shut out more than C{most_removed}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from attrs import asdict, evolve, frozen
from sansldap import LDAPFilter, SearchScope
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from cms import faults
from cms.callbridge.directories.synced import (
    Difference,
    LeftOut,
    SyncedUser,
    SyncOutcome,
    SyncStore,
)
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.collected import Collected, difference
from cms.callbridge.ldap.connection import FoundEntry, LdapConnection, Refused, most_in_page
from cms.callbridge.ldap.directory import LdapDirectory
from cms.callbridge.ldap.groups import (
    ATTRIBUTES,
    MOST_GROUPS,
    MOST_IN_GROUP,
    MOST_OF_GROUP,
    MOST_RANGES,
    CollectedGroups,
)
from cms.callbridge.ldap.pool import refuse_endless
from cms.callbridge.ldap.settings import ANYTHING
from cms.linkprotocol.groups import Group
from cms.process.clocks import wall_clock
from cms.process.logs import Logger
from cms.process.threads import SlowWork, TooMuchWork, shielded
from cms.signalflow import StepError, counted
from cms.state.database import StoreUnusable

NAMED = 5  # entries in a line of the log
SOON = 10.0  # seconds after the start within which the first sync begins
RETRY = 300.0  # seconds at most until a sync that failed is tried again


@frozen
class _Wanted:
    """What is searched for."""

    base: str
    filter: LDAPFilter
    attributes: tuple[str, ...]


class Sync:
    """
    The syncs of one directory.

    @param elsewhere: Names of earlier directories; called in a thread.
    @param ended: Called with names, and why their sessions are over; how many there were.
    @param synced: Called when what a sync found is stored.
    @param work: For the store.
    @ivar running: Entries read so far; C{None} while none runs.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        directory: LdapDirectory,
        store: SyncStore,
        work: SlowWork,
        *,
        random: Random,
        elsewhere: Callable[[], Mapping[str, str]] = dict,
        ended: Callable[[tuple[str, ...], str], int] = lambda *_: 0,
        synced: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self.directory = directory
        self._settings = directory.settings
        self._store = store
        self._work = work
        self._random = random
        self._elsewhere = elsewhere
        self._ended = ended
        self._synced = synced
        self._timer: IDelayedCall | None = None
        self._under_way: Deferred[Any] | None = None
        self._waiting: list[Deferred[SyncOutcome]] = []
        self._allows = self._stopped = False
        self.running: int | None = None

    @property
    def next(self) -> float | None:
        """Seconds until the next one by the timer; C{None}: none."""
        if self._timer is None or not self._timer.active():
            return None
        return float(self._timer.getTime() - self._clock.seconds())

    def start(self) -> None:
        """Begin soon, and go on by the timer."""
        if self._settings.sync_interval:
            self._later(SOON * self._random.random())

    def stop(self) -> None:
        """No further ones; what is under way is given up."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._under_way is not None:
            self._under_way.cancel()

    def _later(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._by_timer)

    def _by_timer(self) -> None:
        self._timer = None
        self._begin()

    def run(self, *, allow_removal: bool = False) -> Deferred[SyncOutcome]:
        """
        Sync now, or wait for the sync that is under way.

        @param allow_removal: However many are gone or disabled.
        @return: Fails with L{StepError}; whoever waits may cancel, the sync goes on.
        """
        if self._under_way is None:
            self._allows = allow_removal
        self._allows = self._allows or allow_removal
        answer: Deferred[SyncOutcome] = Deferred(self._waiting.remove)
        self._waiting.append(answer)
        self._begin()
        return answer

    def _begin(self) -> None:
        if self._under_way is None:
            self._under_way = Deferred()  # a sync that ends at once finds that one is under way
            self._under_way = Deferred.fromCoroutine(self._run())
            self._under_way.addBoth(self._over)

    def _over(self, result: SyncOutcome | Failure) -> None:
        self._under_way = self.running = None
        self._allows = False
        failed = isinstance(result, Failure)
        if isinstance(result, Failure) and not result.check(StepError, CancelledError):
            self.log.failure("unexpected error in a sync", result)
        interval = self._settings.sync_interval
        if interval and not self._stopped:
            seconds = min(interval, RETRY) if failed else interval
            self._later(seconds * (0.9 + 0.2 * self._random.random()))
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(result)

    async def _run(self) -> SyncOutcome:
        began = self._clock.seconds()
        try:
            return await self._sync(began)
        except TooMuchWork:
            problem = faults.LDAP_BUSY.error(directory=self.directory.name, waiting="the store")
        except StoreUnusable as trouble:
            problem = trouble.fault
        except StepError as error:
            problem = error
        self.log.error("{step_text}: {cause} Cure: {cure}", **problem.fields)
        try:
            await self._in_thread(lambda: self._note(problem, began))
        except (StoreUnusable, TooMuchWork) as trouble:
            self.log.warn("that a sync failed was not stored: {why}", why=str(trouble))
        raise problem

    def _note(self, problem: StepError, began: float) -> None:
        """In a thread: store that it failed."""
        before = self._store.outcome(self.directory.name) or self._outcome(began)
        took = round(self._clock.seconds() - began, 3)
        self._store.note(evolve(before, ended=self._now(), seconds=took, problem=problem.as_dict()))

    async def _sync(self, began: float) -> SyncOutcome:
        name = self.directory.name
        self.running = 0
        collected, in_groups = Collected(self.directory), CollectedGroups(name)
        await self._read(collected, in_groups)

        def compare() -> tuple[int, dict[str, SyncedUser], Difference, list[Group]]:
            users, before = collected.users(self._elsewhere()), self._store.users(name)
            changes = difference(before, users)
            groups, passed_over = in_groups.groups(users, collected.uids)
            if in_groups.problem:
                reason = f"its groups stay as they were: {in_groups.problem}"
                passed_over = [LeftOut(self._settings.groups_base, "", reason)]
            collected.leave_out(*passed_over)
            return len(before), users, changes, groups

        known, users, changes, groups = await self._in_thread(compare)
        self._judge(known, len(users), changes)
        ended = self._now()
        outcome = evolve(
            self._outcome(began),
            users=len(users),
            added=len(changes.added),
            changed=len(changes.changed),
            removed=len(changes.gone),
            disabled=sum(user.disabled for user in users.values()),
            left_out=collected.number_left_out,
            groups=len(groups),
            ended=ended,
            succeeded=ended,
        )
        left_out = collected.left_out
        await self._in_thread(
            lambda: self._store.replace(
                *(outcome, users.values(), changes, left_out),
                None if in_groups.problem else groups,
            )
        )
        self._synced()
        ended_now = self._ended((*changes.gone, *changes.others), "deleted")
        ended_now += self._ended(changes.disabled, "disabled")
        if self._settings.new_password_ends:
            ended_now += self._ended(changes.passwords, "password")
        if ended_now:
            outcome = evolve(outcome, sessions_ended=ended_now)
            await self._in_thread(lambda: self._store.note(outcome))
        self._tell(outcome, left_out, changes.others)
        return outcome

    async def _read(self, collected: Collected, groups: CollectedGroups) -> None:
        settings, directory = self._settings, self.directory
        connection = await directory.servers.connect(
            self._clock.seconds() + settings.sync_timeout, as_account=True
        )

        most = settings.most_users
        too_many = faults.SYNC_TOO_MANY.error(directory=directory.name, most=most)

        def users(entries: Sequence[FoundEntry]) -> None:
            collected.take(entries)
            self.running = collected.entries
            if collected.entries > most:
                raise too_many

        people = _Wanted(settings.base, settings.search_filter, directory.attributes)
        try:
            if not await self._pages(connection, people, most, users):
                raise too_many
            await self._read_groups(connection, groups)
        except Refused as no:
            if no.code == codes.SIZE_LIMIT_EXCEEDED:
                raise self._cut(collected, f"{no.peer} says {no.words}.") from None
            problem = directory.explain(no)
            raise (self._broken(collected, problem) if collected.entries else problem) from None
        except StepError as problem:
            if problem.fault == faults.SYNC_TOO_MANY.name:
                raise
            raise self._broken(collected, problem) from None
        finally:
            connection.close()

    async def _read_groups(self, connection: LdapConnection, groups: CollectedGroups) -> None:
        """Whatever is wrong with them, users are users."""
        settings = self._settings
        if not settings.groups_base:
            return
        began = self._clock.seconds()
        wanted = _Wanted(settings.groups_base, settings.groups_filter, ATTRIBUTES)
        connection.most_message, connection.most_values = MOST_OF_GROUP, MOST_IN_GROUP
        try:
            if not await self._pages(connection, wanted, MOST_GROUPS, groups.take):
                groups.problem = f"there are more than {MOST_GROUPS} groups"
            for _ in range(MOST_RANGES):
                dn, attributes = groups.unread()
                if not dn:
                    break
                groups.take_more(await self._rest(connection, dn, attributes))
                self._refuse_late(began, MOST_GROUPS, connection)
        except Refused as no:
            groups.problem = f"{no.peer} says {no.words}"
        except StepError as problem:
            groups.problem = problem.cause

    async def _rest(
        self, connection: LdapConnection, dn: str, attributes: tuple[str, ...]
    ) -> Sequence[FoundEntry]:
        """More of an entry; nothing if it is gone meanwhile."""
        try:
            page = await connection.search(
                *(dn, ANYTHING, attributes, self._settings.sync_timeout),
                most=1,
                scope=SearchScope.BASE,
            )
        except Refused as no:
            if no.code != codes.NO_SUCH_OBJECT:
                raise
            return ()
        return page.entries

    async def _pages(
        self,
        connection: LdapConnection,
        wanted: _Wanted,
        most: int,
        take: Callable[[Sequence[FoundEntry]], None],
    ) -> bool:
        """
        Read page by page, however few are in one; C{False}: there are more than so many.

        @raise StepError: it comes to no end.
        """
        settings, cookie, number, empty = self._settings, b"", 0, 0
        size = min(settings.page_size, most_in_page(connection))
        began = self._clock.seconds()
        while number <= most:
            page = await connection.search(
                *(wanted.base, wanted.filter, wanted.attributes, settings.sync_timeout),
                most=size,
                page=size,
                cookie=cookie,
            )
            take(page.entries)
            cookie = page.cookie
            if not cookie:
                return True
            number += len(page.entries)
            empty += not page.entries
            refuse_endless(empty, connection.peer)
            self._refuse_late(began, most, connection)
        return False

    def _refuse_late(self, began: float, most: int, connection: LdapConnection) -> None:
        """
        All answers together have the time of as many pages as so many entries fill.

        @raise StepError: it is over.
        """
        seconds = (most // self._settings.page_size + 2) * self._settings.sync_timeout
        if self._clock.seconds() - began > seconds:
            raise faults.LDAP_SILENT.error(
                peer=connection.peer, doing="search", seconds=f"{seconds:g}"
            )

    def _cut(self, collected: Collected, problem: str) -> StepError:
        return faults.SYNC_CUT.error(
            directory=self.directory.name, count=collected.entries, problem=problem
        )

    def _broken(self, collected: Collected, problem: StepError) -> StepError:
        return faults.SYNC_BROKEN.error(
            directory=self.directory.name,
            count=collected.entries,
            problem=problem.cause,
            fault=problem.fault,
            mend=problem.cure,
        )

    def _judge(self, known: int, found: int, changes: Difference) -> None:
        """
        Whether it can be believed.

        @raise StepError: not without somebody saying so.
        """
        if self._allows:
            return
        name = self.directory.name
        if known and not found:
            raise faults.SYNC_EMPTY.error(directory=name, known=known)
        out = len(changes.gone) + len(changes.disabled) + len(changes.others)
        most = max(1, int(self._settings.most_removed * known))
        if out > most:
            raise faults.SYNC_REMOVES.error(directory=name, gone=out, known=known, most=most)

    def _tell(self, outcome: SyncOutcome, left_out: list[LeftOut], others: Sequence[str]) -> None:
        self.log.info(
            "directory {directory}: {all_users} ({added} new, {changed} changed, {removed} gone,"
            " {disabled} disabled), {entries} left out, {sessions} ended",
            **asdict(outcome),
            all_users=counted(outcome.users, "user"),
            entries=counted(outcome.left_out, "entry", "entries"),
            sessions=counted(outcome.sessions_ended, "session"),
        )
        if others:
            self.log.warn(
                "directory {directory}: {addresses} with another entry than before"
                " ({names}), and with the contacts of the former. Cure: cms xmpp contacts forget"
                " ADDRESS, unless somebody has got a new entry.",
                directory=outcome.directory,
                addresses=counted(len(others), "address", "addresses"),
                names=", ".join(others[:NAMED]),
            )
        if left_out:
            names = "; ".join(f"{each.entry} ({each.reason})" for each in left_out[:NAMED])
            warning = faults.SYNC_LEFT_OUT.error(
                directory=outcome.directory, count=outcome.left_out, names=names
            )
            self.log.warn("{step_text}: {cause} Cure: {cure}", **warning.fields)

    def _outcome(self, began: float) -> SyncOutcome:
        seconds = round(self._clock.seconds() - began, 3)
        return SyncOutcome(self.directory.name, self._now(), seconds)

    def _now(self) -> str:
        seconds = wall_clock(self._clock)()
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    def _in_thread(self, function: Callable[[], Any]) -> Deferred[Any]:
        return shielded(self._work.run(function))
