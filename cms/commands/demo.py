"""C{cms demo}."""

from __future__ import annotations

import sys
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from cms.demo.demonstration import run_demo


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
def demo(keep: bool) -> None:
    """Run the twelve steps for real, on loopback, and show them."""

    def start(reactor: Any) -> Deferred[None]:
        async def run() -> None:
            # Nothing is made before the reactor runs, and with it takes the signals that end us.
            await deferLater(reactor, 0)
            colour = sys.stdout.isatty()
            status = await run_demo(reactor, keep=keep, write=_say, colour=colour)
            if status:
                raise SystemExit(status)

        return Deferred.fromCoroutine(run())

    react(start)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()
