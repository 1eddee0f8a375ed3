"""C{cms callbridge reconnect} and C{secret}: by a daemon that runs, and without one."""

from __future__ import annotations

import stat
from typing import Any

from cms.callbridge.settings import FILE, current_config
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon

STATUS = {"softwareVersion": "1.2.3", "uptimeSeconds": 3601}
SETTINGS = "/api/v1/system/configuration/xmpp"
SECRET = "the-new-one-4711"
FAILURE = {
    "fault": "wrong-secret",
    "step": 9,
    "name": "register",
    "cause": "The secret is wrong.",
    "cure": "Give the right one.",
}
UP = {"state": "active", "step": 11, "peer": "xmpp1:5223", "since": "2026-11-29T03:00:00Z"}
WAITING = {"state": "waiting", "step": 9, "nextAttemptSeconds": 17, "lastFailure": FAILURE}


class RunningTests(CommandLineTests):
    """With a Callbridge that runs."""

    def setUp(self) -> None:
        """One that begins an attempt when it is asked."""
        super().setUp()
        self.bridge = FakeDaemon(self, self.folder / "callbridge")
        begun = {"reconnect": {"result": "begun"}}
        self.bridge.answers["POST", f"{SETTINGS}/reconnect"] = 200, begun
        self.link(UP)

    def link(self, link: dict[str, Any]) -> None:
        """What its status says."""
        self.bridge.get("system/status", {"status": {**STATUS, "link": link}})

    def test_reconnect(self) -> None:
        """The link is up: exit status 0, and who the peer is."""
        said = self.said("callbridge", "reconnect")
        self.assertIn("Link  : active\nPeer  : xmpp1:5223\n", said)
        self.assertIn("by the running Callbridge", said)
        facts = self.facts("callbridge", "reconnect", "--even-if-up")
        self.assertEqual(("begun", "active"), (facts["result"], facts["link"]["state"]))
        asked = [form for _, _, form in self.bridge.changes()]
        self.assertEqual([{}, {"evenIfUp": "true"}], asked)

    def test_reconnect_in_vain(self) -> None:
        """It failed: which step, why, the cure, and when it is tried again."""
        self.link(WAITING)
        result = self.cms("callbridge", "reconnect", status=1)
        self.assertIn("Next attempt : in 17 s\n", result.stdout)
        self.assertIn(
            "step 9 register failed: The secret is wrong. Cure: Give the right one.", result.stderr
        )
        facts = self.facts("callbridge", "reconnect", status=1)
        self.assertEqual("wrong-secret", facts["link"]["lastFailure"]["fault"])

    def test_not_in_time(self) -> None:
        """It is still on its way when the time is over: that is said, and where it is."""
        self.link({"state": "connect", "step": 6, "lastFailure": FAILURE})
        said = self.said("callbridge", "reconnect", "--wait", "0", status=1)
        self.assertIn("the link is not up yet: connect. Cure: ", said)

    def test_secret(self) -> None:
        """From standard input or a file, never shown; the link comes up with it."""
        file = self.write("new.secret", f"{SECRET}\n")
        for arguments, text in ((("--secret-stdin",), f"{SECRET}\n"), ((), f"{SECRET}\n")):
            self.assertNotIn(SECRET, self.said("callbridge", "secret", *arguments, text=text))
        self.assertNotIn(SECRET, self.said("callbridge", "secret", "--secret-file", str(file)))
        self.assertEqual(3 * [("PUT", SETTINGS, {"sharedSecret": SECRET})], self.bridge.changes())
        facts = self.facts("callbridge", "secret", "--secret-file", str(file))
        self.assertEqual((True, "active"), (facts["stored"], facts["link"]["state"]))

    def test_secret_in_vain(self) -> None:
        """The link did not come up with it."""
        self.link(WAITING)
        said = self.said("callbridge", "secret", "--secret-stdin", text=SECRET, status=1)
        self.assertIn("step 9 register failed: The secret is wrong.", said)

    def test_no_secret(self) -> None:
        """What cannot be one is refused before the daemon is asked, and not quoted."""
        for text in ("", " \n", "two\x07sounds"):
            line = self.refused("callbridge", "secret", "--secret-stdin", text=text, status=2)
            self.assertNotIn("sounds", line)
        self.refused("callbridge", "secret", "--secret-file", "/nonexistent", status=2)
        two = self.write("two.secret", f"{SECRET}\nand more\n")
        line = self.refused("callbridge", "secret", "--secret-file", str(two), status=2)
        self.assertNotIn("more", line.partition("holds")[0])
        self.assertEqual([], self.bridge.changes())


class StoppedTests(CommandLineTests):
    """Without one."""

    def test_reconnect(self) -> None:
        """Nothing to reconnect: nothing is done, and the cure is to start it."""
        self.assertIn("no Callbridge runs on", self.refused("callbridge", "reconnect", status=1))

    def test_secret(self) -> None:
        """It is stored for its owner alone, beside what was set before, and counts from then on."""
        said = self.said("callbridge", "secret", "--secret-stdin", text=f"{SECRET}\n")
        self.assertIn("the secret is stored", said)
        self.assertIn("it counts from its start", said)
        self.assertNotIn(SECRET, said)
        config = current_config(self.folder / "callbridge.toml")
        self.assertEqual((SECRET, "api"), (config.link.secret.value, config.source))
        self.assertEqual("cb1", config.unique_name)
        mode = (self.folder / "callbridge" / FILE).stat().st_mode
        self.assertEqual(0o600, stat.S_IMODE(mode))
