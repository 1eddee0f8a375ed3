"""
What can be wrong with the engine of a cluster, for real: one line with cause and cure, and
what is local goes on.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from pathlib import Path

import pytest
from attrs import frozen

from cms import faults
from cms.cluster import scripts
from peers import stubs
from peers.certs import Certificates
from peers.clusterworld import ask
from peers.component import header as component_header
from peers.contract import DOMAIN, ROOT
from peers.daemons import XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.redis import Redis

JOINED = "is in the cluster, generation"
SECONDS = 60.0
USER = (
    "user cms on >pw ~cms:* resetchannels -@all +@connection +info +time +eval +exists +del"
    " +hget +hset +hsetnx +hdel +hgetall +xadd +xgroup +xreadgroup +xtrim +role"
)


class Stage:
    """A server that is to join, and perhaps a Redis."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        self.certificates = certificates
        self.server = self.another("xmpp1")

    def another(self, name: str) -> XmppServer:
        """A server."""
        server = XmppServer(self.processes, self.certificates, {"cb1": "s3cret"}, name)
        server.settings["cluster"] = {"lease": 2}
        return server

    def redis(self, *options: str) -> Redis:
        """A Redis that runs, and is the server's engine."""
        redis = Redis(self.processes, *options)
        redis.start()
        self.uses(redis.address)
        return redis

    def uses(self, engine: str, **more: str) -> None:
        """What the server is told of its engine."""
        self.server.settings["cluster"].update(engine=engine, **more)

    def told(self, fault: faults.Fault, *words: str) -> str:
        """The one line about a fault, once it was written."""
        process = self.server.process
        start = fault.cause.partition("{")[0]

        def lines() -> list[str]:
            return [
                line
                for line in process.output.splitlines()
                if f"step {int(fault.step)} " in line and start in line and "Cure: " in line
            ]

        wait_until(lambda: bool(lines()), SECONDS, f"{fault.name} from {process.name}")
        line = lines()[0]
        for word in words:
            assert word in line, line
        assert "Traceback" not in process.output
        assert "pw" not in line.split()
        self.processes.expect_error(start)
        return line

    def goes_on(self) -> None:
        """Components register as ever."""
        address = "127.0.0.1", self.server.component_plain_port
        with socket.create_connection(address, timeout=10) as connection:
            to = f"to='cb1.{DOMAIN}'"
            connection.sendall(component_header().replace(b" from=", f" {to} x=".encode(), 1))
            heard = b""
            while b" id=" not in heard:
                heard += connection.recv(4096)
            found = re.search(rb" id='([^']*)'", heard)
            assert found is not None, heard
            digest = hashlib.sha1(found[1] + b"s3cret").hexdigest()
            connection.sendall(f"<handshake>{digest}</handshake>".encode())
            heard = connection.recv(4096)
        assert heard.startswith(b"<handshake/>"), heard

    def joins(self) -> None:
        """Without a new start."""
        self.server.process.wait_for(JOINED, SECONDS)


@pytest.fixture
def stage(processes: Processes, certificates: Certificates) -> Stage:
    """One server."""
    return Stage(processes, certificates)


def test_not_there(stage: Stage) -> None:
    """It is started later, and then all is well."""
    redis = Redis(stage.processes)
    stage.uses(redis.address)
    stage.server.start()
    stage.told(faults.ENGINE_UNREACHABLE, redis.address, "refused")
    stage.goes_on()
    redis.start()
    stage.joins()
    redis.kill()
    stage.server.process.wait_for("cannot be reached", SECONDS, times=2)
    stage.goes_on()
    redis.start()
    stage.server.process.wait_for(JOINED, SECONDS, times=2)


def test_password(stage: Stage) -> None:
    """The password is wrong; it is missing; then it is right."""
    redis = stage.redis(USER, "requirepass other")
    stage.uses(redis.address, user="cms", password="not-this")
    stage.server.start()
    stage.told(faults.ENGINE_REFUSED, "WRONGPASS")
    assert "not-this" not in stage.server.process.output
    redis.command("-a", "other", "ACL", "SETUSER", "cms", ">not-this")
    stage.joins()


def test_no_password(stage: Stage) -> None:
    """None is given, and one is needed."""
    stage.redis("requirepass other")
    stage.server.start()
    stage.told(faults.ENGINE_REFUSED, "NOAUTH")


def test_least_rights(stage: Stage) -> None:
    """The user of the documentation can do all that is needed, and one with less is told."""
    redis = stage.redis(USER.replace(" +xadd", ""))
    stage.uses(redis.address, user="cms", password="pw")
    stage.server.start()
    stage.told(faults.ENGINE_REFUSED, "can't run this command")
    redis.command("ACL", "SETUSER", "cms", "+xadd")
    stage.joins()
    assert USER in (ROOT / "docs" / "operate.md").read_text().replace(">PASSWORD", ">pw")


def test_inbox_may_not_be_read(stage: Stage) -> None:
    """Who has all rights but that one is told."""
    redis = stage.redis(USER.replace(" +xreadgroup", ""))
    stage.uses(redis.address, user="cms", password="pw")
    stage.server.start()
    stage.told(faults.ENGINE_REFUSED, "xreadgroup")
    redis.command("ACL", "SETUSER", "cms", "+xreadgroup")
    stage.joins()


@pytest.mark.parametrize("how", ["authority", "name", "right"])
def test_tls(stage: Stage, how: str, tmp_path: Path) -> None:
    """Another CA, another name, and how it should be."""
    name = "elsewhere.example.com" if how == "name" else "localhost"
    authority = stage.certificates
    if how == "authority":
        (tmp_path / "other").mkdir()
        authority = Certificates(tmp_path / "other")
    pair = authority.issue(name)
    redis = Redis(
        stage.processes,
        "port 0",
        "tls-port {port}",
        f"tls-cert-file {pair.certificate}",
        f"tls-key-file {pair.key}",
        f"tls-ca-cert-file {authority.trust}",
        "tls-auth-clients no",
    )
    redis.start()
    stage.uses(f"rediss://localhost:{redis.port}/0", trust=str(stage.certificates.trust))
    stage.server.start()
    if how == "right":
        stage.joins()
    else:
        word = "does not name localhost" if how == "name" else "CA"
        stage.told(faults.ENGINE_TLS, word)
        stage.goes_on()


def test_old(stage: Stage) -> None:
    """A Redis of before: a stub that says so, since Debian has no such one."""
    info = b"redis_version:5.0.14\r\nrole:master\r\n"
    with stubs.server(stubs.says(b"$%d\r\n%s\r\n" % (len(info), info))) as port:
        stage.uses(f"redis://127.0.0.1:{port}/0")
        stage.server.start()
        stage.told(faults.ENGINE_OLD, "5.0.14", "6.2")


def test_no_redis(stage: Stage) -> None:
    """Something else listens there."""
    with stubs.server(stubs.says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        stage.uses(f"redis://127.0.0.1:{port}/0")
        stage.server.start()
        stage.told(faults.ENGINE_UNREACHABLE, "not the protocol of Redis")


def test_evicts(stage: Stage) -> None:
    """It would throw data away; the cure is done, and works."""
    redis = stage.redis("maxmemory 100mb", "maxmemory-policy allkeys-lru")
    stage.server.start()
    stage.told(faults.ENGINE_EVICTS, "allkeys-lru")
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    stage.joins()


def test_full(stage: Stage) -> None:
    """It has no memory left."""
    redis = stage.redis("maxmemory 1", "maxmemory-policy noeviction")
    stage.server.start()
    stage.told(faults.ENGINE_FULL)
    redis.command("CONFIG", "SET", "maxmemory", "100mb")
    stage.joins()


def test_replica(stage: Stage) -> None:
    """It is a replica."""
    redis = stage.redis(f"replicaof 127.0.0.1 {free_port()}")
    stage.server.start()
    stage.told(faults.ENGINE_NOT_MASTER)
    redis.command("REPLICAOF", "NO", "ONE")
    stage.joins()


@frozen
class Left:
    """What somebody left in it."""

    command: str
    fault: faults.Fault
    word: str


@pytest.mark.parametrize(
    "left",
    [
        Left("SET cms:service x", faults.ENGINE_OF_OTHERS, "WRONGTYPE"),
        Left("SET cms:nodes x", faults.ENGINE_OF_OTHERS, "WRONGTYPE"),
        Left("HSET cms:service domain other.example", faults.CLUSTER_OTHER_DOMAIN, "other.example"),
        Left(f"HSET cms:service domain {DOMAIN} protocol 9", faults.CLUSTER_OTHER_PROTOCOL, "9"),
    ],
    ids=["service", "nodes", "domain", "protocol"],
)
def test_left(stage: Stage, left: Left) -> None:
    """Data of others, or of another cluster; when they are gone it joins."""
    redis = stage.redis()
    redis.command(*left.command.split())
    lease = round((time.time() + 50) * 1000)  # of more than a minute none is believed
    redis.command("HSET", "cms:leases", "xmpp9", str(lease))
    stage.server.start()
    stage.told(left.fault, left.word)
    stage.goes_on()
    redis.command("DEL", "cms:service", "cms:nodes", "cms:leases")
    stage.joins()


def test_garbage(stage: Stage) -> None:
    """Values that nobody of ours has written: they are left out, and it joins."""
    redis = stage.redis()
    redis.command("HSET", "cms:nodes", "xmpp9", "what is this")
    redis.command("HSET", "cms:leases", "xmpp9", "never")
    stage.server.start()
    stage.joins()
    key = redis.command("--raw", "KEYS", "cms:in:*")
    for _ in range(3):
        redis.command("XADD", key, "*", "d", "garbage", "more", "fields")
        redis.command("XADD", key, "*", "d", "garbage")
    process = stage.server.process
    process.wait_for("what no server has written", SECONDS)
    stage.goes_on()
    assert process.output.count("what no server has written") == 1
    assert stage.server.process.running


def test_same_name(stage: Stage) -> None:
    """A second server with the name of one that lives; when that has gone it joins."""
    redis = stage.redis()
    stage.server.start()
    stage.joins()
    first, stage.server = stage.server, stage.another("xmpp2")
    stage.uses(redis.address, node=str(first.settings["hostname"]))
    stage.server.start()
    stage.told(faults.CLUSTER_NAME_TAKEN, str(first.settings["hostname"]))
    first.process.stop()
    stage.joins()


def test_end_of_a_lease(processes: Processes) -> None:
    """
    Nodes renew in step, so one often looks at the very millisecond in which another's lease ends:
    it is over then, and not one of before the clock was set back.
    """
    redis = Redis(processes)
    redis.start()
    now = 1_000_000
    at_this_time = scripts.RENEW.replace("redis.call('TIME')", f"{{'{now // 1000}', '0'}}")
    assert at_this_time != scripts.RENEW
    leases = {"one": now + 1, "over": now - 1, "ends": now, "lasts": now + 1, "set": now + 60_001}
    for name, until in leases.items():
        ask(redis.port, "HSET", scripts.NODES, name, "1 incarnation {}")
        ask(redis.port, "HSET", scripts.LEASES, name, str(until))
        ask(redis.port, "XADD", scripts.inbox(name, 1), "*", "d", "")
    keys = [str(len(scripts.KEYS)), *scripts.KEYS]
    ask(redis.port, "EVAL", at_this_time, *keys, "one", "1", "6000", str(now))
    left = ask(redis.port, "HGETALL", scripts.LEASES)
    renewed = str(now + 6000)
    assert dict(zip(left[::2], left[1::2], strict=True)) == {
        "one": renewed,
        "lasts": str(now + 1),
        "set": renewed,
    }
    assert sorted(ask(redis.port, "HKEYS", scripts.NODES)) == ["lasts", "one", "set"]


def test_killed_and_back(stage: Stage) -> None:
    """A server that was killed joins again when its lease is over, without a complaint."""
    stage.redis()
    stage.server.start()
    stage.joins()
    stage.server.process.kill()
    stage.server.start()
    stage.joins()


@pytest.mark.parametrize(
    ("engine", "word"),
    [
        ("http://127.0.0.1", "begins with none of"),
        ("redis://cms:pw@127.0.0.1", "user and password do not belong here"),
        ("sentinel://127.0.0.1:26379", "which master"),
        ("redis://127.0.0.1/x", "no number of a database"),
    ],
)
def test_bad_address(stage: Stage, engine: str, word: str) -> None:
    """A typo stops the start with one line that names the key."""
    stage.uses(engine)
    process = stage.server.launch()
    assert process.wait_for_exit(SECONDS) == 1
    (line,) = [line for line in process.output.splitlines() if "cluster.engine" in line]
    assert word in line
    assert "Cure: " in line
