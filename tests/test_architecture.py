"""The rooms keep to docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import cms

ROOT = Path(cms.__file__).parent
# What each room may import, besides itself and what those may.
MAY_IMPORT = {
    "signalflow": set(),
    "faults": {"signalflow"},
    "fast": set(),
    "process": {"fast", "faults", "signalflow"},
    "state": {"faults", "signalflow"},
    "protection": {"process"},
    "xmlstream": {"fast", "faults", "process", "signalflow"},
    "configuration": {"faults", "signalflow", "state", "xmlstream"},
    "linkprotocol": {"xmlstream"},
    "trust": {"faults", "signalflow", "state"},
    "discovery": {"faults", "signalflow"},
    "audit": {"configuration", "discovery", "faults", "process", "signalflow", "trust"},
    "admin": {
        *("faults", "process", "protection", "signalflow", "state", "trust", "xmlstream"),
    },
    "callbridge": {
        *("admin", "audit", "configuration", "discovery", "fast", "faults", "linkprotocol"),
        *("process", "protection", "signalflow", "state", "trust", "xmlstream"),
    },
    "xmpp": {
        *("admin", "audit", "configuration", "discovery", "fast", "faults", "linkprotocol"),
        *("process", "protection", "signalflow", "state", "trust", "xmlstream"),
    },
    "client": {"trust", "xmlstream"},
    "demo": {"callbridge", "client", "faults", "process", "signalflow", "trust"},
    "diagram": {"signalflow"},
    "check": {
        *("admin", "audit", "callbridge", "client", "configuration", "discovery", "faults"),
        *("process", "protection", "signalflow", "state", "trust", "xmlstream", "xmpp"),
    },
    "commands": {
        *("audit", "callbridge", "check", "client", "configuration", "demo", "diagram"),
        *("discovery", "faults", "process", "protection", "signalflow", "state", "trust"),
        *("xmlstream", "xmpp"),
    },
    "cli": {"check", "commands"},
}


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def room(file: Path) -> str:
    """The room a file is in."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


class ArchitectureTests(SynchronousTestCase):
    """Imports."""

    def test_imports_point_downwards(self) -> None:
        """No room imports one that it may not, and the roles not each other."""
        for file in sorted(ROOT.rglob("*.py")):
            if file.name == "__init__.py" and file.parent == ROOT:
                continue
            here = room(file)
            rooms = {m.split(".")[1] for m in imports(file) if m.startswith("cms.")}
            rooms = {r for r in rooms if (ROOT / r).exists() or (ROOT / f"{r}.py").exists()}
            self.assertEqual(set(), rooms - {here} - MAY_IMPORT[here], file)

    def test_reactor(self) -> None:
        """Only the place where a process starts imports the reactor."""
        importers = {
            str(file.relative_to(ROOT))
            for file in ROOT.rglob("*.py")
            if "twisted.internet.reactor" in imports(file)
        }
        self.assertEqual({"process/startup.py"}, importers)
