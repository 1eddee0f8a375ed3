"""F{callbridge.toml}: what a Callbridge is told (steps 2 and 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from attrs import field, frozen

from cms import faults
from cms.configuration.tomlfile import ONLY_CALLBRIDGE, ONLY_XMPP_SERVER, Secret, Table
from cms.discovery.address import ServerAddress, ascii_domain, parse_server_address
from cms.discovery.resolver import DNS_CURE, parse_dns_server
from cms.process.proxy import PROXY_CURE, Network, parse_proxy
from cms.protection.connections import MOST_API_CONNECTIONS
from cms.signalflow import StepError


@frozen
class Timing:
    """
    How long the link waits for what, in seconds.

    @ivar stage: For each of: TCP, TLS, stream header, registration.
    @ivar unreachable_delay: Before the next round while no server can be reached.
    @ivar first_delay: Before the second round, doubled for each further one.
    @ivar most_delay: At the most.
    @ivar refused_delay: The first after a refusal of ID or secret.
    @ivar stable: How long a link must last until delays begin anew.
    """

    stage: float = 10.0
    ping_interval: float = 8.0
    ping_timeout: float = 10.0
    unreachable_delay: float = 1.0
    first_delay: float = 1.0
    most_delay: float = 60.0
    refused_delay: float = 15.0
    most_refused_delay: float = 300.0
    stable: float = 60.0


@frozen
class LinkSettings:
    """
    What the link needs to know; a new one can be handed to it at any time.

    @ivar domain: The XMPP domain, prepared.
    @ivar component: The component address that is registered.
    @ivar server: C{None} means SRV.
    @ivar unprotected: No TLS at all, said out loud wherever it shows.
    """

    domain: str
    component: str
    server: ServerAddress | None
    secret: Secret
    unprotected: bool = False

    @property
    def ascii_domain(self) -> str:
        """The domain as DNS and certificates hold it."""
        return ascii_domain(self.domain)


@frozen
class CallbridgeConfig:
    """
    The whole file.

    @ivar source: C{api} when the administration has changed the link's settings.
    @ivar api: Endpoint strings for the administration, with TLS; C{api_plain}
        without.
    @ivar proxies: Who may say whom it speaks for, on a listener with C{haproxy:}.
    """

    file: Path
    unique_name: str
    link: LinkSettings
    timing: Timing
    state_dir: Path
    trust: Path | None
    certificate: Path | None
    key: Path | None
    dns_servers: tuple[tuple[str, int], ...] = ()
    api: tuple[str, ...] = ()
    api_plain: tuple[str, ...] = ()
    allow_guests: bool = False
    remember_passwords: float = 0.0
    proxies: tuple[Network, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    source: Literal["file", "api"] = "file"
    most_api_connections: int = MOST_API_CONNECTIONS


def read_config(file: Path) -> CallbridgeConfig:
    """
    Read F{callbridge.toml}.

    @raise ConfigurationError: naming the file, the key and the cure.
    """
    table = Table.read(file)
    if table.is_of_other_role(ONLY_CALLBRIDGE, ONLY_XMPP_SERVER):
        raise faults.CONFIGURATION_OF_XMPP_SERVER.error(file=file)
    tls, dns, listen = table.table("tls"), table.table("dns"), table.table("listen")
    link = read_settings(table, unprotected=tls.flag("unprotected", default=False))
    config = CallbridgeConfig(
        file=file,
        unique_name=link[0],
        link=link[1],
        timing=_timing(table.table("link")),
        state_dir=table.path("state_dir") or file.parent / "state",
        trust=tls.path("trust"),
        certificate=tls.path("certificate"),
        key=tls.path("key"),
        dns_servers=_dns_servers(dns),
        api=tuple(listen.texts("api")),
        api_plain=tuple(listen.texts("api_plain")),
        proxies=tuple(
            listen.parsed("proxies", text, parse_proxy, PROXY_CURE)
            for text in listen.texts("proxies")
        ),
        allow_guests=table.flag("allow_guests", default=False),
        remember_passwords=table.number("remember_passwords", 300, least=0, most=86_400),
        warnings=link_warnings(link[1]),
        most_api_connections=int(
            table.number("most_api_connections", MOST_API_CONNECTIONS, least=10, most=1_000_000)
        ),
    )
    for part in (tls, dns, listen, table):
        part.finish()
    return config


def read_settings(table: Table, *, unprotected: bool) -> tuple[str, LinkSettings]:
    """
    Step 2: the unique name, and what the link needs to know.

    @raise ConfigurationError: a value is wrong; its evidence names the key.
    """
    domain = table.domain("domain")
    table.parsed("domain", domain, ascii_domain, "Write a domain name.")
    name = _unique_name(table)
    component = table.domain("component_address", f"{name}.{domain}")
    try:
        server = parse_server_address(table.text("server_address", ""))
    except StepError as problem:
        cause = f"{table.file}: server_address: {problem.cause}"
        seen = {**problem.evidence, "key": "server_address"}
        raise type(problem)(
            problem.fault, problem.step, cause, problem.cure, seen, mend=problem.mend
        ) from None
    settings = LinkSettings(
        domain=domain,
        component=component,
        server=server,
        secret=table.secret("shared_secret"),
        unprotected=unprotected,
    )
    return name, settings


def _unique_name(table: Table) -> str:
    name = table.text("unique_name").strip().lower()
    mend = "Write a name without a domain part, such as cb1."
    if not name or "." in name or "@" in name or "/" in name:
        raise table.wrong("unique_name", f'"{name}" is no plain name', mend)
    table.parsed("unique_name", name, ascii_domain, mend)
    return name


def _timing(table: Table) -> Timing:
    usual = Timing()

    def seconds(key: str, least: float = 0.1, most: float = 3600.0) -> float:
        return table.number(key, getattr(usual, key), least=least, most=most)

    timing = Timing(
        stage=seconds("stage"),
        ping_interval=seconds("ping_interval"),
        ping_timeout=seconds("ping_timeout"),
        unreachable_delay=seconds("unreachable_delay"),
        first_delay=seconds("first_delay"),
        most_delay=seconds("most_delay"),
        refused_delay=seconds("refused_delay"),
        most_refused_delay=seconds("most_refused_delay"),
        stable=seconds("stable"),
    )
    table.finish()
    return timing


def _dns_servers(table: Table) -> tuple[tuple[str, int], ...]:
    return tuple(
        table.parsed("servers", text, parse_dns_server, DNS_CURE) for text in table.texts("servers")
    )


def link_warnings(link: LinkSettings) -> tuple[str, ...]:
    """What must be said out loud about these settings."""
    if not link.unprotected:
        return ()
    warning = (
        "tls.unprotected is set: the link has NO TLS; the secret's proof and every log-in cross"
        " the network readable, and nobody checks who the server is"
    )
    return (warning,)
