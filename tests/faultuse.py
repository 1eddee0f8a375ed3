"""Which code mentions which fault: the definitions of C{cms} and what each refers to."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

import cms
from cms import faults
from cms.faults.kinds import Fault

ROOT = Path(cms.__file__).parent
_COMPARED = re.compile(r"faults\.\w+\.(name|step)")
Definition = tuple[str, str]  # a module, and a name at its top level


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class _Module:
    """What one module defines and imports."""

    def __init__(self, tree: ast.Module, modules: Collection[str]) -> None:
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, str | Definition] = {}  # a module, or what is in one
        for statement in tree.body:
            for name in _names(statement):
                self.defined[name] = statement
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cms"):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found = whole if whole in modules else (node.module, alias.name)
                    self.imported[alias.asname or alias.name] = found


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _spoken(node: ast.AST) -> Iterator[ast.AST]:
    """
    All of it but the annotations, which say what is given and not what is done, and
    C{faults.ENTRY.name}, which is compared with.
    """
    if isinstance(node, ast.Attribute) and _COMPARED.fullmatch(ast.unparse(node)):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _spoken(child)


@cache
def _modules() -> dict[str, _Module]:
    trees = {_module(file): ast.parse(file.read_text()) for file in ROOT.rglob("*.py")}
    return {name: _Module(tree, trees) for name, tree in trees.items()}


def definitions(*places: str) -> set[Definition]:
    """
    What these modules define.

    @param places: Names of modules or of packages, or C{module:name}.
    @raise LookupError: there is none.
    """
    found = set()
    for place in places:
        module, _, name = place.partition(":")
        here = {
            (each, defined)
            for each, content in _modules().items()
            if each == module or each.startswith(f"{module}.")
            for defined in content.defined
            if name in ("", defined)
        }
        if not here:
            raise LookupError(place)
        found |= here
    return found


def _references(definition: Definition) -> Iterator[Definition]:
    module = _modules()[definition[0]]
    for node in _spoken(module.defined[definition[1]]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = module.imported.get(node.value.id)
            if isinstance(owner, str):
                yield owner, node.attr
        elif isinstance(node, ast.Name):
            if node.id in module.defined:
                yield definition[0], node.id
            target = module.imported.get(node.id)
            if isinstance(target, tuple):
                yield target


def _settled(definition: Definition) -> Definition:
    """C{faults.NAME} is in one of the modules of the catalogue."""
    module, name = definition
    if module == "cms.faults" and name not in _modules()[module].defined:
        for each, content in _modules().items():
            if each.startswith("cms.faults.") and name in content.defined:
                return each, name
    return definition


def reached(roots: Iterable[Definition]) -> set[Fault]:
    """The faults that these definitions mention, and those that they refer to, and so on."""
    seen: set[Definition] = set()
    todo = list(roots)
    while todo:
        definition = _settled(todo.pop())
        known = definition[0] in _modules()
        if definition not in seen and known and definition[1] in _modules()[definition[0]].defined:
            seen.add(definition)
            todo += _references(definition)
    entries = {name for module, name in seen if module.startswith("cms.faults.")}
    named = [getattr(faults, name, None) for name in entries]
    return {each for each in named if isinstance(each, Fault)}
