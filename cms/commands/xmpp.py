"""C{cms xmpp}: an XMPP server's configuration and state."""

from __future__ import annotations

from pathlib import Path

import click

from cms.commands import certificates, sockets
from cms.commands.clients import client
from cms.commands.clusters import cluster
from cms.commands.common import JSON, Row, as_facts, note, print_json, print_rows, where_text
from cms.commands.configfile import XMPP, config_option
from cms.commands.contacts import contacts
from cms.commands.daemonstate import DaemonState
from cms.commands.drains import drain
from cms.commands.instances import INSTANCE, server_config
from cms.commands.locks import lock_group
from cms.commands.originalwords import OnlyShows
from cms.commands.outcomes import Outcome, report
from cms.commands.xmppcallbridges import callbridge
from cms.control.daemon import Daemon
from cms.discovery.address import ascii_domain
from cms.process.endpointstrings import parse_endpoint
from cms.xmpp.config import ADMINISTRATION, LISTENERS, WEB, XmppConfig

CONFIG = config_option(XMPP)


@click.group(invoke_without_command=True)
@JSON
@INSTANCE
@CONFIG
@click.pass_context
def xmpp(context: click.Context, as_json: bool, config_file: Path | None) -> None:
    """
    Show or administer an XMPP server.

    Without a command the configuration is printed, and what the server does if
    it runs.
    """
    if context.invoked_subcommand is not None:
        return
    config, daemon = _open(config_file)
    state = DaemonState.of(daemon)
    if as_json:
        print_json({**as_facts(_rows(config)), **state.facts()})
    else:
        print_rows([*state.rows(), *_rows(config)])
    note(f"asked {where_text('XMPP server', daemon, config.state_dir)}")


xmpp.add_command(callbridge)


def _state_dir(config_file: Path | None) -> Path:
    return server_config(config_file).state_dir


xmpp.add_command(client)
xmpp.add_command(contacts)
xmpp.add_command(lock_group(XMPP, _state_dir, INSTANCE))
xmpp.add_command(cluster)
xmpp.add_command(drain)


def _open(config_file: Path | None) -> tuple[XmppConfig, Daemon | None]:
    config = server_config(config_file)
    return config, Daemon.find(config.state_dir)


def _rows(config: XmppConfig) -> list[Row]:
    return [
        ("Configuration", config.file),
        ("State directory", config.state_dir),
        ("Domain", config.domain),
        ("Hostname", config.hostname),
        *listener_rows(config),
        ("Key file", config.tls.key),
        ("Certificate file", config.tls.certificate),
        ("Trust bundle", config.tls.trust or "the system's CAs"),
        ("Callbridge certificates", config.tls.callbridge_certificates),
    ]


def listener_rows(config: XmppConfig) -> list[Row]:
    """The listeners that are opened."""
    kinds = (*LISTENERS, *WEB, *ADMINISTRATION)
    return [(f"Listen {kind}", list(config.listen[kind])) for kind in kinds if config.listen[kind]]


@xmpp.command("domain", cls=OnlyShows)
@JSON
@INSTANCE
@CONFIG
def domain(as_json: bool, config_file: Path | None) -> None:
    """Show the domain and the server's name, and check them against the certificate."""
    config, _ = _open(config_file)
    rows: list[Row] = [
        ("Domain", config.domain),
        ("Hostname", config.hostname),
        ("Callbridge SRV", _records(config, "component", "_xmpp-component")),
        ("Client SRV", _records(config, "client", "_xmpp-client")),
    ]
    report(rows, [*_name_findings(config), *certificates.name_findings(config)], as_json)


def _records(config: XmppConfig, kind: str, service: str) -> list[str]:
    """What the domain's DNS zone is to hold for the listeners of a kind."""
    domain, host = ascii_domain(config.domain), ascii_domain(config.hostname)
    found = []
    for description in config.listen[kind]:
        try:
            port = parse_endpoint(description).port
        except ValueError:
            continue  # cms xmpp listen says what is wrong with it
        if port:
            found.append(f"{service}._tcp.{domain}. IN SRV 10 10 {port} {host}.")
    return found


def _name_findings(config: XmppConfig) -> list[Outcome]:
    if "." in config.hostname:
        return []
    text = f"{config.hostname} is no fully qualified name; other hosts cannot find it."
    return [Outcome("warning", text, "Give this server's FQDN in hostname, unless it is a trial.")]


@xmpp.command("listen", cls=OnlyShows)
@JSON
@INSTANCE
@CONFIG
def listen(as_json: bool, config_file: Path | None) -> None:
    """
    Show the listeners, and check each.

    While the server runs, each must answer; while it is stopped, each must be
    free to be opened by this user.
    """
    config, daemon = _open(config_file)
    found = sockets.findings(config, daemon is not None)
    note(f"checked {where_text('XMPP server', daemon, config.state_dir)}")
    report(listener_rows(config), found, as_json)


@xmpp.command("certs", cls=OnlyShows)
@JSON
@INSTANCE
@CONFIG
def certs(as_json: bool, config_file: Path | None) -> None:
    """
    Show the certificate, and check it.

    The key must fit, the subjectAltName must name both the domain and the
    hostname, and the dates must be good.
    """
    config, _ = _open(config_file)
    found = list(certificates.findings(config, certificates.now()))
    report(certificates.rows(config), found, as_json)
