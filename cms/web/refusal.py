"""Why a request is refused, in words for machines and for people."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """
    A request is refused.

    @ivar reason: One word for machines, such as C{domainInvalid}: the name of an
        XML element.
    @ivar status: The HTTP status.
    @ivar cause: What is wrong, in one sentence; never a secret.
    @ivar cure: What mends it.
    """

    def __init__(
        self,
        reason: str,
        cause: str,
        cure: str = "",
        *,
        status: int = 400,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {cause}")
        self.reason = reason
        self.status = status
        self.cause = cause
        self.cure = cure
        self.parameter = parameter
        self.headers = dict(headers or {})


def wrong(parameter: str, cause: str, cure: str) -> Refused:
    """The refusal of a parameter's value, which its reason names."""
    return Refused(f"{parameter}Invalid", cause, cure, parameter=parameter)
