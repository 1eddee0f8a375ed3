"""What pages, docstrings and units name is there: commands, options, modules and files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
from attrs import fields_dict, has
from twisted.trial.unittest import SynchronousTestCase

from cms.cli import main

ROOT = Path(__file__).parent.parent.resolve()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [
    file for top in ("cms", "tests", "peers", "bench") for file in (ROOT / top).rglob("*.py")
]
OTHERS = [*(ROOT / "systemd").iterdir(), *(ROOT / "examples").iterdir(), ROOT / "Makefile"]
REFERENCE = re.compile(r"[LC]\{(?:[^}<]*<)?((?:cms|tests)\.[\w.]+)(?:\(\))?>?\}")
COMMAND = re.compile(r"(?:`|C\{|^ {4}|^)cms ([a-z][^`}\n]*)", re.MULTILINE)
PATH = re.compile(r"(?<![\w./-])(?:cms|tests|peers|bench|docs|systemd|examples)/[\w./-]*\.\w+\b")
# Files that are named as an example.
EXAMPLES = {"cms/xmpp.toml"}


class DocstringTests(SynchronousTestCase):
    """References in docstrings and comments."""

    def test_references(self) -> None:
        """Each C{L{cms...}} leads to a module, or to a name in one."""
        named = [(file, name) for file in SOURCES for name in REFERENCE.findall(text(file))]
        self.assertGreater(len(named), 50)
        self.assertEqual([], [(str(file), name) for file, name in named if not exists(name)])

    def test_paths(self) -> None:
        """Each file that is named by its path is in the repository."""
        named = [
            (file, path)
            for file in [*PAGES, *SOURCES, *OTHERS]
            for path in PATH.findall(text(file))
        ]
        self.assertGreater(len(named), 100)
        missing = {
            (str(file), path)
            for file, path in named
            if path not in EXAMPLES and not (ROOT / path).exists()
        }
        self.assertEqual(set(), missing)

    def test_stale(self) -> None:
        """A name that is not there is found."""
        self.assertTrue(exists("cms.signalflow.Attempt.as_dict"))
        self.assertFalse(exists("cms.signalflow.Attempt.as_dictionary"))
        self.assertFalse(exists("cms.errors"))


class CommandTests(SynchronousTestCase):
    """Commands in pages, docstrings and units."""

    def test_commands(self) -> None:
        """Each is one, with the options that are given to it."""
        seen = 0
        for file in [*PAGES, *SOURCES, *OTHERS]:
            for line in COMMAND.findall(text(file)):
                seen += 1
                self.assertEqual("", wrong_in(line), f"{file}: cms {line}")
        self.assertGreater(seen, 100)

    def test_stale(self) -> None:
        """A command or option that is not there is found."""
        self.assertEqual("", wrong_in("xmpp callbridge list --show-secrets"))
        self.assertEqual("status", wrong_in("xmpp status"))
        self.assertEqual("--shown", wrong_in("xmpp callbridge list --shown"))


def text(file: Path) -> str:
    """What a file says."""
    return file.read_text("utf-8")


def exists(name: str) -> bool:
    """Whether a dotted name leads to something."""
    parts = name.rstrip(".").split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return all(members(found, parts[length:]))
    return False


def members(found: object, names: list[str]) -> Iterator[bool]:
    """Whether each name is one of what the name before it leads to."""
    for name in names:
        fields = fields_dict(found) if isinstance(found, type) and has(found) else {}
        declared = getattr(found, "__annotations__", {})
        yield hasattr(found, name) or name in fields or name in declared
        found = getattr(found, name, None)


def wrong_in(line: str) -> str:
    """The first word after C{cms} that is no command or option, or nothing."""
    command: click.Command = main
    for word in line.split():
        if word in ("|", "#", ">", "&&"):
            break
        if word.startswith("--"):
            option = re.match("--[a-z-]*", word)
            known = {
                name for param in command.params for name in (*param.opts, *param.secondary_opts)
            }
            if option is not None and option[0] not in known | {"--help", "--version"}:
                return word
        elif isinstance(command, click.Group) and re.fullmatch("[a-z-]+[,.:;]?", word):
            found = command.commands.get(word.rstrip(",.:;"))
            if (
                found is None or found.hidden
            ):  # a hidden one does nothing: no page may say to type it
                return word
            command = found
    return ""
