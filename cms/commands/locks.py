"""C{cms callbridge lock} and C{cms xmpp lock}: who is locked out, and its release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from cms.commands.common import JSON, note, print_json, running
from cms.commands.configfile import CALLBRIDGE, XMPP, config_option
from cms.control.daemon import Daemon
from cms.signalflow import counted, printable

_PLACE = "system/locks"
_CURE = "start it; nobody is locked out then."
NAMES = {XMPP: "XMPP server", CALLBRIDGE: "Callbridge"}


def lock_group(
    file: str,
    state_dir: Callable[[Path | None], Path],
    options: Callable[[Any], Any] = lambda f: f,
) -> click.Group:
    """
    The commands for one of the daemons.

    @param state_dir: Gives that of a configuration file.
    @param options: Further options of each command.
    """
    config, role = config_option(file), NAMES[file]

    @click.group("lock")
    def lock() -> None:
        """Who is locked out by wrong passwords, secrets or passcodes."""

    @lock.command("list")
    @JSON
    @options
    @config
    def list_(as_json: bool, config_file: Path | None) -> None:
        """
        List who is refused now, and for how long.

        Of a name that nobody has, only the first character and the length are known.
        """
        daemon = running(role, state_dir(config_file), _CURE)
        note(f"{_list(daemon, as_json)} listed by the running {role} ({daemon.path})")

    @lock.command("clear")
    @click.argument("account", required=False)
    @click.option("--address", metavar="IP", help="Only what came from this address.")
    @click.option("--all", "everybody", is_flag=True, help="Everybody, from everywhere.")
    @JSON
    @options
    @config
    def clear(
        account: str | None,
        address: str | None,
        everybody: bool,
        as_json: bool,
        config_file: Path | None,
    ) -> None:
        """
        Forget the wrong proofs of ACCOUNT, or of an address, so that the next is looked at.

        ACCOUNT is a user, at an XMPP server a Callbridge, or a space of a passcode.
        """
        if not (account or address or everybody):
            raise click.UsageError("name an ACCOUNT or an --address, or say --all")
        daemon = running(role, state_dir(config_file), _CURE)
        query = {"account": account, "address": address, "all": "true" if everybody else None}
        _release(daemon, {key: value for key, value in query.items() if value}, as_json)
        note(f"done by the running {role} ({daemon.path})")

    return lock


def _list(daemon: Daemon, as_json: bool) -> int:
    """Print those that are refused; how many that are."""
    found = daemon.get(_PLACE)["locks"]["lock"]
    if as_json:
        print_json(found)
    else:
        for facts in found:
            click.echo(printable(_line(facts)))
    return len(found)


def _release(daemon: Daemon, given: Mapping[str, str], as_json: bool) -> None:
    released = daemon.delete(_PLACE, **given)["locks"]["released"]
    if as_json:
        print_json({"released": released})
    else:
        click.echo(f"{counted(released, 'lock')} released")


def _line(facts: dict[str, Any]) -> str:
    who = facts.get("account") or "everybody who is not known there"
    where = facts.get("address") or "new addresses"
    return f"{facts['kind']}: {who} from {where}, for {facts['seconds']} s more"
