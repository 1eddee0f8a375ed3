"""C{cms callbridge user export} and C{import}: all or none, nothing weaker, no secret told."""

from __future__ import annotations

import csv
import json
import stat
from typing import Any

from cms.callbridge.directories import exchange
from cms.callbridge.directories.store import UserStore
from cms.callbridge.passwords.scram import DEFAULT_ITERATIONS
from tests.commandline import DOMAIN, CommandLineTests
from tests.fakedaemon import FakeDaemon

EXPORT, IMPORT = ("callbridge", "user", "export"), ("callbridge", "user", "import")
HEAD = json.dumps({"format": "cms-users", "version": 1, "domain": DOMAIN})


class FilesTests(CommandLineTests):
    """A store with alice, and bob, who is disabled."""

    def setUp(self) -> None:
        """Both."""
        super().setUp()
        self.store = UserStore(self.folder / "callbridge")
        self.store.set_password("alice", "pencil")
        self.store.set_password("bob", "crayon", iterations=20_000)
        self.store.set_disabled("bob", True)
        self.file = self.folder / "users"

    def exported(self) -> list[dict[str, Any]]:
        """The users of an export."""
        self.file.unlink(missing_ok=True)
        self.cms(*EXPORT, str(self.file))
        lines = self.file.read_text().splitlines()
        self.file.unlink()
        self.assertEqual(HEAD, lines[0])
        return [json.loads(line) for line in lines[1:]]

    def imported(self, content: str | list[dict[str, Any]], *more: str, status: int = 0) -> str:
        """What is said of a file."""
        if not isinstance(content, str):
            content = "\n".join([HEAD, *map(json.dumps, content)])
        self.file.write_text(content)
        return self.said(*IMPORT, str(self.file), *more, status=status)

    def empty(self) -> None:
        """A store without users, at another place."""
        file = self.folder / "callbridge.toml"
        file.write_text(file.read_text().replace('"callbridge"', '"other"'))
        self.store = UserStore(self.folder / "other")

    def state(self) -> dict[str, tuple[str, bool]]:
        """Who is in the store."""
        return {user.name: (user.created, user.disabled) for user in self.store.users()}


class JsonTests(FilesTests):
    """With keys."""

    def test_there_and_back(self) -> None:
        """Keys, dates and who is disabled arrive at another Callbridge as they were."""
        facts = self.facts(*EXPORT, str(self.file))
        self.assertEqual(2, facts["users"])
        self.assertEqual(0o600, stat.S_IMODE(self.file.stat().st_mode))
        content, before = self.file.read_text(), self.state()
        self.assertNotIn("pencil", content)
        self.empty()
        taken = json.loads(self.cms(*IMPORT, str(self.file), "--json").stdout)
        self.assertEqual({"added": 2, "replaced": 0, "kept": 0}, taken)
        self.assertEqual(before, self.state())
        self.assertEqual({"alice": False, "bob": True}, {k: v[1] for k, v in self.state().items()})
        self.file.unlink()
        self.cms(*EXPORT, str(self.file))
        self.assertEqual(content, self.file.read_text())
        self.refused(*EXPORT, str(self.file), status=1)
        self.assertEqual(content, self.cms(*EXPORT, "-").stdout)

    def test_existing(self) -> None:
        """Refused, kept or replaced; who is replaced with the same stays logged in."""
        alice, bob = self.exported()
        said = self.imported([alice, bob], status=1)
        self.assertIn("line 2: alice is a user already", said)
        self.assertIn("2 problems, nothing was imported. Cure: ", said)
        self.assertIn("2 left as they were", self.imported([alice, bob], "--existing", "keep"))
        self.assertIn("2 left as they were", self.imported([alice, bob], "--existing", "replace"))
        self.store.set_password("alice", "another")
        self.assertIn("1 replaced, 1 left", self.imported([alice, bob], "--existing", "replace"))
        self.assertEqual([alice, bob], self.exported())
        bob["disabled"] = False
        self.assertIn("1 replaced", self.imported([bob], "--existing", "replace"))
        self.assertFalse(self.state()["bob"][1])
        with self.store.open() as connection:
            ended = connection.execute("SELECT name, reason FROM ended ORDER BY name").fetchall()
        self.assertEqual([("alice", "password"), ("bob", "password")], ended)

    def test_all_or_none(self) -> None:
        """One bad line of many: each is told by its number, and nobody is added."""
        alice, bob = self.exported()
        self.empty()
        people = [{**alice, "name": f"user{n}"} for n in range(5)]
        people[1]["scram"] = {}
        people[3]["name"] = f"x@other.{DOMAIN}"
        said = self.imported([*people, bob, bob], status=1)
        self.assertIn("line 3: user1: no keys\n", said)
        self.assertIn("line 5: x@other.meet.example.com is not a user of", said)
        self.assertIn("line 8: bob is in line 7 already", said)
        self.assertEqual({}, self.state())
        result = self.cms(*IMPORT, str(self.file), "--json", status=1)
        told = json.loads(result.stdout)["problems"]
        self.assertEqual([3, 5, 8], [problem["line"] for problem in told])

    def test_never_weaker(self) -> None:
        """Fewer iterations than there are, or than are made here, only if it is said."""
        alice, bob = self.exported()
        strong = json.loads(json.dumps(bob))
        for keys in bob["scram"].values():
            keys["iterations"] = DEFAULT_ITERATIONS
        said = self.imported([bob], "--existing", "replace", status=1)
        self.assertIn("bob: 10000 iterations for SCRAM-SHA-1, fewer than 20000", said)
        self.assertEqual([alice, strong], self.exported())
        alice["scram"]["SCRAM-SHA-256"]["iterations"] = 5_000
        alice["name"] = "carol"
        self.assertIn("fewer than 10000", self.imported([alice], status=1))
        self.imported([alice], "--allow-weaker")
        alice["scram"]["SCRAM-SHA-256"]["iterations"] = 4_095
        alice["name"] = "dave"
        self.assertIn("RFC 7677", self.imported([alice], "--allow-weaker", status=1))

    def test_one_mechanism(self) -> None:
        """Taken if it is said; who is replaced has no other keys left."""
        alice, _ = self.exported()
        del alice["scram"]["SCRAM-SHA-256"]
        said = self.imported([alice], "--existing", "replace", status=1)
        self.assertIn("line 2: alice: no keys for SCRAM-SHA-256\n", said)
        self.imported([alice], "--existing", "replace", "--allow-one-mechanism")
        self.assertEqual(alice, self.exported()[0])
        self.assertEqual(1, self.store.without_keys("SCRAM-SHA-256"))

    def test_wrong_lines(self) -> None:
        """Whatever is in a line: it is told, without what it holds."""
        alice, _ = self.exported()
        self.empty()

        def keys(**changes: Any) -> dict[str, Any]:
            scram = {**alice["scram"]}
            scram["SCRAM-SHA-1"] = {**scram["SCRAM-SHA-1"], **changes}
            return {**alice, "scram": scram}

        for one in (
            *({}, {"name": 1}, {"name": ""}, {**alice, "name": "a b"}, {**alice, "more": 1}),
            *({**alice, "disabled": 1}, {**alice, "created": "x"}, {**alice, "scram": [1]}),
            {**alice, "scram": {**alice["scram"], "SCRAM-SHA-512": {}}},
            {**alice, "name": "guest-0123456789abcdef"},
            *(keys(salt="c2VjcmV0"[:4]), keys(salt="%%%"), keys(salt=1), keys(storedKey="AAAA")),
            *(keys(iterations="10000"), keys(iterations=10**7), keys(iterations=-1)),
        ):
            said = self.imported([one], status=1)
            self.assertIn("line 2: ", said, one)
            self.assertNotIn("c2Vj", said)
        for content in ("{", '{"format": "other"}', HEAD.replace("1,", "2,"), "[" * 20_000, "x"):
            self.assertIn("line 1: ", self.imported(content, status=1))
        self.assertIn("line 2: ", self.imported(f"{HEAD}\n{'[' * 9_000}", status=1))
        self.file.write_bytes(b"name\n\xff\xfe\n")
        self.assertIn("line 2: it is not UTF-8", self.said(*IMPORT, str(self.file), status=1))
        self.assertEqual({}, self.state())
        self.patch(exchange, "MOST_USERS", 2)
        said = self.imported([{**alice, "name": f"u{n}"} for n in range(3)], status=1)
        self.assertIn("more than 2 users", said)
        self.assertIn("problem", self.imported("x" * 200_000, status=1))

    def test_running(self) -> None:
        """A daemon that runs shares the file; how sessions of who was replaced end is said."""
        FakeDaemon(self, self.folder / "callbridge")
        alice, _ = self.exported()
        self.store.set_password("alice", "another")
        said = self.imported([alice], "--existing", "replace")
        self.assertIn("cms callbridge reconnect --even-if-up", said)

    def test_files(self) -> None:
        """What cannot be read or written is told."""
        self.refused(*IMPORT, "/nonexistent", status=2)
        self.refused(*EXPORT, "/nonexistent/x", status=2)


class CsvTests(FilesTests):
    """Names, with passwords or without."""

    def test_names(self) -> None:
        """Nothing but names is written."""
        said = self.cms(*EXPORT, "--csv", "-").stdout
        rows = list(csv.DictReader(said.splitlines()))
        self.assertEqual(
            [("alice", "false"), ("bob", "true")], [(r["name"], r["disabled"]) for r in rows]
        )
        self.assertEqual({"name", "userJid", "created", "disabled", "displayName"}, set(rows[0]))

    def test_names_for_people(self) -> None:
        """They are written, read and replaced; a file that does not name them leaves them."""
        self.store.set_shown("alice", "Alice Liddell")
        rows = list(csv.DictReader(self.cms(*EXPORT, "--csv", "-").stdout.splitlines()))
        self.assertEqual(["Alice Liddell", ""], [row["displayName"] for row in rows])
        alice, bob = self.exported()
        self.assertEqual("Alice Liddell", alice["displayName"])
        self.assertNotIn("displayName", bob)
        self.imported([{**alice, "displayName": "A. L."}, bob], "--existing", "replace")
        self.assertEqual(["A. L.", ""], [user.shown for user in self.store.users()])
        self.imported("name,password,displayName\ncarol,x,Carol  C.\ndave,y,\n")
        shown = {user.name: user.shown for user in self.store.users()}
        self.assertEqual({"alice": "A. L.", "bob": "", "carol": "Carol C.", "dave": ""}, shown)
        said = self.imported([{**alice, "displayName": 1}], "--existing", "replace", status=1)
        self.assertIn("displayName is no text", said)
        self.imported("name,password\ncarol,z\n", "--existing", "replace")
        self.assertEqual("Carol C.", self.store.users()[2].shown)

    def test_passwords(self) -> None:
        """Keys are made of them as by C{user add}; the file may come from a spreadsheet."""
        said = self.imported('\ufeffname,password,disabled\r\ncarol,"a,b",yes\r\ndave,x,\r\n')
        self.assertIn("2 added", said)
        self.assertTrue(self.state()["carol"][1])
        self.assertFalse(self.state()["dave"][1])
        (carol,) = [user for user in self.exported() if user["name"] == "carol"]
        iterations = [keys["iterations"] for keys in carol["scram"].values()]
        self.assertEqual([DEFAULT_ITERATIONS] * 2, iterations)
        self.assertEqual(
            "2 added, 0 replaced, 0 left as they were\n",
            self.cms(*IMPORT, "-", text=f"userJid,password\nerin@{DOMAIN},x\nfred,y\n").stdout,
        )

    def test_made(self) -> None:
        """Passwords are made for names, and written where only the owner can read them."""
        self.assertIn("line 2: carol has no password", self.imported("name\ncarol\n", status=1))
        made = self.folder / "made.csv"
        self.imported("name\ncarol\nx,y\n", "--make-passwords", str(made), status=1)
        self.assertFalse(made.exists())
        said = self.imported('name\ncarol\n"d,e"\n', "--make-passwords", str(made))
        self.assertEqual(0o600, stat.S_IMODE(made.stat().st_mode))
        rows = list(csv.DictReader(made.read_text().splitlines()))
        self.assertEqual(["carol", "d,e"], [row["name"] for row in rows])
        self.assertEqual(2, len({row["password"] for row in rows}))
        for row in rows:
            self.assertEqual(16, len(row["password"]))
            self.assertNotIn(row["password"], said)

    def test_wrong(self) -> None:
        """By line; no password is quoted."""
        for content, line in (
            ("", 1),
            ("password\nx\n", 1),
            ("name,shoe\na,b\n", 1),
            ("name,password,password\na,b,s3cret\n", 1),
            ("name;password\na;s3cret\n", 1),
            ("name,password\na,s3cret\n\nb\n", 4),
            ("name,password\na,s3cret,s3cret\n", 2),
            ("name,password\na,s3cret\nA,s3cret\n", 3),
            ("name,password,disabled\na,s3cret,perhaps\n", 2),
            ("name,password\na,s3cret\ufffd\n", 2),
            ("name,password\na,\n", 2),
            ('name,password\na,"s3cret\n', 2),
        ):
            said = self.imported(content, status=1)
            self.assertIn(f"line {line}: ", said, content)
            self.assertNotIn("s3cret", said)
        self.assertEqual({"alice", "bob"}, set(self.state()))
