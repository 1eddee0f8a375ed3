"""The examples of docs/configuration.md are what the daemons read."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import Timing
from cms.callbridge.config import read_config as read_callbridge
from cms.tomlfile import Table
from cms.xmpp.config import read_config as read_xmpp
from tests.support import new_folder

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text("utf-8")


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
            tables = {"tls", "listen", "dns", "link", "callbridges"}
            for key in asked - tables:
                if not key.startswith("callbridges."):
                    self.assertIn(f"`{key}`", rows, name)
