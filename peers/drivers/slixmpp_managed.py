"""
slixmpp with its plug-in for XEP-0198, which resumes whenever its connection is gone.

It is driven as F{slixmpp_peer.py}, and knows two more commands: C{write} sends numbered
messages, and C{count} tells which have come.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from slixmpp.stanza import Message

sys.path.insert(0, str(Path(__file__).parents[2]))

from peers.drivers.slixmpp_peer import Peer, serve, tell

_PAUSE = 0.02  # seconds between messages
_PATIENCE = 2.0  # seconds for a connection and its log-in


class Managed(Peer):
    """One session, over as many connections as it takes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._numbers: list[str] = []
        self._sent: list[str] = []
        self._resumed = 0
        self._is_up = asyncio.Event()
        self._returning = False
        self._task: asyncio.Future[None] | None = None

    def do_connect(self, command: dict[str, Any]) -> None:
        """Open a stream that is managed."""
        super().do_connect(command)
        stream = self._stream
        assert stream is not None
        stream.register_plugin("xep_0198")
        stream.add_filter("out_sync", self._note_sent)
        stream.add_event_handler("message_error", self._message)
        stream.add_event_handler("session_resumed", self._note_resumed)
        stream.add_event_handler("sm_failed", lambda _: tell("sm-failed"))
        stream.add_event_handler("sm_enabled", self._note_enabled)
        stream.add_event_handler("disconnected", self._note_gone)

    def _note_gone(self, _: object) -> None:
        # At once, not as a task: what is written until then goes before what is sent again.
        self._is_up.clear()
        if not self._returning:
            self._returning = True
            self._task = asyncio.ensure_future(self._again())

    async def _again(self) -> None:
        """slixmpp tries once, and hears nothing of an end amid its handshake with TLS."""
        stream = self._stream
        assert stream is not None
        while not self._is_up.is_set():
            await asyncio.sleep(0.01)  # the others hear of it first
            stream.abort()
            stream.connect(self._settings["host"], self._settings["port"])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_up.wait(), _PATIENCE)
        self._returning = False

    def _note_enabled(self, _: object) -> None:
        self._is_up.set()
        tell("enabled")

    def _note_resumed(self, _: object) -> None:
        self._resumed += 1
        self._is_up.set()
        tell("resumed")

    def _note_sent(self, stanza: Any) -> Any:
        # What it was about to send when its connection went, it neither sends nor keeps.
        assert self._stream is not None
        if isinstance(stanza, Message) and self._stream.plugin["xep_0198"].enabled_out:
            self._sent.append(f"{stanza['type']} {stanza['body']}")
        return stanza

    def _message(self, message: Message) -> None:
        text = message["id"] if message["type"] == "error" else message["body"]
        self._numbers.append(f"{message['type']} {text}")

    async def do_write(self, command: dict[str, Any]) -> None:
        """
        Messages with the numbers of a range, while there is a connection.

        C{pause} are the seconds between them, C{more} follows the number.
        What slixmpp is given without one goes before what it sends again.
        """
        assert self._stream is not None
        for number in range(command["first"], command["last"]):
            await self._is_up.wait()
            body = str(number) + command.get("more", "")
            message = self._stream.make_message(command["to"], body, mtype="chat")
            message["id"] = f"n{number}"
            message.send()
            await asyncio.sleep(command.get("pause", _PAUSE))
        tell("written")

    def do_count(self, command: dict[str, Any]) -> None:
        """What has come, and how often the session was resumed."""
        tell("counted", messages=self._numbers, sent=self._sent, resumed=self._resumed)


if __name__ == "__main__":
    asyncio.run(serve(Managed))
