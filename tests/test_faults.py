"""The catalogue of faults is whole, and nobody changes it."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from twisted.trial.unittest import SynchronousTestCase

import cms
from cms import faults
from cms.faults.kinds import Fault, StepWarning, whole
from cms.signalflow import Step

NAMES = set(faults.CATALOGUE) - {"unprotected"}  # which is the name of a setting as well


def module(**entries: Fault) -> ModuleType:
    """One that holds these entries."""
    made = ModuleType("made")
    vars(made).update(entries)
    return made


class CatalogueTests(SynchronousTestCase):
    """All entries together."""

    def test_names(self) -> None:
        """An entry is found as C{faults.NAME}, by the name that it is told by."""
        for name, fault in faults.CATALOGUE.items():
            self.assertEqual(name, fault.name)
            constant = name.upper().replace("-", "_").replace(".", "_")
            self.assertIs(fault, getattr(faults, constant))

    def test_order(self) -> None:
        """They stand in the order of the steps."""
        steps = [fault.step for fault in faults.CATALOGUE.values()]
        self.assertEqual(sorted(steps), steps)
        self.assertEqual(set(Step), set(steps))

    def test_duplicates(self) -> None:
        """Two faults of one name are refused; one that is seen twice is one."""
        lost, closed = faults.LINK_LOST, faults.LINK_CLOSED
        self.assertEqual({"link-lost": lost}, dict(whole(module(A=lost), module(B=lost))))
        twin = evolve(closed, name="link-lost")
        self.assertRaises(ValueError, whole, module(A=lost, B=twin))
        self.assertRaises(ValueError, whole, module(A=lost), module(A=twin))

    def test_read_only(self) -> None:
        """Neither the catalogue nor an entry can be changed."""
        catalogue: dict[str, Fault] = faults.CATALOGUE  # type: ignore[assignment]
        with self.assertRaises(TypeError):
            catalogue["mine"] = faults.LINK_LOST
        with self.assertRaises(FrozenInstanceError):
            faults.LINK_LOST.cause = "changed"  # type: ignore[misc]

    def test_warnings(self) -> None:
        """A warning is told by the kind of its exception."""
        warnings = {name for name, fault in faults.CATALOGUE.items() if fault.is_warning}
        self.assertIn(faults.UNPROTECTED.name, warnings)
        self.assertNotIn(faults.LINK_LOST.name, warnings)
        self.assertIsInstance(faults.NO_CALLBRIDGE_KNOWN.error(), StepWarning)

    def test_example(self) -> None:
        """The entry that docs/design/catalogue.md shows is one."""
        page = (Path(cms.__file__).parents[1] / "docs/design/catalogue.md").read_text()
        code = page.split("```python\n")[1].split("```")[0]
        made = {**vars(faults), "Step": Step}
        exec(code, made)
        error = made["LINK_SLOW"].error(peer="xmpp1", seconds=5)
        self.assertEqual("xmpp1 answers a ping only after 5 s.", error.cause)

    def test_no_other_name(self) -> None:
        """Code says C{faults.NAME.name}: a name in quotes would not be missed when it is wrong."""
        quoted = [
            f"{file.name}:{node.lineno} {node.value}"
            for file in Path(cms.__file__).parent.rglob("*.py")
            if file.parent.name != "faults"
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and node.value in NAMES
        ]
        self.assertEqual([], quoted)

    def test_everywhere(self) -> None:
        """Each entry can occur somewhere."""
        self.assertEqual([], [f.name for f in faults.CATALOGUE.values() if not f.on])


class LogTests(SynchronousTestCase):
    """A fault in the log."""

    def test_fields(self) -> None:
        """All of a fault's facts are fields of its line, and no secret is among them."""
        error = faults.LINK_SILENT.error(peer="xmpp1", seconds=5)
        self.assertEqual(
            {
                "step": 11,
                "step_text": "step 11 active",
                "fault": "link-silent",
                "cause": error.cause,
                "cure": error.cure,
            },
            error.fields,
        )

    def test_one_way(self) -> None:
        """Nobody writes them one by one, and forgets one."""
        written = []
        for file in Path(cms.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                named = {k.arg for k in node.keywords if isinstance(k.value, ast.Attribute)}
                logs = ast.unparse(node.func.value).endswith("log")
                if logs and named & {"cause", "fault"}:
                    written.append(f"{file.name}:{node.lineno}")
        self.assertEqual([], written)
