"""Stores for which there was no room on the disk yet: what the log and the status say of them."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from cms.admin.interfaces import Facts
from cms.state.database import Database


def tell_lacking(log: Logger, databases: Iterable[Database]) -> None:
    """Log each, at the start."""
    for database in databases:
        if database.lacking is not None:
            log.error(
                "{cause} Cure: {cure} Until then it is not changed, and what it does not hold yet"
                " is empty; no restart is needed.",
                **database.lacking.fields,
            )


def lacking_facts(databases: Iterable[Database]) -> Facts:
    """For the status; nothing if there is nothing to say."""
    told = [each.lacking.as_dict() for each in databases if each.lacking is not None]
    return {"lacking": told} if told else {}
