"""F{callbridge.toml}: what a Callbridge is told (steps 2 and 3)."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Literal

from attrs import evolve, frozen

from cms import faults
from cms.callbridge.ldap.settings import DIRECTORY, LocalSettings, Settings, warnings_of
from cms.configuration.kinds import (
    Choice,
    Count,
    Domain,
    Flag,
    Inline,
    Many,
    Parsed,
    PathTo,
    Seconds,
    SecretOf,
    Section,
)
from cms.configuration.section import Given, Values, read_section, setting
from cms.configuration.shared import (
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
from cms.discovery.address import ServerAddress, ascii_domain, parse_server_address
from cms.discovery.nameservers import Server
from cms.xmlstream.keepalive import USER_TIMEOUT

Mechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]
# Less would be a busy loop, more would be for ever.
_LINK_TIME = Seconds(0.1, 3600)


@frozen(kw_only=True)
class Timing:
    """
    C{[link]}: the delays and timeouts of the link, in seconds.

    @ivar stage: For each of: TCP, TLS, stream header, registration.
    @ivar unreachable_delay: Before the next attempt while no server can be reached.
    @ivar first_delay: Before the second attempt, doubled for each further one.
    @ivar most_delay: At the most.
    @ivar refused_delay: The first after a refusal of ID or secret.
    @ivar stable: How long a link must last until delays begin anew.
    """

    stage: float = setting(
        _LINK_TIME,
        "for each of: TCP, TLS, stream header, registration",
        default=10.0,
        why="a SYN that is lost is sent again after 1, 3 and 7 s",
    )
    ping_interval: float = setting(
        _LINK_TIME,
        "of silence, after which the server is pinged",
        default=8.0,
        why="a dead link is noticed within twice the interval plus the timeout, so in 26 s",
    )
    ping_timeout: float = setting(_LINK_TIME, "that the server has to answer", default=10.0)
    unreachable_delay: float = setting(
        _LINK_TIME,
        "between attempts while no server can be reached, plus or minus up to half at random",
        default=1.0,
        why="a server that restarts has its Callbridge back within 2 s",
    )
    first_delay: float = setting(
        _LINK_TIME,
        "before the second attempt after any other failure, doubled for each further one, plus"
        " up to 1 s at random",
        default=1.0,
    )
    most_delay: float = setting(
        _LINK_TIME,
        "between such attempts at most",
        default=60.0,
        why="when an operator has mended the fault, the link is back within a minute",
    )
    refused_delay: float = setting(
        _LINK_TIME,
        "as `link.first_delay`, after a refusal of ID or secret",
        default=15.0,
        why="only a person can correct them, and a server slows down guesses",
    )
    most_refused_delay: float = setting(
        _LINK_TIME, "as `link.most_delay`, for these", default=300.0
    )
    stable: float = setting(
        _LINK_TIME,
        "that a link must last until delays begin anew",
        default=60.0,
        why="a server that accepts and drops links is not hammered",
    )
    tcp_user_timeout: float = setting(
        Seconds(1, 3600),
        "that sent data may stay unacknowledged until TCP gives the link up (RFC 5482)",
        default=USER_TIMEOUT,
        why="less than the pings need, so that a cut cable is noticed whatever waits to be sent",
    )


@frozen(kw_only=True)
class LoginLimits:
    """C{[login]}: what a log-in may take."""

    response_timeout: float = setting(
        Seconds(5, 600),
        "that a client has for each response",
        default=60.0,
        why="some programs ask their user for the password only then",
    )
    directory_timeout: float = setting(
        Seconds(0.5, 6),
        "that the directory has for each step",
        default=5.0,
        why="with the 8 s that a guesser waits, it is less than the XMPP server waits for an"
        " answer (`components.answer_timeout`)",
    )
    mechanisms: tuple[Mechanism, ...] = setting(
        Many(Choice[Mechanism]("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"), "SASL mechanisms"),
        "what clients are offered, whether it works for the users of each directory or not; SCRAM"
        " with its -PLUS form",
        default=(),
        shown="what works for the users of every directory",
    )
    most_exchanges: int = setting(
        Count(10, 100_000),
        "log-ins that may be under way; the next one ends the oldest",
        default=1_000,
        why="after a restart the XMPP server lets in a hundred at a time",
    )
    most_sessions: int = setting(
        Count(10, 10_000_000),
        "sessions that are kept for the status; who logs in beyond is not listed",
        default=100_000,
        why="five times the clients that an XMPP server takes with its own defaults",
    )
    hashes_at_once: int = setting(
        Count(1, 64),
        "PBKDF2 computations at the same time, for PLAIN, each in a thread",
        default=2,
        why="more of them take the processor from the link",
    )
    most_hashes_waiting: int = setting(
        Count(1, 100_000),
        "that wait for their turn; the next one is told to try again",
        default=200,
        why="the last of them waits half a second, at 5 ms each",
    )


@frozen(kw_only=True)
class RoomLimits:
    """C{[rooms]}."""

    most_occupants: int = setting(
        Count(1, 10_000),
        "that a room takes; a tenth of the places is for members of the space",
        default=1_000,
        why="each message to a room goes to each of them",
    )


def _unique_name(text: str) -> str:
    name = text.strip().lower()
    if not name or "." in name or "@" in name or "/" in name:
        raise ValueError(f'"{name}" is no plain name')
    ascii_domain(name)
    return name


def _domain(text: str) -> str:
    ascii_domain(text)
    return text


@frozen(kw_only=True)
class LinkSettings:
    """
    The settings of the link; it can get new ones at any time.

    @ivar domain: The XMPP domain, prepared.
    @ivar component: The component address that is registered.
    @ivar server: C{None} means SRV.
    @ivar unprotected: No TLS at all; logs and status warn of it.
    """

    unique_name: str = setting(
        Parsed(_unique_name, "Write a name without a domain part, such as cb1."),
        "without a domain part; the address registered is `<unique_name>.<domain>`",
    )
    domain: str = setting(
        Parsed(_domain, "Write a domain name.", Domain()),
        "the XMPP domain; an internationalised one in Unicode or in its `xn--` form",
    )
    component: str = setting(
        Domain(),
        "another address to register, for servers with other names",
        name="component_address",
        written=lambda given: f"{given['unique_name']}.{given['domain']}",
        shown="`<unique_name>.<domain>`",
    )
    server: ServerAddress | None = setting(
        Parsed(parse_server_address, ""),
        "empty: SRV; else `host`, `host:port`, `v4`, `v4:port`, `[v6]`, `[v6]:port`; the port"
        " is 5223 unless given",
        name="server_address",
        default=None,
        shown='`""`',
    )
    secret: Secret = setting(
        SecretOf(),
        "the secret that the XMPP server holds for this name",
        shown="one of them",
        name="shared_secret",
    )
    unprotected: bool = False

    @property
    def ascii_domain(self) -> str:
        """The domain as DNS and certificates hold it."""
        return ascii_domain(self.domain)


class _LinkOfFile(Inline[LinkSettings]):
    """The link's settings, as they stand beside C{[tls]}."""

    def take(self, table: Values, name: str, place: Place, given: Given) -> LinkSettings:
        """See L{Kind.take<cms.configuration.section.Kind.take>}."""
        link = super().take(table, name, place, given)
        return evolve(link, unprotected=given["tls"].unprotected)


@frozen(kw_only=True)
class TLSFiles:
    """C{[tls]}."""

    trust: Path | None = setting(
        PathTo(),
        "what the server's certificate is checked against",
        default=None,
        shown="the system's CAs",
    )
    certificate: Path | None = setting(
        PathTo(), "presented when the server asks", default=None, shown="none"
    )
    key: Path | None = setting(
        PathTo(), "its key, without a passphrase", default=None, shown="none"
    )
    unprotected: bool = setting(
        Flag(),
        "**no TLS at all**, for servers without it; start, each attempt and status warn of it",
        default=False,
    )


@frozen(kw_only=True)
class NameServers:
    """C{[dns]}."""

    servers: tuple[Server, ...] = dns_servers(
        '`["192.0.2.53", "[2001:db8::53]:53", "fe80::1%eth0"]`; see'
        " [below](#which-names-are-looked-up-where)"
    )


@frozen(kw_only=True)
class CallbridgeConfig:
    """
    The whole file.

    @ivar source: C{api} when the administration has changed the link's settings.
    """

    file: Path
    source: Literal["file", "api"] = "file"
    tls: TLSFiles = setting(Section(TLSFiles), "")
    link: LinkSettings = setting(_LinkOfFile(LinkSettings), "")
    state_dir: Path = setting(
        PathTo(),
        "holds the local users (`users.sqlite3`), what syncs of directories found"
        " (`directories.sqlite3`), the spaces (`spaces.sqlite3`), the settings made by API, which"
        " override this file (`configuration-xmpp.json`) or add to it (`configuration-ldap.json`,"
        " `ldap-trust-*.pem`), the administrators (`admin-accounts.json`, and the first password"
        " in `admin.password`), the folder `record`, `admin.sock` and `admin.lock`; created with"
        " mode 0700",
        written=lambda _: STATE_DIR,
        shown="`state` beside the file",
    )
    allow_guests: bool = setting(Flag(), "whether ANONYMOUS log-ins make guests", default=False)
    remember_passwords: float = setting(
        Seconds(0, 86_400),
        "for which a right password needs no PBKDF2 again at a PLAIN log-in: a keyed digest of it"
        " is kept in memory, never on disk; 0: nothing is kept",
        default=300.0,
        why="a recorder logs in for each meeting, and after a network failure everybody does",
    )
    most_api_connections: int = most_api_connections()
    record: RecordSettings = setting(Section(RecordSettings), "")
    dns: NameServers = setting(Section(NameServers), "")
    listen: Listeners = setting(Section(Listeners), "")
    login: LoginLimits = setting(Section(LoginLimits), "")
    rooms: RoomLimits = setting(Section(RoomLimits), "")
    timing: Timing = setting(Section(Timing), "", name="link")
    directories: tuple[Settings, ...] = setting(
        DIRECTORY,
        "where users are looked up, in order: `[[directory]]`, see [below](#directories)",
        name="directory",
        default=(LocalSettings(),),
        shown="one of kind `local`",
    )

    @property
    def unique_name(self) -> str:
        """Without a domain part."""
        return self.link.unique_name

    @property
    def warnings(self) -> tuple[str, ...]:
        """See L{link_warnings}, and what is strange about directories."""
        domain = self.link.domain
        strange = (warnings_of(each, domain) for each in self.directories)
        return (*link_warnings(self.link), *chain.from_iterable(strange))


def read_config(file: Path) -> CallbridgeConfig:
    """
    Read F{callbridge.toml}.

    @raise ConfigurationError: naming the file, the key and the cure.
    """
    table = read_toml(file)
    if is_of_other_role(table, ONLY_CALLBRIDGE, ONLY_XMPP_SERVER):
        raise faults.CONFIGURATION_OF_XMPP_SERVER.error(file=file)
    return read_section(CallbridgeConfig, table, Place(file), file=file)


def link_warnings(link: LinkSettings) -> tuple[str, ...]:
    """Warnings about these settings."""
    if not link.unprotected:
        return ()
    warning = (
        "tls.unprotected is set: the link has NO TLS; the secret's proof and every log-in cross"
        " the network readable, and nobody checks who the server is"
    )
    return (warning,)
