"""C{cms xmpp drain}: maintenance of one server of several, without loss."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from cms.commands.common import JSON, Wrong, note, print_json, running, where_text
from cms.commands.configfile import XMPP, config_option
from cms.commands.instances import INSTANCE, server_config
from cms.control.daemon import Daemon
from cms.control.drainwords import MOST_SECONDS, NOBODY, USUAL_SECONDS, drain_text, still_here

CONFIG = config_option(XMPP)
EVERY = 0.5  # seconds between two looks
LATE = 30.0  # seconds after its time, in which a server should have ended the rest


@click.command("drain")
@click.option(
    "--time",
    "seconds",
    type=click.IntRange(1, MOST_SECONDS),
    default=USUAL_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="When what is left is ended.",
)
@click.option("--wait", is_flag=True, help="Come back when it can be stopped.")
@click.option("--force", is_flag=True, help="Also if no other server takes its clients.")
@click.option("--cancel", is_flag=True, help="Take what comes again.")
@JSON
@INSTANCE
@CONFIG
def drain(
    *, seconds: int, wait: bool, force: bool, cancel: bool, as_json: bool, config_file: Path | None
) -> None:
    """
    Empty this server before it is stopped.

    It takes no new connections.  Its Callbridges connect to the next server, the
    sessions of clients with stream management go on at the other servers of the
    cluster, and the others are ended, so that their clients log in elsewhere.
    Then it stays as it is until it is stopped.  A server that is alone waits for
    its clients to leave, and ends the rest when the time is over.

    With --wait, exit status 1 if it is not drained in the end.
    """
    if cancel and (wait or force):
        raise click.UsageError("--cancel goes with nothing else")
    config = server_config(config_file)
    cure = "none is needed; it can be upgraded now."
    daemon = running("XMPP server", config.state_dir, cure)
    if cancel:
        daemon.delete("drain")
        facts = daemon.get("drain")["drain"]
    else:
        force_form = {"force": "true"} if force else {}
        facts = daemon.post("drain", seconds=seconds, **force_form)["drain"]
        if not facts["takers"]:
            note(NOBODY)
        if wait:
            facts = _wait(daemon, facts, seconds)
    if as_json:
        print_json(facts)
    else:
        click.echo(drain_text(facts))
    note(f"done {where_text('XMPP server', daemon, config.state_dir)}")
    if wait and facts["state"] != "drained":
        raise Wrong("it is not drained. Cure: its log says why; cms xmpp drain begins again.")


def _wait(daemon: Daemon, facts: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Until it is drained, or somebody has cancelled it, or it does not end."""
    until, told = time.monotonic() + seconds + LATE, ""
    while facts["state"] == "draining" and time.monotonic() < until:
        told, before = still_here(facts), told
        if told != before:
            note(f"still here: {told}")
        time.sleep(EVERY)
        facts = daemon.get("drain")["drain"]
    return facts
