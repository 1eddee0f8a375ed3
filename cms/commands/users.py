"""C{cms callbridge user}: the users of a Callbridge's local store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from attrs import define

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories.store import UserStore, user_name
from cms.callbridge.settings import current_config
from cms.commands.common import JSON, Wrong, check_owner, note, print_json, read_secret, where_text
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.control.daemon import Daemon, segment

CONFIG = config_option(CALLBRIDGE)
PASSWORD_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@define
class Users:
    """
    The users of one Callbridge, by the running daemon or in its store.

    @ivar domain: Of their addresses.
    """

    config: CallbridgeConfig
    domain: str
    daemon: Daemon | None

    @classmethod
    def open(cls, config_file: Path | None) -> Users:
        """The configuration, and the daemon if it runs."""
        config = current_config(find_config(config_file, CALLBRIDGE))
        daemon = Daemon.find(config.state_dir)
        return cls(config, config.link.domain, daemon)

    def said(self, done: str) -> None:
        """Say where it was done."""
        note(f"{done} {where_text('Callbridge', self.daemon, self.config.state_dir)}")

    def address(self, text: str) -> str:
        """
        A user's address.

        @raise StoreError: it is none of this domain.
        """
        return f"{user_name(text, self.domain)}@{self.domain}"

    @property
    def _store(self) -> UserStore:
        check_owner(self.config.state_dir)
        return UserStore(self.config.state_dir)

    def exists(self, address: str) -> bool:
        """Whether there is such a user."""
        return any(facts["userJid"] == address for facts in self.list())

    def add(self, address: str, password: str) -> None:
        """Add one, or set the password of one."""
        if self.daemon is None:
            self._store.set_password(user_name(address, self.domain), password)
        elif self.exists(address):
            self.daemon.put(f"users/{segment(address)}", password=password)
        else:
            self.daemon.post("users", userJid=address, password=password)

    def set_disabled(self, address: str, disabled: bool) -> None:
        """Close the account of one that exists to log-ins, or open it again."""
        if self.daemon is None:
            self._store.set_disabled(user_name(address, self.domain), disabled)
        else:
            self.daemon.put(f"users/{segment(address)}", disabled=str(disabled).lower())

    def delete(self, address: str) -> bool:
        """Whether there was such a user."""
        if self.daemon is None:
            return self._store.delete(user_name(address, self.domain))
        if not self.exists(address):
            return False
        self.daemon.delete(f"users/{segment(address)}")
        return True

    def list(self) -> list[dict[str, Any]]:
        """All of them."""
        if self.daemon is not None:
            return self.daemon.all("users", "users", "user")
        return [
            {
                "userJid": f"{user.name}@{self.domain}",
                "created": user.created,
                "disabled": user.disabled,
            }
            for user in self._store.users()
        ]


@click.group()
def user() -> None:
    """The users in a Callbridge's local store."""


@user.command("add")
@click.argument("address")
@PASSWORD_STDIN
@JSON
@CONFIG
def add(address: str, password_stdin: bool, as_json: bool, config_file: Path | None) -> None:
    """
    Add the user ADDRESS, or change the password of one that exists.

    ADDRESS is alice@meet.example.com, or alice alone.  The password is asked for,
    unless it comes from standard input; only SCRAM keys made of it are stored.
    """
    users = Users.open(config_file)
    address = users.address(address)
    new = not users.exists(address)
    users.add(address, read_secret("Password", from_stdin=password_stdin))
    if as_json:
        print_json({"userJid": address, "new": new})
    else:
        click.echo(f"{address} {'added' if new else 'has a new password'}")
    users.said("added" if new else "changed")


@user.command("passwd")
@click.argument("address")
@PASSWORD_STDIN
@JSON
@CONFIG
def passwd(address: str, password_stdin: bool, as_json: bool, config_file: Path | None) -> None:
    """Change the password of the user ADDRESS."""
    users = Users.open(config_file)
    address = users.address(address)
    if not users.exists(address):
        raise _unknown(address)
    users.add(address, read_secret("New password", from_stdin=password_stdin))
    if as_json:
        print_json({"userJid": address, "new": False})
    else:
        click.echo(f"{address} has a new password")
    users.said("changed")


@user.command("enable")
@click.argument("address")
@JSON
@CONFIG
def enable(address: str, as_json: bool, config_file: Path | None) -> None:
    """Let the user ADDRESS, who was disabled, log in again."""
    _set_disabled(address, False, as_json, config_file)


@user.command("disable")
@click.argument("address")
@JSON
@CONFIG
def disable(address: str, as_json: bool, config_file: Path | None) -> None:
    """Let the user ADDRESS log in no more; password, and sessions that are there, stay."""
    _set_disabled(address, True, as_json, config_file)


def _set_disabled(address: str, disabled: bool, as_json: bool, config_file: Path | None) -> None:
    users = Users.open(config_file)
    address = users.address(address)
    if not users.exists(address):
        raise _unknown(address)
    users.set_disabled(address, disabled)
    word = "disabled" if disabled else "enabled"
    if as_json:
        print_json({"userJid": address, "disabled": disabled})
    else:
        click.echo(f"{address} {word}")
    users.said(word)


@user.command("list")
@JSON
@CONFIG
def list_(as_json: bool, config_file: Path | None) -> None:
    """List the users."""
    users = Users.open(config_file)
    found = users.list()
    if as_json:
        print_json(found)
    else:
        for facts in found:
            state = "  disabled" if facts.get("disabled") else ""
            click.echo(f"{facts['userJid']}  since {facts.get('created')}{state}")
    users.said("listed")


@user.command("del")
@click.argument("address")
@JSON
@CONFIG
def delete(address: str, as_json: bool, config_file: Path | None) -> None:
    """Delete the user ADDRESS; sessions that are logged in stay."""
    users = Users.open(config_file)
    address = users.address(address)
    if not users.delete(address):
        raise _unknown(address)
    if as_json:
        print_json({"userJid": address, "deleted": True})
    else:
        click.echo(f"{address} deleted")
    users.said("deleted")


def _unknown(address: str) -> Wrong:
    return Wrong(f"there is no user {address}. Cure: cms callbridge user list shows who there is.")
