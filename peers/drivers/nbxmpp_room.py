"""nbxmpp, the library of Gajim, in a room: driven like F{slixmpp_peer.py}."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Soup", "3.0")

from gi.repository import Gio, GLib  # type: ignore[import-not-found] # noqa: E402
from nbxmpp.client import Client  # type: ignore[import-not-found] # noqa: E402
from nbxmpp.const import ConnectionProtocol, ConnectionType  # type: ignore[import-not-found] # noqa: E402
from nbxmpp.namespaces import Namespace  # type: ignore[import-not-found] # noqa: E402
from nbxmpp.protocol import JID, Message, Presence  # type: ignore[import-not-found] # noqa: E402
from nbxmpp.structs import StanzaHandler  # type: ignore[import-not-found] # noqa: E402


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Connected:
    """A client that trusts one certificate, and can be told to log in."""

    def __init__(self, settings: dict[str, Any]) -> None:
        jid = JID.from_string(settings["jid"])
        self._client = client = Client(log_context="test")
        client.set_domain(jid.domain)
        client.set_username(jid.localpart)
        client.set_password(settings["password"])
        client.set_resource("nbxmpp")
        client.set_custom_host(
            f"{settings['host']}:{settings['port']}",
            ConnectionProtocol.TCP,
            ConnectionType.START_TLS,
        )
        client.set_connection_types([ConnectionType.START_TLS])
        client.set_protocols([ConnectionProtocol.TCP])
        certificate = Gio.TlsCertificate.new_from_file(settings["certificate"])
        client.set_accepted_certificates([certificate])
        client.subscribe("connected", lambda *_: tell("online"))
        client.subscribe("disconnected", lambda *_: tell("disconnected"))

    def do_connect(self, command: dict[str, Any]) -> None:
        """Open the stream."""
        self._client.connect()


class Guest(Connected):
    """A client that goes into rooms."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        client = self._client
        client.register_handler(
            StanzaHandler("presence", self._presence, ns=Namespace.MUC_USER, priority=60)
        )
        client.register_handler(StanzaHandler("presence", self._error, typ="error", priority=60))
        client.register_handler(
            StanzaHandler("message", self._message, typ="groupchat", priority=60)
        )

    def _presence(self, _client: Any, _stanza: Any, properties: Any) -> None:
        if properties.muc_user is not None:
            codes = sorted(status.value for status in properties.muc_status_codes or ())
            role = properties.muc_user.role
            tell(
                "seen",
                sender=str(properties.jid),
                type=properties.type.value,
                role=role.value if role is not None else None,
                codes=codes,
                occupant=properties.occupant_id is not None,
            )

    def _error(self, _client: Any, _stanza: Any, properties: Any) -> None:
        tell("not-joined", condition=properties.error.condition)

    def _message(self, _client: Any, _stanza: Any, properties: Any) -> None:
        if properties.is_muc_subject:
            tell("subject", subject=properties.subject)
        elif properties.body:
            tell("said", sender=str(properties.jid), body=properties.body)

    def do_join(self, command: dict[str, Any]) -> None:
        """Enter."""
        presence = Presence(to=JID.from_string(f"{command['room']}/{command['nick']}"))
        x = presence.setTag(Namespace.MUC + " x")
        if command.get("password"):
            x.setTagData("password", command["password"])
        self._client.send_stanza(presence)

    def do_say(self, command: dict[str, Any]) -> None:
        """Write to all."""
        room = JID.from_string(command["room"])
        self._client.send_stanza(Message(to=room, body=command["body"], typ="groupchat"))

    def do_kick(self, command: dict[str, Any]) -> None:
        """Throw somebody out."""
        muc = self._client.get_module("MUC")
        room = JID.from_string(command["room"])
        muc.set_role(room, command["nick"], "none", reason="x", callback=self._done)

    def _done(self, task: Any) -> None:
        try:
            task.finish()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test hears of it
            tell("result", type="error", condition=str(getattr(error, "condition", error)))
        else:
            tell("result", type="result")

    def do_leave(self, command: dict[str, Any]) -> None:
        """Leave."""
        to = JID.from_string(f"{command['room']}/{command['nick']}")
        self._client.send_stanza(Presence(to=to, typ="unavailable"))


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Make one with its settings, and serve commands until the input ends."""
    guest = make(json.loads(sys.stdin.readline()))
    loop = GLib.MainLoop()

    def run(line: str) -> bool:
        command = json.loads(line)
        getattr(guest, "do_" + command["do"])(command)
        return False

    def read() -> None:
        for line in sys.stdin:
            GLib.idle_add(run, line)
        GLib.idle_add(loop.quit)

    threading.Thread(target=read, daemon=True).start()
    tell("ready")
    loop.run()


if __name__ == "__main__":
    serve(Guest)
