"""C{cms dns lookup}: what the name servers say that the daemons ask."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.names.dns import AAAA, CNAME, SRV, A, RRHeader

from cms.callbridge import config as callbridge_config
from cms.commands.common import JSON, Complaint, Wrong, note, print_json
from cms.commands.configfile import find_all, is_callbridge
from cms.discovery.nameservers import Server
from cms.discovery.resolver import DNS_CURE, Answer, NoSuchName, make_dns, parse_dns_server
from cms.process.clocks import make_steady
from cms.signalflow import Step, StepError, printable
from cms.xmpp import config as xmpp_config

_TYPES = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "SRV": SRV}
_NAMES = {number: name for name, number in _TYPES.items()}


@click.group()
def dns() -> None:
    """Questions to DNS."""


@dns.command("lookup")
@click.argument("type_", metavar="TYPE", type=click.Choice(tuple(_TYPES), case_sensitive=False))
@click.argument("name")
@click.option("--dns", "servers", multiple=True, metavar="IP[:PORT]", help="Ask this name server.")
@JSON
def lookup(type_: str, name: str, servers: tuple[str, ...], as_json: bool) -> None:
    """
    Show the records of NAME: cms dns lookup SRV _xmpp-client._tcp.meet.example.com

    The servers of [dns] are asked, in callbridge.toml or else xmpp.toml, if there is
    one; else those of the system.  Exit status 1 when there is no record.
    """
    asked = _servers(servers)
    found = _ask(asked, name.strip().rstrip("."), type_.upper())
    records = [_facts(record) for record in found.records]
    if as_json:
        print_json({"server": found.server, "records": records})
    else:
        for facts in records:
            click.echo(printable(" ".join(str(value) for value in facts.values())))
    note(f"{found.server} answered")
    if not records:
        raise Wrong(
            f"{name} has no {type_.upper()} record. Cure: cms xmpp domain prints what to add."
        )


def _servers(given: Sequence[str]) -> Sequence[Server]:
    try:
        if given:
            return [parse_dns_server(text) for text in given]
    except ValueError as problem:
        raise Complaint(f"--dns: {problem}. Cure: {DNS_CURE}") from None
    with contextlib.suppress(Complaint):  # without a configuration the system's are asked
        for file in sorted(find_all(()), key=lambda file: not is_callbridge(file)):
            if is_callbridge(file):
                return callbridge_config.read_config(file).dns.servers
            return xmpp_config.read_config(file).dns.servers
    return ()


def _ask(servers: Sequence[Server], name: str, type_: str) -> Answer:
    """
    @raise Wrong: there is no such name.
    @raise StepError: nobody answers.
    """
    ended: list[Answer | NoSuchName | StepError] = []

    async def run(reactor: Any) -> None:
        make_steady(reactor)
        step = Step.SRV if type_ == "SRV" else Step.ADDRESS
        try:
            ended.append(await make_dns(reactor, servers).ask(name, _TYPES[type_], step))
        except (NoSuchName, StepError) as problem:
            ended.append(problem)

    with contextlib.suppress(SystemExit):
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    outcome = ended[0] if ended else click.Abort()
    if isinstance(outcome, NoSuchName):
        raise Wrong(
            f"{outcome.server} says that there is no {name}. Cure: cms xmpp domain prints the"
            " records that the domain needs."
        )
    if isinstance(outcome, StepError):
        raise Wrong(f"{outcome.cause} Cure: {outcome.cure}")
    if isinstance(outcome, click.Abort):
        raise outcome
    return outcome


def _facts(record: RRHeader) -> dict[str, Any]:
    """A record; what it says in the order of a zone file."""
    facts: dict[str, Any] = {"name": f"{record.name}.", "ttl": record.ttl}
    facts["type"] = _NAMES.get(record.type, str(record.type))
    payload: Any = record.payload
    if record.type == SRV:
        facts |= {"priority": payload.priority, "weight": payload.weight, "port": payload.port}
        facts["target"] = f"{payload.target}."
    elif record.type in (A, AAAA):
        facts["address"] = str(ip_address(payload.address))
    elif record.type == CNAME:
        facts["target"] = f"{payload.name}."
    return facts
