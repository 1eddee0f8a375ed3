"""F{callbridge.toml}: steps 2 and 3."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import CallbridgeConfig, Timing, read_config
from cms.discovery.address import ServerAddress

LEAST = {"unique_name": '"cb1"', "domain": '"meet.example.com"', "shared_secret": '"s3cret"'}


class ConfigTests(SynchronousTestCase):
    """The whole file."""

    def setUp(self) -> None:
        """A folder of its own."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def read(self, tables: str = "", **keys: str | None) -> CallbridgeConfig:
        """The least file that is enough, with changes."""
        values = LEAST | keys
        lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
        file = self.folder / "callbridge.toml"
        file.write_text("\n".join([*lines, tables]), "utf-8")
        return read_config(file)

    def refused(self, key: str, tables: str = "", **keys: str | None) -> faults.ConfigurationError:
        """It is refused, and the complaint names this key."""
        error: faults.ConfigurationError = self.assertRaises(
            faults.ConfigurationError, self.read, tables, **keys
        )
        self.assertIn(f"callbridge.toml: {key}: ", error.cause)
        self.assertNotIn("..", error.cause.replace(str(self.folder), ""))
        self.assertNotIn("s3cret", str(error))
        return error

    def test_least(self) -> None:
        """Name, domain and secret are enough; the rest has sane values."""
        config = self.read()
        self.assertEqual("cb1.meet.example.com", config.link.component)
        self.assertEqual("meet.example.com", config.link.domain)
        self.assertEqual("s3cret", config.link.secret.value)
        self.assertIsNone(config.link.server)
        self.assertFalse(config.link.unprotected)
        self.assertFalse(config.allow_guests)
        self.assertEqual(Timing(), config.timing)
        self.assertEqual(self.folder / "state", config.state_dir)
        self.assertEqual(
            (None, None, None), (config.tls.trust, config.tls.certificate, config.tls.key)
        )
        self.assertEqual((), config.warnings)

    def test_forbidden(self) -> None:
        """Who may not read the secret is told as whom to come, and not to open the file to all."""
        wanted: dict[str, Any] = {"shared_secret": None, "shared_secret_file": '"cb1.secret"'}
        missing = self.refused("shared_secret_file", **wanted)
        self.assertEqual("Name a file that this user can read", missing.cure[:35])
        with patch("cms.configuration.kinds.read_secret", side_effect=PermissionError(13, "no")):
            forbidden = self.refused("shared_secret_file", **wanted)
        self.assertEqual("Run it as the user of the daemon, or as root", forbidden.cure[:44])

    def test_contract(self) -> None:
        """Every key of the contract is read."""
        (self.folder / "cb1.secret").write_text("other\n")
        config = self.read(
            '[tls]\ntrust = "ca.pem"\ncertificate = "cb1.crt"\nkey = "/k/cb1.key"\n'
            '[dns]\nservers = ["127.0.0.1:5353", "192.0.2.53"]\n'
            '[listen]\napi = ["tcp:445:interface=127.0.0.1"]\n'
            "[link]\nping_interval = 1\nstable = 5.5\n",
            shared_secret=None,
            shared_secret_file='"cb1.secret"',
            server_address='"xmpp1.example.com:5555"',
            state_dir='"/var/lib/cms-callbridge"',
            component_address='"Other.Example.com"',
            allow_guests="true",
        )
        self.assertEqual("other", config.link.secret.value)
        self.assertEqual(ServerAddress("xmpp1.example.com", 5555, is_ip=False), config.link.server)
        self.assertEqual("other.example.com", config.link.component)
        self.assertEqual(self.folder / "ca.pem", config.tls.trust)
        self.assertEqual(self.folder / "cb1.crt", config.tls.certificate)
        self.assertEqual(Path("/k/cb1.key"), config.tls.key)
        self.assertEqual(Path("/var/lib/cms-callbridge"), config.state_dir)
        self.assertEqual((("127.0.0.1", 5353), ("192.0.2.53", 53)), config.dns.servers)
        self.assertEqual(("tcp:445:interface=127.0.0.1",), config.listen.api)
        self.assertEqual((1.0, 5.5), (config.timing.ping_interval, config.timing.stable))
        self.assertTrue(config.allow_guests)

    def test_names(self) -> None:
        """A unique name has no domain part and is prepared."""
        self.assertEqual("cb1", self.read(unique_name='" CB1 "').unique_name)
        for name in ("", "cb1.meet", "a@b", "a/b", "a b", "-a", "x" * 64, "a_b"):
            self.refused("unique_name", unique_name=f'"{name}"')

    def test_domains(self) -> None:
        """A domain may be written as it is read, and goes out as A-labels."""
        config = self.read(domain='"Bücher.example"')
        self.assertEqual("bücher.example", config.link.domain)
        self.assertEqual("xn--bcher-kva.example", config.link.ascii_domain)
        for domain in ("", "a@b.example", "b.example/r", "192.0.2.300"):
            self.refused("domain", domain=f'"{domain}"')

    def test_component_address(self) -> None:
        """The address to register is a domain, with no user or resource."""
        for address in ("cb1@meet.example.com", "cb1.meet.example.com/x", "a b"):
            self.refused("component_address", component_address=f'"{address}"')

    def test_bad_server_address(self) -> None:
        """An address that cannot be read stops the start, with the forms that can."""
        error = self.refused("server_address", server_address='"host:port"')
        self.assertIn("host:port", error.cure)

    def test_required(self) -> None:
        """What must be there is asked for by name."""
        for key in LEAST:
            without: dict[str, Any] = {key: None}
            self.refused(key, **without)

    def test_unknown_keys(self) -> None:
        """A misspelt key is named, in every table."""
        self.refused("domian", domian='"x"')
        for table in ("tls", "dns", "listen", "link"):
            self.refused(f"{table}.x", f"[{table}]\nx = 1")

    def test_bounds(self) -> None:
        """Times are numbers within bounds."""
        for value in ("0", "-1", "4000", '"8"', "true", "nan"):
            self.refused("link.ping_interval", f"[link]\nping_interval = {value}")

    def test_dns_servers(self) -> None:
        """A DNS server is an address, with or without a port."""
        self.refused("dns.servers", '[dns]\nservers = ["ns.example.com"]')
        self.refused("dns.servers", '[dns]\nservers = "192.0.2.53"')

    def test_unprotected(self) -> None:
        """A link without TLS must be asked for, and is warned of."""
        config = self.read("[tls]\nunprotected = true")
        self.assertTrue(config.link.unprotected)
        self.assertIn("NO TLS", config.warnings[0])

    def test_secret_is_not_shown(self) -> None:
        """The configuration can be logged."""
        self.assertNotIn("s3cret", repr(self.read()))

    def test_silence_is_noticed_in_time(self) -> None:
        """With the defaults, a link that died is noticed in under 30 s."""
        timing = Timing()
        self.assertLess(2 * timing.ping_interval + timing.ping_timeout, 30)
