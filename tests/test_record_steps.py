"""The steps of an attempt in the record: one line, of which readers get an entry each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.record.files import LINKS, MOST_LINE, STRANGERS, files_of, read
from cms.record.reading import Wanted
from cms.record.record import BURST, MOST_WAITING, WRITE_EVERY, Record
from cms.record.steps import MOST, spread
from cms.record.words import told
from cms.signalflow import Attempt, Step
from tests.support import new_folder
from tests.test_record import NOW, Reactor
from tests.test_xmpp_costs import calls
from tests.xmppserver import DOMAIN, Server

COMPONENT = f"echo.{DOMAIN}"
PEER = "192.0.2.7 port 5000"


class StepsTestCase(SynchronousTestCase):
    """A record in a folder."""

    def setUp(self) -> None:
        """Nothing is in it."""
        self.folder = new_folder(self)
        self.reactor: Any = Reactor()
        self.record = Record(
            *(self.reactor, self.folder, "xmpp", "r1"), days=14, most=32 * 1_048_576
        )

    def entries(self, **wanted: Any) -> list[dict[str, Any]]:
        """After all was written."""
        self.reactor.advance(WRITE_EVERY)
        return Wanted(**wanted).of(read(self.folder))

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        """Those of the files, each with its share."""
        self.reactor.advance(WRITE_EVERY)
        texts: list[tuple[str, Path]] = [(share, path) for share, _, path in files_of(self.folder)]
        return [
            (share, json.loads(line))
            for share, path in texts
            for line in path.read_text().splitlines()
        ]

    def register(self, number: int = 1, component: str = COMPONENT) -> Attempt:
        """A component has registered."""
        attempt = Attempt(number, NOW, self.record.step)
        attempt.begin(Step.REGISTER, NOW, peer=PEER)
        attempt.passed(NOW + 0.0012, component=component, link="l1")
        attempt.begin(Step.REGISTERED, NOW + 0.0012, component=component)
        attempt.begin(Step.ACTIVE, NOW + 0.0034, peer=PEER, component=component)
        return attempt

    def refuse(self, component: str = "", peer: str = PEER) -> None:
        """A component is refused."""

        def step(attempt: Attempt, record: Any) -> None:
            self.record.step(attempt, record, known=bool(component))

        attempt = Attempt(1, NOW, step)
        attempt.begin(
            Step.REGISTER, NOW, peer=peer, **{"component": component} if component else {}
        )
        attempt.failed(NOW, faults.PEER_WRONG_SECRET.error(peer=peer, component="x"))


class StepsTests(StepsTestCase):
    """What is written, and what is read of it."""

    def test_registration(self) -> None:
        """A line; readers get an entry for each step, with all that they had in lines of theirs."""
        self.reactor.advance(0.25)
        attempt = self.register()
        attempt.failed(NOW + 0.25, faults.LINK_SILENT.error(peer=PEER, seconds=5))
        ((share, line),) = self.lines()
        self.assertEqual((LINKS, 4), (share, len(line["steps"])))
        base = {"at": NOW + 0.25, "kind": "link", "by": "xmpp", "attempt": "r1-1"}
        both = {"peer": PEER, "component": COMPONENT}
        fault = faults.LINK_SILENT.error(peer=PEER, seconds=5)
        expected: list[dict[str, Any]] = [
            {
                **base,
                "step": 9,
                "name": "register",
                "result": "passed",
                "evidence": {**both, "link": "l1"},
                "link": "l1",
                "seconds": 0.0012,
            },
            {
                **base,
                "step": 10,
                "name": "registered",
                "result": "passed",
                "evidence": {"component": COMPONENT},
                "link": "l1",
                "seconds": 0.0022,
            },
            {**base, "step": 11, "name": "active", "result": "up", "evidence": both, "link": "l1"},
            {
                **base,
                "step": 11,
                "name": "active",
                "result": "failed",
                "evidence": {**both, **fault.evidence},
                "link": "l1",
                "seconds": 0.2466,
                "fault": "link-silent",
                "cause": fault.cause,
                "cure": fault.cure,
            },
        ]
        found = self.entries()
        self.assertEqual(expected, found)
        self.assertEqual([list(each) for each in expected], [list(each) for each in found])
        for wanted in ({"attempt": "r1-1"}, {"attempt": "l1"}):
            self.assertEqual(expected, self.entries(**wanted))
        self.assertEqual([], self.entries(attempt="l2"))

    def test_moments(self) -> None:
        """Each has its own moment, and those before it are left out if it is asked for."""
        attempt = Attempt(1, NOW, self.record.step)
        for _ in range(3):
            attempt.once(Step.PORT, NOW)
            self.reactor.advance(0.1)
        moments = [round(NOW + part, 3) for part in (0.0, 0.1, 0.2)]
        self.assertEqual(moments, [entry["at"] for entry in self.entries()])
        self.assertEqual(moments[1:], [entry["at"] for entry in self.entries(since=NOW + 0.05)])

    def test_end(self) -> None:
        """What comes later is another line, of the same link."""
        attempt = self.register()
        self.assertEqual(3, len(self.entries()))
        self.reactor.advance(3_600)
        attempt.passed(NOW + 3_600, ended="closed")
        (entry,) = self.entries(since=NOW + 60, attempt="l1")
        self.assertEqual(("passed", "closed"), (entry["result"], entry["evidence"]["ended"]))
        self.assertEqual([3, 1], [len(line["steps"]) for _, line in self.lines()])

    def test_running(self) -> None:
        """That a link is up stays as it was told, though its end adds to the step."""
        self.register().passed(NOW, ended="closed")
        up, ended = self.entries()[2:]
        self.assertEqual(("up", False), (up["result"], "ended" in up["evidence"]))
        self.assertEqual("closed", ended["evidence"]["ended"])

    def test_words(self) -> None:
        """Whatever a peer says, the line can be read, and says it."""
        said = 'a"\\\n\u2028\udc80é"],"attempt":"l9"'
        attempt = Attempt(1, NOW, self.record.step)
        attempt.begin(Step.REGISTER, NOW, peer=said)
        attempt.passed(NOW)
        (entry,) = self.entries()
        self.assertEqual(said.replace("\udc80", "?"), entry["evidence"]["peer"])
        self.assertEqual("r1-1", entry["attempt"])
        self.assertIn("step 9 register passed", told(entry))

    def test_long(self) -> None:
        """What is too long for a line is a line for each step, as far as it fits."""
        attempt = Attempt(1, NOW, self.record.step, id="ab-1")
        attempt.once(Step.SRV, NOW, answer="x" * 3_000)
        attempt.once(Step.ADDRESS, NOW, answer="x" * 3_000)
        attempt.once(Step.CONNECT, NOW, answer="x" * MOST_LINE)
        self.assertEqual(3, len(self.lines()))
        found = self.entries(attempt="ab-1")
        self.assertEqual(["srv", "address", "connect"], [each["name"] for each in found])
        self.assertEqual([True, True, False], ["evidence" in each for each in found])

    def test_many(self) -> None:
        """A line has so many steps at most; whatever an attempt does, what waits is bounded."""
        attempt = Attempt(1, NOW, self.record.step)
        for _ in range(MOST + 1):
            attempt.once(Step.ADDRESS, NOW)
        self.assertEqual([MOST, 1], [len(line["steps"]) for _, line in self.lines()])
        for number in range(MOST_WAITING + 3):
            Attempt(number, NOW, self.record.step).once(Step.PORT, NOW)
        self.assertEqual(3, self.record.lost)
        self.assertEqual(MOST_WAITING, len(self.record._waiting))

    def test_share(self) -> None:
        """They are of the share of links as soon as it is known whose they are."""
        attempt = Attempt(1, NOW)
        attempt.observer = lambda each, step: self.record.step(each, step, known=False)
        attempt.once(Step.TLS, NOW, peer=PEER)
        self.refuse()
        attempt.observer = self.record.step
        attempt.once(Step.REGISTER, NOW, component=COMPONENT)
        steps = {share: [told[1] for told in line["steps"]] for share, line in self.lines()}
        self.assertEqual({LINKS: [7, 9], STRANGERS: [9, 10]}, steps)

    def test_damaged(self) -> None:
        """What the disk made of a line is passed over, and the rest of it is read."""
        self.register()
        ((_, line),) = self.lines()
        good = line["steps"][0]
        wrong: Any
        more: Any
        for wrong in ([], [1], "x", None, {}, ["0", *good[1:]], [0, 99, *good[2:]]):
            damaged = {**line, "steps": [wrong, good]}
            self.assertEqual(["register"], [each["name"] for each in spread(damaged)], wrong)
        for wrong in ([10**400, *good[1:]], [0, 9, None, {}, 0], [0, 9, "passed", [], 0]):
            self.assertEqual([], list(spread({**line, "steps": [wrong]})), wrong)
        for at in (None, "x", 10**400, float("inf"), float("nan")):
            self.assertEqual([], list(spread({**line, "at": at})), at)
        for more in ("x", None, {}):
            (entry,) = spread({**line, "steps": [[*good[:4], more, more]], "link": more})
            self.assertTrue(told(entry))


class FloodTests(StepsTestCase):
    """Who comes again and again pushes out nobody."""

    def test_component(self) -> None:
        """A component that registers all the time; its failures count apart, how many is told."""
        for number in range(3 * BURST):
            self.register(number)
        self.register(0, f"cb1.{DOMAIN}")
        for _ in range(2 * BURST):
            self.refuse(COMPONENT)
        lines = [line for _, line in self.lines()]
        self.assertEqual(2 * BURST + 1, len(lines))
        self.reactor.advance(60)
        self.register()
        entry = self.entries(since=NOW + 60)[0]
        self.assertTrue(told(entry).endswith(f"; {2 * BURST} more before it were left out"))
        self.assertEqual([2 * BURST], [e["leftOut"] for e in self.entries() if "leftOut" in e])

    def test_network(self) -> None:
        """Whoever names no component of this server, by his network."""
        for number in range(2 * BURST):
            self.refuse(peer=f"192.0.2.9 port {number}")
        self.refuse(peer="192.0.2.10 port 1")
        self.register()
        shares = [share for share, _ in self.lines()]
        self.assertEqual(BURST + 1, shares.count(STRANGERS))
        self.assertEqual(1, shares.count(LINKS))


class CostTests(StepsTestCase):
    """What a registration pays for its record, in calls of our own functions."""

    def test_registration(self) -> None:
        """One line for all four steps, which takes 13 calls; 28 when each had its own."""
        server = Server()
        server.flow._record = self.record

        def register() -> None:
            peer = server.register("echo")
            peer.stream.connectionLost(Failure(ConnectionDone()))

        register()
        with_record = calls(register)
        self.assertEqual([4, 4], [len(line["steps"]) for _, line in self.lines()])
        self.record.is_on = False
        self.assertLessEqual(with_record - calls(register), 13)
