"""Steps 2 to 6: the server address, DNS, and TCP."""

from __future__ import annotations

from typing import Any

from twisted.names import dns

from peers import stubs
from peers.checkstage import BROKEN, COMPONENT, SECRET, Stage, records
from peers.component import ComponentServer
from peers.contract import DOMAIN
from peers.dnsproxy import answers_another, loses, says, truncates
from peers.faultcases.case import Cases
from peers.network import free_port

CASES = Cases()
RECORD = f"_xmpp-component._tcp.{DOMAIN}"
NO_ROUTE = "255.255.255.255"  # nothing can be sent there


# Steps 2 and 3


CASES.add(
    "server-address-invalid",
    3,
    "cannot be read",
    "[v6]:port",
    lambda stage: stage.configured("2001:db8::1:5223"),
)


@CASES.case("configuration-value", 2, "shared_secret", "shared_secret", name="secret-missing")
def secret_missing(stage: Stage) -> list[str]:
    """A configuration without a secret."""
    text = f'unique_name = "cb1"\ndomain = "{DOMAIN}"\nserver_address = "localhost"\n'
    return ["--config", str(stage.file("callbridge.toml", text.encode()))]


CASES.add(
    "configuration-file",
    2,
    "TOML",
    "readable TOML file",
    lambda stage: ["--config", str(stage.file("callbridge.toml", b"domain = [\n"))],
)


CASES.add(
    "configuration-encoding",
    2,
    "begins with a byte order mark (BOM)",
    "Save it as UTF-8",
    lambda stage: ["--config", str(stage.file("callbridge.toml", b"\xef\xbb\xbfdomain = 'x'\n"))],
)
CASES.add(
    "configuration-encoding",
    2,
    "is UTF-16",
    "Save it as UTF-8",
    lambda stage: [
        "--config",
        str(stage.file("callbridge.toml", "domain = 'x'\n".encode("utf-16"))),
    ],
    name="configuration-utf-16",
)

XMPP_TOML = f'domain = "{DOMAIN}"\nhostname = "xmpp1.{DOMAIN}"\n'
CALLBRIDGE_TOML = f'domain = "{DOMAIN}"\nunique_name = "cb1"\nshared_secret = "s3cret"\n'
CASES.add(
    "configuration-of-xmpp-server",
    2,
    "is the configuration of an XMPP server",
    "cms check --server",
    lambda stage: ["--config", str(stage.file("xmpp.toml", XMPP_TOML.encode()))],
)
CASES.add(
    "configuration-of-callbridge",
    2,
    "is the configuration of a Callbridge",
    "cms check without --server",
    lambda stage: [
        *("--server", "--config"),
        str(stage.file("callbridge.toml", CALLBRIDGE_TOML.encode())),
    ],
)


# Step 4, SRV


@CASES.case("srv-nxdomain", 4, f"{RECORD} does not exist", "5223")
def srv_nxdomain(stage: Stage) -> list[str]:
    """No record."""
    return stage.found(5223, component=[])


@CASES.case("srv-no-data", 4, "holds no SRV record", "IN SRV")
def srv_no_data(stage: Stage) -> list[str]:
    """A record of another type."""
    return stage.found(5223, component=["TXT hello"])


@CASES.case("srv-not-offered", 4, 'single target "."', "Replace the record")
def srv_not_offered(stage: Stage) -> list[str]:
    """RFC 2782's way to say no."""
    return stage.found(5223, component=["SRV 0 0 0 ."])


@CASES.case("srv-misspelt", 4, "misspelt", "with a hyphen")
def srv_misspelt(stage: Stage) -> list[str]:
    """As the document that introduced the service prints it."""
    stage.zone(*records(5223, "_xmppcomponent._tcp SRV 0 0 5223 xmpp1", component=[]))
    return stage.asks()


@CASES.case("dns-failed-srv", 4, "SERVFAIL", "DNS server's own log")
def dns_failed_srv(stage: Stage) -> list[str]:
    """A zone that the server cannot load."""
    return stage.asks(domain=BROKEN)


@CASES.case("dns-refused-srv", 4, "REFUSED", "Allow this host")
def dns_refused_srv(stage: Stage) -> list[str]:
    """A server that does not serve this domain."""
    return stage.asks(domain="other.example.net")


@CASES.case("dns-silent-srv", 4, "did not answer", "port 53")
def dns_silent_srv(stage: Stage) -> list[str]:
    """Every answer is lost."""
    return stage.asks(dns=stage.dns_path(lambda query, answer: None))


@CASES.case("dns-silent-srv", 4, "did not answer", "port 53", name="dns-frozen")
def dns_frozen(stage: Stage) -> list[str]:
    """The name server hangs."""
    arguments = stage.asks()
    assert stage.house.dns.process is not None
    stage.frozen_process(stage.house.dns.process)
    return arguments


@CASES.case("dns-truncated-srv", 4, "truncated", "TCP port 53")
def dns_truncated_srv(stage: Stage) -> list[str]:
    """An answer too long for UDP, where TCP is not served."""
    stage.zone(*records(5223))
    return stage.asks(dns=stage.dns_path(truncates(dns.SRV)))


@CASES.case("dns-unreachable-srv", 4, "could not be sent", "dns.servers")
def dns_unreachable_srv(stage: Stage) -> list[str]:
    """No route to the name server."""
    return stage.asks(dns=f"{NO_ROUTE}:53")


@CASES.case("dns-strange-srv", 4, "a question for foo (type 33)", "another DNS server")
def dns_strange_srv(stage: Stage) -> list[str]:
    """Answers with the right id, from the right address, for another name."""
    stage.zone(*records(5223))
    return stage.asks(dns=stage.dns_path(answers_another(dns.SRV)))


@CASES.case("srv-target-address", 4, "is an IP address", "Name the host")
def srv_target_address(stage: Stage) -> list[str]:
    """An address where a name belongs."""
    return stage.found(5223, component=[f"SRV {n}0 10 5223 127.0.0.{n}." for n in (1, 2)])


# Step 4, warnings


def works(fault: str, cause: str, cure: str, *, name: str = "", step: int = 4, **zone: Any) -> None:
    """A server that is right, found by records that are not quite."""

    def arrange(stage: Stage) -> list[str]:
        port = stage.component()
        shown = {key: [line.format(port=port) for line in lines] for key, lines in zone.items()}
        return stage.found(port, **shown)

    CASES.add(fault, step, cause, cure, arrange, name=name, warns=True)


works(
    "srv-single-target",
    "names one server only",
    "second XMPP server",
    component=["SRV 10 10 {port} xmpp1"],
)
works(
    "srv-target-alias",
    "an alias for real.meet.example.com",
    "Name real.meet.example.com itself",
    hosts=["real A 127.0.0.1", "xmpp1 CNAME real", "xmpp2 A 127.0.0.1"],
)
works(
    "srv-target-local",
    "this very host",
    "FQDN",
    component=["SRV 10 10 {port} localhost.", "SRV 20 10 {port} xmpp2"],
)
works(
    "srv-misspelt-beside",
    "misspelt _xmppcomponent._tcp",
    "Remove the misspelt record",
    more=["_xmppcomponent._tcp SRV 10 10 {port} xmpp1"],
)
works("client-srv-missing", f"_xmpp-client._tcp.{DOMAIN} does not exist", "5222", client=[])
works("client-srv-not-offered", "there is no server", "port 5222", client=["SRV 0 0 0 ."])
works(
    "client-srv-port",
    "names port 5223",
    "Correct the port",
    client=["SRV 10 10 5223 xmpp1", "SRV 20 10 5222 xmpp2"],
)
works(
    "domain-of-others",
    "belongs to another system as well",
    f"meet.{DOMAIN}",
    more=[
        "_cisco-uds._tcp SRV 0 0 8443 cucm.example.com.",
        "_collab-edge._tls SRV 0 0 8443 expressway.example.com.",
        "_xmpp-server._tcp SRV 0 0 5269 imp.example.com.",
    ],
)


@CASES.case("srv-target-no-name", 4, "xmpp_1.meet.example.com is not", "Name a host", warns=True)
def srv_target_no_name(stage: Stage) -> list[str]:
    """Names with an underscore, as some systems give to hosts."""
    pair = stage.house.root.issue([DOMAIN, *(f"xmpp_{n}.{DOMAIN}" for n in (1, 2))])
    port = stage.component(pair.write(stage.directory))
    component = [f"SRV {n}0 10 {port} xmpp_{n}" for n in (1, 2)]
    hosts = [f"xmpp{mark}{n} A 127.0.0.1" for n in (1, 2) for mark in ("", "_")]
    return stage.found(port, component=component, hosts=hosts)


@CASES.case("srv-client-port", 4, "port 5222, which is for clients", "Correct the port", warns=True)
def srv_client_port(stage: Stage) -> list[str]:
    """A component listener on the port for clients, and records that follow it."""
    port, host = 5222, stage.own_address()
    inside = ComponentServer({COMPONENT: SECRET})
    stage.serve(stubs.tls(stage.house.good, inside), host, port)
    return stage.found(port, hosts=[f"xmpp{n} A {host}" for n in (1, 2)])


@CASES.case(
    "tls-client-port",
    7,
    "STARTTLS",
    "component port, 5223",
    name="srv-to-client-port",
    also=["srv-client-port"],
)
def srv_to_client_port(stage: Stage) -> list[str]:
    """The example in the vendor's document: records that lead to the client port."""
    host = stage.own_address()
    server = stage.house.make_server("clients-on-5222")
    server.settings["listen"]["client"] = [f"tcp:5222:interface={host}"]
    server.start()
    stage.callback(server.process.stop)
    return stage.found(5222, hosts=[f"xmpp{n} A {host}" for n in (1, 2)])


# Step 5, addresses


@CASES.case("host-nxdomain", 5, "does not exist", "A or AAAA")
def host_nxdomain(stage: Stage) -> list[str]:
    """The targets have no address."""
    return stage.found(5223, hosts=[])


@CASES.case("host-nxdomain", 5, "nowhere.meet.example.com", "A or AAAA", name="address-misspelt")
def address_misspelt(stage: Stage) -> list[str]:
    """A configured host that is not there."""
    return stage.against(5223, f"nowhere.{DOMAIN}")


@CASES.case("host-no-data", 5, "neither an A nor an AAAA", "A or AAAA")
def host_no_data(stage: Stage) -> list[str]:
    """The target exists, without an address."""
    return stage.found(5223, hosts=["xmpp1 TXT hello", "xmpp2 TXT hello"])


@CASES.case("host-short", 5, "it is a short name, and search domains", "whole name")
def host_short(stage: Stage) -> list[str]:
    """A name that other programs complete."""
    return stage.against(5223, "xmpp1", dns=stage.dns_path(says(dns.ENAME, dns.A, dns.AAAA)))


@CASES.case("address-supplied", 5, "only in what came with the SRV answer", "A or AAAA", warns=True)
def address_supplied(stage: Stage) -> list[str]:
    """BIND sends addresses along with the SRV record, and then they cannot be asked for."""
    arguments = stage.found(stage.component())
    dns_server = stage.dns_path(says(dns.ESERVER, dns.A, dns.AAAA))
    return [dns_server if a == stage.house.dns.address else a for a in arguments]


@CASES.case("dns-strange-address", 5, "a question for foo", "another DNS server")
def dns_strange_address(stage: Stage) -> list[str]:
    """Answers about addresses are those for another name."""
    return stage.against(5223, dns=stage.dns_path(answers_another(dns.A, dns.AAAA)))


@CASES.case("host-alias-broken", 5, f"alias (CNAME) for gone.{DOMAIN}", "must not be an alias")
def host_alias_broken(stage: Stage) -> list[str]:
    """The target is an alias that leads nowhere."""
    return stage.found(5223, hosts=["xmpp1 CNAME gone", "xmpp2 CNAME gone"])


@CASES.case("dns-failed-address", 5, "SERVFAIL", "DNS server's own log")
def dns_failed_address(stage: Stage) -> list[str]:
    """The target lives in a broken zone."""
    return stage.against(5223, f"xmpp1.{BROKEN}")


@CASES.case("dns-refused-address", 5, "REFUSED", "Allow this host")
def dns_refused_address(stage: Stage) -> list[str]:
    """The target lives in a zone that this server does not serve."""
    return stage.against(5223, "xmpp1.example.net")


@CASES.case("dns-silent-address", 5, "did not answer", "port 53")
def dns_silent_address(stage: Stage) -> list[str]:
    """Answers about addresses are lost."""
    path = stage.dns_path(loses(dns.A, dns.AAAA))
    return stage.against(5223, dns=path)


@CASES.case("dns-truncated-address", 5, "truncated", "TCP port 53")
def dns_truncated_address(stage: Stage) -> list[str]:
    """Answers about addresses are too long for UDP, and TCP is not served."""
    path = stage.dns_path(truncates(dns.A, dns.AAAA))
    return stage.against(5223, dns=path)


@CASES.case("dns-unreachable-address", 5, "could not be sent", "dns.servers")
def dns_unreachable_address(stage: Stage) -> list[str]:
    """No route to the name server, and a host to ask for."""
    return stage.against(5223, dns=f"{NO_ROUTE}:53")


@CASES.case(
    "address-family-unknown", 5, "address family could not be asked", "A and AAAA", warns=True
)
def address_family_unknown(stage: Stage) -> list[str]:
    """Answers about IPv6 are lost."""
    path = stage.dns_path(loses(dns.AAAA))
    return stage.against(stage.component(), dns=path)


# Step 6, TCP


@CASES.case("connect-refused", 6, "nothing listens on port", "Start the XMPP server")
def connect_refused(stage: Stage) -> list[str]:
    """The server is down."""
    return stage.found(free_port())


@CASES.case("connect-timeout", 6, "did not answer", "firewall")
def connect_timeout(stage: Stage) -> list[str]:
    """A firewall drops the connection."""
    return stage.found(stage.enter_context(stubs.filtered_port()))


@CASES.case("connect-unreachable", 6, "cannot be reached", "route")
def connect_unreachable(stage: Stage) -> list[str]:
    """No route to the server."""
    return stage.found(5223, hosts=[f"xmpp{n} A {NO_ROUTE}" for n in (1, 2)])


@CASES.case("target-fails", 6, "and another target works", "Start the XMPP server", warns=True)
def target_fails(stage: Stage) -> list[str]:
    """The first of two servers is down."""
    ports = free_port(), stage.component()
    return stage.found(5223, component=[f"SRV {n}0 10 {p} xmpp{n}" for n, p in enumerate(ports, 1)])


@CASES.case("address-fails", 7, "has the address ::1, which takes", "from DNS", warns=True)
def address_fails(stage: Stage) -> list[str]:
    """IPv6 takes the connection and says nothing; IPv4 works."""
    port = stage.component()
    stage.serve(stubs.silent, "::1", port)
    hosts = [f"xmpp{n} {address}" for n in (1, 2) for address in ("A 127.0.0.1", "AAAA ::1")]
    return stage.found(port, hosts=hosts)


@CASES.case("ipv6-dead", 6, "IPv6 address ::1", "remove the AAAA record", warns=True)
def ipv6_dead(stage: Stage) -> list[str]:
    """IPv6 that resolves and does not connect."""
    hosts = [f"xmpp{n} {address}" for n in (1, 2) for address in ("A 127.0.0.1", "AAAA ::1")]
    return stage.found(stage.component(), hosts=hosts)


@CASES.case("address-dead", 6, "cannot be connected to", "remove it from DNS", warns=True)
def address_dead(stage: Stage) -> list[str]:
    """One of two addresses is dead."""
    dead = stage.own_address()
    hosts = [f"xmpp{n} A {address}" for n in (1, 2) for address in (dead, "127.0.0.1")]
    return stage.found(stage.component(), hosts=hosts)
