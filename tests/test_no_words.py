"""Nothing is read out of English text: causes, cures, notes and errors' messages are for people."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.test_architecture import MODULES

ASKED = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"),
    *("split", "rsplit", "replace", "find", "index", "count"),
}
PROSE = {"cause", "cure", "mend", "note", "getErrorMessage"}
# What libraries say in words alone, in one place each, with a test that holds it against them.
# What OpenSSL says is in tables: tests/test_openssl_words.py.
ALLOWED = {
    "cms.callbridge.spaces.store": "tests/test_spaces.py",  # SQLite names a column in no other way
}


def is_prose(node: ast.expr) -> bool:
    """Whether it is text for people: a sentence of a fault, or an exception's message."""
    if isinstance(node, ast.Attribute):
        return node.attr in PROSE
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in PROSE
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
        (said,) = node.args or (node.func,)
        return isinstance(said, ast.Name) and said.id in ("error", "exception", "problem")
    return False


def is_phrase(node: ast.expr) -> bool:
    """Whether it is words of a language, and not a sign or a name."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return re.search(r"[a-z]{2,} |^ [a-z]{2,}", text) is not None and "=" not in text


def readings(tree: ast.Module) -> Iterator[int]:
    """Lines where meaning is looked for in text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            looked_for = isinstance(node.left, ast.Constant) and "{" not in str(node.left.value)
            if is_phrase(node.left) or (looked_for and is_prose(node.comparators[0])):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = node.func.attr in ASKED and node.args
            if asked and (is_phrase(node.args[0]) or is_prose(node.func.value)):
                yield node.lineno


class NoWordsTests(SynchronousTestCase):
    """The whole house."""

    def test_nothing_is_read(self) -> None:
        """Neither a phrase is looked for, nor a sentence taken apart."""
        found = [
            f"{name}:{line}"
            for name, file in MODULES.items()
            if name not in ALLOWED
            for line in readings(ast.parse(file.read_text()))
        ]
        self.assertEqual([], found)

    def test_allowed(self) -> None:
        """What is allowed is needed and tested, and what would be wrong is found."""
        for name, test in ALLOWED.items():
            self.assertNotEqual([], list(readings(ast.parse(MODULES[name].read_text()))), name)
            self.assertTrue((MODULES[name].parents[len(name.split(".")) - 1] / test).exists(), test)
        for wrong in (
            '"too many failures" in text',
            'text.startswith("step 1 ")',
            'text.removeprefix("it was waiting for ")',
            'error.cause.removeprefix(f"{name}: ")',
            '"<host>" in error.mend',
            '"Permission" in str(problem)',
            'refused.cause.replace("x", "y")',
        ):
            self.assertEqual([1], list(readings(ast.parse(wrong))), wrong)
        for right in ('text.split(", ")', '"a" in names', 'text.partition(" ")', 'name in "a b"'):
            self.assertEqual([], list(readings(ast.parse(right))), right)
