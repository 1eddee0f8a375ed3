"""
The server's side of SCRAM (RFC 5802, RFC 7677), without I/O.

The C{scramp} library does this too, but refuses the C{tls-exporter} binding
(RFC 9266), which is the only one that TLS 1.3 has; the tests hold this module
to it where the two overlap.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from attrs import define, field, frozen

from cms.callbridge.saslprep import SASLPrepError, saslprep

HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
SALT_BYTES = 16
DEFAULT_ITERATIONS = 10_000

_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_FIRST = re.compile(
    r"(?P<header>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,]*))?,)"
    r"(?P<bare>(?P<reserved>m=[^,]*,)?n=(?P<name>[^,]*),r=(?P<nonce>[^,]*)(?:,.*)?)",
    re.DOTALL,
)
_FINAL = re.compile(
    r"(?P<without_proof>c=(?P<binding>[^,]*),r=(?P<nonce>[^,]*)(?:,.*)?),p=(?P<proof>[^,]*)",
    re.DOTALL,
)


class SASLFailure(Exception):
    """
    The exchange failed.

    @ivar condition: The SASL condition of RFC 6120 6.5.
    """

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


@frozen
class StoredKeys:
    """What is kept for a user and a hash in place of the password (RFC 5802 3)."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def derive(password: str, hash_name: str, salt: bytes, iterations: int) -> StoredKeys:
    """
    The keys for a password; slow on purpose, so not for the reactor's thread.

    @raise SASLPrepError: when the password holds what no password may.
    """
    prepared = saslprep(password).encode()
    salted = hashlib.pbkdf2_hmac(hash_name, prepared, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    return StoredKeys(
        salt,
        iterations,
        hashlib.new(hash_name, client_key).digest(),
        hmac.digest(salted, b"Server Key", hash_name),
    )


@frozen
class ClientFirst:
    """
    The client's first message.

    @ivar name: The user name, prepared.
    @ivar authzid: The address that it wants to act as, if it said.
    """

    name: str
    authzid: str | None
    nonce: str = field(repr=False)
    header: str = field(repr=False)
    bare: str = field(repr=False)


@define
class ScramServer:
    """
    One exchange.

    @param mechanism: Such as C{SCRAM-SHA-256-PLUS}.
    @param channel_binding: Type and data if the connection has them, so that
        -PLUS was offered.
    @param nonce: Our part of it; fresh and printable.
    """

    mechanism: str
    channel_binding: tuple[str, bytes] | None = field(repr=False)
    nonce: str = field(repr=False)
    _first: ClientFirst | None = field(default=None, init=False, repr=False)
    _server_first: str = field(default="", init=False, repr=False)
    _keys: StoredKeys | None = field(default=None, init=False, repr=False)

    @property
    def plain_mechanism(self) -> str:
        """The mechanism without its -PLUS: what the keys are stored under."""
        return self.mechanism.removesuffix("-PLUS")

    def client_first(self, message: bytes) -> ClientFirst:
        """
        Read the first message.

        @raise SASLFailure: it is malformed, or its channel binding does not fit
            what was offered (RFC 5802 6).
        """
        found = _FIRST.fullmatch(_text(message))
        if found is None or found["reserved"] or not _NONCE.fullmatch(found["nonce"]):
            raise SASLFailure("malformed-request")
        self._check_flag(found["flag"], found["type"])
        try:
            name = saslprep(_unescape(found["name"]))
        except SASLPrepError:
            raise SASLFailure("not-authorized") from None
        authzid = found["authzid"]
        self._first = ClientFirst(
            name,
            _unescape(authzid) if authzid else None,
            found["nonce"],
            found["header"],
            found["bare"],
        )
        return self._first

    def _check_flag(self, flag: str, type_: str | None) -> None:
        plus = self.mechanism.endswith("-PLUS")
        if plus != (type_ is not None):
            raise SASLFailure("malformed-request")
        if type_ is not None and (self.channel_binding is None or type_ != self.channel_binding[0]):
            raise SASLFailure("malformed-request")
        if flag == "y" and self.channel_binding is not None:
            # The client could have bound and saw no offer: somebody removed it.
            raise SASLFailure("not-authorized")

    def server_first(self, keys: StoredKeys) -> bytes:
        """The challenge for a user with these keys."""
        assert self._first is not None  # noqa: S101 - after client_first
        self._keys = keys
        salt = base64.b64encode(keys.salt).decode()
        nonce = self._first.nonce + self.nonce
        self._server_first = f"r={nonce},s={salt},i={keys.iterations}"
        return self._server_first.encode()

    def client_final(self, message: bytes) -> bytes:
        """
        Check the proof.

        @return: The server's own proof, as additional data of success.
        @raise SASLFailure: C{not-authorized}, or C{malformed-request}.
        """
        assert self._first is not None and self._keys is not None  # noqa: S101, PT018
        found = _FINAL.fullmatch(_text(message))
        if found is None:
            raise SASLFailure("malformed-request")
        wanted = self._first.header.encode()
        if self._first.header.startswith("p=") and self.channel_binding is not None:
            wanted += self.channel_binding[1]
        same_binding = hmac.compare_digest(_decode(found["binding"]), wanted)
        same_nonce = hmac.compare_digest(
            found["nonce"].encode(), (self._first.nonce + self.nonce).encode()
        )
        signed = ",".join((self._first.bare, self._server_first, found["without_proof"])).encode()
        if not (self._proves(_decode(found["proof"]), signed) and same_binding and same_nonce):
            raise SASLFailure("not-authorized")
        hash_name = HASHES[self.plain_mechanism]
        signature = hmac.digest(self._keys.server_key, signed, hash_name)
        return b"v=" + base64.b64encode(signature)

    def _proves(self, proof: bytes, signed: bytes) -> bool:
        assert self._keys is not None  # noqa: S101 - after server_first
        hash_name = HASHES[self.plain_mechanism]
        signature = hmac.digest(self._keys.stored_key, signed, hash_name)
        if len(proof) != len(signature):
            return False
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        return hmac.compare_digest(
            hashlib.new(hash_name, client_key).digest(), self._keys.stored_key
        )


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise SASLFailure("malformed-request") from None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SASLFailure("malformed-request") from None


def _unescape(name: str) -> str:
    """RFC 5802 5.1: C{=2C} and C{=3D}, and no other C{=}."""
    if re.search("=(?!2C|3D)", name):
        raise SASLFailure("malformed-request")
    return name.replace("=2C", ",").replace("=3D", "=")
