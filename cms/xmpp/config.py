"""F{xmpp.toml}: what an XMPP server is told."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cms import faults
from cms.configuration.kinds import (
    Choice,
    Count,
    Domain,
    MaybeSection,
    Parsed,
    PathTo,
    Seconds,
    SecretOf,
    Section,
    Tables,
)
from cms.configuration.section import Given, Kind, Values, read_section, setting
from cms.configuration.shared import (
    ENDPOINTS,
    STATE_DIR,
    Listeners,
    RecordSettings,
    dns_servers,
    most_api_connections,
)
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
from cms.door.settings import DoorSettings
from cms.process import openfiles
from cms.process.endpointstrings import is_shared
from cms.protection.connections import Limits
from cms.trust.server import PeerCertificates
from cms.xmlstream.flow import SEND_LIMITS, SendLimits
from cms.xmlstream.keepalive import USER_TIMEOUT
from cms.xmpp.clustersettings import ClusterSettings
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.keptbytes import MOST as MOST_KEPT
from cms.xmpp.loginrelay import ANSWER_TIMEOUT, LOGIN_WAIT
from cms.xmpp.registry import NAME_CURE, component_address
from cms.xmpp.sessions import MOST_RESOURCES

LISTENERS = ("component", "component_plain", "client", "client_direct", "client_plain")
ADMINISTRATION = ("api", "api_plain")
FEWEST = 1_000  # connections to a listener; fewer are warned of if none are configured
WEB = ("web", "web_plain")
USUAL_CONNECTIONS = 20_000  # to a listener
_MANY = 1_000_000
_GIBIBYTE = 1 << 30


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
        "HTTPS for browsers and guests: `/xmpp-websocket` (RFC 7395) and"
        " `/.well-known/host-meta` (XEP-0156)",
        default=(),
    )
    web_plain: tuple[str, ...] = setting(
        ENDPOINTS,
        "the same without TLS, for a proxy: loopback or UNIX socket only",
        default=(),
    )

    def __getitem__(self, kind: str) -> tuple[str, ...]:
        strings: tuple[str, ...] = getattr(self, kind)
        return strings

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """All of them."""
        return {kind: self[kind] for kind in (*LISTENERS, *WEB, *ADMINISTRATION)}


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
        default=LOGIN_WAIT,
        why="a Callbridge is back within 2 s after the server's restart, and within 5 s after"
        " its own",
    )
    most_waiting: int = setting(
        Count(0, _MANY),
        "clients that may wait; the streams of further ones end at once, in the same way",
        default=5_000,
        why="each costs only its connection, and all together 4 MiB of what they have sent",
    )


@frozen(kw_only=True)
class ClientSettings:
    """C{[clients]}: time limits and other limits of each client."""

    handshake_timeout: float = setting(
        Seconds(1, 120),
        "from the connection to the end of the TLS handshake",
        default=20.0,
        why="a phone with a bad network needs some of it; idle connections end soon",
    )
    login_timeout: float = setting(
        Seconds(5, 600),
        "from the connection to the bound resource, longer than `login.wait`",
        default=60.0,
        why="some programs ask their user for the password in the middle of the log-in",
    )
    most_login_tries: int = setting(
        Count(2, 5),
        "log-ins on one stream, which then ends",
        default=5,
        why="RFC 6120 6.4.5 asks for two to five",
    )
    most_resources: int = setting(
        Count(1, 10_000),
        "resources of one user; a further one is refused",
        default=MOST_RESOURCES,
        why="nobody has as many devices, and a message to the user goes to each of them",
    )
    ping_interval: float = setting(
        Seconds(1, 3600),
        "of silence, after which a client is asked whether it lives",
        default=60.0,
        why="a phone that is asked more often empties its battery",
    )
    ping_timeout: float = setting(
        Seconds(1, 3600),
        "that the client then has",
        default=30.0,
        why="a phone that sleeps needs some to wake up",
    )
    send_limit: int = setting(
        Count(512 * 1024, _GIBIBYTE, "bytes"),
        "of others that may wait for a client to read; what comes beyond is answered with an error",
        default=SEND_LIMITS.size,
        why="four of the longest stanzas of a client; every client may take as much memory",
    )


@frozen(kw_only=True)
class ComponentSettings:
    """C{[components]}: the same for each component, such as a Callbridge."""

    register_timeout: float = setting(
        Seconds(1, 120),
        "from the connection to the registration",
        default=20.0,
        why="TLS and two answers; nobody is asked anything",
    )
    probe_timeout: float = setting(
        Seconds(0.5, 60),
        "that an older link has to show that it lives, when its component registers anew",
        default=5.0,
        why="a Callbridge that lost its link without a word is not kept out for long",
    )
    ping_interval: float = setting(
        Seconds(1, 3600),
        "of silence, after which a component is asked whether it lives",
        default=8.0,
        why="as for `link.ping_interval` of a Callbridge: a dead link is noticed within 26 s",
    )
    ping_timeout: float = setting(Seconds(1, 3600), "that the component then has", default=10.0)
    tcp_user_timeout: float = setting(
        Seconds(1, 3600),
        "that sent data may stay unacknowledged until TCP gives a component up (RFC 5482)",
        default=USER_TIMEOUT,
        why="less than the pings need, so that a cut cable is noticed whatever waits to be sent",
    )
    answer_timeout: float = setting(
        Seconds(14, 120),
        "that a Callbridge has for each step of a log-in",
        default=ANSWER_TIMEOUT,
        why="it takes up to 13: 8 that a guesser waits, and 5 for its directory",
    )
    send_limit: int = setting(
        Count(1024 * 1024, _GIBIBYTE, "bytes"),
        "of others that may wait for a component to read; each of them gets a part",
        default=4 * 1024 * 1024,
        why="eight of the longest stanzas of a component",
    )


@frozen(kw_only=True)
class StreamSettings:
    """C{[streams]}: limits of both clients and components."""

    patience: float = setting(
        Seconds(0.5, 600),
        "for which others wait for a peer that reads nothing, not longer than"
        " `streams.stall_timeout`",
        default=SEND_LIMITS.patience,
        why="a network that is away for a moment costs nothing, and nobody is held up for long",
    )
    stall_timeout: float = setting(
        Seconds(1, 3600),
        "for which a peer may read nothing of what waits for it; then its stream ends",
        default=SEND_LIMITS.stall_timeout,
        why="as long as it takes to notice a peer that is dead",
    )


@frozen(kw_only=True)
class ResumeSettings:
    """C{[resume]}."""

    seconds: float = setting(
        Seconds(0, 3_600),
        "that a client's session without its connection is kept, if the client manages its stream"
        " (XEP-0198); then it ends as if the client had closed it. 0: no session can be resumed",
        default=60.0,
        why="a telephone has found another network by then, and nobody sees for longer a user who"
        " is gone",
    )
    links: float = setting(
        Seconds(0, 300),
        "that the link of a Callbridge without its connection is kept, if it can be resumed"
        " ([link-management.md](link-management.md)). 0: this is not offered",
        default=10.0,
        why="a Callbridge that is there connects at once, and the log-ins of one that is not wait"
        " no longer",
    )
    most: int = setting(
        Count(1, _MANY),
        "sessions without a connection; of one more, the one that is away for longest ends",
        default=10_000,
        why="each takes 12 KiB, and what is kept for it besides",
    )
    most_bytes: int = setting(
        Count(8_388_608, 2**40),
        "bytes that are kept for all sessions without a connection together; if it is more, those"
        " that keep most end. One account may have 4 MiB",
        default=MOST_KEPT,
        why="26 kB for each of 10,000, which is a hundred messages, and no more memory than a small"
        " server has",
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
    @ivar instance: Which of the servers that share the file; empty: it is for one.
    """

    file: Path
    instance: str = ""
    domain: str = setting(
        Domain(),
        "the XMPP domain, which is also the domain of every user's address; an internationalised"
        " one in Unicode or in its `xn--` form",
    )
    hostname: str = setting(Parsed(ascii_domain, "Write this server's FQDN."), "this server's FQDN")
    state_dir: Path = setting(
        PathTo(),
        "holds the Callbridges that were added to those of this file (`callbridges.sqlite3`), the"
        " contacts and blocked addresses of users (`contacts.sqlite3`), the administrators"
        " (`admin-accounts.json`, and the first password in `admin.password`), the folder"
        " `record`, `admin.sock` and `admin.lock`; of instances each has a folder in it. Created"
        " with mode 0700. It is refused if group or others may write to it, if everybody"
        " may write to a folder above it, if it belongs to another user, or if it holds a"
        " symbolic link",
        written=lambda _: STATE_DIR,
        shown="`state` beside the file",
    )
    told_connections: int | None = setting(
        Count(1, _MANY),
        "connections to each listener, at most what the limit of files (`LimitNOFILE=`) leaves."
        " At most half of them may be unauthenticated"
        " ([design/connections.md](design/connections.md))",
        name="most_connections",
        default=None,
        why="it is a bound for a flood, well above the 1,000 that a server must have room for to"
        " start without a warning; a larger one asks for more",
        shown=str(USUAL_CONNECTIONS),
    )
    most_per_address: int | None = setting(
        Count(1, _MANY),
        "of those, from one address (a /64 of IPv6) that is not this host's",
        default=None,
        why="many clients come from one NAT or proxy, and one address must not fill the listener",
        shown="a tenth of them",
    )
    most_strangers_per_address: int | None = setting(
        Count(1, _MANY),
        "of those, unauthenticated ones, at most a quarter of `most_connections`; a further one"
        " replaces the oldest",
        default=None,
        why="at half a second for a log-in that is 400 log-ins a second from one address, of the"
        " usual number of connections",
        shown="a hundredth, at least 20",
    )
    most_api_connections: int = most_api_connections()
    record: RecordSettings = setting(Section(RecordSettings), "")
    login: LoginSettings = setting(Section(LoginSettings), "")
    clients: ClientSettings = setting(Section(ClientSettings), "")
    components: ComponentSettings = setting(Section(ComponentSettings), "")
    streams: StreamSettings = setting(Section(StreamSettings), "")
    resume: ResumeSettings = setting(Section(ResumeSettings), "")
    contacts: ContactSettings = setting(Section(ContactSettings), "")
    cluster: ClusterSettings | None = setting(MaybeSection(ClusterSettings), "", default=None)
    tls: TLSFiles = setting(Section(TLSFiles), "")
    dns: NameServers = setting(Section(NameServers), "")
    web: DoorSettings = setting(Section(DoorSettings), "")
    listen: ServerListeners = setting(Section(ServerListeners), "")
    callbridges: dict[str, Secret] = setting(
        _Callbridges(),
        "each key is a NAME: without a dot it means `NAME.<domain>`, with dots it is a whole"
        ' address, such as `"echo.example.com"`. A component with an address within the domain may'
        " decide log-ins; one outside the domain never does",
        shown="none",
    )

    def send_limits(self, size: int) -> SendLimits:
        """The limits on what waits for a peer that does not read: C{size} bytes of others."""
        return SendLimits(size, self.streams.patience, self.streams.stall_timeout)

    def connection_limits(self) -> Limits:
        """The limits of each listener, within the limit of files of this process."""
        kinds = sum(bool(self.listen[kind]) for kind in (*LISTENERS, *WEB))
        most = openfiles.connections_each(self.told_connections or USUAL_CONNECTIONS, kinds + 1)
        return Limits.of(most, self.most_per_address, self.most_strangers_per_address)

    @property
    def shared_dir(self) -> Path:
        """The state directory of all instances."""
        return self.state_dir.parent if self.instance else self.state_dir

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
    if config.clients.login_timeout <= config.login.wait:
        problem = f"it is not longer than login.wait, {config.login.wait:g}"
        mend = "Choose a longer one, or a shorter login.wait."
        raise place.inner("clients.login_timeout").wrong(problem, mend)
    if config.streams.patience > config.streams.stall_timeout:
        problem = f"it is longer than streams.stall_timeout, {config.streams.stall_timeout:g}"
        raise place.inner("streams.patience").wrong(problem, "Choose a shorter one.")
    tls, listen = config.tls, config.listen
    for kind in (*LISTENERS, *WEB, *ADMINISTRATION):
        for text in listen[kind] if config.cluster is None else ():
            if is_shared(text):
                problem = f"{text} is shared with a server that knows nothing of this one"
                mend = "Add [cluster] (docs/operate.md), or leave reuseport out."
                raise place.inner(f"listen.{kind}").wrong(problem, mend)
    if not any(listen[kind] for kind in LISTENERS):
        mend = 'Add at least component = ["tcp:5223"] and client = ["tcp:5222"].'
        raise place.inner("listen").wrong("there is no listener", mend)
    for kind in ("component", "client", "client_direct", "web"):
        if listen[kind] and (tls.certificate is None or tls.key is None):
            problem = f"it is missing, and listen.{kind} speaks TLS"
            mend = "Give tls.certificate and tls.key."
            raise place.inner("tls.certificate").wrong(problem, mend)
    if listen.component and tls.callbridge_certificates == "required" and tls.trust is None:
        problem = "it is missing, and callbridge_certificates is required"
        mend = "Name the CAs that sign Callbridge certificates."
        raise place.inner("tls.trust").wrong(problem, mend)
    return config
