from collections.abc import Awaitable, Callable
from typing import ParamSpec

_P = ParamSpec("_P")

def ensureDeferred(f: Callable[_P, Awaitable[None]]) -> Callable[_P, None]: ...
