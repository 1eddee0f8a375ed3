"""HTTP Basic (RFC 7617), with one scrypt an hour for each client."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from cms.admin.accounts import Accounts
from cms.process.threads import SlowWork, TooMuchWork
from cms.protection.guessing import Guess, Guesses, TooManyGuesses
from cms.record.names import shown_name
from cms.web.refusal import Refused

REALM = "acano"  # as existing API clients may expect
REMEMBER = 3600.0  # seconds for which verified credentials are not hashed again
MOST_REMEMBERED = 100
MOST_CREDENTIALS = 1_024  # characters


class BasicGate:
    """
    Admits the accounts of a state directory.

    Verified credentials are remembered by a keyed digest, so that only the first request
    of a client costs a hash.  Guesses are delayed, then refused.
    """

    def __init__(
        self,
        clock: IReactorTime,
        accounts: Callable[[], Accounts],
        work: SlowWork,
        guesses: Guesses,
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._work = work
        self._guesses = guesses
        self._checking: set[bytes] = set()
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()

    async def admit(self, authorization: str | None, host: str) -> str:
        """See L{cms.admin.routes.Gate.admit}."""
        name, password = read_credentials(authorization)
        digest = hmac.digest(self._key, f"{name}:{password}".encode(), "sha256")
        try:
            guess = self._guesses.begin(name, host)
            if not self._knows(digest) and not await self._weigh(name, password, digest, guess):
                delay = guess.failed()
                guess.name(shown_name(name, known=self._accounts().has(name)))
                if delay:
                    await deferLater(self._clock, delay)
                raise unauthorized("name or password is wrong")
        except TooManyGuesses as problem:
            raise too_many(problem.seconds) from None
        guess.succeeded()
        return name

    async def _weigh(self, name: str, password: str, digest: bytes, guess: Guess) -> bool:
        if digest in self._checking:  # the same credentials in many requests are one guess
            return await self._verify(name, password, digest)
        guess.weigh()
        self._checking.add(digest)
        try:
            return await self._verify(name, password, digest)
        except BaseException:
            guess.abandoned()
            raise
        finally:
            self._checking.discard(digest)

    def _knows(self, digest: bytes) -> bool:
        return self._remembered.get(digest, 0.0) > self._clock.seconds()

    async def _verify(self, name: str, password: str, digest: bytes) -> bool:
        accounts = self._accounts()

        def compute() -> bool:
            # If a client begins with many requests, hash for one of them only.
            return self._knows(digest) or accounts.fits(name, password)

        try:
            work: Deferred[bool] = self._work.run(compute)
            right = await work
        except TooMuchWork:
            raise Refused(
                "busy",
                "too many log-ins wait to be checked",
                "Try again.",
                status=503,
                headers={"retry-after": "1"},
            ) from None
        if right:
            self._remembered[digest] = self._clock.seconds() + REMEMBER
            self._remembered.move_to_end(digest)
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return right


def read_credentials(authorization: str | None) -> tuple[str, str]:
    """
    Name and password of an C{Authorization} header.

    @raise Refused: there are none, or they cannot be read.
    """
    if authorization is None:
        raise unauthorized("this object needs a log-in")
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        decoded = ""
    name, colon, password = decoded.partition(":")
    if scheme.lower() != "basic" or len(encoded) > MOST_CREDENTIALS or not colon:
        raise unauthorized("the Authorization header cannot be read")
    return name, password


def too_many(seconds: float) -> Refused:
    """The refusal of a request whose password is not checked, for so many seconds."""
    wait = max(1, round(seconds))
    return Refused(
        "tooManyFailures",
        "too many log-ins of this account, or from this address, have failed",
        f"Wait {wait} s.",
        status=429,
        headers={"retry-after": str(wait)},
    )


def unauthorized(cause: str) -> Refused:
    """The challenge."""
    return Refused(
        "unauthorized",
        cause,
        "Log in with HTTP Basic; admin.password in the state directory has the first password.",
        status=401,
        headers={"www-authenticate": f'Basic realm="{REALM}"'},
    )
