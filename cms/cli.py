"""
The command line: C{cms}.  Exit status 0 done, 1 the thing asked about is wrong,
2 usage or configuration.
"""

from __future__ import annotations

import click

import cms
from cms.commands.backup import backup, restore
from cms.commands.callbridge import callbridge
from cms.commands.check import check
from cms.commands.common import Root
from cms.commands.completion import completion
from cms.commands.demo import demo
from cms.commands.dnslookup import dns
from cms.commands.explain import explain
from cms.commands.flow import flow
from cms.commands.login import login
from cms.commands.manual import man
from cms.commands.originalwords import add_words
from cms.commands.pki import pki
from cms.commands.recordlog import log
from cms.commands.status import status
from cms.commands.xmpp import xmpp

COMMANDS: tuple[click.Command, ...] = (
    backup,
    callbridge,
    check,
    completion,
    demo,
    dns,
    explain,
    flow,
    log,
    login,
    man,
    pki,
    restore,
    status,
    xmpp,
)


@click.group(cls=Root)
@click.version_option(cms.__version__, prog_name="cms", message="%(prog)s %(version)s")
def main() -> None:
    """
    The open Callbridge and XMPP signalling pair.

    Commands work by the running daemon, through the socket in its state
    directory, or on that directory while the daemon is stopped; they say which on
    standard error.

    Exit status: 0 done, 1 the thing asked about is wrong, 2 usage or configuration.
    """


for command in COMMANDS:
    main.add_command(command)
add_words(main)
