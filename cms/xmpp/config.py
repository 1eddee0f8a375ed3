"""F{xmpp.toml}: what an XMPP server is told."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from attrs import frozen

from cms import faults
from cms.configuration.tomlfile import ONLY_CALLBRIDGE, ONLY_XMPP_SERVER, Secret, Table
from cms.discovery.address import ascii_domain
from cms.discovery.nameservers import Server
from cms.discovery.resolver import DNS_CURE, parse_dns_server
from cms.process import openfiles
from cms.process.proxy import PROXY_CURE, Network, parse_proxy
from cms.protection.connections import MOST_API_CONNECTIONS, Limits
from cms.trust.server import PeerCertificates
from cms.xmpp.registry import NAME_CURE, component_address

LISTENERS = ("component", "component_plain", "client", "client_direct", "client_plain")
ADMINISTRATION = ("api", "api_plain")
FEWEST = 1_000  # connections to a listener, with which nobody who has not thought of it is poor
NOT_YET = ("web",)  # known to the configuration, not to this version


@frozen
class XmppConfig:
    """
    The whole file.

    @ivar listen: Endpoint strings for each kind of listener.
    @ivar wanted_connections: How many the operator counts on.
    @ivar most_per_address: Of the places that there are; C{None}: L{Limits.of} decides.
    @ivar callbridges: The secret of each component address.
    @ivar proxies: Who may say whom it speaks for, on a listener with C{haproxy:}.
    @ivar login_wait: Seconds that a log-in waits for a Callbridge.
    @ivar most_waiting: How many may.
    @ivar dns_servers: Asked for the server's own records; the system's if empty.
    """

    file: Path
    domain: str
    hostname: str
    state_dir: Path
    certificate: Path | None
    key: Path | None
    trust: Path | None
    callbridge_certificates: PeerCertificates
    listen: dict[str, tuple[str, ...]]
    callbridges: dict[str, Secret]
    most_connections: int
    wanted_connections: int
    most_per_address: int | None
    most_strangers_per_address: int | None
    most_api_connections: int
    login_wait: float
    most_waiting: int
    dns_servers: tuple[Server, ...] = ()
    proxies: tuple[Network, ...] = ()

    def places(self) -> Limits:
        """What each listener holds, within what this process may have open."""
        kinds = sum(bool(self.listen[kind]) for kind in LISTENERS)
        most = openfiles.places(self.most_connections, kinds + 1)
        return Limits.of(most, self.most_per_address, self.most_strangers_per_address)


def read_config(file: Path) -> XmppConfig:
    """
    Read F{xmpp.toml}.

    @raise ConfigurationError: naming the file, the key and the cure.
    """
    table = Table.read(file)
    if table.is_of_other_role(ONLY_XMPP_SERVER, ONLY_CALLBRIDGE):
        raise faults.CONFIGURATION_OF_CALLBRIDGE.error(file=file)
    tls, listen, dns = table.table("tls"), table.table("listen"), table.table("dns")
    login = table.table("login")
    listeners = {
        kind: tuple(listen.texts(kind)) for kind in (*LISTENERS, *ADMINISTRATION, *NOT_YET)
    }
    domain = table.domain("domain")
    callbridges = _callbridges(table.table("callbridges"), domain)
    hostname = table.text("hostname")
    peers = tls.choice("callbridge_certificates", "optional", ("required", "optional", "off"))

    def count(key: str, default: int, least: int = 1) -> int:
        return int(table.number(key, default, least=least, most=1_000_000))

    def if_told(key: str) -> int | None:
        return count(key, 1) if table.has(key) else None

    wanted = table.has("most_connections")
    most = count("most_connections", 20_000)
    config = XmppConfig(
        file=file,
        domain=domain,
        hostname=table.parsed("hostname", hostname, ascii_domain, "Write this server's FQDN."),
        state_dir=table.path("state_dir") or file.parent / "state",
        certificate=tls.path("certificate"),
        key=tls.path("key"),
        trust=tls.path("trust"),
        callbridge_certificates=cast("PeerCertificates", peers),
        listen=listeners,
        callbridges=callbridges,
        most_connections=most,
        wanted_connections=most if wanted else FEWEST,
        most_per_address=if_told("most_per_address"),
        most_strangers_per_address=if_told("most_strangers_per_address"),
        most_api_connections=count("most_api_connections", MOST_API_CONNECTIONS, least=10),
        proxies=tuple(
            listen.parsed("proxies", text, parse_proxy, PROXY_CURE)
            for text in listen.texts("proxies")
        ),
        login_wait=login.number("wait", 8, least=0, most=30),
        most_waiting=int(login.number("most_waiting", 5_000, least=0, most=1_000_000)),
        dns_servers=tuple(
            dns.parsed("servers", text, parse_dns_server, DNS_CURE) for text in dns.texts("servers")
        ),
    )
    for part in (tls, listen, dns, login, table):
        part.finish()
    if not any(config.listen[kind] for kind in LISTENERS):
        mend = 'Add at least component = ["tcp:5223"] and client = ["tcp:5222"].'
        raise table.wrong("listen", "there is no listener", mend)
    for kind in ("component", "client", "client_direct"):
        if config.listen[kind] and (config.certificate is None or config.key is None):
            problem = f"it is missing, and listen.{kind} speaks TLS"
            raise table.wrong("tls.certificate", problem, "Give tls.certificate and tls.key.")
    if config.listen["component"] and peers == "required" and config.trust is None:
        problem = "it is missing, and callbridge_certificates is required"
        raise table.wrong("tls.trust", problem, "Name the CAs that sign Callbridge certificates.")
    return config


def _callbridges(table: Table, domain: str) -> dict[str, Secret]:
    """The secret of each component address."""
    found: dict[str, Secret] = {}
    for name, entry in table.tables().items():
        try:
            address = component_address(name, domain)
        except ValueError as problem:
            raise table.wrong(name, str(problem), NAME_CURE) from None
        if address in found:
            raise table.wrong(name, f"{address} is there already", "Remove one of the two.")
        found[address] = entry.secret("secret")
        entry.finish()
    return found
