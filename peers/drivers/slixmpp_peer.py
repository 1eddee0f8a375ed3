"""
slixmpp, as a client or as a component, told what to do over its standard input.

The first line is a JSON object of settings, each further line a command; what
happens is written to standard output, one JSON object a line.  F{drivers.py}
one level up holds the other end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

from slixmpp import ClientXMPP, ComponentXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Message
from slixmpp.xmlstream import StanzaBase

Stream = ClientXMPP | ComponentXMPP


def tell(event: str, **facts: object) -> None:
    """One event for the test."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Peer:
    """One slixmpp stream at a time, and the commands of the test."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._stream: Stream | None = None

    def do_connect(self, command: dict[str, Any]) -> None:
        """Open a new stream; C{port} may differ from that of the settings."""
        settings = {**self._settings, **command}
        self._stream = stream = self._make(settings)
        stream.register_plugin("xep_0030")
        stream.register_plugin("xep_0199")
        stream.add_event_handler("session_start", self._online)
        stream.add_event_handler("message", self._message)
        stream.add_event_handler("failed_auth", self._refused)
        stream.add_event_handler("disconnected", lambda _: tell("disconnected"))
        stream.add_event_handler("stream_error", self._stream_error)
        stream.add_event_handler(
            "connection_failed", lambda reason: tell("connection-failed", reason=str(reason))
        )
        stream.connect(settings["host"], settings["port"])

    def _make(self, settings: dict[str, Any]) -> Stream:
        if settings["kind"] == "component":
            component = ComponentXMPP(settings["jid"], settings["password"])
            component.enable_direct_tls = False
            return component
        client = ClientXMPP(
            settings["jid"], settings["password"], sasl_mech=settings.get("mechanism")
        )
        client.ca_certs = Path(settings["trust"])
        client.enable_direct_tls = settings.get("direct_tls", False)
        client.enable_starttls = not client.enable_direct_tls
        client.enable_plaintext = False
        return client

    def _online(self, _: object) -> None:
        assert self._stream is not None
        mechanism = None
        if isinstance(self._stream, ClientXMPP):
            self._stream.send_presence()
            mechanism = getattr(self._stream.plugin["feature_mechanisms"].mech, "name", None)
        tell("online", jid=self._stream.boundjid.full, mechanism=mechanism)

    def _message(self, message: Message) -> None:
        tell(
            "message",
            sender=message["from"].full,
            type=message["type"],
            body=message["body"],
        )

    def _refused(self, stanza: StanzaBase) -> None:
        tell("refused", condition=stanza["condition"], text=stanza["text"])

    def _stream_error(self, error: StanzaBase) -> None:
        tell("stream-error", condition=error["condition"], text=error["text"])

    async def do_ping(self, command: dict[str, Any]) -> None:
        """XEP-0199."""
        assert self._stream is not None
        ping = self._stream.plugin["xep_0199"].send_ping(command["to"], timeout=25)
        await self._answer(command, ping)

    async def do_disco(self, command: dict[str, Any]) -> None:
        """XEP-0030, disco#info."""
        assert self._stream is not None
        info = self._stream.plugin["xep_0030"].get_info(jid=command["to"], timeout=25, cached=False)
        await self._answer(command, info)

    async def _answer(self, command: dict[str, Any], request: Any) -> None:
        try:
            answer = await request
        except IqError as error:
            tell("result", to=command["to"], type="error", condition=error.iq["error"]["condition"])
        except IqTimeout:
            tell("result", to=command["to"], type="timeout")
        else:
            facts: dict[str, Any] = {"type": "result", "sender": answer["from"].full}
            if command["do"] == "disco":
                info = answer["disco_info"]
                facts["features"] = sorted(info["features"])
                facts["identities"] = sorted([i[0], i[1]] for i in info["identities"])
            tell("result", to=command["to"], **facts)

    def do_message(self, command: dict[str, Any]) -> None:
        """Send a chat message."""
        assert self._stream is not None
        self._stream.send_message(command["to"], command["body"], mtype="chat")

    async def do_disconnect(self, command: dict[str, Any]) -> None:
        """Close the stream."""
        assert self._stream is not None
        await self._stream.disconnect(wait=1.0)


async def serve(kind: type[Peer]) -> None:
    """Serve commands until the input ends."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    peer = kind(json.loads(await lines.get()))
    tell("ready")
    running: set[asyncio.Task[None]] = set()
    while line := await lines.get():
        command = json.loads(line)
        outcome = getattr(peer, "do_" + command["do"])(command)
        if asyncio.iscoroutine(outcome):
            task = asyncio.create_task(outcome)
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(serve(Peer))
