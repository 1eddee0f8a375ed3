"""Step 12, login: what keeps somebody with a browser from a meeting."""

from __future__ import annotations

from cms.faults.kinds import Fault, LoginError, Side, StepWarning
from cms.faults.lines import SERVER_LOG
from cms.signalflow import Step

_NGINX_LOCATION = (
    "location / {{     # nginx\n"
    "    proxy_pass http://127.0.0.1:5280;\n"
    "    proxy_http_version 1.1;\n"
    "    proxy_set_header Host $http_host;\n"
    "    proxy_set_header X-Forwarded-For $remote_addr;\n"
    "    proxy_set_header Upgrade $http_upgrade;\n"
    "    proxy_set_header Connection $connection_upgrade;\n"
    "}}"
)

WEB_NO_SERVER = Fault(
    "web-no-server",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "502 Bad Gateway",
        "504 Gateway Time-out",
        "503 Service Unavailable: No server is available to handle this request",
    ),
    cause="A proxy answers at {url}, and does not reach the XMPP server behind it (HTTP {status}).",
    cure=(
        "Start the XMPP server, and let the proxy connect to its listen.web_plain without TLS, or"
        " to listen.web with TLS; with haproxy: before the endpoint the proxy must send the PROXY"
        " protocol."
    ),
    mend="ss -ltnp     # on the XMPP server's host: where it listens",
)
WEB_NOT_OURS = Fault(
    "web-not-ours",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "404 Not Found in place of the meeting",
        "the proxy's own page: Welcome to nginx!",
        "another site opens",
    ),
    cause="{url} is not answered by the meeting server: {problem}.",
    cure="Let the proxy send all paths of this host (/) to the XMPP server's web listener.",
    mend=_NGINX_LOCATION,
)
HOST_META_MISSING = Fault(
    "host-meta-missing",
    StepWarning,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "strophe.js or stanza finds no WebSocket for the domain",
        "host-meta: 404",
    ),
    cause="Other web clients cannot find the WebSocket: {url} {problem}.",
    cure=(
        "Let the proxy send /.well-known/host-meta and /.well-known/host-meta.json to the XMPP"
        " server, with the headers of the answer."
    ),
)
HOST_META_ELSEWHERE = Fault(
    "host-meta-elsewhere",
    StepWarning,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "the client connects to ws://127.0.0.1:5280",
        "other web clients connect to a wrong host or port",
    ),
    cause="{url} sends other web clients to {found}, not to {expected}.",
    cure="Let the proxy pass the browser's Host, port included, to the XMPP server.",
    mend="proxy_set_header Host $http_host;     # nginx; HAProxy and Caddy do so by themselves",
)
WEBSOCKET_NOT_PASSED = Fault(
    "websocket-not-passed",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK | Side.SERVER,
    symptoms=(
        "WebSocket connection failed: Error during WebSocket handshake: Unexpected response code",
        "the page opens, and stays at Connecting",
        "426 Upgrade Required",
    ),
    cause=(
        "The request for a WebSocket at {url} arrives without its headers Upgrade and Connection:"
        " the proxy does not pass them (HTTP {status})."
    ),
    cure="Let the proxy pass both headers, with HTTP/1.1.",
    mend=(
        "map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}     # nginx, in http\n"
        + _NGINX_LOCATION
    ),
)
WEBSOCKET_REFUSED = Fault(
    "websocket-refused",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "WebSocket connection failed",
        "Unexpected response code",
        "the page opens, and stays at Connecting",
    ),
    cause="{url} did not become a WebSocket: {problem}.",
    cure=(
        "Let the proxy send /xmpp-websocket to the XMPP server as it is; if it arrives there, the"
        " server's log says why it was refused."
    ),
    mend=SERVER_LOG,
)
WEBSOCKET_NO_SUBPROTOCOL = Fault(
    "websocket-no-subprotocol",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "Sent non-empty Sec-WebSocket-Protocol header but no response was received",
        "closed with 1006 as soon as it is open",
    ),
    cause=(
        '{url} became a WebSocket without the sub-protocol "xmpp" (it chose {chosen}), which'
        " browsers close at once."
    ),
    cure=(
        "Let the proxy pass Sec-WebSocket-Protocol in both directions; if something else than the"
        " XMPP server answers there, send the path to the XMPP server."
    ),
    mend="proxy_set_header Sec-WebSocket-Protocol $http_sec_websocket_protocol;     # nginx",
)
ORIGIN_NOT_PASSED = Fault(
    "origin-not-passed",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "WebSocket refused with 403 behind a proxy",
        "the page's own WebSocket is of another origin",
    ),
    cause=(
        "{url} refuses the page's own request as one of another site: the server does not see the"
        " host that is in the browser's address, {host}."
    ),
    cure="Let the proxy pass the browser's Host, port included, to the XMPP server.",
    mend="proxy_set_header Host $http_host;     # nginx; HAProxy and Caddy do so by themselves",
)
DOOR_CLOSED = Fault(
    "door-closed",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK | Side.SERVER,
    symptoms=(
        "503 at the link to a meeting",
        "the page says that joining is closed",
    ),
    cause="The door is closed: {url} shows no pages and admits no guests.",
    cure="Open it with web.enabled, and restart the XMPP server.",
    mend="[web]\nenabled = true     # xmpp.toml",
)
JOIN_DENIED = Fault(
    "join-denied",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "a guest cannot join: call ID or passcode is wrong",
        "the link to the meeting does not work any more",
        "guests are refused, members come in",
    ),
    cause=(
        "The Callbridge admits no guest to the meeting {meeting} with what was given: the call ID,"
        " passcode or link is wrong, or the space is closed to guests. Guests are not told which."
    ),
    cure=(
        "Compare it with the space at its Callbridge. If wrong passcodes were tried too often,"
        " strangers need the link for an hour, and members come in as ever."
    ),
    mend="cms callbridge space list --config callbridge.toml     # on the Callbridge's host",
)
JOIN_DELAYED = Fault(
    "join-delayed",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "too many tries: wait before you try again",
        "429 at POST /join",
        "all guests are slowed for the mistakes of one",
    ),
    cause="{url} does not look at requests to join from this address for {seconds} s.",
    cure=(
        "Wait that long. If all guests are slowed together, the server does not see their addresses"
        " behind a proxy: see docs/operate.md, Behind a proxy."
    ),
    mend="[listen]\nforwarded_for = true     # xmpp.toml; the proxy must write X-Forwarded-For",
)
JOIN_BROKEN = Fault(
    "join-broken",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "the page says that something went wrong after Join",
        "POST /join: 404 or 405",
    ),
    cause="The request to join at {url} got no usable answer: {problem}.",
    cure=(
        "Let the proxy send POST /join to the XMPP server as it is; if it arrives there, the"
        " server's log says more."
    ),
    mend=SERVER_LOG,
)
ROOM_FULL = Fault(
    "room-full",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "the meeting is full",
        "service-unavailable when joining the room",
    ),
    cause="The meeting {space} takes nobody more.",
    cure="Wait until somebody leaves; docs/spaces.md has the limits.",
    mend="cms callbridge space list --config callbridge.toml     # how many are in each",
)
ROOM_REFUSED = Fault(
    "room-refused",
    LoginError,
    Step.LOGIN,
    on=Side.CHECK,
    symptoms=(
        "admitted, and yet not let into the room",
        "forbidden, not-authorized or registration-required when joining the room",
    ),
    cause="The meeting {space} did not let the guest in ({condition}).",
    cure=(
        "See whether the space was closed meanwhile, or bans this name; its Callbridge's log says"
        " more."
    ),
    mend="cms callbridge space show {name} --config callbridge.toml",
)
