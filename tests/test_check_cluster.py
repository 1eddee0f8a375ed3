"""C{cms check --server} of a server in a cluster, over a network in memory."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import hiredis
from attrs import frozen
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from cms.audit.finding import Finding
from cms.check.clusterside import MOST_SECONDS, ClusterCheck, OwnNode
from tests.test_cluster_redis import HOST, INFO, PORT, Named, settings

DOMAIN = "meet.example.com"


@frozen
class Says:
    """
    A Redis that answers by the first word.

    @ivar hashes: Those that it has.
    @ivar forbidden: The commands that this user may not give.
    @ivar silent: What it does not answer.
    """

    network: Named
    hashes: Mapping[str, Mapping[str, str]]
    forbidden: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()

    def answer(self, words: list[bytes]) -> bytes:
        """As it is written."""
        name = words[0].decode()
        if name in self.silent:
            return b""
        if name.lower() in self.forbidden:
            return b"-NOPERM this user has no permissions to run the command\r\n"
        if name == "INFO":
            return b"$%d\r\n%s\r\n" % (len(INFO), INFO)
        if name == "TIME":
            now = str(round(self.network.wall_seconds()))
            return b"*2\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(now), now.encode())
        if name == "HGETALL":
            flat = [x for pair in self.hashes.get(words[1].decode(), {}).items() for x in pair]
            items = b"".join(b"$%d\r\n%s\r\n" % (len(x.encode()), x.encode()) for x in flat)
            return b"*%d\r\n%s" % (len(flat), items)
        return b":0\r\n"

    def __call__(self) -> Protocol:
        """Its end of a connection."""
        says = self

        class Redis(Protocol):
            def connectionMade(self) -> None:
                self.reader = hiredis.Reader()

            def dataReceived(self, data: bytes) -> None:
                self.reader.feed(data)
                while (words := self.reader.gets()) is not False:
                    assert isinstance(words, list), words
                    assert self.transport is not None
                    self.transport.write(says.answer(words))

        return Redis()


class ClusterTests(SynchronousTestCase):
    """What is found, and what is told of it."""

    def setUp(self) -> None:
        """A network."""
        self.network = Named()

    def found(
        self,
        nodes: Mapping[str, str] | None = None,
        *,
        status: Mapping[str, Any] | None = None,
        **redis: Any,
    ) -> list[Finding]:
        """
        The findings.

        @param nodes: Value by name; all have leases.
        """
        until = str(round(self.network.wall_seconds() * 1000) + 5000)
        hashes = {
            "cms:service": {"domain": DOMAIN, "protocol": "1"},
            "cms:nodes": nodes or {},
            "cms:leases": dict.fromkeys(nodes or {}, until),
        }
        self.network.servers[HOST, PORT] = Says(self.network, hashes, **redis)
        own = OwnNode("one", "one.example.com", DOMAIN, settings())
        check = ClusterCheck(self.network, own, Random(1).randbytes, status)

        async def all_() -> list[Finding]:
            return [finding async for finding in check.findings()]

        began = self.network.seconds()
        (found,) = self.network.finish(all_())
        self.assertLessEqual(self.network.seconds() - began, MOST_SECONDS)
        return found

    def faults(self, found: list[Finding]) -> list[str]:
        """Their names."""
        return [finding.problem.fault for finding in found if finding.problem is not None]

    def test_in(self) -> None:
        """It is in, with another one."""
        nodes = {"one": '7 a {"version":"1"}', "two": '8 b {"version":"1"}'}
        found = self.found(nodes, status={"generation": 7})
        self.assertEqual([], self.faults(found))
        self.assertEqual("one 1, two 1", found[-1].evidence["nodes"])

    def test_cut_off(self) -> None:
        """It runs, and has no lease."""
        found = self.found({"two": '8 b {"version":"1"}'}, status={"generation": 7})
        self.assertEqual(["cluster-cut-off"], self.faults(found))

    def test_name_taken(self) -> None:
        """Another process has its name: it runs and says so, or it does not run."""
        for status in ({"generation": 7}, None):
            found = self.found({"one": '9 c {"host":"other"}'}, status=status)
            self.assertEqual(["cluster-name-taken"], self.faults(found))

    def test_joining(self) -> None:
        """It was started a moment ago; its name may have the lease of its process before."""
        status = {"generation": 0, "problem": {"fault": "cluster-not-yet"}}
        for nodes in ({"one": '9 c {"host":"one.example.com"}'}, {}):
            found = self.found(nodes, status=status)
            self.assertEqual(["cluster-not-yet"], self.faults(found))

    def test_garbage(self) -> None:
        """What nobody of ours has written accuses nobody."""
        self.assertEqual([], self.faults(self.found({"two": "what is this"})))

    def test_rights(self) -> None:
        """Each that is missing; who may not delete a key makes none."""
        found = self.found({}, forbidden=frozenset({"del", "xtrim"}))
        self.assertEqual(["engine-rights"], self.faults(found))
        problem = found[0].problem
        assert problem is not None
        self.assertEqual("xtrim, del", problem.evidence["missing"])
        self.assertIn("nodes", [finding.about for finding in found])

    def test_silent(self) -> None:
        """An engine that stops to answer, at whichever question: it ends within its time."""
        for command in ("INFO", "EVAL", "TIME", "HGETALL"):
            found = self.found({}, silent=frozenset({command}))
            self.assertEqual(["engine-unreachable"], self.faults(found), command)
