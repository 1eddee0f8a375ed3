"""slixmpp with its roster and its plug-in for blocking: driven like F{slixmpp_peer.py}."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from slixmpp import ClientXMPP
from slixmpp.stanza import Iq, Presence

sys.path.insert(0, str(Path(__file__).parents[2]))

from peers.drivers.slixmpp_peer import Peer, Stream, serve, tell


class Contact(Peer):
    """Somebody with contacts, who answers requests when he is told to."""

    def _make(self, settings: dict[str, Any]) -> Stream:
        client = super()._make(settings)
        for plugin in ("xep_0054", "xep_0191"):
            client.register_plugin(plugin)
        client.roster.auto_authorize = None  # type: ignore[assignment] # it is asked then
        client.roster.auto_subscribe = False
        client.add_event_handler("presence_subscribe", lambda each: self._heard("asks", each))
        client.add_event_handler("presence_subscribed", lambda each: self._heard("grants", each))
        client.add_event_handler("got_online", lambda each: self._heard("came", each))
        client.add_event_handler("presence_available", self._photo)
        client.add_event_handler("got_offline", lambda each: self._heard("went", each))
        client.add_event_handler("roster_update", self._pushed)
        return client

    def _heard(self, event: str, presence: Presence) -> None:
        if presence["from"].bare != self._settings["jid"]:
            tell(event, sender=presence["from"].bare)

    def _photo(self, presence: Presence) -> None:
        photo = presence.xml.findtext("{vcard-temp:x:update}x/{vcard-temp:x:update}photo")
        if photo:
            tell("photo", sender=presence["from"].bare, hash=photo)

    def _pushed(self, iq: Iq) -> None:
        for jid, item in iq["roster"]["items"].items() if iq["type"] == "set" else ():
            facts = {key: item[key] for key in ("subscription", "name", "groups")}
            tell("pushed", contact=jid.bare, **facts)

    async def _go_online(self) -> None:
        assert self._stream is not None
        await self._stream.get_roster()  # type: ignore[union-attr]
        super()._online(None)

    def _online(self, _: object) -> None:
        self._task = asyncio.create_task(self._go_online())

    def do_presence(self, command: dict[str, Any]) -> None:
        """Send presence of a type to somebody, or to all."""
        assert self._stream is not None
        self._stream.send_presence(pto=command.get("to"), ptype=command.get("type"))

    async def do_block(self, command: dict[str, Any]) -> None:
        """Block, or C{unblock}, an address."""
        assert self._stream is not None
        plugin = self._stream.plugin["xep_0191"]
        act = plugin.unblock if command.get("no_more") else plugin.block
        await self._answer(command, act(command["to"]))

    async def do_card(self, command: dict[str, Any]) -> None:
        """Who somebody is: the vCard's name, and the size of its picture."""
        assert self._stream is not None
        iq = await self._stream.plugin["xep_0054"].get_vcard(command["to"], local=False)
        card = iq["vcard_temp"]
        photo = card["PHOTO"]["BINVAL"] or b""
        tell("card", name=card["FN"], type=card["PHOTO"]["TYPE"], bytes=len(photo))

    async def do_roster(self, command: dict[str, Any]) -> None:
        """Its roster: the subscription to each address, and what it is called."""
        assert self._stream is not None
        roster = self._stream.client_roster
        shown = {jid: roster[jid]["subscription"] for jid in roster}
        tell("roster", contacts=shown, names={jid: roster[jid]["name"] for jid in roster})

    async def do_name(self, command: dict[str, Any]) -> None:
        """Put somebody on the roster under a name."""
        assert isinstance(self._stream, ClientXMPP)
        change = self._stream.update_roster(command["to"], name=command["name"])
        await self._answer(command, change)


if __name__ == "__main__":
    asyncio.run(serve(Contact))
