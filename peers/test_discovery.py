"""Steps 4 and 5 where BIND answers in unusual ways, and the link comes up all the same."""

from __future__ import annotations

import pytest

from peers.bind import Bind
from peers.certs import Certificates
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.processes import Processes

SRV = "_xmpp-component._tcp"


class Search:
    """A server whose certificate holds some names, and a Callbridge that looks for it."""

    def __init__(self, processes: Processes, certificates: Certificates, *names: str) -> None:
        self.processes = processes
        self.server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        pair = certificates.issue(*names)
        self.server.settings["tls"].update(certificate=str(pair.certificate), key=str(pair.key))
        self.certificates = certificates

    @property
    def port(self) -> int:
        """Where components are awaited."""
        return self.server.component_port

    def find(self, records: list[str], zone: str = DOMAIN, domain: str = DOMAIN) -> str:
        """The Callbridge's log, once its link is up."""
        dns = Bind(self.processes, {zone: records})
        dns.start()
        self.server.settings["domain"] = domain
        self.server.start()
        callbridge = Callbridge(self.processes, self.certificates, "s3cret", dns=dns)
        callbridge.settings["domain"] = domain
        return callbridge.start().output


def test_truncated(processes: Processes, certificates: Certificates) -> None:
    """An answer too long for UDP is fetched over TCP."""
    search = Search(processes, certificates, DOMAIN, f"xmpp1.{DOMAIN}")
    records = [f"{SRV} SRV 20 10 1 a-host-with-a-long-name-{n:03}" for n in range(60)]
    records += [f"{SRV} SRV 10 10 {search.port} xmpp1", "xmpp1 A 127.0.0.1"]
    output = search.find(records)
    assert "SRV 20 10 1 a-host-with-a-long-name-059" in output
    assert " FAILED: " not in output


def test_alias_at_the_target(processes: Processes, certificates: Certificates) -> None:
    """A CNAME at the SRV target is followed, and warned of; the certificate names the target."""
    search = Search(processes, certificates, DOMAIN, f"alias.{DOMAIN}")
    records = [f"{SRV} SRV 10 10 {search.port} alias", "alias CNAME xmpp1", "xmpp1 A 127.0.0.1"]
    output = search.find(records)
    assert f"alias.{DOMAIN} is an alias for xmpp1.{DOMAIN}, which RFC 2782 forbids" in output


def test_alias_at_the_service(processes: Processes, certificates: Certificates) -> None:
    """So is one at the service's own name."""
    search = Search(processes, certificates, DOMAIN, f"xmpp1.{DOMAIN}")
    records = [f"{SRV} CNAME real", f"real SRV 10 10 {search.port} xmpp1", "xmpp1 A 127.0.0.1"]
    assert " FAILED: " not in search.find(records)


@pytest.mark.parametrize("domain", ["treffen.bücher.example", "treffen.xn--bcher-kva.example"])
def test_internationalised_domain(
    domain: str, processes: Processes, certificates: Certificates
) -> None:
    """However such a domain is written, DNS and the certificate are asked for its A-labels."""
    zone = "treffen.xn--bcher-kva.example"
    search = Search(processes, certificates, zone, f"xmpp1.{zone}")
    records = [f"{SRV} SRV 10 10 {search.port} xmpp1", "xmpp1 A 127.0.0.1"]
    output = search.find(records, zone, domain)
    assert f"record {SRV}.{zone}" in output
    assert "component cb1.treffen.bücher.example" in output
