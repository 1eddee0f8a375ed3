"""C{cms xmpp client}: who is logged in at an XMPP server, and the servers of its cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from attrs import define

from cms.commands.common import (
    JSON,
    Row,
    Wrong,
    line_of_input,
    note,
    print_blocks,
    print_json,
    running,
    where_text,
)
from cms.commands.configfile import XMPP, config_option
from cms.commands.instances import INSTANCE, server_config
from cms.control.daemon import Daemon
from cms.signalflow import counted, printable
from cms.xmpp.config import XmppConfig

CONFIG = config_option(XMPP)
NOBODY = "nobody is logged in. Cure: cms status shows whether clients can."
ROWS = {
    "jid": "Address",
    "address": "From",
    "server": "Server",
    "since": "Since",
    "callBridge": "Callbridge",
    "guest": "Guest",
    "available": "Available",
    "connected": "Connected",
    "awaySince": "Without connection since",
    "keptBytes": "Bytes kept",
    "id": "ID",
}


@define
class Clients:
    """The clients of one XMPP server, which runs."""

    config: XmppConfig
    daemon: Daemon

    @classmethod
    def open(cls, config_file: Path | None) -> Clients:
        """
        The server of a configuration.

        @raise Wrong: it does not run.
        """
        config = server_config(config_file)
        cure = "start it; clients come by themselves."
        return cls(config, running("XMPP server", config.state_dir, cure))

    def said(self, done: str) -> None:
        """Say where it was done."""
        note(f"{done} {where_text('XMPP server', self.daemon, self.config.state_dir)}")

    def of(self, address: str | None) -> list[dict[str, Any]]:
        """The sessions of an address, or all."""
        query = {} if address is None else {"jid": address}
        return self.daemon.all("clients", "clients", "client", **query)


@click.group()
def client() -> None:
    """
    Who is logged in, at this server and at the others of its cluster.

    A USER is alice, or alice@meet.example.com; an ADDRESS may also be the full
    address of one session, as list shows it.
    """


@client.command("list")
@click.argument("user", required=False)
@JSON
@INSTANCE
@CONFIG
def list_(user: str | None, as_json: bool, config_file: Path | None) -> None:
    """List the sessions, of USER or of everybody."""
    clients = Clients.open(config_file)
    found = clients.of(user)
    if as_json:
        print_json(found)
    else:
        for facts in found:
            click.echo(printable("  ".join(_line(facts))))
    clients.said(f"{counted(len(found), 'session')} listed")


def _line(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['jid']}  from {facts.get('address') or 'unknown'}"
    yield f"since {facts.get('since')}"
    if facts.get("server"):
        yield f"at {facts['server']}"
    if facts.get("guest"):
        yield "guest"
    if facts.get("connected") is False:
        yield f"without connection since {facts.get('awaySince')}"


@client.command("show")
@click.argument("address")
@JSON
@INSTANCE
@CONFIG
def show(address: str, as_json: bool, config_file: Path | None) -> None:
    """Show the sessions of ADDRESS with all that is known of them."""
    clients = Clients.open(config_file)
    found = clients.of(address)
    if not found:
        raise _nobody(address)
    if as_json:
        print_json(found)
    else:
        print_blocks(_rows(facts) for facts in found)
    clients.said("shown")


def _rows(facts: dict[str, Any]) -> list[Row]:
    return [(label, facts[key]) for key, label in ROWS.items() if facts.get(key) is not None]


@client.command("kick")
@click.argument("address")
@JSON
@INSTANCE
@CONFIG
def kick(address: str, as_json: bool, config_file: Path | None) -> None:
    """
    End the sessions of ADDRESS: of a user, or the one with this full address.

    The program is told that an administrator has ended it, and may log in again at
    once.  To keep a user out: cms callbridge user disable.
    """
    clients = Clients.open(config_file)
    ended = clients.daemon.delete("clients", jid=address)["clients"]["ended"]
    if not ended:
        raise _nobody(address)
    if as_json:
        print_json({"address": address, "ended": ended})
    else:
        click.echo(f"{counted(ended, 'session')} of {printable(address)} ended")
    clients.said("ended")


@client.command("message")
@click.argument("address", metavar="ADDRESS|all")
@click.argument("text", required=False)
@JSON
@INSTANCE
@CONFIG
def message(address: str, text: str | None, as_json: bool, config_file: Path | None) -> None:
    """
    Send TEXT to the sessions of ADDRESS, or to everybody.

    Without TEXT it is a line of standard input, which no list of processes shows.
    It comes from the server and cannot be answered.  Who is not logged in does not
    get it later.
    """
    clients = Clients.open(config_file)
    if text is None:
        text = line_of_input().strip()
    told = clients.daemon.post("clientMessages", jid=address, text=text)["clients"]["told"]
    if not told:
        raise Wrong(NOBODY) if address == "all" else _nobody(address)
    if as_json:
        print_json({"address": address, "told": told})
    else:
        click.echo(f"{counted(told, 'session')} got it")
    clients.said("sent")


def _nobody(address: str) -> Wrong:
    cure = "cms xmpp client list shows who is."
    return Wrong(f"{printable(address)} is not logged in. Cure: {cure}")
