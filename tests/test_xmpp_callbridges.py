"""The Callbridges that may register: the file's, and those that were added."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from cms.configuration.tomlfile import Secret
from cms.state.database import StoreError
from cms.xmpp.callbridges import Callbridges, CallbridgeWatch, FixedCallbridge
from cms.xmpp.callbridgestore import (
    CallbridgeExists,
    CallbridgeStore,
    HeldSecret,
    UnknownCallbridge,
    check_secret,
    new_secret,
)
from cms.xmpp.config import XmppConfig, read_config
from cms.xmpp.registry import component_address, component_name
from tests import LoggedError
from tests.support import new_folder
from tests.xmppserver import SECRETS, Server

DOMAIN = "meet.example.com"
FILE = f"""
domain = "{DOMAIN}"
hostname = "xmpp1.{DOMAIN}"
[listen]
component_plain = ["tcp:5347:interface=127.0.0.1"]
[callbridges]
fixed = {{ secret = "in the file" }}
"""


def config_in(folder: Path) -> XmppConfig:
    """A configuration with one Callbridge of its own."""
    file = folder / "xmpp.toml"
    file.write_text(FILE)
    return read_config(file)


class NameTests(SynchronousTestCase):
    """What is a name."""

    def test_names(self) -> None:
        """A name is made an address and back."""
        for text, address, name in (
            ("cb1", f"cb1.{DOMAIN}", "cb1"),
            ("CB1", f"cb1.{DOMAIN}", "cb1"),
            (f"cb1.{DOMAIN}", f"cb1.{DOMAIN}", "cb1"),
            ("echo.example.com", "echo.example.com", "echo.example.com"),
            (f"a.b.{DOMAIN}", f"a.b.{DOMAIN}", f"a.b.{DOMAIN}"),
        ):
            self.assertEqual(address, component_address(text, DOMAIN))
            self.assertEqual(name, component_name(address, DOMAIN))

    def test_no_names(self) -> None:
        """What makes no component address is refused."""
        for text in ("", ".", "a@b", "a/b", DOMAIN, "a..b", "x" * 2000, "a b"):
            self.assertRaises(ValueError, component_address, text, DOMAIN)


class SecretTests(SynchronousTestCase):
    """Secrets."""

    def test_new(self) -> None:
        """They are letters and digits, long enough, and never the same."""
        made = {new_secret().value for _ in range(50)}
        self.assertEqual(50, len(made))
        for value in made:
            self.assertTrue(value.isascii() and value.isalnum() and len(value) == 24)

    def test_given(self) -> None:
        """One that was made elsewhere is taken without the space around it, or refused."""
        self.assertEqual(Secret("6DwNANabpumut14pAb1"), check_secret(" 6DwNANabpumut14pAb1\n"))
        for text in ("", "short", "new\nline in it", "x" * 513):
            said = str(self.assertRaises(StoreError, check_secret, text))
            self.assertNotIn(text or "?", said)


class StoreTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        """A store whose time stands still."""
        self.folder = new_folder(self)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = CallbridgeStore(self.folder, self.clock.seconds)

    def secrets(self, name: str = "cb1") -> list[str]:
        """What is accepted for a name, in another process."""
        again = CallbridgeStore(self.folder, self.clock.seconds)
        (held,) = [h for h in again.callbridges() if h.name == name]
        return [s.secret.value for s in held.secrets]

    def test_private(self) -> None:
        """Only its owner can read it."""
        mode = (self.folder / "callbridges.sqlite3").stat().st_mode
        self.assertEqual(0o600, stat.S_IMODE(mode))

    def test_add_and_delete(self) -> None:
        """What is added is there until it is deleted."""
        self.store.add("cb1", Secret("one"))
        self.assertRaises(CallbridgeExists, self.store.add, "cb1", Secret("two"))
        self.assertEqual(["one"], self.secrets())
        self.store.delete("cb1")
        self.assertRaises(UnknownCallbridge, self.store.delete, "cb1")
        self.assertEqual([], self.store.callbridges())

    def test_rotate(self) -> None:
        """Old and new are accepted until the overlap is over."""
        self.store.add("cb1", Secret("one"))
        self.store.rotate("cb1", Secret("two"), 10)
        self.assertEqual(["two", "one"], self.secrets())
        (held,) = self.store.callbridges()
        self.assertEqual(HeldSecret(Secret("one"), 1_000_000, 1_000_010), held.secrets[1])
        self.clock.advance(10)
        self.assertEqual(["two"], self.secrets())

    def test_rotate_again(self) -> None:
        """A second rotation does not lengthen the first's overlap."""
        self.store.add("cb1", Secret("one"))
        self.store.rotate("cb1", Secret("two"), 10)
        self.store.rotate("cb1", Secret("three"), 100)
        self.clock.advance(10)
        self.assertEqual(["three", "two"], self.secrets())
        self.clock.advance(90)
        self.assertEqual(["three"], self.secrets())

    def test_rotate_at_once(self) -> None:
        """Without an overlap the old one is gone."""
        self.store.add("cb1", Secret("one"))
        self.store.rotate("cb1", Secret("two"), 0)
        self.assertEqual(["two"], self.secrets())

    def test_rotate_to_the_same(self) -> None:
        """The same secret again does not expire."""
        self.store.add("cb1", Secret("one"))
        self.store.rotate("cb1", Secret("one"), 5)
        self.clock.advance(6)
        self.assertEqual(["one"], self.secrets())

    def test_rotate_refused(self) -> None:
        """Nobody, or a time that is none."""
        self.assertRaises(UnknownCallbridge, self.store.rotate, "cb1", Secret("x"), 1)
        self.store.add("cb1", Secret("one"))
        for overlap in (-1.0, float("nan"), float("inf"), 1e9):
            self.assertRaises(StoreError, self.store.rotate, "cb1", Secret("x"), overlap)
        self.assertEqual(["one"], self.secrets())

    def test_unusable(self) -> None:
        """A file that is no database is named."""
        (self.folder / "sub").mkdir()
        (self.folder / "sub" / "callbridges.sqlite3").write_text("no database at all" * 100)
        error = self.assertRaises(
            StoreError, CallbridgeStore, self.folder / "sub", self.clock.seconds
        )
        self.assertIn("callbridges.sqlite3 is damaged: file is not a database", str(error))

    def test_locked(self) -> None:
        """A file that breaks later is an error of ours too."""
        (self.folder / "callbridges.sqlite3").write_text("overwritten" * 1000)
        self.assertRaises(StoreError, self.store.callbridges)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 9)),
                st.tuples(st.just("delete"), st.sampled_from("abc"), st.just(0)),
                st.tuples(st.just("rotate"), st.sampled_from("abc"), st.integers(0, 9)),
                st.tuples(st.just("wait"), st.just(""), st.integers(0, 9)),
            ),
            max_size=20,
        )
    )
    def test_any_order(self, deeds: list[tuple[str, str, int]]) -> None:
        """Whatever is done, what is accepted is what a simple model accepts."""
        model: dict[str, dict[str, float]] = {}
        now = 0.0
        with TemporaryDirectory() as folder:
            store = CallbridgeStore(Path(folder), lambda: now)
            for number, (deed, name, amount) in enumerate(deeds):
                secret = f"secret {number}"
                if deed == "wait":
                    now += amount
                elif (deed == "add") == (name in model):
                    done = {
                        "add": lambda n=name: store.add(n, Secret("x")),
                        "delete": lambda n=name: store.delete(n),
                        "rotate": lambda n=name: store.rotate(n, Secret("x"), 1),
                    }
                    self.assertRaises(StoreError, done[deed])
                elif deed == "add":
                    store.add(name, Secret(secret))
                    model[name] = {secret: float("inf")}
                elif deed == "delete":
                    store.delete(name)
                    del model[name]
                else:
                    store.rotate(name, Secret(secret), amount)
                    model[name] = {s: min(t, now + amount) for s, t in model[name].items()}
                    model[name][secret] = float("inf")
            self.assertEqual(
                {n: {s for s, t in held.items() if t > now} for n, held in model.items()},
                {h.name: {s.secret.value for s in h.secrets} for h in store.callbridges()},
            )


class CallbridgesTests(SynchronousTestCase):
    """The file and the store together."""

    def setUp(self) -> None:
        """One process, and another one on the same folder."""
        self.config = config_in(new_folder(self))
        self.clock = Clock()
        self.changes: list[None] = []
        self.ours = Callbridges(self.config, self.clock.seconds)
        self.ours.on_change.append(lambda: self.changes.append(None))
        self.theirs = Callbridges(self.config, self.clock.seconds)

    def accepted(self, name: str = "cb1") -> set[str]:
        """What our registry accepts."""
        found = self.ours.registry.secrets.get(f"{name}.{DOMAIN}", ())
        return {secret.value for secret in found}

    def test_file(self) -> None:
        """The file's are there, and stay as they are."""
        self.assertEqual({"in the file"}, self.accepted("fixed"))
        self.assertEqual("file", self.ours.find("fixed").source)
        self.assertRaises(CallbridgeExists, self.ours.add, "Fixed")
        for change in (self.ours.delete, self.ours.rotate):
            said = str(self.assertRaises(FixedCallbridge, change, f"fixed.{DOMAIN}"))
            self.assertIn("xmpp.toml", said)
        self.assertEqual([], self.changes)

    def test_add(self) -> None:
        """It counts at once, with the secret that is told."""
        made = self.ours.add("CB1")
        self.assertEqual(("cb1", f"cb1.{DOMAIN}"), (made.name, made.address))
        self.assertEqual({made.secrets[0].secret.value}, self.accepted())
        self.assertEqual(["cb1", "fixed"], [c.name for c in self.ours.known()])
        self.assertEqual(1, len(self.changes))
        given = self.ours.add("cb2", Secret("somebody's"))
        self.assertEqual({"somebody's"}, self.accepted("cb2"))
        self.assertNotIn("somebody's", repr(given))

    def test_bad_name(self) -> None:
        """It is refused with a cure."""
        said = str(self.assertRaises(StoreError, self.ours.add, "cb1@x"))
        self.assertIn("without a domain part", said)
        self.assertRaises(UnknownCallbridge, self.ours.find, "cb9")

    def test_rotate_and_expire(self) -> None:
        """The old secret goes by itself."""
        old = self.ours.add("cb1").secrets[0].secret.value
        new = self.ours.rotate("cb1", 10).secrets[0].secret.value
        self.assertEqual({old, new}, self.accepted())
        self.clock.advance(10)
        self.ours.expire()
        self.assertEqual({new}, self.accepted())
        self.assertEqual(3, len(self.changes))
        self.ours.expire()
        self.assertEqual(3, len(self.changes))

    def test_watch(self) -> None:
        """What another process does counts within a second."""
        watch = CallbridgeWatch(self.ours, self.clock)
        watch.startService()
        secret = self.theirs.add("cb1").secrets[0].secret.value
        self.assertEqual(set(), self.accepted())
        self.clock.advance(1)
        self.assertEqual({secret}, self.accepted())
        self.theirs.rotate("cb1", 5)
        self.clock.pump([0.5] * 2)
        self.assertEqual(2, len(self.accepted()))
        self.clock.pump([0.5] * 10)
        self.assertEqual(1, len(self.accepted()))
        self.theirs.delete("cb1")
        self.clock.pump([0.5])
        self.assertNotIn(f"cb1.{DOMAIN}", self.ours.registry)
        watch.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_watch_survives(self) -> None:
        """A store that cannot be read is complained of once, and what counted counts."""
        self.theirs.add("cb1")
        watch = CallbridgeWatch(self.ours, self.clock)
        watch.startService()
        self.addCleanup(watch.stopService)
        path = self.ours.store.database.path
        self.theirs.add("cb2")
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE secrets RENAME TO hidden")
        with capturedLogs() as caught:
            self.clock.pump([0.5] * 4)
        self.assertEqual(1, len(self.accepted()))
        self.assertEqual(1, len([e for e in caught if e["log_level"] is LogLevel.error]))
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE hidden RENAME TO secrets")
        self.clock.pump([0.5] * 2)
        self.assertEqual(1, len(self.accepted("cb2")))

    def test_doubled(self) -> None:
        """One that was added before it came into the file: the file counts."""
        self.ours.store.add("fixed", Secret("added"))
        self.ours.refresh()
        self.assertEqual({"in the file"}, self.accepted("fixed"))
        self.assertEqual(["fixed"], self.ours.doubled())
        self.assertEqual(1, len(self.ours.known()))

    def test_other_domain(self) -> None:
        """Names follow the domain; one that makes no sense there is left out."""
        self.ours.add("cb1")
        self.ours.add("other.example.org")
        other = evolve(self.config, domain="other.example.org")
        moved = Callbridges(other, self.clock.seconds)
        self.assertIn("cb1.other.example.org", moved.registry)
        self.assertEqual(["cb1", f"fixed.{DOMAIN}"], [c.name for c in moved.known()])


class LinkTests(SynchronousTestCase):
    """Links whose secret is not accepted any more."""

    def setUp(self) -> None:
        """A server with a link."""
        self.server = Server()
        self.registry = self.server.components.registry
        self.address = f"cb1.{DOMAIN}"
        self.peer = self.server.register("cb1")
        self.peer.heard()

    def test_deleted(self) -> None:
        """A Callbridge that was deleted is told so."""
        del self.registry.secrets[self.address]
        self.peer.handler.judge_secret()
        self.assertIn("host-gone", self.peer.heard())
        self.assertIsNone(self.server.links.get(self.address))

    def test_expired(self) -> None:
        """So is one whose secret was rotated away."""
        self.registry.secrets[self.address] = (Secret("another"),)
        self.peer.handler.judge_secret()
        self.assertIn("not-authorized", self.peer.heard())

    def test_still_good(self) -> None:
        """A link stays while its secret is accepted."""
        self.registry.secrets[self.address] = (Secret("another"), Secret(SECRETS["cb1"]))
        self.peer.handler.judge_secret()
        self.assertEqual("", self.peer.heard())
        self.assertFalse(self.peer.lost)

    def test_deleted_while_probing(self) -> None:
        """A newcomer that waits for the older link is refused when it is deleted meanwhile."""
        newcomer = self.server.component()
        newcomer.open(to=self.address, version="")
        newcomer.say(f"<handshake>{self.proof(newcomer)}</handshake>")
        del self.registry.secrets[self.address]
        self.server.clock.advance(5)
        self.assertIn("host-gone", newcomer.heard())
        self.assertIsNone(self.server.links.get(self.address))

    def proof(self, peer: object) -> str:
        """The handshake for a peer's stream."""
        stream_id = peer.stream_id  # type: ignore[attr-defined]
        return hashlib.sha1((stream_id + SECRETS["cb1"]).encode()).hexdigest()
