"""C{cms callbridge reconnect} and C{secret}: the link of a Callbridge, at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from cms.callbridge.config import CallbridgeConfig, read_config
from cms.callbridge.settings import StoredSettings
from cms.commands.common import (
    JSON,
    Complaint,
    Wrong,
    check_owner,
    note,
    print_json,
    print_rows,
    read_secret,
    running,
    where_text,
)
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.commands.daemonstate import link_rows
from cms.control.daemon import Daemon
from cms.state import textencoding
from cms.state.folder import explain_os

CONFIG = config_option(CALLBRIDGE)
SETTINGS = "system/configuration/xmpp"
SHARED_SECRET = "sharedSecret"  # noqa: S105 - the name of a setting
_EVERY = 0.1  # seconds between two looks at the link
_UP, _RESTS = "active", ("waiting", "stopped")
WAIT = click.option(
    "--wait",
    type=click.FloatRange(0, 300),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for what becomes of the link.",
)


@click.command("reconnect")
@click.option("--even-if-up", is_flag=True, help="End a link that is up; log-ins under way fail.")
@WAIT
@JSON
@CONFIG
def reconnect(even_if_up: bool, wait: float, as_json: bool, config_file: Path | None) -> None:
    """
    Begin the next attempt of the link at once, and say what becomes of it.

    Between attempts a Callbridge waits, up to five minutes after a refusal of its
    name or secret: use this when you have mended what was wrong.  A link that is
    up stays.  Exit status 1 when the link is not up in the end.
    """
    config = read_config(find_config(config_file, CALLBRIDGE))
    daemon = running("Callbridge", config.state_dir, "start it; it connects by itself.")
    form = {"evenIfUp": "true"} if even_if_up else {}
    result = daemon.post(f"{SETTINGS}/reconnect", **form)["reconnect"]["result"]
    note(f"asked {where_text('Callbridge', daemon, config.state_dir)}")
    _tell({"result": result}, followed(daemon, wait), as_json)


@click.command("secret")
@click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read it from FILE, as cms xmpp callbridge rotate --secret-file writes it.",
)
@WAIT
@JSON
@CONFIG
def secret(
    secret_stdin: bool,
    secret_file: Path | None,
    wait: float,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Give the Callbridge another secret, and say whether its link comes up with it.

    It is the other half of cms xmpp callbridge rotate and add.  The secret is asked
    for, unless it comes from standard input or a file.  It is stored in the state
    directory, where it wins over callbridge.toml, and counts at once: the link ends
    and is made anew.  While the Callbridge is stopped it counts from its next start.
    Exit status 1 when the link is not up in the end; the secret is stored all the same.
    """
    base = read_config(find_config(config_file, CALLBRIDGE))
    given = _given(secret_stdin, secret_file)
    daemon = Daemon.find(base.state_dir)
    if daemon is None:
        _store(base, given)
        note(f"stored {where_text('Callbridge', None, base.state_dir)}: it counts from its start")
        _tell({"stored": True}, {}, as_json)
        return
    daemon.put(SETTINGS, **{SHARED_SECRET: given})
    note(f"set {where_text('Callbridge', daemon, base.state_dir)}")
    _tell({"stored": True}, followed(daemon, wait), as_json)


def _given(secret_stdin: bool, secret_file: Path | None) -> str:
    """
    The secret.

    @raise Complaint: there is none; the text does not quote it.
    """
    if secret_file is not None:
        try:
            given = textencoding.read_secret(secret_file)
        except OSError as problem:
            raise Complaint(f"{secret_file}: {problem.strerror}. Cure: name another.") from None
        except textencoding.Unreadable as problem:
            raise Complaint(f"{secret_file} {problem.problem}. Cure: {problem.mend}") from None
    else:
        prompt = "Enter callbridge secret"
        given = read_secret(prompt, from_stdin=secret_stdin, twice=False).strip()
    if not given or not given.isprintable():
        raise Complaint(
            "there is no secret, or it has characters that do not show. Cure: give the line that"
            " cms xmpp callbridge rotate has printed."
        )
    return given


def _store(base: CallbridgeConfig, given: str) -> None:
    """For a Callbridge that is stopped."""
    check_owner(base.state_dir)
    stored = StoredSettings(base)
    settings = {**stored.read(), SHARED_SECRET: given}
    stored.applied(settings)  # it is checked as the daemon checks it
    try:
        base.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored.write(settings)
    except OSError as problem:
        raise explain_os(stored.path, problem) from None


def followed(daemon: Daemon, seconds: float) -> dict[str, Any]:
    """
    The link of a Callbridge's status, once it is up or rests after an attempt.

    @param seconds: After which it is shown as it is.
    """
    ends = time.monotonic() + seconds
    while True:
        link: dict[str, Any] = daemon.status()["link"]
        if link["state"] in (_UP, *_RESTS) or time.monotonic() >= ends:
            return link
        time.sleep(_EVERY)


def _tell(done: dict[str, Any], link: dict[str, Any], as_json: bool) -> None:
    """
    Show what was done, and what became of the link.

    @raise Wrong: it is not up.
    """
    if as_json:
        print_json({**done, **({"link": link} if link else {})})
    elif link:
        print_rows(link_rows(link))
    else:
        click.echo("the secret is stored")
    if not link or link["state"] == _UP:
        return
    failure = link.get("lastFailure")
    if failure is not None and link["state"] in _RESTS:
        step = f"step {failure['step']} {failure['name']}"
        raise Wrong(f"{step} failed: {failure['cause']} Cure: {failure['cure']}")
    raise Wrong(
        f"the link is not up yet: {link['state']}. Cure: cms flow --follow shows what it waits for."
    )
