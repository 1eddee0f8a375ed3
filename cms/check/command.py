"""C{cms check}: the command."""

from __future__ import annotations

import sys
from pathlib import Path
from random import SystemRandom
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from cms.callbridge.config import read_config
from cms.check import text
from cms.check.findings import Finding, Report
from cms.check.subject import STAGE, Subject, from_config, from_options
from cms.check.walk import bound_of, check_link
from cms.discovery.resolver import make_dns, parse_dns_server
from cms.signalflow import Step, StepError
from cms.tomlfile import Secret

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--config", "config_file", type=FILE, help="A callbridge.toml.")
@click.option("--domain", help="Instead: the XMPP domain.")
@click.option("--server-address", default="", help="host, host:port or [v6]:port; else SRV.")
@click.option("--unique-name", help="The Callbridge's ID, to register with.")
@click.option("--secret-file", type=FILE, help="Holds its secret.")
@click.option("--trust", type=FILE, help="CAs that are trusted, in PEM; else the system's.")
@click.option("--certificate", type=FILE, help="Presented when the server asks for one.")
@click.option("--key", type=FILE, help="The key of --certificate.")
@click.option("--dns", "dns_servers", multiple=True, help="A DNS server, IP:PORT; repeatable.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=STAGE,
    show_default=True,
    help="Seconds for each stage.",
)
def check(config_file: Path | None, timeout: float, **options: Any) -> None:
    """
    Walk the signal flow against a live system, and say which step fails and why.

    Exit status: 0 all good, 1 a step fails, 2 usage.
    """
    subject = _subject(config_file, timeout, options)
    react(lambda reactor: Deferred.fromCoroutine(_run(reactor, subject)))


def _subject(config_file: Path | None, timeout: float, options: dict[str, Any]) -> Subject:
    if (config_file is None) == (options["domain"] is None):
        raise click.UsageError("give either --config or --domain")
    if config_file is not None:
        try:
            return from_config(read_config(config_file.absolute()), timeout)
        except StepError as error:
            _give_up(error, str(config_file))
    try:
        secret_file = options.pop("secret_file")
        servers = tuple(parse_dns_server(each) for each in options.pop("dns_servers"))
        secret = Secret(secret_file.read_text("utf-8").strip()) if secret_file else None
        return from_options(
            options.pop("domain"), secret=secret, dns_servers=servers, stage=timeout, **options
        )
    except StepError as error:
        raise click.UsageError(error.cause) from None
    except (ValueError, OSError) as problem:
        raise click.UsageError(str(problem)) from None


def _give_up(error: StepError, source: str) -> Any:
    finding = Finding(error.step, "failed", source, problem=error, evidence=error.evidence)
    for line in text.lines(finding):
        click.echo(line)
    raise SystemExit(1)


async def _run(reactor: Any, subject: Subject) -> None:
    report = Report("callbridge", subject.shown(), reactor.seconds(), bound_of(subject))
    dns = make_dns(reactor, subject.dns_servers, timeout=subject.timing.stage)

    def tell(finding: Finding) -> None:
        for line in text.lines(finding):
            click.echo(line)
        sys.stdout.flush()

    def waiting(step: Step, about: str, seconds: float) -> None:
        pass

    click.echo(text.heading(report))
    await check_link(reactor, subject, dns, report, waiting, random=SystemRandom(), tell=tell)
    click.echo(text.summary(report))
    if report.status:
        raise SystemExit(report.status)
