"""
The private parts of a library that a module of ours stands on: named, and looked for.

What a library calls private may change with any release.  So each module of this room
names what it needs when it is imported, down to the parameters; where something is
missing or has become another thing the module leaves the work to the library's own
public way, and the log says in one line what is lost by it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import CodeType
from typing import Any

from attrs import frozen
from twisted.logger import Logger

log = Logger()


class _Default:
    """Stands for any default."""

    def __repr__(self) -> str:
        return "..."


_DEFAULT = _Default()


@frozen
class Need:
    """
    One name.

    @ivar owner: C{module} or C{module:Class}.
    @ivar parameters: Of a function, as its signature has them, without annotations
        and with C{...} for each default: C{"self, data, *, end=..."}.  Of one of
        OpenSSL's, its type in C.  C{None} where the name is an attribute of instances,
        or a constant.
    """

    owner: str
    name: str
    parameters: str | None = None

    def __str__(self) -> str:
        return f"{self.owner.replace(':', '.')}.{self.name}"

    @property
    def is_met(self) -> bool:
        """Whether it is there, and what it was."""
        try:
            owner = find(self.owner)
        except (ImportError, AttributeError):
            return False
        if self.parameters is None:
            return hasattr(owner, self.name) or self.name in _names_in(owner)
        try:
            return parameters_of(owner, self.name) == self.parameters
        except (AttributeError, TypeError, ValueError):
            return False


def find(owner: str) -> Any:
    """
    The module or class of that name.

    @raise ImportError: there is no such module.
    @raise AttributeError: it has no such class.
    """
    module, _, rest = owner.partition(":")
    found: Any = import_module(module)
    for name in filter(None, rest.split(".")):
        found = getattr(found, name)
    return found


def parameters_of(owner: Any, name: str) -> str:
    """
    The parameters of a function or method, as L{Need} has them.

    @raise AttributeError: there is none of that name.
    @raise TypeError: it is no function.
    @raise ValueError: it does not tell.
    """
    function = inspect.getattr_static(owner, name) if inspect.isclass(owner) else None
    if function is None or isinstance(function, staticmethod | classmethod):
        function = getattr(owner, name)
    try:
        signature = inspect.signature(function)
    except ValueError:
        return str(find("OpenSSL._util").ffi.typeof(function).cname)
    empty = inspect.Parameter.empty
    plain = [
        each.replace(annotation=empty, default=empty if each.default is empty else _DEFAULT)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))[1:-1]


def _names_in(owner: Any) -> frozenset[str]:
    """Every attribute that the code of a class and of its bases names: its instances' too."""
    found: set[str] = set()
    for kind in getattr(owner, "__mro__", ()):
        for value in vars(kind).values():
            found.update(_names_of_code(getattr(value, "__func__", value)))
    return frozenset(found)


def _names_of_code(function: Any) -> Iterator[str]:
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        yield from code.co_names


def lacking(package: str, needs: Sequence[Need], lost: str) -> tuple[Need, ...]:
    """
    Look for what a module needs, and say in the log what is lost where it is not there.

    @param package: Whose private parts they are.
    @param lost: What is done without, in words.
    @return: What is not there; nothing where all is well.
    """
    absent = tuple(need for need in needs if not need.is_met)
    if absent:
        log.warn(
            "{lost}: {package} {version} has not, or has otherwise: {absent}",
            lost=lost,
            package=package,
            version=_version(package),
            absent=", ".join(map(str, absent)),
        )
    return absent


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"
