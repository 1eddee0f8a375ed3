"""C{cms check} over set-ups that are as they should be: nobody is accused, and it is quick."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from peers import stubs
from peers.certs import Pair
from peers.checking import Checked, run_check
from peers.checkstage import ALICE, HOST, OTHER_HOST, PASSWORD, SECRET, Stage, records
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.faultcases import refusals, trust
from peers.faultcases.server import looks_at
from peers.network import free_port, is_free
from peers.processes import Processes
from peers.stubs import tls_proxy

WALKED = {6, 7, 8, 9, 10, 11}
OWN_SECONDS = 1.0  # for a whole check, beyond the network's own time


def assert_healthy(checked: Checked, *, steps: set[int] = WALKED, true: str = "") -> None:
    """
    No failure, and no warning.

    @param true: The one warning that is true.
    """
    assert not checked.failures, checked.failures
    assert {one.fault for one in checked.warnings} == ({true} if true else set()), checked.warnings
    assert checked.status == 0
    assert checked.report["result"] == "passed"
    assert steps <= checked.passed, checked.report


def local_server(stage: Stage, name: str, port: int, interface: str, *names: str) -> XmppServer:
    """Our XMPP server on one address."""
    house = stage.house
    server = house.make_server(name)
    pair = house.certificates.issue(DOMAIN, *names)
    server.component_port = port
    server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
    where = interface.replace(":", "\\:")
    server.settings["listen"]["component"] = [f"tcp:{port}:interface={where}"]
    server.start()
    stage.callback(server.process.stop)
    return server


def test_single_box(stage: Stage, processes: Processes) -> None:
    """Everything on one host, on the real port unless it is taken: localhost, localhost:5223."""
    port = 5223 if is_free(5223) else free_port()
    local_server(stage, "single", port, "127.0.0.1", "localhost")
    stage.zone(*records(port))
    addresses = [f"localhost:{port}", *(["localhost"] if port == 5223 else [])]
    for address in addresses:
        checked = run_check(processes, stage.asks(address), seconds=None)
        assert_healthy(checked)
        print(
            f"\na healthy check took {checked.report['seconds']:.3f} s,"
            f" {checked.seconds:.2f} s with the start of Python"
        )
        assert checked.report["seconds"] < OWN_SECONDS
    stage.zone(*records(port, client=[]))  # as in the sample: clients are told of localhost
    checked = run_check(processes, stage.configured(addresses[-1]))
    assert_healthy(checked)
    about = f"_xmpp-client._tcp.{DOMAIN}"
    notes = [f["note"] for f in checked.report["findings"] if f["about"] == about]
    assert notes == ["it does not exist; a server by the name of localhost has no use for it"]


def test_two_targets(stage: Stage, processes: Processes) -> None:
    """SRV, and two servers with a certificate each."""
    ports = [
        local_server(stage, f"target{n}", free_port(), "127.0.0.1", host).component_port
        for n, host in enumerate((HOST, OTHER_HOST))
    ]
    component = [f"SRV {n}0 10 {port} xmpp{n}" for n, port in enumerate(ports, 1)]
    stage.zone(*records(5223, component=component))
    checked = run_check(processes, stage.asks())
    assert_healthy(checked, steps={4, 5, *WALKED})
    abouts = {f["about"] for f in checked.report["findings"] if f["step"] == 8}
    assert len(abouts) == 2, "both targets' certificates are looked at"


def test_nine_targets(stage: Stage, processes: Processes) -> None:
    """Eight servers are dead, the ninth lives: the daemon links, and so does the check."""
    house = stage.house
    server = local_server(stage, "ninth", free_port(), "127.0.0.1", HOST)
    ports = [*(free_port() for _ in range(8)), server.component_port]
    stage.zone(*records(5223, component=[f"SRV {n} 0 {p} xmpp1" for n, p in enumerate(ports)]))
    checked = run_check(processes, stage.asks())
    assert checked.status == 0, checked.report
    assert not checked.failures
    assert {one.fault for one in checked.warnings} == {"target-fails", "srv-single-target"}
    causes = [one.cause for one in checked.warnings if one.fault == "target-fails"]
    assert [
        f"{HOST}:{port} fails" in cause for port, cause in zip(ports[:8], causes, strict=True)
    ] == [True] * 8
    assert not WALKED - checked.passed
    callbridge = Callbridge(processes, house.certificates, SECRET, dns=house.dns)
    output = callbridge.start().output
    stage.callback(callbridge.process.stop)
    assert f"FAILED: {HOST}:{ports[0]}: 127.0.0.1 refused the connection" in output


def test_hanging_targets(stage: Stage, processes: Processes) -> None:
    """Ten servers fall silent when it comes to registering, and the eleventh has its turn."""
    mute = stage.component(before=b"")
    server = local_server(stage, "eleventh", free_port(), "127.0.0.1", HOST)
    ports = [mute] * 10 + [server.component_port]
    component = [f"SRV {n} 0 {p} xmpp1" for n, p in enumerate(ports)]
    stage.zone(*records(5223, component=component))
    checked = run_check(processes, stage.asks())
    assert checked.status == 0, checked.report
    causes = [one.cause for one in checked.warnings if one.fault == "target-fails"]
    assert len(causes) == 10
    assert all("sent no stream header" in cause for cause in causes)
    assert {9, 10, 11} <= checked.passed
    assert checked.report["seconds"] <= checked.report["bound"]


def test_silent_ipv6(stage: Stage, processes: Processes) -> None:
    """
    IPv6 takes the connection and says nothing: in the next round IPv4 has its turn,
    and IPv6 is tried only if nothing else can be connected to.
    """
    house = stage.house
    server = local_server(stage, "mute-six", free_port(), "127.0.0.1", HOST)
    taken = []

    def mute(connection: socket.socket) -> None:
        taken.append(connection)
        stubs.silent(connection)

    stage.serve(mute, "::1", server.component_port)
    stage.zone(*records(server.component_port, hosts=["xmpp1 A 127.0.0.1", "xmpp1 AAAA ::1"]))
    callbridge = Callbridge(processes, house.certificates, SECRET, dns=house.dns)
    callbridge.settings["server_address"] = f"{HOST}:{server.component_port}"
    callbridge.settings["link"] = {"stage": 1}
    output = callbridge.start().output
    stage.callback(callbridge.process.stop)
    assert output.count(" FAILED: ") == 1, output
    assert f"step 7 tls FAILED: ::1: {HOST}:{server.component_port} " in output
    assert "step 6 connect passed" in output.partition(" FAILED: ")[2]
    assert len(taken) == 1


def test_one_family(stage: Stage, processes: Processes) -> None:
    """Nothing listens on ::1, as in the sample; what fails on 127.0.0.1 is all that failed."""
    server = local_server(stage, "four", free_port(), "127.0.0.1", HOST)
    stage.zone(*records(server.component_port))
    checked = run_check(processes, stage.asks(f"localhost:{server.component_port}"))
    assert [one.fault for one in checked.failures] == ["identity-host-missing"]
    notes = {f["step"]: f["note"] for f in checked.report["findings"] if f["result"] == "skipped"}
    assert notes[9] == "step 8 failed"


def test_ipv6_only(stage: Stage, processes: Processes) -> None:
    """Nothing but IPv6, from the name server on; then the address itself."""
    server = local_server(stage, "six", free_port(), "::1", HOST, OTHER_HOST, "::1")
    port = server.component_port
    stage.zone(*records(port, hosts=[f"xmpp{n} AAAA ::1" for n in (1, 2)]))
    dns = f"[::1]:{stage.house.dns.port}"
    assert_healthy(run_check(processes, stage.asks(dns=dns)), steps={4, 5, *WALKED})
    assert_healthy(run_check(processes, stage.asks(f"[::1]:{port}", dns=dns)))


def test_prosody(stage: Stage, processes: Processes) -> None:
    """Prosody, which has no TLS for components, behind a proxy that has."""
    port = stage.enter_context(tls_proxy(stage.house.good, stage.house.prosody.component_port))
    assert_healthy(run_check(processes, stage.against(port)))


def test_prosody_without_tls(stage: Stage, processes: Processes) -> None:
    """Prosody on the same host, without TLS on purpose: that, and nothing else, is said."""
    stage.zone(*records(5223))
    address = f"localhost:{stage.house.prosody.component_port}"
    checked = run_check(processes, stage.configured(address, tls={"unprotected": True}))
    assert_healthy(checked, steps={6, 9, 10, 11}, true="unprotected")


def test_ejabberd(stage: Stage, processes: Processes) -> None:
    """ejabberd, whose component port has TLS; it would share a live link's stanzas."""
    arguments = stage.against(stage.house.ejabberd.component_port)
    checked = run_check(processes, arguments)
    assert_healthy(checked, steps={6, 7, 8, 9})
    assert 10 not in checked.passed
    assert_healthy(run_check(processes, [*arguments, "--register"]))


def test_linked_callbridge(stage: Stage, processes: Processes) -> None:
    """With the running Callbridge's own configuration, which names a secret that is in use."""
    server, callbridge = stage.house.linked
    stage.zone(*records(server.component_port))
    arguments = ["--config", str(callbridge.file), "--dns", stage.house.dns.address]
    assert_healthy(run_check(processes, arguments), steps={2, 6, 7, 8, 9, 10})


def test_without_registering(stage: Stage, processes: Processes) -> None:
    """Without ID and secret it stops before step 9."""
    server = stage.house.server
    checked = run_check(processes, stage.against(server.component_port, registers=False))
    assert_healthy(checked, steps={6, 7, 8})
    assert not checked.passed & {9, 10, 11}


def test_server_side(stage: Stage, processes: Processes) -> None:
    """C{--server} over a server that runs, with a Callbridge on it."""
    server, _ = stage.house.linked
    assert_healthy(run_check(processes, looks_at(stage, server)), steps={2, 4, 5, 6, 7, 8})


@pytest.mark.parametrize("kind", ["ours", "prosody", "ejabberd"])
def test_login(stage: Stage, processes: Processes, kind: str) -> None:
    """A log-in that succeeds."""
    house = stage.house
    if kind == "ours":
        port, user, password = house.linked[0].client_port, ALICE, PASSWORD
    else:
        port, user, password = getattr(house, kind).client_port, f"carol@{DOMAIN}", "password"
    arguments = stage.logs_in(port, user)
    assert_healthy(run_check(processes, arguments, text=password), steps={12})


@pytest.mark.parametrize(
    "make",
    [
        trust.upper_case,
        trust.with_intermediate,
        trust.with_root,
        trust.without_usage,
        refusals.expired_copy,
        trust.server_usage,
    ],
)
def test_unusual_certificates(
    stage: Stage, processes: Processes, make: Callable[[Stage], Pair]
) -> None:
    """Certificates that are right, whatever they look like."""
    assert_healthy(run_check(processes, stage.against(stage.component(make(stage)))))


@pytest.mark.parametrize("written", [trust.IDN, trust.IDN_ASCII, trust.IDN.upper()])
def test_internationalised_domain(stage: Stage, processes: Processes, written: str) -> None:
    """An internationalised domain, as it is read or in A-labels."""
    names = [trust.IDN_ASCII, "localhost"]
    pair = stage.house.root.issue(names).write(stage.directory)
    assert_healthy(run_check(processes, trust.idn(stage, pair, written)))


# A black hole


def test_black_hole(stage: Stage, processes: Processes) -> None:
    """Two targets, each of which swallows everything: it ends within its bound and says where."""
    port = stage.enter_context(stubs.filtered_port())
    checked = run_check(processes, stage.found(port))
    assert checked.status == 1
    assert checked.report["seconds"] <= checked.report["bound"]
    assert checked.seconds < checked.report["bound"] + 2.0
    assert {one.fault for one in checked.failures} == {"connect-timeout"}
    print(f"\na black hole: {checked.report['seconds']:.1f} s of {checked.report['bound']:.1f} s")


def test_black_hole_dns(stage: Stage, processes: Processes) -> None:
    """The same with a name server that swallows every question."""
    checked = run_check(processes, stage.asks(dns=stage.dns_path(lambda query, answer: None)))
    assert checked.status == 1
    assert checked.report["seconds"] <= checked.report["bound"]
    assert {one.fault for one in checked.failures} == {"dns-silent-srv"}


# The daemon's own judgement


def test_daemon_judges_itself(stage: Stage) -> None:
    """What is wrong with a set-up is in the daemon's log, and it serves all the same."""
    house = stage.house
    server = house.make_server("judged")
    server.settings["dns"] = {"servers": [house.dns.address]}
    pair = house.certificates.issue("elsewhere.example.com")
    server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
    stage.zone(*records(server.component_port, component=[]))
    server.start()
    stage.callback(server.process.stop)
    for said in ("step 4 srv: _xmpp-component._tcp", "step 8 identity: The certificate of"):
        server.process.wait_for(f"own set-up: {said}", 10.0)
    assert not is_free(server.component_port)
