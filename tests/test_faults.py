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
from cms.control.drainwords import drain_text
from cms.faults.explain import entry
from cms.faults.kinds import Fault, StepWarning, whole
from cms.signalflow import Step, counted

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


class CountedTests(SynchronousTestCase):
    """A number with its noun."""

    def test_numbers(self) -> None:
        """One alone has the singular, also as text, and with a plural of its own."""
        for number, clients, entries in (
            (0, "0 clients", "0 entries"),
            (1, "1 client", "1 entry"),
            (2, "2 clients", "2 entries"),
            ("1", "1 client", "1 entry"),
            ("1,001", "1,001 clients", "1,001 entries"),
        ):
            told = counted(number, "client"), counted(number, "entry", "entries")
            self.assertEqual((clients, entries), told)

    def test_of_the_catalogue(self) -> None:
        """A text says so itself; the evidence is the number, and the catalogue names it."""
        for number, left_out in enumerate(("0 entries", "1 entry", "2 entries")):
            error = faults.SYNC_LEFT_OUT.error(directory="ad", count=number, names="x")
            self.assertEqual(f"The sync of ad left out {left_out}: x.", error.cause)
            self.assertEqual(str(number), error.evidence["count"])
        self.assertIn("left out <count> entries: <names>", entry(faults.SYNC_LEFT_OUT))
        for number, days in enumerate(("0 days", "1 day", "2 days")):
            error = faults.CERTIFICATE_EXPIRES_SOON.error(
                subject="cn", peer="p", days=number, not_after="soon"
            )
            self.assertIn(f"expires in {days}, at soon.", error.cause)
        bare = r"\{\w+\} (entries|users|sessions|groups|servers|clients|days)\b"
        for fault in faults.CATALOGUE.values():
            self.assertNotRegex(f"{fault.cause} {fault.cure}", bare, fault.name)

    def test_of_a_drain(self) -> None:
        """What commands and pages say of a server that is drained."""
        facts = {"state": "draining", "secondsLeft": 9, "given": 1, "ended": 0}
        for number, clients in enumerate(("0 clients", "1 client", "2 clients")):
            told = drain_text({**facts, "clients": number, "components": 1})
            self.assertIn("1 session went to other servers, 0 ended; still here: ", told)
            self.assertTrue(told.endswith(f"still here: {clients}, 1 component."), told)


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
