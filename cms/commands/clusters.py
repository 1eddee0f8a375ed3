"""C{cms xmpp cluster}: the servers that are one service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cms.commands.common import JSON, Complaint, Row, Wrong, print_json, print_rows, running
from cms.commands.configfile import XMPP, config_option
from cms.commands.instances import INSTANCE, server_config
from cms.control.daemon import Daemon
from cms.signalflow import counted, printable

CONFIG = config_option(XMPP)
NOT_AGREED = "the other servers do not have the last change yet"
_ALONE = (
    "this server is alone: its xmpp.toml has no [cluster]. Cure: docs/operate.md shows one, with"
    " the Redis that all servers share."
)


@click.group()
def cluster() -> None:
    """
    Show the servers that are one service.

    There is no leader here: every server is as good as the others, and a Redis that all
    share says who is there.
    """


@cluster.command("status")
@JSON
@INSTANCE
@CONFIG
def status(as_json: bool, config_file: Path | None) -> None:
    """
    Show this server's part in the cluster, and the others.

    The exit status is 1 if it is cut off from them.
    """
    config = server_config(config_file)
    if config.cluster is None:
        raise Complaint(_ALONE)
    cure = f"twistd cms-xmpp --config {config.file}"
    daemon = running("XMPP server", config.state_dir, cure)
    facts = daemon.status()["cluster"]
    if as_json:
        print_json(facts)
    else:
        print_rows(list(_rows(facts)))
    if facts["state"] != "in":
        problem = facts["problem"]
        raise Wrong(f"{problem['cause']} Cure: {problem['cure']}")


def _rows(facts: dict[str, Any]) -> list[Row]:
    renewed = facts["renewedSecondsAgo"]
    ago = "never" if renewed is None else f"{renewed} s ago"
    rows: list[Row] = [
        ("Node", facts["node"]),
        ("State", "in the cluster" if facts["state"] == "in" else "out of the cluster"),
        ("Leader", "none: there is no leader here"),
        ("Generation", facts["generation"]),
        ("Draining", facts["draining"]),
        ("Lease", f"{facts['leaseSeconds']:g} s, renewed {ago}"),
        ("Engine", facts["engine"]),
        ("Engine connected", facts["engineConnected"]),
        ("Callbridges", "as the others" if facts["callBridgesAgreed"] else NOT_AGREED),
        ("Servers lost", facts["lostNodes"]),
    ]
    for node in facts["nodes"]:
        shown = [
            *(["is drained, and takes nothing"] if node["draining"] else []),
            f"cms {node['version']}, generation {node['generation']}",
            f"{counted(node['sessions'], 'client')}, {counted(node['links'], 'component')}",
            f"{node['waitingBytes']:,} bytes wait for it, the oldest for {node['behindSeconds']} s",
        ]
        rows.append((f"Server {node['node']}", shown))
    return rows


@cluster.command("join")
@click.argument("address", required=False)
def join(address: str | None) -> None:
    """Say how a server joins: by its configuration, not by a command."""
    raise Complaint(
        "nobody joins by a command, and there is no leader to ask. Cure: give this server the"
        " [cluster] of the others (docs/operate.md), and restart it; it joins by itself."
    )


@cluster.command("remove")
@click.argument("node", required=False)
@INSTANCE
@CONFIG
def remove(node: str | None, config_file: Path | None) -> None:
    """
    Say what is to be done so that NODE leaves, or that nothing of it is left.

    A server leaves when it stops, or dies; cms xmpp drain empties it before.
    """
    config = server_config(config_file)
    daemon = None if node is None or config.cluster is None else Daemon.find(config.state_dir)
    if daemon is not None:
        facts = daemon.status()["cluster"]
        draining = {each["node"]: each["draining"] for each in (facts, *facts["nodes"])}
        if node not in draining:
            known = ", ".join(sorted(draining))
            click.echo(printable(f"nothing is left of {node}: in the cluster are {known}"))
            return
        if draining[node]:
            raise Complaint(
                f"nobody is removed by a command; {node} takes nothing any more, and leaves when it"
                " stops. Cure: on its host, systemctl stop cms-xmpp."
            )
    raise Complaint(
        "nobody is removed by a command. A server that stops has left; one that died is gone when"
        " its lease is over. Cure: on its host, cms xmpp drain --wait empties it; then stop it. To"
        " keep it out, take [cluster] out of its xmpp.toml, or its user out of Redis."
    )
