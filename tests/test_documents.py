"""The pages of docs/: their examples are what the daemons read, their tests are there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import Timing
from cms.callbridge.config import read_config as read_callbridge
from cms.configuration.tomlfile import Table
from cms.xmpp.config import read_config as read_xmpp
from tests.support import new_folder

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "configuration.md").read_text("utf-8")


class ConfigurationPageTests(SynchronousTestCase):
    """Both files, and the table of their keys."""

    def example(self, name: str) -> Path:
        """An example, as a file."""
        found = re.search(rf"## {re.escape(name)}\n\n```toml\n(.*?)```", PAGE, re.DOTALL)
        assert found is not None
        folder = new_folder(self)
        (folder / "cb1.secret").write_text("secret\n")
        file = folder / name
        file.write_text(found[1])
        return file

    def test_examples(self) -> None:
        """They are read without a complaint and fit together."""
        xmpp = read_xmpp(self.example("xmpp.toml"))
        callbridge = read_callbridge(self.example("callbridge.toml"))
        self.assertEqual(xmpp.domain, callbridge.link.domain)
        self.assertEqual([callbridge.link.component], list(xmpp.callbridges))
        self.assertEqual(xmpp.callbridges[callbridge.link.component], callbridge.link.secret)
        self.assertIsNone(callbridge.link.server)

    def test_timing(self) -> None:
        """The defaults of C{[link]} are those of the table, and every wait has its end."""
        rows = re.findall(r"^\| (`link\.[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
        told = {
            key: float(value)
            for keys, values in rows
            for key, value in zip(
                re.findall(r"`link\.(\w+)`", keys), values.split(","), strict=True
            )
        }
        self.assertEqual(told, asdict(Timing()))

    def test_every_key(self) -> None:
        """Each key that is read has its row."""
        asked: set[str] = set()
        take = Table._take

        def noting(table: Table, key: str, *rest: object) -> object:
            asked.add(table._prefix + key)
            return take(table, key, *rest)  # type: ignore[arg-type]

        self.patch(Table, "_take", noting)
        for name, read in (("xmpp.toml", read_xmpp), ("callbridge.toml", read_callbridge)):
            asked.clear()
            read(self.example(name))
            section = PAGE.split(f"## {name}")[1].split("\n## ")[0]
            rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
            tables = {"tls", "listen", "dns", "login", "link", "callbridges"}
            for key in asked - tables:
                if not key.startswith("callbridges."):
                    self.assertIn(f"`{key}`", rows, name)


class StandardsPageTests(SynchronousTestCase):
    """The table of RFC 6120 and 6121."""

    def test_each_row_has_its_tests(self) -> None:
        """They are there, and nothing else is named."""
        table = (DOCS / "standards.md").read_text("utf-8").split("| section |")[1]
        rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| ")]
        rows = [row for row in rows if not row[0].startswith(("| **", "| ---"))]
        self.assertGreater(len(rows), 50)
        for row in rows:
            self.assertEqual(4, len(row), row)
            tests = re.findall("`([^`]*)`", row[3])
            self.assertTrue(tests, row)
            self.assertEqual(", ".join(f"`{test}`" for test in tests), row[3].rstrip(" |"))
            for test in tests:
                self.assertTrue(self.exists(test), test)

    def exists(self, test: str) -> bool:
        """Whether there is such a test in our sources."""
        path, _, name = test.partition("::")
        if name:
            return f"\ndef {name}(" in (DOCS.parent / path).read_text("utf-8")
        module, kind, method = test.split(".")
        made = getattr(import_module(f"tests.{module}"), kind)
        return callable(getattr(made, method, None))
