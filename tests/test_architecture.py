"""The rooms keep to docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
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
    "protection": {"process", "signalflow"},
    "record": {"configuration", "process", "protection", "signalflow", "state", "xmlstream"},
    "control": {"signalflow"},
    "xmlstream": {"fast", "faults", "process", "signalflow"},
    "websocket": {"xmlstream"},
    "configuration": {
        *("discovery", "faults", "process", "protection", "signalflow", "state", "xmlstream"),
    },
    "linkprotocol": {"xmlstream"},
    "trust": {"fast", "faults", "signalflow", "state"},
    "discovery": {"faults", "signalflow"},
    "cluster": {"fast", "faults", "process", "signalflow", "trust", "xmlstream"},
    "audit": {"configuration", "discovery", "faults", "process", "signalflow", "trust"},
    "metrics": {"xmlstream"},
    "web": {"faults", "process", "protection", "signalflow", "trust"},
    "door": {
        *("configuration", "faults", "linkprotocol", "process", "protection", "signalflow"),
        *("web", "websocket"),
    },
    "admin": {
        *("control", "faults", "process", "protection", "signalflow", "state", "trust", "web"),
        "record",
    },
    "callbridge": {
        *("admin", "audit", "configuration", "discovery", "fast", "faults", "linkprotocol"),
        *("metrics", "process", "protection", "signalflow", "state", "trust", "web", "xmlstream"),
        "record",
    },
    "xmpp": {
        *("admin", "audit", "cluster", "configuration", "discovery", "door", "fast", "faults"),
        *("linkprotocol", "metrics", "process", "protection", "signalflow", "state", "trust"),
        *("web", "websocket", "xmlstream"),
        "record",
    },
    "client": {"trust", "xmlstream"},
    "demo": {"callbridge", "client", "faults", "process", "signalflow", "trust"},
    "diagram": {"signalflow"},
    "check": {
        *("audit", "callbridge", "client", "cluster", "configuration", "control", "discovery"),
        *("faults", "process", "signalflow", "trust", "xmlstream"),
    },
    "commands": {
        *("audit", "callbridge", "check", "client", "configuration", "control", "demo", "diagram"),
        *("discovery", "faults", "process", "signalflow", "state", "trust"),
        *("xmlstream", "xmpp"),
        "record",
    },
    "cli": {"commands"},
}

MOST_LINES = 500
MOST_LINES_OF_FUNCTION = 60
# Longer functions, which are tables: states with their transitions, faults with their cures.
TABLES = {
    *("cms.callbridge.link.machine._make_machine", "cms.faults.dns.dns_faults"),
    *("cms.xmpp.clientstates._make_machine", "cms.xmpp.componentstates._make_machine"),
    "cms.xmpp.saslexchange._make_machine",
}
REASON = "is long because"  # what the docstring of a longer module says


def name_of(file: Path) -> str:
    """A module's name."""
    name = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever it does: in a function or for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found | {name.rpartition(".")[0] for name in found}


def modules_imported(name: str) -> set[str]:
    """Of C{cms}, what a module names in its imports; not the packages on the way there."""
    found = set()
    for imported in imports(MODULES[name]):
        if imported in MODULES and imported not in ("cms", name):
            found.add(imported)
    return {one for one in found if not any(other.startswith(f"{one}.") for other in found)}


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The groups of modules each of which leads to all others of its group (Tarjan)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[set[str]] = []

    def visit(one: str) -> None:
        order[one] = lowest[one] = len(order)
        waiting.append(one)
        for other in sorted(graph[one]):
            if other not in order:
                visit(other)
                lowest[one] = min(lowest[one], lowest[other])
            elif other in waiting:
                lowest[one] = min(lowest[one], order[other])
        if lowest[one] == order[one]:
            group = {*waiting[waiting.index(one) :]}
            del waiting[waiting.index(one) :]
            if len(group) > 1:
                found.append(group)

    for one in sorted(graph):
        if one not in order:
            visit(one)
    return found


def room(file: Path) -> str:
    """The room a file is in."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def rooms_imported(file: Path) -> set[str]:
    """The rooms that a file imports, its own among them."""
    rooms = {m.split(".")[1] for m in imports(file) if m.startswith("cms.")}
    return {r for r in rooms if (ROOT / r).exists() or (ROOT / f"{r}.py").exists()}


class ArchitectureTests(SynchronousTestCase):
    """Imports."""

    def test_page(self) -> None:
        """The page has every room, and each below those that import it."""
        page = (ROOT.parent / "docs" / "architecture.md").read_text()
        table = page.partition("| room |")[2].partition("\n\n")[0]
        firsts = [row.split("|")[1] for row in table.splitlines()[2:]]
        rows = {
            name: number
            for number, first in enumerate(firsts)
            for name in re.findall(r"`([a-z]+)(?:/|\.py)`", first)
        }
        self.assertEqual(set(MAY_IMPORT), set(rows))
        for one, others in MAY_IMPORT.items():
            wrong = {other for other in others if rows[other] < rows[one]}
            self.assertEqual(set(), wrong, one)

    def test_imports_point_downwards(self) -> None:
        """No room imports one that it may not, and the roles not each other."""
        for file in MODULES.values():
            if file != ROOT / "__init__.py":
                here = room(file)
                self.assertEqual(set(), rooms_imported(file) - {here} - MAY_IMPORT[here], file)

    def test_allowances(self) -> None:
        """No room may import another that it does not."""
        used: dict[str, set[str]] = {here: set() for here in MAY_IMPORT}
        for file in MODULES.values():
            if file != ROOT / "__init__.py":
                used[room(file)] |= rooms_imported(file)
        unused = {here: may - used[here] for here, may in MAY_IMPORT.items() if may - used[here]}
        self.assertEqual({}, unused)

    def test_no_circles(self) -> None:
        """No modules import each other, in one room neither."""
        graph = {name: modules_imported(name) for name in MODULES}
        self.assertEqual([], circles(graph))

    def test_circles_are_found(self) -> None:
        """Of two modules and of more, beside what only hangs on them."""
        graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
        self.assertEqual([{"d", "e"}, {"a", "b", "c"}], circles(graph))

    def test_rooms(self) -> None:
        """Beside the rooms there are the command line and the twelve steps alone."""
        loose = {file.name for file in ROOT.glob("*.py")}
        self.assertEqual({"__init__.py", "cli.py", "signalflow.py"}, loose)

    def test_lengths(self) -> None:
        """No module is longer than can be looked over, unless it says why."""
        texts = {name: file.read_text() for name, file in MODULES.items()}
        long = {name for name, text in texts.items() if text.count("\n") > MOST_LINES}
        told = {
            name for name in long if REASON in (ast.get_docstring(ast.parse(texts[name])) or "")
        }
        self.assertEqual(set(), long - told)

    def test_functions(self) -> None:
        """No function is longer than can be looked over, except tables."""
        found = {
            f"{name}.{node.name}"
            for name, file in MODULES.items()
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno >= MOST_LINES_OF_FUNCTION
        }
        self.assertEqual(TABLES, found)

    def test_prometheus(self) -> None:
        """Of the roles, their figures and what puts a daemon together know it; no protocol does."""
        graph = {name: modules_imported(name) for name in MODULES}
        knows = {
            name
            for name, file in MODULES.items()
            if any(one.split(".")[0] == "prometheus_client" for one in imports(file))
        }
        self.assertEqual(
            {"cms.metrics.exposition", "cms.callbridge.metrics", "cms.xmpp.metrics"}, knows
        )
        more = knows
        while more:
            more = {name for name, found in graph.items() if found & knows} - knows
            knows |= more
        for role in ("callbridge", "xmpp"):
            inside = {
                name.removeprefix(f"cms.{role}.")
                for name in knows
                if name.startswith(f"cms.{role}.")
            }
            self.assertEqual({"metrics", "daemon", "administration", "options"}, inside)
        self.assertFalse([name for name in knows if name.startswith("cms.admin.")])

    def test_reactor(self) -> None:
        """Only the place where a process starts imports the reactor."""
        importers = {
            str(file.relative_to(ROOT))
            for file in MODULES.values()
            if "twisted.internet.reactor" in imports(file)
        }
        self.assertEqual({"process/startup.py"}, importers)
