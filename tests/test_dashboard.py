"""The dashboard, the alerts and the list of figures speak of figures that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

import tests
from cms import faults
from cms.callbridge.directories.making import House
from cms.callbridge.metrics import DirectoriesCollector
from cms.configuration.shared import RecordSettings
from cms.metrics.exposition import RecordCollector
from cms.process.threads import SlowWork
from cms.record.record import make_record
from cms.signalflow import Step
from cms.xmpp.contacts.figures import ContactFigures
from cms.xmpp.metrics import ClusterCollector, ContactsCollector, DrainCollector, PeopleCollector
from tests import test_metrics as metrics
from tests.clustersimulation import Cluster
from tests.ldapstage import LdapStage
from tests.test_xmpp_contacts import House as ContactHouse
from tests.xmppserver import Threads

DOCS = Path(tests.__file__).parent.parent / "docs"
FOREIGN = {"up"}  # Prometheus's own
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_NAME = re.compile(r"\b(?:cms|process|python)_[a-z0-9_]+|\bup\b(?=\{)")
_SELECTOR = re.compile(r"\b([a-z][a-z0-9_]+)\{([^}]*)\}")
_LABEL = re.compile(r"([a-z_]+)\s*(=~|!=|=|!~)\s*\"([^\"]*)\"")
_LEGEND = re.compile(r"\{\{(\w+)\}\}")
_BY = re.compile(r"\bby \(([^)]*)\)")


def clustered() -> metrics.Figures:
    """Those of a server of a cluster."""
    cluster = Cluster()
    first, _ = cluster.server("one"), cluster.server("two")
    return metrics.Figures(ClusterCollector(first.clustering), DrainCollector(first.drain))


def befriended() -> str:
    """Those of a server whose users have contacts."""
    house = ContactHouse("run")
    house.setUp()
    house.set("alice", "<item jid='@'/>")
    figures = ContactFigures(house.server.contacts, SlowWork(Threads()))
    known = PeopleCollector(house.server.people.figures)
    text = metrics.Figures(ContactsCollector(figures), known).text
    house.doCleanups()
    return text


def looked_up() -> str:
    """Those of a Callbridge that asks a directory, and of the record."""
    with TemporaryDirectory() as folder:
        stage = LdapStage(Path(folder))
        stage.person("alice")
        stage.sync.run()
        nobody: Any = None
        house = House(nobody, {"ldap": stage.sync})
        text = metrics.Figures(DirectoriesCollector(house)).text
        for role in ("xmpp", "callbridge"):
            record = make_record(stage.clock, RecordSettings(), Path(folder), role)
            text += metrics.Figures(RecordCollector(role, record)).text
        stage.close()
    return text


def exposed() -> dict[str, set[str]]:
    """Every series' name that the two daemons render, with its labels."""
    server = metrics.ServerTests("test_links")
    server.setUp()
    callbridge = server.server.callbridge()
    server.server.bound(callbridge, "alice")
    server.server.router.bounced["x"] += 1
    server.server.counters.stream_refused("x")
    other = metrics.CallbridgeTests("test_link")
    other.setUp()
    other.world.link.start()
    other.world.activate()
    other.counters.login("PLAIN", "success", 0.1)
    found: dict[str, set[str]] = {}
    texts = server.figures.text, other.figures.text, clustered().text, befriended(), looked_up()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each query of a dashboard with its legend."""
    for panel in panels:
        for target in panel.get("targets", ()):
            yield target["expr"], target.get("legendFormat", "")
        yield from queries(panel.get("panels", []))


class DocumentTests(SynchronousTestCase):
    """What operators are given."""

    def setUp(self) -> None:
        """See what there is."""
        self.exposed = exposed()

    def labels(self, query: str) -> set[str]:
        """Those of its result."""
        bare = _STRING.sub('""', query)
        grouped = _BY.findall(bare)
        if grouped:
            return {label.strip() for labels in grouped for label in labels.split(",")}
        found = (self.exposed.get(name, set()) for name in _NAME.findall(bare))
        return {"job", "instance"}.union(*found)

    def assert_exists(self, query: str) -> None:
        """Its figures and labels are exposed."""
        bare = _STRING.sub('""', query)
        names = set(_NAME.findall(bare))
        self.assertTrue(names, query)
        self.assertEqual(set(), names - set(self.exposed) - FOREIGN, query)
        for name, matchers in _SELECTOR.findall(query):
            labels = {label for label, _, _ in _LABEL.findall(matchers)}
            known = self.exposed.get(name, set()) | {"job", "instance"}
            self.assertEqual(set(), labels - known, query)
        known = {"job", "instance", "le"}.union(*(self.exposed.get(n, set()) for n in names))
        for labels in _BY.findall(bare):
            self.assertEqual(set(), {label.strip() for label in labels.split(",")} - known, query)

    def test_dashboard(self) -> None:
        """Ready to import: its own data source variable, panels that do not overlap."""
        dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
        shown = list(queries(dashboard["panels"]))
        self.assertGreater(len(shown), 30)
        for query, legend in shown:
            self.assert_exists(query)
            self.assertEqual(set(), set(_LEGEND.findall(legend)) - self.labels(query), query)
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            self.assertEqual(set(), cells & taken, panel["title"])
            taken |= cells
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual("${datasource}", shown and dashboard["panels"][1]["datasource"]["uid"])

    def test_dashboard_shows_everything(self) -> None:
        """Each figure of ours is somewhere on it."""
        text = (DOCS / "grafana-dashboard.json").read_text()
        ours = {name for name in self.exposed if name.startswith("cms_")}
        absent = {
            name
            for name in ours
            if not name.endswith(("_count", "_sum", "_since_timestamp_seconds"))
            and name not in text
        }
        self.assertEqual(set(), absent)

    def test_alerts(self) -> None:
        """Each expression; and each reason in one is in the catalogue."""
        text = (DOCS / "alerts.yml").read_text()
        expressions = re.findall(r"expr: (>\n(?:          .*\n)+|.*\n)", text)
        self.assertEqual(text.count("- alert:"), len(expressions))
        for expression in expressions:
            self.assert_exists(expression)
            for label, _, value in _LABEL.findall(expression):
                if label == "reason":
                    known = [faults.CATALOGUE[name] for name in value.split("|")]
                    self.assertIn("cms_callbridge_failures_total", expression)
                    self.assertEqual([], [f.name for f in known if faults.Side.LINK not in f.on])

    def test_list(self) -> None:
        """docs/metrics.md has each figure of ours, with its labels, and no other."""
        text = (DOCS / "metrics.md").read_text()
        rows = re.findall(r"^\| `(cms_[a-z_]+)(?:\{([a-z_, ]+)\})?` \|", text, re.MULTILINE)
        listed = {name: {x.strip() for x in labels.split(",") if x} for name, labels in rows}
        ours = {
            re.sub(r"_(bucket|count|sum)$", "", name): labels - {"le"}
            for name, labels in self.exposed.items()
            if name.startswith("cms_")
        }
        self.assertEqual(ours, listed)

    def test_step_names(self) -> None:
        """The dashboard's words for the steps are those of the signal flow."""
        text = (DOCS / "grafana-dashboard.json").read_text()
        for step in Step:
            self.assertIn(f'"{int(step)} {step.title}"', text)
