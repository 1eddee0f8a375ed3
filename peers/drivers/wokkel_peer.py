"""
wokkel's C{Component}, told what to do as F{slixmpp_peer.py} is.

wokkel's own ping module no longer imports (it wants C{twisted.python.compat._PY3}),
so the eight lines of XEP-0199 are here.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.xmlstream import IQ, toResponse
from twisted.words.xish.domish import Element
from wokkel.component import Component  # type: ignore[import-untyped]
from wokkel.subprotocols import XMPPHandler

NS_PING = "urn:xmpp:ping"


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Ping(XMPPHandler):
    """XEP-0199, both ways."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def connectionInitialized(self) -> None:
        self.xmlstream.addObserver(f"/iq[@type='get']/ping[@xmlns='{NS_PING}']", self._asked)
        tell("online", jid=self._address, mechanism=None)

    def connectionLost(self, reason: Failure) -> None:
        tell("disconnected")

    def _asked(self, iq: Element) -> None:
        self.xmlstream.send(toResponse(iq, "result"))

    def ping(self, to: str) -> None:
        """Ask, and tell the test the answer."""
        iq = IQ(self.xmlstream, "get")
        iq["from"] = self._address
        iq.addElement((NS_PING, "ping"))
        iq.timeout = 10  # type: ignore[assignment]
        iq.send(to).addCallbacks(
            lambda answer: tell("result", to=to, type="result", sender=answer["from"]),
            lambda failure: tell(
                "result",
                to=to,
                type="error",
                condition=failure.value.condition
                if failure.check(StanzaError)
                else failure.getErrorMessage(),
            ),
        )


class Commands(LineReceiver):
    """What the test says: settings, then commands."""

    delimiter = b"\n"
    _settings: dict[str, Any] | None = None

    def lineReceived(self, line: bytes) -> None:
        words = json.loads(line)
        if self._settings is None:
            self._settings = words
            tell("ready")
        elif words["do"] == "connect":
            self._connect(self._settings)
        elif words["do"] == "ping":
            self._ping.ping(words["to"])

    def _connect(self, settings: dict[str, Any]) -> None:
        component = Component(
            settings["host"], settings["port"], settings["jid"], settings["password"]
        )
        self._ping = Ping(settings["jid"])
        component.addHandler(self._ping)
        component.startService()

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        if reactor.running:
            reactor.stop()


if __name__ == "__main__":
    StandardIO(Commands())
    reactor.run()
