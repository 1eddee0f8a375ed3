"""Steps 9 to 11: the stream, the registration, and the link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers.checkstage import COMPONENT, OFFICE, Stage, records
from peers.component import header, stream_error
from peers.contract import DOMAIN
from peers.faultcases.case import Cases

CASES = Cases()

# RFC 6120 4.9.3, but for those that say something of their own about a registration.
CONDITIONS = (
    *("bad-format", "bad-namespace-prefix", "connection-timeout", "host-gone"),
    *("improper-addressing", "internal-server-error", "invalid-from", "invalid-namespace"),
    *("invalid-xml", "not-well-formed", "policy-violation", "remote-connection-failed", "reset"),
    *("resource-constraint", "restricted-xml", "see-other-host", "system-shutdown"),
    *("undefined-condition", "unsupported-encoding", "unsupported-feature"),
    *("unsupported-stanza-type", "unsupported-version"),
)


def says(**settings: Any) -> Callable[[Stage], list[str]]:
    """A component server with a good certificate that says these things."""
    return lambda stage: stage.against(stage.component(**settings))


# Step 9


CASES.add("register-silent", 9, "sent no stream header", "component port", says(before=b""))
CASES.add(
    "register-not-xmpp",
    9,
    'stream is for "jabber:client"',
    "5223",
    says(before=header("jabber:client")),
    name="client-namespace",
)
CASES.add(
    "register-other-service",
    9,
    'is a mail server (SMTP) and no XMPP component port: it said "220 mail.example.com ESMTP"',
    "5223",
    says(before=b"220 mail.example.com ESMTP\r\n"),
    name="smtp-over-tls",
)
CASES.add(
    "register-http",
    9,
    'is a web server: it answered the stream header with "HTTP/1.1 400 Bad Request"',
    "not HTTP",
    says(before=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    name="https-port",
)
CASES.add(
    "register-not-xmpp",
    9,
    "no id",
    "5223",
    says(before=header(ident=None)),
    name="header-without-id",
)
CASES.add(
    "register-closed",
    9,
    "closed the connection before it opened its stream",
    "log",
    says(before=b"", hangs_up=True),
)


@CASES.case("register-not-xmpp", 9, "not an XMPP component stream", "client port")
def client_direct_port(stage: Stage) -> list[str]:
    """The direct TLS port for clients of our own server (XEP-0368)."""
    house = stage.house
    assert house.server.process.running
    return stage.against(house.direct_port)


for _condition in CONDITIONS:
    CASES.add(
        "register-rejected",
        9,
        f'rejected the stream with "{_condition}"',
        "log",
        says(before=header(ident=None) + stream_error(_condition, "words")),
        name=f"register-rejected-{_condition}",
    )
    CASES.add(
        "registration-rejected",
        10,
        f'answered the registration with "{_condition}"',
        "log",
        says(answer=stream_error(_condition, "words of the server")),
        name=f"registration-rejected-{_condition}",
    )


# Step 10


CASES.add(
    "registered-silent",
    10,
    "did not answer the registration",
    COMPONENT,
    says(answer=b""),
)
CASES.add(
    "registered-closed",
    10,
    "closed the connection instead of answering the registration",
    "log",
    says(answer=b"", hangs_up=True),
)


@CASES.case("unknown-id", 10, f'does not know the component "cb9.{DOMAIN}"', "callbridge add")
def unknown_id(stage: Stage) -> list[str]:
    """A Callbridge that nobody has added to our server."""
    return stage.against(stage.house.server.component_port, unique_name="cb9")


@CASES.case("unknown-id", 10, "does not know the component", "callbridge add", name="host-unknown")
def host_unknown(stage: Stage) -> list[str]:
    """The same, of a server that answers before it opens its stream."""
    return stage.against(stage.component(before=header() + stream_error("host-unknown")))


@CASES.case("domain-mismatch", 10, f"serves the domain {DOMAIN}", "correct domain on this side")
def domain_mismatch(stage: Stage) -> list[str]:
    """One domain here, another one there; the certificate covers both."""
    stage.house.dns.change(OFFICE, records(5223))
    address = f"xmpp1.{DOMAIN}:{stage.house.server.component_port}"
    return stage.asks(address, domain=OFFICE)


@CASES.case("wrong-secret", 10, f"cb1.{OFFICE}", "an ID that", name="domain-mismatch-ejabberd")
def domain_mismatch_ejabberd(stage: Stage) -> list[str]:
    """The same, where an unknown ID is answered like a wrong secret."""
    stage.house.dns.change(OFFICE, records(5223))
    address = f"xmpp1.{DOMAIN}:{stage.house.ejabberd.component_port}"
    return [*stage.asks(address, domain=OFFICE), "--register"]


@CASES.case("wrong-secret", 10, f'refused the secret of "{COMPONENT}"', "shared_secret")
def wrong_secret(stage: Stage) -> list[str]:
    """A secret that our server does not hold."""
    return stage.against(stage.house.server.component_port, secret_file=_wrong(stage))


@CASES.case("wrong-secret", 10, "refused the secret", "shared_secret", name="wrong-secret-ejabberd")
def wrong_secret_ejabberd(stage: Stage) -> list[str]:
    """A secret that ejabberd does not hold."""
    port = stage.house.ejabberd.component_port
    return [*stage.against(port, "localhost", secret_file=_wrong(stage)), "--register"]


@CASES.case(
    "wrong-secret",
    10,
    "refused the secret",
    "shared_secret",
    name="wrong-secret-prosody",
    also=["unprotected"],
)
def wrong_secret_prosody(stage: Stage) -> list[str]:
    """A secret that Prosody does not hold."""
    stage.zone(*records(5223))
    address = f"localhost:{stage.house.prosody.component_port}"
    tls = {"unprotected": True}
    return stage.configured(address, tls=tls, shared_secret="not the secret")


@CASES.case(
    "unknown-id",
    10,
    "does not know the component",
    "callbridge add",
    name="unknown-id-prosody",
    also=["unprotected"],
)
def unknown_id_prosody(stage: Stage) -> list[str]:
    """A Callbridge that nobody has added to Prosody."""
    stage.zone(*records(5223))
    address = f"localhost:{stage.house.prosody.component_port}"
    return stage.configured(address, tls={"unprotected": True}, unique_name="cb9")


# Our own server never refuses this host itself, so a stub says what it says to others.
CASES.add(
    "registration-slowed",
    10,
    "too many failed registrations and is refused for 60 s",
    "then wait",
    says(
        before=header()
        + stream_error(
            "policy-violation",
            "too many failures, refused for 60 s",
            "<peer-refused xmlns='urn:x-cms:fault:1' seconds='60'/>",
        )
    ),
)


def _wrong(stage: Stage) -> object:
    return stage.file("wrong.secret", b"not the secret")


# Step 11


CASES.add("link-silent", 11, "did not answer a ping", "network", says(answers=False))
CASES.add("link-closed", 11, "closed the link", "tried again", says(after=b"</stream:stream>"))
CASES.add(
    "link-closed",
    11,
    "closed the link (system-shutdown)",
    "tried again",
    says(after=stream_error("system-shutdown")),
    name="link-shut-down",
)
CASES.add(
    "link-error",
    11,
    'ended the link with "resource-constraint"',
    "tried again",
    says(after=stream_error("resource-constraint")),
)
CASES.add(
    "link-lost",
    11,
    "was lost",
    "tried again",
    says(hangs_up=True),
)
CASES.add(
    "clock-apart",
    11,
    "s apart",
    "NTP",
    says(clock=3600.0),
    warns=True,
)
