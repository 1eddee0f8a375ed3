"""What is to be checked: from a F{callbridge.toml}, or from a command line."""

from __future__ import annotations

from itertools import dropwhile
from pathlib import Path

from attrs import frozen

from cms.callbridge.config import CallbridgeConfig, LinkSettings, Timing
from cms.callbridge.ldap.objects import StoredObjects
from cms.callbridge.ldap.settings import LdapSettings, Settings
from cms.configuration.tomlfile import Secret
from cms.discovery.address import ascii_domain, parse_server_address
from cms.discovery.nameservers import Server
from cms.trust.files import PEMFiles
from cms.xmlstream.jid import parse_jid

STAGE = 5.0  # seconds for each stage of a check, unless told otherwise


@frozen
class Subject:
    """
    A link to walk.

    @ivar link: The settings, as the Callbridge has them.
    @ivar files: Its C{[tls]}.
    @ivar serves: Whether its certificate is also shown to the clients of its administration.
    @ivar registers: Whether ID and secret are known.
    @ivar state_dir: Where the Callbridge keeps its state, if that is known.
    @ivar directories: The LDAP directories of its users.
    @ivar after_local: The names of those that come after the local store.
    @ivar source: The configuration file, or the command line.
    """

    link: LinkSettings
    files: PEMFiles
    timing: Timing
    dns_servers: tuple[Server, ...] = ()
    serves: bool = False
    registers: bool = False
    state_dir: Path | None = None
    directories: tuple[LdapSettings, ...] = ()
    after_local: tuple[str, ...] = ()
    source: str = "the command line"

    def shown(self) -> dict[str, str]:
        """For the heading of a report."""
        link = self.link
        return {
            "domain": link.domain,
            "server_address": str(link.server) if link.server else "(blank: SRV)",
            "component": link.component if self.registers else "(none)",
            "source": self.source,
        }


def from_config(
    config: CallbridgeConfig, stage: float | None = None, dns_servers: tuple[Server, ...] = ()
) -> Subject:
    """
    The link that a Callbridge is configured for.

    @param stage: Seconds for each stage, in place of the usual ones.
    @param dns_servers: In place of those of the configuration.
    """
    tls, every = config.tls, _directories(config)
    after = dropwhile(lambda each: isinstance(each, LdapSettings), every)
    return Subject(
        link=config.link,
        files=PEMFiles(str(config.file), tls.trust, tls.certificate, tls.key, role="client"),
        timing=_timing(stage or min(STAGE, config.timing.stage)),
        dns_servers=dns_servers or config.dns.servers,
        serves=bool(config.listen.api),
        registers=True,
        state_dir=config.state_dir,
        directories=tuple(each for each in every if isinstance(each, LdapSettings)),
        after_local=tuple(each.name for each in after if isinstance(each, LdapSettings)),
        source=str(config.file),
    )


def _directories(config: CallbridgeConfig) -> tuple[Settings, ...]:
    """Those of the file, and those that the administration has made, in their order."""
    stored = StoredObjects(config.state_dir)
    return (*config.directories, *stored.directories(stored.read()).values())


def from_options(
    domain: str,
    *,
    server_address: str = "",
    unique_name: str | None = None,
    secret: Secret | None = None,
    trust: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    dns_servers: tuple[Server, ...] = (),
    unprotected: bool = False,
    stage: float = STAGE,
) -> Subject:
    """
    A link described by options.

    @param unique_name: With dots it is a component address already.
    @raise ValueError: the domain is none.
    @raise ConfigurationError: the server address cannot be read.
    """
    name = unique_name or ""
    ascii_domain(domain)
    domain = parse_jid(domain.strip().rstrip(".")).host
    return Subject(
        link=LinkSettings(
            unique_name=name,
            domain=domain,
            component=name if "." in name else f"{name or 'callbridge'}.{domain}",
            server=parse_server_address(server_address),
            secret=secret or Secret(""),
            unprotected=unprotected,
        ),
        files=PEMFiles("the command line", trust, certificate, key, role="client"),
        timing=_timing(stage),
        dns_servers=dns_servers,
        registers=unique_name is not None and secret is not None,
    )


def _timing(stage: float) -> Timing:
    return Timing(stage=stage, ping_interval=max(60.0, 2 * stage), ping_timeout=stage)
