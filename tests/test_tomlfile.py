"""Configuration files: read strictly, with complaints that name file, key and cure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.configuration.tomlfile import Secret, Table


class TOMLTests(SynchronousTestCase):
    """One table, and what is wrong with it."""

    def setUp(self) -> None:
        """A folder of its own."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "x.toml"

    def table(self, text: str) -> Table:
        """The table that the text makes."""
        self.file.write_text(text, "utf-8")
        return Table.read(self.file)

    def wrong(
        self, text: str, read: Callable[[Table], object], *said: str
    ) -> faults.ConfigurationError:
        """Reading this fails with a complaint that holds these words."""
        table = self.table(text)
        error: faults.ConfigurationError = self.assertRaises(faults.ConfigurationError, read, table)
        for word in (str(self.file), *said):
            self.assertIn(word, f"{error.cause} {error.cure}")
        return error


class FileTests(TOMLTests):
    """The file as a whole."""

    def test_missing_file(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(faults.ConfigurationError, Table.read, self.file)
        self.assertEqual("configuration-file", error.fault)
        self.assertIn(str(self.file), error.cause)

    def test_unreadable(self) -> None:
        """What is no TOML or no file ends as the same fault."""
        for content in (b"a = ", b"a = 1\na = 2\n"):
            self.file.write_bytes(content)
            error = self.assertRaises(faults.ConfigurationError, Table.read, self.file)
            self.assertEqual("configuration-file", error.fault)
        self.assertRaises(faults.ConfigurationError, Table.read, self.folder)

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
            error = self.assertRaises(faults.ConfigurationError, Table.read, self.file)
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
            table = self.table("shared_secret_file = 'cb1.secret'")
            if said is None:
                self.assertEqual(good, table.secret("shared_secret").value)
                continue
            error = self.assertRaises(faults.ConfigurationError, table.secret, "shared_secret")
            self.assertIn(said, error.cause)
            self.assertNotIn("s3cr", f"{error.cause} {error.cure} {error.evidence}")

    def test_unknown_key(self) -> None:
        """A key that nobody asked for is a mistake, at any depth."""
        self.wrong("domian = 'x'", lambda t: t.finish(), "domian", "not known")
        self.wrong("[tls]\nkee = 'x'", lambda t: t.table("tls").finish(), "tls.kee")

    def test_all_read(self) -> None:
        """A file whose every key was asked for is complete."""
        table = self.table("a = 'x'\n[b]\nc = true")
        table.text("a")
        inner = table.table("b")
        inner.flag("c", default=False)
        inner.finish()
        table.finish()

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the file holds, nothing but a complaint comes of it."""
        self.file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(faults.ConfigurationError):
            Table.read(self.file).finish()


class ValueTests(TOMLTests):
    """The kinds of values."""

    def test_defaults(self) -> None:
        """What is left out has its default."""
        table = self.table("")
        self.assertEqual("d", table.text("a", "d"))
        self.assertTrue(table.flag("b", default=True))
        self.assertEqual(2.5, table.number("c", 2.5, least=0, most=9))
        self.assertEqual([], table.texts("d"))
        self.assertIsNone(table.path("e"))
        self.assertEqual("x", table.choice("f", "x", ("x", "y")))
        table.table("g").finish()

    def test_values(self) -> None:
        """What is written is what is read."""
        table = self.table("a='t'\nb=false\nc=3\nd=['p','q']\nf='y'")
        self.assertEqual("t", table.text("a"))
        self.assertFalse(table.flag("b", default=True))
        self.assertEqual(3.0, table.number("c", 2.5, least=0, most=9))
        self.assertEqual(["p", "q"], table.texts("d"))
        self.assertEqual("y", table.choice("f", "x", ("x", "y")))

    def test_missing(self) -> None:
        """A key without a default must be there."""
        self.wrong("", lambda t: t.text("domain"), "domain", "missing")

    def test_wrong_kinds(self) -> None:
        """A value of another kind is refused; a truth value is no number."""
        readers: tuple[tuple[str, Callable[[Table], Any]], ...] = (
            ("k = 5", lambda t: t.text("k")),
            ("k = true", lambda t: t.text("k")),
            ("k = 'true'", lambda t: t.flag("k", default=False)),
            ("k = 1", lambda t: t.flag("k", default=False)),
            ("k = '5'", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = true", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = 10", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = -1", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = nan", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = inf", lambda t: t.number("k", 1, least=0, most=9)),
            ("k = 'a'", lambda t: t.texts("k")),
            ("k = ['a', 1]", lambda t: t.texts("k")),
            ("k = 1", lambda t: t.path("k")),
            ("k = 'z'", lambda t: t.choice("k", "x", ("x", "y"))),
            ("k = 1", lambda t: t.table("k")),
        )
        for text, read in readers:
            error = self.wrong(text, read, " k: ")
            self.assertEqual("configuration-value", error.fault)
            self.assertTrue(error.cure, text)

    def test_dotted_names(self) -> None:
        """A key within tables is named with them."""
        deep = "[a.b]\nc = 1"
        self.wrong(deep, lambda t: t.table("a").table("b").text("c"), "a.b.c")

    def test_paths(self) -> None:
        """A relative path counts from the folder of the file, an absolute one stands."""
        table = self.table("a = 'sub/x.pem'\nb = '/etc/x.pem'")
        self.assertEqual(self.folder / "sub/x.pem", table.path("a"))
        self.assertEqual(Path("/etc/x.pem"), table.path("b"))

    def test_domains(self) -> None:
        """A domain is prepared, and is nothing more than a domain."""
        text = "a = 'Meet.Example.COM.'\nb = 'Bücher.example'\nc = 'xn--bcher-kva.example'"
        table = self.table(text)
        self.assertEqual("meet.example.com", table.domain("a"))
        for key in ("b", "c"):
            self.assertEqual("bücher.example", table.domain(key))
        for text in ("u@x.example", "x.example/r", "", "a b.example"):
            self.wrong(f"k = '{text}'", lambda t: t.domain("k"), "k:")

    def test_tables(self) -> None:
        """All tables within one, by their names."""
        inner = self.table("[x]\na = 'one'\n[y]\na = 'two'").tables()
        self.assertEqual({"x": "one", "y": "two"}, {k: t.text("a") for k, t in inner.items()})
        self.wrong("x = 1", lambda t: t.tables(), "x:")


class SecretTests(TOMLTests):
    """Shared secrets."""

    def test_inline(self) -> None:
        """A secret may stand in the file itself."""
        self.assertEqual(Secret("pässword "), self.table("s = 'pässword '").secret("s"))

    def test_in_a_file(self) -> None:
        """Or in a file of its own, whose line end does not count."""
        (self.folder / "cb1.secret").write_text("  s3cret\n")
        self.assertEqual(Secret("s3cret"), self.table("s_file = 'cb1.secret'").secret("s"))

    def test_exactly_one(self) -> None:
        """One of the two, not both, not neither."""
        (self.folder / "f").write_text("x")
        self.wrong("", lambda t: t.secret("s"), "s:", "missing", "s_file")
        self.wrong("s = 'x'\ns_file = 'f'", lambda t: t.secret("s"), "s:", "as well")

    def test_nothing_in_it(self) -> None:
        """An empty secret protects nothing."""
        (self.folder / "f").write_text(" \n")
        self.wrong("s = ''", lambda t: t.secret("s"), "empty")
        self.wrong("s_file = 'f'", lambda t: t.secret("s"), "empty")

    def test_unreadable_file(self) -> None:
        """A file that is missing, a folder or no text is named with its key."""
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        for name in ("missing", ".", "binary"):
            self.wrong(f"s_file = '{name}'", lambda t: t.secret("s"), "s_file", name)

    def test_never_shown(self) -> None:
        """A secret shows itself in no text, nor does a complaint about its key."""
        secret = Secret("s3cret")
        for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
            self.assertNotIn("s3cret", shown)
        (self.folder / "f").write_text("s3cret")
        error = self.wrong("s = 's3cret'\ns_file = 'f'", lambda t: t.secret("s"))
        self.assertNotIn("s3cret", str(error) + str(error.as_dict()))
