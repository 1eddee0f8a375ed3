"""C{cms xmpp callbridge}: the Callbridges that may register with an XMPP server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import click
from attrs import define

from cms.commands.common import (
    JSON,
    Complaint,
    as_facts,
    check_owner,
    in_the_way,
    note,
    print_blocks,
    print_json,
    print_rows,
    read_secret,
    when,
    where_text,
)
from cms.commands.configfile import XMPP, config_option
from cms.commands.instances import INSTANCE, server_config
from cms.configuration.tomlfile import Secret
from cms.control.daemon import Daemon, segment
from cms.state.atomicfile import replace_file
from cms.xmpp.callbridges import USUAL_OVERLAP, Callbridges, KnownCallbridge
from cms.xmpp.callbridgestore import MOST_OVERLAP, check_secret, new_secret
from cms.xmpp.config import XmppConfig
from cms.xmpp.registry import NAME_CURE, component_address, component_name

CONFIG = config_option(XMPP)
SECRET_STDIN = click.option(
    "--secret-stdin", is_flag=True, help="Read the secret from standard input."
)
SECRET_FILE = click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the secret to FILE, for its owner alone, instead of printing it.",
)


class Administration(Protocol):
    """What can be done, by a running server or on its state directory."""

    def add(self, name: str, secret: Secret) -> None:
        """Add a Callbridge."""

    def delete(self, name: str) -> None:
        """Delete one."""

    def rotate(self, name: str, secret: Secret, overlap: float) -> None:
        """Replace its secret."""

    def list(self) -> list[dict[str, Any]]:
        """All of them."""


@define
class Stopped:
    """On the state directory."""

    known: Callbridges

    def add(self, name: str, secret: Secret) -> None:
        """Add a Callbridge."""
        self.known.add(name, secret)

    def delete(self, name: str) -> None:
        """Delete one."""
        self.known.delete(name)

    def rotate(self, name: str, secret: Secret, overlap: float) -> None:
        """Replace its secret."""
        self.known.rotate(name, overlap, secret)

    def list(self) -> list[dict[str, Any]]:
        """All of them."""
        return [_facts(callbridge) for callbridge in self.known.known()]


@define
class Running:
    """By the server that runs."""

    daemon: Daemon

    def add(self, name: str, secret: Secret) -> None:
        """Add a Callbridge."""
        self.daemon.post("callBridges", name=name, secret=secret.value)

    def delete(self, name: str) -> None:
        """Delete one."""
        self.daemon.delete(f"callBridges/{segment(name)}")

    def rotate(self, name: str, secret: Secret, overlap: float) -> None:
        """Replace its secret."""
        self.daemon.put(
            f"callBridges/{segment(name)}", secret=secret.value, overlapSeconds=round(overlap)
        )

    def list(self) -> list[dict[str, Any]]:
        """All of them, with their links."""
        return self.daemon.all("callBridges", "callBridges", "callBridge")


@define
class Where:
    """Where a command works."""

    config: XmppConfig
    daemon: Daemon | None

    @classmethod
    def open(cls, config_file: Path | None) -> Where:
        """The configuration, and the server if it runs."""
        config = server_config(config_file)
        return cls(config, Daemon.find(config.state_dir))

    @property
    def known(self) -> Callbridges:
        """The Callbridges as the files have them."""
        check_owner(self.config.state_dir)
        return Callbridges(self.config, time.time)

    @property
    def administration(self) -> Administration:
        """Who does it."""
        return Running(self.daemon) if self.daemon else Stopped(self.known)

    def name(self, text: str) -> str:
        """
        The name in its usual form.

        @raise Complaint: it makes no component address.
        """
        domain = self.config.domain
        try:
            return component_name(component_address(text, domain), domain)
        except ValueError as problem:
            raise Complaint(f"{problem}. Cure: {NAME_CURE}") from None

    def note_outside(self, name: str) -> None:
        """What has an address of another domain is no Callbridge of this one."""
        if "." in name:
            note(
                f"{name} is not within {self.config.domain}, so it will not be asked to decide"
                " log-ins; a Callbridge is added by its name alone, such as cb1"
            )

    def said(self, done: str) -> None:
        """Say where it was done."""
        note(f"{done} {where_text('XMPP server', self.daemon, self.config.state_dir)}")
        if self.config.cluster is None:
            return
        if self.daemon is None or not self.daemon.status()["cluster"]["callBridgesAgreed"]:
            note("the other servers follow when this one is in the cluster")


@click.group()
def callbridge() -> None:
    """
    The Callbridges that may register.

    Those of [callbridges] in xmpp.toml are listed with them, and changed only there.
    """


@callbridge.command("add")
@click.argument("name")
@SECRET_FILE
@JSON
@INSTANCE
@CONFIG
def add(name: str, secret_file: Path | None, as_json: bool, config_file: Path | None) -> None:
    """
    Add the Callbridge NAME, and print the secret made for it.

    NAME has no domain part (cb1), or is the whole address of another component.
    The secret goes into shared_secret or shared_secret_file of that Callbridge.
    """
    where, secret = Where.open(config_file), new_secret()
    name = where.name(name)
    if secret_file is not None and secret_file.exists():
        raise in_the_way(secret_file)
    where.administration.add(name, secret)
    where.said("added")
    where.note_outside(name)
    _print(where, name, secret, as_json, secret_file)


@callbridge.command("add-secret")
@click.argument("name")
@SECRET_STDIN
@JSON
@INSTANCE
@CONFIG
def add_secret(name: str, secret_stdin: bool, as_json: bool, config_file: Path | None) -> None:
    """
    Add the Callbridge NAME with a secret that exists already.

    It is asked for, unless it comes from standard input: the secret that another
    XMPP server of this domain has for it, for instance.
    """
    where = Where.open(config_file)
    name = where.name(name)
    secret = check_secret(read_secret("Enter callbridge secret", from_stdin=secret_stdin))
    where.administration.add(name, secret)
    _print(where, name, None, as_json)
    where.said("added")
    where.note_outside(name)


@callbridge.command("list")
@click.option("--show-secrets", is_flag=True, help="Print the secrets too, in clear.")
@JSON
@INSTANCE
@CONFIG
def list_(show_secrets: bool, as_json: bool, config_file: Path | None) -> None:
    """List the Callbridges, with their links while the server runs."""
    where = Where.open(config_file)
    found = where.administration.list()
    if show_secrets:
        _add_secrets(found, where.known)
    if as_json:
        print_json(found)
    else:
        print_blocks(_rows(facts, where) for facts in found)
    where.said("listed")


@callbridge.command("del")
@click.argument("name")
@JSON
@INSTANCE
@CONFIG
def delete(name: str, as_json: bool, config_file: Path | None) -> None:
    """Delete the Callbridge NAME; its link is ended."""
    where = Where.open(config_file)
    name = where.name(name)
    where.administration.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        click.echo(f"{name} deleted")
    where.said("deleted")


@callbridge.command("rotate")
@click.argument("name")
@click.option(
    "--overlap",
    type=click.IntRange(0, int(MOST_OVERLAP)),
    default=int(USUAL_OVERLAP),
    show_default=True,
    metavar="SECONDS",
    help="How long the old secret is accepted beside the new one.",
)
@SECRET_STDIN
@SECRET_FILE
@JSON
@INSTANCE
@CONFIG
def rotate(
    *,
    name: str,
    overlap: int,
    secret_stdin: bool,
    secret_file: Path | None,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Make a new secret for the Callbridge NAME, and print it.

    The old one is accepted too until the overlap is over: give the new one to
    the Callbridge before that, with cms callbridge secret.  A link that registered
    with the old secret ends then.
    """
    where = Where.open(config_file)
    name = where.name(name)
    made = None if secret_stdin else new_secret()
    secret = made or check_secret(read_secret("", from_stdin=True))
    where.administration.rotate(name, secret, overlap)
    where.said(f"rotated, with the old secret accepted for {overlap} s,")
    _print(where, name, made, as_json, secret_file)


def _print(
    where: Where, name: str, secret: Secret | None, as_json: bool, file: Path | None = None
) -> None:
    """
    A Callbridge, and the secret that was made for it.

    @param file: Where the secret goes; when it cannot be written it is printed,
        because nobody could ask for it again.
    """
    rows: list[tuple[str, object]] = [("Callbridge", name), ("Domain", where.config.domain)]
    if secret is not None:
        try:
            if file is not None:
                replace_file(file, f"{secret.value}\n".encode())
                rows.append(("Secret file", file))
        except OSError as problem:
            note(f"{file} cannot be written ({problem.strerror}), so the secret follows")
            file = None
        if file is None:
            rows.append(("Secret", secret.value))
    if as_json:
        print_json(as_facts(rows))
    else:
        print_rows(rows)


def _facts(callbridge: KnownCallbridge) -> dict[str, Any]:
    """In the manner of the API."""
    return {
        "name": callbridge.name,
        "component": callbridge.address,
        "source": callbridge.source,
        "created": when(callbridge.created),
        "secrets": len(callbridge.secrets),
    }


def _add_secrets(found: list[dict[str, Any]], known: Callbridges) -> None:
    values = {c.address: [s.secret.value for s in c.secrets] for c in known.known()}
    for facts in found:
        facts["secretValues"] = values.get(facts["component"], [])


def _rows(facts: dict[str, Any], where: Where) -> list[tuple[str, object]]:
    """A Callbridge as the original shows it, and what its link does."""
    shown = facts.get("secretValues", ["hidden; --show-secrets shows it"])
    rows = [("Callbridge", facts["name"]), ("Domain", where.config.domain)]
    rows += [("Secret", value) for value in shown]
    if facts["source"] == "file":
        rows.append(("Added", f"in {where.config.file}"))
    elif facts.get("created"):
        rows.append(("Added", facts["created"]))
    if facts.get("secrets", 1) > 1:
        rows.append(("Rotation", f"{facts['secrets']} secrets are accepted"))
    if facts.get("state"):
        rows.append(("Link", facts["state"]))
    if facts.get("problem"):
        rows.append(("Problem", facts["problem"]))
    if facts.get("address"):
        rows += [("Peer", facts["address"]), ("Since", facts.get("since", "?"))]
    return rows
