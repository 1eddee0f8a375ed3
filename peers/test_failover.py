"""Two XMPP servers in SRV order; the first dies."""

from __future__ import annotations

import signal
import sys
import time
from xml.etree.ElementTree import Element

from peers.bind import Bind
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client
from peers.contract import DOMAIN, FAILOVER_SECONDS, ROOT
from peers.daemons import Callbridge, XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.wire import WireClient, shape

ALICE, PASSWORD = f"alice@{DOMAIN}", "password"


def start_two_servers(
    processes: Processes, certificates: Certificates
) -> tuple[XmppServer, XmppServer, Callbridge]:
    """xmpp1 goes before xmpp2; the Callbridge's link is up when this returns."""
    servers = [
        XmppServer(processes, certificates, {"cb1": "s3cret"}, name) for name in ("xmpp1", "xmpp2")
    ]
    records = ["xmpp1 A 127.0.0.1", "xmpp2 A 127.0.0.1"]
    records += [
        f"_xmpp-component._tcp SRV {priority} 10 {server.component_port} xmpp{priority}"
        for priority, server in enumerate(servers, 1)
    ]
    dns = Bind(processes, {DOMAIN: records})
    dns.start()
    callbridge = Callbridge(processes, certificates, "s3cret", dns=dns)
    callbridge.add_user(ALICE, PASSWORD)
    for server in servers:
        server.start()
    callbridge.start()
    return servers[0], servers[1], callbridge


def test_first_server_is_cut_off(processes: Processes, certificates: Certificates) -> None:
    """
    The first server lives, but the Callbridge does not reach it any more: there everybody is
    answered whose stanzas it did not take, and log-ins go on through the second.
    """
    servers = [
        XmppServer(processes, certificates, {"cb1": "s3cret"}, name) for name in ("xmpp1", "xmpp2")
    ]
    way = free_port()
    command = [sys.executable, "-u", str(ROOT / "peers" / "drivers" / "cutter.py")]
    ports = [(way, servers[0].component_port)]
    cutter = Driver(processes, "cutter", command, {"seed": 1, "cuts": 0, "ports": ports})
    records = ["xmpp1 A 127.0.0.1", "xmpp2 A 127.0.0.1"]
    for priority, port in enumerate((way, servers[1].component_port), 1):
        records.append(f"_xmpp-component._tcp SRV {priority} 10 {port} xmpp{priority}")
    dns = Bind(processes, {DOMAIN: records})
    dns.start()
    callbridge = Callbridge(processes, certificates, "s3cret", dns=dns)
    callbridge.add_user(ALICE, PASSWORD)
    for server in servers:
        server.settings["resume"] = {"links": 3}
        server.start()
    callbridge.start()
    alice = WireClient(servers[0].client_port, certificates.trust, "alice", PASSWORD)
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    assert alice.ask("get", ping, f"cb1.{DOMAIN}").get("type") == "result"
    time.sleep(2)  # until it is acknowledged: what is not is answered with an error, too
    cutter.process.kill()
    servers[0].process.wait_for("its link is kept", 10)
    alice.send(f"<iq type='get' to='cb1.{DOMAIN}' id='i1'>{ping}</iq>")
    alice.send(f"<message to='cb1.{DOMAIN}' id='m1' type='chat'/>")
    heard: list[Element] = []

    def is_answered() -> bool:
        heard.extend(alice.hear())
        return len(heard) >= 2

    wait_until(is_answered, 20, "both answers")
    assert [element.get("id") for element in heard] == ["i1", "m1"]
    for element in heard:
        assert "recipient-unavailable" in shape(element), shape(element)
    callbridge.wait_active(times=2)
    alice.close()
    WireClient(servers[1].client_port, certificates.trust, "alice", PASSWORD).close()


def log_in_as_soon_as_possible(client: Driver, deadline: float) -> None:
    """Try to log in again and again, as a client with a user in front of it would."""
    while time.monotonic() < deadline:
        client.connect()
        while (event := client.next_event()["event"]) not in ("online", "refused"):
            pass
        if event == "online":
            return
        time.sleep(0.02)
    raise AssertionError("no log-in succeeded")


def test_second_server_takes_over(processes: Processes, certificates: Certificates) -> None:
    """The first server is killed: within 2 s log-ins work through the second."""
    first, second, callbridge = start_two_servers(processes, certificates)
    trust = certificates.trust
    one = slixmpp_client(processes, ALICE, PASSWORD, first.client_port, trust)
    assert one.connected()
    # slixmpp is loaded and waits, so that only the daemons' own work is measured.
    other = slixmpp_client(processes, ALICE, PASSWORD, second.client_port, trust)

    killed = time.monotonic()
    first.process.signal(signal.SIGKILL)
    callbridge.wait_active(times=2)
    active = time.monotonic() - killed
    log_in_as_soon_as_possible(other, killed + 30)
    logged_in = time.monotonic() - killed

    print(f"\nfailover: active after {active:.3f} s, logged in after {logged_in:.3f} s")
    assert logged_in < FAILOVER_SECONDS


def test_first_server_is_found_again(processes: Processes, certificates: Certificates) -> None:
    """When both have been away, the link comes up with whichever is back."""
    first, second, callbridge = start_two_servers(processes, certificates)
    first.process.kill()
    callbridge.wait_active(times=2)
    second.process.kill()
    first.start()
    callbridge.wait_active(times=3)
    trust = certificates.trust
    client = slixmpp_client(processes, ALICE, PASSWORD, first.client_port, trust)
    assert client.connected()
