"""C{[cluster]} of F{xmpp.toml}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.xmpp.clustersettings import parse_engine
from cms.xmpp.config import XmppConfig, read_config
from tests.support import new_folder

FILE = """
domain = "meet.example.com"
hostname = "xmpp1.meet.example.com"
[listen]
client_plain = ["tcp:5222:interface=127.0.0.1"]
"""


class EngineTests(SynchronousTestCase):
    """Addresses of engines."""

    def test_read(self) -> None:
        """Each form, with what is usual where nothing is said."""
        for text, shown in (
            ("redis://h.example", "redis://h.example:6379/0"),
            ("redis://192.0.2.1:6380/3", "redis://192.0.2.1:6380/3"),
            ("rediss://[2001:db8::1]:6380/", "rediss://[2001:db8::1]:6380/0"),
            ("sentinel://a,b:1/main", "sentinel://a:26379,b:1/main/0"),
            ("sentinel://a/main/2", "sentinel://a:26379/main/2"),
        ):
            self.assertEqual(shown, str(parse_engine(text)))
        self.assertTrue(parse_engine("rediss://h").tls)
        self.assertEqual("main", parse_engine("sentinel://a/main").master)

    def test_refused(self) -> None:
        """Whatever else there may be."""
        for text in (
            *("", "redis", "redis://", "http://h", "redis://h:x", "redis://h:70000", "redis://a,b"),
            *("redis://h/x", "redis://h/1/2", "redis://u:p@h", "redis://h?x", "redis://h/99999"),
            *("sentinel://a", "sentinel://a/", "sentinel:///main", "sentinel://a/b/c/d"),
            "sentinel://" + ",".join("abcdefghijklmnopqrstuvwxyz") + "/main",
        ):
            self.assertRaises(ValueError, parse_engine, text)

    def test_password_is_not_shown(self) -> None:
        """Not even in the complaint that it stands in the wrong place."""
        problem = self.assertRaises(ValueError, parse_engine, "redis://cms:s3cret@h")
        self.assertNotIn("s3cret", str(problem))


class SectionTests(SynchronousTestCase):
    """The section as a whole."""

    def read(self, text: str) -> XmppConfig:
        """A file with this at its end."""
        file = new_folder(self) / "xmpp.toml"
        (file.parent / "pw").write_text("s3cret\n")
        file.write_text(FILE + text)
        return read_config(file)

    def test_left_out(self) -> None:
        """This server is alone."""
        self.assertIsNone(self.read("").cluster)

    def test_given(self) -> None:
        """Everything."""
        cluster = self.read(
            '[cluster]\nengine = "redis://h"\nuser = "cms"\npassword_file = "pw"\nnode = "x1"\n'
            "lease = 8\npatience = 20\nwindow = 100000\n"
        ).cluster
        assert cluster is not None
        assert cluster.password is not None
        self.assertEqual("s3cret", cluster.password.value)
        self.assertEqual(("cms", "x1", 8.0), (cluster.user, cluster.node, cluster.lease))

    def test_empty(self) -> None:
        """A section without an engine is a mistake, and not an answer."""
        error = self.assertRaises(faults.ConfigurationError, self.read, "[cluster]\n")
        self.assertIn("cluster.engine", str(error))

    def test_node(self) -> None:
        """A name that would not fit a key of the engine is refused."""
        for name in ("", "a b", "a:b", "-", "x" * 80):
            text = f'[cluster]\nengine = "redis://h"\nnode = "{name}"\n'
            error = self.assertRaises(faults.ConfigurationError, self.read, text)
            self.assertIn("cluster.node", str(error))
