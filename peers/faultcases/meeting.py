"""Steps 1 and 6 to 12 with a browser: C{cms check --join}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers import stubs
from peers.certs import Pair
from peers.checkstage import HOST, Stage, records
from peers.faultcases.case import Cases
from peers.network import free_port
from peers.pki import Authority, Validity
from peers.webstub import MECHANISMS, OPEN, WebServer, failure, page, stream_error, told

CASES = Cases()
CALL_ID = "123456789"
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
    stub(answers={f"/meeting/{CALL_ID}": told(503, reason="door-closed", text="closed")}),
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
