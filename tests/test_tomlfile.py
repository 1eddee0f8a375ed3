"""Configuration files: read strictly, with complaints that name file, key and cure."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import CallbridgeConfig
from cms.configuration.kinds import (
    Choice,
    Count,
    Domain,
    Flag,
    Inline,
    Many,
    Parsed,
    PathTo,
    Seconds,
    SecretOf,
    Section,
    Tables,
    Text,
)
from cms.configuration.section import Kind, read_section, setting
from cms.configuration.tomlfile import Place, Secret, read_toml
from cms.xmpp.config import XmppConfig
from tests.tomlkeys import TOML_VALUES, changed, every_key


@frozen
class Inner:
    """A table."""

    certificate: str = setting(Text(), "", default="")
    c: str = setting(Text(), "", name="key", default="")


@frozen
class Needed:
    """A table with a key that must be there."""

    c: str = setting(Text(), "")


@frozen
class Deep:
    """A table with a table."""

    b: Needed = setting(Section(Needed), "")


@frozen
class Outer:
    """A file."""

    tls: Inner = setting(Section(Inner), "")
    domain: str = setting(Text(), "", default="d")


class TOMLTests(SynchronousTestCase):
    """One file, and what is wrong with it."""

    def setUp(self) -> None:
        """A folder of its own."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "x.toml"

    def read(self, text: str, section: type) -> Any:
        """What the text holds."""
        self.file.write_text(text, "utf-8")
        return read_section(section, read_toml(self.file), Place(self.file))

    def key(self, text: str, kind: Kind[Any], name: str = "k", **how: Any) -> Any:
        """What one key of the text holds."""
        made = setting(kind, "", name=name, **how)
        return self.read(
            text, frozen(type("One", (), {"k": made, "__annotations__": {"k": Any}}))
        ).k

    def wrong(self, *said: str, read: str, **how: Any) -> faults.ConfigurationError:
        """Reading this fails with a complaint that holds these words."""
        reader = self.read if "section" in how else self.key
        error: faults.ConfigurationError = self.assertRaises(
            faults.ConfigurationError, reader, read, **how
        )
        for word in (str(self.file), *said):
            self.assertIn(word, f"{error.cause} {error.cure}")
        self.assertTrue(error.cure)
        return error


class FileTests(TOMLTests):
    """The file as a whole."""

    def test_missing_file(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(faults.ConfigurationError, read_toml, self.file)
        self.assertEqual("configuration-file", error.fault)
        self.assertIn(str(self.file), error.cause)

    def test_unreadable(self) -> None:
        """What is no TOML or no file ends as the same fault."""
        digits, lists = b"a = " + b"1" * 5_000, b"a = " + b"[" * 50_000
        for content in (b"a = ", b"a = 1\na = 2\n", digits, lists):
            self.file.write_bytes(content)
            error = self.assertRaises(faults.ConfigurationError, read_toml, self.file)
            self.assertEqual("configuration-file", error.fault)
        self.assertRaises(faults.ConfigurationError, read_toml, self.folder)

    def test_encoding(self) -> None:
        """What another system's editor made of a file is told, with what mends it."""
        for content, problem in (
            (b"\xef\xbb\xbfa = 1\n", "begins with a byte order mark (BOM)"),
            ("\ufeffa = 1\n".encode("utf-16-le"), "is UTF-16"),
            ("a = 1\n".encode("utf-16-be"), "is UTF-16"),
            ("a = 1\n".encode("utf-16-le"), "is UTF-16"),
            (b"a = 1\nb = '\xff'", "is not UTF-8 (line 2)"),
        ):
            self.file.write_bytes(content)
            error = self.assertRaises(faults.ConfigurationError, read_toml, self.file)
            self.assertEqual("configuration-encoding", error.fault)
            self.assertEqual(f"{self.file} {problem}, so it is not read.", error.cause)
            self.assertIn("Save it as UTF-8", error.cure)

    def test_secret_files(self) -> None:
        """A secret is one line that shows; what is wrong is told, but not what it holds."""
        secret = self.folder / "cb1.secret"
        good = "s3cret-ü-of-cb1"
        for content, said in (
            (f"{good}\r\n".encode(), None),
            (f"\ufeff{good}\n".encode(), "begins with a byte order mark"),
            (good.encode("utf-16"), "is UTF-16"),
            (b"s3cret\nother\n", "holds more than one line"),
            (b"s3cr\x00et", "characters that do not show"),
            ("s3cr\u200bet".encode(), "characters that do not show"),
            (b"s3cret\xff", "is not UTF-8"),
            (b" \n", "the secret is empty"),
        ):
            secret.write_bytes(content)
            how: dict[str, Any] = {"kind": SecretOf(), "name": "shared_secret"}
            text = "shared_secret_file = 'cb1.secret'"
            if said is None:
                self.assertEqual(good, self.key(text, **how).value)
                continue
            error = self.wrong("shared_secret", read=text, **how)
            self.assertIn(said, error.cause)
            self.assertNotIn("s3cr", f"{error.cause} {error.cure} {error.evidence}")

    def test_unknown_key(self) -> None:
        """A key that nobody asked for is a mistake, at any depth; the nearest one is named."""
        error = self.wrong("domian: ", "not known", read="domian = 'x'", section=Outer)
        self.assertEqual("Write domain, or remove it.", error.cure)
        error = self.wrong("tls.kee: ", read="[tls]\nkee = 'x'", section=Outer)
        self.assertEqual("Write key, or remove it.", error.cure)
        error = self.wrong("zzz: ", read="zzz = 'x'", section=Outer)
        self.assertEqual("Correct its spelling, or remove it.", error.cure)

    def test_all_read(self) -> None:
        """A file whose every key is known is complete."""
        whole = self.read("domain = 'x'\n[tls]\nkey = 'y'", Outer)
        self.assertEqual(Outer(Inner("", "y"), "x"), whole)
        self.assertEqual(Outer(Inner(), "d"), self.read("", Outer))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the file holds, nothing but a complaint comes of it."""
        self.file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(faults.ConfigurationError):
            read_section(Outer, read_toml(self.file), Place(self.file))


class ValueTests(TOMLTests):
    """The kinds of values."""

    def test_defaults(self) -> None:
        """What is left out has its default."""
        for kind, default in (
            (Text(), "d"),
            (Flag(), True),
            (Seconds(0, 9), 2.5),
            (Many(Text(), "texts"), ()),
            (PathTo(), None),
            (Choice("x", "y"), "x"),
        ):
            self.assertEqual(default, self.key("", kind, default=default))
        self.assertEqual({}, self.key("", Tables(Inner), default={}))

    def test_written_default(self) -> None:
        """A default may be made of what was read before, and is read like what stands there."""

        @frozen
        class Derived:
            """A name, and what is made of it."""

            name: str = setting(Text(), "")
            path: Path = setting(PathTo(), "", written=lambda given: f"{given['name']}/x")
            domain: str = setting(Domain(), "", written=lambda given: f"{given['name']}.Example")

        derived = self.read("name = 'a'", Derived)
        self.assertEqual(Derived("a", self.folder / "a/x", "a.example"), derived)
        self.wrong("domain: ", read="name = 'a b'", section=Derived)

    def test_values(self) -> None:
        """What is written is what is read."""
        self.assertEqual("t", self.key("k='t'", Text()))
        self.assertIs(False, self.key("k=false", Flag(), default=True))
        self.assertEqual(3.0, self.key("k=3", Seconds(0, 9)))
        for three in ("3", "3.0", "0b11"):
            self.assertEqual("3", repr(self.key(f"k={three}", Count(0, 9))))
        self.assertEqual(("p", "q"), self.key("k=['p','q']", Many(Text(), "texts")))
        self.assertEqual("y", self.key("k='y'", Choice("x", "y")))

    def test_missing(self) -> None:
        """A key without a default must be there."""
        self.wrong(
            "domain", "missing", "docs/configuration.md", read="", kind=Text(), name="domain"
        )

    def test_wrong_kinds(self) -> None:
        """A value of another kind is refused; a truth value is no number."""
        texts, number, count = Many(Text(), "texts"), Seconds(0, 9), Count(0, 9)
        for text, kind in (
            ("k = 5", Text()),
            ("k = true", Text()),
            ("k = 'true'", Flag()),
            ("k = 1", Flag()),
            ("k = '5'", number),
            ("k = true", number),
            ("k = 10", number),
            ("k = -1", number),
            ("k = nan", number),
            ("k = inf", number),
            ("k = 0x" + "f" * 9_000, number),
            ("k = 1.5", count),
            ("k = nan", count),
            ("k = false", count),
            ("k = 'a'", texts),
            ("k = ['a', 1]", texts),
            ("k = 1", PathTo()),
            ('k = "a\\u0000b"', PathTo()),
            ("k = 'z'", Choice("x", "y")),
            ("k = ['x']", Choice("x", "y")),
            ("k = 1", Section(Inner)),
            ("k = 1", Tables(Inner)),
        ):
            error = self.wrong(" k: ", read=text, kind=kind)
            self.assertEqual("configuration-value", error.fault)

    def test_bounds(self) -> None:
        """The complaint says what was written, and what may be."""
        error = self.wrong("10 is out of range", read="k = 10", kind=Seconds(0.5, 9))
        self.assertEqual("Choose from 0.5 to 9.", error.cure)

    def test_dotted_names(self) -> None:
        """A key within tables is named with them."""

        @frozen
        class Whole:
            """A table with a table with a table."""

            a: Deep = setting(Section(Deep), "")

        self.wrong("a.b.c", read="[a.b]\nc = 1", section=Whole)
        self.wrong("a.b.c", "missing", read="", section=Whole)

    def test_paths(self) -> None:
        """A relative path counts from the folder of the file, an absolute one stands."""
        self.assertEqual(self.folder / "sub/x.pem", self.key("k = 'sub/x.pem'", PathTo()))
        self.assertEqual(Path("/etc/x.pem"), self.key("k = '/etc/x.pem'", PathTo()))

    def test_domains(self) -> None:
        """A domain is prepared, and is nothing more than a domain."""
        self.assertEqual("meet.example.com", self.key("k = 'Meet.Example.COM.'", Domain()))
        for text in ("Bücher.example", "xn--bcher-kva.example"):
            self.assertEqual("bücher.example", self.key(f"k = '{text}'", Domain()))
        for text in ("u@x.example", "x.example/r", "", "a b.example"):
            self.wrong("k:", read=f"k = '{text}'", kind=Domain())

    def test_parsed(self) -> None:
        """What something else reads, with its complaint and our cure."""

        def parse(text: str) -> int:
            if text == "step":
                raise faults.SERVER_ADDRESS_INVALID.error(address=text, problem="x")
            return int(text)

        self.assertEqual(7, self.key("k = '7'", Parsed(parse, "Write 7.")))
        error = self.wrong(
            " k: ", "invalid literal", read="k = 'x'", kind=Parsed(parse, "Write 7.")
        )
        self.assertEqual("Write 7.", error.cure)
        error = self.wrong(" k: ", read="k = 'step'", kind=Parsed(parse, ""))
        self.assertEqual(("server-address-invalid", "k"), (error.fault, error.evidence["key"]))

    def test_tables(self) -> None:
        """All tables within one, by their names."""
        inner = self.key("[k.x]\nkey = 'one'\n[k.y]\nkey = 'two'", Tables(Inner))
        self.assertEqual({"x": Inner("", "one"), "y": Inner("", "two")}, inner)
        self.wrong(" k.x:", read="k = { x = 1 }", kind=Tables(Inner))

    def test_inline(self) -> None:
        """A section may stand in the table of another; the keys are of both."""

        @frozen
        class Around:
            """Two keys, and one of its own."""

            own: str = setting(Text(), "")
            inner: Inner = setting(Inline(Inner), "")

        self.assertEqual(Around("x", Inner("", "y")), self.read("own = 'x'\nkey = 'y'", Around))
        error = self.wrong("kee: ", read="own = 'x'\nkee = 'y'", section=Around)
        self.assertEqual("Write key, or remove it.", error.cure)


class SecretTests(TOMLTests):
    """Shared secrets."""

    def secret(self, text: str) -> Any:
        """The secret C{s} of the text."""
        return self.key(text, SecretOf(), "s")

    def no_secret(self, text: str, *said: str) -> faults.ConfigurationError:
        """The text holds none, and the complaint has these words."""
        return self.wrong(*said, read=text, kind=SecretOf(), name="s")

    def test_inline(self) -> None:
        """A secret may stand in the file itself."""
        self.assertEqual(Secret("pässword "), self.secret("s = 'pässword '"))

    def test_in_a_file(self) -> None:
        """Or in a file of its own, whose line end does not count."""
        (self.folder / "cb1.secret").write_text("  s3cret\n")
        self.assertEqual(Secret("s3cret"), self.secret("s_file = 'cb1.secret'"))

    def test_exactly_one(self) -> None:
        """One of the two, not both, not neither."""
        (self.folder / "f").write_text("x")
        self.no_secret("", "s:", "missing", "s_file")
        self.no_secret("s = 'x'\ns_file = 'f'", "s:", "as well")

    def test_nothing_in_it(self) -> None:
        """An empty secret protects nothing."""
        (self.folder / "f").write_text(" \n")
        self.no_secret("s = ''", "empty")
        self.no_secret("s_file = 'f'", "empty")

    def test_unreadable_file(self) -> None:
        """A file that is missing, a folder or no text is named with its key."""
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        for name in ("missing", ".", "binary"):
            self.no_secret(f"s_file = '{name}'", "s_file", name)

    def test_never_shown(self) -> None:
        """A secret shows itself in no text, nor does a complaint about its key."""
        secret = Secret("s3cret")
        for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
            self.assertNotIn("s3cret", shown)
        (self.folder / "f").write_text("s3cret")
        error = self.no_secret("s = 's3cret'\ns_file = 'f'")
        self.assertNotIn("s3cret", str(error) + str(error.as_dict()))


class AnyValueTests(TOMLTests):
    """Whatever stands in the file of a daemon."""

    def judge(self, section: type, usual: dict[str, Any], key: str, value: object) -> None:
        """It is taken, or refused with the file, the key and a cure."""
        table = changed(usual, key, value)
        try:
            read: object = read_section(section, table, Place(self.file), file=self.file)
        except faults.ConfigurationError as error:
            named = str(error.evidence["key"])
            self.assertTrue(named.startswith((key.removesuffix("_file"), "component_address")))
            self.assertTrue(error.cause.startswith(f"{self.file}: {named}: "), error.cause)
            self.assertTrue(error.cure)
        else:
            self.assertIsInstance(read, section)

    @given(st.sampled_from(sorted(every_key(XmppConfig))), TOML_VALUES)
    def test_xmpp_server(self, key: str, value: object) -> None:
        """Of an XMPP server's."""
        usual: dict[str, Any] = {"domain": "x.example", "hostname": "h.example", "callbridges": {}}
        if key.startswith("cluster."):
            usual["cluster"] = {"engine": "redis://h.example"}
        self.judge(XmppConfig, usual, key, value)

    @given(st.sampled_from(sorted(every_key(CallbridgeConfig))), TOML_VALUES)
    def test_callbridge(self, key: str, value: object) -> None:
        """Of a Callbridge's."""
        usual = {"domain": "x.example", "unique_name": "cb1"}
        secret = {} if key.startswith("shared_secret") else {"shared_secret": "x"}
        self.judge(CallbridgeConfig, {**usual, **secret}, key, value)

    @given(st.sampled_from(["tls", "dns", "listen", "link", "login", "callbridges"]), TOML_VALUES)
    def test_tables(self, key: str, value: object) -> None:
        """In place of a table."""
        for section, usual in (
            (XmppConfig, {"hostname": "h.example"}),
            (CallbridgeConfig, {"unique_name": "cb1", "shared_secret": "x"}),
        ):
            self.judge(section, {"domain": "x.example", **usual}, key, value)
