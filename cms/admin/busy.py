"""What takes a thread, for whoever asks the administration."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from cms.process.threads import TooMuchWork
from cms.web.refusal import Refused

_T = TypeVar("_T")


async def answered(work: Awaitable[_T]) -> _T:
    """
    The result of such work.

    @raise Refused: too much is asked at once.
    """
    try:
        return await work
    except TooMuchWork:
        raise Refused("busy", "too much is asked at once", "Try again.", status=503) from None
