"""C{cms check --server}: the same from the XMPP server's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers.certs import Pair
from peers.checkstage import HOST, Stage, records
from peers.contract import DOMAIN
from peers.daemons import XmppServer
from peers.faultcases.case import Cases
from peers.network import free_port
from peers.pki import CLIENT, SERVER, Authority, Validity
from peers.tools import require

CASES = Cases()
NAMES = (DOMAIN, HOST)


def looks_at(
    stage: Stage, server: XmppServer, zone: list[str] | None = None, *more: str
) -> list[str]:
    """A check of a server by its configuration; its zone is right unless C{zone} is given."""
    if zone is None:
        zone = own_zone(server)
    stage.zone(*zone)
    dns = stage.house.dns.address
    return ["--server", "--config", str(server.write()), "--dns", dns, *more]


def own_zone(server: XmppServer, **different: Any) -> list[str]:
    """What DNS should hold for a server."""
    client = [f"SRV {n}0 10 {server.client_port} xmpp{n}" for n in (1, 2)]
    return records(server.component_port, **{"client": client, **different})


def linked(**zone: Any) -> Callable[[Stage], list[str]]:
    """The running server, under another zone."""

    def arrange(stage: Stage) -> list[str]:
        server, _ = stage.house.linked
        shown = {
            key: [
                line.format(component=server.component_port, client=server.client_port)
                for line in lines
            ]
            for key, lines in zone.items()
        }
        return looks_at(stage, server, own_zone(server, **shown))

    return arrange


def with_certificate(make: Callable[[Stage], Pair]) -> Callable[[Stage], list[str]]:
    """The running server, after somebody put another certificate into its configuration."""

    def arrange(stage: Stage) -> list[str]:
        pair = make(stage)
        server = stage.changed_server(certificate=str(pair.certificate), key=str(pair.key))
        return looks_at(stage, server)

    return arrange


CERTIFICATES = (
    (
        "configuration-value",
        2,
        "does not fit the first certificate",
        "leaf certificate first",
        False,
        lambda s: s.mismatched(),
    ),
    (
        "own-chain-incomplete",
        7,
        "whose issuer",
        "Append the intermediate",
        False,
        lambda s: s.house.intermediate.issue(NAMES).write(s.directory),
    ),
    (
        "certificate-usage-server",
        7,
        "may not be used by a server",
        "Server Authentication",
        False,
        lambda s: s.house.root.issue(NAMES, usages=[CLIENT]).write(s.directory),
    ),
    (
        "certificate-no-client-use",
        7,
        "client authentication",
        "Client Authentication",
        True,
        lambda s: s.house.root.issue(NAMES, usages=[SERVER]).write(s.directory),
    ),
    (
        "certificate-expired",
        7,
        "expired at",
        "Renew",
        False,
        lambda s: s.house.root.issue(NAMES, validity=Validity(-10, -1)).write(s.directory),
    ),
    (
        "certificate-not-yet-valid",
        7,
        "valid only from",
        "clocks",
        False,
        lambda s: s.house.root.issue(NAMES, validity=Validity(1, 100)).write(s.directory),
    ),
    (
        "certificate-expires-soon",
        7,
        "expires in",
        "Renew",
        True,
        lambda s: s.house.root.issue(NAMES, validity=Validity(-80, 10)).write(s.directory),
    ),
    (
        "identity-domain-missing",
        8,
        f"not the XMPP domain {DOMAIN}",
        f"DNS:{DOMAIN}",
        False,
        lambda s: s.house.root.issue([HOST]).write(s.directory),
    ),
    (
        "identity-host-missing",
        8,
        f"not the server {HOST}",
        HOST,
        False,
        lambda s: s.house.root.issue([DOMAIN]).write(s.directory),
    ),
    (
        "identity-no-san",
        8,
        "no subjectAltName",
        DOMAIN,
        False,
        lambda s: s.house.root.issue(common_name=DOMAIN).write(s.directory),
    ),
    (
        "identity-wildcard",
        8,
        "by a wildcard only",
        "themselves",
        True,
        lambda s: s.house.root.issue(["*.example.com", f"*.{DOMAIN}"]).write(s.directory),
    ),
)
for _fault, _step, _cause, _cure, _warns, _make in CERTIFICATES:
    CASES.add(
        _fault,
        _step,
        _cause,
        _cure,
        with_certificate(_make),
        name=f"server-{_fault}",
        warns=_warns,
    )


@CASES.case(
    "configuration-value",
    2,
    "is cut: the CERTIFICATE that begins at line",
    "Copy the whole file again",
    name="server-certificate-cut",
)
def certificate_cut(stage: Stage) -> list[str]:
    """The disk was full when the intermediate was written."""
    intermediate = stage.house.intermediate

    def make(stage: Stage) -> Pair:
        pair = intermediate.issue(NAMES).write(stage.directory, intermediate)
        whole = pair.certificate.read_bytes()
        pair.certificate.write_bytes(whole[:-100])
        return pair

    return with_certificate(make)(stage)


@CASES.case("certificate-chain-order", 7, "out of order", "leaf first", name="server-chain-order")
def chain_order(stage: Stage) -> list[str]:
    """Two intermediates, the upper one first."""
    lower = Authority("Lower intermediate", stage.house.intermediate)
    leaf = lower.issue(NAMES)

    def make(stage: Stage) -> Pair:
        return leaf.write(stage.directory, stage.house.intermediate, lower)

    return with_certificate(make)(stage)


@CASES.case("chain-unverified", 7, "is not known", "tls.trust", warns=True)
def chain_unverified(stage: Stage) -> list[str]:
    """The root is nowhere to be found."""
    root = Authority("A root of theirs")
    intermediate = Authority("An intermediate of theirs", root)
    pair = intermediate.issue(NAMES).write(stage.directory, intermediate)
    server = stage.changed_server(certificate=str(pair.certificate), key=str(pair.key))
    return looks_at(stage, server)


# DNS, as the server wants it


@CASES.case("srv-nxdomain", 4, "does not exist", "IN SRV", name="server-srv-nxdomain")
def srv_nxdomain(stage: Stage) -> list[str]:
    """A server for everybody, whom nobody can find."""
    server = stage.changed_server()
    server.settings["listen"]["component"] = [f"tcp:{server.component_port}"]
    return looks_at(stage, server, own_zone(server, component=[]))


CASES.add(
    "own-srv-missing", 4, "server_address is configured", "IN SRV", linked(component=[]), warns=True
)
CASES.add(
    "client-srv-missing",
    4,
    "does not exist",
    "5222",
    linked(client=[]),
    name="server-client-srv-missing",
    warns=True,
)
CASES.add(
    "own-srv-elsewhere",
    4,
    "not to this server",
    "Add a record",
    linked(component=["SRV 10 10 5223 xmpp8", "SRV 20 10 5223 xmpp9"]),
)
CASES.add(
    "own-srv-elsewhere",
    4,
    "_xmpp-client._tcp",
    "Add a record",
    linked(client=["SRV 10 10 5222 xmpp8", "SRV 20 10 5222 xmpp9"]),
    name="own-client-srv-elsewhere",
)
CASES.add(
    "own-srv-port",
    4,
    "names port 5223",
    "listen.component",
    linked(component=["SRV 10 10 5223 xmpp1", "SRV 20 10 {component} xmpp2"]),
)
CASES.add(
    "own-srv-port",
    4,
    "names port 5299",
    "listen.client",
    linked(client=["SRV 10 10 5299 xmpp1", "SRV 20 10 {client} xmpp2"]),
    name="own-client-srv-port",
)
CASES.add(
    "own-host-elsewhere",
    5,
    "192.0.2.1",
    "Correct the A or AAAA record",
    linked(hosts=["xmpp1 A 192.0.2.1", "xmpp2 A 127.0.0.1"]),
    warns=True,
)


# The running server


@CASES.case("own-listener-dead", 6, "cannot be reached", "firewall")
def own_listener_dead(stage: Stage) -> list[str]:
    """A listener that the configuration promises, and the running server does not have."""
    server = stage.changed_server()
    server.component_port = free_port()
    server.settings["listen"]["component"] = [f"tcp:{server.component_port}:interface=127.0.0.1"]
    return looks_at(stage, server)


@CASES.case("no-callbridge", 1, "No Callbridge is connected", "Start a Callbridge", name="idle")
def idle(stage: Stage) -> list[str]:
    """The server runs, and no Callbridge is connected."""
    return looks_at(stage, stage.house.server)


@CASES.case("equal-secrets", 2, "the same secret", "a secret of its own", warns=True)
def equal_secrets(stage: Stage) -> list[str]:
    """Two IDs, one secret."""
    server = stage.changed_server()
    callbridges = server.settings["callbridges"]
    callbridges["cb3"] = {"secret": callbridges["cb1"]["secret"]}
    return looks_at(stage, server)


@CASES.case("no-callbridge-known", 2, "knows no Callbridge", "Add one", warns=True)
def no_callbridge_known(stage: Stage) -> list[str]:
    """A server just installed."""
    server = stage.changed_server()
    server.settings["callbridges"] = {}
    return looks_at(stage, server)


@CASES.case("clock-wrong", 2, "which cannot be", "NTP", command=("faketime", "1999-12-31 23:59:00"))
def clock_wrong(stage: Stage) -> list[str]:
    """A host whose clock has lost its battery."""
    require("faketime", "faketime")
    return looks_at(stage, stage.house.linked[0])
