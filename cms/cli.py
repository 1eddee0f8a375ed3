"""The command line: C{cms}.  Exit status 0 done, 1 wrong, 2 usage or configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import cms
from cms.callbridge.config import CallbridgeConfig, read_config
from cms.callbridge.store import StoreError, UserStore, user_name
from cms.check.command import check, explain
from cms.check.demo import run_demo
from cms.signalflow import StepError

CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    required=True,
    help="The Callbridge's configuration, callbridge.toml.",
)


class Complaint(click.ClickException):
    """Something is wrong with usage or configuration."""

    exit_code = 2


@click.group()
@click.version_option(cms.__version__, prog_name="cms", message="%(prog)s %(version)s")
def main() -> None:
    """The open Callbridge and XMPP signalling pair."""


@main.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
def demo(keep: bool) -> None:
    """Run the twelve steps for real, on loopback, and show them."""

    def start(reactor: Any) -> Deferred[None]:
        async def run() -> None:
            colour = sys.stdout.isatty()
            status = await run_demo(reactor, keep=keep, write=_say, colour=colour)
            if status:
                raise SystemExit(status)

        return Deferred.fromCoroutine(run())

    react(start)


main.add_command(check)
main.add_command(explain)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


@main.group()
def callbridge() -> None:
    """Administer a Callbridge."""


@callbridge.group()
def user() -> None:
    """The users in a Callbridge's local store."""


@user.command("add")
@click.argument("address")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@CONFIG
def user_add(address: str, password_stdin: bool, config_file: Path) -> None:
    """Add the user ADDRESS, or change the password."""
    config, store = _store(config_file)
    name = _name(address, config)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        new = store.set_password(name, password)
    except StoreError as problem:
        raise Complaint(str(problem)) from None
    click.echo(f"{name}@{config.link.domain} {'added' if new else 'has a new password'}")


@user.command("list")
@CONFIG
def user_list(config_file: Path) -> None:
    """List the users."""
    config, store = _store(config_file)
    for entry in store.users():
        state = "  disabled" if entry.disabled else ""
        click.echo(f"{entry.name}@{config.link.domain}  since {entry.created}{state}")


@user.command("del")
@click.argument("address")
@CONFIG
def user_delete(address: str, config_file: Path) -> None:
    """Delete the user ADDRESS."""
    config, store = _store(config_file)
    if not store.delete(_name(address, config)):
        click.echo(f"there is no user {address}", err=True)
        raise SystemExit(1)
    click.echo(f"{address} deleted")


def _store(config_file: Path) -> tuple[CallbridgeConfig, UserStore]:
    try:
        config = read_config(config_file.absolute())
        return config, UserStore(config.state_dir)
    except StepError as error:
        raise Complaint(f"{error.cause} Cure: {error.cure}") from None
    except StoreError as problem:
        raise Complaint(str(problem)) from None


def _name(address: str, config: CallbridgeConfig) -> str:
    try:
        return user_name(address, config.link.domain)
    except StoreError as problem:
        raise Complaint(str(problem)) from None
