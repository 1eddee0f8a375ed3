"""Steps 1 and 12: C{cms check --login}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers import stubs
from peers.certs import Pair
from peers.checkstage import OFFICE, PASSWORD, Stage, records
from peers.clientstub import ClientServer
from peers.contract import DOMAIN
from peers.faultcases.case import Cases
from peers.network import free_port
from peers.pki import Authority

CASES = Cases()


def stub(pair: Callable[[Stage], Pair] | None = None, **settings: Any) -> Callable[..., list[str]]:
    """A client port that goes wrong."""

    def arrange(stage: Stage) -> list[str]:
        shown = pair(stage) if pair is not None else stage.house.good
        return stage.logs_in(stage.serve(ClientServer(shown, DOMAIN, **settings)))

    return arrange


@CASES.case("login-denied", 12, "said no", "password", name="wrong-password", text="not hers")
def wrong_password(stage: Stage) -> list[str]:
    """The Callbridge was asked."""
    return stage.logs_in(stage.house.linked[0].client_port)


@CASES.case("login-denied", 12, "said no", "cms log --user", name="unknown-user", text=PASSWORD)
def unknown_user(stage: Stage) -> list[str]:
    """The Callbridge was asked about somebody it does not know."""
    return stage.logs_in(stage.house.linked[0].client_port, f"nobody@{DOMAIN}")


@CASES.case("login-disabled", 12, "not allowed to log in", "Enable the account", text=PASSWORD)
def disabled_user(stage: Stage) -> list[str]:
    """The password is right, the account disabled."""
    server, _ = stage.house.linked
    return stage.logs_in(server.client_port, stage.house.disabled_user)


@CASES.case(
    "no-callbridge",
    1,
    "No Callbridge is connected",
    "Start a Callbridge",
    text=PASSWORD,
    seconds=3.0,  # the server waits for one, for longer than four seconds
)
def link_down(stage: Stage) -> list[str]:
    """The link is down, which is not the user's fault."""
    return stage.logs_in(stage.house.server.client_port)


CASES.add(
    "login-temporary",
    12,
    "could not decide the log-in",
    "Try again",
    stub(failure=("temporary-auth-failure", "the directory does not answer")),
    text=PASSWORD,
)
CASES.add(
    "login-slowed",
    12,
    "does not look at the log-in",
    "until then it is refused like a wrong one",
    stub(
        failure=("temporary-auth-failure", "too many failed log-ins, refused for 300 s"),
        marks=" xmlns:f='urn:x-cms:fault:1' f:name='login-slowed' f:seconds='300'",
    ),
    text=PASSWORD,
)
CASES.add(
    "login-no-mechanism",
    12,
    "GSSAPI",
    "SCRAM-SHA-256",
    stub(mechanisms=("GSSAPI",)),
    text=PASSWORD,
)
CASES.add("login-no-starttls", 12, "STARTTLS", "listener", stub(starttls=False), text=PASSWORD)
CASES.add(
    "login-wrong-domain",
    12,
    f"does not serve the domain {DOMAIN}",
    "one domain everywhere",
    stub(error="host-unknown"),
    text=PASSWORD,
)


@CASES.case(
    "login-wrong-domain", 12, "does not serve", "one domain", name="other-domain", text=PASSWORD
)
def other_domain(stage: Stage) -> list[str]:
    """Prosody, which serves another domain."""
    arguments = stage.logs_in(stage.house.prosody.client_port, f"alice@{OFFICE}")
    port = stage.house.prosody.client_port
    names = [f"SRV {n}0 10 {port} xmpp{n}.{DOMAIN}." for n in (1, 2)]
    stage.house.dns.change(OFFICE, records(5223, client=names))
    return arguments


@CASES.case("login-unreachable", 12, "cannot be reached", "client listener", text=PASSWORD)
def nobody_listens(stage: Stage) -> list[str]:
    """The client listener is down."""
    return stage.logs_in(free_port())


CASES.add(
    "login-unreachable",
    12,
    "cannot be reached",
    "client listener",
    lambda stage: stage.logs_in(stage.enter_context(stubs.filtered_port())),
    name="client-port-filtered",
    text=PASSWORD,
)
CASES.add(
    "login-untrusted",
    12,
    "does not believe the server",
    "tls.trust",
    stub(lambda stage: Authority("Strange CA").issue([DOMAIN]).write(stage.directory)),
    text=PASSWORD,
)
CASES.add(
    "login-untrusted",
    12,
    f"not the XMPP domain {DOMAIN}",
    f"DNS:{DOMAIN}",
    stub(lambda stage: stage.house.root.issue(["localhost"]).write(stage.directory)),
    name="login-certificate-without-domain",
    text=PASSWORD,
)
_DECIDED = ("challenge",)  # what others than the server have to answer has longer
for _stop in ("header", "features", "proceed", "mechanisms", "challenge"):
    CASES.add(
        "login-timeout",
        12,
        f"did not complete the log-in within {4 if _stop in _DECIDED else 1} s",
        "hangs",
        stub(stops=_stop),
        name=f"login-silent-before-{_stop}",
        text=PASSWORD,
    )
    CASES.add(
        "login-broken",
        12,
        "broke off",
        "log",
        stub(stops=_stop, hangs_up=True),
        name=f"login-broken-before-{_stop}",
        text=PASSWORD,
    )
