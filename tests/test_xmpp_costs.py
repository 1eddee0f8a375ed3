"""What a stanza costs, in calls of our own functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import cms
from tests.xmppserver import DOMAIN, Server

OURS = str(Path(cms.__file__).parent)


def calls(do: Callable[[], object]) -> int:
    """How many of our functions are called meanwhile."""
    number = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        number += event == "call" and frame.f_code.co_filename.startswith(OURS)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(before)
    return number


class StanzaTests(SynchronousTestCase):
    """A stanza from one client to another, after the first."""

    def test_stanza(self) -> None:
        """It takes 16 calls, and so do 20 that come together."""
        server = Server()
        callbridge = server.callbridge()
        alice, bob = server.bound(callbridge, "alice"), server.bound(callbridge, "bob")
        message = f"<message to='bob@{DOMAIN}/r' id='1'><body>x</body></message>".encode()
        for _ in range(2):
            alice.say(message)
        for number in (1, 20):
            bob.transport.take()
            read = message * number
            counted = calls(lambda read=read: alice.stream.dataReceived(read))  # type: ignore[misc]
            self.assertEqual(number, bob.transport.take().count("<message"))
            self.assertLessEqual(counted, 16)
