"""C{cms xmpp}."""

from __future__ import annotations

import errno
import grp
import re
import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cms.commands import sockets
from cms.commands.certificates import closed
from cms.process.endpoints import expand
from cms.process.endpointstrings import parse_endpoint
from cms.trust.issue import CertificateAuthority
from peers.pki import RSA_PSS, Authority, Validity, pem
from tests.commandline import DOMAIN, HOSTNAME, ISSUED, CommandLineTests
from tests.fakedaemon import FakeDaemon

SECRET = re.compile(r"^Secret     : ([A-Za-z0-9]{24})$", re.MULTILINE)


class StoppedTests(CommandLineTests):
    """C{cms xmpp callbridge} on the state directory."""

    def add(self, name: str = "cb1") -> str:
        """Add one; its secret."""
        found = SECRET.search(self.said("xmpp", "callbridge", "add", name))
        assert found is not None
        return found[1]

    def secrets(self, name: str = "cb1") -> list[str]:
        """What is accepted for a name."""
        listed = self.facts("xmpp", "callbridge", "list", "--show-secrets")
        (secrets,) = [facts["secretValues"] for facts in listed if facts["name"] == name]
        return list(secrets)

    def test_add(self) -> None:
        """The secret that is printed is the one that is stored; it is said where."""
        result = self.cms("xmpp", "callbridge", "add", "CB1")
        self.assertTrue(result.stdout.startswith(f"Callbridge : cb1\nDomain     : {DOMAIN}\n"))
        found = SECRET.search(result.stdout)
        assert found is not None
        self.assertEqual([found[1]], self.secrets())
        state = self.folder / "xmpp"
        said = f"cms: added in {state} (no XMPP server runs on it)\n"
        self.assertEqual(said, result.stderr)

    def test_add_json(self) -> None:
        """Standard output is JSON and nothing else."""
        self.assertNotIn("is not within", self.said("xmpp", "callbridge", "add", "cb9"))
        said = self.said("xmpp", "callbridge", "add", "cb9.office.example.com")
        self.assertIn(f"cb9.office.example.com is not within {DOMAIN}, so it will not be", said)
        made = self.facts("xmpp", "callbridge", "add", "cb1")
        self.assertEqual({"callbridge": "cb1", "domain": DOMAIN, "secret": self.secrets()[0]}, made)

    def test_add_twice(self) -> None:
        """Each name once, those of the file included."""
        self.add()
        for name in ("cb1", f"cb1.{DOMAIN}", "fixed"):
            self.assertIn("already", self.refused("xmpp", "callbridge", "add", name, status=1))

    def test_bad_name(self) -> None:
        """A name that makes no address is usage."""
        for command in ("add", "add-secret", "del", "rotate"):
            said = self.refused("xmpp", "callbridge", command, "cb1@x", status=2)
            self.assertIn("without a domain part", said)

    def test_add_secret(self) -> None:
        """A secret of somebody else is taken from standard input or asked for, and not shown."""
        given = "RlTmSh4smhLYguGpAb1"
        said = self.said("xmpp", "callbridge", "add-secret", "a", "--secret-stdin", text=given)
        asked = self.said("xmpp", "callbridge", "add-secret", "b", text=f"{given}\n{given}\n")
        self.assertNotIn(given, said + asked)
        self.assertIn("Enter callbridge secret", asked)
        self.assertEqual([[given], [given]], [self.secrets("a"), self.secrets("b")])

    def test_bad_secret(self) -> None:
        """One that is too short is refused, and not quoted."""
        arguments = ("xmpp", "callbridge", "add-secret", "cb1", "--secret-stdin")
        said = self.said(*arguments, status=2, text="sh0rt\n")
        self.assertNotIn("sh0rt", said)

    def test_list(self) -> None:
        """In the manner of the original, but for the secrets."""
        secret = self.add()
        said = self.said("xmpp", "callbridge", "list")
        self.assertIn("***\nCallbridge : cb1\nDomain     : meet.example.com\nSecret", said)
        self.assertNotIn(secret, said)
        self.assertNotIn("in the file", said)
        shown = self.said("xmpp", "callbridge", "list", "--show-secrets")
        self.assertIn(f"Secret     : {secret}\n", shown)
        self.assertIn("in the file", shown)
        self.assertNotIn(secret, str(self.facts("xmpp", "callbridge", "list")))

    def test_rotate(self) -> None:
        """Old and new are accepted, or with no overlap the new one alone."""
        old = self.add()
        found = SECRET.search(self.said("xmpp", "callbridge", "rotate", "cb1"))
        assert found is not None
        self.assertEqual([found[1], old], self.secrets())
        last = self.facts("xmpp", "callbridge", "rotate", "cb1", "--overlap", "0")["secret"]
        self.assertEqual([last], self.secrets())
        self.said("xmpp", "callbridge", "rotate", "cb1", "--secret-stdin", text="somebody's own")
        self.assertEqual(["somebody's own", last], self.secrets())

    def test_delete(self) -> None:
        """It is gone."""
        self.add()
        self.assertIn("cb1 deleted", self.said("xmpp", "callbridge", "del", "cb1"))
        for command in ("del", "rotate"):
            said = self.refused("xmpp", "callbridge", command, "cb1", status=1)
            self.assertIn("no Callbridge cb1", said)

    def test_fixed(self) -> None:
        """Those of the file are changed there."""
        for command in ("del", "rotate"):
            said = self.refused("xmpp", "callbridge", command, "fixed", status=1)
            self.assertIn("xmpp.toml", said)

    def test_no_state(self) -> None:
        """A state directory that cannot be used is named."""
        (self.folder / "xmpp").mkdir()
        (self.folder / "xmpp" / "callbridges.sqlite3").write_text("no database" * 100)
        said = self.said("xmpp", "callbridge", "add", "cb1", status=2)
        self.assertIn("callbridges.sqlite3 is damaged: file is not a database", said)

    def test_others_state(self) -> None:
        """Root leaves no files in a state directory of somebody else."""
        (self.folder / "xmpp").mkdir()
        owner = type("Stat", (), {"st_uid": 65534})
        with (
            patch("cms.commands.common.os.geteuid", return_value=0),
            patch("pathlib.Path.stat", return_value=owner()),
        ):
            said = self.refused(
                "xmpp",
                "callbridge",
                "add",
                "cb1",
                "--config",
                str(self.folder / "xmpp.toml"),
                status=2,
            )
        self.assertIn("sudo -u", said)


class ShowTests(CommandLineTests):
    """C{cms xmpp}, C{domain}, C{listen} and C{certs}."""

    def with_tls(self, *names: str, **more: Any) -> None:
        """Certificates, and a listener that needs them."""
        issued = ISSUED.issue(DOMAIN, names or (DOMAIN, HOSTNAME), **more)
        self.write("xmpp.crt", issued.certificate)
        self.write("xmpp.key", issued.key).chmod(0o600)
        self.write("ca.pem", ISSUED.certificate)
        self.write(
            "xmpp.toml",
            f"""
            domain = "{DOMAIN}"
            hostname = "{HOSTNAME}"
            state_dir = "xmpp"
            [tls]
            certificate = "xmpp.crt"
            key = "xmpp.key"
            trust = "ca.pem"
            [listen]
            component = ["tcp:5223"]
            client = ["tcp:5222"]
            """,
        )

    def test_configuration(self) -> None:
        """Aligned lines, or JSON; without a daemon too."""
        said = self.said("xmpp")
        self.assertIn("Running                 : false\n", said)
        self.assertIn(f"Hostname                : {HOSTNAME}\n", said)
        facts = self.facts("xmpp")
        self.assertEqual((False, DOMAIN), (facts["running"], facts["domain"]))

    def test_domain(self) -> None:
        """The names, the records that DNS should have, and the certificate."""
        self.with_tls()
        facts = self.facts("xmpp", "domain")
        record = f"_xmpp-component._tcp.{DOMAIN}. IN SRV 10 10 5223 {HOSTNAME}."
        self.assertEqual([record], facts["callbridgeSRV"])
        self.assertEqual(["ok"], [finding["state"] for finding in facts["findings"]])

    def test_domain_not_named(self) -> None:
        """A certificate that lacks a name is wrong."""
        self.with_tls(HOSTNAME)
        said = self.said("xmpp", "domain", status=1)
        self.assertIn(f"not the XMPP domain {DOMAIN}", said)
        self.assertIn("Cure: ", said)

    def test_certs(self) -> None:
        """A certificate without fault."""
        self.with_tls()
        facts = self.facts("xmpp", "certs")
        self.assertEqual([f"DNS:{DOMAIN}", f"DNS:{HOSTNAME}"], facts["names"])
        self.assertEqual({"ok"}, {finding["state"] for finding in facts["findings"]})

    def test_bad_certs(self) -> None:
        """Each fault is told, with a cure and status 1; what is only a warning with status 0."""
        day, now = timedelta(days=1), datetime.now(UTC)
        for words, status, more in (
            ("expired on", 1, {"not_before": now - 9 * day, "not_after": now - day}),
            ("is not valid before", 1, {"not_before": now + day}),
            ("expires in", 0, {"not_after": now + 5 * day}),
        ):
            self.with_tls(**more)
            said = self.said("xmpp", "certs", status=status)
            self.assertIn(words, said)
            self.assertIn("Cure: ", said)

    def test_certs_by_others(self) -> None:
        """Faults in the files themselves."""
        self.with_tls()
        (self.folder / "xmpp.key").chmod(0o644)
        self.assertIn("can be read by other users", self.said("xmpp", "certs"))
        self.write("xmpp.key", ISSUED.issue("other", ["other"]).key)
        self.assertIn("does not fit", self.said("xmpp", "certs", status=1))
        (self.folder / "xmpp.crt").unlink()
        self.assertIn("xmpp.crt", self.said("xmpp", "certs", status=1))
        self.assertIn("xmpp.crt", self.said("xmpp", "domain", status=1))

    def test_key_of_the_units(self) -> None:
        """A key as the systemd units want it, 0640 with the daemon's group, is right."""
        self.with_tls()
        key = self.folder / "xmpp.key"
        for mode, cure in ((0o600, None), (0o640, None), (0o644, f"chmod o= {key}")):
            key.chmod(mode)
            found = self.facts("xmpp", "certs")["findings"]
            cures = [finding["cure"] for finding in found if "other users" in finding["text"]]
            self.assertEqual([cure] if cure else [], cures)

    def test_key_of_another_group(self) -> None:
        """The cure leaves the key readable for the daemon, whose the state directory is."""
        key, state = self.write("k", b""), self.folder / "state"
        state.mkdir()
        self.assertEqual(f"chmod o= {key}", closed(key, state))
        self.assertEqual(f"chmod o= {key}", closed(key, self.folder / "missing"))
        group = grp.getgrall()[0]
        theirs = SimpleNamespace(st_uid=12345, st_gid=group.gr_gid)
        mine = SimpleNamespace(st_uid=1, st_gid=54321)
        with patch("cms.commands.certificates.Path.stat", side_effect=[mine, theirs]):
            cure = closed(key, state)
        self.assertEqual(f"chgrp {group.gr_name} {key} && chmod 640 {key}", cure)

    def test_expired_copy(self) -> None:
        """An expired copy of the root beside a good path is nobody's failure."""
        root = Authority("Root")
        lower = Authority("Lower CA", root)
        copy = root.renewed(Authority("Old root"), Validity(-30, -1))
        self.with_tls()
        self.write("ca.pem", pem(root.certificate))
        leaf = lower.issue([DOMAIN, HOSTNAME])
        pair = leaf.write(self.folder, lower, copy)
        self.write("xmpp.crt", pair.certificate.read_bytes())
        self.write("xmpp.key", pair.key.read_bytes()).chmod(0o600)
        states = {finding["state"] for finding in self.facts("xmpp", "certs")["findings"]}
        self.assertEqual({"ok"}, states)

    def test_unusable(self) -> None:
        """What nobody can use is told here, too."""
        self.with_tls()
        for kind in ("crt", "key"):
            self.write(f"xmpp.{kind}", (RSA_PSS / f"never.{kind}").read_bytes())
        said = self.said("xmpp", "certs", status=1)
        self.assertIn("nobody can use", said)
        self.assertIn("saltlen", said)

    def test_certs_for_clients(self) -> None:
        """A certificate that is only for clients."""
        self.with_tls()
        only = CertificateAuthority("Other")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        with patch("cms.trust.issue.x509.ExtendedKeyUsage", return_value=usage):
            issued = only.issue(DOMAIN, [DOMAIN, HOSTNAME])
        self.write("xmpp.crt", issued.certificate)
        self.write("xmpp.key", issued.key)
        self.assertIn("not for servers", self.said("xmpp", "certs", status=1))

    def test_chain_order(self) -> None:
        """An intermediate that issued nothing."""
        self.with_tls()
        leaf = (self.folder / "xmpp.crt").read_bytes()
        self.write("xmpp.crt", leaf + ISSUED.certificate)
        self.said("xmpp", "certs")
        self.write("xmpp.crt", leaf + CertificateAuthority("Other").certificate)
        self.assertIn("did not issue", self.said("xmpp", "certs", status=1))

    def test_no_tls(self) -> None:
        """Without TLS there is nothing to check."""
        self.assertIn("no certificate", self.said("xmpp", "certs"))

    def listening(self) -> int:
        """A port that something listens on."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return int(listener.getsockname()[1])

    def listen_on(self, *descriptions: str) -> None:
        """A configuration with these listeners."""
        listed = ", ".join(f'"{d}"' for d in descriptions)
        self.write(
            "xmpp.toml",
            f'domain = "{DOMAIN}"\nhostname = "{HOSTNAME}"\nstate_dir = "xmpp"\n'
            f"[listen]\ncomponent_plain = [{listed}]\n",
        )

    def test_listen_stopped(self) -> None:
        """What is free, and what is taken."""
        port = self.listening()
        self.listen_on("tcp:0:interface=127.0.0.1", f"unix:{self.folder}/x.sock")
        self.assertEqual(2, self.said("xmpp", "listen").count(" is free."))
        self.listen_on(f"tcp:{port}:interface=127.0.0.1")
        self.assertIn("listens there already", self.said("xmpp", "listen", status=1))

    def test_listen_nowhere(self) -> None:
        """No endpoint, no such address, and no protection."""
        for description, words in (
            ("tcp:5223", "could be reached from another host"),
            ("tcp:x:interface=127.0.0.1", "is no endpoint"),
        ):
            self.listen_on(description)
            self.assertIn(words, self.said("xmpp", "listen", status=1))

    def test_no_name(self) -> None:
        """An interface whose name cannot even be looked up is told like one that is not there."""
        for name, words in (("ü" * 64, "is no interface"), ("x.invalid", "cannot be opened")):
            self.write(
                "xmpp.toml",
                f'domain = "{DOMAIN}"\nhostname = "{HOSTNAME}"\nstate_dir = "xmpp"\n'
                f'[listen]\ncomponent = ["tcp:5223:interface={name}"]\n'
                '[tls]\ncertificate = "xmpp.crt"\nkey = "xmpp.key"\n',
            )
            self.assertIn(words, self.said("xmpp", "listen", status=1))

    def test_bind_errors(self) -> None:
        """The kernel's refusals have words and cures of their own."""
        self.listen_on("tcp:443:interface=127.0.0.1")
        for number in (errno.EACCES, errno.EADDRNOTAVAIL, errno.ENETDOWN):
            with patch.object(socket.socket, "bind", side_effect=OSError(number, "no")):
                said = self.said("xmpp", "listen", status=1)
            self.assertIn("Cure: ", said)

    def test_both_families(self) -> None:
        """A port alone means both families; one of them is enough where the other is missing."""
        found = expand(parse_endpoint("tcp:5223"))
        self.assertEqual(
            [(socket.AF_INET6, ("::", 5223)), (socket.AF_INET, ("", 5223))],
            [sockets.address_of(endpoint) for endpoint in found],
        )
        self.assertEqual("ok", sockets.judge_stopped("x", ["EAFNOSUPPORT"], 2).state)
        self.assertEqual("wrong", sockets.judge_stopped("x", ["EADDRINUSE"], 2).state)


class ClientTests(CommandLineTests):
    """C{cms xmpp client}."""

    FACTS: dict[str, Any] = {
        "id": "1",
        "jid": f"alice@{DOMAIN}/phone",
        "address": "192.0.2.7:1 at two",
        "since": "2026-11-29T01:02:03.000Z",
        "callBridge": f"cb1.{DOMAIN}",
        "server": "two",
        "guest": False,
        "available": True,
    }

    def test_list(self) -> None:
        """Of everybody, or of one; with its server, if there are several."""
        daemon = FakeDaemon(self, self.folder / "xmpp")
        daemon.get("clients", {"clients": {"total": 1, "client": [self.FACTS]}})
        said = self.said("xmpp", "client", "list")
        line = f"alice@{DOMAIN}/phone  from 192.0.2.7:1 at two  since 2026-11-29T01:02:03.000Z"
        self.assertIn(f"{line}  at two\n", said)
        self.assertIn("1 session listed by the running XMPP server", said)
        self.assertEqual([self.FACTS], self.facts("xmpp", "client", "list", "alice"))
        self.assertEqual("alice", daemon.asked[-1][2]["jid"])

    def test_show(self) -> None:
        """All that is known; nobody is wrong."""
        daemon = FakeDaemon(self, self.folder / "xmpp")
        daemon.get("clients", {"clients": {"total": 1, "client": [self.FACTS]}})
        said = self.said("xmpp", "client", "show", "alice/phone")
        self.assertRegex(said, "Server +: two\n")
        self.assertEqual([self.FACTS], self.facts("xmpp", "client", "show", "alice/phone"))
        daemon.get("clients", {"clients": {"total": 0, "client": []}})
        self.assertIn("not logged in", self.refused("xmpp", "client", "show", "bob", status=1))

    def test_kick(self) -> None:
        """How many sessions have ended."""
        daemon = FakeDaemon(self, self.folder / "xmpp")
        daemon.answers["DELETE", "/api/v1/clients"] = 200, {"clients": {"ended": 2}}
        self.assertIn("2 sessions of alice ended\n", self.said("xmpp", "client", "kick", "alice"))
        self.assertEqual(("DELETE", "/api/v1/clients", {"jid": "alice"}), daemon.asked[-1])
        ended = self.facts("xmpp", "client", "kick", "alice")
        self.assertEqual({"address": "alice", "ended": 2}, ended)
        daemon.answers["DELETE", "/api/v1/clients"] = 200, {"clients": {"ended": 0}}
        self.assertIn("not logged in", self.refused("xmpp", "client", "kick", "bob", status=1))

    def test_message(self) -> None:
        """To one, or to all."""
        daemon = FakeDaemon(self, self.folder / "xmpp")
        daemon.answers["POST", "/api/v1/clientMessages"] = 200, {"clients": {"told": 1}}
        said = self.said("xmpp", "client", "message", "all", "Soon back")
        self.assertIn("1 session got it\n", said)
        self.assertEqual({"jid": "all", "text": "Soon back"}, daemon.asked[-1][2])
        self.said("xmpp", "client", "message", "alice", text="Between us\n")
        self.assertEqual({"jid": "alice", "text": "Between us"}, daemon.asked[-1][2])
        told = self.facts("xmpp", "client", "message", "alice", "x")
        self.assertEqual({"address": "alice", "told": 1}, told)
        daemon.answers["POST", "/api/v1/clientMessages"] = 200, {"clients": {"told": 0}}
        said = self.refused("xmpp", "client", "message", "all", "x", status=1)
        self.assertIn("nobody is logged in", said)

    def test_stopped(self) -> None:
        """Without a server nobody is logged in, and that is said."""
        for command in (("list",), ("show", "a"), ("kick", "a"), ("message", "all", "x")):
            said = self.refused("xmpp", "client", *command, status=1)
            self.assertIn("no XMPP server runs on ", said)

    def test_frozen(self) -> None:
        """One that does not answer in time is told of."""
        (self.folder / "xmpp").mkdir()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(self.folder / "xmpp" / "admin.sock"))
            silent.listen()
            with patch("cms.control.daemon.TIMEOUT", 0.05):
                self.assertIn("timed out", self.refused("xmpp", "client", "list", status=1))
