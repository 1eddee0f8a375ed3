"""The SASL mechanisms of a Callbridge, each with the same small interface."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from cms.callbridge.directories.directory import AccountDisabled, AccountLocked, Directory
from cms.callbridge.directories.store import StoreError, user_name
from cms.callbridge.passwords.saslprep import SASLPrepError, saslprep
from cms.callbridge.passwords.scram import (
    HASHES,
    SASLFailure,
    ScramChallenge,
    StoredKeys,
    WrongProof,
    read_client_first,
    without_plus,
)
from cms.linkprotocol.join import is_visitor

NONCE_BYTES = 18  # fills base64 without padding


@frozen
class Identity:
    """
    Who the client is.

    @ivar name: The prepared local part.
    @ivar payload: Additional data of success.
    """

    name: str
    payload: bytes | None = field(default=None, repr=False)


@define
class Surroundings:
    """
    What a mechanism needs from its surroundings.

    @ivar domain: The XMPP domain, prepared.
    @ivar channel_binding: Type and data, if the client's connection has them.
    @ivar random: For nonces.
    @ivar claim: Called with the prepared local part once the client has named it, before
        anything is checked; may raise L{SASLFailure}.
    @ivar weigh: Called right before the password is checked; may raise L{SASLFailure}.
    @ivar accept: Called with name and keys when a guest's SCRAM proof was right; may raise
        L{SASLFailure}.
    @ivar new_guest: Makes the local part of a guest.
    @ivar in_time: Wraps each answer of the directory.  It fails with C{TimeoutError}
        (twisted.internet.defer) if the answer takes too long.
    """

    directory: Directory
    domain: str
    channel_binding: tuple[str, bytes] | None = field(repr=False)
    random: Random
    claim: Callable[[str], None]
    weigh: Callable[[], None]
    accept: Callable[[str, StoredKeys], None]
    new_guest: Callable[[], str]
    in_time: Callable[[Deferred[Any]], Deferred[Any]]


class Mechanism(Protocol):
    """One exchange of one mechanism."""

    async def respond(self, payload: bytes) -> bytes | Identity:
        """
        Take the client's next response.

        @return: The next challenge, or who the client is.
        @raise SASLFailure: the exchange failed.
        @raise Exception: whatever the directory failed with.
        """
        ...


def _own_name(name: str, domain: str) -> str:
    """The user name of a log-in; some clients send the whole address."""
    try:
        return user_name(name, domain)
    except StoreError:
        raise SASLFailure("not-authorized") from None


def _check_authzid(authzid: str | None, name: str, domain: str) -> None:
    """Refuse an authorization identity other than the user's own (RFC 6120 6.3.8)."""
    if authzid:
        try:
            allowed = user_name(authzid, domain) == name
        except StoreError:
            allowed = False
        if not allowed:
            raise SASLFailure("invalid-authzid")


@define
class Scram:
    """SCRAM-SHA-1 and SCRAM-SHA-256 with their -PLUS forms (RFC 5802, RFC 7677)."""

    mechanism: str
    around: Surroundings
    _name: str = field(default="", init=False)
    _known: bool = field(default=False, init=False)
    _challenge: ScramChallenge | None = field(default=None, init=False)

    async def respond(self, payload: bytes) -> bytes | Identity:
        """The first message names the user, the final one proves the password."""
        if self._challenge is None:
            return await self._ask(payload)
        self.around.weigh()
        proof = self._challenge.check(payload)
        if not self._known:
            raise WrongProof
        if self._challenge.keys.disabled:
            raise SASLFailure("account-disabled")
        if is_visitor(self._name):
            self.around.accept(self._name, self._challenge.keys)
        return Identity(self._name, proof)

    async def _ask(self, payload: bytes) -> bytes:
        around, key_name = self.around, without_plus(self.mechanism)
        first = read_client_first(payload, self.mechanism, around.channel_binding)
        self._name = name = _own_name(first.name, around.domain)
        around.claim(name)
        _check_authzid(first.authzid, name, around.domain)
        decoy = around.directory.decoy(name, key_name)  # always made, since it takes time
        keys = await around.in_time(around.directory.keys(name, key_name))
        self._known = keys is not None
        nonce = base64.b64encode(around.random.randbytes(NONCE_BYTES)).decode()
        self._challenge = ScramChallenge(first, keys or decoy, HASHES[key_name], nonce)
        return self._challenge.message.encode()


@define
class Plain:
    """PLAIN (RFC 4616), which the server relays only under TLS."""

    around: Surroundings

    async def respond(self, payload: bytes) -> bytes | Identity:
        """C{authzid NUL authcid NUL password}."""
        try:
            authzid, authcid, password = payload.decode().split("\0")
        except ValueError:
            raise SASLFailure("malformed-request") from None
        if not authcid or not password:
            raise SASLFailure("malformed-request")
        try:
            name = _own_name(saslprep(authcid), self.around.domain)
        except SASLPrepError:
            raise SASLFailure("not-authorized") from None
        self.around.claim(name)
        _check_authzid(authzid, name, self.around.domain)
        self.around.weigh()
        try:
            right = await self.around.in_time(self.around.directory.verify(name, password))
        except AccountDisabled as closed:
            raise SASLFailure(closed.condition, str(closed) or None) from None
        except AccountLocked:
            raise WrongProof(locked=True) from None
        if not right:
            raise WrongProof
        return Identity(name)


@define
class Anonymous:
    """ANONYMOUS (RFC 4505): a guest.  The trace information is ignored."""

    around: Surroundings

    async def respond(self, payload: bytes) -> bytes | Identity:
        """Accept any trace information."""
        return Identity(self.around.new_guest())


def make_mechanism(name: str, around: Surroundings) -> Mechanism:
    """
    A new exchange with the named mechanism.

    @raise SASLFailure: (C{invalid-mechanism}) there is no such mechanism.
    """
    if name == "ANONYMOUS":
        return Anonymous(around)
    if name == "PLAIN":
        return Plain(around)
    if without_plus(name) not in HASHES:
        raise SASLFailure("invalid-mechanism")
    return Scram(name, around)
