"""
Serve them: C{python -m peers.doorstand PORT FOLDER}.

POST /join answers by the call ID: C{503} with step 1, C{429} with a time, C{500} as a broken
proxy does, C{403} with a refusal, another by entry into a room.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from klein import Klein
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.iweb import IRequest
from twisted.web.server import Site

from cms.door.look import Look
from cms.door.pages import DoorPages

ROOMS = {"404404": "full", "405405": "banned", "406406": "members", "407407": "taken"}
LOGO = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 32"><text x="0" y="24"'
    b' font-size="24" fill="#0b57b0" font-family="sans-serif">Example</text></svg>'
)


def application(folder: Path) -> Klein:
    """Its routes."""
    routes = Klein()
    look = Look("Example meetings", "Questions? Call the front desk: 4711.", LOGO, "image/svg+xml")
    DoorPages(look, "meet.example.com", folder=folder).add_to(routes)

    def join(request: IRequest) -> bytes:
        asked = json.loads(request.content.read())
        request.setHeader(b"content-type", b"application/json")
        known = {"403": "join-refused", "429": "join-slowed", "503": "link-before-login"}
        call_id = str(asked.get("callId", ""))
        if call_id == "500":
            request.setResponseCode(500)
            return b"Bad gateway"
        if call_id in known:
            request.setResponseCode(int(call_id))
            return json.dumps({"reason": known[call_id], "text": "", "seconds": 4}).encode()
        token = str(asked.get("reentry", ""))
        name = token.removeprefix("token of ") or asked["name"]
        uri = ROOMS.get(call_id, "own" if call_id == "204918374" else "team")
        return json.dumps(
            {
                "jid": "guest1@meet.example.com",
                "password": "once",
                "space": f"{uri}@cb1.meet.example.com",
                "nick": name,
                "expires": 60,
                "reentry": f"token of {name}",
                "title": "Product team",
                "callId": call_id or "204918374",
            }
        ).encode()

    routes.route("/join", methods=["POST"])(join)
    return routes


def main() -> None:
    """Until it is ended."""
    port, folder = sys.argv[1:]
    site = Site(application(Path(folder)).resource())
    serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(site)
    print("ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
