"""slixmpp with its plug-in for rooms (XEP-0045), driven like F{slixmpp_peer.py}."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout, PresenceError
from slixmpp.stanza import Message, Presence

sys.path.insert(0, str(Path(__file__).parents[2]))

from peers.drivers.slixmpp_peer import Peer, serve, tell


class Guest(Peer):
    """A client that goes into rooms."""

    def do_connect(self, command: dict[str, Any]) -> None:
        """Open a stream that knows rooms."""
        super().do_connect(command)
        assert self._stream is not None
        self._stream.register_plugin("xep_0045")
        self._stream.add_event_handler("groupchat_message", self._said)
        self._stream.add_event_handler("groupchat_subject", self._titled)
        self._stream.add_event_handler("groupchat_presence", self._seen)

    @property
    def _rooms(self) -> Any:
        assert self._stream is not None
        return self._stream.plugin["xep_0045"]

    def _said(self, message: Message) -> None:
        if message["body"]:
            delayed = message.xml.find("{urn:xmpp:delay}delay") is not None
            tell("said", sender=message["from"].full, body=message["body"], delayed=delayed)

    def _titled(self, message: Message) -> None:
        tell("subject", sender=message["from"].full, subject=message["subject"])

    def _seen(self, presence: Presence) -> None:
        tell(
            "seen",
            sender=presence["from"].full,
            type=presence["type"],
            role=presence["muc"]["role"],
            affiliation=presence["muc"]["affiliation"],
            codes=sorted(presence["muc"]["status_codes"]),
        )

    async def do_join(self, command: dict[str, Any]) -> None:
        """Enter a room, and wait until one is in."""
        room = JID(command["room"])
        try:
            own, subject, here, history = await self._rooms.join_muc_wait(
                room, command["nick"], password=command.get("password"), timeout=20
            )
        except PresenceError as error:
            tell("not-joined", condition=error.presence["error"]["condition"])
        except TimeoutError:
            tell("not-joined", condition="timeout")
        else:
            tell(
                "joined",
                nick=own["from"].resource,
                here=sorted(presence["from"].resource for presence in here),
                subject=subject["subject"],
                history=[message["body"] for message in history],
            )

    def do_say(self, command: dict[str, Any]) -> None:
        """Write to all."""
        assert self._stream is not None
        self._stream.send_message(command["room"], command["body"], mtype="groupchat")

    def do_whisper(self, command: dict[str, Any]) -> None:
        """Write to one."""
        assert self._stream is not None
        self._stream.send_message(command["to"], command["body"], mtype="chat")

    def do_subject(self, command: dict[str, Any]) -> None:
        """Set the subject."""
        self._rooms.set_subject(command["room"], command["subject"])

    async def do_nick(self, command: dict[str, Any]) -> None:
        """Take another nickname."""
        await self._rooms.set_self_nick(JID(command["room"]), command["nick"])
        tell("renamed")

    def do_leave(self, command: dict[str, Any]) -> None:
        """Leave."""
        self._rooms.leave_muc(JID(command["room"]), command["nick"], "bye")

    async def do_kick(self, command: dict[str, Any]) -> None:
        """Throw somebody out."""
        kick = self._rooms.set_role(JID(command["room"]), command["nick"], "none", reason="x")
        await self._done(kick)

    async def do_ban(self, command: dict[str, Any]) -> None:
        """For good."""
        ban = self._rooms.set_affiliation(JID(command["room"]), "outcast", jid=JID(command["jid"]))
        await self._done(ban)

    async def _done(self, request: Any) -> None:
        try:
            await request
        except IqError as error:
            tell("result", type="error", condition=error.iq["error"]["condition"])
        except IqTimeout:
            tell("result", type="timeout")
        else:
            tell("result", type="result")

    def do_abort(self, command: dict[str, Any]) -> None:
        """Lose the connection."""
        assert self._stream is not None
        self._stream.abort()


if __name__ == "__main__":
    asyncio.run(serve(Guest))
