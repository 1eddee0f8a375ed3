"""The client's side of SCRAM (RFC 5802), for the client that checks log-ins."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from attrs import define, field

HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
MOST_ITERATIONS = 10_000_000


class ServerNotProven(Exception):
    """The server could not prove that it knows the user (RFC 5802 3)."""


@define
class ScramClient:
    """
    One exchange.

    @param binding: The C{tls-exporter} data for a -PLUS mechanism.
    """

    mechanism: str
    name: str
    password: str = field(repr=False)
    binding: bytes | None = field(default=None, repr=False)
    nonce: str = field(factory=lambda: secrets.token_urlsafe(18), repr=False)
    _server_signature: bytes = field(default=b"", init=False, repr=False)

    @property
    def _header(self) -> str:
        return "n,," if self.binding is None else "p=tls-exporter,,"

    @property
    def _bare(self) -> str:
        name = self.name.replace("=", "=3D").replace(",", "=2C")
        return f"n={name},r={self.nonce}"

    def first(self) -> bytes:
        """The initial response."""
        return (self._header + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        """
        The answer to the server's first message.

        @raise ServerNotProven: it does not answer this exchange.
        """
        try:
            server_first = challenge.decode()
            values = dict(item.split("=", 1) for item in server_first.split(","))
            salt, iterations = base64.b64decode(values["s"]), int(values["i"])
            nonce = values["r"]
        except (KeyError, ValueError):
            raise ServerNotProven("its challenge cannot be read") from None
        if not nonce.startswith(self.nonce) or not 0 < iterations <= MOST_ITERATIONS:
            raise ServerNotProven("its challenge is not for us")
        hash_name = HASHES[self.mechanism.removesuffix("-PLUS")]
        bound = base64.b64encode(self._header.encode() + (self.binding or b"")).decode()
        without_proof = f"c={bound},r={nonce}"
        signed = ",".join((self._bare, server_first, without_proof)).encode()
        salted = hashlib.pbkdf2_hmac(hash_name, self.password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", hash_name)
        stored_key = hashlib.new(hash_name, client_key).digest()
        signature = hmac.digest(stored_key, signed, hash_name)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", hash_name)
        self._server_signature = hmac.digest(server_key, signed, hash_name)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, final: bytes) -> None:
        """
        Check the server's own proof.

        @raise ServerNotProven: it is wrong, or comes before it was asked for.
        """
        expected = b"v=" + base64.b64encode(self._server_signature)
        if not self._server_signature or not hmac.compare_digest(final, expected):
            raise ServerNotProven("its proof is wrong")
