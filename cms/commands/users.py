"""C{cms callbridge user}: the users of a Callbridge's local store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from attrs import define

from cms import faults
from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories.store import UserStore, user_name
from cms.callbridge.settings import current_config
from cms.commands.common import JSON, Wrong, check_owner, note, print_json, read_secret, where_text
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.commands.namesakes import elsewhere, tell_namesakes
from cms.commands.userfiles import export, import_
from cms.control.daemon import Daemon, segment
from cms.signalflow import counted, printable

Facts = dict[str, Any]
_NO_DAEMON = "no Callbridge runs on this state directory"
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

    def add(self, address: str, password: str, shown: str | None = None) -> None:
        """Add one; C{shown} is the name for people."""
        if self.daemon is not None:
            more = {} if shown is None else {"displayName": shown}
            self.daemon.post("users", userJid=address, password=password, **more)
            return
        self._store.set_password(user_name(address, self.domain), password)
        if shown is not None:
            self.name(address, shown)

    def name(self, address: str, shown: str) -> None:
        """Give one a name for people; empty: none."""
        if self.daemon is None:
            self._store.set_shown(user_name(address, self.domain), shown)
        else:
            self.daemon.put(f"users/{segment(address)}", displayName=shown)

    def set_password(self, address: str, password: str) -> Facts:
        """
        Set the password of one.

        @return: C{sessionsEnded}, and C{problem} if some may have not.
        """
        if self.daemon is None:
            self._store.set_password(user_name(address, self.domain), password)
            return self._later(address)
        return _ended(self.daemon.put(f"users/{segment(address)}", password=password))

    def enable(self, address: str) -> None:
        """Open the account of one that exists to log-ins again."""
        if self.daemon is None:
            self._store.set_disabled(user_name(address, self.domain), False)
        else:
            self.daemon.put(f"users/{segment(address)}", disabled="false")

    def disable(self, address: str) -> Facts:
        """Close it; see L{set_password}."""
        if self.daemon is None:
            self._store.set_disabled(user_name(address, self.domain), True)
            return self._later(address)
        return _ended(self.daemon.put(f"users/{segment(address)}", disabled="true"))

    def delete(self, address: str) -> Facts:
        """
        End it; see L{set_password}.

        @return: C{contactsForgotten} and C{contactsProblem} too, likewise of his contacts.
        """
        if self.daemon is None:
            self._store.delete(user_name(address, self.domain))
            fault = faults.CONTACTS_LATER.error(jid=address, problem=_NO_DAEMON)
            return {**self._later(address), "contactsProblem": fault.as_dict()}
        answer = self.daemon.delete(f"users/{segment(address)}")
        facts = answer.get("user", {}) if isinstance(answer, dict) else {}
        kept = {k: facts.get(k) for k in ("contactsForgotten", "contactsProblem")}
        return {**_ended(answer), **kept}

    @staticmethod
    def _later(address: str) -> Facts:
        fault = faults.SESSIONS_LATER.error(jid=address, problem=_NO_DAEMON)
        return {"sessionsEnded": 0, "problem": fault.as_dict()}

    def list(self) -> list[dict[str, Any]]:
        """All of them."""
        if self.daemon is not None:
            return self.daemon.all("users", "users", "user")
        return [
            {
                "userJid": f"{user.name}@{self.domain}",
                "created": user.created,
                "disabled": user.disabled,
                "displayName": user.shown,
            }
            for user in self._store.users()
        ]


@click.group()
def user() -> None:
    """The users in a Callbridge's local store."""


user.add_command(export)
user.add_command(import_)


@user.command("add")
@click.argument("address")
@click.option("--name", "shown", help="The name for people, which contacts are shown.")
@PASSWORD_STDIN
@JSON
@CONFIG
def add(
    address: str,
    shown: str | None,
    password_stdin: bool,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Add the user ADDRESS, or change the password of one that exists.

    ADDRESS is alice@meet.example.com, or alice alone.  The password is asked for,
    unless it comes from standard input; only SCRAM keys made of it are stored.
    """
    users = Users.open(config_file)
    address = users.address(address)
    if users.exists(address):
        if shown is not None:
            users.name(address, shown)
        _set_password(users, address, "Password", password_stdin, as_json)
        return
    users.add(address, read_secret("Password", from_stdin=password_stdin), shown)
    if as_json:
        print_json({"userJid": address, "new": True})
    else:
        click.echo(f"{address} added")
    tell_namesakes(users.config, [user_name(address, users.domain)])
    users.said("added")


def _set_password(users: Users, address: str, prompt: str, from_stdin: bool, as_json: bool) -> None:
    ended = users.set_password(address, read_secret(prompt, from_stdin=from_stdin))
    _tell(users, address, "has a new password", {"new": False, **ended}, as_json)
    users.said("changed")


def _tell(users: Users, address: str, what: str, facts: Facts, as_json: bool) -> None:
    """What was done to a user, and what became of his sessions."""
    if as_json:
        print_json({"userJid": address, **facts})
        return
    number, problem = facts["sessionsEnded"], facts.get("problem")
    ended = f", {counted(number, 'session')} ended" if problem is None else ""
    forgotten = facts.get("contactsForgotten")
    if forgotten is not None:
        ended += f", {counted(forgotten, 'contact')} forgotten"
    click.echo(f"{address} {what}{ended}")
    for told in (problem, facts.get("contactsProblem")):
        if told is not None:
            note(f"{told['cause']} Cure: {told['cure']}")


def _ended(answer: Any) -> Facts:
    facts = answer.get("user", {}) if isinstance(answer, dict) else {}
    return {"sessionsEnded": facts.get("sessionsEnded", 0), "problem": facts.get("problem")}


@user.command("passwd")
@click.argument("address")
@PASSWORD_STDIN
@JSON
@CONFIG
def passwd(address: str, password_stdin: bool, as_json: bool, config_file: Path | None) -> None:
    """Change the password of the user ADDRESS, whose sessions end."""
    users, address = _known(address, config_file)
    _set_password(users, address, "New password", password_stdin, as_json)


@user.command("name")
@click.argument("address")
@click.argument("name", required=False, default="")
@JSON
@CONFIG
def name_(address: str, name: str, as_json: bool, config_file: Path | None) -> None:
    """
    Give the user ADDRESS a NAME for people, which contacts are shown.

    Without NAME he has none.  The XMPP server shows another name within five minutes.
    """
    users, address = _known(address, config_file)
    users.name(address, name)
    if as_json:
        print_json({"userJid": address, "displayName": name})
    else:
        click.echo(f"{address} is called {name}" if name else f"{address} has no name for people")
    users.said("named")


@user.command("enable")
@click.argument("address")
@JSON
@CONFIG
def enable(address: str, as_json: bool, config_file: Path | None) -> None:
    """Let the user ADDRESS, who was disabled, log in again."""
    users, address = _known(address, config_file)
    users.enable(address)
    if as_json:
        print_json({"userJid": address, "disabled": False})
    else:
        click.echo(f"{address} enabled")
    users.said("enabled")


@user.command("disable")
@click.argument("address")
@JSON
@CONFIG
def disable(address: str, as_json: bool, config_file: Path | None) -> None:
    """
    Let the user ADDRESS log in no more, and end the sessions that are there.

    The password stays.  Without a link the sessions end when it is back.
    """
    users, address = _known(address, config_file)
    _tell(users, address, "disabled", {"disabled": True, **users.disable(address)}, as_json)
    users.said("disabled")


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
            shown = f'  "{facts["displayName"]}"' if facts.get("displayName") else ""
            since = facts.get("created")
            click.echo(printable(f"{facts['userJid']}{shown}  since {since}{state}"))
    users.said("listed")


@user.command("del")
@click.argument("address")
@JSON
@CONFIG
def delete(address: str, as_json: bool, config_file: Path | None) -> None:
    """
    Delete the user ADDRESS, end the sessions that are there, and forget the contacts.

    The XMPP server keeps the contacts, and is told to forget them; without a link
    when it is back.  Otherwise who gets the name next would have them.
    """
    users, address = _known(address, config_file)
    _tell(users, address, "deleted", {"deleted": True, **users.delete(address)}, as_json)
    users.said("deleted")


def _nobody(users: Users, address: str) -> str:
    """That no local user has an address; another directory may have one."""
    for directory in elsewhere(users.config.state_dir, [user_name(address, users.domain)]):
        sync = f"cms callbridge directory sync {directory}"
        return (
            f"{address} is no local user, and one of the directory {directory}. Cure: change him"
            f" there; then {sync} ends the sessions of who is disabled or gone."
        )
    return f"there is no user {address}. Cure: cms callbridge user list shows who there is."


def _known(address: str, config_file: Path | None) -> tuple[Users, str]:
    """The users, and the address of one of them."""
    users = Users.open(config_file)
    address = users.address(address)
    if not users.exists(address):
        raise Wrong(_nobody(users, address))
    return users, address
