"""
Every way in which steps 4 to 11 can fail, injected for real.

The Callbridge runs as its users run it; what is checked is what they read: the
step, the cause and the cure.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen
from twisted.names.dns import SRV

from peers import stubs
from peers.bind import Bind
from peers.certs import Certificates, Pair
from peers.component import header, stream_error
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.dnsproxy import dns_path, truncates
from peers.network import free_port
from peers.processes import Processes
from peers.tools import script

HOST = f"xmpp1.{DOMAIN}"
RECORD = f"_xmpp-component._tcp.{DOMAIN}"
COMPONENT = header()


@frozen
class Report:
    """What an operator reads."""

    step: int
    cause: str
    cure: str


class Bench:
    """A Callbridge, and what a test puts before it."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes = processes
        self.certificates = certificates
        self.good = certificates.issue(DOMAIN, HOST, "localhost")

    def callbridge(self, address: str = "", dns: Bind | None = None) -> Callbridge:
        """A Callbridge that waits a second for each stage."""
        daemon = Callbridge(
            self.processes, self.certificates, "s3cret", server_address=address, dns=dns
        )
        daemon.settings["link"] = {"stage": 1, "ping_interval": 1, "ping_timeout": 1}
        return daemon

    def report(self, daemon: Callbridge, times: int = 1) -> Report:
        """Start it and read its first complaint."""
        if daemon._process is None:
            daemon.launch()
        daemon.process.wait_for(" FAILED: ", 30.0, times=times)
        # A link that was up is tried to be resumed for 10 s before.
        daemon.process.wait_for("next attempt in", 20.0)
        found = re.findall(r"step (\d+) [a-z-]+ FAILED: (.*) Cure: (.*)", daemon.process.output)
        step, cause, cure = found[times - 1]
        assert "Traceback" not in daemon.process.output
        assert "s3cret" not in daemon.process.output
        return Report(int(step), cause, cure)

    def against(self, port: int) -> Report:
        """What a Callbridge says about a server on localhost."""
        return self.report(self.callbridge(f"localhost:{port}"))


@pytest.fixture
def bench(processes: Processes, certificates: Certificates) -> Bench:
    """For every test."""
    return Bench(processes, certificates)


# Steps 4 and 5: DNS.


@pytest.mark.parametrize(
    ("records", "step", "cause", "cure"),
    [
        (["x A 127.0.0.1"], 4, f"{RECORD} does not exist", "IN SRV"),
        (["_xmpp-component._tcp TXT hello"], 4, "holds no SRV record", "IN SRV"),
        (["_xmpp-component._tcp SRV 0 0 0 ."], 4, 'single target "."', "Replace the record"),
        (["_xmppcomponent._tcp SRV 0 0 5223 xmpp1"], 4, "misspelt", "with a hyphen"),
        ([], 4, "SERVFAIL", "DNS server's own log"),
        (["_xmpp-component._tcp SRV 0 0 5223 xmpp1"], 5, f"{HOST} does not exist", "A or AAAA"),
        (
            ["_xmpp-component._tcp SRV 0 0 5223 xmpp1", "xmpp1 TXT hello"],
            5,
            "neither an A nor an AAAA",
            "Create an A or AAAA",
        ),
        (
            ["_xmpp-component._tcp SRV 0 0 5223 xmpp1", "xmpp1 CNAME gone"],
            5,
            f"alias (CNAME) for gone.{DOMAIN}",
            "must not be an alias",
        ),
    ],
)
def test_dns(bench: Bench, records: list[str], step: int, cause: str, cure: str) -> None:
    """What BIND answers, or does not, is told apart."""
    dns = Bind(bench.processes, {DOMAIN: records})
    dns.start()
    report = bench.report(bench.callbridge(dns=dns))
    assert report.step == step
    assert cause in report.cause
    assert cure in report.cure


def test_dns_refuses(bench: Bench) -> None:
    """A server that does not serve this domain."""
    dns = Bind(bench.processes, {"other.example.com": ["x A 127.0.0.1"]})
    dns.start()
    report = bench.report(bench.callbridge(dns=dns))
    assert report.step == 4
    assert "REFUSED" in report.cause
    assert "Allow this host" in report.cure


def test_dns_is_dead(bench: Bench) -> None:
    """A DNS server that swallows every question."""
    dns = Bind(bench.processes, {DOMAIN: ["x A 127.0.0.1"]})
    process = dns.start()
    process.signal(signal.SIGSTOP)
    try:
        report = bench.report(bench.callbridge(dns=dns))
    finally:
        process.signal(signal.SIGCONT)
    assert report.step == 4
    assert "did not answer" in report.cause
    assert "port 53" in report.cure


def test_dns_truncated(bench: Bench) -> None:
    """An answer too long for UDP, where TCP is not served."""
    dns = Bind(bench.processes, {DOMAIN: ["_xmpp-component._tcp SRV 0 0 5223 xmpp1"]})
    dns.start()
    with dns_path(dns.port, truncates(SRV)) as path:
        daemon = bench.callbridge()
        daemon.settings["dns"] = {"servers": [path]}
        report = bench.report(daemon)
    assert report.step == 4
    assert "truncated" in report.cause
    assert "TCP port 53" in report.cure


# Step 6: TCP.


def test_closed_port(bench: Bench) -> None:
    """Nothing listens."""
    port = free_port()
    report = bench.against(port)
    assert report.step == 6
    assert f"nothing listens on port {port}" in report.cause
    assert "Start the XMPP server" in report.cure


def test_filtered_port(bench: Bench) -> None:
    """A firewall drops the connection."""
    with stubs.filtered_port() as port:
        report = bench.report(bench.callbridge(f"127.0.0.1:{port}"))
    assert report.step == 6
    assert "did not answer" in report.cause
    assert "firewall" in report.cure


# Steps 7 and 8: TLS and the certificate.


def good(bench: Bench) -> Pair:
    """The right certificate."""
    return bench.good


def expired(bench: Bench) -> Pair:
    """One that was right until yesterday."""
    return bench.certificates.issue_expired(DOMAIN, "localhost")


def future(bench: Bench) -> Pair:
    """One that will be right tomorrow."""
    return bench.certificates.issue_future(DOMAIN, "localhost")


def untrusted(bench: Bench) -> Pair:
    """One of a CA that nobody knows."""
    folder = bench.processes.make_directory("stranger")
    return Certificates(folder, "Strange CA").issue(DOMAIN, "localhost")


def nameless(bench: Bench) -> Pair:
    """One with nothing but a common name."""
    return bench.certificates.issue(common_name=DOMAIN)


def without_domain(bench: Bench) -> Pair:
    """One for the server alone."""
    return bench.certificates.issue("localhost")


def without_host(bench: Bench) -> Pair:
    """One for the domain alone."""
    return bench.certificates.issue(DOMAIN)


def for_others(bench: Bench) -> Pair:
    """One for another system."""
    return bench.certificates.issue("other.example.com")


@pytest.mark.parametrize(
    ("make", "step", "cause", "cure"),
    [
        (expired, 7, "expired at", "Renew"),
        (future, 7, "valid only from", "clocks"),
        (untrusted, 7, "not signed by a CA that this side trusts", "tls.trust"),
        (nameless, 8, "no subjectAltName", f"DNS:{DOMAIN}, DNS:localhost"),
        (without_domain, 8, f"not the XMPP domain {DOMAIN}", f"DNS:{DOMAIN}"),
        (without_host, 8, "not the server localhost", "localhost"),
        (for_others, 8, "neither the XMPP domain nor the server", "holds both"),
    ],
)
def test_certificates(
    bench: Bench, make: Callable[[Bench], Pair], step: int, cause: str, cure: str
) -> None:
    """Each bad certificate is told apart, and nothing is sent to its owner."""
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            heard.append(connection.recv(65536))

    with stubs.server(stubs.tls(make(bench), listen)) as port:
        report = bench.against(port)
    assert report.step == step
    assert cause in report.cause
    assert cure in report.cure
    assert not [data for data in heard if data]


def test_other_sni(bench: Bench) -> None:
    """A certificate that is right, but shown to who asks for the domain alone."""
    named = bench.certificates.issue("localhost")
    shown = stubs.shows_for(DOMAIN, bench.good)
    with stubs.server(stubs.tls(named, stubs.silent, adjust=shown)) as port:
        report = bench.against(port)
    assert report.step == 8
    assert f"the one that it shows for {DOMAIN} (SNI) does" in report.cause
    assert f"not the XMPP domain {DOMAIN}" in report.cause
    assert "when it is asked for localhost too" in report.cure


@pytest.mark.parametrize(
    ("trouble", "cause", "cure"),
    [
        (stubs.says(COMPONENT), "component port, but one without TLS", "Enable TLS"),
        (stubs.says(header("jabber:server")), "port for other XMPP servers", "5223"),
        (
            stubs.says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            'is a web server: it answered TLS with plain HTTP ("HTTP/1.1 400 Bad Request")',
            "pass TCP on",
        ),
        (
            stubs.says(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
            'SSH server or client and no XMPP server: it said "SSH-2.0-OpenSSH_9.2p1"',
            "5223",
        ),
        (stubs.says(b"220 mx.example.com ESMTP\r\n"), "a mail server (SMTP) and no XMPP", "5223"),
        (stubs.says(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "(PROXY protocol)", "nothing"),
        (stubs.says(b"welcome\r\n"), 'does not speak TLS on this port (it said "welcome")', "5223"),
        (stubs.silent, "did not finish the TLS handshake", "middlebox"),
        (stubs.resets, "closed the connection during the TLS handshake", "middlebox"),
        (lambda connection: None, "closed the connection during the TLS handshake", "log"),
    ],
)
def test_tls(bench: Bench, trouble: stubs.Trouble, cause: str, cure: str) -> None:
    """What is no TLS, or hangs in it."""
    with stubs.server(trouble) as port:
        report = bench.against(port)
    assert report.step == 7
    assert cause in report.cause
    assert cure in report.cure


@pytest.mark.parametrize("presented", [False, True])
def test_client_certificate(bench: Bench, presented: bool) -> None:
    """A server that demands a certificate and gets none, or one it does not trust."""
    server = XmppServer(bench.processes, bench.certificates, {"cb1": "s3cret"})
    server.settings["tls"]["callbridge_certificates"] = "required"
    server.settings["tls"].update(certificate=str(bench.good.certificate), key=str(bench.good.key))
    server.start()
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    stranger = untrusted(bench)
    daemon.settings["tls"]["certificate"] = str(stranger.certificate) if presented else None
    daemon.settings["tls"]["key"] = str(stranger.key) if presented else None
    report = bench.report(daemon)
    assert report.step == 7
    assert ("refused" if presented else "demands a certificate") in report.cause
    assert "tls." in report.cure
    server.process.wait_for("component refused: step 7", 5.0)


# Steps 9 and 10: registration.


@pytest.mark.parametrize(
    ("said", "step", "cause", "cure"),
    [
        (b"", 9, "sent no stream header", "component port"),
        (header("jabber:client"), 9, 'stream is for "jabber:client"', "5223"),
        (b"220 mail.example.com ESMTP\r\n", 9, "is a mail server (SMTP)", "5223"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 9, "is a web server", "pass TCP on"),
        (b"welcome\r\n", 9, "not an XMPP component stream", "5223"),
        (COMPONENT + b"<!-- -->", 9, "not an XMPP component stream", "5223"),
        (COMPONENT, 10, "did not answer the registration", "cb1.meet.example.com"),
        (
            COMPONENT + stream_error("internal-server-error"),
            10,
            "internal-server-error",
            "still starting",
        ),
    ],
)
def test_registration(bench: Bench, said: bytes, step: int, cause: str, cure: str) -> None:
    """A server with a good certificate that goes wrong after it."""
    with stubs.server(stubs.tls(bench.good, stubs.says(said))) as port:
        report = bench.against(port)
    assert report.step == step
    assert cause in report.cause
    assert cure in report.cure


@pytest.fixture
def server(bench: Bench) -> XmppServer:
    """Our own XMPP server, with a certificate for localhost."""
    own = XmppServer(bench.processes, bench.certificates, {"cb1": "s3cret", "cb3": "other"})
    own.settings["tls"].update(certificate=str(bench.good.certificate), key=str(bench.good.key))
    own.settings["listen"]["client_direct"] = [f"tcp:{free_port()}:interface=127.0.0.1"]
    own.start()
    return own


def test_wrong_secret(bench: Bench, server: XmppServer) -> None:
    """Both sides say so, and neither shows a secret."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.settings["shared_secret"] = "wrong-one"
    report = bench.report(daemon)
    assert report.step == 10
    assert 'refused the secret of "cb1.meet.example.com"' in report.cause
    assert "shared_secret" in report.cure
    server.process.wait_for("step 10 registered: 127.0.0.1", 5.0)
    server.process.wait_for('gave a wrong secret for "cb1.meet.example.com"', 5.0)
    for output in (daemon.process.output, server.process.output):
        assert "wrong-one" not in output
        assert "s3cret" not in output


def test_unknown_id(bench: Bench, server: XmppServer) -> None:
    """A Callbridge that nobody has added."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.settings["unique_name"] = "cb9"
    report = bench.report(daemon)
    assert report.step == 10
    assert 'does not know the component "cb9.meet.example.com"' in report.cause
    assert "cms xmpp callbridge add" in report.cure
    server.process.wait_for("which is no Callbridge of this server", 5.0)


def test_duplicate_id(bench: Bench, server: XmppServer) -> None:
    """A second Callbridge of the same name, while the first is alive."""
    first = bench.callbridge(f"localhost:{server.component_port}")
    first.start()
    second = Callbridge(
        bench.processes,
        bench.certificates,
        "s3cret",
        server_address=f"localhost:{server.component_port}",
    )
    second.settings["state_dir"] = "second"
    report = bench.report(second)
    assert report.step == 10
    assert "already has a live link" in report.cause
    assert "its own unique_name" in report.cure
    server.process.wait_for("whose link from 127.0.0.1", 5.0)
    assert " FAILED: " not in first.process.output


def test_client_port(bench: Bench, server: XmppServer) -> None:
    """Registration on a port for clients, with TLS from the first byte."""
    port = server.settings["listen"]["client_direct"][0].split(":")[1]
    report = bench.report(bench.callbridge(f"localhost:{port}"))
    assert report.step == 9
    assert "not an XMPP component stream" in report.cause
    assert "client port speaks another namespace" in report.cure


def test_probed_port(server: XmppServer) -> None:
    """A monitor that connects and leaves is nobody's failure; one that talks nonsense is."""
    for said in (b"", b"GET / HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.component_port), timeout=5) as monitor:
            monitor.sendall(said)
            monitor.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while monitor.recv(4096):
                    pass
    server.process.wait_for("component refused", 5.0)
    assert server.process.output.count("component refused") == 1
    assert 'did not speak TLS, but sent an HTTP request ("GET ... HTTP")' in server.process.output


def test_starttls_port(bench: Bench, server: XmppServer) -> None:
    """Registration on the STARTTLS port: a common slip in SRV records."""
    report = bench.against(server.client_port)
    assert report.step == 7
    assert "is the port for clients" in report.cause
    assert "5223" in report.cure


# Step 11: the link.


def test_frozen_server(bench: Bench, server: XmppServer) -> None:
    """A server that stops without a word is noticed, and the link comes back."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.start()
    server.process.signal(signal.SIGSTOP)
    try:
        report = bench.report(daemon)
    finally:
        server.process.signal(signal.SIGCONT)
    assert report.step == 11
    assert "did not answer a ping" in report.cause
    assert "network" in report.cure
    daemon.wait_active(times=2)


def test_frozen_callbridge(bench: Bench, server: XmppServer) -> None:
    """A Callbridge that stops without a word is dropped by the server in under 30 s."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.start()
    server.process.wait_for("decides log-ins", 5.0)
    daemon.process.signal(signal.SIGSTOP)
    try:
        seconds = server.process.wait_for("did not answer a ping", 30.0)
    finally:
        daemon.process.signal(signal.SIGCONT)
    print(f"\na frozen Callbridge was noticed after {seconds:.1f} s")
    daemon.wait_active(times=2)


def test_restarted_server(bench: Bench, server: XmppServer) -> None:
    """A clean shutdown is understood, and the link is back soon after the restart."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.start()
    server.process.stop()
    report = bench.report(daemon)
    assert report.step == 11
    assert "closed the link (system-shutdown)" in report.cause
    server.start()
    daemon.wait_active(times=2)


def test_new_certificate(bench: Bench, server: XmppServer) -> None:
    """SIGHUP brings in a new certificate; the link that is up stays."""
    daemon = bench.callbridge(f"localhost:{server.component_port}")
    daemon.start()
    renewed = without_domain(bench)
    for old, new in ((bench.good.certificate, renewed.certificate), (bench.good.key, renewed.key)):
        Path(old).write_bytes(new.read_bytes())
    server.process.signal(signal.SIGHUP)
    server.process.wait_for("keys and certificates were read again", 5.0)
    assert " FAILED: " not in daemon.process.output
    second = bench.callbridge(f"localhost:{server.component_port}")
    second.settings["state_dir"] = "second"
    assert bench.report(second).step == 8


# A wrong domain, with the right secret.


def test_wrong_domain(bench: Bench) -> None:
    """Each step says that it is the domain; the wrong way out of it is seen as such by both."""
    other = "office.example.com"
    server = XmppServer(bench.processes, bench.certificates, {"cb1": "s3cret"})
    for names in ((DOMAIN, HOST, "localhost"), (DOMAIN, other, "localhost")):
        pair = bench.certificates.issue(*names)
        server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
        process = server.start()
        daemon = bench.callbridge(f"localhost:{server.component_port}")
        daemon.settings["domain"] = other
        daemon.settings["link"]["refused_delay"] = 1
        report = bench.report(daemon)
        if HOST in names:
            assert report.step == 8
            assert f"perhaps the domain is {DOMAIN}" in report.cause
            assert f"If {DOMAIN} is the XMPP domain, correct domain" in report.cure
            daemon.process.stop()
            process.stop()
    assert report.step == 10
    assert f"serves the domain {DOMAIN}" in report.cause
    assert f"If {DOMAIN} is the XMPP domain, correct domain" in report.cure
    process.wait_for("is not within the domain of this server", 10.0)

    def cms(*arguments: str, text: str = "") -> tuple[int, str]:
        command = [*script("cms"), *arguments]
        return bench.processes.run("cms", command, text=text, env=daemon_environment())

    add = ("xmpp", "callbridge", "add-secret", f"cb1.{other}", "--secret-stdin")
    status, said = cms(*add, "--config", str(server.file), text="s3cret-of-ours\n")
    assert status == 0, said
    daemon.process.stop()
    daemon.settings["shared_secret"] = "s3cret-of-ours"
    daemon.launch()
    daemon.wait_active()
    daemon.process.wait_for(f"does not serve the domain {other}", 10.0)
    process.wait_for("so it is not asked to decide log-ins", 10.0)
    status, said = cms("status", "--config", str(server.file))
    assert status == 1
    assert "1 connected (none of them decides log-ins)" in said
    assert f"correct domain there to {DOMAIN}" in said
    status, said = cms("status", "--config", str(daemon.file))
    assert status == 1
    assert f"does not serve the domain {other}" in said
    status, said = cms("check", "--config", str(daemon.file), "--register", "--timeout", "1")
    assert status == 1
    assert "step 11 active            FAILED   the running Callbridge" in said
    assert f"does not serve the domain {other}" in said
    status, said = cms("check", "--server", "--config", str(server.file), "--timeout", "1")
    assert status == 1
    assert "What is connected to the XMPP server decides no log-ins" in said
