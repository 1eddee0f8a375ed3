"""
The accounts of administrators: one file in the state directory, passwords hashed.

These are not the users who log in to meetings.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from cms import faults
from cms.process.logs import Logger
from cms.state.atomicfile import replace_file, sweep
from cms.state.folder import explain_os

ACCOUNTS, PASSWORD = "admin-accounts.json", "admin.password"
FIRST = "admin"
_ROUNDS, _BLOCK, _LANES = 1 << 14, 8, 1  # scrypt: 16 MiB and some 40 ms
_SALT, _KEY = 16, 32  # bytes
_MEMORY = 128 << 20  # bytes that a hash may ask for, whatever the file says

log = Logger()


@frozen
class Hash:
    """A password hashed with scrypt (RFC 7914)."""

    salt: bytes
    rounds: int
    block: int
    lanes: int
    key: bytes

    @classmethod
    def of(cls, password: str, salt: bytes) -> Hash:
        """Hash a password; takes tens of milliseconds."""
        key = _scrypt(password, salt, _ROUNDS, _BLOCK, _LANES)
        return cls(salt, _ROUNDS, _BLOCK, _LANES, key)

    def fits(self, password: str) -> bool:
        """Whether this is the password; takes tens of milliseconds either way."""
        key = _scrypt(password, self.salt, self.rounds, self.block, self.lanes)
        return hmac.compare_digest(key, self.key)


def _scrypt(password: str, salt: bytes, rounds: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=rounds,
        r=block,
        p=lanes,
        maxmem=_MEMORY,
        dklen=_KEY,
    )


class Accounts:
    """
    The accounts of one state directory.

    @param random_bytes: Where salts come from.
    """

    def __init__(
        self,
        hashes: Mapping[str, Hash],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._hashes = dict(hashes)
        # An unknown name costs as much time as a known one.
        self._decoy = Hash(random_bytes(_SALT), _ROUNDS, _BLOCK, _LANES, random_bytes(_KEY))

    def has(self, name: str) -> bool:
        """Whether there is such an account."""
        return name in self._hashes

    def fits(self, name: str, password: str) -> bool:
        """Whether there is such an account with this password; for a thread."""
        known = self._hashes.get(name)
        right = (known or self._decoy).fits(password)
        return right and known is not None

    @classmethod
    def open(
        cls, state_dir: Path, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> Accounts:
        """
        Read the accounts; make the first one when there is no file, and write
        its password to a file beside it that only the owner can read.

        @raise ConfigurationError: they cannot be read, or made.
        """
        file = state_dir / ACCOUNTS
        try:
            with _alone(state_dir):
                sweep(file)
                if not file.exists():
                    cls._make_first(state_dir, random_bytes)
            return cls(_parse(file.read_bytes()), random_bytes)
        except OSError as problem:
            raise explain_os(file, problem) from None
        except (ValueError, KeyError, TypeError):
            raise _unusable(file, "it is damaged") from None

    @staticmethod
    def _make_first(state_dir: Path, random_bytes: Callable[[int], bytes]) -> None:
        password = base64.b32encode(random_bytes(15)).decode().lower()
        shown = state_dir / PASSWORD
        # In this order: without its password in the file, the account would be useless.
        replace_file(shown, f"{password}\n".encode())
        plain = _plain(Hash.of(password, random_bytes(_SALT)))
        content = json.dumps({"version": 1, "accounts": {FIRST: plain}})
        replace_file(state_dir / ACCOUNTS, content.encode())
        log.info(
            'the first administrator is "{name}"; its password is in {file}',
            name=FIRST,
            file=str(shown),
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Several daemons may have the same accounts, and start at the same time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _parse(content: bytes) -> dict[str, Hash]:
    plain = json.loads(content)
    if plain["version"] != 1:
        raise ValueError("a newer version")
    return {name: _hash(entry) for name, entry in plain["accounts"].items()}


def _plain(hashed: Hash) -> dict[str, Any]:
    return {
        "scheme": "scrypt",
        "salt": hashed.salt.hex(),
        "rounds": hashed.rounds,
        "block": hashed.block,
        "lanes": hashed.lanes,
        "key": hashed.key.hex(),
    }


def _hash(entry: Mapping[str, Any]) -> Hash:
    rounds, block, lanes = int(entry["rounds"]), int(entry["block"]), int(entry["lanes"])
    if entry["scheme"] != "scrypt" or 128 * block * (rounds + lanes) > _MEMORY // 2:
        raise ValueError("it could not be computed")
    key = bytes.fromhex(entry["key"])
    return Hash(bytes.fromhex(entry["salt"]), rounds, block, lanes, key)


def _unusable(file: Path, problem: str) -> Exception:
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key="accounts",
        problem=problem,
        mend="Make it readable for this user, or remove it: then a first account is made anew.",
    )
