"""
nbxmpp, the library of Gajim, which resumes whenever its connection is gone.

It connects again as Gajim does, only sooner.  It is driven as F{nbxmpp_room.py}, and knows
two more commands: C{write} sends numbered messages, C{count} tells which have come.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from gi.repository import GLib  # type: ignore[import-not-found]
from nbxmpp import client as nbxmpp_client  # type: ignore[import-not-found]
from nbxmpp.const import StreamState  # type: ignore[import-not-found]
from nbxmpp.protocol import JID, Message  # type: ignore[import-not-found]
from nbxmpp.structs import StanzaHandler  # type: ignore[import-not-found]

from peers.drivers.nbxmpp_room import Connected, serve, tell

_PAUSE = 20  # milliseconds between messages
_AGAIN = 50  # milliseconds until it connects again; Gajim waits for 3 s
_BODY = "x" * 300


class _Impatient:
    """GLib, for a client that asks sooner whether its server is still there."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def timeout_add_seconds(self, _seconds: int, call: Any) -> Any:
        """The only timer that it has."""
        return GLib.timeout_add_seconds(self._seconds, call)

    def __getattr__(self, name: str) -> Any:
        return getattr(GLib, name)


class Managed(Connected):
    """One session, over as many connections as it takes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        if settings.get("ping"):
            nbxmpp_client.GLib = _Impatient(settings["ping"])
        self._received: list[int] = []
        self._sent: list[int] = []
        self._resumed = self._failed = 0
        client = self._client
        client.subscribe("connected", self._await_enabled)
        client.subscribe("resume-successful", self._note_resumed)
        client.subscribe("resume-failed", self._note_failed)
        client.subscribe("disconnected", self._again)
        client.subscribe("connection-failed", self._again)
        client.register_handler(StanzaHandler("message", self._message, typ="chat", priority=60))

    def _await_enabled(self, *_: object) -> None:
        def look() -> bool:
            if self._client.resumeable:
                tell("enabled")
            return not self._client.resumeable

        GLib.timeout_add(_AGAIN, look)

    def _again(self, *_: object) -> None:
        GLib.timeout_add(_AGAIN, self._client.connect)

    def _note_resumed(self, *_: object) -> None:
        self._resumed += 1

    def _note_failed(self, *_: object) -> None:
        self._failed += 1

    def _message(self, _client: Any, _stanza: Any, properties: Any) -> None:
        if properties.body:
            self._received.append(int(properties.body.split()[0]))

    def do_write(self, command: dict[str, Any]) -> None:
        """Messages with the numbers of a range, while it is online, as Gajim has it."""
        numbers = iter(range(command["first"], command["last"]))
        to = JID.from_string(command["to"])

        def one() -> bool:
            if self._client.state != StreamState.ACTIVE:
                return True
            number = next(numbers, None)
            if number is None:
                tell("written")
                return False
            self._client.send_stanza(Message(to=to, body=f"{number} {_BODY}", typ="chat"))
            self._sent.append(number)
            return True

        GLib.timeout_add(_PAUSE, one)

    def do_count(self, command: dict[str, Any]) -> None:
        """What has come, and how often the session was resumed."""
        tell(
            "counted",
            messages=self._received,
            sent=self._sent,
            resumed=self._resumed,
            failed=self._failed,
        )


if __name__ == "__main__":
    serve(Managed)
