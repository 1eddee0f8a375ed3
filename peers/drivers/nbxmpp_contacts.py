"""nbxmpp, the library of Gajim, with its roster and blocking: driven like F{slixmpp_peer.py}."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from nbxmpp.protocol import JID, Presence  # type: ignore[import-not-found]
from nbxmpp.structs import StanzaHandler  # type: ignore[import-not-found]

from peers.drivers.nbxmpp_room import Connected, serve, tell

_EVENTS = {None: "came", "unavailable": "went", "subscribe": "asks", "subscribed": "grants"}


class Contact(Connected):
    """Somebody with contacts."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._own = settings["jid"]
        client = self._client
        client.subscribe("connected", lambda *_: self._online())
        client.register_handler(StanzaHandler("presence", self._presence, priority=60))
        client.register_handler(StanzaHandler("iq", self._push, typ="set", priority=60))

    def _online(self) -> None:
        self._client.get_module("Roster").request_roster("", callback=self._roster)

    def _roster(self, task: Any) -> None:
        roster = task.finish()
        tell("roster", contacts={str(item.jid): item.subscription for item in roster.items})
        self._client.send_stanza(Presence())

    def _presence(self, _client: Any, stanza: Any, _properties: Any) -> None:
        event = _EVENTS.get(stanza.getType())
        sender = str(stanza.getFrom().bare)
        if event is not None and sender != self._own:
            tell(event, sender=sender)

    def _push(self, _client: Any, _stanza: Any, properties: Any) -> None:
        if properties.roster is not None:
            item = properties.roster.item
            tell("pushed", contact=str(item.jid), subscription=item.subscription)
        if properties.blocking is not None:
            tell("blocked", addresses=sorted(map(str, properties.blocking.block)))

    def do_presence(self, command: dict[str, Any]) -> None:
        """Send presence of a type to somebody."""
        to = JID.from_string(command["to"])
        self._client.send_stanza(Presence(to=to, typ=command["type"]))

    def do_block(self, command: dict[str, Any]) -> None:
        """Block an address."""
        blocking = self._client.get_module("Blocking")
        blocking.block([JID.from_string(command["to"])], callback=self._done)

    def do_card(self, command: dict[str, Any]) -> None:
        """Who somebody is: the vCard's name, and the hash of its picture."""
        to = JID.from_string(command["to"])
        self._client.get_module("VCardTemp").request_vcard(to, callback=self._card)

    def _card(self, task: Any) -> None:
        card = task.finish()
        tell("card", name=card.data.get("FN"), hash=card.get_avatar()[1])

    def do_avatar(self, command: dict[str, Any]) -> None:
        """The picture of XEP-0084: what is said of it, then itself."""
        self._shown = JID.from_string(command["to"])
        module = self._client.get_module("UserAvatar")
        module.request_avatar_metadata(self._shown, callback=self._metadata)

    def _metadata(self, task: Any) -> None:
        module = self._client.get_module("UserAvatar")
        module.request_avatar_data(task.finish().default, self._shown, callback=self._avatar)

    def _avatar(self, task: Any) -> None:
        found = task.finish()
        tell("avatar", bytes=len(found.data), hash=found.sha)

    def do_blocklist(self, command: dict[str, Any]) -> None:
        """Whom it has blocked."""
        self._client.get_module("Blocking").request_blocking_list(callback=self._listed)

    def _listed(self, task: Any) -> None:
        tell("blocklist", addresses=sorted(map(str, task.finish())))

    def _done(self, task: Any) -> None:
        task.finish()
        tell("result", type="result")


if __name__ == "__main__":
    serve(Contact)
