"""C{cms check --server} of a cluster, with a real Redis and Sentinels, each fault brought about."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from attrs import frozen

from cms import faults
from peers import stubs
from peers.bind import Bind
from peers.certs import Certificates
from peers.checking import Checked, run_check
from peers.clusterworld import ask
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.redis import Redis, Sentinels
from peers.test_cluster_engine import USER
from peers.tools import require

ABOUT = {"engine", "clock of the engine", "Sentinels", "nodes"}
EVER = "99999999999999"  # a lease that is not over


class House:
    """A server that does not run, unless it is started, and its Redis."""

    def __init__(self, processes: Processes, certificates: Certificates, folder: Path) -> None:
        self.processes = processes
        self.certificates = certificates
        self.folder = folder
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.redis = Redis(processes)
        self.uses(self.redis.address)
        self.dns = Bind(processes, {DOMAIN: []})
        self.dns.start()

    def uses(self, engine: str, **more: str) -> None:
        """What the server is told of its engine."""
        self.server.settings["cluster"] = {"lease": 2, "engine": engine, **more}

    def start(self, *options: str) -> None:
        """Redis."""
        self.redis.start(*options)

    def check(self, *, command: tuple[str, ...] = ()) -> Checked:
        """Of the cluster alone: nothing is in DNS."""
        arguments = ["--server", "--config", str(self.server.write())]
        arguments += ["--dns", self.dns.address]
        checked = run_check(self.processes, arguments, command=command)
        findings = [each for each in checked.report["findings"] if each["about"] in ABOUT]
        checked.report["findings"] = findings
        assert findings
        return checked


@pytest.fixture
def house(processes: Processes, certificates: Certificates, tmp_path: Path) -> House:
    """One."""
    return House(processes, certificates, tmp_path)


def told(checked: Checked, *wanted: faults.Fault) -> str:
    """These were told, each with its cure, and no other; their causes."""
    said = [*checked.failures, *checked.warnings]
    assert {each.fault for each in said} == {fault.name for fault in wanted}, said
    assert all((each.cure and each.step == 2) or each.fault == "clock-apart" for each in said)
    assert "s3cret-pw" not in str(checked.report)
    return " ".join(each.cause for each in said)


def test_healthy(house: House) -> None:
    """Without the server, and while it runs: facts, and nobody is accused."""
    house.start()
    checked = house.check()
    told(checked)
    assert "no server is in the cluster" in checked.notes
    house.server.start()
    house.server.process.wait_for("is in the cluster, generation", 20)
    checked = house.check()
    told(checked)
    seen = {each["about"]: each["evidence"] for each in checked.report["findings"]}
    assert seen["engine"]["role"] == "master"
    assert house.server.hostname in seen["nodes"]["nodes"]
    assert ask(house.redis.port, "KEYS", "cms:check:*") == []


def test_killed_and_back(house: House) -> None:
    """The lease of the process that was killed lasts: nobody is accused of having its name."""
    house.server.settings["cluster"]["lease"] = 60.0
    house.start()
    house.server.start()
    house.server.process.wait_for("is in the cluster, generation", 20)
    house.server.process.kill()
    house.server.start()
    told(house.check(), faults.CLUSTER_NOT_YET)


@frozen
class Broken:
    """A fault: lines for Redis, commands to it, and what must be told."""

    fault: faults.Fault
    word: str
    options: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "broken",
    [
        Broken(
            faults.ENGINE_EVICTS,
            "allkeys-lru",
            ("maxmemory 100mb", "maxmemory-policy allkeys-lru"),
        ),
        Broken(faults.ENGINE_FULL, "no memory", ("maxmemory 1",)),
        Broken(faults.ENGINE_ALONE, "NOREPLICAS", ("min-replicas-to-write 1",)),
        Broken(faults.ENGINE_NOT_MASTER, "replica", (f"replicaof 127.0.0.1 {free_port()}",)),
        Broken(faults.ENGINE_REFUSED, "NOAUTH", ("requirepass s3cret-pw",)),
        Broken(faults.ENGINE_OF_OTHERS, "WRONGTYPE", (), ("SET cms:nodes x",)),
        Broken(
            faults.CLUSTER_OTHER_DOMAIN,
            "other.example",
            (),
            ("HSET cms:service domain other.example",),
        ),
        Broken(
            faults.CLUSTER_OTHER_PROTOCOL,
            "version 9",
            (),
            (
                f"HSET cms:service domain {DOMAIN} protocol 9",
                'HSET cms:nodes xmpp9 1|2|{"version":"9"}',
                f"HSET cms:leases xmpp9 {EVER}",
            ),
        ),
        Broken(
            faults.CLUSTER_NAME_TAKEN,
            "xmpp9.example",
            (),
            (
                f'HSET cms:nodes xmpp1.{DOMAIN} 1|2|{{"host":"xmpp9.example"}}',
                f"HSET cms:leases xmpp1.{DOMAIN} {EVER}",
            ),
        ),
        Broken(
            faults.CLUSTER_VERSIONS,
            "xmpp8 0.1, xmpp9 0.2",
            (),
            (
                'HSET cms:nodes xmpp8 1|2|{"version":"0.1"} xmpp9 1|3|{"version":"0.2"}',
                f"HSET cms:leases xmpp8 {EVER} xmpp9 {EVER}",
            ),
        ),
    ],
    ids=lambda broken: broken.fault.name,
)
def test_broken(house: House, broken: Broken) -> None:
    """What a Redis can be like that is wrong."""
    house.start(*broken.options)
    for command in broken.commands:
        ask(house.redis.port, *(word.replace("|", " ") for word in command.split()))
    assert broken.word in told(house.check(), broken.fault)


def test_away(house: House) -> None:
    """It is not there; something else is; it is too old."""
    assert "refused" in told(house.check(), faults.ENGINE_UNREACHABLE)
    info = b"redis_version:5.0.14\r\nrole:master\r\n"
    with stubs.server(stubs.says(b"$%d\r\n%s\r\n" % (len(info), info))) as port:
        house.uses(f"redis://127.0.0.1:{port}/0")
        assert "5.0.14" in told(house.check(), faults.ENGINE_OLD)


def test_unsaved(house: House) -> None:
    """Its disk takes nothing any more, and so it takes nothing; the cure is typed."""
    gone = house.folder / "gone"
    gone.mkdir()
    house.start("save 3600 1", f"dir {gone}")
    shutil.rmtree(gone)
    port = house.redis.port
    ask(port, "SET", "x", "1")
    ask(port, "BGSAVE")

    def failed() -> bool:
        return "rdb_last_bgsave_status:err" in ask(port, "INFO", "persistence")

    wait_until(failed, 10, "a snapshot that failed")
    cause = told(house.check(), faults.ENGINE_UNSAVED)
    assert "MISCONF" in cause
    ask(port, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    told(house.check())


def test_rights(house: House) -> None:
    """Each right that is missing is named, and the command of the cure gives it."""
    user = USER.replace("pw", "s3cret-pw").replace(" +xadd", "").replace(" +hsetnx", "")
    house.start(user)
    house.uses(house.redis.address, user="cms", password="s3cret-pw")
    checked = house.check()
    assert "lets cms not do xadd, hsetnx" in told(checked, faults.ENGINE_RIGHTS)
    mend = checked.failures[0].mend.partition("#")[0].split()
    assert mend[:2] == ["redis-cli", "acl"]
    ask(house.redis.port, *mend[1:])
    told(house.check())


def test_tls(house: House) -> None:
    """Its certificate is not for this name."""
    pair = house.certificates.issue("elsewhere.example.com")
    redis = Redis(
        house.processes,
        *("port 0", "tls-port {port}", f"tls-cert-file {pair.certificate}"),
        *(f"tls-key-file {pair.key}", f"tls-ca-cert-file {house.certificates.trust}"),
        "tls-auth-clients no",
        name="redis-tls",
    )
    redis.start()
    house.uses(f"rediss://localhost:{redis.port}/0", trust=str(house.certificates.trust))
    assert "does not name localhost" in told(house.check(), faults.ENGINE_TLS)
    house.uses(f"rediss://localhost:{redis.port}/0", trust="/nowhere.pem")
    assert house.check().failures


def test_clock(house: House) -> None:
    """The clocks are ten minutes apart."""
    house.start()
    faketime = require("faketime", "faketime")
    checked = house.check(command=(faketime, "-f", "+10m"))
    assert "the engine" in told(checked, faults.CLOCK_APART)


def test_sentinels(house: House) -> None:
    """One names another master, knows none, is dead; then two are, and none could be elected."""
    sentinels = Sentinels(house.processes)
    sentinels.start()
    house.uses(sentinels.address)
    checked = house.check()
    told(checked)
    seen = {each["about"]: each["evidence"] for each in checked.report["findings"]}
    assert seen["Sentinels"]["known"] == "3"
    last = sentinels.ports[2]
    ask(last, "SENTINEL", "REMOVE", "cms")
    assert str(last) in told(house.check(), faults.SENTINEL_KNOWS_NOT)
    other = Redis(house.processes, name="redis-three")
    other.start()
    ask(last, "SENTINEL", "MONITOR", "cms", "127.0.0.1", str(other.port), "1")
    cause = told(house.check(), faults.SENTINELS_DISAGREE)
    assert f"names 127.0.0.1:{other.port}" in cause
    sentinels.processes[2].kill()
    assert str(last) in told(house.check(), faults.SENTINEL_UNREACHABLE)
    sentinels.processes[1].kill()

    def lonely() -> bool:
        faults_now = {each.fault for each in house.check().warnings}
        return faults.SENTINELS_NO_QUORUM.name in faults_now

    wait_until(lonely, 20, "a Sentinel to notice that it is alone")
    told(house.check(), faults.SENTINEL_UNREACHABLE, faults.SENTINELS_NO_QUORUM)
