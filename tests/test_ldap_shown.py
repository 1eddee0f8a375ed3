"""What the syncs of LDAP directories found, by API and commands, and a sync on demand."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import urlencode

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.directoriesapi import DIRECTORIES, DirectoryOperations
from cms.admin.directorypages import DirectoryPages
from cms.admin.ldapapi import SYNCS, LdapOperations
from cms.callbridge.directories.administration import DirectoryAdministration, failing
from cms.callbridge.directories.making import House
from cms.callbridge.ldap.administration import LdapAdministration
from cms.callbridge.ldap.objects import StoredObjects
from cms.callbridge.ldap.syncrecord import SyncRecord
from tests import LoggedError
from tests.adminclient import Answer, Client, FakeCallbridge, front, new_clock
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.support import new_folder
from tests.test_admin_pages import Form
from tests.test_ldap_sync import SyncCase

PLACE = DIRECTORIES.removeprefix("/api/v1/")


class ShownCase(SyncCase):
    """The administration of a Callbridge with local users and one LDAP directory of ten people."""

    def set_up(self, **changes: Any) -> None:
        """See above."""
        super().set_up(**changes)
        clock, nobody, work = new_clock(), cast("Any", None), self.stage.work
        record = SyncRecord(lambda: {"ldap": self.sync}, self.store.outcome, work, lambda: 1e6)
        made = StoredObjects(new_folder(self))
        ldap = LdapAdministration((self.stage.settings,), made, nobody, record, clock)
        self.house = House(nobody, {"ldap": self.sync}, store=self.store, order=("local", "ldap"))
        directories = DirectoryAdministration(self.house, ldap.sync_directory, lambda: 7, work)
        more = DirectoryOperations(directories).operations() + LdapOperations(ldap).operations()
        role = FakeCallbridge()
        root = front(operations_of_callbridge(role, clock, more=more), clock)
        pages = CallbridgePages(role, clock, more=[DirectoryPages(directories)])
        pages.add_to(root.application.routes)
        self.client = Client(self, root)


class OperationTests(ShownCase):
    """The API."""

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
        before = self.shown()
        self.assertEqual((False, []), (before["running"], before["leftOutEntries"]))
        self.stage.person("a b")
        begun = self.json("POST", f"{DIRECTORIES}/ldap/sync")
        self.assertEqual({"directory": {"name": "ldap", "running": True}}, begun)
        facts = self.shown()
        self.assertEqual((10, 10, 1), (facts["users"], facts["added"], facts["leftOut"]))
        self.assertIn("a b", facts["leftOutEntries"][0]["entry"])
        self.assertEqual(facts["succeeded"], facts["ended"])
        self.assertNotIn("problem", facts)
        local, listed = self.json("GET", DIRECTORIES)["directories"]["directory"]
        self.assertEqual(10, listed["users"])
        self.assertEqual({"name": "local", "kind": "local", "running": False, "users": 7}, local)

    def test_servers(self) -> None:
        """Each with its connections, or why it is left alone."""
        self.dc1.refuses = True
        self.successResultOf(self.stage.directory.holds("nobody"))
        self.successResultOf(self.stage.directory.verify("u1", "s3cret"))
        first, second = self.shown()["servers"]
        self.assertEqual(("ldaps://dc1:636", 0), (first["address"], first["connections"]))
        self.assertEqual(faults.LDAP_BROKEN.name, first["problem"]["fault"])
        self.assertEqual(2, second["connections"])
        self.assertNotIn("problem", second)

    def test_failing(self) -> None:
        """The status names a directory none of whose servers can be used, and only then."""
        self.assertEqual({}, failing(self.house.syncs))
        self.dc1.refuses = self.stage.dc2.refuses = True
        self.successResultOf(self.stage.directory.holds("nobody"))
        self.failureResultOf(self.stage.directory.verify("u1", "s3cret"))
        (problem,) = failing(self.house.syncs)["directoryProblems"]
        self.assertEqual(faults.LDAP_UNREACHABLE.name, problem["fault"])
        self.assertIn("the directory ldap", problem["cause"])
        self.assertIn("ldaps://dc2:636", problem["cause"])
        self.dc1.refuses = False
        self.stage.clock.pump([1.0] * 90)
        self.assertEqual({}, failing(self.house.syncs))

    def test_one_truth(self) -> None:
        """A sync that is begun at one door is under way, and then over, at the other too."""
        self.dc1.frozen = self.stage.dc2.frozen = True
        self.json("POST", f"{DIRECTORIES}/ldap/sync")
        (sync,) = self.json("GET", SYNCS)["ldapSyncs"]["ldapSync"]
        self.assertEqual("inProgress", sync["state"])
        self.assertEqual((True, 0), (self.shown()["running"], self.shown()["entriesRead"]))
        self.stage.clock.advance(61)
        self.flushLoggedErrors(LoggedError)
        (sync,) = self.json("GET", SYNCS)["ldapSyncs"]["ldapSync"]
        self.assertEqual("failed", sync["state"])
        self.assertEqual(self.shown()["problem"], sync["problem"])

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
        answer = self.client.ask("POST", f"{DIRECTORIES}/local/sync")
        self.assertEqual(400, answer.status)
        self.assertIn(b"<directoryIsLocal />", answer.body)


class PageTests(ShownCase):
    """The pages."""

    def get(self, path: str = "/directories/ldap") -> str:
        """A page."""
        answer = self.client.ask("GET", path, authorization="alice")
        self.assertEqual(200, answer.status, answer.body)
        return answer.body.decode()

    def post(self, path: str, **fields: str) -> None:
        """A form that is sent."""
        body = urlencode({"token": Form(self.page("/directories")).token(), **fields})
        answer = self.client.ask("POST", path, body, authorization="alice")
        self.assertEqual((303, "/directories/ldap"), (answer.status, answer.headers["location"]))

    def page(self, path: str) -> Answer:
        """The same, as it came."""
        return self.client.ask("GET", path, authorization="alice")

    def test_list(self) -> None:
        """All in their order, each with its servers and its sync; from the overview."""
        self.assertIn('href="/directories"', self.get("/"))
        listed = self.get("/directories")
        self.assertLess(listed.index("local"), listed.index("ldaps://dc1:636"))
        for told in ("none yet", "no connection is needed now", 'href="/users"', ">7<"):
            self.assertIn(told, listed)

    def test_sync(self) -> None:
        """The button; then what it found, and who was left out and why, by a search."""
        for number in range(30):
            self.stage.person(f"a b{number}")
        self.post("/directories/ldap/sync")
        shown = self.get()
        for told in ("1970-01-01", "1 to 25 of 30", "uid=a b0,", "Left out", "Next"):
            self.assertIn(told, shown)
        self.assertIn("26 to 30 of 30", self.get("/directories/ldap?offset=25"))
        found = self.get("/directories/ldap?filter=b17")
        self.assertIn("1 to 1 of 1", found)
        self.assertIn("cannot be", self.page("/directories/ldap?filter=b17").body.decode())
        self.assertNotIn("Sync all the same", shown)

    def test_removal(self) -> None:
        """What an administrator has to say of removals is a button of its own."""
        self.run_it()
        self.dc1.entries.clear()
        self.post("/directories/ldap/sync")
        self.flushLoggedErrors(LoggedError)
        self.assertEqual(10, len(self.names))
        self.assertIn("--allow-removal", self.get())
        self.post("/directories/ldap/sync?removal=1")
        self.assertEqual([], self.names)
        self.assertNotIn("Sync all the same", self.get())

    def test_failing(self) -> None:
        """One server that fails, and then all, with causes and cures; a sync under way."""
        self.dc1.refuses = True
        self.run_it()
        self.assertIn("1 of 2 servers fail", self.get())
        self.assertIn("<dt>Server 1</dt><dd><span>ldaps://dc1:636 ", self.get())
        self.stage.dc2.frozen = True
        self.post("/directories/ldap/sync")
        self.assertIn("A sync is under way (0 entries read)", self.get())
        self.stage.clock.advance(61)
        self.flushLoggedErrors(LoggedError)
        shown = self.get("/directories")
        self.assertIn("no server works", shown)
        self.assertIn("it is refused", shown)


class DirectoryCommandTests(CommandLineTests):
    """C{cms callbridge directory}."""

    def test_status(self) -> None:
        """Each, with the names of what was left out."""
        daemon = FakeDaemon(self, self.folder / "callbridge")
        facts: dict[str, Any] = {"name": "ad", "kind": "ldap", "running": False, "users": 3}
        facts["ended"] = "2026-11-29T01:00:00Z"
        problem = {"cause": "it is silent.", "cure": "Wake it."}
        facts["servers"] = [
            {"address": "ldaps://dc1:636", "connections": 2},
            {"address": "ldaps://dc2:636", "connections": 0, "problem": problem},
        ]
        facts["leftOutEntries"] = [{"entry": "uid=x", "name": "", "reason": "it has no mail"}]
        daemon.get(PLACE, {"directories": {"total": 1, "directory": [facts]}})
        daemon.get(f"{PLACE}/ad", {"directory": facts})
        said = self.said("callbridge", "directory", "status")
        shown = ("ad", "2026-11-29T01:00:00Z", "uid=x: it has no mail", "2 connections")
        for line in (*shown, "fails: it is silent. Cure: Wake it."):
            self.assertIn(line, said)
        self.assertEqual([facts], self.facts("callbridge", "directory", "status"))

    def test_sync(self) -> None:
        """What became of it; status 1 and the cure if it failed."""
        daemon = FakeDaemon(self, self.folder / "callbridge")
        place = f"/api/v1/{PLACE}/ad/sync"
        daemon.answers["POST", place] = 200, {"directory": {"name": "ad", "running": True}}
        facts: dict[str, Any] = {"name": "ad", "kind": "ldap", "running": False, "users": 3}
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
