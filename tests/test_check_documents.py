"""What docs/ says of the check is what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.audit.finding import Finding
from cms.check.report import Report
from cms.faults.explain import document, entry
from cms.signalflow import Step

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA: dict[str, Any] = json.loads((DOCS / "check.schema.json").read_text("utf-8"))


class TroubleshootingTests(SynchronousTestCase):
    """The catalogue, as a page and in the terminal."""

    def test_page(self) -> None:
        """C{make docs} would change nothing."""
        written = (DOCS / "troubleshooting.md").read_text("utf-8")
        self.assertTrue(written == document(), "run make docs")

    def test_entries(self) -> None:
        """Each fault has what people search for, and C{cms explain} prints it."""
        self.assertGreaterEqual(len(faults.CATALOGUE), 40)
        for fault in faults.CATALOGUE.values():
            shown = entry(fault)
            self.assertTrue(fault.symptoms, fault.name)
            for part in (fault.name, str(fault.step), *fault.symptoms):
                self.assertIn(part, shown)


class SchemaTests(SynchronousTestCase):
    """C{--json}; the reports of real checks are held against it as well."""

    def setUp(self) -> None:
        """The schema itself is right."""
        Draft202012Validator.check_schema(SCHEMA)
        self.validator = Draft202012Validator(SCHEMA)

    def report(self) -> dict[str, Any]:
        """One of each result, at each step."""
        failed = faults.LINK_SILENT.error(peer="xmpp1", seconds="5")
        warned = faults.CLIENT_SRV_MISSING.error(record="r", domain="d")
        report = Report("callbridge", {"domain": "meet.example.com"}, 1.5, 45.0, seconds=0.25)
        report.findings += [Finding(step, "passed", "it", 0.1, {"a": "b"}) for step in Step]
        report.findings += [
            Finding(failed.step, "failed", evidence=failed.evidence, problem=failed),
            Finding(warned.step, "warning", evidence=warned.evidence, problem=warned),
            Finding(Step.LOGIN, "skipped", note="not asked for"),
        ]
        return report.as_dict()

    def test_valid(self) -> None:
        """A report is as described."""
        self.validator.validate(self.report())
        self.assertEqual(("failed", 1, 1), tuple(self.report()[k] for k in SUMS))

    def test_invalid(self) -> None:
        """What is not described is not in a report, and what is described is."""
        for key in (*SUMS, "findings", "bound"):
            report = self.report()
            del report[key]
            self.assertRaises(ValidationError, self.validator.validate, report)
        for changed in ({"fault": "x"}, {"secret": "x"}, {"step": 13}, {"name": "other"}):
            report = self.report()
            report["findings"][0].update(changed)
            self.assertRaises(ValidationError, self.validator.validate, report)


SUMS = ("result", "failures", "warnings")
