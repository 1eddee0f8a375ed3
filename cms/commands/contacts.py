"""C{cms xmpp contacts}: what an XMPP server keeps of its users' contacts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from attrs import define

from cms.commands.common import JSON, Wrong, check_owner, note, print_json, where_text
from cms.commands.configfile import XMPP, config_option
from cms.commands.instances import INSTANCE, server_config
from cms.control.daemon import Daemon
from cms.signalflow import counted, printable
from cms.xmpp.config import XmppConfig
from cms.xmpp.contacts.administration import StoredContacts, user_of
from cms.xmpp.contacts.store import FILE_NAME, ContactStore

CONFIG = config_option(XMPP)
_WORDS = {
    "byDirectory": "by the directory",
    "asked": "asked",
    "asks": "asks to see",
    "blocked": "blocked",
}


@define
class UserContacts:
    """
    The contacts of one user, by the running server or in its file.

    @ivar jid: His address.
    """

    config: XmppConfig
    daemon: Daemon | None
    jid: str

    @classmethod
    def open(cls, address: str, config_file: Path | None) -> UserContacts:
        """
        @raise Wrong: it is no user's address.
        """
        config = server_config(config_file)
        try:
            name = user_of(address, config.domain)
        except ValueError as problem:
            cure = f"Give alice, or alice@{config.domain}."
            raise Wrong(f"{printable(address)}: {problem}. Cure: {cure}") from None
        return cls(config, Daemon.find(config.state_dir), f"{name}@{config.domain}")

    @property
    def _name(self) -> str:
        return self.jid.rpartition("@")[0]

    @property
    def _stored(self) -> StoredContacts | None:
        """What is in the file; C{None}: there is none yet."""
        check_owner(self.config.state_dir)
        if not (self.config.state_dir / FILE_NAME).exists():
            return None
        cluster = self.config.cluster
        maker = "" if cluster is None else cluster.node or self.config.hostname
        store = ContactStore(self.config.state_dir, time.time, maker)
        return StoredContacts(store, self.config.domain)

    def list(self) -> list[dict[str, Any]]:
        """All that he has of others."""
        if self.daemon is not None:
            return self.daemon.all("contacts", "contacts", "contact", jid=self.jid)
        stored = self._stored
        return [] if stored is None else stored.listed(self._name)

    def forget(self) -> int:
        """Forget it; how many entries there were."""
        if self.daemon is not None:
            answer = self.daemon.delete("contacts", jid=self.jid)
            return int(answer["contacts"]["forgotten"])
        stored = self._stored
        return 0 if stored is None else stored.forget(self._name, self.config.contacts)

    def said(self, done: str) -> None:
        """Say where it was done."""
        note(f"{done} {where_text('XMPP server', self.daemon, self.config.state_dir)}")


@click.group()
def contacts() -> None:
    """
    The users' contacts, which the XMPP server keeps.

    An ADDRESS is alice, or alice@meet.example.com.
    """


@contacts.command("show")
@click.argument("address")
@JSON
@INSTANCE
@CONFIG
def show(address: str, as_json: bool, config_file: Path | None) -> None:
    """Show the contacts of ADDRESS, requests in both directions, and who is blocked."""
    user = UserContacts.open(address, config_file)
    found = user.list()
    if as_json:
        print_json(found)
    else:
        for facts in found:
            click.echo(printable(_line(facts)))
    user.said(f"{len(found)} of {printable(user.jid)} shown")


def _line(facts: dict[str, Any]) -> str:
    parts = [facts["jid"], facts.get("subscription", "none")]
    if facts.get("name"):
        parts.insert(1, f'"{facts["name"]}"')
    if facts.get("groups"):
        parts.append(f"in {', '.join(facts['groups'])}")
    for key, text in _WORDS.items():
        if facts.get(key):
            parts.append(text)
    return "  ".join(parts)


@contacts.command("forget")
@click.argument("address")
@JSON
@INSTANCE
@CONFIG
def forget(address: str, as_json: bool, config_file: Path | None) -> None:
    """
    Forget the contacts of ADDRESS, who is nobody any more.

    Who gets the name next has no contacts then, and sees and is seen by nobody.
    Others keep the entry on their lists, without its subscription.  What a group of a
    directory gives stays.  In a cluster all servers forget.  Nothing brings it back
    but a backup.
    """
    user = UserContacts.open(address, config_file)
    number = user.forget()
    if as_json:
        print_json({"jid": user.jid, "forgotten": number})
    else:
        click.echo(f"{counted(number, 'entry', 'entries')} of {user.jid} forgotten")
    user.said("forgotten")
