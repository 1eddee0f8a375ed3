"""What the user of the engine must be allowed to do, and how that is tried without an effect."""

from __future__ import annotations

from typing import Final

from cms.cluster.connecting import SECONDS
from cms.cluster.resp import Complaint, RedisConnection

# The right, and a command that needs it and changes nothing that anybody has.  DEL goes before
# what makes a key: who may not delete it does not make it.
_TRIES: Final = (
    ("time", ("TIME",)),
    ("eval", ("EVAL", "return 1", "0")),
    ("exists", ("EXISTS", "{key}")),
    ("hget", ("HGET", "{key}", "f")),
    ("hgetall", ("HGETALL", "{key}")),
    ("hdel", ("HDEL", "{key}", "f")),
    ("xadd", ("XADD", "{key}", "NOMKSTREAM", "*", "d", "")),
    ("xtrim", ("XTRIM", "{key}", "MINID", "0")),
    ("del", ("DEL", "{key}")),
    ("hset", ("HSET", "{key}", "f", "v")),
    ("hsetnx", ("HSETNX", "{key}", "f", "v")),
    ("del", ("DEL", "{key}")),
    ("xgroup", ("XGROUP", "CREATE", "{key}", "g", "0", "MKSTREAM")),
    ("xreadgroup", ("XREADGROUP", "GROUP", "g", "n", "NOACK", "STREAMS", "{key}", ">")),
    ("del", ("DEL", "{key}")),
)
_MAKE: Final = ("hset", "hsetnx", "xgroup")
_NO_GROUP: Final = "NOGROUP"  # it may read, if somebody had made one


async def missing_rights(connection: RedisConnection, key: str) -> list[str]:
    """
    What the user of a connection may not do.

    @param key: One that nobody has; it is there for a moment.
    @raise Complaint: the engine takes nothing, for another reason.
    @raise EngineAway: it does not answer.
    """
    missing: list[str] = []
    for right, words in _TRIES:
        if right in _MAKE and "del" in missing:
            continue
        try:
            command = [word.format(key=key) for word in words]
            await connection.ask(*command, seconds=SECONDS)
        except Complaint as complaint:
            if not complaint.codes & {"NOPERM", _NO_GROUP}:
                raise
            if right not in missing and _NO_GROUP not in complaint.codes:
                missing.append(right)
    return missing
