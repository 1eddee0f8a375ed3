"""Steps 1 and 6 to 12 with a browser: C{cms check --join}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peers import stubs
from peers.certs import Pair
from peers.checkstage import CALL_ID, CLOSED, HOST, PASSCODE, Stage, records
from peers.faultcases.case import Cases
from peers.network import free_port
from peers.pki import Authority, Validity
from peers.webproxies import Kind, WebProxy
from peers.webstub import (
    MECHANISMS,
    OPEN,
    Session,
    WebServer,
    failure,
    page,
    room_error,
    stream_error,
    told,
)

CASES = Cases()
OWN_CA = {"web-certificate-private"}  # which is true of every certificate of these tests


def visits(url: str, *more: str) -> list[str]:
    """A visit to a meeting."""
    return ["--join", CALL_ID, "--url", url, *more]


def by_name(stage: Stage, scheme: str, port: int, *more: str) -> list[str]:
    """The same, by the name that DNS has."""
    stage.zone(*records(5223))
    dns = stage.house.dns.address
    trust = ("--trust", str(stage.house.trust))
    return visits(f"{scheme}://{HOST}:{port}", "--dns", dns, *trust, *more)


def stub(*more: str, **settings: Any) -> Callable[[Stage], list[str]]:
    """A server of pages on this host that goes wrong."""

    def arrange(stage: Stage) -> list[str]:
        return visits(f"http://127.0.0.1:{stage.serve(WebServer(**settings))}", *more)

    return arrange


def secure(pair: Callable[[Stage], Pair]) -> Callable[[Stage], list[str]]:
    """A server of pages with this certificate."""

    def arrange(stage: Stage) -> list[str]:
        return by_name(stage, "https", stage.serve(stubs.tls(pair(stage), WebServer())))

    return arrange


# the way to the page

CASES.add(
    "web-unreachable",
    6,
    "nothing listens on port",
    "listen.web",
    lambda stage: by_name(stage, "https", free_port()),
)
CASES.add(
    "web-unreachable",
    6,
    "did not answer on port",
    "firewall",
    lambda stage: by_name(stage, "https", stage.enter_context(stubs.filtered_port())),
    name="web-port-filtered",
)
CASES.add(
    "web-not-tls",
    7,
    "plain HTTP answers",
    "listen.web_plain is for a proxy",
    lambda stage: by_name(stage, "https", stage.serve(WebServer())),
)
CASES.add(
    "web-insecure",
    7,
    "no cryptography",
    "https",
    lambda stage: by_name(stage, "http", stage.serve(WebServer())),
)


@CASES.case("web-not-plain", 7, "answers with TLS", "Write https")
def tls_on_http(stage: Stage) -> list[str]:
    """http in place of https, at a server whose TLS refuses what is none."""
    port = stage.serve(stubs.tls(stage.house.good, WebServer()))
    return visits(f"http://127.0.0.1:{port}")


CASES.add(
    "web-certificate-untrusted",
    7,
    "Browsers do not trust",
    "public CA",
    secure(lambda stage: Authority("Strange CA").issue([HOST]).write(stage.directory)),
)
CASES.add(
    "certificate-expired",
    7,
    "expired at",
    "Renew",
    secure(
        lambda stage: stage.house.root.issue([HOST], validity=Validity(-10, -1)).write(
            stage.directory
        )
    ),
    name="web-certificate-expired",
)
CASES.add(
    "web-certificate-name",
    8,
    f"not {HOST}",
    f"DNS:{HOST}",
    secure(lambda stage: stage.house.root.issue(["www.example.com"]).write(stage.directory)),
    also=OWN_CA,
)

CASES.add(
    "web-certificate-private",
    7,
    "of a CA of your own",
    "public CA",
    lambda stage: by_name(stage, "https", stage.pages.web_port, "--passcode-stdin"),
    warns=True,
    text=PASSCODE,
)

# the page


CASES.add(
    "web-not-ours",
    12,
    "HTTP 404",
    "all paths of this host",
    stub(answers={f"/meeting/{CALL_ID}": page(404, "<h1>404 Not Found</h1>")}),
)
CASES.add(
    "web-not-ours",
    12,
    "the page is another one",
    "all paths of this host",
    stub(answers={f"/meeting/{CALL_ID}": page(200, "<h1>Welcome to nginx!</h1>")}),
    name="web-another-site",
)
CASES.add(
    "web-not-ours",
    12,
    "no answer within 2 s",
    "all paths of this host",
    stub(answers={f"/meeting/{CALL_ID}": b""}),
    name="web-silent",
)
CASES.add(
    "door-closed",
    12,
    "The door is closed",
    "web.enabled",
    lambda stage: visits(f"http://127.0.0.1:{stage.house.closed}"),
)

# the WebSocket


def websocket(answer: bytes) -> Callable[[Stage], list[str]]:
    """A server that answers this in place of a WebSocket."""
    return stub(answers={"/xmpp-websocket": answer})


CASES.add(
    "websocket-refused", 12, "HTTP 405", "as it is", websocket(page(405)), name="websocket-405"
)
CASES.add(
    "websocket-refused",
    12,
    "no answer within 2 s",
    "as it is",
    websocket(b""),
    name="websocket-silent",
)
CASES.add(
    "websocket-refused",
    12,
    "did not receive a valid HTTP response",
    "as it is",
    websocket(b"SSH-2.0-OpenSSH_9.2\r\n"),
    name="websocket-no-http",
)
CASES.add(
    "websocket-no-subprotocol",
    12,
    "it chose none",
    "Sec-WebSocket-Protocol",
    stub(subprotocol=False),
)

# the door


def door(answer: bytes) -> Callable[[Stage], list[str]]:
    """A server that answers this to a guest."""
    return stub(answers={"/join": answer})


CASES.add("join-broken", 12, "HTTP 404", "POST /join", door(page(404)))
CASES.add(
    "join-broken", 12, "it is no admission", "log", door(told(200, jid="x")), name="join-nonsense"
)
CASES.add(
    "join-broken",
    12,
    "HTTP 400, bad-request",
    "log",
    door(told(400, reason="bad-request", text="name")),
    name="join-bad-request",
)
CASES.add(
    "join-delayed",
    12,
    "for 300 s",
    "forwarded_for",
    door(told(429, reason="join-slowed", seconds=300, text="wait")),
)
CASES.add(
    "web-no-server",
    12,
    "HTTP 504",
    "listen.web_plain",
    door(page(504)),
    name="join-gateway-timeout",
)

CASES.add(
    "join-denied",
    12,
    "admits no guest",
    "Compare it with the space",
    lambda stage: visits(f"http://127.0.0.1:{stage.pages.web_plain_port}", "--passcode-stdin"),
    text="1234",
)
CASES.add(
    "join-denied",
    12,
    "closed to guests",
    "Compare it with the space",
    lambda stage: ["--join", f"http://127.0.0.1:{stage.pages.web_plain_port}/meeting/{CLOSED}"],
    name="join-closed-space",
)
CASES.add(
    "join-denied",
    12,
    "link is wrong",
    "Compare it with the space",
    lambda stage: ["--join", f"http://127.0.0.1:{stage.pages.web_plain_port}/m/{'A' * 22}"],
    name="join-old-link",
)
CASES.add(
    "no-callbridge",
    1,
    "No Callbridge is connected",
    "Start a Callbridge",
    lambda stage: visits(f"http://127.0.0.1:{stage.idle_web_port}"),
    name="join-without-callbridge",
    seconds=3.0,
)
CASES.add(
    "origin-refused",
    12,
    "https://www.example.com",
    "web.origins",
    lambda stage: visits(
        f"http://127.0.0.1:{stage.pages.web_plain_port}",
        *("--origin", "https://www.example.com", "--passcode-stdin"),
    ),
    text=PASSCODE,
)

# behind a proxy with a mistake


def behind(
    kind: Kind, mistakes: Mapping[str, str], port: Callable[[Stage], int] | None = None
) -> Callable[[Stage], list[str]]:
    """The pages behind a proxy that is set up as docs/operate.md says, but for a mistake."""

    def arrange(stage: Stage) -> list[str]:
        plain = stage.pages.web_plain_port if port is None else port(stage)
        proxy = WebProxy(stage.house.processes, kind, stage.house.good, plain)
        stage.callback(proxy.start(mistakes).stop)
        return by_name(stage, "https", proxy.port, "--passcode-stdin")

    return arrange


HOST_LINE = "        proxy_set_header Host $http_host;\n"
FIRST_LOCATION = "    location / {\n"
HTTP_1_1 = "        proxy_http_version 1.1;\n"
UPGRADE = "        proxy_set_header Upgrade $http_upgrade;\n"
CONNECTION = "        proxy_set_header Connection $connection_upgrade;\n"
for _name, _line in (("upgrade", UPGRADE), ("connection", CONNECTION), ("http-1-1", HTTP_1_1)):
    CASES.add(
        "websocket-not-passed",
        12,
        "without its headers Upgrade and Connection",
        "proxy_set_header Upgrade $http_upgrade;",
        behind("nginx", {_line: ""}),
        name=f"nginx-without-{_name}",
        also=OWN_CA,
        text=PASSCODE,
    )
CASES.add(
    "websocket-not-passed",
    12,
    "without its headers Upgrade and Connection",
    "HTTP/1.1",
    behind("nginx", {HTTP_1_1: "", UPGRADE: "", CONNECTION: ""}),
    name="nginx-without-all",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "websocket-no-subprotocol",
    12,
    "it chose none",
    "Sec-WebSocket-Protocol",
    behind("nginx", {UPGRADE: f'{UPGRADE}        proxy_set_header Sec-WebSocket-Protocol "";\n'}),
    name="nginx-without-subprotocol",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "origin-not-passed",
    12,
    "as one of another site",
    "proxy_set_header Host $http_host;",
    behind("nginx", {HOST_LINE: ""}),
    also={*OWN_CA, "host-meta-elsewhere"},
    text=PASSCODE,
)
CASES.add(
    "origin-not-passed",
    12,
    "as one of another site",
    "port included",
    behind("nginx", {"Host $http_host": "Host $host"}),
    name="nginx-host-without-port",
    also={*OWN_CA, "host-meta-elsewhere"},
    text=PASSCODE,
)
CASES.add(
    "host-meta-missing",
    12,
    "answers HTTP 404",
    "/.well-known/host-meta",
    behind(
        "nginx", {FIRST_LOCATION: f"    location /.well-known/ {{ return 404; }}\n{FIRST_LOCATION}"}
    ),
    warns=True,
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "host-meta-elsewhere",
    12,
    "sends other web clients to ws://127.0.0.1:",
    "Host",
    behind(
        "nginx",
        {
            FIRST_LOCATION: "    location /.well-known/ { proxy_pass http://127.0.0.1:5280; }\n"
            f"{FIRST_LOCATION}"
        },
    ),
    warns=True,
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "web-not-ours",
    12,
    "HTTP 404",
    "all paths of this host",
    behind("nginx", {FIRST_LOCATION: "    location /xmpp-websocket {\n"}),
    name="nginx-one-path-only",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "web-not-ours",
    12,
    "/static/",
    "all paths of this host",
    behind("nginx", {FIRST_LOCATION: f"    location /static/ {{ root /srv; }}\n{FIRST_LOCATION}"}),
    name="nginx-static-elsewhere",
    also=OWN_CA,
    text=PASSCODE,
)
_WITHOUT: tuple[tuple[Kind, int], ...] = (("nginx", 502), ("caddy", 502), ("haproxy", 503))
for _kind, _status in _WITHOUT:
    CASES.add(
        "web-no-server",
        12,
        f"HTTP {_status}",
        "Start the XMPP server",
        behind(_kind, {}, lambda stage: free_port()),
        name=f"{_kind}-without-server",
        seconds=3.0,  # HAProxy tries four times, a second apart
        also=OWN_CA,
        text=PASSCODE,
    )
CASES.add(
    "web-no-server",
    12,
    "HTTP 502",
    "listen.web_plain without TLS",
    behind("nginx", {}, lambda stage: stage.pages.web_port),
    name="nginx-to-tls",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "web-no-server",
    12,
    "HTTP 502",
    "the PROXY protocol",
    behind("haproxy", {" send-proxy-v2": ""}, lambda stage: stage.pages.web_haproxy_port),
    name="haproxy-without-header",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "web-no-server",
    12,
    "HTTP 502",
    "the PROXY protocol",
    behind("haproxy", {}),
    name="haproxy-header-not-awaited",
    also=OWN_CA,
    text=PASSCODE,
)
CASES.add(
    "web-not-tls",
    7,
    "plain HTTP answers",
    "Let the proxy end TLS",
    behind("nginx", {"listen 443 ssl http2": "listen 443"}),
    name="nginx-without-tls",
    text=PASSCODE,
)

# the log-in and the room


def logs_in(*says: str) -> Callable[[Stage], list[str]]:
    """A server that answers the client's frames with these."""
    return stub(says=says)


CASES.add(
    "login-denied",
    12,
    "said no",
    "password",
    logs_in(f"{OPEN}\n{MECHANISMS}", failure("not-authorized")),
    name="guest-not-authorized",
)
CASES.add(
    "login-timeout",
    12,
    "waiting for its stream header",
    "hangs",
    logs_in(),
    name="websocket-without-open",
)
CASES.add(
    "login-wrong-domain",
    12,
    "does not serve",
    "one domain",
    logs_in(f"{OPEN}\n{stream_error('host-unknown')}"),
    name="guest-wrong-domain",
)


def in_room(answer: str) -> Callable[[Stage], list[str]]:
    """A server that lets a guest in, whose room answers this."""

    def arrange(stage: Stage) -> list[str]:
        return stub(says=Session().says(answer))(stage)

    return arrange


CASES.add(
    "room-full", 12, "takes nobody more", "leaves", in_room(room_error("service-unavailable"))
)
for _condition in ("forbidden", "not-authorized", "registration-required"):
    CASES.add(
        "room-refused",
        12,
        _condition,
        "bans this name",
        in_room(room_error(_condition)),
        name=f"room-{_condition}",
    )
