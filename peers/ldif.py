"""Entries of LDAP as LDIF (RFC 2849), and changes to them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from attrs import frozen


@frozen
class Entry:
    """
    One entry.

    @ivar attributes: Names and values; of a list, each.
    """

    dn: str
    attributes: Mapping[str, str | bytes | Sequence[str]]

    @property
    def ldif(self) -> str:
        """In LDIF (RFC 2849)."""
        lines = [_line("dn", self.dn)]
        for name, values in self.attributes.items():
            several = (values,) if isinstance(values, str | bytes) else values
            lines += [_line(name, value) for value in several]
        return "\n".join(lines) + "\n"

    @property
    def added(self) -> str:
        """The same as a change."""
        first, rest = self.ldif.split("\n", 1)
        return f"{first}\nchangetype: add\n{rest}"


def _line(name: str, value: str | bytes) -> str:
    """Base64 for what is not plain."""
    if isinstance(value, bytes):
        return f"{name}:: {base64.b64encode(value).decode()}"
    if value.isascii() and value.isprintable() and not value.startswith((" ", ":", "<")):
        return f"{name}: {value}"
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def escaped(value: str) -> str:
    """For a DN (RFC 4514 2.4)."""
    return "".join(f"\\{ord(c):02x}" if c in ',+"\\<>;=#' else c for c in value)


class Editable:
    """A directory whose entries can be changed."""

    def modify(self, ldif: str) -> None:
        """Change entries, as C{ldapmodify} reads them, with all rights."""
        raise NotImplementedError

    def replace(self, dn: str, attribute: str, value: str | bytes) -> None:
        """Another value for one attribute."""
        line = _line(attribute, value)
        self.modify(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{line}\n")

    def delete(self, dn: str) -> None:
        """Take an entry out."""
        self.modify(f"dn: {dn}\nchangetype: delete\n")

    def add(self, entry: Entry) -> None:
        """Put an entry in."""
        self.modify(entry.added)
