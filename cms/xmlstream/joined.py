"""Stanzas that are joined already, as they came from another server of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload


class Joined(Sequence[bytes]):
    """
    Stanzas one after the other, which are cut only for who wants one of them.

    @ivar whole: All of them.
    @param sizes: Of each; their sum is that of C{whole}.
    """

    __slots__ = ("_pieces", "_sizes", "whole")

    def __init__(self, whole: bytes, sizes: Sequence[int]) -> None:
        self.whole = whole
        self._sizes = sizes
        self._pieces: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._sizes)

    def _cut(self) -> list[bytes]:
        if self._pieces is None:
            self._pieces, at = [], 0
            for size in self._sizes:
                self._pieces.append(self.whole[at : at + size])
                at += size
        return self._pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._cut())

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        return self._cut()[at]
