"""The refusal of a request, with a reason for machines and words for people."""

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
    @ivar parameter: Which parameter's value is wrong, if it is one's.
    """

    def __init__(
        self,
        reason: str,
        cause: str,
        cure: str = "",
        *,
        status: int = 400,
        parameter: str | None = None,
        named: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._named, self._problem = named, cause
        if named:
            cause = f"{parameter}{named}{cause}"
        super().__init__(f"{reason}: {cause}")
        self.reason = reason
        self.status = status
        self.cause = cause
        self.cure = cure
        self.parameter = parameter
        self.headers = dict(headers or {})

    def in_form(self, label: str) -> str:
        """The cause with the label of a field in place of the parameter's name."""
        return f"{label} {self._problem}" if self._named == " " else self._problem


def wrong(parameter: str, problem: str, cure: str, *, named: str = "") -> Refused:
    """
    The refusal of a parameter's value, which its reason names.

    @param named: What stands between the parameter and the problem in the cause; a space
        where together they are a sentence, C{""} where the cause does not name it.
    """
    return Refused(f"{parameter}Invalid", problem, cure, parameter=parameter, named=named)
