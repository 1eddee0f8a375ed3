"""C{cms callbridge space}: the spaces of a Callbridge, and their members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from attrs import define

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.settings import current_config
from cms.callbridge.spaces.administration import (
    member_facts,
    permissions_of,
    space_facts,
    space_values,
)
from cms.callbridge.spaces.model import (
    PERMISSIONS,
    USUAL_PERMISSIONS,
    member_address,
)
from cms.callbridge.spaces.store import SpaceStore
from cms.commands.common import (
    JSON,
    Wrong,
    check_owner,
    note,
    print_json,
    print_rows,
    read_secret,
    where_text,
)
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.control.daemon import Daemon, segment

CONFIG = config_option(CALLBRIDGE)
URI = click.option("--uri", metavar="URI", help="The part in front of the @ of its address.")
CALL_ID = click.option("--call-id", metavar="DIGITS", help="Its call ID.")
PASSCODE = click.option(
    "--passcode",
    metavar="DIGITS",
    help="What people who are not members must know; empty: nothing.",
)
PASSCODE_STDIN = click.option(
    "--passcode-stdin", is_flag=True, help="Read the passcode from standard input."
)
OPEN = click.option(
    "--open/--members-only", "open_", default=None, help="Whether others than members may enter."
)
MAY = click.option(
    *("--may", "may"),
    metavar="PERMISSION",
    multiple=True,
    type=click.Choice(PERMISSIONS, case_sensitive=False),
    help="What the member may; can be given several times.",
)
MAY_NOT = click.option(
    *("--may-not", "may_not"),
    metavar="PERMISSION",
    multiple=True,
    type=click.Choice(PERMISSIONS, case_sensitive=False),
    help="What the member may not.",
)
Form = dict[str, str]


@define
class SpaceCommands:
    """
    The spaces of one Callbridge, by the running daemon or in its store.

    Forms have the parameters of the API; a space is named by id, URI or call ID.
    """

    config: CallbridgeConfig
    daemon: Daemon | None

    @classmethod
    def open(cls, config_file: Path | None) -> SpaceCommands:
        """The configuration, and the daemon if it runs."""
        config = current_config(find_config(config_file, CALLBRIDGE))
        return cls(config, Daemon.find(config.state_dir))

    def said(self, done: str) -> None:
        """Print where it was done."""
        note(f"{done} {where_text('Callbridge', self.daemon, self.config.state_dir)}")

    @property
    def _store(self) -> SpaceStore:
        check_owner(self.config.state_dir)
        return SpaceStore(self.config.state_dir)

    def add(self, form: Form) -> dict[str, Any]:
        """The new space."""
        if self.daemon is None:
            added = self._store.add(**space_values(form))
            return self.show(added.id)
        made: dict[str, Any] = self.daemon.post("coSpaces", **form)["coSpace"]
        return made

    def all(self) -> list[dict[str, Any]]:
        """All of them, without passcodes and secrets."""
        if self.daemon is not None:
            return self.daemon.all("coSpaces", "coSpaces", "coSpace")
        spaces, _ = self._store.spaces()
        component = self.config.link.component
        return [{"id": space.id, **space_facts(space, component)} for space in spaces]

    def show(self, key: str) -> dict[str, Any]:
        """One, with passcode and secret."""
        if self.daemon is not None:
            found: dict[str, Any] = self.daemon.get(f"coSpaces/{segment(key)}")["coSpace"]
            return found
        space = self._store.space(key)
        secrets = {"secret": space.secret}
        if space.passcode:
            secrets["passcode"] = space.passcode
        return {"id": space.id, **space_facts(space, self.config.link.component), **secrets}

    def change(self, key: str, form: Form) -> None:
        """Set what is given."""
        if self.daemon is None:
            self._store.change(key, **space_values(form))
        else:
            self.daemon.put(f"coSpaces/{segment(key)}", **form)

    def delete(self, key: str) -> None:
        """Delete one."""
        if self.daemon is None:
            self._store.delete(key)
        else:
            self.daemon.delete(f"coSpaces/{segment(key)}")

    # members

    def address(self, text: str) -> str:
        """A member's address, prepared."""
        return member_address(text, self.config.link.domain)

    def members(self, key: str) -> list[dict[str, Any]]:
        """Those of a space."""
        if self.daemon is not None:
            path = f"coSpaces/{segment(key)}/coSpaceUsers"
            return self.daemon.all(path, "coSpaceUsers", "coSpaceUser")
        found, _ = self._store.members(key)
        return [{"id": member.id, **member_facts(member)} for member in found]

    def set_member(self, key: str, address: str, form: Form) -> bool:
        """Make somebody a member, or change what one may; whether it is new."""
        new = all(facts["userJid"] != address for facts in self.members(key))
        if self.daemon is not None:
            path = f"coSpaces/{segment(key)}/coSpaceUsers"
            if new:
                self.daemon.post(path, userJid=address, **form)
            elif form:
                self.daemon.put(f"{path}/{segment(address)}", **form)
        elif new:
            self._store.add_member(key, address, permissions_of(form, USUAL_PERMISSIONS))
        elif form:
            before = self._store.member(key, address).permissions
            self._store.change_member(key, address, permissions_of(form, before))
        return new

    def delete_member(self, key: str, address: str) -> None:
        """It is a member no more."""
        if self.daemon is None:
            self._store.delete_member(key, address)
        else:
            self.daemon.delete(f"coSpaces/{segment(key)}/coSpaceUsers/{segment(address)}")


@click.group()
def space() -> None:
    """
    The spaces of a Callbridge, where meetings are.

    SPACE is a space's id, URI or call ID.
    """


def _form(**given: str | bool | None) -> Form:
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
        if value is not None
    }


def _passcode(passcode: str | None, from_stdin: bool) -> str | None:
    return read_secret("Passcode", from_stdin=True) if from_stdin else passcode


@space.command("add")
@click.argument("name")
@URI
@CALL_ID
@PASSCODE
@PASSCODE_STDIN
@OPEN
@JSON
@CONFIG
def add(
    *,
    name: str,
    uri: str | None,
    call_id: str | None,
    passcode: str | None,
    passcode_stdin: bool,
    open_: bool | None,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Make the space NAME.

    Without a call ID one of nine digits is made; without a URI the call ID is that as
    well.  A passcode on the command line can be seen by who else is logged in there.
    """
    spaces = SpaceCommands.open(config_file)
    form = _form(name=name, uri=uri, callId=call_id, nonMemberAccess=open_)
    code = _passcode(passcode, passcode_stdin)
    _print_space(spaces.add(form | _form(passcode=code)), as_json)
    spaces.said("added")


@space.command("list")
@JSON
@CONFIG
def list_(as_json: bool, config_file: Path | None) -> None:
    """List the spaces, without passcodes and secrets."""
    spaces = SpaceCommands.open(config_file)
    found = spaces.all()
    if as_json:
        print_json(found)
    else:
        for facts in found:
            state = "open" if facts["nonMemberAccess"] else "members only"
            if facts["nonMemberAccess"] and facts.get("passcodeNeeded"):
                state = "with passcode"
            click.echo(f"{facts['callId']}  {facts['address']}  {state}  {facts['name']}")
    spaces.said("listed")


@space.command("show")
@click.argument("space", metavar="SPACE")
@JSON
@CONFIG
def show(space: str, as_json: bool, config_file: Path | None) -> None:
    """Show SPACE with its members, its passcode and the secret of its link."""
    spaces = SpaceCommands.open(config_file)
    found = spaces.show(space)
    members = spaces.members(space)
    if as_json:
        print_json({**found, "coSpaceUsers": members})
    else:
        _print_space(found, False)
        for facts in members:
            click.echo(f"  {_member_line(facts)}")
    spaces.said("shown")


@space.command("set")
@click.argument("space", metavar="SPACE")
@click.option("--name", metavar="NAME", help="What people call it.")
@URI
@CALL_ID
@PASSCODE
@PASSCODE_STDIN
@OPEN
@click.option("--new-secret", is_flag=True, help="Make another secret: old links end.")
@JSON
@CONFIG
def set_(
    *,
    space: str,
    name: str | None,
    uri: str | None,
    call_id: str | None,
    passcode: str | None,
    passcode_stdin: bool,
    open_: bool | None,
    new_secret: bool,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """Change SPACE; what is left out stays as it is."""
    spaces = SpaceCommands.open(config_file)
    form = _form(
        name=name,
        uri=uri,
        callId=call_id,
        passcode=_passcode(passcode, passcode_stdin),
        nonMemberAccess=open_,
        regenerateSecret=True if new_secret else None,
    )
    if not form:
        raise click.UsageError("nothing to change is given")
    id_ = spaces.show(space)["id"]
    spaces.change(id_, form)
    _print_space(spaces.show(id_), as_json)
    spaces.said("changed")


@space.command("del")
@click.argument("space", metavar="SPACE")
@JSON
@CONFIG
def delete(space: str, as_json: bool, config_file: Path | None) -> None:
    """Delete SPACE; who is in it is sent away."""
    spaces = SpaceCommands.open(config_file)
    found = spaces.show(space)
    spaces.delete(found["id"])
    if as_json:
        print_json({"id": found["id"], "deleted": True})
    else:
        click.echo(f"{found['name']} deleted")
    spaces.said("deleted")


@space.group("member")
def member() -> None:
    """Who belongs to a space: members need no passcode."""


@member.command("list")
@click.argument("space", metavar="SPACE")
@JSON
@CONFIG
def list_members(space: str, as_json: bool, config_file: Path | None) -> None:
    """List the members of SPACE."""
    spaces = SpaceCommands.open(config_file)
    found = spaces.members(space)
    if as_json:
        print_json(found)
    else:
        for facts in found:
            click.echo(_member_line(facts))
    spaces.said("listed")


@member.command("set")
@click.argument("space", metavar="SPACE")
@click.argument("address")
@MAY
@MAY_NOT
@JSON
@CONFIG
def set_member(
    *,
    space: str,
    address: str,
    may: tuple[str, ...],
    may_not: tuple[str, ...],
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Make ADDRESS a member of SPACE, or change what it may.

    A new member may write (canPostMessage) and leave (canRemoveSelf); one with
    canAddRemoveMember or canDestroy is a moderator of the room.
    """
    spaces = SpaceCommands.open(config_file)
    address = spaces.address(address)
    form = dict.fromkeys(may, "true") | dict.fromkeys(may_not, "false")
    new = spaces.set_member(space, address, form)
    (found,) = [facts for facts in spaces.members(space) if facts["userJid"] == address]
    if as_json:
        print_json({**found, "new": new})
    else:
        click.echo(_member_line(found))
    spaces.said("added" if new else "changed")


@member.command("del")
@click.argument("space", metavar="SPACE")
@click.argument("address")
@JSON
@CONFIG
def delete_member(space: str, address: str, as_json: bool, config_file: Path | None) -> None:
    """Let ADDRESS be a member of SPACE no more."""
    spaces = SpaceCommands.open(config_file)
    address = spaces.address(address)
    if all(facts["userJid"] != address for facts in spaces.members(space)):
        raise Wrong(f"{address} is no member. Cure: cms callbridge space member list shows them.")
    spaces.delete_member(space, address)
    if as_json:
        print_json({"userJid": address, "deleted": True})
    else:
        click.echo(f"{address} is a member no more")
    spaces.said("deleted")


_ROWS = {
    "name": "Name",
    "address": "Address",
    "uri": "URI",
    "callId": "Call ID",
    "passcode": "Passcode",
    "secret": "Secret of its link",
    "nonMemberAccess": "Others than members enter",
    "numOccupants": "In it now",
    "numAccessMethods": "Further ways in",
    "created": "Since",
    "id": "Id",
}


def _print_space(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        shown = {"passcode": "none", **facts}
        print_rows((label, shown[key]) for key, label in _ROWS.items() if key in shown)


def _member_line(facts: dict[str, Any]) -> str:
    may = [name for name in PERMISSIONS if facts.get(name)]
    return f"{facts['userJid']}  {' '.join(may) or 'may nothing'}"
