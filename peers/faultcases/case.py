"""One case of the fault catalogue: how it is brought about, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import field, frozen

from peers.checking import STAGE_SECONDS
from peers.checkstage import Stage

Arrange = Callable[[Stage], list[str]]
"""Sets the stage, and gives the arguments of C{cms check}."""


@frozen
class Case:
    """
    One fault.

    @ivar fault: Its name in the catalogue.
    @ivar step: Where it belongs.
    @ivar cause: Words that the cause must hold.
    @ivar cure: Words that the cure must hold.
    @ivar warns: Whether it is a warning, and the check as a whole passes.
    @ivar also: Further findings, all of them true; any other is a false accusation.
    @ivar text: Standard input of C{cms check}.
    @ivar command: What runs C{cms check}, if something does.
    @ivar seconds: For each of its stages.
    """

    name: str
    fault: str
    step: int
    cause: str
    cure: str
    arrange: Arrange = field(repr=False)
    warns: bool = False
    also: frozenset[str] = frozenset()
    text: str = ""
    command: tuple[str, ...] = ()
    seconds: float = STAGE_SECONDS


class Cases(list[Case]):
    """The cases of one part of the signal flow."""

    def add(
        self,
        fault: str,
        step: int,
        cause: str,
        cure: str,
        arrange: Arrange,
        *,
        name: str = "",
        also: Iterable[str] = (),
        **more: Any,
    ) -> None:
        """Add one; it is named as its fault unless that has several cases."""
        case = Case(name or fault, fault, step, cause, cure, arrange, also=frozenset(also), **more)
        assert case.name not in {other.name for other in self}, case.name
        self.append(case)

    def case(
        self, fault: str, step: int, cause: str, cure: str, **more: Any
    ) -> Callable[[Arrange], Arrange]:
        """The same, around the function that sets the stage."""

        def add(arrange: Arrange) -> Arrange:
            self.add(fault, step, cause, cure, arrange, **more)
            return arrange

        return add
