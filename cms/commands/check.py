"""C{cms check}: the command."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from cms.audit.finding import Finding
from cms.callbridge.directories.store import user_name
from cms.callbridge.settings import current_config
from cms.check.joincheck import JoinCheck
from cms.check.page import HTMLPage
from cms.check.renderers import JSONDocument, PlainLines, Renderer, Several
from cms.check.report import Report
from cms.check.run import LinkCheck, Login
from cms.check.serverside import ServerCheck
from cms.check.subject import STAGE, Subject, from_config, from_options
from cms.check.tree import PLAIN_SIGNS, LiveTree, Signs
from cms.check.website import NICKNAME
from cms.commands.common import line_of_input
from cms.commands.instances import INSTANCE, named
from cms.commands.joining import Visit
from cms.commands.output import put
from cms.configuration.tomlfile import Secret
from cms.discovery.nameservers import Server
from cms.discovery.resolver import parse_dns_server
from cms.process.clocks import make_steady
from cms.signalflow import StepError
from cms.state.database import StoreError, StoreUnusable
from cms.state.textencoding import Unreadable, read_secret
from cms.xmpp.config import read_config as read_xmpp_config
from cms.xmpp.instances import of_instance
from cms.xmpp.selfcheck import held_secrets, own_server

FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False, writable=True)
Command = Callable[..., Any]


def _options(command: Command) -> Command:
    seconds = click.FloatRange(0.1, 60)
    for option in reversed(
        (
            click.option("--config", "config_file", type=FILE, help="A callbridge.toml."),
            click.option("--server", is_flag=True, help="--config is an xmpp.toml: check that."),
            INSTANCE,
            click.option("--domain", help="Instead of --config: the XMPP domain."),
            click.option("--server-address", help="host, host:port or [v6]:port; else SRV."),
            click.option("--unique-name", help="The Callbridge's ID, to register with."),
            click.option("--secret-file", type=FILE, help="Holds its secret."),
            click.option("--trust", type=FILE, help="Trusted CAs (PEM); else the system's."),
            click.option("--certificate", type=FILE, help="Presented when the server asks."),
            click.option("--key", type=FILE, help="The key of --certificate."),
            click.option("--dns", multiple=True, help="A DNS server, IP:PORT; repeatable."),
            click.option("--timeout", type=seconds, help=f"Seconds for each stage; else {STAGE}."),
            click.option(
                "--register/--no-register",
                default=None,
                help="Register, even where that could disturb a live link; or never.",
            ),
            click.option("--user", help="With --config: look for that user in its directories."),
            click.option("--login", metavar="USER@DOMAIN", help="Log in as a client (step 12)."),
            click.option("--password-stdin", is_flag=True, help="The password for --login."),
            click.option(
                "--join",
                metavar="MEETING",
                help="A call ID or a link: join as a guest with a browser (step 12).",
            ),
            click.option("--url", help="With --join: the address of the pages, as guests have it."),
            click.option("--origin", help="With --join: the site whose page opens the WebSocket."),
            click.option("--name", help=f"With --join: the guest's name; else {NICKNAME!r}."),
            click.option("--passcode-stdin", is_flag=True, help="The passcode for --join."),
            click.option("--json", "as_json", is_flag=True, help="Print a JSON document."),
            click.option("--html", type=NEW_FILE, help="Write one HTML page as well."),
        )
    ):
        command = option(command)
    return command


@click.command()
@_options
def check(
    *,
    as_json: bool,
    html: Path | None,
    login: str | None,
    password_stdin: bool,
    user: str | None,
    server: bool,
    join: str | None,
    url: str | None,
    origin: str | None,
    name: str | None,
    passcode_stdin: bool,
    **options: Any,
) -> None:
    """
    Walk the signal flow against a live system, and say which step fails and why.

    Exit status: 0 all good, 1 a step fails, 2 usage.
    """
    if html is not None and not html.absolute().parent.is_dir():
        raise click.UsageError(f"--html: there is no folder {html.absolute().parent}")
    renderer = _renderer(as_json, html)
    visit = Visit(join or "", url, origin, name, passcode_stdin)
    if join is not None:
        if server or login is not None or password_stdin or user is not None:
            raise click.UsageError("--join is another check than --server, --login and --user")
        _check_join(renderer, visit, **options)
        return
    if visit != Visit():
        raise click.UsageError("--url, --origin, --name and --passcode-stdin are for --join")
    if server:
        if login is not None or password_stdin or user is not None:
            raise click.UsageError("--login and --user are other checks than --server")
        _check_server(renderer, **options)
        return
    try:
        who = _login(login, password_stdin)
        register = options.pop("register")
        subject = _subject(who, **options)
        sought = _user(user, subject)
    except StepError as error:
        raise SystemExit(_only(error, str(options.get("config_file") or ""), renderer)) from None
    session = LinkCheck(
        *(subject, renderer),
        register=register,
        login=who,
        user=sought,
        walks=_walks(options),
    )
    react(lambda reactor: Deferred.fromCoroutine(_run(session, reactor)))


def _check_server(
    renderer: Renderer,
    *,
    config_file: Path | None,
    dns: tuple[str, ...],
    timeout: float | None,
    **others: Any,
) -> None:
    if config_file is None:
        raise click.UsageError("--server needs --config with an xmpp.toml")
    if any(others.values()):
        raise click.UsageError("--server goes with --config, --dns, --timeout and how to show it")
    try:
        config = of_instance(read_xmpp_config(config_file.absolute()), named())
    except StepError as error:
        raise SystemExit(_only(error, str(config_file), renderer, "server")) from None
    try:
        own = own_server(config, held_secrets(config))
    except StoreUnusable as problem:
        raise SystemExit(_only(problem.fault, str(config_file), renderer, "server")) from None
    except StoreError as problem:
        raise click.UsageError(str(problem)) from None
    servers = _dns_servers(dns) or config.dns.servers
    session = ServerCheck(own, renderer, servers, timeout or STAGE)
    if config.cluster is not None:
        # Who has one server needs nothing of the cluster.
        from cms.check.clusterside import MOST_SECONDS, ClusterCheck, OwnNode  # noqa: PLC0415
        from cms.xmpp.clustering import engine_settings  # noqa: PLC0415

        engine = engine_settings(config, config.cluster)
        node = OwnNode(
            config.cluster.node or config.hostname, config.hostname, config.domain, engine
        )
        session = evolve(
            session,
            cluster=lambda reactor, status: ClusterCheck(
                reactor, node, os.urandom, status
            ).findings(),
            cluster_seconds=MOST_SECONDS,
        )
    react(lambda reactor: Deferred.fromCoroutine(_run(session, reactor)))


def _check_join(
    renderer: Renderer,
    visit: Visit,
    *,
    config_file: Path | None,
    trust: Path | None,
    dns: tuple[str, ...],
    timeout: float | None,
    **others: Any,
) -> None:
    if any(other is not None for other in others.values()):
        raise click.UsageError("--join goes with --config, --trust, --dns, --timeout, and its own")
    try:
        session = visit.check(renderer, config_file, trust, _dns_servers(dns), timeout or STAGE)
    except StepError as error:
        raise SystemExit(_only(error, str(config_file), renderer, "browser")) from None
    react(lambda reactor: Deferred.fromCoroutine(_run(session, reactor)))


def _dns_servers(texts: tuple[str, ...]) -> tuple[Server, ...]:
    try:
        return tuple(parse_dns_server(each) for each in texts)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None


def _renderer(as_json: bool, html: Path | None) -> Renderer:
    shown: Renderer = PlainLines(_line)
    if as_json:
        shown = JSONDocument(_line)
    elif sys.stdout.isatty():
        signs = Signs() if "utf" in sys.stdout.encoding.lower() else PLAIN_SIGNS
        colour = "NO_COLOR" not in os.environ
        width = shutil.get_terminal_size().columns
        shown = LiveTree(put, width, colour, signs)
    if html is None:
        return shown
    return Several(shown, HTMLPage(html, lambda problem: click.echo(problem, err=True)))


def _line(text: str) -> None:
    put(f"{text}\n")


def _walks(options: dict[str, Any]) -> bool:
    return bool(options["config_file"] or options["domain"])


def _only(error: StepError, source: str, renderer: Renderer, kind: str = "callbridge") -> int:
    """A report with nothing but one failure, from before anything could be walked."""
    report = Report(kind, {"source": source or "the command line"}, time.time(), 0.0)
    finding = Finding(error.step, "failed", source, evidence=error.evidence, problem=error)
    report.findings.append(finding)
    renderer.begin(report)
    renderer.found(finding)
    renderer.end(report)
    return report.status


def _login(login: str | None, password_stdin: bool) -> Login | None:
    if login is None:
        if password_stdin:
            raise click.UsageError("--password-stdin is for --login")
        return None
    if not password_stdin:
        raise click.UsageError("--login needs --password-stdin")
    user, at, domain = login.rpartition("@")
    if not at or not user or not domain:
        raise click.UsageError("--login is an address such as alice@meet.example.com")
    return Login(user, domain, line_of_input())


def _user(user: str | None, subject: Subject) -> str:
    """The local part of whom the directories are to find."""
    if user is None:
        return ""
    if not subject.directories:
        raise click.UsageError("--user needs --config with a [[directory]] of kind ldap")
    try:
        return user_name(user, subject.link.domain)
    except StoreError as problem:
        raise click.UsageError(f"--user: {problem}") from None


def _subject(
    who: Login | None,
    *,
    config_file: Path | None,
    domain: str | None,
    server_address: str | None,
    unique_name: str | None,
    secret_file: Path | None,
    trust: Path | None,
    certificate: Path | None,
    key: Path | None,
    dns: tuple[str, ...],
    timeout: float | None,
) -> Subject:
    """
    @raise ConfigurationError: the configuration file, or the server address, is wrong.
    """
    try:
        servers = _dns_servers(dns)
        if config_file is not None:
            others = (server_address, unique_name, secret_file, trust, certificate, key)
            if domain is not None or any(other is not None for other in others):
                raise click.UsageError(
                    "--config says domain, server address, ID, secret and [tls] already:"
                    " give either --config or these"
                )
            return from_config(current_config(config_file.absolute()), timeout, servers)
        if domain is None and who is None:
            raise click.UsageError("give --config, --domain or --login")
        secret = _secret(secret_file) if secret_file else None
        if secret is not None and not secret.value:
            raise click.UsageError(f"{secret_file} is empty")
        if secret is not None and unique_name is None:
            raise click.UsageError("--secret-file needs --unique-name")
        return from_options(
            domain or (who.domain if who else ""),
            server_address=server_address or "",
            unique_name=unique_name,
            secret=secret,
            trust=trust,
            certificate=certificate,
            key=key,
            dns_servers=servers,
            stage=timeout or STAGE,
        )
    except (ValueError, OSError) as problem:
        raise click.UsageError(str(problem)) from None


def _secret(file: Path) -> Secret:
    try:
        return Secret(read_secret(file))
    except Unreadable as problem:
        raise click.UsageError(f"{file} {problem.problem}. Cure: {problem.mend}") from None


async def _run(session: LinkCheck | ServerCheck | JoinCheck, reactor: Any) -> None:
    make_steady(reactor)
    report = await session.run(reactor)
    if report.status:
        raise SystemExit(report.status)
