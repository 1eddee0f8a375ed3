"""
Users of an LDAP directory at a log-in: found by a search, proved by a bind.

The directory is asked at each log-in, so who is gone, moved or disabled there is refused at
once.  What a client says goes into assertion values of a search alone, which are octets and
no text (RFC 4511 4.5.1.7), so there is nothing to inject.  The DN is the one that the server
gave; where C{authenticationMapping} makes a DN, values are escaped (RFC 4514 2.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Any

from attrs import frozen
from sansldap import FilterAnd, FilterEquality, FilterOr, LDAPFilter
from twisted.internet.defer import Deferred, succeed

from cms import faults
from cms.callbridge.directories.directory import AccountDisabled, DirectoryError, PasswordExpired
from cms.callbridge.directories.store import StoreError, user_name
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.connection import Bound, FoundEntry, LdapConnection, Page, Refused
from cms.callbridge.ldap.mapping import Entry, Lacking, Template, escape_dn_value
from cms.callbridge.ldap.pool import Pool, refusal
from cms.callbridge.ldap.servers import Servers
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.passwords.recent import RecentPasswords
from cms.callbridge.passwords.scram import StoredKeys
from cms.linkprotocol.join import is_visitor
from cms.signalflow import StepError

MOST_SAME = 10  # entries that a look-up takes
MOST_SAMPLES = 16
# What changes with the password, the best first; read with each entry.
_STATES = ("pwdLastSet", "pwdChangedTime", "entryCSN")
_DISABLED = ("userAccountControl", "nsAccountLock", "pwdAccountLockedTime")
_ACCOUNTDISABLE = 0x2  # MS-ADTS 2.2.16
_FOR_EVER = b"000001010000Z"  # draft-behera 5.3.3: locked by an administrator
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


@frozen
class LdapUser:
    """
    An entry that is a user.

    @ivar name: The prepared local part.
    @ivar bind_as: The name under which the password is checked.
    @ivar shown: The name for people.
    @ivar state: Changes with the password; empty if the directory shows nothing like it.
    """

    name: str
    dn: str
    bind_as: str
    shown: str
    disabled: bool
    state: bytes


def read_user(entry: FoundEntry, settings: LdapSettings, domain: str) -> LdapUser:
    """
    An entry as a user of the domain.

    @raise Lacking: it has no value for a mapping.
    @raise StoreError: its address cannot be one of this domain.
    """
    name = user_name(settings.jid.fill(entry.values), domain)
    if is_visitor(name):
        raise StoreError(f"{name} is what the address of a guest looks like")
    bind_as = entry.dn
    if settings.bind_as is not None:
        is_dn = any("=" in text for text in settings.bind_as.parts[0::2])
        bind_as = settings.bind_as.fill(_escaped(entry.values) if is_dn else entry.values)
    try:
        shown = settings.shown_name.fill(entry.values)
    except Lacking:
        shown = name
    state = next((b"\0".join(v) for a in _STATES if (v := entry.values.get(a.lower()))), b"")
    return LdapUser(name, entry.dn, bind_as, shown, is_disabled(entry.values), state)


def _escaped(values: Entry) -> Entry:
    return {
        name: tuple(escape_dn_value(v.decode(errors="replace")).encode() for v in each)
        for name, each in values.items()
    }


def is_disabled(values: Entry) -> bool:
    """Whether the directory says that somebody may not log in at all."""
    control = _first(values, "userAccountControl")
    if control.isdigit() and int(control[:12]) & _ACCOUNTDISABLE:
        return True
    if _first(values, "nsAccountLock").lower() == b"true":
        return True
    return _first(values, "pwdAccountLockedTime") == _FOR_EVER


def _first(values: Entry, attribute: str) -> bytes:
    found = values.get(attribute.lower())
    return found[0] if found else b""


def attributes_of(settings: LdapSettings) -> tuple[str, ...]:
    """The only attributes that are asked for; a password is none of them."""
    templates = (settings.jid, settings.shown_name, settings.bind_as)
    mapped = (name for each in templates if each is not None for name in each.attributes)
    keys = (settings.keys_attribute,) if settings.keys_attribute else ()
    return tuple(dict.fromkeys((*mapped, *_DISABLED, *_STATES, *keys)))


def entries_of(address: str, mapping: Template) -> LDAPFilter | None:
    """What finds the entries of which the mapping makes an address; C{None}: none can be."""
    ways: list[LDAPFilter] = [
        _all([FilterEquality(name, value.encode()) for name, value in values.items()])
        for values in mapping.ways(address)
    ]
    if not ways:
        return None
    return ways[0] if len(ways) == 1 else FilterOr(ways)


class LdapDirectory:
    """
    The users of one C{[[directory]]}.

    Implements L{Directory<cms.callbridge.directories.directory.Directory>} but for decoys.

    @param domain: Gives the domain that is served.
    @param seconds: That a log-in has.
    @param remember: Seconds for which a right password needs no bind again, as long as the
        directory shows that it is the same.
    """

    mechanisms: tuple[str, ...] = ("PLAIN",)

    def __init__(
        self,
        clock: Any,
        settings: LdapSettings,
        servers: Servers,
        *,
        domain: Any,
        random: Random,
        seconds: float,
        remember: float = 0.0,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.servers = servers
        self._clock = clock
        self._domain = domain
        self._random = random
        self._seconds = seconds
        self._verified = RecentPasswords(clock, remember)
        self._searching = Pool(clock, settings, servers, as_account=True)
        self._checking = Pool(clock, settings, servers, as_account=False)
        self._attributes = attributes_of(settings)
        self._took: deque[float] = deque([0.0], MOST_SAMPLES)

    @property
    def usual_wait(self) -> float:
        """How long a wrong password took lately, drawn from the last ones; in seconds."""
        return self._random.choice(self._took)

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}."""
        return succeed(None)

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
            if not self._judge(bound, user):
                self._took.append(self._clock.seconds() - began)
                return False
        except StepError as problem:
            raise DirectoryError(problem.cause, problem) from None
        if user.state:
            self._verified.remember(name, password, user.state)
        return _allowed(user)

    def _judge(self, bound: Bound, user: LdapUser) -> bool:
        """What a server says of a password."""
        if bound.code == codes.SUCCESS:
            if bound.policy in (_EXPIRED, _MUST_CHANGE):
                raise PasswordExpired
            return True
        reason = codes.ad_reason(bound.text)
        if bound.code == codes.INVALID_CREDENTIALS:
            if reason in codes.AD_EXPIRED or bound.policy == _EXPIRED:
                raise PasswordExpired
            if reason in codes.AD_DISABLED:
                raise AccountDisabled
        if bound.code in _WRONG:
            return False
        if bound.code == codes.UNWILLING_TO_PERFORM and user.disabled:
            raise AccountDisabled
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
        domain = self._domain()
        address = f"{name}@{domain}"
        his = entries_of(address, self.settings.jid)
        if his is None or is_visitor(name):
            return None
        wanted = FilterAnd([self.settings.search_filter, his])
        users = []
        ambiguous = faults.LDAP_AMBIGUOUS.error(directory=self.name, address=address)
        try:
            page = await self.search(wanted, deadline)
        except Refused as no:
            raise (
                ambiguous if no.code == codes.SIZE_LIMIT_EXCEEDED else self._explain(no)
            ) from None
        for entry in page.entries:
            try:
                user = read_user(entry, self.settings, domain)
            except (Lacking, StoreError):
                continue
            if user.name == name:
                users.append(user)
        if len(users) > 1:
            raise ambiguous
        return users[0] if users else None

    async def search(self, wanted: LDAPFilter, deadline: float, *, most: int = MOST_SAME) -> Page:
        """
        Entries below the base, with the attributes of users.

        @raise StepError: there is no answer.
        @raise Refused: the answer is no.
        """

        def look(connection: LdapConnection, seconds: float) -> Awaitable[Page]:
            return connection.search(
                self.settings.base, wanted, self._attributes, seconds, most=most
            )

        return await self._searching.use(look, deadline)

    def _explain(self, no: Refused) -> StepError:
        """Why a search was refused."""
        if no.code == codes.NO_SUCH_OBJECT:
            return faults.LDAP_BASE_MISSING.error(peer=no.peer, base=self.settings.base)
        if no.code == codes.REFERRAL:
            return faults.LDAP_REFERRAL.error(peer=no.peer, doing="search")
        return refusal(no)

    def close(self) -> None:
        """See L{Directory.close}."""
        self._searching.stop()
        self._checking.stop()
        self.servers.stop()


def _all(filters: Sequence[LDAPFilter]) -> LDAPFilter:
    return filters[0] if len(filters) == 1 else FilterAnd(list(filters))


def _allowed(user: LdapUser) -> bool:
    if user.disabled:
        raise AccountDisabled
    return True
