"""The SASL mechanisms that a Callbridge decides, each behind the same small interface."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

from cms.callbridge.directory import Directory
from cms.callbridge.saslprep import SASLPrepError, saslprep
from cms.callbridge.scram import HASHES, SASLFailure, ScramServer
from cms.callbridge.store import StoreError, user_name


@frozen
class Identity:
    """
    Who the client is.

    @ivar name: The prepared local part.
    @ivar payload: Additional data of success.
    """

    name: str
    payload: bytes | None = field(default=None, repr=False)


class Mechanism(Protocol):
    """
    One exchange of one mechanism.

    @ivar claimed: The user name that the client gave, once it did.
    """

    claimed: str | None

    async def respond(self, payload: bytes) -> bytes | Identity:
        """
        Take the client's next response.

        @return: The next challenge, or who the client is.
        @raise SASLFailure: the exchange failed.
        """
        ...


def _own_name(name: str, domain: str) -> str:
    """The user name of a log-in; some clients give the whole address."""
    try:
        return user_name(name, domain)
    except StoreError:
        raise SASLFailure("not-authorized") from None


def _check_authzid(authzid: str | None, name: str, domain: str) -> None:
    """Nobody may act as somebody else (RFC 6120 6.3.8)."""
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

    directory: Directory
    domain: str
    server: ScramServer
    claimed: str | None = None
    _known: bool = False

    async def respond(self, payload: bytes) -> bytes | Identity:
        """The first message asks for the user's keys, the final one proves them."""
        if self.claimed is not None:
            proof = self.server.client_final(payload)
            if not self._known:
                raise SASLFailure("not-authorized")
            return Identity(self.claimed, proof)
        first = self.server.client_first(payload)
        self.claimed = name = _own_name(first.name, self.domain)
        _check_authzid(first.authzid, name, self.domain)
        keys = await self.directory.keys(name, self.server.plain_mechanism)
        self._known = keys is not None
        decoy = self.directory.decoy(name, self.server.plain_mechanism)
        return self.server.server_first(keys or decoy)


@define
class Plain:
    """PLAIN (RFC 4616), which the server relays only under TLS."""

    directory: Directory
    domain: str
    claimed: str | None = None

    async def respond(self, payload: bytes) -> bytes | Identity:
        """C{authzid NUL authcid NUL password}."""
        try:
            authzid, authcid, password = payload.decode().split("\0")
        except ValueError:
            raise SASLFailure("malformed-request") from None
        try:
            self.claimed = name = _own_name(saslprep(authcid), self.domain)
        except SASLPrepError:
            raise SASLFailure("not-authorized") from None
        _check_authzid(authzid, name, self.domain)
        if not await self.directory.verify(name, password):
            raise SASLFailure("not-authorized")
        return Identity(name)


@define
class Anonymous:
    """ANONYMOUS (RFC 4505): a guest, whose trace information is not looked at."""

    new_guest: Callable[[], str]
    claimed: str | None = None

    async def respond(self, payload: bytes) -> bytes | Identity:
        """Any trace makes a guest."""
        return Identity(self.new_guest())


def make_mechanism(
    name: str,
    directory: Directory,
    domain: str,
    channel_binding: tuple[str, bytes] | None,
    new_guest: Callable[[], str],
) -> Mechanism:
    """
    A fresh exchange of the named mechanism.

    @raise SASLFailure: (C{invalid-mechanism}) there is none of that name.
    """
    if name == "ANONYMOUS":
        return Anonymous(new_guest)
    if name == "PLAIN":
        return Plain(directory, domain)
    if name.removesuffix("-PLUS") not in HASHES:
        raise SASLFailure("invalid-mechanism")
    server = ScramServer(name, channel_binding, nonce=secrets.token_urlsafe(18))
    return Scram(directory, domain, server)


def guest_name(draw: random.Random) -> str:
    """Such as C{guest2686566456}."""
    return f"guest{draw.randrange(10**9, 10**10)}"
