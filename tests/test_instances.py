"""Several servers of one host by one F{xmpp.toml}."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.accounts import Accounts
from cms.cli import main
from cms.commands.instances import instances
from cms.control.place import LOCK
from cms.signalflow import StepError
from cms.xmpp.config import XmppConfig, read_config
from cms.xmpp.instances import of_instance
from tests.support import new_folder

ROOT = Path(__file__).parent.parent
CLUSTER = '[cluster]\nengine = "redis://h"\n'
FILE = """
domain = "meet.example.com"
hostname = "xmpp1.meet.example.com"
[listen]
client_plain = ["tcp:5222:interface=127.0.0.1", "unix:/run/%i.sock", "tcp:1%i:interface=127.0.0.1"]
web_plain = ["systemd:domain=INET:name=web"]
api_plain = ["tcp:844%i:interface=127.0.0.1"]
"""


class InstanceTests(SynchronousTestCase):
    """What the file is for one of them."""

    def setUp(self) -> None:
        """Its folder."""
        self.folder = new_folder(self)

    def read(self, text: str = FILE + CLUSTER) -> XmppConfig:
        """A file with this."""
        file = self.folder / "xmpp.toml"
        file.write_text(text)
        return read_config(file)

    def test_own(self) -> None:
        """State, name in the cluster, and what has its name; all other ports are shared."""
        config = of_instance(self.read(), "2")
        assert config.cluster is not None
        self.assertEqual(self.folder / "state" / "2", config.state_dir)
        self.assertEqual(self.folder / "state", config.shared_dir)
        self.assertEqual("xmpp1.meet.example.com-2", config.cluster.node)
        self.assertEqual(
            (
                "tcp:5222:interface=127.0.0.1:reuseport=1",
                "unix:/run/2.sock",
                "tcp:12:interface=127.0.0.1",
            ),
            config.listen.client_plain,
        )
        self.assertEqual(("systemd:domain=INET:name=web",), config.listen.web_plain)
        self.assertEqual(("tcp:8442:interface=127.0.0.1",), config.listen.api_plain)
        named = of_instance(self.read(f'{FILE}{CLUSTER}node = "x"\n'), "b")
        assert named.cluster is not None
        self.assertEqual("x-b", named.cluster.node)

    def test_none(self) -> None:
        """A file for one server is as it is."""
        config = self.read(FILE.replace("%i", "3") + CLUSTER)
        self.assertIs(config, of_instance(config, ""))
        self.assertEqual(config.state_dir, config.shared_dir)

    def refused(self, text: str, instance: str, *words: str) -> None:
        """It is not taken, and the complaint has these words."""
        error = self.assertRaises(StepError, lambda: of_instance(self.read(text), instance))
        for word in words:
            self.assertIn(word, f"{error.cause} {error.cure}")

    def test_refused(self) -> None:
        """What cannot be, with what is to be done."""
        good = FILE + CLUSTER
        self.refused(good, "", "%i", "--instance 1")
        for wrong in ("-", "a/b", "..", "x" * 17, "1 "):
            self.refused(good, wrong, "up to 16 letters")
        self.refused(FILE, "1", "cluster: it is missing", "Redis")
        api = good.replace("844%i", "8445")
        self.refused(api, "1", "listen.api_plain", "tcp:8445", "any of them", "tcp:844%i")
        self.refused(good.replace("%i.sock", "x.sock"), "1", "listen.client_plain", "its path")
        shared = FILE.replace("5222:", "5222:reuseport=1:")
        self.refused(shared, "", "knows nothing of this one", "[cluster]")

    def test_known(self) -> None:
        """Those that have been started are found again; commands ask for one of them."""
        config = self.read()
        self.assertEqual([], list(instances(config.state_dir)))
        for name in ("2", "1", "not-started"):
            (config.state_dir / name).mkdir(parents=True, mode=0o700)
        for name in ("2", "1"):
            (config.state_dir / name / LOCK).touch()
        (config.state_dir / "admin-accounts.json").touch()
        self.assertEqual(["1", "2"], list(instances(config.state_dir)))

        def run(*words: str) -> str:
            result = CliRunner().invoke(main, [*words, "--config", str(config.file)])
            return f"{result.exit_code} {result.output}"

        self.assertIn("2 Error: several servers have", run("xmpp"))
        self.assertIn("--instance 1.", run("xmpp", "callbridge", "list"))
        self.assertIn(str(config.state_dir / "2"), run("xmpp", "--instance", "2"))
        both = run("status")
        self.assertEqual(2, both.count("Role"), both)
        self.assertIn("Instance      : 2", both)
        self.assertNotIn("Instance      : 1", run("status", "--instance", "2"))

    def test_accounts(self) -> None:
        """The administrators are those of all; two that start at once make one first account."""
        one = Accounts.open(self.folder)
        password = (self.folder / "admin.password").read_text().strip()
        for accounts in (one, Accounts.open(self.folder)):
            self.assertTrue(accounts.fits("admin", password))
        self.assertEqual(0o600, os.stat(self.folder / "admin-accounts.json").st_mode & 0o777)


class UnitTests(SynchronousTestCase):
    """F{systemd/}."""

    def test_template(self) -> None:
        """The unit of many differs from that of one in what it must."""
        folder = ROOT / "systemd"
        one = (folder / "cms-xmpp.service").read_text().splitlines()
        many = (folder / "cms-xmpp@.service").read_text().splitlines()
        changed = [line.partition("=")[0] for line in one if line not in many]
        self.assertEqual(
            ["Description", "ExecStart", "StateDirectory", "WorkingDirectory"], changed
        )
        added = [line for line in many if line not in one]
        self.assertTrue(all("%i" in line or line.startswith("#") for line in added), added)
        self.assertIn("--instance %i", "\n".join(added))
