"""The operation that shows the record on disk of a daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from cms.admin import schemas
from cms.admin.busy import answered
from cms.admin.commonapi import API
from cms.admin.interfaces import moment
from cms.admin.operations import Call, Operation
from cms.admin.replies import Listing, Reply
from cms.record.reading import Wanted, moment_of
from cms.web.forms import Parameter
from cms.web.refusal import Refused, wrong

LOG = f"{API}/system/log"
MOST = 200
SINCE = "1d"
PARAMETERS = (
    Parameter("user", "Only of this user: alice, or alice@domain.", most=300),
    Parameter("login", "Only this log-in, by its login_id of the log.", most=64),
    Parameter("attempt", "Only this attempt at a link, or this link.", most=64),
    Parameter("since", f"30min, 2h or 3d ago, or a time; else {SINCE}.", most=40),
    Parameter("limit", "How many, the newest.", "integer", least=1, most=MOST),
)
ENTRY = schemas.record({"kind": schemas.TEXT, "at": schemas.TIME}, "kind", "at")


class Records(Protocol):
    """The record of a daemon: L{cms.record.record.Record}."""

    def find(self, wanted: Wanted) -> Deferred[list[dict[str, Any]]]:
        """What is asked for, the oldest first."""
        ...


async def look_up(
    record: Records, given: dict[str, str], now: Callable[[], float]
) -> list[dict[str, Any]]:
    """
    The entries that parameters ask for, the newest first.

    @raise Refused: they cannot be read, or there is no such time.
    """
    try:
        since = moment_of(given.get("since") or SINCE, now())
    except ValueError:
        raise wrong("since", "it is no time", "Give 2h, or 2026-11-29T12:00:00Z.") from None
    wanted = Wanted(
        *(given.get("user", ""), given.get("login", ""), given.get("attempt", "")),
        since,
        int(given.get("limit") or MOST),
    )
    try:
        return list(reversed(await answered(record.find(wanted))))
    except OSError as problem:
        cause = f"the record cannot be read ({problem.strerror})"
        cure = "See the folder record of state_dir."
        raise Refused("notReadable", cause, cure, status=500) from None


def record_operation(record: Records, now: Callable[[], float]) -> Operation:
    """
    C{GET system/log}.

    @param now: Seconds since the epoch.
    """

    async def show(call: Call) -> Reply:
        found = await look_up(record, dict(call.query), now)
        items = [(None, {**entry, "at": moment(entry["at"])}) for entry in found]
        return Listing("log", "entry", items, len(items))

    return Operation(
        "GET",
        LOG,
        "getLog",
        "The record on disk: log-ins, why they failed, and links; the newest first.",
        show,
        query=PARAMETERS,
        answers=schemas.listing("log", "entry", ENTRY),
        reasons=("notReadable",),
    )
