"""The API of user directories: C{ldapServers}, C{ldapMappings}, C{ldapSources}, C{ldapSyncs}."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.commonapi import API
from cms.admin.ldapapi import LdapOperations
from cms.callbridge.directories.synced import SyncOutcome
from cms.callbridge.ldap import administration
from cms.callbridge.ldap.administration import LdapAdministration
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.objects import FILE, StoredObjects
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.callbridge.ldap.syncrecord import MOST_KEPT, SyncRecord
from cms.configuration.tomlfile import Secret
from cms.process.threads import SlowWork
from cms.signalflow import StepError
from cms.trust.issue import CertificateAuthority
from tests.adminclient import Answer, Client, FakeCallbridge, front
from tests.support import new_folder
from tests.test_admin_login import PoolClock

SERVER = {"address": "dc1.example.com", "username": "cn=reader", "password": "s3cret-0f-reader"}
MAPPING = {"jidMapping": "$sAMAccountName$@meet.example.com"}
BASE = {"baseDn": "dc=example,dc=com"}
STAFF = LdapSettings(
    name="staff",
    servers=tuple(map(parse_ldap_server, ("ldaps://dc1.example.com", "ldap://dc2.example.com"))),
    bind_name="cn=reader",
    bind_password=Secret("in the file"),
    base="dc=example,dc=com",
    jid=parse_template("$uid$@meet.example.com"),
)


class FakeSync:
    """The syncs of a directory, which end when a test says so."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.waiting: list[Deferred[SyncOutcome]] = []

    def run(self, *, allow_removal: bool = False) -> Deferred[SyncOutcome]:
        """See L{cms.callbridge.ldap.syncrecord.Syncing.run}."""
        self.asked.append(allow_removal)
        answer: Deferred[SyncOutcome] = Deferred()
        self.waiting.append(answer)
        return answer


def more_of(made: LdapSettings) -> tuple[str, str, bool]:
    """Of the keys that the field's API has no parameters for."""
    return made.picture_attribute, made.groups_base, made.new_password_ends


class LdapApiTests(SynchronousTestCase):
    """By requests."""

    def setUp(self) -> None:
        """One directory in the file, and none made."""
        self.clock = PoolClock()
        self.folder = new_folder(self)
        self.used: list[tuple[LdapSettings, ...]] = []
        self.syncs: dict[str, FakeSync] = {"staff": FakeSync()}
        self.outcomes: dict[str, SyncOutcome] = {}
        self.now = 1_000_000.0
        self.client = self.start()

    async def use_made(self, made: tuple[LdapSettings, ...]) -> None:
        """See L{cms.callbridge.ldap.administration.Directories.use_made}."""
        self.used.append(made)
        self.syncs = {"staff": self.syncs["staff"], **{one.name: FakeSync() for one in made}}

    def start(self) -> Client:
        """The API of a Callbridge that has just started."""
        record = SyncRecord(
            lambda: self.syncs,
            self.outcomes.get,
            SlowWork(self.clock, at_once=1),
            lambda: self.now,
        )
        role = LdapAdministration(
            *((STAFF,), StoredObjects(self.folder), self, record, self.clock),
        )
        operations = operations_of_callbridge(
            *(FakeCallbridge(), self.clock), more=LdapOperations(role).operations()
        )
        return Client(self, front(operations, self.clock))

    def ask(self, method: str, path: str, form: dict[str, Any] | None = None) -> Answer:
        """A request; with a body if there is a form."""
        body = urlencode(form) if form else ""
        return self.client.ask(method, f"{API}/{path}", body)

    def made(self, path: str, form: dict[str, Any]) -> str:
        """The id of a new one."""
        answer = self.ask("POST", path, form)
        self.assertEqual(200, answer.status, answer.body)
        location = answer.headers["location"]
        self.assertTrue(location.startswith(f"{API}/{path}/"), location)
        return location.rpartition("/")[2]

    def refused(self, reason: str, answer: Answer) -> None:
        """A refusal."""
        self.assertEqual(400, answer.status, answer.body)
        self.assertIn(f"<failureDetails><{reason} /></failureDetails>", answer.body.decode())

    def whole(self) -> tuple[str, str, str]:
        """The ids of a server, a mapping, and a source."""
        server, mapping = self.made("ldapServers", SERVER), self.made("ldapMappings", MAPPING)
        source = self.made("ldapSources", {**BASE, "server": server, "mapping": mapping})
        return server, mapping, source

    def test_source(self) -> None:
        """A source is a directory from then on, and after a restart; the password is not shown."""
        server, mapping, source = self.whole()
        (made,) = self.used[-1]
        self.assertEqual(f"api-{source[:8]}", made.name)
        self.assertEqual(["ldaps://dc1.example.com:636"], list(map(str, made.servers)))
        shown = self.ask("GET", f"ldapServers/{server}")
        self.assertIn("<address>dc1.example.com</address>", shown.body.decode())
        self.assertIn("<source>api</source>", shown.body.decode())
        self.assertNotIn("password", shown.body.decode())
        self.assertNotIn("s3cret", self.ask("GET", "ldapServers").body.decode())
        self.assertIn("s3cret", (self.folder / FILE).read_text())
        self.client = self.start()
        shown = self.ask("GET", f"ldapSources/{source}")
        self.assertIn(f"<mapping>{mapping}</mapping>", shown.body.decode())
        self.assertIn(f"<name>api-{source[:8]}</name>", shown.body.decode())

    def test_in_file(self) -> None:
        """Directories of the file are shown in the same terms, and cannot be changed."""
        listed = self.ask("GET", "ldapServers").body.decode()
        self.assertIn('<ldapServers total="2">', listed)
        self.assertIn("<portNumber>389</portNumber>", listed)
        self.assertNotIn("in the file", listed)
        shown = self.ask("GET", "ldapSources/staff")
        self.assertIn("<source>file</source>", shown.body.decode())
        id_ = shown.body.decode().partition('id="')[2][:36]
        self.refused("ldapSourceIsInFile", self.ask("PUT", f"ldapSources/{id_}", BASE))
        self.refused("ldapSourceIsInFile", self.ask("DELETE", f"ldapSources/{id_}"))
        self.assertEqual([], self.used)

    def test_change(self) -> None:
        """What is left out stays; the directory is another one at once."""
        server, mapping, source = self.whole()
        self.assertEqual(200, self.ask("PUT", f"ldapServers/{server}", {"secure": "false"}).status)
        (made,) = self.used[-1]
        self.assertEqual(["ldap://dc1.example.com:389"], list(map(str, made.servers)))
        assert made.bind_password is not None
        self.assertEqual("s3cret-0f-reader", made.bind_password.value)
        changes = len(self.used)
        again = {"jidMapping": MAPPING["jidMapping"]}
        self.assertEqual(200, self.ask("PUT", f"ldapMappings/{mapping}", again).status)
        self.assertEqual(changes, len(self.used))  # nothing is different
        self.refused("nothingToChange", self.ask("PUT", f"ldapSources/{source}", {}))

    def test_picture_and_groups(self) -> None:
        """What the field's API has no parameters for can be given all the same."""
        _, mapping, source = self.whole()
        (before,) = self.used[-1]
        self.assertEqual(("", "", True), more_of(before))
        picture = {"pictureAttribute": "thumbnailPhoto"}
        self.assertEqual(200, self.ask("PUT", f"ldapMappings/{mapping}", picture).status)
        groups = {"groupsBaseDn": "ou=g", "groupsFilter": "(cn=t*)", "newPasswordEnds": "FALSE"}
        self.assertEqual(200, self.ask("PUT", f"ldapSources/{source}", groups).status)
        (made,) = self.used[-1]
        self.assertEqual(("thumbnailPhoto", "ou=g", False), more_of(made))
        self.assertEqual("(cn=t*)", str(made.groups_filter))
        shown = self.shown(f"ldapMappings/{mapping}", "ldapMapping")
        self.assertEqual("thumbnailPhoto", shown["pictureAttribute"])
        shown = self.shown(f"ldapSources/{source}", "ldapSource")
        self.assertEqual({**groups, "newPasswordEnds": False}, {key: shown[key] for key in groups})
        staff = self.shown("ldapSources/staff", "ldapSource")
        self.assertEqual(("", True), (staff["groupsBaseDn"], staff["newPasswordEnds"]))

    def shown(self, path: str, item: str) -> dict[str, Any]:
        """What is shown of one as JSON."""
        answer = self.client.ask("GET", f"{API}/{path}", accept="application/json")
        return dict(json.loads(answer.body)[item])

    def test_delete(self) -> None:
        """A server that a source needs stays; without the source its users are gone."""
        server, mapping, source = self.whole()
        self.refused("ldapServerInUse", self.ask("DELETE", f"ldapServers/{server}"))
        self.refused("ldapMappingInUse", self.ask("DELETE", f"ldapMappings/{mapping}"))
        for path in (f"ldapSources/{source}", f"ldapServers/{server}", f"ldapMappings/{mapping}"):
            self.assertEqual(200, self.ask("DELETE", path).status)
        self.assertEqual((), self.used[-1])
        self.refused("ldapServerDoesNotExist", self.ask("GET", f"ldapServers/{server}"))
        self.refused("ldapServerDoesNotExist", self.ask("DELETE", f"ldapServers/{server}"))
        self.assertNotIn("s3cret", (self.folder / FILE).read_text())

    def test_wrong(self) -> None:
        """Each wrong value is named, and nothing is stored."""
        server, mapping, _ = self.whole()
        before = (self.folder / FILE).read_bytes()
        for reason, path, form in (
            ("addressMissing", "ldapServers", {}),
            ("addressInvalid", "ldapServers", {"address": "no host"}),
            ("passwordInvalid", "ldapServers", {"address": "h", "username": "cn=x"}),
            ("portNumberInvalid", "ldapServers", {"address": "h", "portNumber": "0"}),
            ("trustInvalid", "ldapServers", {"address": "h", "trust": "no PEM"}),
            ("jidMappingInvalid", "ldapMappings", {"jidMapping": "$uid"}),
            ("pictureAttributeInvalid", "ldapMappings", {**MAPPING, "pictureAttribute": "a b"}),
            ("unknownParameter", "ldapMappings", {**MAPPING, "coSpaceNameMapping": "$cn$"}),
            ("baseDnMissing", "ldapSources", {"server": server, "mapping": mapping}),
            (
                "filterInvalid",
                "ldapSources",
                {**BASE, "server": server, "mapping": mapping, "filter": "(cn=*"},
            ),
            (
                "newPasswordEndsInvalid",
                "ldapSources",
                {**BASE, "server": server, "mapping": mapping, "newPasswordEnds": "never"},
            ),
            (
                "ldapServerDoesNotExist",
                "ldapSources",
                {**BASE, "server": mapping, "mapping": mapping},
            ),
            (
                "ldapMappingDoesNotExist",
                "ldapSources",
                {**BASE, "server": server, "mapping": server},
            ),
        ):
            self.refused(reason, self.ask("POST", path, form))
        self.refused("usernameInvalid", self.ask("PUT", f"ldapServers/{server}", {"username": ""}))
        self.assertEqual(before, (self.folder / FILE).read_bytes())

    def test_trust(self) -> None:
        """CAs of a server's own."""
        pem = CertificateAuthority("LDAP CA").certificate.decode()
        server = self.made("ldapServers", {**SERVER, "trust": pem})
        mapping = self.made("ldapMappings", MAPPING)
        self.made("ldapSources", {**BASE, "server": server, "mapping": mapping})
        (made,) = self.used[-1]
        assert made.trust is not None
        self.assertEqual(pem, made.trust.read_text())
        self.assertEqual(pem, self.shown(f"ldapServers/{server}", "ldapServer")["trust"])

    def test_limit(self) -> None:
        """There are so many of a kind."""
        self.patch(administration, "MOST_OBJECTS", 2)
        for _ in range(2):
            self.made("ldapMappings", MAPPING)
        self.refused("limitReached", self.ask("POST", "ldapMappings", MAPPING))

    # syncs

    def state(self, id_: str) -> dict[str, Any]:
        """What is said of a sync."""
        return self.shown(f"ldapSyncs/{id_}", "ldapSync")

    def outcome(self, directory: str = "staff", **more: Any) -> SyncOutcome:
        """Of a sync that ended well."""
        values = {"users": 7, "added": 2, "left_out": 1, "succeeded": "1970-01-12T13:46:40+00:00"}
        return SyncOutcome(directory, "1970-01-12T13:46:40+00:00", 2.5, **{**values, **more})

    def test_sync(self) -> None:
        """It is begun, and its end is seen."""
        id_ = self.made("ldapSyncs", {})
        self.assertEqual("inProgress", self.state(id_)["state"])
        (sync,) = self.syncs.values()
        self.assertEqual([False], sync.asked)
        self.now += 3
        self.outcomes["staff"] = self.outcome()
        sync.waiting.pop().callback(self.outcomes["staff"])
        state = self.state(id_)
        self.assertEqual(("complete", 7, 2, 1), (state["state"], *map(state.get, NUMBERS)))
        self.assertEqual("1970-01-12T13:46:43.000Z", state["ended"])
        self.assertIn('<ldapSyncs total="1">', self.ask("GET", "ldapSyncs").body.decode())  # once

    def test_asked_again(self) -> None:
        """Who asks while it runs is told of the same, unless he allows more."""
        first = self.made("ldapSyncs", {})
        self.assertEqual(first, self.made("ldapSyncs", {}))
        allowed = self.made("ldapSyncs", {"allowRemoval": "true"})
        self.assertEqual(allowed, self.made("ldapSyncs", {}))
        self.assertNotEqual(first, allowed)
        (sync,) = self.syncs.values()
        self.assertEqual([False, True], sync.asked)

    def test_sync_of_one(self) -> None:
        """A source by id; with leave to remove many."""
        source = self.whole()[2]
        id_ = self.made("ldapSyncs", {"ldapSource": source, "allowRemoval": "true"})
        self.assertEqual([True], self.syncs[f"api-{source[:8]}"].asked)
        self.assertEqual([], self.syncs["staff"].asked)
        self.assertEqual(source, self.state(id_)["ldapSource"])
        self.refused(
            "ldapSourceDoesNotExist", self.ask("POST", "ldapSyncs", {"ldapSource": "nobody"})
        )

    def test_sync_of_all(self) -> None:
        """It ends with the last; one that fails fails it, and says why."""
        source = self.whole()[2]
        id_ = self.made("ldapSyncs", {})
        first, second = self.syncs.values()
        first.waiting.pop().callback(self.outcome())
        self.assertEqual("inProgress", self.state(id_)["state"])
        empty: StepError = faults.LDAP_BASE_MISSING.error(peer="ldaps://dc1", base="dc=x")
        second.waiting.pop().errback(empty)
        state = self.state(id_)
        self.assertEqual(("failed", 7), (state["state"], state["numUsers"]))
        self.assertEqual("ldap-base-missing", state["problem"]["fault"])
        self.assertTrue(source)

    def test_by_timer(self) -> None:
        """The last one of each source is shown, whoever began it."""
        problem = faults.LDAP_BASE_MISSING.error(peer="ldaps://dc1", base="dc=x").as_dict()
        self.outcomes["staff"] = self.outcome(problem=problem)
        listed = json.loads(
            self.client.ask("GET", f"{API}/ldapSyncs", accept="application/json").body
        )
        (shown,) = listed["ldapSyncs"]["ldapSync"]
        self.assertEqual("failed", shown["state"])
        self.assertEqual("1970-01-12T13:46:37.500Z", shown["begun"])
        self.assertEqual(shown["state"], self.state(shown["id"])["state"])
        self.refused("ldapSyncDoesNotExist", self.ask("GET", "ldapSyncs/none"))

    def test_few_are_kept(self) -> None:
        """The oldest are forgotten."""
        first = self.made("ldapSyncs", {})
        for _ in range(MOST_KEPT):
            self.syncs["staff"].waiting.pop().callback(self.outcome())
            self.made("ldapSyncs", {})
        self.refused("ldapSyncDoesNotExist", self.ask("GET", f"ldapSyncs/{first}"))


NUMBERS = ("numUsers", "numAdded", "numLeftOut")
