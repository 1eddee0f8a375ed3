"""
A link that is cut at random places while people log in (docs/link-management.md).

Every log-in ends in success or in an honest temporary failure, each question to the
Callbridge is answered once, and what is said in a room is heard by all, once and in order.
C{CMS_LOGINS} says how many log-ins, C{CMS_SAID} how much everybody says, C{CMS_SEED} with
which random numbers.
"""

from __future__ import annotations

import os
import sys

from peers.certs import Certificates
from peers.clients import Driver
from peers.contract import DOMAIN, ROOT
from peers.daemons import Callbridge, XmppServer
from peers.network import free_port
from peers.processes import Processes

KILL_AFTER = 5  # log-ins
LOGINS = int(os.environ.get("CMS_LOGINS", "300"))
SAID = int(os.environ.get("CMS_SAID", "150"))
SEED = int(os.environ.get("CMS_SEED", "198"))
PASSWORD = "password"
# What a client takes for "try again" (docs/design/restarts.md).
TEMPORARY = {"temporary-auth-failure", "remote-connection-failed"}


def driver(processes: Processes, name: str, **settings: object) -> Driver:
    """One of those in peers/drivers."""
    command = [sys.executable, "-u", str(ROOT / "peers" / "drivers" / f"{name}.py")]
    return Driver(processes, name, command, settings)


def open_server(processes: Processes, certificates: Certificates) -> tuple[XmppServer, int]:
    """A server, and its port for clients without TLS."""
    server = XmppServer(processes, certificates, {"cb1": "s3cret"})
    plain = free_port()
    server.settings["listen"] |= {"client_plain": [f"tcp:{plain}:interface=127.0.0.1"]}
    server.start()
    return server, plain


def open_link(
    processes: Processes,
    certificates: Certificates,
    server: XmppServer,
    cuts: int,
    mean_bytes: int,
) -> tuple[Driver, Callbridge]:
    """A proxy that can cut the link of a Callbridge, which is not started yet."""
    port = free_port()
    ports = [(port, server.component_port)]
    cutter = driver(processes, "cutter", seed=SEED, cuts=cuts, mean_bytes=mean_bytes, ports=ports)
    address = f"localhost:{port}"
    return cutter, Callbridge(processes, certificates, "s3cret", server_address=address)


def test_log_ins(processes: Processes, certificates: Certificates) -> None:
    """Both daemons, and a proxy on the link that cuts it all the time."""
    server, plain = open_server(processes, certificates)
    cutter, callbridge = open_link(processes, certificates, server, LOGINS * 10, 5_000)
    callbridge.add_user(f"alice@{DOMAIN}", PASSWORD)
    callbridge.start()
    cutter.do("cut")
    clients = driver(
        processes,
        "link_logins",
        user="alice",
        password=PASSWORD,
        domain=DOMAIN,
        component=f"cb1.{DOMAIN}",
        port=plain,
        logins=LOGINS,
    )
    facts = clients.expect("finished", 60.0 + LOGINS / 2)
    resumed = callbridge.process.output.count("resumed")
    print(f"seed {SEED}: {facts['ends']}, {facts['asked']} questions: {facts['kinds']}, {resumed}")
    ends = facts["ends"]
    assert set(ends) <= {"success", *TEMPORARY}, ends
    assert sum(ends.values()) == LOGINS
    assert ends["success"] > LOGINS * 0.8
    assert sorted(facts["answers"]) == list(range(facts["asked"]))
    assert set(facts["kinds"]) <= {"result", "resource-constraint"}
    assert resumed > LOGINS / 50


def test_room(processes: Processes, certificates: Certificates) -> None:
    """Three in a room of the Callbridge, who number what they say."""
    server, plain = open_server(processes, certificates)
    cutter, callbridge = open_link(processes, certificates, server, SAID * 10, 20_000)
    users = ["alice", "bob", "carol"]
    for user in users:
        callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    callbridge.space("add", "Team", "--uri", "team")
    for user in users:
        callbridge.space("member", "set", "team", user)
    callbridge.start()
    speakers = driver(
        processes,
        "link_room",
        users=users,
        password=PASSWORD,
        domain=DOMAIN,
        room=f"team@cb1.{DOMAIN}",
        port=plain,
        messages=SAID,
        pace=0.05,
    )
    speakers.expect("inside", 30.0)
    cutter.do("cut")
    speakers.do("talk")
    facts = speakers.expect("finished", 90.0 + SAID / 5)["facts"]
    resumed = callbridge.process.output.count("resumed")
    refused = {user: facts[user]["refused"] for user in users}
    print(f"seed {SEED}: {SAID} of each, refused {refused}, resumed {resumed} times")
    for listener in users:
        assert facts[listener]["others"] == []
        for speaker in users:
            said = [n for n in range(SAID) if n not in refused[speaker]]
            assert facts[listener]["heard"][speaker] == said, (listener, speaker)
    assert sum(map(len, refused.values())) < SAID / 2
    assert resumed > SAID / 40


def test_killed(processes: Processes, certificates: Certificates) -> None:
    """
    The only Callbridge is killed and started again: whoever comes meanwhile waits, and is
    let in by the new process, which does not resume the link of the old one.
    """
    server, plain = open_server(processes, certificates)
    callbridge = server.callbridge()
    users = ["alice", "bob", "carol"]  # one account may not log in so often at once
    for user in users:
        callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)
    old = callbridge.start()
    clients = driver(
        processes,
        "link_logins",
        users=users,
        password=PASSWORD,
        domain=DOMAIN,
        port=plain,
        logins=20,
        pace=0.1,
        kills=old.pid,
        kill_after=KILL_AFTER,
    )
    old.wait_for_exit(30)
    server.process.wait_for("its link is kept", 10)
    callbridge.start()
    told = clients.expect("finished", 60.0)["told"]
    print(f"each log-in, and how long it took: {told}")
    before, meanwhile = told[:KILL_AFTER], told[KILL_AFTER:]
    assert {end for _, end, _ in before} <= {"success", *TEMPORARY}
    assert {end for _, end, _ in meanwhile} == {"success"}
