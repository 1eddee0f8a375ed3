"""The pages of docs/: the daemons read their examples; their links and tests exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import CallbridgeConfig, Timing
from cms.callbridge.config import read_config as read_callbridge
from cms.callbridge.statefiles import STATE_FILES as OF_CALLBRIDGE
from cms.configuration import document
from cms.control.place import LOCK, SOCKET
from cms.record.files import FOLDER
from cms.xmpp.config import XmppConfig
from cms.xmpp.config import read_config as read_xmpp
from cms.xmpp.statefiles import STATE_FILES as OF_XMPP
from tests.support import new_folder
from tests.tomlkeys import every_key

ROOT = Path(__file__).parent.parent.resolve()
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
TOPS = ("cms", "tests", "peers", "bench")
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
PAGE = (DOCS / "configuration.md").read_text("utf-8")


class ConfigurationPageTests(SynchronousTestCase):
    """Both files, and the table of their keys."""

    def example(self, name: str) -> Path:
        """An example, as a file."""
        found = re.search(rf"## {re.escape(name)}\n\n```toml\n(.*?)```", PAGE, re.DOTALL)
        assert found is not None
        folder = new_folder(self)
        (folder / "cb1.secret").write_text("secret\n")
        file = folder / name
        file.write_text(found[1])
        return file

    def test_examples(self) -> None:
        """They are read without a complaint and fit together."""
        xmpp = read_xmpp(self.example("xmpp.toml"))
        callbridge = read_callbridge(self.example("callbridge.toml"))
        self.assertEqual(xmpp.domain, callbridge.link.domain)
        self.assertEqual([callbridge.link.component], list(xmpp.callbridges))
        self.assertEqual(xmpp.callbridges[callbridge.link.component], callbridge.link.secret)
        self.assertIsNone(callbridge.link.server)

    def test_timing(self) -> None:
        """The defaults of C{[link]} are those of the table, and every wait has its end."""
        rows = re.findall(r"^\| (`link\.[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
        told = {
            key: float(value)
            for keys, values in rows
            for key, value in zip(
                re.findall(r"`link\.(\w+)`", keys), values.split(","), strict=True
            )
        }
        self.assertEqual(told, asdict(Timing()))

    def test_every_key(self) -> None:
        """The tables are those that are made of the classes by which the files are read."""
        self.assertEqual(PAGE, document.page(PAGE), "make docs")
        for name, section, key in (
            ("xmpp.toml", XmppConfig, "listen.client_direct"),
            ("callbridge.toml", CallbridgeConfig, "shared_secret_file"),
        ):
            part = PAGE.split(f"## {name}")[1].split("\n## ")[0]
            told = re.findall("`([^`]*)`", " ".join(re.findall(r"^\| (`[^|]*) \|", part, re.M)))
            self.assertEqual(sorted(every_key(section)), sorted(told))
            self.assertIn(key, told)

    def test_row(self) -> None:
        """A row holds default, bounds, unit, meaning, and why the default is what it is."""
        for row in (
            "| `link.unreachable_delay` | 1 | 0.1 to 3600 | seconds between attempts while no",
            "| `login.most_waiting` | 5000 | 0 to 1000000 | clients that may wait; the streams",
            "| `tls.unprotected` | `false` | true or false | **no TLS at all**",
            '| `tls.callbridge_certificates` | `"optional"` | `required`, `optional`, `off` |',
            "| `state_dir` | `state` beside the file | a path in quotes |",
            "| `shared_secret`, `shared_secret_file` | one of them |",
        ):
            self.assertIn(f"\n{row}", PAGE)
        rows = [row for row in PAGE.splitlines() if row.startswith("| `state_dir` |")]
        for row, files in zip(rows, (OF_XMPP, OF_CALLBRIDGE), strict=True):
            for name in (*files, FOLDER, SOCKET, LOCK):
                self.assertIn(f"`{name}`", row)
        why = "until delays begin anew. Why 60: a server that accepts and drops links is not"
        self.assertIn(why, PAGE)


class OperatingPageTests(SynchronousTestCase):
    """What docs/operate.md says to type."""

    def test_every_block(self) -> None:
        """Each is typed by a test with real programs, or says why it is not."""
        page = (DOCS / "operate.md").read_text("utf-8")
        tests = [file.read_text("utf-8") for file in (ROOT / "peers").glob("*.py")]
        typing = "".join(text for text in tests if "peers.operating" in text)
        blocks = re.findall(r"^(.*)\n *```sh$", page, re.MULTILINE)
        self.assertGreater(len(blocks), 20)
        for before in blocks:
            mark = re.fullmatch(r" *<!-- (tested|not run): (.*) -->", before)
            assert mark is not None, f"{before}: there is no mark before a block"
            known = f'"{mark[2]}"' in typing if mark[1] == "tested" else " " in mark[2]
            self.assertTrue(known, before)
        for how, name in re.findall(r"<!-- (typed|clicked): ([a-z]+) -->", page):
            self.assertTrue(f'block("{name}", "{how}")' in typing, name)


class ChangesTests(SynchronousTestCase):
    """The list of changes."""

    def test_once(self) -> None:
        """It says each thing once, also after a merge that has taken the lines of both sides."""
        begins = re.findall(
            r"^\* (.{30})", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
        )
        self.assertGreater(len(begins), 50)
        self.assertEqual([], [words for words in set(begins) if begins.count(words) > 1])


class LinkTests(SynchronousTestCase):
    """Links between the pages."""

    def test_links(self) -> None:
        """Each relative link leads to a file, and each anchor to a heading of that file."""
        links = [(page, link) for page in PAGES for link in LINK.findall(plain(page))]
        self.assertGreater(len(links), 50)
        for page, link in links:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            self.assertTrue(target.exists(), f"{page.name} links to {link}")
            if anchor:
                self.assertIn(anchor, anchors(target), f"{page.name} links to {link}")

    def test_every_page_is_linked(self) -> None:
        """Somebody who starts at the README finds each page."""
        found: set[Path] = set()
        unread = [ROOT / "README.md"]
        while unread:
            page = unread.pop()
            found.add(page)
            linked = {(page.parent / link.partition("#")[0]) for link in LINK.findall(plain(page))}
            unread += [
                one for path in linked if (one := path.resolve()) in PAGES and one not in found
            ]
        self.assertEqual(set(), set(DOCS.rglob("*.md")) - found)

    def test_design(self) -> None:
        """The index of the design notes has a line for each."""
        index = (DOCS / "design" / "README.md").read_text("utf-8")
        for page in (DOCS / "design").glob("*.md"):
            if page.name != "README.md":
                self.assertIn(f"\n| [{page.stem}]({page.name}) |", index)

    def test_modules(self) -> None:
        """Each module that a page names by its folder is there, as C{trust/files.py}."""
        sources = [
            f"/{file.relative_to(ROOT)}" for top in TOPS for file in (ROOT / top).rglob("*.py")
        ]
        self.assertGreater(len(sources), 200)
        for page in PAGES:
            for module in re.findall(r"`((?:[\w.-]+/)+\w+\.py)", page.read_text("utf-8")):
                self.assertTrue(
                    any(one.endswith(f"/{module}") for one in sources), (page.name, module)
                )

    def test_anchors(self) -> None:
        """They are made as GitHub makes them."""
        self.assertEqual("behind-a-proxy", anchor("Behind a proxy"))
        self.assertEqual("--server", anchor("`--server`"))
        self.assertEqual(
            "rfc-6120-and-6121-case-by-case", anchor("RFC 6120 and 6121, case by case")
        )


def plain(page: Path) -> str:
    """The text of a page without its code."""
    return re.sub("```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub("```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return {anchor(heading) for heading in re.findall("^#+ (.*)$", text, re.MULTILINE)}


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class StandardsPageTests(SynchronousTestCase):
    """The table of RFC 6120 and 6121."""

    def test_each_row_has_its_tests(self) -> None:
        """They are there, and nothing else is named."""
        table = (DOCS / "standards.md").read_text("utf-8").split("| section |")[1]
        rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| ")]
        rows = [row for row in rows if not row[0].startswith(("| **", "| ---"))]
        self.assertGreater(len(rows), 50)
        for row in rows:
            self.assertEqual(4, len(row), row)
            tests = re.findall("`([^`]*)`", row[3])
            self.assertTrue(tests, row)
            self.assertEqual(", ".join(f"`{test}`" for test in tests), row[3].rstrip(" |"))
            for test in tests:
                self.assertTrue(self.exists(test), test)

    def exists(self, test: str) -> bool:
        """Whether there is such a test in our sources."""
        path, _, name = test.partition("::")
        if name:
            return f"\ndef {name}(" in (DOCS.parent / path).read_text("utf-8")
        module, kind, method = test.split(".")
        made = getattr(import_module(f"tests.{module}"), kind)
        return callable(getattr(made, method, None))
