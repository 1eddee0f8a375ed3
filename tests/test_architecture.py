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
    "remedies": set(),
    "errors": {"signalflow", "remedies"},
    "doubts": {"signalflow", "errors"},
    "xmlstream": {"endings", "errors", "logs", "signalflow"},
    "clocks": set(),
    "database": {"errors", "signalflow", "statedir"},
    "files": {"doubts", "errors", "logs", "signalflow"},
    "places": {"logs", "throttle"},
    "statedir": {"errors", "signalflow"},
    "throttle": set(),
    "guessing": {"throttle"},
    "proxyheader": set(),
    "proxied": {"errors", "signalflow", "proxyheader"},
    "slowwork": {"logs"},
    "durable": set(),
    "endings": set(),
    "listening": {"errors", "signalflow", "proxied"},
    "logs": set(),
    "machines": set(),
    "plaintext": set(),
    "tomlfile": {"errors", "signalflow", "xmlstream", "plaintext"},
    "loginprotocol": {"xmlstream"},
    "trust": {"errors", "doubts", "signalflow", "plaintext"},
    "discovery": {"errors", "doubts", "signalflow"},
    "audit": {"clocks", "errors", "doubts", "signalflow", "tomlfile", "trust", "discovery"},
    "reactor": set(),
    "startup": {"clocks", "files", "signalflow", "logs", "systemd", "reactor"},
    "systemd": {"logs"},
    "admin": {
        *("signalflow", "errors", "guessing", "slowwork", "durable", "listening", "throttle"),
        *("files", "places", "statedir", "xmlstream", "trust", "startup", "logs", "database"),
        *("proxied", "proxyheader"),
    },
    "callbridge": {
        *("signalflow", "errors", "doubts", "remedies", "xmlstream", "guessing", "tomlfile"),
        *("loginprotocol", "database", "slowwork", "durable", "trust", "discovery", "startup"),
        *("logs", "machines", "admin", "clocks", "endings"),
        "statedir",
        "places",
        "proxied",
    },
    "xmpp": {
        *("signalflow", "errors", "doubts", "remedies", "xmlstream", "guessing", "tomlfile"),
        *(
            "loginprotocol",
            "database",
            "slowwork",
            "listening",
            "throttle",
            "trust",
            "discovery",
            "audit",
        ),
        *("startup", "admin", "logs", "machines", "reactor", "clocks", "endings"),
        "statedir",
        "files",
        "places",
        "proxied",
        "proxyheader",
    },
    "check": {
        *("signalflow", "errors", "doubts", "remedies", "xmlstream", "tomlfile", "trust"),
        "plaintext",
        *("database", "discovery", "audit", "callbridge", "xmpp", "admin", "clocks", "files"),
        "guessing",
    },
    "commands": {
        *("signalflow", "errors", "doubts", "tomlfile", "database", "trust", "discovery"),
        *("callbridge", "xmpp", "check", "xmlstream", "listening", "durable", "statedir"),
        *("plaintext", "remedies", "guessing"),
    },
    "cli": {"commands", "check"},
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
        self.assertEqual({"startup.py"}, importers)
