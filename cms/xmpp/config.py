"""F{xmpp.toml}: what an XMPP server is told."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cms import faults
from cms.configuration.kinds import (
    Choice,
    Count,
    Domain,
    Parsed,
    PathTo,
    Seconds,
    SecretOf,
    Section,
    Tables,
)
from cms.configuration.section import Given, Kind, Values, read_section, setting
from cms.configuration.shared import ENDPOINTS, Listeners, dns_servers, most_api_connections
from cms.configuration.tomlfile import (
    ONLY_CALLBRIDGE,
    ONLY_XMPP_SERVER,
    Place,
    Secret,
    is_of_other_role,
    read_toml,
)
from cms.discovery.address import ascii_domain
from cms.discovery.nameservers import Server
from cms.process import openfiles
from cms.protection.connections import Limits
from cms.trust.server import PeerCertificates
from cms.xmpp.registry import NAME_CURE, component_address

LISTENERS = ("component", "component_plain", "client", "client_direct", "client_plain")
ADMINISTRATION = ("api", "api_plain")
FEWEST = 1_000  # connections to a listener; fewer are warned of if none are configured
NOT_YET = ("web",)  # keys that this version accepts and does not implement
USUAL_CONNECTIONS = 20_000  # to a listener
_MANY = 1_000_000


@frozen(kw_only=True)
class TLSFiles:
    """C{[tls]}."""

    certificate: Path | None = setting(
        PathTo(),
        "PEM, leaf first, then intermediates; its subjectAltName holds the domain and the hostname",
        default=None,
        shown="required with a TLS listener",
    )
    key: Path | None = setting(
        PathTo(),
        "its key, without a passphrase",
        default=None,
        shown="required with a TLS listener",
    )
    trust: Path | None = setting(
        PathTo(),
        "what Callbridge certificates are checked against",
        default=None,
        shown="the system's CAs",
    )
    callbridge_certificates: PeerCertificates = setting(
        Choice[PeerCertificates]("required", "optional", "off"),
        "`required`: no link without a certificate; `optional`: if one is presented it must be"
        " good; `off`: none is asked for",
        default="optional",
        why="a Callbridge proves itself by its secret, and many have no certificate",
    )


@frozen(kw_only=True)
class ServerListeners(Listeners):
    """C{[listen]}: endpoint strings for each kind of listener."""

    component: tuple[str, ...] = setting(
        ENDPOINTS, "TLS from the first byte, for Callbridges and other components", default=()
    )
    component_plain: tuple[str, ...] = setting(
        ENDPOINTS,
        "no TLS: only on a loopback address or a UNIX socket",
        default=(),
    )
    client: tuple[str, ...] = setting(ENDPOINTS, "STARTTLS, required", default=())
    client_direct: tuple[str, ...] = setting(
        ENDPOINTS, "TLS from the first byte (XEP-0368, ALPN `xmpp-client`)", default=()
    )
    client_plain: tuple[str, ...] = setting(
        ENDPOINTS, "no TLS, for a proxy that ends TLS: loopback or UNIX socket only", default=()
    )
    web: tuple[str, ...] = setting(
        ENDPOINTS,
        "accepted, but nothing listens in this version, and the log says so",
        default=(),
    )

    def __getitem__(self, kind: str) -> tuple[str, ...]:
        strings: tuple[str, ...] = getattr(self, kind)
        return strings

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """All of them."""
        return {kind: self[kind] for kind in (*LISTENERS, *ADMINISTRATION, *NOT_YET)}


@frozen(kw_only=True)
class NameServers:
    """C{[dns]}."""

    servers: tuple[Server, ...] = dns_servers(
        '`["192.0.2.53"]`: the DNS servers that it asks for its own records, which it checks when'
        " it starts ([check.md](check.md))"
    )


@frozen(kw_only=True)
class LoginSettings:
    """C{[login]}."""

    wait: float = setting(
        Seconds(0, 30),
        "that a client's log-in waits while no Callbridge is connected; then its stream ends with"
        " `remote-connection-failed`, and the client tries again. 0: no wait. If no Callbridge of"
        " the domain is known, nobody waits",
        default=8.0,
        why="a Callbridge is back within 2 s after the server's restart, and within 5 s after"
        " its own",
    )
    most_waiting: int = setting(
        Count(0, _MANY),
        "clients that may wait; the streams of further ones end at once, in the same way",
        default=5_000,
        why="each costs only its connection, and all together 4 MiB of what they have sent",
    )


@frozen
class _Registered:
    """An entry of C{[callbridges]}."""

    secret: Secret = setting(SecretOf(), "")


class _Callbridges(Kind[dict[str, Secret]]):
    """C{[callbridges]}: the secret of each component address."""

    what = '`{ secret = "..." }` or `{ secret_file = "..." }`'

    def is_in(self, table: Values, name: str) -> bool:
        """Always; left out, it is empty."""
        return True

    def take(self, table: Values, name: str, place: Place, given: Given) -> dict[str, Secret]:
        """See L{Kind.take}."""
        here = place.inner(name)
        found: dict[str, Secret] = {}
        for short, entry in Tables(_Registered).read(table.get(name, {}), here).items():
            try:
                address = component_address(short, given["domain"])
            except ValueError as problem:
                raise here.inner(short).wrong(str(problem), NAME_CURE) from None
            if address in found:
                raise here.inner(short).wrong(
                    f"{address} is there already", "Remove one of the two."
                )
            found[address] = entry.secret
        return found


@frozen(kw_only=True)
class XmppConfig:
    """
    The whole file.

    @ivar callbridges: The secret of each component address.
    """

    file: Path
    domain: str = setting(
        Domain(),
        "the XMPP domain, which is also the domain of every user's address; an internationalised"
        " one in Unicode or in its `xn--` form",
    )
    hostname: str = setting(Parsed(ascii_domain, "Write this server's FQDN."), "this server's FQDN")
    state_dir: Path = setting(
        PathTo(),
        "created with mode 0700. It is refused if group or others may write to it, if everybody"
        " may write to a folder above it, if it belongs to another user, or if it holds a"
        " symbolic link",
        written=lambda _: "state",
        shown="`state` beside the file",
    )
    told_connections: int | None = setting(
        Count(1, _MANY),
        "connections to each listener, at most what the limit of files (`LimitNOFILE=`) leaves."
        " At most half of them may be unauthenticated"
        " ([design/connections.md](design/connections.md))",
        name="most_connections",
        default=None,
        shown=str(USUAL_CONNECTIONS),
    )
    most_per_address: int | None = setting(
        Count(1, _MANY),
        "of those, from one address (a /64 of IPv6) that is not this host's",
        default=None,
        shown="a tenth of them",
    )
    most_strangers_per_address: int | None = setting(
        Count(1, _MANY),
        "of those, unauthenticated ones, at most a quarter of `most_connections`; a further one"
        " replaces the oldest",
        default=None,
        shown="a hundredth, at least 20",
    )
    most_api_connections: int = most_api_connections()
    login: LoginSettings = setting(Section(LoginSettings), "")
    tls: TLSFiles = setting(Section(TLSFiles), "")
    dns: NameServers = setting(Section(NameServers), "")
    listen: ServerListeners = setting(Section(ServerListeners), "")
    callbridges: dict[str, Secret] = setting(
        _Callbridges(),
        "each key is a NAME: without a dot it means `NAME.<domain>`, with dots it is a whole"
        ' address, such as `"echo.example.com"`. A component with an address within the domain may'
        " decide log-ins; one outside the domain never does",
        shown="none",
    )

    def places(self) -> Limits:
        """The limits of each listener, within the limit of files of this process."""
        kinds = sum(bool(self.listen[kind]) for kind in LISTENERS)
        most = openfiles.places(self.told_connections or USUAL_CONNECTIONS, kinds + 1)
        return Limits.of(most, self.most_per_address, self.most_strangers_per_address)

    @property
    def wanted_connections(self) -> int:
        """How many connections to a listener the operator expects."""
        return self.told_connections or FEWEST


def read_config(file: Path) -> XmppConfig:
    """
    Read F{xmpp.toml}.

    @raise ConfigurationError: naming the file, the key and the cure.
    """
    table, place = read_toml(file), Place(file)
    if is_of_other_role(table, ONLY_XMPP_SERVER, ONLY_CALLBRIDGE):
        raise faults.CONFIGURATION_OF_CALLBRIDGE.error(file=file)
    config = read_section(XmppConfig, table, place, file=file)
    tls, listen = config.tls, config.listen
    if not any(listen[kind] for kind in LISTENERS):
        mend = 'Add at least component = ["tcp:5223"] and client = ["tcp:5222"].'
        raise place.inner("listen").wrong("there is no listener", mend)
    for kind in ("component", "client", "client_direct"):
        if listen[kind] and (tls.certificate is None or tls.key is None):
            problem = f"it is missing, and listen.{kind} speaks TLS"
            mend = "Give tls.certificate and tls.key."
            raise place.inner("tls.certificate").wrong(problem, mend)
    if listen.component and tls.callbridge_certificates == "required" and tls.trust is None:
        problem = "it is missing, and callbridge_certificates is required"
        mend = "Name the CAs that sign Callbridge certificates."
        raise place.inner("tls.trust").wrong(problem, mend)
    return config
