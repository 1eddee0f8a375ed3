"""slixmpp with its plug-in for carbons (XEP-0280), driven like F{slixmpp_peer.py}."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Message

sys.path.insert(0, str(Path(__file__).parents[2]))

from peers.drivers.slixmpp_peer import Peer, serve, tell


class Reader(Peer):
    """A client that reads along."""

    def do_connect(self, command: dict[str, Any]) -> None:
        """Open a stream that knows carbons."""
        super().do_connect(command)
        assert self._stream is not None
        self._stream.register_plugin("xep_0280")
        for direction in ("received", "sent"):
            self._stream.add_event_handler(f"carbon_{direction}", self._copied)

    def _copied(self, message: Message) -> None:
        """Only copies from the own account come here: the plug-in passes over all others."""
        direction = "received" if message.xml.find("{urn:xmpp:carbons:2}received") else "sent"
        copy = message[f"carbon_{direction}"]
        tell(
            "copy",
            direction=direction,
            sender=copy["from"].full,
            to=copy["to"].full,
            body=copy["body"],
        )

    async def do_carbons(self, command: dict[str, Any]) -> None:
        """Ask for copies, or for none: C{switch} is C{enable} or C{disable}."""
        assert self._stream is not None
        carbons = self._stream.plugin["xep_0280"]
        try:
            await getattr(carbons, command["switch"])(timeout=20)
        except IqError as error:
            tell("result", type="error", condition=error.iq["error"]["condition"])
        except IqTimeout:
            tell("result", type="timeout")
        else:
            tell("result", type="result")

    def do_private(self, command: dict[str, Any]) -> None:
        """Send a chat message that is not to be copied."""
        assert self._stream is not None
        message = self._stream.make_message(command["to"], command["body"], mtype="chat")
        message.enable("carbon_private")
        message.send()


if __name__ == "__main__":
    asyncio.run(serve(Reader))
