"""
A stock slixmpp client in a process of its own.

    slixmpp_client.py JID PASSWORD HOST PORT [--trust CA] [--plain] [--send TO TEXT] [--expect N]
                      [--query TO] [--mechanism NAME]

Prints one JSON object a line for each thing that happens, and ends when it has
done what it was told, or after --seconds.
"""

import argparse
import asyncio
import json
import ssl
import sys

import slixmpp


def say(**what):
    print(json.dumps(what), flush=True)


class Client(slixmpp.ClientXMPP):
    def __init__(self, options):
        super().__init__(options.jid, options.password, sasl_mech=options.mechanism)
        self.options = options
        self.done = asyncio.get_event_loop().create_future()
        self.messages = 0
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0199")
        self.register_plugin("xep_0092")
        if options.trust:
            self.ca_certs = options.trust
        self.enable_direct_tls = options.direct
        self.enable_starttls = not options.direct
        self.enable_plaintext = options.plain
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.received)
        self.add_event_handler("failed_auth", self.refused)
        self.add_event_handler("connection_failed", lambda e: self.finish(connection=str(e)))
        self.add_event_handler("disconnected", lambda e: say(event="disconnected"))
        self.add_event_handler("stream_error", lambda e: say(event="stream-error", condition=e["condition"]))

    def finish(self, **what):
        if what:
            say(event="failed", **what)
        if not self.done.done():
            self.done.set_result(not what)

    def refused(self, failure):
        say(event="refused", condition=failure["condition"], text=failure["text"])
        if not self.options.stubborn:
            self.finish(login=failure["condition"])

    async def started(self, event):
        say(event="session", jid=self.boundjid.full, mechanism=self.features and sorted(self.features))
        self.send_presence()
        await self.get_roster()
        if self.options.query:
            info = await self["xep_0030"].get_info(jid=self.options.query)
            say(event="disco", features=sorted(info["disco_info"]["features"]))
            rtt = await self["xep_0199"].ping(self.options.query)
            say(event="ping", seconds=rtt)
        if self.options.send:
            to, text = self.options.send
            self.send_message(mto=to, mbody=text, mtype="chat")
            say(event="sent", to=to)
        if self.options.expect == 0:
            self.finish()

    def received(self, message):
        if message["type"] == "error":
            self.finish(message=message["error"]["condition"])
            return
        say(event="message", sender=str(message["from"]), body=message["body"])
        self.messages += 1
        if self.messages >= self.options.expect:
            self.finish()


async def main(options):
    client = Client(options)
    client.connect(options.host, options.port)
    try:
        good = await asyncio.wait_for(client.done, options.seconds)
    except asyncio.TimeoutError:
        say(event="failed", timeout=options.seconds)
        good = False
    if options.stay and good:
        await asyncio.sleep(options.stay)
    await client.disconnect()
    return 0 if good else 1


parser = argparse.ArgumentParser()
parser.add_argument("jid")
parser.add_argument("password")
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("--trust")
parser.add_argument("--plain", action="store_true")
parser.add_argument("--direct", action="store_true")
parser.add_argument("--stubborn", action="store_true")
parser.add_argument("--send", nargs=2)
parser.add_argument("--expect", type=int, default=0)
parser.add_argument("--query")
parser.add_argument("--mechanism")
parser.add_argument("--stay", type=float, default=0)
parser.add_argument("--seconds", type=float, default=20)
sys.exit(asyncio.run(main(parser.parse_args())))
