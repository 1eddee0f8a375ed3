"""The encoding of a small text file: editors and shells of other systems may write another."""

from __future__ import annotations

from pathlib import Path

_MARK = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_SAVE = "Save it as UTF-8 without a byte order mark."


class Unreadable(ValueError):
    """
    The content of a file cannot be used.

    @ivar problem: What is wrong; the words follow the file's name.
    @ivar mend: What mends it.
    """

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend


def check_encoding(data: bytes) -> None:
    """
    Look at the first bytes of a file.

    @raise Unreadable: it is UTF-16, or has a byte order mark.
    """
    if data.startswith(_WIDE) or (len(data) > 1 and 0 in data[:2]):
        raise Unreadable("is UTF-16", _SAVE)
    if data.startswith(_MARK):
        raise Unreadable("begins with a byte order mark (BOM)", _SAVE)


def plain_text(data: bytes) -> str:
    """
    The text of a file.

    @raise Unreadable: it is not UTF-8, or has a byte order mark.
    """
    check_encoding(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise Unreadable(f"is not UTF-8 (line {line})", "Save it as UTF-8.") from None


def read_secret(path: Path) -> str:
    """
    The secret that a file holds: one line.

    @raise OSError: it cannot be read.
    @raise Unreadable: it holds something else.  The error does not quote it.
    """
    value = plain_text(path.read_bytes()).strip()
    if not value.isprintable():
        raise Unreadable(
            "holds more than one line, or characters that do not show",
            "Name a file that holds the secret alone.",
        )
    return value
