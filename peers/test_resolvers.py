"""Whom C{cms check} asks, and what it makes of several answers: servers, files, strays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from twisted.names import dns

from peers.checking import Checked, run_check
from peers.checkstage import Stage, records
from peers.dnsproxy import says, strays_first
from peers.drivers import link_local_dns
from peers.processes import Processes
from peers.tools import require

PORT = 5223


class Host:
    """A host of its own: loopback with a link-local DNS server, and files about names."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.directory = processes.make_directory("host")
        resolv_conf = self.directory / "resolv.conf"
        resolv_conf.write_text(f"search a.example\nnameserver {link_local_dns.ADDRESS}\n")
        hosts = self.directory / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{link_local_dns.ADDRESS} XMPP1 other\n")

    def check(self, *arguments: str) -> Checked:
        """C{cms check} on it."""
        options = "-mn" if os.geteuid() == 0 else "-rmn"
        script = (
            "ip link set lo up && ip addr add fe80::53/64 dev lo nodad"
            f" && mount --bind {self.directory}/resolv.conf /etc/resolv.conf"
            f" && mount --bind {self.directory}/hosts /etc/hosts"
            ' && exec "$@"'
        )
        inside = [sys.executable, str(Path(link_local_dns.__file__))]
        unshare = [require("unshare", "util-linux"), options]
        command = [*unshare, "sh", "-c", script, "sh", *inside]
        require("ip", "iproute2")
        domain = ["--domain", "meet.example.com"]
        return run_check(self.processes, [*domain, *arguments], command=command)


@pytest.fixture
def host(processes: Processes) -> Host:
    """One host."""
    return Host(processes)


def test_link_local_server(host: Host) -> None:
    """C{nameserver fe80::53%lo} is asked, and heard."""
    (failure,) = host.check().failures
    assert failure.fault == "srv-nxdomain"
    assert "the DNS server [fe80::53%lo]:53 answered NXDOMAIN" in failure.cause


def test_hosts_file(host: Host) -> None:
    """A name of /etc/hosts is not asked of DNS, and its link-local address is connected to."""
    checked = host.check("--server-address", "xmpp1")
    assert [one.fault for one in checked.failures] == ["connect-refused"], checked.report
    assert checked.failures[0].cause.startswith("fe80::53%lo refused the connection")
    (step,) = [f for f in checked.report["findings"] if f["step"] == 5 and f["evidence"]]
    assert step["evidence"]["from"] == "/etc/hosts"


def test_search_domains(host: Host) -> None:
    """A short name that is nowhere: the domains that are not tried are told."""
    (failure,) = host.check("--server-address", "xmpp9").failures
    assert failure.fault == "host-short"
    assert "search domains (a.example) are not tried" in failure.cause
    assert "whole name" in failure.cure


def test_strays(stage: Stage, processes: Processes) -> None:
    """Answers for another name come first, and the right one all the same counts."""
    stage.zone(*records(stage.component()))
    path = stage.dns_path(strays_first(dns.SRV, dns.A))
    checked = run_check(processes, stage.asks(dns=path))
    assert checked.status == 0, checked.report
    assert not checked.warnings


def test_witnesses(stage: Stage, processes: Processes) -> None:
    """Two DNS servers, and each is told by what it said."""
    fails, knows_nothing = (
        stage.dns_path(says(code, dns.SRV)) for code in (dns.ESERVER, dns.ENAME)
    )
    stage.zone(*records(PORT))
    arguments = stage.configured("", dns={"servers": [fails, knows_nothing]})
    checked = run_check(processes, arguments)
    (failure,) = [f for f in checked.report["findings"] if f["result"] == "failed"]
    assert failure["fault"] == "srv-nxdomain"
    assert f"the DNS server {knows_nothing} answered NXDOMAIN" in failure["cause"]
    assert failure["evidence"]["asked"] == f"{fails}: SERVFAIL; {knows_nothing}: NXDOMAIN"
