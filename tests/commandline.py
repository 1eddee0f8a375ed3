"""The command line in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from cms.cli import main
from cms.trust.issue import CertificateAuthority
from tests.support import new_folder

DOMAIN = "meet.example.com"
HOSTNAME = f"xmpp1.{DOMAIN}"
XMPP = f"""
domain = "{DOMAIN}"
hostname = "{HOSTNAME}"
state_dir = "xmpp"
[listen]
component_plain = ["tcp:5347:interface=127.0.0.1"]
[callbridges]
fixed = {{ secret = "in the file" }}
"""
CALLBRIDGE = f"""
unique_name = "cb1"
domain = "{DOMAIN}"
shared_secret = "not to be seen"
state_dir = "callbridge"
"""
ISSUED = CertificateAuthority("Test CA")


class CommandLineTests(SynchronousTestCase):
    """
    What a command prints, and its exit status.

    @ivar folder: Holds F{xmpp.toml} and F{callbridge.toml}; C{CMS_CONFIG} names it.
    """

    def setUp(self) -> None:
        """Two configurations."""
        self.folder = new_folder(self)
        (self.folder / "xmpp.toml").write_text(XMPP)
        (self.folder / "callbridge.toml").write_text(CALLBRIDGE)
        self.environment: dict[str, str | None] = {"CMS_CONFIG": str(self.folder)}

    def cms(self, *arguments: str, status: int = 0, text: str = "") -> Result:
        """Run a command line that ends with a status."""
        result = CliRunner().invoke(main, arguments, input=text, env=self.environment)
        self.assertEqual(status, result.exit_code, f"{arguments}: {result.output}")
        if result.exception is not None:
            self.assertIsInstance(result.exception, SystemExit)
        return result

    def said(self, *arguments: str, status: int = 0, text: str = "") -> str:
        """The same; what is on both outputs."""
        return self.cms(*arguments, status=status, text=text).output

    def facts(self, *arguments: str, status: int = 0, text: str = "") -> Any:
        """The same with --json; what is on standard output alone."""
        return json.loads(self.cms(*arguments, "--json", status=status, text=text).stdout)

    def refused(self, *arguments: str, status: int, text: str = "") -> str:
        """A command that fails: nothing on standard output, one line with a cure on the other."""
        result = self.cms(*arguments, status=status, text=text)
        self.assertEqual("", result.stdout)
        (line,) = result.stderr.splitlines()
        self.assertIn("Cure: ", line)
        return line

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
