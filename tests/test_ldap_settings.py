"""C{[[directory]]}, and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import read_config
from cms.callbridge.ldap.mapping import Lacking, Template, escape_dn_value, parse_template
from cms.callbridge.ldap.settings import LdapSettings, LocalSettings, Settings
from tests.support import new_folder
from tests.test_xmpp_costs import calls

FILE = 'unique_name = "cb1"\ndomain = "meet.example.com"\nshared_secret = "s3cret"\n'
LEAST = {
    "kind": '"ldap"',
    "servers": '["ldaps://dc1.example.com", "ldap://[2001:db8::1]:3389/"]',
    "base": '"dc=example,dc=com"',
    "jidMapping": '"$sAMAccountName$@meet.example.com"',
}


class SettingsTests(SynchronousTestCase):
    """The tables."""

    def setUp(self) -> None:
        """A folder of its own."""
        self.file = new_folder(self) / "callbridge.toml"

    def read(self, *tables: Mapping[str, str | None]) -> tuple[Settings, ...]:
        """The directories of a file."""
        text = FILE
        for table in tables:
            lines = [f"{key} = {value}" for key, value in table.items() if value is not None]
            text += "[[directory]]\n" + "\n".join(lines) + "\n"
        self.file.write_text(text)
        self.config = read_config(self.file)
        return self.config.directories

    def ldap(self, **keys: str | None) -> LdapSettings:
        """One LDAP directory with changes."""
        (one,) = self.read(LEAST | keys)
        assert isinstance(one, LdapSettings)
        return one

    def refused(self, key: str, *tables: Mapping[str, str | None]) -> None:
        """The complaint names this key."""
        error: Any = self.assertRaises(faults.ConfigurationError, self.read, *tables)
        self.assertIn(f"callbridge.toml: {key}: ", error.cause)

    def test_none(self) -> None:
        """Without a table, the local store is what there is."""
        self.assertEqual((LocalSettings(),), self.read())

    def test_order(self) -> None:
        """They stand as they are written."""
        both = self.read({"kind": '"local"'}, LEAST)
        self.assertEqual(["local", "ldap"], [each.kind for each in both])
        both = self.read(LEAST, {"kind": '"local"'})
        self.assertEqual(["ldap", "local"], [each.kind for each in both])

    def test_servers(self) -> None:
        """The scheme says how TLS begins, and which port is meant."""
        first, second = self.ldap().servers
        self.assertEqual("ldaps://dc1.example.com:636", str(first))
        self.assertEqual("ldap://[2001:db8::1]:3389", str(second))
        self.assertEqual((True, False), (first.tls_first, second.tls_first))
        for wrong in ("dc1.example.com", "http://dc1", "ldap://", "ldap://a_b", "ldaps://dc1/dc=x"):
            self.refused("directory[1].servers", LEAST | {"servers": f'["{wrong}"]'})

    def test_by_domain(self) -> None:
        """Servers or a domain, one of them."""
        self.assertEqual((), self.ldap(servers=None, domain='"example.com"').servers)
        self.refused("directory[1].servers", LEAST | {"servers": None})
        self.refused("directory[1].domain", LEAST | {"domain": '"example.com"'})

    def test_account(self) -> None:
        """Name and password belong together; the password is read from its file."""
        Path(self.file.parent, "pw").write_text("reads\n")
        one = self.ldap(bind_name='"cn=reader"', bind_password_file='"pw"')
        assert one.bind_password is not None
        self.assertEqual("reads", one.bind_password.value)
        self.assertNotIn("reads", repr(one))
        self.refused("directory[1].bind_password_file", LEAST | {"bind_name": '"cn=reader"'})
        self.refused("directory[1].bind_name", LEAST | {"bind_password": '"x"'})
        self.refused("directory[1].bind_password", LEAST | {"bind_password": '""'})

    def test_wrong(self) -> None:
        """Each complaint names table and key."""
        for key, value in (
            ("kind", '"nis"'),
            ("filter", '"(uid=*"'),
            ("filter", f'"{"(&" * 400}(uid=a){")" * 400}"'),
            ("jidMapping", '"alice@meet.example.com"'),
            ("jidMapping", '"$uid@meet.example.com"'),
            ("jidMapping", '"$u id$@meet.example.com"'),
            ("jidMapping", '"$givenName$$sn$@meet.example.com"'),
            ("jidMapping", '"$givenName$.$sn$"'),
            ("name", '"Staff 1"'),
            ("most_removed", "1.5"),
            ("keys_attribute", '"a b"'),
            ("nonsense", "1"),
        ):
            self.refused(f"directory[1].{key}", LEAST | {key: value})
        self.refused("directory[1].kind", LEAST | {"kind": None})
        self.refused("directory[2].name", LEAST, LEAST)
        self.refused("directory[2].name", {"kind": '"local"'}, {"kind": '"local"'})
        self.refused("directory[1].name", {"kind": '"local"', "name": '"x"'})

    def test_other_domain(self) -> None:
        """Addresses of another domain than ours: it starts, and says so."""
        self.ldap()
        self.assertEqual((), self.config.warnings)
        self.ldap(jidMapping='"$uid$@example.com"')
        (warning,) = self.config.warnings
        self.assertIn("jidMapping makes addresses of example.com", warning)


class MappingTests(SynchronousTestCase):
    """C{$attribute$} in text."""

    def test_fill(self) -> None:
        """Values are put in; what lacks is named."""
        template = parse_template("$givenName$.$sn$@x")
        self.assertEqual(("givenName", "sn"), template.attributes)
        entry = {"givenname": (b"Ada", b"Augusta"), "sn": (b"King",)}
        self.assertEqual("Ada.King@x", template.fill(entry))
        for values in ((), (b"",), (b"\xff",)):
            lacking: Any = self.assertRaises(Lacking, template.fill, {**entry, "sn": values})
            self.assertEqual("sn", lacking.attribute)

    def test_ways(self) -> None:
        """An address is taken apart in each way that makes it, case aside."""
        template = parse_template("$givenName$.$sn$@x")
        ways = list(template.ways("ada.b.king@X"))
        self.assertEqual(
            [{"givenName": "ada", "sn": "b.king"}, {"givenName": "ada.b", "sn": "king"}], ways
        )
        for other in ("ada@x", "ada.king@y", ".king@x", "ada.@x", ""):
            self.assertEqual([], list(template.ways(other)), other)
        self.assertEqual([{"uid": "ab"}], list(parse_template("$uid$-$uid$").ways("ab-ab")))
        self.assertEqual([], list(parse_template("$uid$-$uid$").ways("ab-ba")))
        self.assertEqual([{"mail": "a@x"}], list(parse_template("$mail$").ways("a@x")))
        self.assertEqual(16, len(list(template.ways("." * 100 + "@x"))))

    def test_many_ways(self) -> None:
        """A name of dots costs little, also where the domain of the mapping is a wrong one."""
        for text in ("$a$.$b$.$c$.$d$@wrong.example.com", "$a$.$b$.$a$.$b$@meet.example.com"):
            template = parse_template(text)
            cost = calls(lambda: list(template.ways("." * 1_000 + "@meet.example.com")))  # noqa: B023
            self.assertLess(cost, 5_000)

    @given(
        st.lists(st.text("ab.@-", min_size=1, max_size=4), min_size=2, max_size=2),
        st.sampled_from(["$a$@$b$", "$a$.$b$@x", "p-$a$-$b$"]),
    )
    def test_there_and_back(self, values: list[str], text: str) -> None:
        """What a mapping makes is taken apart again, the values among the ways."""
        template: Template = parse_template(text)
        entry = dict(zip("ab", values, strict=True))
        made = template.fill({name: (value.encode(),) for name, value in entry.items()})
        self.assertIn(entry, list(template.ways(made)))

    def test_dn(self) -> None:
        """RFC 4514 2.4: nothing in a value is part of the DN's syntax."""
        for value, escaped in (
            ("alice", "alice"),
            ("a,ou=admins", "a\\,ou\\=admins"),
            (' #"+;<>\\ ', '\\ #\\"\\+\\;\\<\\>\\\\\\ '),
            ("#1", "\\#1"),
            ("\0", "\\00"),
            (" ", "\\ "),
        ):
            self.assertEqual(escaped, escape_dn_value(value))
