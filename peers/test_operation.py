"""What operators use: figures, alerts, logs for machines, systemd, the sample configurations."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peers.api import Administration
from peers.bind import Bind
from peers.certs import Certificates
from peers.clients import slixmpp_client
from peers.contract import DOMAIN, LINK_ACTIVE, LINK_SECONDS, ROOT, START_SECONDS
from peers.daemons import Callbridge, Daemon, XmppServer
from peers.network import free_port, wait_until
from peers.operating import block, make_samples, moved_clock, run_block, script_environment
from peers.processes import Process, Processes
from peers.prometheus import Prometheus
from peers.scrape import Figures
from peers.tools import require, script

ALICE, PASSWORD, WRONG = f"alice@{DOMAIN}", "alice's pass word", "wr0ng-passw0rd"
SECRET = "s3cret-of-cb1"
COMPONENT = f"cb1.{DOMAIN}"
UNITS = ("cms-xmpp.service", "cms-callbridge.service", "cms-xmpp.socket", "cms-callbridge.socket")


class Manager:
    """systemd, as far as a service talks to it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.1)
        self.heard: list[str] = []
        self._closing = False
        # Like systemd it reads at once: the kernel holds a few messages only.
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a service with Type=notify and WatchdogSec=1 gets."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": "1000000"}

    def _read(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                self.heard.append(self._socket.recv(4096).decode())

    def wait_for(self, pattern: str, seconds: float) -> str:
        """Wait for a message; forget it and those before it."""
        found: list[str] = []

        def seen() -> bool:
            found[:] = [m for m in self.heard if re.search(pattern, m)]
            return bool(found)

        wait_until(seen, seconds, f"{pattern} among {self.heard}")
        del self.heard[: self.heard.index(found[0]) + 1]
        return found[0]

    def forget(self) -> None:
        """Forget what was sent until now, also what is still on its way here."""
        mark = "X_FORGET=1"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark.encode(), str(self.path))
        wait_until(lambda: mark in self.heard, 5.0, "the mark")
        self.heard.clear()

    def hears_life(self) -> bool:
        """Whether there was a sign of life since the last L{wait_for}."""
        return "WATCHDOG=1" in self.heard

    def close(self) -> None:
        """Listen no more."""
        self._closing = True
        self._thread.join()
        self._socket.close()


class System:
    """An XMPP server and a Callbridge with one user, logging for machines."""

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self._processes = processes
        self._trust = certificates.trust
        self.server = XmppServer(processes, certificates, {"cb1": SECRET})
        srv = f"_xmpp-component._tcp SRV 10 10 {self.server.component_port} xmpp1"
        self.dns = Bind(processes, {DOMAIN: [srv, "xmpp1 A 127.0.0.1"]})
        self.callbridge = Callbridge(processes, certificates, SECRET, dns=self.dns)
        self.callbridge.add_user(ALICE, PASSWORD)
        for daemon in (self.server, self.callbridge):
            daemon.options = ["--log-format", "json"]

    def start(self) -> None:
        """Start all three."""
        self.dns.start()
        self.server.start()
        self.callbridge.start()

    def client(self, password: str = PASSWORD, **more: object) -> Any:
        """A client that is not connected yet."""
        port = self.server.client_port
        return slixmpp_client(self._processes, ALICE, password, port, self._trust, **more)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Made, but not started."""
    return System(processes, certificates)


def log_lines(process: Process) -> list[dict[str, Any]]:
    """What a daemon has logged."""
    return [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]


def test_figures(system: System, processes: Processes) -> None:
    """Both daemons' figures after a log-in, a failed one and a message; promtool finds no fault."""
    promtool = require("promtool", "prometheus")
    system.start()
    bad = system.client(WRONG, mechanism="PLAIN")
    bad.connect()
    bad.expect("refused")
    client = system.client(mechanism="SCRAM-SHA-256")
    client.connected()
    client.message(ALICE, "to myself")
    client.expect("message")
    wait_until(
        lambda: Figures(system.callbridge)("cms_callbridge_sessions") == 1, 10.0, "the session"
    )
    server, callbridge = Figures(system.server), Figures(system.callbridge)
    for figures in (server, callbridge):
        assert figures.content_type == "text/plain; version=0.0.4; charset=utf-8"
        status, output = processes.run(
            "promtool", [promtool, "check", "metrics"], text=figures.text
        )
        assert (status, output) == (0, "")
        assert figures("cms_certificate_expiry_timestamp_seconds", certificate="own") > 1.7e9
        for private in (SECRET, PASSWORD, WRONG, "alice"):
            assert private not in figures.text
    for prefix, up in ((server, "cms_xmpp"), (callbridge, "cms_callbridge")):
        assert prefix(f"{up}_link_up") == 1
        assert prefix(f"{up}_logins_total", mechanism="PLAIN", result="not-authorized") == 1
        assert prefix(f"{up}_logins_total", mechanism="SCRAM-SHA-256", result="success") == 1
        assert prefix(f"{up}_step_duration_seconds_count", step="login") == 2
        assert prefix(f"{up}_step_duration_seconds_count", step="tls") == 1
        assert prefix(f"{up}_sessions") == 1
        for direction in ("received", "sent"):
            assert prefix(f"{up}_stanzas_total", direction=direction) > 2
            assert prefix(f"{up}_bytes_total", direction=direction) > 500
    certificates = "cms_certificate_expiry_timestamp_seconds"
    assert server(certificates, certificate=COMPONENT) > 1.7e9
    assert callbridge(certificates, certificate="server") > 1.7e9
    assert callbridge("cms_callbridge_link_step") == 11
    assert server("cms_xmpp_registrations_total", result="active") == 1
    assert server("cms_xmpp_connections", listener="client") >= 1
    system.server.process.stop()
    wait_until(
        lambda: Figures(system.callbridge)("cms_callbridge_link_up") == 0, 10.0, "the link's end"
    )
    later = Figures(system.callbridge)
    assert later("cms_callbridge_failures_total", reason="link-closed") == 1
    assert later("cms_callbridge_bytes_total") >= callbridge("cms_callbridge_bytes_total")


def panels() -> Iterator[tuple[str, str]]:
    """Title and query of each thing that the dashboard shows."""
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
            yield panel["title"], query


def has_samples(prometheus: Prometheus, query: str) -> bool:
    """Whether a query finds anything."""
    return bool(prometheus.query(query))


def test_prometheus(system: System, processes: Processes, certificates: Certificates) -> None:
    """
    A Prometheus configured by the documentation scrapes both; the dashboard has
    something to show, and what is wrong raises the right alerts.
    """
    ports = free_port(), free_port()
    for daemon, port in zip((system.server, system.callbridge), ports, strict=True):
        daemon.settings.setdefault("listen", {})["api"] = [f"tcp:{port}:interface=127.0.0.1"]
    system.dns.start()
    system.server.launch()
    system.callbridge.start()
    jobs = {
        "cms-xmpp": (system.server, ports[0], system.server.hostname),
        "cms-callbridge": (system.callbridge, ports[1], COMPONENT),
    }
    prometheus = Prometheus(processes, certificates, jobs)
    prometheus.start()
    wait_until(lambda: len(prometheus.query("up == 1")) == len(jobs), 20.0, "two scrapes")
    assert system.client().connected()
    for role in ("xmpp", "callbridge"):
        logged_in = f'increase(cms_{role}_logins_total{{result="success"}}[10s]) > 0'
        wait_until(partial(has_samples, prometheus, logged_in), 15.0, logged_in)
    empty = {title for title, query in panels() if not prometheus.query(query)}
    # No figures of a cluster (tests/test_cluster_shown.py) and of LDAP (test_ldap_sync.py) here.
    others = ("cms_xmpp_cluster_", "cms_callbridge_directory_")
    absent = {title for title, query in panels() if any(name in query for name in others)}
    # Nothing was refused yet.
    absent |= {
        "Stanzas answered with an error, or dropped",
        "Changes of contacts, and refused ones",
    }
    assert empty == absent
    assert all(group["rules"] for group in prometheus.get("rules")["groups"])
    assert prometheus.firing() == set()
    system.callbridge.process.stop()
    expected = {"CmsDown", "CmsNobodyCanLogIn", "CmsComponentMissing"}
    wait_until(lambda: prometheus.firing() == expected, 20.0, f"{expected}")


@pytest.mark.parametrize("command", ["check", "test"])
def test_alerts(command: str, processes: Processes) -> None:
    """promtool reads the rules, and they fire when they should."""
    promtool = require("promtool", "prometheus")
    file = "alerts.yml" if command == "check" else "alerts-test.yml"
    status, output = processes.run(
        "promtool", [promtool, command, "rules", file], cwd=ROOT / "docs"
    )
    assert status == 0, output
    assert "SUCCESS" in output


def test_logs(system: System) -> None:
    """The same IDs on both sides tie a link and each log-in together; no secret is there."""
    system.start()
    bad = system.client(WRONG, mechanism="PLAIN")
    bad.connect()
    bad.expect("refused")
    client = system.client()
    client.connected()
    client.message(ALICE, "for nobody's log")
    client.expect("message")
    client.process.stop()
    system.server.process.wait_for("is gone from", 10.0)
    server, callbridge = log_lines(system.server.process), log_lines(system.callbridge.process)

    def ids(lines: list[dict[str, Any]], field: str, words: str) -> list[str]:
        return [line[field] for line in lines if words in line["message"] and field in line]

    (registered,) = ids(server, "link_id", "registered from")
    assert {registered} == set(ids(callbridge, "link_id", "attempt 1"))
    (successful,) = ids(callbridge, "link_id", ": successful login request")
    assert successful == registered
    assert len({line["attempt_id"] for line in callbridge if "attempt_id" in line}) == 1
    (refused,) = ids(server, "login_id", "refused")
    assert [refused] == ids(callbridge, "login_id", "unsuccessful login request")
    (logged_in,) = ids(server, "login_id", "logged in from")
    assert [logged_in] == ids(callbridge, "login_id", ": successful login request")
    assert ids(server, "connection_id", "is gone") == ids(server, "connection_id", "logged in")
    assert ids(server, "connection_id", "refused") != ids(server, "connection_id", "logged in")
    output = system.server.process.output + system.callbridge.process.output
    for private in (SECRET, PASSWORD, WRONG, "for nobody's log"):
        assert private not in output


def test_units(tmp_path: Path, processes: Processes) -> None:
    """systemd finds no fault with the units, and little that they could still be denied."""
    analyze = require("systemd-analyze", "systemd")
    for unit in UNITS:
        text = (ROOT / "systemd" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/cms/bin/twistd", script("twistd")[0]))
    for unit in UNITS:
        command = [analyze, "verify", "--man=no", f"./{unit}"]
        assert processes.run("verify", command, cwd=tmp_path) == (0, "")
    for unit in UNITS[:2]:
        # 2.0 of 10; systemd calls that OK.
        command = [analyze, "security", "--offline=true", "--threshold=20", f"./{unit}"]
        status, output = processes.run("security", command, cwd=tmp_path)
        assert status == 0, output
    sysusers = [require("systemd-sysusers", "systemd"), "--dry-run"]
    status, output = processes.run("sysusers", [*sysusers, str(ROOT / "systemd" / "cms.sysusers")])
    assert status == 0, output


def test_notify(system: System, tmp_path: Path) -> None:
    """Ready, how the link is by step, signs of life, a reload, the end: as Type=notify asks."""
    server, callbridge = Manager(tmp_path), None
    system.server.environment = server.environment
    system.server.launch()
    server.wait_for("^READY=1$", START_SECONDS)
    assert "component listener ready" in system.server.process.output
    server.wait_for("^STATUS=step 1 link-before-login: listening, 0 of 1 component regis", 5.0)
    try:
        directory = tmp_path / "other"
        directory.mkdir()
        callbridge = Manager(directory)
        system.callbridge.environment = callbridge.environment
        system.callbridge.settings["link"] = {"first_delay": 1.0, "most_delay": 1.0}
        system.dns._zones[DOMAIN] = ["xmpp1 A 127.0.0.1"]  # no SRV record yet
        system.dns.start()
        system.callbridge.launch()
        callbridge.wait_for("^READY=1$", START_SECONDS)
        callbridge.wait_for("^STATUS=waiting; step 4 srv failed: ", LINK_SECONDS)
        srv = f"_xmpp-component._tcp SRV 10 10 {system.server.component_port} xmpp1"
        system.dns.change(DOMAIN, [srv, "xmpp1 A 127.0.0.1"])
        callbridge.wait_for(r"^STATUS=step 11 active: the link to xmpp1", LINK_SECONDS)
        server.wait_for(f"^STATUS=step 11 active: 1 of 1 .*{COMPONENT}", LINK_SECONDS)
        system.server.process.signal(signal.SIGHUP)
        server.wait_for(r"^RELOADING=1\nMONOTONIC_USEC=\d+$", 5.0)
        server.wait_for("^READY=1$", 5.0)
        wait_until(server.hears_life, 5.0, "a sign of life")
        system.server.process.signal(signal.SIGTERM)
        server.wait_for("^STOPPING=1$", 5.0)
        callbridge.wait_for("^STATUS=waiting; step 11 active failed: ", 10.0)
    finally:
        server.close()
        if callbridge is not None:
            callbridge.close()


def test_watchdog_of_a_stopped_daemon(system: System, tmp_path: Path) -> None:
    """A daemon whose reactor hangs gives no sign of life."""
    manager = Manager(tmp_path)
    try:
        system.server.environment = manager.environment
        system.server.launch()
        manager.wait_for("^READY=1$", START_SECONDS)
        system.server.process.signal(signal.SIGSTOP)
        wait_until(lambda: _stopped(system.server), 5.0, "the stop")
        manager.forget()
        with pytest.raises(AssertionError):
            wait_until(manager.hears_life, 1.5, "a sign of life")
        system.server.process.signal(signal.SIGCONT)
        wait_until(manager.hears_life, 5.0, "a sign of life")
    finally:
        manager.close()


@pytest.mark.parametrize("reactor", [[], ["--reactor=epoll"]], ids=["ours", "epoll"])
def test_clock_set_back(reactor: list[str], system: System, tmp_path: Path) -> None:
    """An hour back on both hosts: everything that waits for time goes on, and dates are true."""
    clock = tmp_path / "clock"
    wall = moved_clock(clock)
    manager = Manager(tmp_path)
    try:
        system.server.environment = {**wall, **manager.environment}
        system.callbridge.environment = wall
        for daemon in (system.server, system.callbridge):
            daemon.twistd_options = reactor
        system.callbridge.settings["link"] = {"ping_interval": 1.0, "ping_timeout": 1.0}
        system.start()
        system.client().connected()
        (line,) = log_lines(system.callbridge.process)[-1:]
        told = datetime.fromisoformat(line["time"])

        clock.write_text("-1h")
        manager.heard.clear()
        wait_until(lambda: manager.heard.count("WATCHDOG=1") >= 3, 10.0, "signs of life")
        admin = Administration(system.server.directory / "state")
        for _ in range(50):  # more than one burst of the API's share of time
            assert admin.ask("GET", "/api/v1/callBridges")[0] == 200
        system.client().connected()
        (line,) = log_lines(system.callbridge.process)[-1:]
        assert (
            timedelta(minutes=50) < told - datetime.fromisoformat(line["time"]) < timedelta(hours=1)
        )
        (first, *_) = admin.get("system/signalflow?kind=login")["signalFlow"]["attempt"]
        began = datetime.fromisoformat(first["began"])
        assert timedelta(minutes=50) < told - began < timedelta(hours=1)

        system.server.process.signal(signal.SIGSTOP)  # a dead peer
        system.callbridge.process.wait_for("step 11 active FAILED", 15.0)
        system.server.process.signal(signal.SIGCONT)
        system.callbridge.wait_active(2)
    finally:
        manager.close()


def _stopped(daemon: Daemon) -> bool:
    status = Path(f"/proc/{daemon.process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


def test_sockets_from_systemd(system: System) -> None:
    """Listeners on sockets that were open before: clients and Callbridges come in by them."""
    server = system.server
    listen = server.settings["listen"]
    listen["component"] = ["systemd:domain=INET6:name=component"]
    listen["component_plain"] = ["systemd:domain=UNIX:name=local"]
    listen["client"] = ["systemd:domain=INET:name=client"]
    local = server.directory / "component.sock"
    server.launcher = [
        *(script("python")[0], "-m", "peers.drivers.socket_unit"),
        f"component=::ffff:127.0.0.1:{server.component_port}",
        f"local={local}",
        f"client=127.0.0.1:{server.client_port}",
        "--",
    ]
    system.start()
    assert system.client().connected()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10.0)
        peer.connect(str(local))
        peer.sendall(
            b"<stream:stream xmlns='jabber:component:accept' to='nobody'"
            b" xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        assert b"host-unknown" in peer.recv(4096)


@pytest.mark.parametrize("where", ["0.0.0.0", "::"])
def test_plain_socket_that_others_reach(system: System, where: str) -> None:
    """A listener without TLS refuses a socket of systemd's that is not local."""
    server = system.server
    domain = "INET6" if ":" in where else "INET"
    server.settings["listen"]["client_plain"] = [f"systemd:domain={domain}:name=open"]
    unit = f"open={where}:{free_port()}"
    server.launcher = [script("python")[0], "-m", "peers.drivers.socket_unit", unit, "--"]
    process = server.launch()
    assert process.wait_for_exit(20.0) == 1
    assert "listen.client_plain" in process.output
    assert "could be reached from another host" in process.output
    server.expect_error("could be reached from another host")


def test_log_recipes(system: System, processes: Processes) -> None:
    """What docs/operate.md types to follow a failed log-in works, in text and in JSON."""
    jq = require("jq", "jq")
    require("journalctl", "systemd")
    for daemon in (system.server, system.callbridge):
        daemon.options = ["--log-format", "text"]
    system.start()
    bad = system.client(WRONG, mechanism="PLAIN")
    bad.connect()
    bad.expect("refused")
    by_user, by_id = (line.partition("--grep ")[2] for line in block("journal").splitlines())
    (line,) = re.findall(rf"^.*{by_user[1:-1]}.*$", system.callbridge.process.output, re.MULTILINE)
    login = re.search(r"login_id=(\w+)", line)
    assert login is not None
    assert re.fullmatch(r"[0-9a-f]{12}", by_id)  # like the one that is looked for
    assert re.search(rf"refused.*\blogin_id={login[1]}\b", system.server.process.output)
    logs = {}
    for daemon in (system.server, system.callbridge):
        daemon.process.stop()
        logs[daemon] = processes.directory / f"{daemon.file.stem}.log"
        daemon.options = ["--log-format", "json"]
        daemon.twistd_options = ["--logfile", str(logs[daemon])]
    system.server.launch()
    system.callbridge.launch()
    wait_until(
        lambda: (
            logs[system.callbridge].exists() and LINK_ACTIVE in logs[system.callbridge].read_text()
        ),
        LINK_SECONDS,
        "the link, in the file",
    )
    bad = system.client(WRONG, mechanism="PLAIN")
    bad.connect()
    bad.expect("refused")
    first, second = block("json").replace("jq", jq).splitlines()
    status, output = processes.run("jq", ["sh", "-c", first], cwd=processes.directory)
    (found,) = [json.loads(line) for line in output.splitlines()]
    assert (status, found["why"]) == (0, "not-authorized"), found
    second = second.replace(by_id, found["login_id"])
    status, output = processes.run("jq", ["sh", "-c", second], cwd=processes.directory)
    (refused,) = [json.loads(line) for line in output.splitlines()]
    assert (status, refused["condition"]) == (0, "not-authorized")


def assert_reachable(url: str, trust: Path) -> None:
    """Somebody who trusts the CA of the trial reaches a page without a warning."""
    context = ssl.create_default_context(cafile=str(trust))
    with urllib.request.urlopen(url, context=context, timeout=10.0) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("certificates_by", ["trial", "own-ca"])
def test_samples(certificates_by: str, processes: Processes) -> None:
    """
    Both daemons start from the samples as they stand, and a user logs in, with
    certificates made either way.
    """
    commands = block(certificates_by)
    if certificates_by == "own-ca":
        commands = commands.replace("DNS:xmpp1.", "DNS:localhost,DNS:xmpp1.")
        commands += "openssl rand -hex 24 > cb1.secret\n"
    samples = make_samples(processes, commands)
    command = ["sh", "-c", f"{block('user').strip()} --password-stdin"]
    status, output = processes.run(
        "user", command, text=PASSWORD, cwd=samples, env=script_environment()
    )
    assert status == 0, output
    server = run_block(processes, "xmpp", samples)
    server.wait_for("client listener ready", START_SECONDS)
    callbridge = run_block(processes, "callbridge", samples)
    callbridge.wait_for(LINK_ACTIVE, LINK_SECONDS)
    ports = json.loads((samples / "ports.json").read_text())
    port = int(ports["5222"])
    assert slixmpp_client(processes, ALICE, PASSWORD, port, samples / "ca.pem").connected()
    if certificates_by == "trial":
        for written in ("8445", "8446"):
            assert_reachable(f"https://localhost:{ports[written]}/healthz", samples / "ca.pem")
    for process in (callbridge, server):
        assert not re.search(r"WARNING|#(warn|error|critical)", process.output), process.output
        assert process.stop() in (0, -signal.SIGTERM)


def test_meeting_of_samples(processes: Processes) -> None:
    """A guest comes into a meeting that was made as the page says, with the pages it says."""
    samples = make_samples(processes, block("trial"))
    web = f'web = ["tcp:{free_port()}:interface=127.0.0.1"]\n'
    look = '[web]\ntitle = "Meetings of Example Ltd"\ntext = "Trouble? Call 4711."\n'
    file = samples / "xmpp.toml"
    file.write_text(file.read_text().replace("[listen]\n", f"{look}[listen]\n{web}"))
    environment = script_environment()
    shell = ["sh", "-e", "-c", block("space")]
    status, output = processes.run("space", shell, cwd=samples, env=environment)
    assert status == 0, output
    run_block(processes, "xmpp", samples).wait_for("web listener ready", START_SECONDS)
    run_block(processes, "callbridge", samples).wait_for(LINK_ACTIVE, LINK_SECONDS)
    for name in ("join", "join-proxied"):
        typed = block(name).replace("--url https://meet.example.com", "--config xmpp.toml")
        assert "xmpp.toml" in typed
        shell = ["sh", "-e", "-c", typed]
        status, output = processes.run("check", shell, cwd=samples, env=environment)
        assert status == 0, output
    assert "occupants 1, nickname cms check" in output
    assert "no step failed; 1 warning" in output  # the CA of the trial, which browsers do not know


@pytest.mark.parametrize("role", ["xmpp", "callbridge"])
def test_units_as_documented(role: str, processes: Processes) -> None:
    """
    What docs/operate.md says to type before C{systemctl}: on a host that has none of the
    folders, and so that the service may read its files and nobody else its secrets.
    """
    require("systemd-sysusers", "systemd")
    samples = make_samples(processes, block("trial"))
    root = processes.make_directory("root")
    (root / "etc" / "systemd" / "system").mkdir(parents=True)
    mentioned = block("units" if role == "xmpp" else "units-callbridge")
    typed, _, _ = mentioned.partition("systemctl")
    user = f"cms-{role}"
    assert f"-g {user} " in typed
    typed = (
        typed.replace("/etc/", f"{root}/etc/")
        .replace("systemd-sysusers", f"systemd-sysusers --root={root}")
        .replace(f"-g {user} ", f"-g {os.getgid()} ")  # it is in the group file of that root only
        .replace(" systemd/", f" {ROOT}/systemd/")
    )
    status, output = processes.run("install", ["sh", "-e", "-c", typed], cwd=samples)
    assert status == 0, output
    assert f"{user}:x:" in (root / "etc" / "group").read_text()
    unit = (root / "etc/systemd/system" / f"{user}.service").read_text()
    assert f"--config /etc/cms/{role}.toml\n" in unit
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in (root / "etc/cms").iterdir()}
    name = "xmpp" if role == "xmpp" else "cb1"
    secret = dict.fromkeys((f"{role}.toml", f"{name}.key", "cb1.secret"), "0o640")
    assert modes == {"ca.pem": "0o644", f"{name}.crt": "0o644", **secret}
