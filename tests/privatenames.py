"""Which private names of other packages a module of ours uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

OWN = "cms"
# What makes classes, and puts names of its own into all of them.
PLAIN = ("abc", "attr", "builtins", "collections", "enum", "typing", "zope")


def used(name: str, file: Path) -> set[str]:
    """
    The private names of other packages in a module: what it imports of them, what it asks
    other objects for, and what its classes share with what they are made from, knowingly
    or not.
    """
    module = import_module(name)
    tree = ast.parse(file.read_text())
    found = set(_imported(tree))
    own = set(_defined(tree))
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        kind = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        if isinstance(node, ast.ClassDef) and isinstance(kind, type):
            found |= _of_class(node, kind, own)
            inside.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not (of_self and node in inside) and node.attr not in own:
                found.add(node.attr)
    return found


def _of_class(node: ast.ClassDef, kind: type, own: set[str]) -> set[str]:
    """What one class shares with the foreign ones above it, and takes from nobody it knows."""
    names = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    names |= {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    }
    names |= {
        target.id
        for part in node.body
        for target in (part.targets if isinstance(part, ast.Assign) else [])
        if isinstance(target, ast.Name)
    }
    foreign, ours = set[str](), set(own)
    for above in kind.__mro__[1:]:
        package = above.__module__.partition(".")[0]
        if package == OWN:
            source = Path(str(import_module(above.__module__).__file__))
            ours |= set(_defined(ast.parse(source.read_text())))
        elif package not in PLAIN:
            foreign |= set(_names_in(above))
    private = set(filter(_is_private, names))
    return (private & foreign) | (private - ours)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package, *rest = str(node.module).split(".")
            if package != OWN:
                yield from filter(_is_private, (*rest, *(alias.name for alias in node.names)))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from filter(_is_private, alias.name.split("."))


def _defined(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr
        elif isinstance(node, ast.Assign | ast.AnnAssign) and "__slots__" in ast.unparse(node):
            yield from (str(c.value) for c in ast.walk(node) if isinstance(c, ast.Constant))


def _names_in(kind: type) -> Iterator[str]:
    """The private names that the code of a class has."""
    for name, value in vars(kind).items():
        yield name
        code: Any = getattr(getattr(value, "__func__", value), "__code__", None)
        if isinstance(code, CodeType):
            yield from code.co_names
