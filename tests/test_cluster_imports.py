"""Who has one server imports nothing of the cluster, and pays nothing for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import cms
from tests.support import new_folder

FILE = """
domain = "meet.example.com"
hostname = "xmpp1.meet.example.com"
[listen]
client_plain = ["tcp:5222:interface=127.0.0.1"]
"""
CLUSTER = '[cluster]\nengine = "redis://127.0.0.1:1"\n'
SCRIPT = """
import sys
from pathlib import Path
from twisted.internet import reactor
from cms.xmpp.daemon import make_daemon
daemon = make_daemon(Path(sys.argv[1]), reactor)
for name in sorted(sys.modules):
    if name.startswith(("cms.", "hiredis")):
        print(name)
"""
OURS = {"cms.xmpp.nodes", "cms.xmpp.remotesession", "cms.xmpp.remotelink", "cms.xmpp.clustering"}


class ImportTests(SynchronousTestCase):
    """A daemon that was made, in a process of its own."""

    def imported(self, text: str) -> set[str]:
        """The modules of ours, and of hiredis."""
        file = new_folder(self) / "xmpp.toml"
        file.write_text(text)
        root = str(Path(cms.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(file)],
            env={"PYTHONPATH": root, "PATH": ""},
            cwd=file.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.split())

    def test_alone(self) -> None:
        """Nothing of it."""
        found = self.imported(FILE)
        self.assertIn("cms.xmpp.router", found)
        self.assertEqual(set(), found & OURS)
        self.assertEqual(set(), {n for n in found if n.startswith(("cms.cluster", "hiredis"))})

    def test_clustered(self) -> None:
        """With the section it is there."""
        found = self.imported(FILE + CLUSTER)
        self.assertEqual(OURS, found & OURS)
        self.assertIn("hiredis", found)
