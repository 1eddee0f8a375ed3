"""What an entry of a directory says of a user, by the mappings and by well-known attributes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence

from attrs import field, frozen

from cms.callbridge.directories.store import StoreError, user_name
from cms.callbridge.directories.synced import SyncedUser
from cms.callbridge.ldap.connection import FoundEntry
from cms.callbridge.ldap.groups import comparable
from cms.callbridge.ldap.mapping import Entry, Lacking, escape_dn_value
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.passwords.scram import HASHES, StoredKeys
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.people import tidy

# What changes with the password, the best first; read with each entry.
_STATES = ("pwdLastSet", "pwdChangedTime", "entryCSN")
# When the password was set; unlike entryCSN they change with nothing else.
_SET = ("pwdLastSet", "pwdChangedTime", "shadowLastChange")
# What an entry keeps wherever it is moved and whatever its name is (RFC 4530).
_IDENTITIES = ("entryUUID", "objectGUID", "nsUniqueId")
_MOST_IDENTITY = 64  # bytes
_MOMENT = re.compile(rb"[0-9]{1,20}")
_CLOSED = ("userAccountControl", "accountExpires", "nsAccountLock", "pwdAccountLockedTime")
_ACCOUNTDISABLE, _LOCKOUT, _PASSWORD_EXPIRED = 0x2, 0x10, 0x800000  # MS-ADTS 2.2.16
# What Active Directory works out when it is asked (MS-ADTS 3.1.1.4.5.17).
COMPUTED = "msDS-User-Account-Control-Computed"
_NEVER = (0, 0x7FFFFFFFFFFFFFFF)  # of accountExpires
_FROM_1601 = 11_644_473_600  # seconds until 1970
MOST_DIGITS = 20  # of what has 64 bits
_FOR_EVER = b"000001010000Z"  # draft-behera 5.3.3: locked by an administrator
_KEYS = re.compile(
    r" *(?P<rounds>[1-9][0-9]{0,8}):(?P<salt>[\w+/=]+)"
    r"\$(?P<stored>[\w+/=]+):(?P<server>[\w+/=]+) *",
    re.ASCII,
)


@frozen
class LdapUser:
    """
    An entry that is a user.

    @ivar name: The prepared local part.
    @ivar bind_as: The name under which the password is checked.
    @ivar shown: The name for people.
    @ivar closed: Why he may not log in: "is disabled"; empty if he may.
    @ivar state: Changes with the password, or if another is checked; empty if the directory shows
        nothing like it.
    @ivar keys: Values of C{keys_attribute}.
    @ivar password: When the password was set, see L{is_later}; empty if the directory does not say.
    @ivar identity: Of the entry; empty likewise.
    """

    name: str
    dn: str
    bind_as: str
    shown: str
    closed: str
    state: bytes = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    password: str = ""
    identity: str = ""

    @property
    def disabled(self) -> bool:
        """Whether he may not log in at all."""
        return bool(self.closed)


def read_user(entry: FoundEntry, settings: LdapSettings, domain: str, now: float) -> LdapUser:
    """
    An entry as a user of the domain.

    @param now: Seconds since the epoch, for accounts that end.
    @raise Lacking: it has no value for a mapping.
    @raise StoreError: its address cannot be one of this domain, or it was not read.
    """
    if entry.problem:
        raise StoreError(entry.problem)
    name = user_name(settings.jid.fill(entry.values), domain)
    if is_visitor(name):
        raise StoreError(f"{name} is what the address of a guest looks like")
    bind_as = entry.dn
    if settings.bind_as is not None:
        is_dn = any("=" in text for text in settings.bind_as.parts[0::2])
        bind_as = settings.bind_as.fill(_escaped(entry.values) if is_dn else entry.values)
    try:
        shown = tidy(settings.shown_name.fill(entry.values)) or name
    except Lacking:
        shown = name
    identity = _identity(entry.values)
    states = (v for a in _STATES if (v := entry.values.get(a.lower())))
    whose = bind_as.encode(), identity.encode()
    state = next((b"\0".join((*whose, *v)) for v in states), b"")
    keys = entry.values.get(settings.keys_attribute.lower(), ())
    closed, password = why_closed(entry.values, now), _set(entry.values)
    return LdapUser(name, entry.dn, bind_as, shown, closed, state, keys, password, identity)


def _set(values: Entry) -> str:
    """The first of L{_SET} with its number: C{pwdChangedTime 20261129083000}."""
    for attribute in _SET:
        moment = _MOMENT.match(_first(values, attribute))
        if moment is not None:
            return f"{attribute} {moment[0].decode()}"
    return ""


def _identity(values: Entry) -> str:
    for attribute in _IDENTITIES:
        value = _first(values, attribute)
        if value:
            return f"{attribute} {value[:_MOST_IDENTITY].hex()}"
    return ""


def synced(user: LdapUser) -> SyncedUser:
    """What is stored of him."""
    stored = user.name, user.dn, user.shown, user.disabled, user.password
    return SyncedUser(*stored, identity=user.identity)


def is_another(
    user: LdapUser | SyncedUser, known: SyncedUser, is_elsewhere: Callable[[str], bool]
) -> bool:
    """
    Whether an address is another entry's now than was known.

    Another identity is not enough: two servers that are filled from one file have identities of
    their own.  So the DN is another one too, or one of both entries has another address.

    @param is_elsewhere: Whether the entry of an identity had another address, or has one.
    """
    one, other = user.identity, known.identity
    if "" in (one, other) or one == other:
        return False
    return comparable(user.dn) != comparable(known.dn) or is_elsewhere(one) or is_elsewhere(other)


def is_later(password: str, than: str) -> bool:
    """
    Whether a password was set after another, as far as is known: a replica that lags behind,
    or another attribute, says nothing.
    """
    (one, _, moment), (other, _, before) = password.partition(" "), than.partition(" ")
    return bool(one) and one == other and int(moment) > int(before)


def _escaped(values: Entry) -> Entry:
    return {
        name: tuple(escape_dn_value(v.decode(errors="replace")).encode() for v in each)
        for name, each in values.items()
    }


def why_closed(values: Entry, now: float) -> str:
    """
    Why the directory lets somebody not log in at all, as what his entry "is" or "has"; empty if
    it does.  That he is locked or needs another password is seen where L{COMPUTED} was asked for.
    """
    if (
        _number(values, "userAccountControl") & _ACCOUNTDISABLE
        or _first(values, "nsAccountLock").lower() == b"true"
        or _first(values, "pwdAccountLockedTime") == _FOR_EVER
    ):
        return "is disabled"
    expires = _number(values, "accountExpires")
    if expires not in _NEVER and expires / 10_000_000 - _FROM_1601 <= now:
        return "has expired"
    computed = _number(values, COMPUTED)
    if computed & _LOCKOUT:
        return "is locked after wrong passwords"
    return "has to get another password first" if computed & _PASSWORD_EXPIRED else ""


def _number(values: Entry, attribute: str) -> int:
    """A number that is not negative; 0 if it is none."""
    value = _first(values, attribute)
    return int(value) if value.isdigit() and len(value) <= MOST_DIGITS else 0


def _first(values: Entry, attribute: str) -> bytes:
    found = values.get(attribute.lower())
    return found[0] if found else b""


def attributes_of(settings: LdapSettings) -> tuple[str, ...]:
    """The only attributes that are asked for; a password is none of them."""
    templates = (settings.jid, settings.shown_name, settings.bind_as)
    mapped = (name for each in templates if each is not None for name in each.attributes)
    keys = (settings.keys_attribute,) if settings.keys_attribute else ()
    if settings.groups_base:
        keys = (*keys, "uid")  # as memberUid names people
    return tuple(dict.fromkeys((*mapped, *_CLOSED, *_STATES, *_SET, *_IDENTITIES, *keys)))


def read_keys(values: Sequence[bytes], mechanism: str) -> StoredKeys | None:
    """
    The keys for a mechanism among values in the form of RFC 5803 2::

        SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>

    @return: C{None} if there are none that can be read.
    """
    for value in values:
        scheme, _, rest = value.decode("ascii", "replace").partition("$")
        found = _KEYS.fullmatch(rest)
        if scheme.strip() != mechanism or found is None:
            continue
        try:
            salt, stored, server = (
                base64.b64decode(found[part], validate=True)
                for part in ("salt", "stored", "server")
            )
        except binascii.Error:
            continue
        size = hashlib.new(HASHES[mechanism]).digest_size
        if salt and len(stored) == len(server) == size:
            return StoredKeys(salt, int(found["rounds"]), stored, server)
    return None
