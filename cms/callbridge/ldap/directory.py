"""
Users of an LDAP directory at a log-in: found by a search, proved by a bind.

The directory is asked at each log-in, so who is gone, moved or disabled there is refused at
once.  What a client says goes into assertion values of a search alone, which are octets and
no text (RFC 4511 4.5.1.7), so there is nothing to inject.  The DN is the one that the server
gave; where C{authenticationMapping} makes a DN, values are escaped (RFC 4514 2.4).
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random
from typing import Any

from attrs import evolve
from sansldap import FilterAnd, LDAPFilter
from twisted.internet.defer import Deferred, fail, succeed

from cms import faults
from cms.callbridge.directories.directory import (
    AccountDisabled,
    AccountLocked,
    DirectoryError,
    PasswordExpired,
)
from cms.callbridge.directories.store import StoreError
from cms.callbridge.directories.synced import SyncedNames, SyncOutcome, SyncStore
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.connection import Bound, LdapConnection, Page, Refused
from cms.callbridge.ldap.groups import comparable
from cms.callbridge.ldap.mapping import Lacking, entries_of
from cms.callbridge.ldap.pictures import Pictures
from cms.callbridge.ldap.pool import Pool, refusal
from cms.callbridge.ldap.servers import Servers
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.ldap.users import (
    LdapUser,
    attributes_of,
    is_another,
    is_later,
    read_keys,
    read_user,
    synced,
)
from cms.callbridge.passwords.recent import RecentPasswords
from cms.callbridge.passwords.saslprep import SASLPrepError
from cms.callbridge.passwords.scram import (
    DEFAULT_ITERATIONS,
    HASHES,
    SALT_BYTES,
    StoredKeys,
    derive,
)
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.people import Person, tidy
from cms.process.clocks import wall_clock
from cms.process.logs import Logger
from cms.process.threads import SlowWork, TooMuchWork
from cms.signalflow import StepError

MOST_SAME = 10  # entries that a look-up takes
MOST_SAMPLES = 16
MOST_LOOKED, LOOKED = 1_000, 10.0  # look-ups that are kept, and for so many seconds
# Answers to a bind that say no of the user, and nothing of the server.
_WRONG = frozenset(
    {
        codes.INVALID_CREDENTIALS,
        codes.INAPPROPRIATE_AUTHENTICATION,
        codes.NO_SUCH_OBJECT,
        codes.CONSTRAINT_VIOLATION,
    }
)
_EXPIRED, _LOCKED, _MUST_CHANGE = 0, 1, 2  # draft-behera 6.2


class LdapDirectory:
    """
    The users of one C{[[directory]]}.

    Implements L{Source<cms.callbridge.directories.several.Source>} but for decoys.

    @param domain: Gives the domain that is served.
    @param store: Of what the syncs found.
    @param work: For what takes milliseconds.
    @param seconds: That a log-in has.
    @param renewed: Called with a user who has logged in with another password than was known:
        his sessions of before are over.
    @param pictures: Reads pictures, if they are shown.
    @param remember: Seconds for which a right password needs no bind again, as long as the
        directory shows that it is the same.
    """

    log = Logger()
    asks = True

    def __init__(
        self,
        clock: Any,
        settings: LdapSettings,
        servers: Servers,
        *,
        domain: Callable[[], str],
        store: SyncStore,
        work: SlowWork,
        random: Random,
        seconds: float,
        remember: float = 0.0,
        renewed: Callable[[str], object] = lambda _: None,
        pictures: Pictures | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.servers = servers
        scram = settings.keep_keys or settings.keys_attribute
        self.mechanisms = (*reversed(HASHES), "PLAIN") if scram else ("PLAIN",)
        self.attributes = attributes_of(settings)
        self.domain = domain
        self._clock = clock
        self._store = store
        self._synced = SyncedNames(store.database)
        self._work = work
        self._random = random
        self._seconds = seconds
        self._verified = RecentPasswords(clock, remember)
        self._renewed = renewed
        self._pictures = pictures
        self._searching = Pool(clock, settings, servers, as_account=True)
        self._checking = Pool(clock, settings, servers, as_account=False)
        self._looked: OrderedDict[str, tuple[float, LdapUser | None]] = OrderedDict()
        self._took: deque[float] = deque([0.0], MOST_SAMPLES)

    def now(self) -> float:
        """Seconds since the epoch."""
        return wall_clock(self._clock)()

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._searching.open + self._checking.open

    @property
    def waiting(self) -> int:
        """How many log-ins and syncs wait for one."""
        return self._searching.waiting + self._checking.waiting

    def last_sync(self) -> SyncOutcome | None:
        """
        What became of the last one.

        @raise DirectoryError: it cannot be read now.
        """
        return self._synced.outcome(self.name)

    @property
    def connected(self) -> Counter[str]:
        """The same by server."""
        return self._searching.peers + self._checking.peers

    @property
    def usual_wait(self) -> float:
        """How long a wrong password took lately, drawn from the last ones; in seconds."""
        return self._random.choice(self._took)

    def holds(self, name: str) -> Deferred[bool]:
        """Whether the last sync found this user, or he logged in since."""
        return _at_once(lambda: self._synced.user(self.name, name) is not None)

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """See L{Directory.over}."""
        return Deferred.fromCoroutine(self._over(name, since))

    async def _over(self, name: str, since: datetime) -> str | None:
        known = self._synced.user(self.name, name)
        if known is not None:
            if known.disabled:
                return "disabled"
            ends = self.settings.new_password_ends and known.seen
            return "password" if ends and since < datetime.fromisoformat(known.seen) else None
        # It is asked after each failed log-in, whose look-up has just told; and another one
        # would tell a client by its time whose name is known here.
        until, user = self._looked.get(name, (0.0, None))
        if until <= self._clock.seconds():
            try:
                user = await self.find(name, self._clock.seconds() + self._seconds)
            except StepError as problem:
                raise DirectoryError(problem.cause, problem) from None
        if user is None:
            return "deleted"
        return "disabled" if user.disabled else None

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}."""
        if mechanism not in self.mechanisms:
            return succeed(None)
        return Deferred.fromCoroutine(self._keys(name, mechanism))

    async def _keys(self, name: str, mechanism: str) -> StoredKeys | None:
        try:
            user = await self.find(name, self._clock.seconds() + self._seconds)
        except StepError as problem:
            raise DirectoryError(problem.cause, problem) from None
        if user is None:
            return None
        keys = read_keys(user.keys, mechanism)
        if self.settings.keep_keys and user.state:
            keys = self._synced.keys(self.name, name, mechanism, user.state)
        return None if keys is None else evolve(keys, disabled=user.disabled)

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """See L{Directory.verify}."""
        return Deferred.fromCoroutine(self._verify(name, password))

    async def _verify(self, name: str, password: str) -> bool | None:
        if not password:
            return False
        began = self._clock.seconds()
        deadline = began + self._seconds
        try:
            user = await self.find(name, deadline)
            if user is None:
                return None
            if user.state and self._verified.holds(name, password, user.state):
                return _allowed(user)

            async def bind(connection: LdapConnection, seconds: float) -> Bound:
                bound = await connection.bind(user.bind_as, password, seconds)
                if bound.code in codes.OF_THE_SERVER:
                    raise Refused(connection.peer, bound.code, bound.text)
                return bound

            try:
                bound = await self._checking.use(bind, deadline)
            except Refused as no:
                raise refusal(no, "bind") from None
            right = False
            try:
                right = self._judge(bound, user)
            finally:
                if not right:
                    self._took.append(self._clock.seconds() - began)
            if not right:
                return False
        except StepError as problem:
            raise DirectoryError(problem.cause, problem) from None
        if user.state:
            self._verified.remember(name, password, user.state)
        allowed = _allowed(user)
        await self._note(user, password)
        return allowed

    async def _note(self, user: LdapUser, password: str) -> None:
        """
        A user whom no sync has found is known from now on; keys are kept, if they are; and with
        another password than was known his earlier sessions end, as do those of whoever had his
        address before.
        """
        known = self._synced.user(self.name, user.name)
        another = known is not None and is_another(user, known, self._is_elsewhere(user.name))
        new = known is not None and _is_new(user.password, known.password)
        kept = True
        if self.settings.keep_keys and user.state:
            strongest = self.mechanisms[0]
            kept = self._synced.keys(self.name, user.name, strongest, user.state) is not None
        if known is not None and kept and not new and not another:
            return
        now = evolve(synced(user), seen="" if known is None else known.seen)

        def write() -> bool:
            if not kept:
                keys = {
                    m: derive(password, h, os.urandom(SALT_BYTES), DEFAULT_ITERATIONS)
                    for m, h in HASHES.items()
                }
                self._store.keep_keys(self.name, user.name, keys, user.state)
            if known is None:
                self._store.remember(self.name, now)
            if another:
                return self._store.take_over(self.name, now)
            return new and self._store.note_password(self.name, now)

        try:
            first = await self._work.run(write)
        except (TooMuchWork, StoreError, SASLPrepError) as problem:
            # The log-in is right all the same.
            self.log.warn(
                "directory {directory}: what is known of {name} was not stored ({problem})",
                directory=self.name,
                name=user.name,
                problem=type(problem).__name__,
            )
            return
        before = "" if known is None else known.password
        later = is_later(user.password, than=before) and self.settings.new_password_ends
        if first and (another or later):
            self._renewed(user.name)

    def _is_elsewhere(self, name: str) -> Callable[[str], bool]:
        """Whether an entry was found with another address than this."""
        return lambda identity: bool(self._synced.names_of(self.name, identity) - {name})

    def _judge(self, bound: Bound, user: LdapUser) -> bool:
        """What a server says of a password."""
        if bound.code == codes.SUCCESS:
            if bound.policy in (_EXPIRED, _MUST_CHANGE):
                raise PasswordExpired
            return True
        reason = codes.ad_reason(bound.text)
        if bound.code == codes.INVALID_CREDENTIALS:
            if reason in codes.AD_EXPIRED or bound.policy == _EXPIRED:
                raise PasswordExpired(codes.ad_words(bound.text))
            if reason in codes.AD_DISABLED:
                raise _closed(codes.ad_words(bound.text))
            if reason == codes.AD_LOCKED or bound.policy == _LOCKED:
                raise AccountLocked
        if bound.code in _WRONG:
            return False
        if bound.code == codes.UNWILLING_TO_PERFORM and user.disabled:
            return _allowed(user)
        peer = f"directory {self.name}"
        if bound.code == codes.REFERRAL:
            raise faults.LDAP_REFERRAL.error(peer=peer, doing="bind")
        raise refusal(Refused(peer, bound.code, bound.text), "bind")

    async def find(self, name: str, deadline: float) -> LdapUser | None:
        """
        The user with this address, asked of the directory now.

        @param name: The prepared local part.
        @raise StepError: the directory cannot answer, or more than one entry is him.
        """
        domain = self.domain()
        address = f"{name}@{domain}"
        his = entries_of(address, self.settings.jid)
        if his is None or is_visitor(name):
            return None
        wanted = FilterAnd([self.settings.search_filter, his])
        users = []
        try:
            page = await self.search(wanted, deadline)
        except Refused as no:
            if no.code == codes.SIZE_LIMIT_EXCEEDED:
                raise self._ambiguous(address) from None
            raise self.explain(no) from None
        for entry in page.entries:
            try:
                user = read_user(entry, self.settings, domain, self.now())
            except (Lacking, StoreError):
                continue
            if user.name == name:
                users.append(user)
        # An entry that is told twice is one all the same.
        if len(users) > 1 and len({comparable(user.dn) for user in users}) > 1:
            raise self._ambiguous(address)
        if not users:
            refuse_unread(page)
        found = users[0] if users else None
        self._looked[name] = self._clock.seconds() + LOOKED, found
        self._looked.move_to_end(name)
        while len(self._looked) > MOST_LOOKED:
            self._looked.popitem(last=False)
        return found

    def _ambiguous(self, address: str) -> StepError:
        return faults.LDAP_AMBIGUOUS.error(directory=self.name, address=address)

    async def search(self, wanted: LDAPFilter, deadline: float, *, most: int = MOST_SAME) -> Page:
        """
        Entries below the base, with the attributes of users.

        @raise StepError: there is no answer.
        @raise Refused: the answer is no.
        """

        def look(connection: LdapConnection, seconds: float) -> Awaitable[Page]:
            return connection.search(
                self.settings.base, wanted, self.attributes, seconds, most=most
            )

        return await self._searching.use(look, deadline)

    def person(self, name: str) -> Deferred[Person | None]:
        """See L{Directory.person}: the name is that of the last sync, or log-in."""
        return Deferred.fromCoroutine(self._person(name))

    async def _person(self, name: str) -> Person | None:
        known = self._synced.user(self.name, name)
        if known is None:
            return None
        picture, undecided = b"", False
        if self._pictures is not None and not known.disabled:
            try:
                picture = await self._pictures.of(name)
            except DirectoryError as problem:  # a name without a picture is better than none
                undecided = True
                self.log.info(
                    "directory {directory}: no picture ({problem})",
                    directory=self.name,
                    problem=str(problem),
                )
        return Person(tidy(known.shown), picture, undecided)

    def explain(self, no: Refused) -> StepError:
        """Why a search was refused."""
        if no.code in codes.NO_BASE:
            return faults.LDAP_BASE_MISSING.error(peer=no.peer, base=self.settings.base)
        if no.code == codes.REFERRAL:
            return faults.LDAP_REFERRAL.error(peer=no.peer, doing="search")
        return refusal(no)

    def close(self) -> None:
        """See L{Directory.close}."""
        self._searching.stop()
        self._checking.stop()
        self.servers.stop()
        if self._pictures is not None:
            self._pictures.close()
        self._synced.close()


def refuse_unread(page: Page) -> None:
    """
    Who is not among the entries that were read may be one that was not.

    @raise StepError: there is one.
    """
    for entry in page.entries:
        if entry.problem:
            raise faults.LDAP_ENTRY_TOO_LARGE.error(dn=entry.dn, problem=entry.problem)


def _is_new(password: str, known: str) -> bool:
    """Whether it is another one than is known, and not that of a replica that lags behind."""
    return password not in ("", known) and not is_later(known, than=password)


def _allowed(user: LdapUser) -> bool:
    if user.closed:
        raise _closed(f"the account {user.closed}")
    return True


def _closed(why: str) -> AccountDisabled:
    """With what is to be said beside that it is disabled."""
    return AccountDisabled("" if why == "the account is disabled" else why)


def _at_once(ask: Callable[[], bool]) -> Deferred[bool]:
    try:
        return succeed(ask())
    except DirectoryError:
        return fail()
