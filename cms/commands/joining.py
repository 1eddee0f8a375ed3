"""C{cms check --join}: from the command line, or a configuration, to what is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from attrs import evolve, frozen

from cms.check.joincheck import JoinCheck
from cms.check.renderers import Renderer
from cms.check.website import NICKNAME, Meeting, Website, read_meeting, read_website
from cms.commands.common import line_of_input
from cms.discovery.nameservers import Server
from cms.process.endpointstrings import read_endpoint
from cms.trust.files import PEMFiles
from cms.xmpp.config import XmppConfig, read_config

_OF_CONFIG = (("web", "https"), ("web_plain", "http"))
_NO_PAGES = (
    "this configuration has no listen.web and no listen.web_plain that can be connected to from"
    " here: give --url, the address that guests open"
)


@frozen
class Visit:
    """The options of C{--join}."""

    join: str = ""
    url: str | None = None
    origin: str | None = None
    name: str | None = None
    passcode_stdin: bool = False

    def check(
        self,
        renderer: Renderer,
        config_file: Path | None,
        trust: Path | None,
        dns_servers: Sequence[Server],
        stage: float,
    ) -> JoinCheck:
        """
        What they mean.

        @raise UsageError: they do not fit together.
        @raise ConfigurationError: the configuration file is wrong.
        """
        config = read_config(config_file.absolute()) if config_file is not None else None
        meeting, website = self._meeting()
        if self.url is not None:
            website = _website(self.url)
        if website is None:
            if config is None:
                raise click.UsageError("--join needs --url, --config with an xmpp.toml, or a link")
            website = of_config(config)
        if website is None:
            raise click.UsageError(_NO_PAGES)
        if trust is None and config is not None:
            trust = config.tls.trust
        return JoinCheck(
            website,
            meeting,
            renderer,
            origin=_website(self.origin).url if self.origin else "",
            own=PEMFiles("--trust", trust, None, None) if trust is not None else None,
            dns_servers=tuple(dns_servers) or (config.dns.servers if config is not None else ()),
            stage=stage,
            source=str(config_file or "the command line"),
        )

    def _meeting(self) -> tuple[Meeting, Website | None]:
        try:
            meeting, website = read_meeting(self.join, self.name or NICKNAME)
        except ValueError as problem:
            raise click.UsageError(f"--join: {problem}") from None
        if not self.passcode_stdin:
            return meeting, website
        if meeting.secret:
            raise click.UsageError("a link with a secret needs no passcode")
        return evolve(meeting, passcode=line_of_input().strip()), website


def _website(text: str) -> Website:
    try:
        return read_website(text)[0]
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None


def of_config(config: XmppConfig) -> Website | None:
    """The pages of a server, as this host reaches them; C{None} if it cannot."""
    if config.web.url is not None:
        return read_website(config.web.url)[0]
    for kind, scheme in _OF_CONFIG:
        for text in config.listen[kind]:
            endpoint = read_endpoint(f"listen.{kind}", text, config.file)
            if endpoint.port is None or endpoint.is_proxied:
                continue
            address = endpoint.host if endpoint.is_bound else "127.0.0.1"
            if scheme == "http":
                return Website(scheme, address, endpoint.port)
            return Website(scheme, config.hostname, endpoint.port, address)
    return None
