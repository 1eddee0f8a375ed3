"""What operators see of a cluster: status, health, figures, commands and the page."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.xmppapi import CLUSTER
from cms.admin.xmpppages import cluster_section
from cms.xmpp.metrics import ClusterCollector
from tests.clustersimulation import Cluster, ClusterServer
from tests.commandline import XMPP, CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.test_metrics import Figures


class ShownTests(SynchronousTestCase):
    """Two servers; a client and a Callbridge at the second."""

    def setUp(self) -> None:
        """As it is usually."""
        self.cluster = Cluster()
        self.one, self.two = self.cluster.server("one"), self.cluster.server("two")
        self.cluster_callbridge = self.two.callbridge()
        self.two.bound(self.cluster_callbridge, "bob")
        self.cluster.run(0.5)

    def status(self) -> dict[str, Any]:
        """What the first says."""
        return self.one.clustering.status()

    def cut_off(self) -> None:
        """The first loses the engine."""
        self.one.engine.disconnect()
        self.cluster.run(0.5)
        self.assertEqual(1, len(self.flushLoggedErrors()))

    def test_in(self) -> None:
        """All of it, in the form that the API promises."""
        status = self.status()
        schema = {**CLUSTER, "properties": {**CLUSTER["properties"], "problem": {}}}
        Draft202012Validator(schema).validate(status)
        self.assertEqual(("one", "in", None), (status["node"], status["state"], status["problem"]))
        (node,) = status["nodes"]
        self.assertEqual(("two", 1, 1, 1), (node["node"], *self.one.nodes.held(self.peer)))
        self.assertEqual((1, 1), (node["sessions"], node["deciding"]))

    @property
    def peer(self) -> Any:
        """The second, as the first knows it."""
        return self.one.node.peers["two"]

    def test_out(self) -> None:
        """Who is cut off says so, with cause and cure."""
        self.cut_off()
        status = self.status()
        self.assertEqual("out", status["state"])
        self.assertEqual("cluster-cut-off", status["problem"]["fault"])
        self.assertTrue(status["problem"]["cure"])

    def test_learning(self) -> None:
        """A server that has just joined is not in until it knows who is at the others."""
        for number in range(30):
            self.two.bound(self.cluster_callbridge, f"u{number}")
        three = ClusterServer(self.cluster, "three")
        self.cluster.servers.append(three)
        seen = []
        for _ in range(20):
            seen.append((three.clustering.status()["state"], len(three.known)))
            self.cluster.run(0.02)
        self.assertIn(("out", 0), seen)
        self.assertEqual({("in", 31)}, {one for one in seen if one[0] == "in"})

    def test_figures(self) -> None:
        """For each other server, and whether it is in."""
        figures = Figures(ClusterCollector(self.one.clustering))
        self.assertEqual(1, figures("cms_xmpp_cluster_in"))
        self.assertEqual(1, figures("cms_xmpp_cluster_sessions", node="two"))
        self.assertEqual(1, figures("cms_xmpp_cluster_deciding", node="two"))
        received = figures("cms_xmpp_cluster_entries_total", node="two", direction="received")
        self.assertGreater(received or 0, 0)
        self.cut_off()
        self.assertEqual(0, figures("cms_xmpp_cluster_in"))

    def test_page(self) -> None:
        """A table of the others; nothing for a server that is alone."""
        self.assertEqual([], cluster_section(None))
        text = str(cluster_section(self.status()))
        for word in ("one is in the cluster on memory", "two", "bytes"):
            self.assertIn(word, text)
        self.cut_off()
        self.assertIn("is cut off from the other servers", str(cluster_section(self.status())))


class CommandTests(CommandLineTests):
    """C{cms xmpp cluster}."""

    def setUp(self) -> None:
        """A server that runs, in a cluster of two."""
        super().setUp()
        cluster = Cluster()
        self.one, two = cluster.server("one"), cluster.server("two")
        two.bound(two.callbridge(), "bob")
        cluster.run(0.5)
        (self.folder / "xmpp.toml").write_text(XMPP + '[cluster]\nengine = "redis://h"\n')
        self.daemon = FakeDaemon(self, self.folder / "xmpp")
        self.tell(self.one.clustering.status())

    def tell(self, facts: dict[str, Any]) -> None:
        """What the server says of its cluster."""
        usual = {"softwareVersion": "1", "uptimeSeconds": 1, "callBridgesKnown": 1, "clients": 0}
        status = {**usual, "callBridgesActive": 0, "cluster": facts}
        self.daemon.get("system/status", {"status": json.loads(json.dumps(status))})

    def test_status(self) -> None:
        """Its own part, that nobody leads, and the others."""
        said = self.said("xmpp", "cluster", "status")
        for word in ("one", "there is no leader here", "Server two", "1 client, 1 component"):
            self.assertIn(word, said)
        facts = json.loads(self.cms("xmpp", "cluster", "status", "--json").stdout)
        self.assertEqual(["two"], [node["node"] for node in facts["nodes"]])

    def test_cut_off(self) -> None:
        """Status 1, with cause and cure."""
        error = {"cause": "one cannot renew its lease.", "cure": "Look at the engine."}
        self.tell({**self.one.clustering.status(), "state": "out", "problem": error})
        said = self.said("xmpp", "cluster", "status", status=1)
        self.assertIn("Error: one cannot renew its lease. Cure: Look at the engine.", said)

    def test_alone(self) -> None:
        """A server without the section is told how to have one."""
        (self.folder / "xmpp.toml").write_text(XMPP)
        said = self.said("xmpp", "cluster", "status", status=2)
        self.assertIn("has no [cluster]", said)

    def test_original_words(self) -> None:
        """What makes no sense here says why, and what to do."""
        joined = self.said("xmpp", "cluster", "join", "192.0.2.1", status=2)
        self.assertIn("there is no leader to ask. Cure: ", joined)
        removed = self.said("xmpp", "cluster", "remove", "two", status=2)
        self.assertIn("is gone when its lease is over. Cure: ", " ".join(removed.split()))

    def test_remove(self) -> None:
        """What is missing until a server has left, and that it has."""
        facts = self.one.clustering.status()
        (node,) = facts["nodes"]
        self.tell({**facts, "nodes": [{**node, "draining": True}]})
        said = " ".join(self.said("xmpp", "cluster", "remove", "two", status=2).split())
        self.assertIn("two takes nothing any more, and leaves when it stops. Cure: ", said)
        self.tell({**facts, "nodes": []})
        said = self.said("xmpp", "cluster", "remove", "two")
        self.assertIn("nothing is left of two: in the cluster are one", said)
        self.assertRegex(self.said("xmpp", "cluster", "status"), "Draining +: false")
