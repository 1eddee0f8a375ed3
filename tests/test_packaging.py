"""What setup.cfg asks for is what is imported, and what was locked fits it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
CONFIGURATION = ConfigParser()
CONFIGURATION.read(ROOT / "setup.cfg")
OURS = {"cms", "tests", "peers", "bench"}
# What a driver of the peers imports that the system's Python runs; Debian's Gajim brings it.
DEBIANS = {"gi", "nbxmpp", "samba"}
TOOLS = {"build", "coverage", "mypy", "mypy-zope", "ruff"}  # which are run
RUN = {"pytest-twisted", "schemathesis"}  # by the tests: a plugin, and a command


def normal(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(section: str, key: str) -> dict[str, list[tuple[str, str]]]:
    """The packages of a list in setup.cfg, and the bounds of their versions."""
    found = {}
    for line in CONFIGURATION[section][key].split():
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", line).groups()  # type: ignore[union-attr]
        found[normal(name)] = re.findall(r"(>=|<)([\d.]+)", bounds)
    return found


def imported(*folders: str) -> set[str]:
    """The packages that the modules of some folders import, by the name that pip knows."""
    known = packages_distributions()
    tops = {name.partition(".")[0]: name for name in _modules(*folders)}
    several = {name for name in _modules(*folders) if name.startswith("zope.")}
    found = {normal(name) for top in tops if top != "zope" for name in known.get(top, [top])}
    return found | {normal(".".join(name.split(".")[:2])) for name in several}


def _modules(*folders: str) -> Iterator[str]:
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            if "node_modules" not in file.parts:
                for node in ast.walk(ast.parse(file.read_text())):
                    if isinstance(node, ast.ImportFrom):
                        yield str(node.module)
                    elif isinstance(node, ast.Import):
                        yield from (alias.name for alias in node.names)


def numbers(version: str) -> tuple[int, ...]:
    """A version, to compare."""
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))


def locked(name: str) -> dict[str, str]:
    """The packages of a lock, and their versions."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return {normal(n): v for n, v in re.findall(r"^([\w.-]+)==([\w.+]+)", text, re.MULTILINE)}


class PackagingTests(SynchronousTestCase):
    """Packages."""

    here = {*map(normal, sys.stdlib_module_names), *OURS}
    runtime = wanted("options", "install_requires")
    test = wanted("options.extras_require", "test")
    dev = wanted("options.extras_require", "dev")
    bench = wanted("options.extras_require", "bench")

    def test_runtime(self) -> None:
        """What cms imports is asked for by name, and nothing besides."""
        self.assertEqual(set(self.runtime), imported("cms", "twisted") - self.here)

    def test_extras(self) -> None:
        """So is what the tests, the peers and the bench import, and the tools that are run."""
        found = imported("tests", "peers") - self.here - set(self.runtime) - DEBIANS
        self.assertEqual(set(self.test), found | RUN)
        found = imported("bench") - self.here - {*self.runtime, *self.test}
        self.assertEqual(set(self.bench), found)
        self.assertEqual(TOOLS, set(self.dev))

    def test_locks(self) -> None:
        """Each lock has what is asked for, in a version that is allowed: C{make lock}."""
        for name, asked in (
            ("run", self.runtime),
            ("test", self.runtime | self.test | self.dev),
            ("bench", self.runtime | self.test | self.dev | self.bench),
            ("oldest", self.runtime | self.test),
        ):
            versions = locked(name)
            self.assertEqual(set(), set(asked) - set(versions), name)
            for package, bounds in asked.items():
                version = numbers(versions[package])
                for kind, bound in bounds:
                    fits = version >= numbers(bound) if kind == ">=" else version < numbers(bound)
                    self.assertTrue(fits, f"{name}: {package} {versions[package]} {kind}{bound}")

    def test_oldest(self) -> None:
        """The oldest are those of the lower bounds."""
        versions = locked("oldest")
        for package, bounds in (self.runtime | self.test).items():
            (least,) = [bound for kind, bound in bounds if kind == ">="]
            length = len(numbers(least))
            self.assertEqual(numbers(least), numbers(versions[package])[:length], package)
            self.assertFalse(any(numbers(versions[package])[length:]), package)

    def test_one_version(self) -> None:
        """What runs is in all locks but the oldest the same."""
        run = locked("run")
        for name in ("test", "bench"):
            self.assertEqual(run, {p: v for p, v in locked(name).items() if p in run})
