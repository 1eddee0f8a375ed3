"""What C{cms check} says of a user directory; all faults with real servers: peers/faultcases."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.audit.finding import Finding
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.check.lane import Lane
from cms.check.probes.directory import DirectoryProbe
from cms.configuration.tomlfile import Secret
from tests.ldapserver import BASE, READER, READER_PASSWORD, MemoryConnector, MemoryLdap

DOMAIN = "meet.example.com"
STAGE = 1.0
BY_THE_SECOND = ["passed ldap://dc2:389", "passed directory ldap"]


class DirectoryTests(SynchronousTestCase):
    """The probe, with servers in memory."""

    def setUp(self) -> None:
        """A directory of two servers that hold the same."""
        self.clock = Clock()
        self.first, self.second = MemoryLdap(), MemoryLdap()
        self.connector = MemoryConnector(self.clock, dc1=self.first, dc2=self.second)
        self.begun: list[str] = []
        for server in (self.first, self.second):
            server.add(BASE, objectClass="organization")

    def person(self, uid: str, **more: Any) -> None:
        """Somebody at both servers."""
        for server in (self.first, self.second):
            server.person(uid, **more)

    def look(self, user: str = "", *, is_stored: bool = False, **changes: Any) -> list[Finding]:
        """What is found."""
        values: dict[str, Any] = {
            "servers": tuple(map(parse_ldap_server, ("ldaps://dc1", "ldap://dc2"))),
            "bind_name": READER,
            "bind_password": Secret(READER_PASSWORD),
            "base": BASE,
            "jid": parse_template(f"$uid$@{DOMAIN}"),
            "page_size": 2,
        }
        settings = LdapSettings(**{**values, **changes})
        found: list[Finding] = []
        lane = Lane(found.append)
        lane.start()
        probe = DirectoryProbe(
            self.clock,
            settings,
            dns=None,  # type: ignore[arg-type]
            lane=lane,
            waiting=lambda step, about, seconds: self.begun.append(about),
            random=Random(1),
            domain=DOMAIN,
            stage=STAGE,
            source="callbridge.toml",
            user=user,
            is_stored=is_stored,
            connector=self.connector,
        )
        looking = Deferred.fromCoroutine(probe.run())
        for _ in range(int(probe.bound_of(settings, STAGE) / STAGE) + 1):
            if not looking.called:
                self.clock.advance(STAGE)
        self.successResultOf(looking)
        return found

    def said(self, found: list[Finding]) -> list[str]:
        """Result, and fault or subject."""
        return [
            f"{f.result} {f.problem.fault if f.problem is not None else f.about}" for f in found
        ]

    def test_healthy(self) -> None:
        """Each server is bound to; entries are counted page by page; the user is shown."""
        for uid in ("anna", "bert", "carl"):
            self.person(uid)
        found = self.look("anna")
        self.assertEqual(
            [
                "passed ldaps://dc1:636",
                "passed directory ldap",
                f"passed anna@{DOMAIN}",
                "passed ldap://dc2:389",
            ],
            self.said(found),
        )
        self.assertEqual(READER, found[0].evidence["account"])
        shown = found[1].evidence
        self.assertEqual(("3", "3", "0"), (shown["entries"], shown["users"], shown["disabled"]))
        self.assertEqual(2, self.first.pages)
        seen = {"dn": f"uid=anna,{BASE}", "name": "Anna", "binds as": f"uid=anna,{BASE}"}
        self.assertEqual(seen, found[2].evidence)
        self.assertEqual([READER], self.first.binds)
        self.assertNotIn(READER_PASSWORD, repr(found))

    def test_local_before(self) -> None:
        """Who is in the local store as well cannot log in with the password of LDAP."""
        self.person("anna")
        told = "(anna is a user of the directory local, which comes before)"
        (warned,) = [f for f in self.look("anna", is_stored=True) if f.result == "warning"]
        assert warned.problem is not None
        self.assertIn(f"uid=anna,{BASE} {told}", warned.problem.cause)
        self.assertIn("is the one there", warned.problem.cure)
        (skipped,) = [f for f in self.look("bert", is_stored=True) if f.result == "skipped"]
        self.assertIn("bert is a user of the directory local", skipped.note)
        self.assertIn("failed ldap-user-absent", self.said(self.look("bert")))

    def test_groups(self) -> None:
        """One is enough; none is a warning, and the user is looked for all the same."""
        self.person("anna")
        about = "groups of directory ldap"
        warned = "warning ldap-no-groups"
        self.assertIn(warned, self.said(self.look("anna", groups_base=BASE)))
        self.assertIn(f"passed anna@{DOMAIN}", self.said(self.look("anna", groups_base=BASE)))
        for server in (self.first, self.second):
            for number in range(3):
                server.add(f"cn={number},{BASE}", cn="x", memberUid=["anna", "bert"])
        self.assertIn(f"passed {about}", self.said(self.look(groups_base=BASE)))
        self.assertNotIn(about, str(self.look()))

    def test_second_server(self) -> None:
        """A dead server beside one that works is a warning, and the other one is looked at."""
        self.person("anna")
        self.first.refuses = True
        found = self.look()
        self.assertEqual(
            ["warning ldap-server-fails", *BY_THE_SECOND],
            self.said(found),
        )

    def test_of_the_directory(self) -> None:
        """What is wrong with the directory is no warning because there is another server."""
        found = self.said(self.look(base="ou=nowhere"))
        self.assertEqual(["failed ldap-base-missing", "passed ldap://dc2:389"], found[1:])

    def test_no_server(self) -> None:
        """If none works each failure is one, with what failed."""
        self.first.refuses = self.second.refuses = True
        self.assertEqual(["failed ldap-broken"] * 2, self.said(self.look()))

    def test_account(self) -> None:
        """The account is refused at both: a failure, and nothing is searched."""
        for server in (self.first, self.second):
            server.entries.pop(BASE)
        found = self.look(bind_password=Secret("wrong"))
        self.assertEqual(["failed ldap-account-refused"] * 2, self.said(found))
        self.assertEqual([], self.first.asked)

    def test_frozen_meanwhile(self) -> None:
        """A server that stops after the bind is a warning: the other one is asked all the rest."""
        self.person("anna")
        self.first.asked = _Then(lambda: setattr(self.first, "frozen", True))
        found = self.said(self.look())
        self.assertEqual(["warning ldap-server-fails", *BY_THE_SECOND], found[1:])

    def test_hangs_up(self) -> None:
        """An answer that ends in the middle of its pages is not taken for a whole one."""
        for uid in ("anna", "bert", "carl"):
            self.person(uid)
        self.first.cut_after = 1
        found = self.look()
        self.assertEqual(["warning ldap-server-fails", *BY_THE_SECOND], self.said(found)[1:])
        self.assertEqual("3", found[-1].evidence["entries"])

    def test_endless(self) -> None:
        """Nor is one of empty pages for ever taken for one that holds nobody."""
        self.person("anna")
        self.first.most_page, self.first.endless = 0, True
        found = self.look()
        self.assertEqual(["warning ldap-server-fails", *BY_THE_SECOND], self.said(found)[1:])
        assert found[1].problem is not None
        self.assertIn("more than 100 pages without an entry", found[1].problem.cause)

    def test_told_twice(self) -> None:
        """An entry that a server tells twice can log in, as the Callbridge has it."""
        self.person("anna", userAccountControl="514")
        self.person("bert")
        for server in (self.first, self.second):
            for uid, closed in (("anna", "514"), ("bert", "512")):
                held = {"objectClass": "person", "uid": uid, "cn": uid}
                again = f"UID={uid}, {BASE.upper()}"
                server.add(again, **held, userAccountControl=closed)
        found = self.look("bert")
        self.assertEqual(["passed"] * 4, [each.result for each in found])
        shown = found[1].evidence
        self.assertEqual(("4", "2", "1"), (shown["entries"], shown["users"], shown["disabled"]))

    def test_nobody_lacks_the_right_thing(self) -> None:
        """An entry without an address is named; an address that two have as well."""
        self.person("anna")
        self.person("bert", cn="same")
        self.person("carl", cn="same")
        self.person("dora", cn=[])
        found = self.look(jid=parse_template(f"$cn$@{DOMAIN}"))
        (warning,) = [f for f in found if f.result == "warning"]
        assert warning.problem is not None
        self.assertIn("3 of 4 entries", warning.problem.cause)
        self.assertIn(f"same@{DOMAIN} (2 entries)", warning.problem.cause)
        self.assertIn(f"uid=dora,{BASE} (no cn)", warning.problem.cause)

    def test_user(self) -> None:
        """Absent, left out by the filter, disabled, twice: each by its own name."""
        self.person("anna")
        self.person("carl", objectClass="guest")
        self.person("dora", userAccountControl="514")
        self.person("emil", cn="twin")
        self.person("fred", cn="twin")
        for user, fault in (
            ("nobody", "ldap-user-absent"),
            ("carl", "ldap-user-filtered"),
            ("dora", "ldap-user-disabled"),
        ):
            self.assertIn(f"failed {fault}", self.said(self.look(user)))
        for value, why in (("16", "is locked"), ("8388608", "has to get another password")):
            self.person("gerd", **{"msDS-User-Account-Control-Computed": value})
            found = self.look("gerd")
            self.assertIn("failed ldap-user-disabled", self.said(found))
            causes = [each.problem.cause for each in found if each.problem is not None]
            self.assertIn(why, causes[0])
        twice = self.look("twin", jid=parse_template(f"$cn$@{DOMAIN}"))
        self.assertIn("failed ldap-ambiguous", self.said(twice))


class _Then(list[str]):
    """A list; what is added to it has a consequence."""

    def __init__(self, consequence: Any) -> None:
        super().__init__()
        self._consequence = consequence

    def append(self, item: str) -> None:
        """The first thing is said, and then nothing."""
        super().append(item)
        self._consequence()
