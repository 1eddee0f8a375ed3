"""The command line as a whole: configurations, running daemons, users, keys, manual."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner
from cryptography import x509
from twisted.internet.error import ConnectError
from twisted.trial.unittest import SynchronousTestCase

import cms
from cms import faults
from cms.callbridge.directories.synced import SyncedUser, SyncStore
from cms.cli import COMMANDS, main
from cms.client.login import LoginFailed
from cms.commands import configfile
from cms.commands.common import Complaint, when
from cms.commands.login import _complaint, _place, _split
from cms.commands.manual import markdown_text, pages, walk
from cms.protection.guessing import TooManyGuesses
from cms.record.files import Files
from tests.commandline import DOMAIN, CommandLineTests
from tests.fakedaemon import FakeDaemon

ROOT = Path(cms.__file__).parent.parent
STATUS: dict[str, Any] = {"softwareVersion": "1.2.3", "uptimeSeconds": 3601}
HEALTHY = {"healthy": True, "step": 11, "name": "active"}
NOT_HEALTHY = {
    "healthy": False,
    "step": 4,
    "name": "srv",
    "cause": "There is no SRV record.",
    "cure": "Publish one.",
}


class ConfigurationTests(CommandLineTests):
    """Which file a command is about."""

    def test_order(self) -> None:
        """The option, the variable as file or folder, the current folder, the system's."""
        here, system = self.folder / "here", self.folder / "system"
        here.mkdir()
        system.mkdir()
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(here)
        with patch.object(configfile, "SYSTEM", system), patch.dict(os.environ):
            os.environ.pop("CMS_CONFIG", None)
            self.assertRaises(Complaint, configfile.find_config, None, "xmpp.toml")
            self.assertRaises(Complaint, configfile.find_all, ())
            (system / "xmpp.toml").touch()
            self.assertEqual(system / "xmpp.toml", configfile.find_config(None, "xmpp.toml"))
            (here / "xmpp.toml").touch()
            self.assertEqual(here / "xmpp.toml", configfile.find_config(None, "xmpp.toml"))
            (system / "callbridge.toml").touch()
            both = [here / "xmpp.toml", system / "callbridge.toml"]
            self.assertEqual(both, configfile.find_all(()))
            os.environ["CMS_CONFIG"] = str(self.folder)
            self.assertEqual(self.folder / "xmpp.toml", configfile.find_config(None, "xmpp.toml"))
            self.assertEqual(2, len(configfile.find_all(())))
            os.environ["CMS_CONFIG"] = "some.toml"
            self.assertEqual(here / "some.toml", configfile.find_config(None, "xmpp.toml"))
            self.assertEqual([here / "some.toml"], configfile.find_all(()))
            given = Path("other.toml")
            self.assertEqual(here / "other.toml", configfile.find_config(given, "xmpp.toml"))
            self.assertEqual([here / "other.toml"], configfile.find_all((given,)))

    def test_before_the_command(self) -> None:
        """The options of a group count for its commands."""
        self.environment = {"CMS_CONFIG": "/nonexistent"}
        file = str(self.folder / "xmpp.toml")
        result = self.cms("xmpp", "--config", file, "--json", "callbridge", "list")
        self.assertIn('"name": "fixed"', result.stdout)

    def test_wrong_file(self) -> None:
        """A file that is missing or wrong is one line with a cure, and status 2."""
        for arguments in (
            ("xmpp", "--config", "/nonexistent/xmpp.toml"),
            ("callbridge", "--config", str(self.folder / "xmpp.toml")),
            ("xmpp", "callbridge", "list", "--config", str(self.folder / "callbridge.toml")),
            ("status", "--config", str(self.write("callbridge2.toml", "unique_name = 1"))),
            ("status", "--config", "/nonexistent/callbridge.toml"),
        ):
            self.refused(*arguments, status=2)

    def test_usage(self) -> None:
        """What click complains of is status 2 too."""
        self.cms("xmpp", "nonsense", status=2)
        self.cms("xmpp", "callbridge", "rotate", "cb1", "--overlap", "-1", status=2)


class RunningTests(CommandLineTests):
    """By a daemon that runs."""

    def setUp(self) -> None:
        """Both of them."""
        super().setUp()
        self.server = FakeDaemon(self, self.folder / "xmpp")
        self.bridge = FakeDaemon(self, self.folder / "callbridge")
        self.server.answers["GET", "/healthz"] = 200, HEALTHY
        self.bridge.answers["GET", "/healthz"] = 503, NOT_HEALTHY
        figures = {"callBridgesKnown": 2, "callBridgesActive": 1, "clients": 3}
        self.server.get("system/status", {"status": {**STATUS, **figures}})
        link = {"state": "waiting", "peer": None, "since": None, "unprotected": True}
        self.bridge.get("system/status", {"status": {**STATUS, "link": link}})

    def test_show(self) -> None:
        """State and configuration."""
        said = self.said("xmpp")
        self.assertIn("Uptime                  : 1:00:01\n", said)
        self.assertIn("Callbridges             : 1 connected, 2 known\n", said)
        self.assertIn(f"by the running XMPP server ({self.server.path})", said)
        said = self.said("callbridge")
        self.assertIn("Cause             : There is no SRV record.\n", said)
        self.assertIn("the link has no TLS", said)
        self.assertNotIn("not to be seen", said + str(self.facts("callbridge")))

    def test_away(self) -> None:
        """Who is without a connection for longest, since when, and what is kept."""
        figures = {"callBridgesKnown": 1, "callBridgesActive": 1, "clients": 3, "clientsAway": 2}
        one = {"jid": "a@b/c", "awaySince": "2026-01-02T03:04:05.000Z", "keptBytes": 1234}
        away = {"clientsAwayBytes": 5678, "clientsAwayLongest": [one]}
        self.server.get("system/status", {"status": {**STATUS, **figures, **away}})
        said = self.said("xmpp")
        self.assertIn(": 3 (2 without a connection, 5,678 bytes kept)\n", said)
        told = "Without a connection    : a@b/c since 2026-01-02T03:04:05.000Z (1,234 bytes kept)\n"
        self.assertIn(told, said)

    def test_door(self) -> None:
        """Whether the door is open, what became of guests, and what was refused to browsers."""
        figures = {"callBridgesKnown": 1, "callBridgesActive": 1, "clients": 3}
        guests = {"admitted": 4, "join-refused": 2}
        for opened, shown in ((True, "open"), (False, "closed (web.enabled is false)")):
            web = {"open": opened, "guests": guests, "refused": {"origin-refused": 1}}
            self.server.get("system/status", {"status": {**STATUS, **figures, "web": web}})
            said = self.said("xmpp")
            for name, told in (
                ("Door", shown),
                ("Guests", "4 admitted, 2 join-refused"),
                ("Refused to pages", "1 origin-refused"),
            ):
                self.assertRegex(said, rf"(?m)^{name} +: {re.escape(told)}$")

    def test_status(self) -> None:
        """Status 1 when one of them does not do its job."""
        said = self.said("status", status=1)
        self.assertIn("Step          : 11 active\n", said)
        self.assertIn("Step          : 4 srv\n", said)
        facts = self.facts("status", status=1)
        self.assertEqual([True, False], [each["healthy"] for each in facts])
        self.said("status", "--config", str(self.folder / "xmpp.toml"))
        _, status = self.bridge.answers["GET", "/api/v1/system/status"]
        problem = {"cause": "No server answers.", "cure": "Start one."}
        status["status"]["directoryProblems"] = [problem]
        self.assertIn(": No server answers. Cure: Start one.\n", self.said("status", status=1))

    def test_changed(self) -> None:
        """Of a configuration that was written since the start it is said that it was not read."""
        told = r"Changed +: (xmpp|callbridge)\.toml since the start; it counts from the next\n"
        self.assertEqual(2, len(re.findall(told, self.said("status", status=1))))
        before = time.time() - STATUS["uptimeSeconds"] - 5
        os.utime(self.folder / "xmpp.toml", (before, before))
        self.assertEqual(["callbridge"], re.findall(told, self.said("status", status=1)))

    def test_status_of_one_that_hangs(self) -> None:
        """It is told of, and so are the others."""
        self.server.answers["GET", "/healthz"] = 500, b"no JSON"
        said = self.said("status", status=1)
        self.assertIn("Step          : 4 srv\n", said)
        self.assertRegex(said, r"Cause +: the daemon at \S+ does not answer \(HTTP status 500\)\.")
        hanging, waiting = self.facts("status", status=1)
        self.assertIn("does not answer", hanging["problem"])
        self.assertEqual((True, False), (hanging["running"], hanging["healthy"]))
        self.assertEqual("waiting", waiting["status"]["link"]["state"])

    def test_callbridges(self) -> None:
        """Each command asks for what the API has."""
        made = self.facts("xmpp", "callbridge", "add", "CB1")
        self.said("xmpp", "callbridge", "add-secret", "cb2", "--secret-stdin", text="long enough")
        turned = self.facts("xmpp", "callbridge", "rotate", "cb1", "--overlap", "60")
        self.said("xmpp", "callbridge", "del", f"cb1.{DOMAIN}")
        path = "/api/v1/callBridges"
        self.assertEqual(
            [
                ("POST", path, {"name": "cb1", "secret": made["secret"]}),
                ("POST", path, {"name": "cb2", "secret": "long enough"}),
                ("PUT", f"{path}/cb1", {"secret": turned["secret"], "overlapSeconds": "60"}),
                ("DELETE", f"{path}/cb1", {}),
            ],
            self.server.changes(),
        )
        self.assertFalse((self.folder / "xmpp" / "callbridges.sqlite3").exists())

    def test_list(self) -> None:
        """With links; secrets come from the files."""
        fixed = {"name": "fixed", "component": f"fixed.{DOMAIN}", "source": "file", "secrets": 1}
        other = {
            "name": "cb1",
            "component": f"cb1.{DOMAIN}",
            "source": "administration",
            "state": "active",
            "address": "192.0.2.7 port 4",
            "since": "2026-11-25T10:00:00Z",
            "created": "2026-11-24T10:00:00Z",
            "secrets": 2,
        }
        listing = {"callBridges": {"total": 2, "callBridge": [fixed, other]}}
        self.server.get("callBridges", listing)
        said = self.said("xmpp", "callbridge", "list")
        self.assertIn("Link       : active\nPeer       : 192.0.2.7 port 4\nSince", said)
        self.assertIn("2 secrets are accepted", said)
        self.assertIn("in the file", self.said("xmpp", "callbridge", "list", "--show-secrets"))

    def test_pages(self) -> None:
        """A long list is asked for part by part."""
        page = {"users": {"total": 2, "user": [{"userJid": "a@b", "created": "then"}]}}
        self.bridge.get("users", page)
        self.assertEqual(2, len(self.facts("callbridge", "user", "list")))
        self.assertEqual(["0", "1"], [form["offset"] for _, _, form in self.bridge.asked])

    def test_disable(self) -> None:
        """An account is closed, and opened again."""
        alice = f"alice@{DOMAIN}"
        listing = {"users": {"total": 1, "user": [{"userJid": alice, "created": "then"}]}}
        self.bridge.get("users", listing)
        self.assertIn(f"{alice} disabled", self.said("callbridge", "user", "disable", "alice"))
        self.assertFalse(self.facts("callbridge", "user", "enable", "alice")["disabled"])
        self.refused("callbridge", "user", "enable", "bob", status=1)
        one = f"/api/v1/users/alice%40{DOMAIN}"
        asked = [("PUT", one, {"disabled": word}) for word in ("true", "false")]
        self.assertEqual(asked, self.bridge.changes())

    def test_users(self) -> None:
        """Each command asks for what the API has."""
        alice = f"alice@{DOMAIN}"
        listing = {"users": {"total": 1, "user": [{"userJid": alice, "created": "then"}]}}
        self.bridge.get("users", listing)
        arguments = ("callbridge", "user")
        self.said(*arguments, "add", "bob", "--password-stdin", text="b")
        self.said(*arguments, "add", "alice", "--password-stdin", text="c")
        self.said(*arguments, "passwd", alice, "--password-stdin", text="d")
        self.said(*arguments, "del", "alice")
        self.refused(*arguments, "passwd", "bob", "--password-stdin", status=1, text="e")
        self.refused(*arguments, "del", "bob", status=1)
        one = f"/api/v1/users/alice%40{DOMAIN}"
        self.assertEqual(
            [
                ("POST", "/api/v1/users", {"userJid": f"bob@{DOMAIN}", "password": "b"}),
                ("PUT", one, {"password": "c"}),
                ("PUT", one, {"password": "d"}),
                ("DELETE", one, {}),
            ],
            self.bridge.changes(),
        )

    def test_refused(self) -> None:
        """A refusal is told in the daemon's words."""
        details = {"reason": "callBridgeAlreadyExists", "cause": "it is there", "cure": "Rotate."}
        self.server.answers["POST", "/api/v1/callBridges"] = 400, {"failureDetails": details}
        said = self.refused("xmpp", "callbridge", "add", "cb1", status=1)
        self.assertEqual(
            "Error: it is there. Cure: cms xmpp callbridge rotate changes its secret.", said
        )

    def test_cures(self) -> None:
        """A person at the command line is told of commands, not of the API's methods."""
        for reason, cure in (
            ("callBridgeDoesNotExist", "cms xmpp callbridge list shows them."),
            ("notFound", "Bring the command and the daemon to the same version."),
            ("busy", "Try again."),
        ):
            given = "Try again." if reason == "busy" else "GET it, or PUT it."
            details = {"reason": reason, "cause": "no", "cure": given}
            self.server.answers["DELETE", "/api/v1/callBridges/cb1"] = (
                400,
                {"failureDetails": details},
            )
            said = self.refused("xmpp", "callbridge", "del", "cb1", status=1)
            self.assertEqual(f"Error: no. Cure: {cure}", said)

    def test_decides_nothing(self) -> None:
        """A Callbridge that is connected and decides no log-in is not counted as if it did."""
        figures = {"callBridgesKnown": 2, "callBridgesActive": 1, "callBridgesDeciding": 0}
        self.server.get("system/status", {"status": {**STATUS, **figures, "clients": 0}})
        said = self.said("xmpp")
        self.assertIn(": 1 connected (none of them decides log-ins), 2 known\n", said)

    def test_other_role(self) -> None:
        """The file of the other role is recognised, and the right command named."""
        xmpp, callbridge = self.folder / "xmpp.toml", self.folder / "callbridge.toml"
        for arguments, file, cure in (
            (("callbridge", "user", "list"), xmpp, "cms xmpp and twistd cms-xmpp"),
            (("callbridge",), xmpp, "Give --config a callbridge.toml"),
            (("xmpp", "callbridge", "list"), callbridge, "twistd cms-callbridge"),
            (("xmpp",), callbridge, "Give --config an xmpp.toml"),
        ):
            said = self.refused(*arguments, "--config", str(file), status=2)
            self.assertIn(f"{file} is the configuration of ", said)
            self.assertIn(cure, said)

    def test_nonsense(self) -> None:
        """What is no daemon of ours is told of."""
        for answer in ((200, b"<html>"), (502, b""), (500, {"failureDetails": "?"})):
            self.server.answers["GET", "/api/v1/callBridges"] = answer
            said = self.refused("xmpp", "callbridge", "list", status=1)
            self.assertIn("does not answer", said)
        self.server.answers["GET", "/healthz"] = 200, b"ok"
        self.assertIn("does not answer", self.refused("xmpp", status=1))


class SocketTests(CommandLineTests):
    """The socket of a daemon that is in a bad way."""

    def test_stale(self) -> None:
        """A socket that nobody listens on is a daemon that is stopped."""
        (self.folder / "xmpp").mkdir()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.folder / "xmpp" / "admin.sock"))
        self.assertIn("no XMPP server runs on it", self.said("xmpp"))

    def test_silent(self) -> None:
        """One that does not answer in time is an error."""
        (self.folder / "xmpp").mkdir()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(self.folder / "xmpp" / "admin.sock"))
            silent.listen()
            with patch("cms.control.daemon.TIMEOUT", 0.05):
                self.assertIn("timed out", self.refused("xmpp", status=1))

    def test_forbidden(self) -> None:
        """Whoever may not ask is told who may."""
        forbidden = PermissionError(13, "Permission denied")
        with patch("cms.control.place.os.open", side_effect=forbidden):
            self.assertIn("user of the daemon", self.refused("xmpp", status=2))


def fault_of(facts: dict[str, Any]) -> str:
    """The name of the problem that is told."""
    return str(facts["problem"]["fault"])


class UserTests(CommandLineTests):
    """C{cms callbridge user} on the state directory."""

    def test_life(self) -> None:
        """Added, listed, changed, deleted."""
        user, alice = ("callbridge", "user"), f"alice@{DOMAIN}"
        said = self.said(*user, "add", "alice", text="pw\npw\n")
        self.assertIn(f"{alice} added\n", said)
        self.assertIn("no Callbridge runs on it", said)
        change = self.facts(*user, "passwd", alice, "--password-stdin", text="other\n")
        self.assertEqual((alice, False), (change["userJid"], change["new"]))
        self.assertEqual((0, "sessions-later"), (change["sessionsEnded"], fault_of(change)))
        said = self.said(*user, "disable", "alice")
        self.assertIn(f"{alice} disabled\n", said)
        self.assertIn("no Callbridge runs on this state directory. Cure: Bring the link up", said)
        self.assertIn("  disabled", self.said(*user, "list"))
        self.said(*user, "enable", "alice")
        (listed,) = self.facts(*user, "list")
        self.assertEqual((alice, False), (listed["userJid"], listed["disabled"]))
        self.assertIn(f"{alice}  since", self.said(*user, "list"))
        deleted = self.facts(*user, "del", "alice")
        self.assertEqual((alice, True), (deleted["userJid"], deleted["deleted"]))
        self.assertEqual("sessions-later", fault_of(deleted))
        self.assertIn("no user", self.refused(*user, "del", "alice", status=1))
        self.assertIn("no user", self.refused(*user, "passwd", "alice", status=1))

    def test_elsewhere(self) -> None:
        """Of a user of another directory it is said where he is changed."""
        self.said("callbridge", "user", "add", "bob", "--password-stdin", text="x")
        disable = ("callbridge", "user", "disable")
        self.assertIn("no user alice", self.refused(*disable, "alice", status=1))
        store = SyncStore(self.folder / "callbridge")
        store.remember("ad", SyncedUser("alice", "uid=alice,dc=x", "Alice"))
        line = self.refused(*disable, "Alice", status=1)
        self.assertIn("is no local user, and one of the directory ad. Cure: change him", line)
        self.assertIn("no user eve", self.refused(*disable, "eve", status=1))

    def test_namesakes(self) -> None:
        """Who is added although another directory has the name, or where no local user logs in."""
        file = self.folder / "callbridge.toml"
        ldap = (
            '[[directory]]\nkind = "ldap"\nname = "ad"\nservers = ["ldaps://a"]\nbase = "dc=x"\n'
            'jidMapping = "$uid$@meet.example.com"\n'
        )
        local, text = '[[directory]]\nkind = "local"\n', file.read_text()
        store = SyncStore(self.folder / "callbridge")
        self.said("callbridge", "user", "add", "eve", "--password-stdin", text="x")
        for name in ("alice", "bob"):
            store.remember("ad", SyncedUser(name, f"uid={name},dc=x", name))
        (self.folder / "new.csv").write_text("name,password\nbob,x\ncarol,x\n")
        only = f'no [[directory]] has kind = "local". Cure: add one to {file}.'
        for directories, expected in (
            ("", "too, and comes after the local store: the local passwords count"),
            (local + ldap, "too, and comes after the local store: the local passwords count"),
            (ldap + local, "too, and comes before the local store: its passwords count"),
            (ldap, None),
        ):
            file.write_text(text + directories)
            add = self.said("callbridge", "user", "add", "alice", "--password-stdin", text="x")
            taken = self.said(
                *("callbridge", "user", "import", "--existing", "keep"),
                str(self.folder / "new.csv"),
            )
            self.said("callbridge", "user", "del", "alice")
            for said, name in ((add, "alice"), (taken, "bob")):
                told = only if expected is None else f"the directory ad has {name} {expected}"
                self.assertIn(told, said)
            self.assertNotIn("carol too", taken)
        file.write_text(text)
        said = self.said("callbridge", "user", "add", "frank", "--password-stdin", text="x")
        self.assertNotIn("too, and", said)

    def test_input(self) -> None:
        """What is no text, or no line, on standard input."""
        passwd = ("callbridge", "user", "add", "bob", "--password-stdin")
        long = self.refused(*passwd, status=1, text="x" * 100_000)
        self.assertIn("the line has more than 65536 characters", long)
        result = CliRunner().invoke(main, passwd, input=b"\xff\xfe\n", env=self.environment)
        self.assertIn("standard input is not UTF-8. Cure: write it in", result.stderr)
        self.assertEqual(1, result.exit_code)

    def test_name(self) -> None:
        """A name for people: at the start, changed, and taken away; with a daemon by it."""
        user, alice = ("callbridge", "user"), f"alice@{DOMAIN}"
        self.said(*user, "add", "alice", "--name", "Alice", "--password-stdin", text="x\n")
        self.assertIn(f'{alice}  "Alice"  since', self.said(*user, "list"))
        self.said(*user, "add", "alice", "--name", "A.", "--password-stdin", text="y\n")
        self.assertIn("is called Alice L.", self.said(*user, "name", "alice", "Alice L."))
        self.assertEqual("Alice L.", self.facts(*user, "list")[0]["displayName"])
        self.assertIn("no name for people", self.said(*user, "name", "alice"))
        self.assertEqual("", self.facts(*user, "list")[0]["displayName"])
        self.assertIn("no user", self.refused(*user, "name", "bob", "B", status=1))
        daemon = FakeDaemon(self, self.folder / "callbridge")
        daemon.get("users", {"users": {"total": 1, "user": [{"userJid": alice}]}})
        self.said(*user, "name", "alice", "A")
        self.said(*user, "add", "bob", "--name", "B", "--password-stdin", text="x\n")
        forms = [form for _, _, form in daemon.changes()]
        self.assertEqual("A", forms[0]["displayName"])
        self.assertEqual("B", forms[1]["displayName"])

    def test_not_of_this_domain(self) -> None:
        """An address of another domain is usage."""
        self.cms("callbridge", "user", "add", "alice@example.org", status=2)


class KeyTests(CommandLineTests):
    """C{cms pki}."""

    OPTIONS = ("--domain", DOMAIN, "--hostname", "localhost")

    def test_trial(self) -> None:
        """Certificates of a CA, keys for their owner alone, and nothing is overwritten."""
        folder = self.folder / "tls"
        self.said("pki", "trial", str(folder), *self.OPTIONS, "--callbridge", "cb1")
        self.assertEqual(
            {"ca.pem", "xmpp.crt", "xmpp.key", "cb1.crt", "cb1.key"},
            {path.name for path in folder.iterdir()},
        )
        for key in folder.glob("*.key"):
            self.assertEqual(0o600, stat.S_IMODE(key.stat().st_mode))
        self.assertEqual([DOMAIN, "localhost"], self.names(folder / "xmpp.crt"))
        self.assertEqual([f"cb1.{DOMAIN}", "localhost"], self.names(folder / "cb1.crt"))
        self.refused("pki", "trial", str(folder), *self.OPTIONS, status=1)

    @staticmethod
    def names(file: Path) -> list[str]:
        """The DNS names of a certificate."""
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return san.value.get_values_for_type(x509.DNSName)

    def test_request(self) -> None:
        """A request that names both."""
        self.said("pki", "csr", str(self.folder / "new"), *self.OPTIONS)
        request = x509.load_pem_x509_csr((self.folder / "new.csr").read_bytes())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([DOMAIN, "localhost"], names.get_values_for_type(x509.DNSName))
        self.assertTrue(request.is_signature_valid)

    def test_attributes(self) -> None:
        """Names as the original takes them, each once; no name at all is usage."""
        given = (f"CN:{DOMAIN}", f"subjectAltName:localhost,{DOMAIN},xmpp2.example.com")
        self.said("pki", "csr", str(self.folder / "new"), *given)
        request = x509.load_pem_x509_csr((self.folder / "new.csr").read_bytes())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        expected = [DOMAIN, "localhost", "xmpp2.example.com"]
        self.assertEqual(expected, names.get_values_for_type(x509.DNSName))
        self.assertIn("leave it out", self.refused("pki", "csr", "x", "O:Us", *given, status=2))
        self.cms("pki", "csr", str(self.folder / "x"), "--domain", DOMAIN, status=2)
        self.cms("pki", "csr", str(self.folder / "x"), "CN:a b", status=2)

    def test_refused(self) -> None:
        """No domain, or no place to write."""
        bad = ("--domain", "a b", "--hostname", "localhost")
        self.cms("pki", "trial", str(self.folder / "x"), *bad, status=2)
        file = str(self.write("file", "") / "below")
        self.cms("pki", "trial", file, *self.OPTIONS, status=2)


class SecretFileTests(CommandLineTests):
    """C{--secret-file}."""

    def test_written(self) -> None:
        """The secret is in the file, and not printed."""
        file = self.folder / "cb1.secret"
        add = ("xmpp", "callbridge", "add", "cb1", "--secret-file", str(file))
        said = self.said(*add)
        self.assertNotIn(file.read_text().strip(), said)
        self.assertRegex(file.read_text(), r"^[A-Za-z0-9]{24}\n$")
        self.assertEqual(0o600, stat.S_IMODE(file.stat().st_mode))
        self.assertIn("exists", self.refused(*add, status=1))
        before = file.read_text()
        self.said("xmpp", "callbridge", "rotate", "cb1", "--secret-file", str(file))
        self.assertNotEqual(before, file.read_text())

    def test_not_written(self) -> None:
        """A secret that cannot be written is not lost."""
        file = str(self.folder / "nowhere" / "x")
        said = self.said("xmpp", "callbridge", "add", "cb1", "--secret-file", file)
        self.assertRegex(said, r"Secret +: [A-Za-z0-9]{24}\n")


class LoginTests(CommandLineTests):
    """C{cms login}, as far as no server is needed."""

    def test_arguments(self) -> None:
        """What is no user and no place is usage."""
        for arguments in (
            (DOMAIN,),
            ("alice@",),
            (f"alice@{DOMAIN}/x",),
            (f"alice@{DOMAIN}", "--server", "localhost:x"),
            (f"alice@{DOMAIN}", "--trust", "/nonexistent"),
        ):
            self.cms("login", *arguments, "--password-stdin", status=2, text="x")
        self.assertEqual(("alice", DOMAIN), _split(f"Alice@{DOMAIN}"))
        self.assertEqual(("::1", 5222), _place("[::1]"))
        self.assertEqual(("::1", 99), _place("[::1]:99"))

    def test_cures(self) -> None:
        """What ends a log-in is told with what mends it at this command, and nothing else."""
        words = str(TooManyGuesses(300.0))
        slowed = LoginFailed("temporary-auth-failure", words, faults.LOGIN_SLOWED.name)
        for outcome, said in (
            (LoginFailed("host-unknown"), "did not succeed: host-unknown. Cure: see the domain"),
            (LoginFailed("connection-lost", "It ended."), ": It ended. Cure: see --server"),
            (ConnectError(), "Cure: start the server"),
            (slowed, "refused for 300 s. Cure: wait that long, or cms callbridge lock clear"),
            (
                LoginFailed("temporary-auth-failure", words),
                "Ask cms log --user on that Callbridge's host",
            ),
            (LoginFailed("account-disabled"), "cms callbridge user enable"),
            (LoginFailed("not-authorized"), "cms log --user on"),
            (LoginFailed("remote-connection-failed"), "cms status on the server's host"),
        ):
            self.assertIn(said, _complaint(outcome, "localhost port 5222"))

    def test_untrusted(self) -> None:
        """The CA is given by --trust here; there is no file with a tls.trust."""
        seen = {"peer": "p", "subject": "s", "issuer": "i", "problem": "x", "at": "a"}
        seen |= {"not_after": "n", "fingerprint": "f"}
        for fault in (
            *(faults.CERTIFICATE_UNTRUSTED, faults.CERTIFICATE_ROOT_UNTRUSTED),
            *(faults.CERTIFICATE_SELF_SIGNED, faults.TRUST_OTHER_KEY, faults.TRUST_EXPIRED),
        ):
            said = _complaint(fault.error(**seen), "x")
            self.assertIn(" Cure: give the CA's certificate with --trust FILE", said)
        other = faults.CERTIFICATE_EXPIRED.error(**seen)
        self.assertTrue(_complaint(other, "x").endswith(other.cure))


class ManualTests(SynchronousTestCase):
    """Manual pages, F{docs/commands.md} and completion."""

    def test_documentation(self) -> None:
        """F{docs/commands.md} says what C{--help} says."""
        written = (ROOT / "docs" / "commands.md").read_text()
        self.assertEqual(markdown_text(main), written, "run: cms man --markdown")

    def test_every_command(self) -> None:
        """Each command and group has a page, and each option is on it."""
        written = pages(main)
        self.assertTrue({f"cms-{command.name}.1" for command in COMMANDS} <= written.keys())
        for context in walk(main):
            page = written[context.command_path.replace(" ", "-") + ".1"]
            for parameter in context.command.params:
                if isinstance(parameter, click.Option):
                    self.assertIn(parameter.opts[0].replace("-", "\\-"), page)
            self.assertRegex(page, r"\.SH NAME\n\S+ \\- \S")

    def test_no_stray_requests(self) -> None:
        """Each line that begins with a dot is a request that was meant."""
        known = re.compile(r"\.(TH|SH|TP|PP|nf|fi)\b")
        for name, page in pages(main).items():
            for line in page.splitlines():
                if line.startswith((".", "'")):
                    self.assertRegex(line, known, name)

    def test_every_command_has_help(self) -> None:
        """And each option too."""
        for context in walk(main):
            self.assertTrue(context.command.help, context.command_path)
            for parameter in context.command.params:
                if isinstance(parameter, click.Option):
                    self.assertTrue(parameter.help, f"{context.command_path} {parameter.name}")

    def test_json_everywhere(self) -> None:
        """Whatever shows or changes something can do so for machines."""
        without = {"cms", "cms xmpp callbridge", "cms callbridge user", "cms completion"}
        without |= {
            "cms xmpp lock",
            "cms callbridge lock",
            "cms callbridge directory",
            "cms xmpp client",
            "cms xmpp contacts",
            "cms callbridge space",
            "cms callbridge space member",
        }
        without |= {f"cms xmpp cluster{more}" for more in ("", " join", " remove")}
        without |= {"cms dns", "cms demo", "cms man", "cms pki", "cms pki csr", "cms pki trial"}
        for context in walk(main):
            has = any("--json" in parameter.opts for parameter in context.command.params)
            self.assertEqual(context.command_path not in without, has, context.command_path)


class CompletionTests(CommandLineTests):
    """What shells are given."""

    def test_shells(self) -> None:
        """A script for each."""
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("_CMS_COMPLETE", self.said("completion", shell))
        self.cms("completion", "csh", status=2)

    def test_man(self) -> None:
        """Pages are written to a folder; either that or Markdown."""
        self.said("man", "--directory", str(self.folder / "man1"))
        self.assertTrue((self.folder / "man1" / "cms-xmpp-callbridge-add.1").is_file())
        self.assertIn("## cms xmpp", self.said("man", "--markdown"))
        self.cms("man", status=2)
        file = self.write("file", "") / "below"
        self.cms("man", "--directory", str(file), status=2)

    def test_when(self) -> None:
        """Times are in UTC."""
        self.assertEqual("1970-01-01T00:00:01Z", when(1.0))
        self.assertIsNone(when(None))


class LogTests(CommandLineTests):
    """C{cms log}."""

    def setUp(self) -> None:
        """Alice's log-in failed an hour ago, and somebody else's."""
        super().setUp()
        now = time.time()
        files = Files(self.folder / "callbridge", 14, 1_048_576)
        (self.folder / "callbridge").mkdir(exist_ok=True)
        base = {"kind": "login", "by": "callbridge", "result": "not-authorized", "peer": "::1"}
        wrong = {**base, "at": now - 3_600, "user": "alice", "reason": "wrong-password"}
        nobody = {**base, "at": now - 60, "user": "h… (7 characters)", "reason": "no-such-user"}
        old = {**wrong, "at": now - 200_000, "login": "5c1d0e8f7a2b"}
        files.write([("users", old), ("users", wrong), ("strangers", nobody)], now)

    def test_user(self) -> None:
        """By name; also a name that nobody has, by what is kept of it."""
        said = self.said("log", "--user", f"alice@{DOMAIN}")
        self.assertIn("Callbridge: log-in of alice from ::1 failed: the password is wrong\n", said)
        self.assertNotIn("no such user", said)
        said = self.said("log", "--user", "hunter2")
        self.assertIn("log-in of h… (7 characters) from ::1 failed: there is no such user", said)

    def test_more(self) -> None:
        """By time and by log-in, and as JSON."""
        self.assertEqual(2, len(self.said("log").splitlines()) - 1)
        lines = self.cms("log", "--since", "7d", "--login", "5c1d0e8f7a2b", "--json").stdout
        (entry,) = [json.loads(line) for line in lines.splitlines()]
        self.assertEqual("alice", entry["user"])
        self.assertIn("it is no time", self.cms("log", "--since", "soon", status=2).stderr)
        self.assertEqual("", self.cms("log", "--attempt", "x").stdout)
