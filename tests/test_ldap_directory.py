"""Log-ins with users of an LDAP directory."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.directories.directory import (
    AccountDisabled,
    AccountLocked,
    DirectoryError,
    PasswordExpired,
)
from cms.callbridge.ldap import directory as module
from cms.callbridge.ldap.connection import MOST_VALUES
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.users import read_keys, why_closed
from cms.callbridge.passwords.recent import RecentPasswords
from cms.callbridge.passwords.scram import HASHES, derive
from cms.configuration.tomlfile import Secret
from tests.ldapserver import BASE, READER
from tests.ldapstage import DOMAIN, LdapStage
from tests.support import new_folder
from tests.test_xmpp_costs import calls


class StageCase(SynchronousTestCase):
    """With the stage."""

    def setUp(self) -> None:
        """Alice is known."""
        self.set_up()

    def set_up(self, **changes: Any) -> None:
        """The stage with other settings."""
        self.stage = LdapStage(new_folder(self), **changes)
        self.clock, self.directory = self.stage.clock, self.stage.directory
        self.dc1, self.dc2 = self.stage.dc1, self.stage.dc2
        self.stage.person("alice", entryCSN="20261129#1")
        self.addCleanup(self.stage.close)

    def verify(self, name: str = "alice", password: str = "s3cret") -> Deferred[bool | None]:
        """A log-in with PLAIN."""
        return self.directory.verify(name, password)

    def right(self, name: str = "alice", password: str = "s3cret") -> bool | None:
        """What is decided at once."""
        return self.successResultOf(self.verify(name, password))

    def fault(self, work: Deferred[Any]) -> str:
        """The fault because of which nothing is decided."""
        error: DirectoryError = self.failureResultOf(work, DirectoryError).value
        assert error.fault is not None
        self.flushed = error.fault
        return error.fault.fault


class BindTests(StageCase):
    """Search, then bind."""

    def test_decided(self) -> None:
        """Right, wrong and unknown are three answers."""
        self.assertIs(True, self.right())
        self.assertIs(False, self.right(password="other"))
        self.assertIsNone(self.right("nobody"))
        self.assertEqual([READER, f"uid=alice,{BASE}", f"uid=alice,{BASE}"], self.dc1.binds)

    def test_cost(self) -> None:
        """A log-in whose password is not remembered takes 124 calls of our own functions."""
        self.stage.person("bob", pwdChangedTime="20261129101010Z")
        self.directory._verified = RecentPasswords(self.clock, 0.0)
        for _ in range(2):
            counted = calls(lambda: self.right("bob"))
        self.assertLessEqual(counted, 128)
        self.assertEqual(2, self.dc1.binds.count(f"uid=bob,{BASE}"))

    def test_empty_password(self) -> None:
        """It asks nobody."""
        self.assertIs(False, self.right(password=""))
        self.assertEqual([], self.stage.connector.tried)

    def test_injection(self) -> None:
        """Signs of filters are octets of a value; whose entry it is, is compared afterwards."""
        self.stage.person("bob")
        for name in ("*", "alice)(uid=*", "*)(|(uid=*", "a*e", "\\2a", "alice\0"):
            self.assertIsNone(self.right(name), name)
        self.assertIn("(uid=\\2a)", self.dc1.asked[0])
        self.assertEqual([READER], self.dc1.binds)

    def test_other_entry(self) -> None:
        """An entry that the filter fits, and that makes another address, is not him."""
        self.set_up(jid=parse_template(f"$uid$-$cn$@{DOMAIN}"))
        self.stage.person("a", cn="b-c")
        self.stage.person("a-b", cn="c")
        self.assertEqual(faults.LDAP_AMBIGUOUS.name, self.fault(self.verify("a-b-c")))
        self.stage.person("x", cn="y")
        self.assertIs(True, self.right("x-y"))

    def test_twice(self) -> None:
        """Two entries with one address: neither of them logs in, and it is said."""
        self.dc1.add(f"uid=alice,ou=two,{BASE}", objectClass="person", uid="ALICE", cn="A")
        self.assertEqual(faults.LDAP_AMBIGUOUS.name, self.fault(self.verify()))

    def test_told_twice(self) -> None:
        """One entry that a server tells twice is one."""
        same = f"UID=ALICE, {BASE.upper()}"
        self.dc1.add(same, objectClass="person", uid="alice", cn="A", userPassword="s3cret")
        self.assertIs(True, self.right())

    def test_many(self) -> None:
        """And if there are more than a look-up takes."""
        for number in range(20):
            self.dc1.add(f"uid=alice,ou={number},{BASE}", objectClass="person", uid="alice")
        self.assertEqual(faults.LDAP_AMBIGUOUS.name, self.fault(self.verify()))

    def test_too_large(self) -> None:
        """Whose entry is too large is told apart from nobody, and shuts out nobody else."""
        self.stage.person("eve", cn=[*map(str, range(MOST_VALUES))])
        self.assertEqual(faults.LDAP_ENTRY_TOO_LARGE.name, self.fault(self.verify("eve")))
        known = f"The entry uid=eve,{BASE} is passed over: it has more than {MOST_VALUES} values."
        self.assertEqual(known, self.flushed.cause)
        self.assertIs(True, self.right())
        self.assertEqual([], [s.problem for s in self.stage.servers.states if s.problem])

    def test_bind_as(self) -> None:
        """C{authenticationMapping}: another name than the DN, escaped where it is a DN."""
        self.set_up(bind_as=parse_template("$mail$"))
        self.stage.person("bob", mail="bob@example.org")
        self.right("bob")
        self.assertIsNone(self.right("alice"))  # who has no mail
        self.assertEqual([READER, "bob@example.org"], self.dc1.binds)
        self.set_up(bind_as=parse_template(f"cn=$cn$,{BASE}"))
        self.stage.person("eve", cn="x,ou=admins")
        self.right("eve")
        self.assertEqual(f"cn=x\\,ou\\=admins,{BASE}", self.dc1.binds[-1])

    def test_guest_name(self) -> None:
        """A name of guests is never looked up here."""
        self.stage.person("guest-0123456789abcdef")
        self.assertIsNone(self.right("guest-0123456789abcdef"))

    def test_other_domain(self) -> None:
        """Addresses of another domain are nobody here."""
        self.stage.domain = "other.example.com"
        self.assertIsNone(self.right())


class ClosedTests(StageCase):
    """Who may not log in although the password is right."""

    def test_disabled(self) -> None:
        """It is told only to who has the password."""
        for number, attributes in enumerate(
            ({"userAccountControl": "514"}, {"nsAccountLock": "TRUE"})
        ):
            self.stage.person(f"u{number}", **attributes)
            self.failureResultOf(self.verify(f"u{number}"), AccountDisabled)
            self.assertIs(False, self.right(f"u{number}", "other"))

    def test_attributes(self) -> None:
        """What of them says so."""
        ends = b"134404364386721330"  # in 1601's hundred nanoseconds: 1795962838.672133
        for attribute, value, closed in (
            ("userAccountControl", b"512", ""),
            ("userAccountControl", b"66050", "is disabled"),
            ("userAccountControl", b"x", ""),
            ("userAccountControl", b"-2", ""),
            ("nsAccountLock", b"false", ""),
            ("pwdAccountLockedTime", b"000001010000Z", "is disabled"),
            ("pwdAccountLockedTime", b"20261129000000Z", ""),  # it may be over
            ("accountExpires", b"0", ""),
            ("accountExpires", b"9223372036854775807", ""),
            ("accountExpires", ends, "has expired"),
            ("accountExpires", b"%d" % (int(ends) + 10_000_000), ""),
            ("accountExpires", b"9" * 5_000, ""),
            ("msDS-User-Account-Control-Computed", b"0", ""),
            ("msDS-User-Account-Control-Computed", b"16", "is locked after wrong passwords"),
            ("msDS-User-Account-Control-Computed", b"8388608", "has to get another password first"),
        ):
            found = why_closed({attribute.lower(): (value,)}, 1795962838.7)
            self.assertEqual(closed, found, (attribute, value[:30]))

    def test_active_directory(self) -> None:
        """Its numbers say why a password is refused."""
        self.dc1.bind_code = 49
        text = "80090308: LdapErr: DSID-0C09, comment: AcceptSecurityContext error, data {}, v1db1"
        kinds = {
            "533": (AccountDisabled, ""),
            "701": (AccountDisabled, "the account has expired"),
            "530": (AccountDisabled, "the account may not log in at this hour"),
            "532": (PasswordExpired, "the password has expired"),
            "773": (PasswordExpired, "the password must be changed first"),
            "775": (AccountLocked, ""),
        }
        for number, (kind, told) in kinds.items():
            self.dc1.bind_text = text.format(number)
            problem = self.failureResultOf(self.verify(), kind)
            self.assertEqual(told, str(problem.value))
        self.dc1.bind_text = text.format("52e")
        self.assertIs(False, self.right())

    def test_expired(self) -> None:
        """An account whose end is over is refused, though its password is remembered."""
        self.assertIs(True, self.right())
        self.dc1.entries[f"uid=alice,{BASE}"]["accountexpires"] = [b"116444736010000000"]
        self.assertIs(True, self.right())
        self.clock.advance(1)
        problem = self.failureResultOf(self.verify(), AccountDisabled)
        self.assertEqual("the account has expired", str(problem.value))

    def test_policy(self) -> None:
        """A password that has to be changed is no log-in."""
        self.assertIs(True, self.right("alice"))
        self.dc1.entries[f"uid=alice,{BASE}"]["entrycsn"] = [b"2"]
        self.dc1.policy = b"\x30\x03\x81\x01\x02"
        self.failureResultOf(self.verify(), PasswordExpired)
        self.dc1.policy = b"\x30\x03\x81\x01\x01"
        self.failureResultOf(self.verify(password="wrong"), AccountLocked)


class RememberedTests(StageCase):
    """Right passwords, for some minutes."""

    def test_remembered(self) -> None:
        """The bind is spared, the search is not."""
        self.assertIs(True, self.right())
        self.assertIs(True, self.right())
        self.assertEqual(1, self.dc1.binds.count(f"uid=alice,{BASE}"))
        self.assertIs(False, self.right(password="other"))
        del self.dc1.entries[f"uid=alice,{BASE}"]
        self.assertIsNone(self.right())

    def test_changed(self) -> None:
        """What the directory changes with the password makes an end of it."""
        self.assertIs(True, self.right())
        self.dc1.person("alice", "new", entryCSN="20261129#2")
        self.assertIs(False, self.right())

    def test_disabled(self) -> None:
        """Who is disabled is refused although the password is remembered."""
        self.assertIs(True, self.right())
        self.dc1.entries[f"uid=alice,{BASE}"]["useraccountcontrol"] = [b"514"]
        self.failureResultOf(self.verify(), AccountDisabled)

    def test_somebody_else(self) -> None:
        """Who has the address of another entry now needs his own password, and is alone with it."""
        self.stage.person("boss", "annas", cn="Anna", entryUUID="1", pwdChangedTime="20261129Z")
        self.assertIs(True, self.right("boss", "annas"))
        del self.dc1.entries[f"uid=boss,{BASE}"]
        more = {"objectClass": "person", "entryUUID": "2", "pwdChangedTime": "20261129Z"}
        self.dc1.add(f"cn=bert,{BASE}", uid="boss", cn="Bert", userPassword="berts", **more)
        self.assertIs(False, self.right("boss", "annas"))  # which is remembered
        self.assertEqual([], self.stage.ended)
        self.assertIs(True, self.right("boss", "berts"))
        self.assertIs(True, self.right("boss", "berts"))
        self.assertEqual([(("boss",), "renewed")], self.stage.ended)
        (known,) = self.stage.store.users("ldap")
        self.assertEqual((f"cn=bert,{BASE}", "Bert"), (known.dn, known.shown))

    def test_renamed(self) -> None:
        """The same where the DN is made of the address."""
        for number, name in enumerate(("anna", "bert")):
            self.stage.person(name, f"{name}s", entryUUID=str(number), pwdChangedTime="2026Z")
            self.assertIs(True, self.right(name, f"{name}s"))
        for number, (name, other) in enumerate((("bert", "anna"), ("anna", "bert"))):
            self.stage.person(name, f"{other}s", entryUUID=str(number), pwdChangedTime="2026Z")
        self.assertIs(False, self.right("anna", "annas"))
        self.assertIs(True, self.right("anna", "berts"))
        self.assertEqual([(("anna",), "renewed")], self.stage.ended)

    def test_no_state(self) -> None:
        """Where nothing shows that a password was changed, each is asked."""
        self.stage.person("bob")
        for _ in range(2):
            self.assertIs(True, self.right("bob"))
        self.assertEqual(2, [*self.dc1.binds, *self.dc2.binds].count(f"uid=bob,{BASE}"))


class AwayTests(StageCase):
    """Servers that die, freeze, refuse."""

    def test_failover(self) -> None:
        """The second decides; the first is not asked again until it is back."""
        self.dc1.refuses = True
        self.assertIs(True, self.right())
        self.assertIs(True, self.right(password="s3cret"))
        self.assertEqual(["dc1", "dc2", "dc2"], self.stage.connector.tried)
        self.dc1.refuses = False
        self.clock.advance(2)  # the pool itself has tried
        self.dc2.hang_up()
        self.dc2.refuses = True
        self.assertIs(True, self.right())

    def test_frozen(self) -> None:
        """A frozen server costs one log-in its time, and then nobody."""
        self.assertIs(True, self.right())
        self.dc1.frozen = True
        self.dc1.entries.clear()
        asked = self.verify()
        self.clock.advance(1.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertIs(True, self.successResultOf(asked))
        self.assertIs(True, self.right())
        self.clock.advance(20)
        self.assertIs(True, self.right())

    def test_stale(self) -> None:
        """A connection that the server closed meanwhile is no fault of it."""
        self.assertIs(True, self.right())
        self.dc1.hang_up()
        self.assertIs(True, self.right())
        self.assertNotIn("dc2", self.stage.connector.tried)

    def test_all(self) -> None:
        """If none works, that is no wrong password; and the next is told at once."""
        self.dc1.refuses = self.dc2.refuses = True
        for _ in range(2):
            self.assertEqual(faults.LDAP_UNREACHABLE.name, self.fault(self.verify()))
        self.assertEqual(["dc1", "dc2"], self.stage.connector.tried)

    def test_seldom(self) -> None:
        """How often a dead server is tried, in an hour: delays double, up to a minute."""
        self.dc1.refuses = self.dc2.refuses = True
        self.fault(self.verify())
        self.clock.pump([1.0] * 3600)
        self.assertLess(self.stage.connector.tried.count("dc1"), 80)
        self.assertGreater(self.stage.connector.tried.count("dc1"), 50)

    def test_server_says(self) -> None:
        """Busy and unavailable: another one is asked.  Anything else is its answer."""
        self.dc1.search_code = 51
        self.assertIs(True, self.right())
        self.dc2.search_code = 32
        self.assertEqual(faults.LDAP_BASE_MISSING.name, self.fault(self.verify()))
        self.dc2.search_code = 10
        self.assertEqual(faults.LDAP_REFERRAL.name, self.fault(self.verify()))
        self.dc2.search_code = 50
        self.assertEqual(faults.LDAP_REFUSED.name, self.fault(self.verify()))

    def test_of_one_user(self) -> None:
        """
        What servers say of one user's bind, whose password may be elsewhere, keeps out nobody
        else: they are not left alone.
        """
        self.dc1.bind_code = 52
        self.assertIs(True, self.right())
        self.assertEqual(["dc1", "dc1", "dc2"], self.stage.connector.tried)
        self.dc2.bind_code = 80
        self.assertEqual(faults.LDAP_REFUSED.name, self.fault(self.verify(password="s3cret2")))
        self.dc1.bind_code = None
        self.assertIs(True, self.right(password="s3cret"))
        self.assertIsNone(self.directory.servers.problem)

    def test_silent_of_one_user(self) -> None:
        """Nor does a bind that waits for where one user's password is."""
        self.stage.person("bob")
        self.dc1.silent_for = self.dc2.silent_for = f"uid=bob,{BASE}"
        asked = self.verify("bob")
        self.clock.advance(2.1)
        self.assertIs(True, self.right())
        self.clock.advance(2.1)
        self.assertEqual(faults.LDAP_SILENT.name, self.fault(asked))
        self.assertIn("(bind)", self.flushed.cause)
        self.assertEqual([None, None], [each.problem for each in self.stage.servers.states])
        self.dc2.silent_for = ""
        asked = self.verify("bob")
        self.clock.advance(2.1)
        self.assertIs(True, self.successResultOf(asked))

    def test_no_account(self) -> None:
        """Who has no account is told that one is wanted, and no server is to blame."""
        self.set_up(bind_name="", bind_password=None)
        self.dc1.search_code = self.dc2.search_code = 1
        for _ in range(2):
            self.assertEqual(faults.LDAP_REFUSED.name, self.fault(self.verify()))
            self.assertIn("without bind_name give one", self.flushed.cure)
        self.assertEqual(["dc1"], self.stage.connector.tried)

    def test_account_locked(self) -> None:
        """What Active Directory's number means is said of our own account, too."""
        self.set_up(bind_password=Secret("wrong"))
        text = "80090308: LdapErr: DSID-0C0903A9, comment: x, data 775, v1db1"
        self.dc1.bind_text = self.dc2.bind_text = text
        self.assertEqual(faults.LDAP_ACCOUNT_REFUSED.name, self.fault(self.verify()))
        self.assertIn("v1db1 (the account is locked after wrong", self.flushed.cause)

    def test_no_dn(self) -> None:
        """A base that is no DN is told as one that is not there."""
        self.dc1.search_code = 34
        self.assertEqual(faults.LDAP_BASE_MISSING.name, self.fault(self.verify()))

    def test_same_cure(self) -> None:
        """Servers that all fail for one reason are told by it: "start a server" is no cure."""
        problem = faults.LDAP_NO_STARTTLS.error(peer="dc1", problem="x")
        self.dc1.refuses = self.dc2.refuses = problem
        self.assertEqual(faults.LDAP_NO_STARTTLS.name, self.fault(self.verify()))
        self.assertEqual(faults.LDAP_NO_STARTTLS.name, self.fault(self.verify()))
        for first, second in ((problem, True), (True, problem)):
            self.set_up()
            self.dc1.refuses, self.dc2.refuses = first, second
            self.assertEqual(faults.LDAP_UNREACHABLE.name, self.fault(self.verify()))

    def test_bind_says(self) -> None:
        """A no to a bind that says nothing of the password decides nothing."""
        self.stage.person("bob")
        for code, fault in ((10, faults.LDAP_REFERRAL), (13, faults.LDAP_REFUSED)):
            self.dc1.bind_code = code
            self.assertEqual(fault.name, self.fault(self.verify("bob")))
        self.dc1.bind_code = 4096  # which sansldap takes for success
        self.assertEqual(faults.LDAP_REFUSED.name, self.fault(self.verify("bob")))

    def test_account(self) -> None:
        """Our own account is refused: it is named, and not tried at each log-in."""
        self.set_up(bind_password=Secret("wrong"))
        for _ in range(3):
            self.assertEqual(faults.LDAP_ACCOUNT_REFUSED.name, self.fault(self.verify()))
        self.assertEqual([READER], self.dc1.binds)
        self.clock.advance(10)
        self.assertEqual([READER], self.dc1.binds)
        self.assertNotIn("wrong", str(self.flushed))

    def test_half_alive(self) -> None:
        """A server that takes binds and answers no search is left alone ever longer."""
        self.dc1.search_code, self.dc2.refuses = 51, True
        for least, most in ((0.7, 1.3), (1.4, 2.6), (2.8, 5.2)):
            self.fault(self.verify())
            self.clock.advance(least)
            self.assertIsNotNone(self.stage.servers.states[0].problem)
            self.clock.advance(most - least)
            self.assertIsNone(self.stage.servers.states[0].problem)
        self.dc1.search_code = 0
        self.assertIs(True, self.right())
        self.dc1.search_code = 51
        self.fault(self.verify())
        self.clock.advance(1.3)
        self.assertIsNone(self.stage.servers.states[0].problem)

    def test_account_not_at_fault(self) -> None:
        """A server that is not up yet is tried again soon, and no password is told as wrong."""
        faulty = dict.fromkeys((51, 52, 14), faults.LDAP_UNREACHABLE) | {10: faults.LDAP_REFERRAL}
        for code, fault in faulty.items():
            self.dc1.account_code = self.dc2.account_code = code
            self.assertEqual(fault.name, self.fault(self.verify()))
            self.dc1.account_code = self.dc2.account_code = 0
            self.clock.advance(2)
            self.assertIs(True, self.right())
            self.set_up()

    def test_busy(self) -> None:
        """So many at once and so many that wait; the rest is told, and nobody waits too long."""
        self.set_up(most_connections=1, most_waiting=1)
        self.dc1.frozen = self.dc2.frozen = True
        asked = [self.verify() for _ in range(3)]
        self.assertEqual(faults.LDAP_BUSY.name, self.fault(asked[2]))
        self.clock.pump([0.1] * 50)
        for each in asked[:2]:
            self.failureResultOf(each, DirectoryError)

    def test_cancelled(self) -> None:
        """Who gives up leaves no connection behind, and his place to the next."""
        self.set_up(most_connections=1)
        self.dc1.frozen = True
        asked = self.verify()
        asked.cancel()
        self.failureResultOf(asked)
        self.assertEqual([], self.dc1.open)
        self.dc1.frozen = False
        self.assertIs(True, self.right())

    def test_idle(self) -> None:
        """Connections that nobody needs are closed."""
        self.assertIs(True, self.right())
        self.assertEqual(2, len(self.dc1.open))
        self.assertEqual(2, self.directory.connections)
        self.clock.advance(61)
        self.assertEqual([], self.dc1.open)
        self.assertEqual(0, self.directory.connections)


class ScramTests(StageCase):
    """Where SCRAM is possible."""

    def test_none(self) -> None:
        """A directory that only checks passwords offers PLAIN."""
        self.assertEqual(("PLAIN",), self.directory.mechanisms)
        self.assertIsNone(self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256")))
        self.assertEqual([], self.stage.connector.tried)

    def test_attribute(self) -> None:
        """Keys in an attribute, as RFC 5803 writes them."""
        self.set_up(keys_attribute="authPassword")
        keys = derive("s3cret", "sha256", b"salt", 4096)
        b64 = [base64.b64encode(k).decode() for k in (keys.salt, keys.stored_key, keys.server_key)]
        value = "SCRAM-SHA-256$4096:{}${}:{}".format(*b64)
        self.stage.person("bob", authPassword=["{SSHA}x", value], userAccountControl="514")
        found = self.successResultOf(self.directory.keys("bob", "SCRAM-SHA-256"))
        assert found is not None
        self.assertEqual((keys.stored_key, True), (found.stored_key, found.disabled))
        self.assertIsNone(self.successResultOf(self.directory.keys("bob", "SCRAM-SHA-1")))
        self.assertIsNone(self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256")))
        for wrong in (value[:-9], value.replace(":", "!"), value.replace("4096", "0"), "\xff"):
            self.assertIsNone(read_keys([wrong.encode("latin-1")], "SCRAM-SHA-256"), wrong)

    def test_kept(self) -> None:
        """Keys of the last right log-in with PLAIN, until the password is another."""
        self.set_up(keep_keys=True)
        self.assertEqual((*reversed(HASHES), "PLAIN"), self.directory.mechanisms)
        self.assertIsNone(self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256")))
        self.assertIs(True, self.right())
        for mechanism, hash_name in HASHES.items():
            found = self.successResultOf(self.directory.keys("alice", mechanism))
            assert found is not None
            again = derive("s3cret", hash_name, found.salt, found.iterations)
            self.assertEqual(again.stored_key, found.stored_key)
        self.dc1.entries[f"uid=alice,{BASE}"]["entrycsn"] = [b"2"]
        self.assertIsNone(self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256")))
        self.assertNotIn(b"s3cret", self.stage.store.path.read_bytes())

    def test_away(self) -> None:
        """Kept keys are not used while the directory cannot say whether they hold."""
        self.set_up(keep_keys=True)
        self.assertIs(True, self.right())
        self.dc1.hang_up()
        self.dc1.refuses = self.dc2.refuses = True
        asked = self.directory.keys("alice", "SCRAM-SHA-256")
        self.assertEqual(faults.LDAP_UNREACHABLE.name, self.fault(asked))


class OverTests(StageCase):
    """Sessions that the server still has when the link is back."""

    def over(self, name: str) -> str | None:
        """Why it is over."""
        return self.successResultOf(self.directory.over(name, self.since))

    @property
    def since(self) -> Any:
        """Any time; it does not count here."""
        return datetime.now(UTC)

    def test_over(self) -> None:
        """As the last sync says; who was never synced is looked up."""
        self.stage.person("bob", userAccountControl="514")
        self.assertEqual(
            [None, "disabled", "deleted"], [self.over(name) for name in ("alice", "bob", "eve")]
        )
        self.successResultOf(self.stage.sync.run())
        self.dc1.entries.clear()
        self.assertEqual([None, "disabled"], [self.over(name) for name in ("alice", "bob")])

    def test_password(self) -> None:
        """Those that began before another password was seen are over, if the link was down."""
        for moment in ("20261129080000Z", "20261129090000Z"):
            self.clock.advance(60)
            self.dc1.person("alice", pwdChangedTime=moment)
            self.successResultOf(self.stage.sync.run())
        for seconds, reason in ((110, "password"), (130, None)):
            over = self.directory.over("alice", datetime.fromtimestamp(seconds, UTC))
            self.assertEqual(reason, self.successResultOf(over))

    def test_new_password(self) -> None:
        """
        Who logs in with another password before a sync has seen it loses the sessions of before
        that log-in, and the sync ends none.
        """
        for lag in (False, True):
            self.dc1.person("alice", "old", pwdChangedTime="20261129080000Z")
            if not lag:
                self.successResultOf(self.stage.sync.run())
            self.assertIs(True, self.right("alice", "old"))
            self.stage.ended.clear()
            self.dc1.person("alice", "new", pwdChangedTime="20261129090000Z")
            for _ in range(2):
                self.assertIs(True, self.right("alice", "new"))
            self.successResultOf(self.stage.sync.run())
            told = [each for each in self.stage.ended if each[0]]
            self.assertEqual([] if lag else [(("alice",), "renewed")], told)

    def test_looked(self) -> None:
        """
        After a failed log-in it costs no look-up, for whoever is known and for whoever is not:
        its time would tell them apart.
        """
        self.patch(module, "MOST_LOOKED", 2)
        for name in ("alice", "nobody"):
            self.assertFalse(self.right(name, "wrong"))
        asked = len(self.dc1.asked)
        self.assertEqual([None, "deleted"], [self.over(name) for name in ("alice", "nobody")])
        self.assertEqual(asked, len(self.dc1.asked))
        self.clock.advance(11)
        self.assertEqual("deleted", self.over("nobody"))
        self.assertEqual(asked + 1, len(self.dc1.asked))
        self.right("bob")
        self.right("eve")
        self.assertEqual(2, len(self.directory._looked))

    def test_known(self) -> None:
        """Who logged in is known before any sync."""
        holds = self.directory.holds
        self.assertIs(False, self.successResultOf(holds("alice")))
        self.assertIs(True, self.right())
        self.assertIs(True, self.successResultOf(holds("alice")))
