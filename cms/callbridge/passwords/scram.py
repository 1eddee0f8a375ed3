"""
The server's side of SCRAM (RFC 5802, RFC 7677), without I/O.

L{read_client_first} reads who the client claims to be.  A L{ScramChallenge} is made with
that user's keys.  It is sent, and then checks the client's answer.

The C{scramp} library does this too, but refuses the C{tls-exporter} binding (RFC 9266),
the only one that TLS 1.3 has.  Where the two overlap, the tests compare them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from attrs import field, frozen

from cms.callbridge.passwords.saslprep import SASLPrepError, saslprep

HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
SALT_BYTES = 16
# Whoever steals the store must guess against the stored keys, at the cost of these rounds.
# Each log-in costs the client as many, and PLAIN costs them here.  RFC 7677 requires at
# least 4,096.  10,000 take a phone some 20 ms and this side 5 ms.  More protect a weak
# password little, and PLAIN log-ins could overload us.
DEFAULT_ITERATIONS = 10_000

# RFC 5802 7; extensions are allowed and ignored, m= is not.
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_EXTENSIONS = r"(?:,[A-Za-z]=[^,\0]+)*"
_FIRST = re.compile(
    r"(?P<header>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,\0]*))?,)"
    r"(?P<bare>n=(?P<name>[^,\0]+),r=(?P<nonce>[^,]*)" + _EXTENSIONS + ")"
)
_FINAL = re.compile(
    r"(?P<without_proof>c=(?P<binding>[^,]*),r=(?P<nonce>[^,]*)" + _EXTENSIONS + ")"
    r",p=(?P<proof>[^,]*)"
)


class SASLFailure(Exception):
    """
    The exchange failed.

    @ivar condition: The SASL condition of RFC 6120 6.5.
    @ivar text: A text that the user may be shown.
    @ivar wait: Seconds for which no proof of this user is looked at.
    """

    def __init__(self, condition: str, text: str | None = None, *, wait: float = 0.0) -> None:
        super().__init__(condition)
        self.condition = condition
        self.text = text
        self.wait = wait


class WrongProof(SASLFailure):
    """
    A password is wrong; it counts as a guess.

    @ivar locked: Or it was not looked at, because the directory has locked the account.
    """

    def __init__(self, *, locked: bool = False) -> None:
        super().__init__("not-authorized")
        self.locked = locked


@frozen
class StoredKeys:
    """
    What is stored for a user and a hash instead of the password (RFC 5802 3).

    @ivar disabled: The account may not log in, even with the right password.
    """

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    disabled: bool = False


def derive(password: str, hash_name: str, salt: bytes, iterations: int) -> StoredKeys:
    """
    The keys for a password.  This is slow on purpose, so call it in another thread.

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


def without_plus(mechanism: str) -> str:
    """The mechanism that keys are stored under: C{SCRAM-SHA-256} for its -PLUS form."""
    return mechanism.removesuffix("-PLUS")


@frozen
class ClientFirst:
    """
    The client's first message.

    @ivar name: The user name, prepared.
    @ivar authzid: The authorization identity, if there is one.
    @ivar nonce: The client's part of it.
    @ivar bound: What the final message must repeat: the header, and the
        channel binding data where the client binds.
    @ivar bare: The part that the proof covers.
    """

    name: str
    authzid: str | None
    nonce: str = field(repr=False)
    bound: bytes = field(repr=False)
    bare: str = field(repr=False)


def read_client_first(
    message: bytes, mechanism: str, channel_binding: tuple[str, bytes] | None
) -> ClientFirst:
    """
    Read a client's first message.

    @param mechanism: Such as C{SCRAM-SHA-256-PLUS}.
    @param channel_binding: Type and data, if the connection has them; then -PLUS was
        offered.
    @raise SASLFailure: it is malformed, or its channel binding does not fit
        what was offered (RFC 5802 6).
    """
    found = _FIRST.fullmatch(_text(message))
    if found is None or not _NONCE.fullmatch(found["nonce"]):
        raise SASLFailure("malformed-request")
    data = _binding_data(found["flag"], found["type"], mechanism, channel_binding)
    try:
        name = saslprep(_unescape(found["name"]))
    except SASLPrepError:
        raise SASLFailure("not-authorized") from None
    return ClientFirst(
        name,
        _unescape(found["authzid"]) if found["authzid"] else None,
        found["nonce"],
        found["header"].encode() + data,
        found["bare"],
    )


def _binding_data(
    flag: str, type_: str | None, mechanism: str, channel_binding: tuple[str, bytes] | None
) -> bytes:
    if mechanism.endswith("-PLUS") != (type_ is not None):
        raise SASLFailure("malformed-request")
    if type_ is not None:
        if channel_binding is None or type_ != channel_binding[0]:
            raise SASLFailure("malformed-request")
        return channel_binding[1]
    if flag == "y" and channel_binding is not None:
        # The client could bind but saw no offer of -PLUS: somebody removed it.
        raise SASLFailure("not-authorized")
    return b""


@frozen
class ScramChallenge:
    """
    The server's first message, and the check of the answer to it.

    @ivar hash_name: As hashlib names it.
    @ivar server_nonce: Our part of the nonce: fresh and printable, no comma.
    """

    first: ClientFirst = field(repr=False)
    keys: StoredKeys = field(repr=False)
    hash_name: str
    server_nonce: str = field(repr=False)

    @property
    def _nonce(self) -> str:
        return self.first.nonce + self.server_nonce

    @property
    def message(self) -> str:
        """The server's first message."""
        salt = base64.b64encode(self.keys.salt).decode()
        return f"r={self._nonce},s={salt},i={self.keys.iterations}"

    def check(self, final: bytes) -> bytes:
        """
        Check the client's final message.

        @return: The server's own proof, as additional data of success.
        @raise WrongProof: the password is wrong.
        @raise SASLFailure: C{malformed-request}; or C{not-authorized} for a wrong channel
            binding or nonce, and then the proof was not checked.
        """
        found = _FINAL.fullmatch(_text(final))
        if found is None:
            raise SASLFailure("malformed-request")
        same_binding = hmac.compare_digest(_decode(found["binding"]), self.first.bound)
        same_nonce = hmac.compare_digest(found["nonce"].encode(), self._nonce.encode())
        proof = _decode(found["proof"])
        if not (same_binding and same_nonce):
            raise SASLFailure("not-authorized")
        signed = ",".join((self.first.bare, self.message, found["without_proof"])).encode()
        if not self._proves(proof, signed):
            raise WrongProof
        signature = hmac.digest(self.keys.server_key, signed, self.hash_name)
        return b"v=" + base64.b64encode(signature)

    def _proves(self, proof: bytes, signed: bytes) -> bool:
        signature = hmac.digest(self.keys.stored_key, signed, self.hash_name)
        if len(proof) != len(signature):
            return False
        client_key = (int.from_bytes(proof) ^ int.from_bytes(signature)).to_bytes(len(proof))
        digest = hashlib.new(self.hash_name, client_key).digest()
        return hmac.compare_digest(digest, self.keys.stored_key)


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
