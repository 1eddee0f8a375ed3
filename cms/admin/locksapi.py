"""Who is locked out by too many wrong proofs, and its release: operations on what counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import frozen

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.interfaces import Facts
from cms.admin.operations import Call, Operation
from cms.admin.replies import Document, Listing, Reply
from cms.protection.guessing import Guesses
from cms.web.forms import Parameter
from cms.web.refusal import Refused

LOCKS = f"{API}/system/locks"
MOST = 1_000  # that are listed
LOCK = schemas.record(
    {
        "kind": schemas.TEXT,
        "account": schemas.TEXT,
        "address": schemas.TEXT,
        "seconds": schemas.WHOLE,
    },
    *("kind", "seconds"),
)
RELEASED = schemas.record({"released": schemas.WHOLE}, "released")


@frozen
class Counted:
    """
    What one kind of proof is counted by.

    @ivar guesses: The counts of now.
    @ivar account: Makes of an account as people write it what is counted.
    """

    guesses: Callable[[], Guesses]
    account: Callable[[str], str] = str


class LockTable:
    """
    The locks of one daemon.

    @param kinds: By name, such as C{login}.
    """

    def __init__(self, kinds: Mapping[str, Counted]) -> None:
        self._kinds = kinds

    @property
    def kinds(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._kinds)

    def locks(self) -> Iterator[Facts]:
        """Whoever is refused now, and for how long."""
        for kind, counted in self._kinds.items():
            for lock in counted.guesses().locks():
                yield {
                    "kind": kind,
                    "account": lock.account or None,
                    "address": lock.address or None,
                    "seconds": max(1, round(lock.seconds)),
                }

    def release(self, kind: str, account: str, address: str) -> int:
        """
        Forget wrong proofs.

        @param kind: Empty: of all kinds.
        @param account: Empty: of all accounts.
        @param address: Empty: from all addresses.
        @return: How many locks there were.
        """
        chosen = self._kinds.items() if not kind else [(kind, self._kinds[kind])]
        released = 0
        for _, counted in chosen:
            whose = counted.account(account) if account else ""
            released += counted.guesses().release(whose, address)
        return released


class LockOperations:
    """The operations."""

    def __init__(self, table: LockTable) -> None:
        self._table = table

    def operations(self) -> list[Operation]:
        """Both."""
        kind = Parameter("kind", "Of this kind alone.", choices=self._table.kinds)
        return [
            Operation(
                "GET",
                LOCKS,
                "listLocks",
                "Who is refused now because of wrong passwords, secrets or passcodes.",
                self.list,
                answers=schemas.listing("locks", "lock", LOCK),
            ),
            Operation(
                "DELETE",
                LOCKS,
                "releaseLocks",
                "Forget wrong proofs: of an account, from an address, or all of them.",
                self.release,
                query=(
                    kind,
                    Parameter("account", "A user, a component or a space.", most=300),
                    Parameter("address", "An IP address.", most=100),
                    Parameter("all", "true, if neither is given.", "boolean"),
                ),
                answers=schemas.named("locks", RELEASED),
                reasons=("nothingToRelease",),
            ),
        ]

    def list(self, call: Call) -> Reply:
        """GET system/locks."""
        found = [(None, facts) for facts in self._table.locks()]
        return Listing("locks", "lock", found[:MOST], len(found))

    def release(self, call: Call) -> Reply:
        """DELETE system/locks."""
        account, address = (call.query.get(name, "").strip() for name in ("account", "address"))
        if not account and not address and call.query.get("all") != "true":
            cure = "Give account or address, or all=true."
            raise Refused("nothingToRelease", "it does not say whom to release", cure)
        released = self._table.release(call.query.get("kind", ""), account, address)
        return Document("locks", {"released": released})
