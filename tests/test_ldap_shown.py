"""What the syncs of LDAP directories found, by API and commands, and a sync on demand."""

from __future__ import annotations

import json
from typing import Any

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.directoriesapi import DIRECTORIES, DirectoryOperations
from cms.callbridge.directories.administration import SyncAdministration
from cms.callbridge.directories.making import House
from tests import LoggedError
from tests.adminclient import Client, FakeCallbridge, front, new_clock
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.test_ldap_sync import SyncCase

PLACE = DIRECTORIES.removeprefix("/api/v1/")


class OperationTests(SyncCase):
    """The API of a Callbridge with one LDAP directory of ten people."""

    def set_up(self, **changes: Any) -> None:
        """See above."""
        super().set_up(**changes)
        clock = new_clock()
        nobody: Any = None
        synced = SyncAdministration(House(nobody, {"ldap": self.sync}, store=self.store))
        more = DirectoryOperations(synced).operations()
        role = FakeCallbridge()
        self.client = Client(self, front(operations_of_callbridge(role, clock, more=more), clock))

    def json(self, method: str, path: str, body: str = "") -> Any:
        """What is answered."""
        answer = self.client.ask(method, path, body, accept="application/json")
        self.assertEqual(200, answer.status, answer.body)
        return json.loads(answer.body)

    def shown(self) -> dict[str, Any]:
        """What is said of the directory."""
        answer: dict[str, Any] = self.json("GET", f"{DIRECTORIES}/ldap")["directory"]
        return answer

    def test_sync(self) -> None:
        """It is begun, and what it found is there; who is left out is named."""
        self.assertEqual({"name": "ldap", "running": False, "leftOutEntries": []}, self.shown())
        self.stage.person("a b")
        begun = self.json("POST", f"{DIRECTORIES}/ldap/sync")
        self.assertEqual({"directory": {"name": "ldap", "running": True}}, begun)
        facts = self.shown()
        self.assertEqual((10, 10, 1), (facts["users"], facts["added"], facts["leftOut"]))
        self.assertIn("a b", facts["leftOutEntries"][0]["entry"])
        self.assertEqual(facts["succeeded"], facts["ended"])
        self.assertNotIn("problem", facts)
        (listed,) = self.json("GET", DIRECTORIES)["directories"]["directory"]
        self.assertEqual(10, listed["users"])

    def test_removal(self) -> None:
        """It is refused when nobody is left, unless that is what was said."""
        self.json("POST", f"{DIRECTORIES}/ldap/sync")
        self.dc1.entries.clear()
        self.json("POST", f"{DIRECTORIES}/ldap/sync")
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        facts = self.shown()
        self.assertEqual(10, len(self.names))
        self.assertIn("--allow-removal", facts["problem"]["cure"])
        self.json("POST", f"{DIRECTORIES}/ldap/sync", "allowRemoval=true")
        self.assertEqual([], self.names)
        self.assertNotIn("problem", self.shown())

    def test_unknown(self) -> None:
        """Another name is none of ours."""
        for method, place in (("GET", "x"), ("POST", "x/sync")):
            answer = self.client.ask(method, f"{DIRECTORIES}/{place}")
            self.assertEqual(400, answer.status)
            self.assertIn(b"<directoryDoesNotExist />", answer.body)


class DirectoryCommandTests(CommandLineTests):
    """C{cms callbridge directory}."""

    def test_status(self) -> None:
        """Each, with the names of what was left out."""
        daemon = FakeDaemon(self, self.folder / "callbridge")
        facts = {"name": "ad", "running": False, "ended": "2026-11-29T01:00:00Z", "users": 3}
        facts["leftOutEntries"] = [{"entry": "uid=x", "name": "", "reason": "it has no mail"}]
        daemon.get(PLACE, {"directories": {"total": 1, "directory": [facts]}})
        daemon.get(f"{PLACE}/ad", {"directory": facts})
        said = self.said("callbridge", "directory", "status")
        for line in ("ad", "2026-11-29T01:00:00Z", "uid=x: it has no mail"):
            self.assertIn(line, said)
        self.assertEqual([facts], self.facts("callbridge", "directory", "status"))

    def test_sync(self) -> None:
        """What became of it; status 1 and the cure if it failed."""
        daemon = FakeDaemon(self, self.folder / "callbridge")
        place = f"/api/v1/{PLACE}/ad/sync"
        daemon.answers["POST", place] = 200, {"directory": {"name": "ad", "running": True}}
        facts: dict[str, Any] = {"name": "ad", "running": False, "users": 3}
        daemon.get(f"{PLACE}/ad", {"directory": facts})
        self.assertIn("Users", self.said("callbridge", "directory", "sync", "ad"))
        self.said("callbridge", "directory", "sync", "ad", "--allow-removal")
        posted = [asked for asked in daemon.asked if asked[0] == "POST"]
        self.assertIn("true", str(posted[-1]))
        facts["problem"] = {"cause": "nobody is left.", "cure": "Look at base."}
        daemon.get(f"{PLACE}/ad", {"directory": facts})
        refused = self.refused("callbridge", "directory", "sync", "ad", status=1)
        self.assertIn("nobody is left. Cure: Look at base.", refused)

    def test_stopped(self) -> None:
        """A sync is the running daemon's, and that is said."""
        for words in (("sync", "ad"), ("status",)):
            refused = self.refused("callbridge", "directory", *words, status=1)
            self.assertIn("no Callbridge runs", refused)
