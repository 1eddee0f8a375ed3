"""Steps 7 and 8: TLS, the chain, and the names in the certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import rsa

from peers import stubs
from peers.certs import Pair
from peers.checkstage import COMPONENT, HOST, OTHER_HOST, SECRET, Stage, records
from peers.component import ComponentServer
from peers.component import header as stream_header
from peers.contract import DOMAIN
from peers.faultcases.case import Cases
from peers.pki import CLIENT, SERVER, Authority, Validity, malformed_san
from peers.pki import self_signed as self_signed_leaf

CASES = Cases()
NAMES = (DOMAIN, HOST, OTHER_HOST, "localhost")


# Step 7: no TLS, or none that gets anywhere


@CASES.case("tls-client-port", 7, "STARTTLS, not TLS from the first byte", "component port, 5223")
def starttls_port(stage: Stage) -> list[str]:
    """The client port of a real server."""
    return stage.against(stage.house.server.client_port)


@CASES.case("tls-plain-component", 7, "component port, but one without TLS", "Enable TLS")
def component_without_tls(stage: Stage) -> list[str]:
    """Prosody, whose component port has no TLS."""
    return stage.against(stage.house.prosody.component_port)


@CASES.case("tls-http", 7, '("HTTP/1.1 400 Bad Request")', "not HTTP")
def http_port(stage: Stage) -> list[str]:
    """A web server."""
    return stage.against(stage.serve(stubs.says(b"HTTP/1.1 400 Bad Request\r\n\r\n")))


def other(name: str, said: bytes, cause: str) -> None:
    """Another program on the port."""
    stub = stubs.says(said)
    CASES.add(
        *("tls-other-service", 7, cause, "5223", lambda stage: stage.against(stage.serve(stub))),
        name=name,
    )


other("ssh-port", b"SSH-2.0-OpenSSH_9.2p1\r\n", 'it said "SSH-2.0-OpenSSH_9.2p1"')
other("smtp-port", b"220 mx.example.com ESMTP\r\n", "is a mail server (SMTP)")
other("proxy-port", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 5223\r\n", "(PROXY protocol)")


@CASES.case("tls-not-spoken", 7, 'it said "welcome"', "5223")
def unknown_port(stage: Stage) -> list[str]:
    """Nobody knows what."""
    return stage.against(stage.serve(stubs.says(b"welcome\r\n")))


@CASES.case("tls-alert", 7, "alert internal error", "Look at the log")
def tls_alert(stage: Stage) -> list[str]:
    """A server that has no certificate, or wants none of this."""
    return stage.against(stage.serve(stubs.says(b"\x15\x03\x03\0\x02\x02\x50")))


@CASES.case("tls-server-port", 7, "the port for other XMPP servers", "component port, 5223")
def server_port(stage: Stage) -> list[str]:
    """The port where XMPP servers meet."""
    return stage.against(stage.serve(stubs.says(stream_header("jabber:server"))))


@CASES.case("tls-silent", 7, "did not finish the TLS handshake", "middlebox")
def tls_silent(stage: Stage) -> list[str]:
    """Something swallows the ClientHello."""
    return stage.against(stage.serve(stubs.silent))


@CASES.case("tls-reset", 7, "reset the connection during the TLS handshake", "middlebox")
def tls_reset(stage: Stage) -> list[str]:
    """A middlebox resets the connection after the ClientHello."""
    return stage.against(stage.serve(stubs.resets))


@CASES.case("tls-closed", 7, "closed the connection during the TLS", "log")
def tls_closed(stage: Stage) -> list[str]:
    """The server hangs up, politely, when it has read the ClientHello."""

    def hang_up(connection: socket.socket) -> None:
        connection.settimeout(5)
        connection.recv(65536)

    return stage.against(stage.serve(hang_up))


@CASES.case("tls-too-old", 7, "no version of TLS that is still safe", "Allow TLS 1.2 and TLS 1.3")
def tls_old(stage: Stage) -> list[str]:
    """A server from long ago."""

    def adjust(context: ssl.SSLContext) -> None:
        _anything(context)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    trouble = stubs.tls(stage.house.good, stubs.silent, adjust=adjust)
    return stage.against(stage.serve(trouble))


@CASES.case("tls-failed", 7, "handshake", "a cipher")
def no_shared_cipher(stage: Stage) -> list[str]:
    """A server whose only cipher does not fit its key."""

    def adjust(context: ssl.SSLContext) -> None:
        _tls_1_2(context)
        context.set_ciphers("AES128-SHA")  # RSA key exchange, with an EC key

    return stage.against(stage.component(adjust=adjust))


@CASES.case("tls-name-unknown", 7, "no certificate for the name", "connect by a name it knows")
def name_unknown(stage: Stage) -> list[str]:
    """A server for many names, and this is none of them (RFC 6066 3)."""

    def adjust(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    return stage.against(stage.component(adjust=adjust))


@CASES.case("unprotected", 7, "NO TLS", "component port with TLS", warns=True)
def unprotected(stage: Stage) -> list[str]:
    """A link without TLS, on purpose."""
    stage.zone(*records(5223))
    address = f"localhost:{stage.house.prosody.component_port}"
    return stage.configured(address, tls={"unprotected": True})


@CASES.case("tls-1.2-only", 7, "TLS 1.2 at the most", "Enable TLS 1.3", warns=True)
def tls_1_2_only(stage: Stage) -> list[str]:
    """A server that is getting on in years."""
    return stage.against(stage.component(adjust=_tls_1_2))


def _anything(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")


def _tls_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


# Step 7: our own certificate


def demands(presented: bool, old: bool) -> Callable[[Stage], list[str]]:
    """A server that demands a certificate, and gets none or one of a strange CA."""

    def arrange(stage: Stage) -> list[str]:
        house = stage.house
        inside = ComponentServer({COMPONENT: SECRET})
        adjust = _tls_1_2 if old else None
        port = stage.serve(stubs.tls(house.good, inside, house.certificates.trust, adjust))
        stage.zone(*records(port))
        stranger = Authority("Strange CA").issue([COMPONENT]).write(stage.directory)
        return stage.configured(f"{HOST}:{port}", stranger if presented else None)

    return arrange


for _old in (False, True):
    _also = ("tls-1.2-only",) if _old else ()
    _suffix = "-1.2" if _old else ""
    CASES.add(
        "tls-client-certificate-required",
        7,
        "demands a certificate",
        "tls.certificate",
        demands(presented=False, old=_old),
        name=f"tls-client-certificate-required{_suffix}",
        also=_also,
    )
    CASES.add(
        "tls-client-certificate-refused",
        7,
        "refused this Callbridge's certificate",
        "tls.trust",
        demands(presented=True, old=_old),
        name=f"tls-client-certificate-refused{_suffix}",
        also=_also,
    )


@CASES.case(
    "tls-client-certificate-required", 7, "demands a certificate", "tls.certificate", name="strict"
)
def strict_server(stage: Stage) -> list[str]:
    """Our own server, told to require certificates."""
    return stage.against(stage.house.strict.component_port)


@CASES.case("certificate-usage-client", 7, "may not be used by a client", "Client Authentication")
def for_servers_only(stage: Stage) -> list[str]:
    """A Callbridge's certificate of the wrong template: its extended key usage lacks clientAuth."""
    pair = stage.house.root.issue([COMPONENT], usages=[SERVER]).write(stage.directory)
    port = stage.component()
    stage.zone(*records(port))
    return stage.configured(f"{HOST}:{port}", pair)


# Steps 7 and 8: the server's certificate


def presents(make: Callable[[Stage], Pair]) -> Callable[[Stage], list[str]]:
    """A server that is right but for its certificate."""
    return lambda stage: stage.against(stage.component(make(stage)))


def certificate(
    fault: str, step: int, cause: str, cure: str, *, name: str = "", warns: bool = False
) -> Callable[[Callable[[Stage], Pair]], Callable[[Stage], Pair]]:
    """A case around the function that makes the certificate."""

    def add(make: Callable[[Stage], Pair]) -> Callable[[Stage], Pair]:
        CASES.add(fault, step, cause, cure, presents(make), name=name, warns=warns)
        return make

    return add


@certificate("certificate-expired", 7, "expired at", "Renew")
def expired(stage: Stage) -> Pair:
    """Right until yesterday."""
    return stage.house.root.issue(NAMES, validity=Validity(-10, -1)).write(stage.directory)


@certificate("certificate-not-yet-valid", 7, "valid only from", "clocks")
def future(stage: Stage) -> Pair:
    """Right tomorrow."""
    return stage.house.root.issue(NAMES, validity=Validity(1, 100)).write(stage.directory)


@certificate("certificate-expires-soon", 7, "expires in", "Renew", warns=True)
def expires_soon(stage: Stage) -> Pair:
    """Right for ten more days."""
    return stage.house.root.issue(NAMES, validity=Validity(-80, 10)).write(stage.directory)


@certificate("certificate-untrusted", 7, "not signed by a CA that this side trusts", "tls.trust")
def untrusted(stage: Stage) -> Pair:
    """Of a CA that nobody knows."""
    return Authority("Strange CA").issue(NAMES).write(stage.directory)


@certificate("certificate-self-signed", 7, "signed by itself", "Let a CA")
def self_signed(stage: Stage) -> Pair:
    """Signed by itself."""
    return self_signed_leaf(NAMES).write(stage.directory)


@certificate(
    "certificate-intermediate-missing",
    7,
    "without the intermediate",
    "Append the intermediate",
)
def intermediate_missing(stage: Stage) -> Pair:
    """Of a trusted CA, whose intermediate was left out."""
    return stage.house.intermediate.issue(NAMES).write(stage.directory)


@certificate(
    "certificate-intermediate-expired",
    7,
    "Old intermediate",
    "Replace the intermediate",
)
def intermediate_expired(stage: Stage) -> Pair:
    """Good, under an intermediate that is not."""
    old = Authority("Old intermediate", stage.house.root, Validity(-10, -1))
    return old.issue(NAMES).write(stage.directory, old)


@certificate("certificate-chain-order", 7, "out of order", "leaf first", warns=True)
def chain_out_of_order(stage: Stage) -> Pair:
    """Two intermediates, the upper one first."""
    lower = Authority("Lower intermediate", stage.house.intermediate)
    return lower.issue(NAMES).write(stage.directory, stage.house.intermediate, lower)


@certificate("certificate-usage-server", 7, "may not be used by a server", "Server Authentication")
def for_clients_only(stage: Stage) -> Pair:
    """Of the wrong template: its extended key usage lacks serverAuth."""
    return stage.house.root.issue(NAMES, usages=[CLIENT]).write(stage.directory)


@certificate("certificate-chain-surplus", 7, "Strange CA", "Remove it", warns=True)
def chain_surplus(stage: Stage) -> Pair:
    """A certificate in the file that has nothing to do with the others."""
    return stage.house.root.issue(NAMES).write(stage.directory, Authority("Strange CA"))


@CASES.case("certificate-weak", 7, "too weak to be believed", "2,048 bits")
def weak(stage: Stage) -> list[str]:
    """RSA of 1,024 bits, from a server that still thinks well of it."""
    key = rsa.generate_private_key(65537, 1024)
    pair = stage.house.root.issue(NAMES, key=key).write(stage.directory)
    return stage.against(stage.component(pair, _anything))


@certificate("identity-no-san", 8, "no subjectAltName", f"DNS:{DOMAIN}, DNS:{HOST}")
def nameless(stage: Stage) -> Pair:
    """Nothing but a common name."""
    return stage.house.root.issue(common_name=DOMAIN).write(stage.directory)


@certificate("identity-malformed", 8, "cannot be read", "subjectAltName")
def malformed(stage: Stage) -> Pair:
    """Names that no parser understands."""
    return stage.house.root.issue(san=malformed_san()).write(stage.directory)


@certificate("identity-domain-missing", 8, f"not the XMPP domain {DOMAIN}", f"DNS:{DOMAIN}")
def without_domain(stage: Stage) -> Pair:
    """For the server alone."""
    return stage.house.root.issue([HOST]).write(stage.directory)


@certificate("identity-host-missing", 8, f"not the server {HOST}", HOST)
def without_host(stage: Stage) -> Pair:
    """For the domain alone."""
    return stage.house.root.issue([DOMAIN]).write(stage.directory)


@certificate("identity-both-missing", 8, "neither the XMPP domain nor the server", "holds both")
def for_others(stage: Stage) -> Pair:
    """For another system."""
    return stage.house.root.issue(["other.example.com"]).write(stage.directory)


@certificate(
    "identity-other-domain", 8, f"not the XMPP domain {DOMAIN}", DOMAIN, name="parent-domain"
)
def for_the_parent(stage: Stage) -> Pair:
    """For the domain's parent, which covers nothing below it."""
    parent = DOMAIN.partition(".")[2]
    return stage.house.root.issue([parent, HOST]).write(stage.directory)


@certificate(
    "identity-domain-missing", 8, f"not the XMPP domain {DOMAIN}", f"DNS:{DOMAIN}", name="wildcard"
)
def wildcard_below(stage: Stage) -> Pair:
    """*.meet.example.com covers the server, not the domain itself."""
    return stage.house.root.issue([f"*.{DOMAIN}"]).write(stage.directory)


@certificate("identity-wildcard", 8, "by a wildcard only", "themselves", warns=True)
def wildcard_only(stage: Stage) -> Pair:
    """Both names by wildcards alone."""
    parent = DOMAIN.partition(".")[2]
    return stage.house.root.issue([f"*.{parent}", f"*.{DOMAIN}"]).write(stage.directory)


@certificate("identity-trailing-dot", 8, "ends with a dot", "without trailing dots")
def trailing_dot(stage: Stage) -> Pair:
    """A name written as in a zone file, which certificates do not allow (RFC 5280 4.2.1.6)."""
    return stage.house.root.issue([f"{DOMAIN}.", HOST]).write(stage.directory)


# An internationalised domain

IDN, IDN_ASCII = "b\u00fcro.example.com", "xn--bro-hoa.example.com"


@CASES.case("identity-domain-missing", 8, IDN_ASCII, f"DNS:{IDN_ASCII}", name="idn-missing")
def idn_missing(stage: Stage) -> list[str]:
    """An internationalised domain that the certificate does not hold."""
    return idn(stage, stage.house.root.issue(["localhost"]).write(stage.directory))


def idn(stage: Stage, pair: Pair, written: str = IDN) -> list[str]:
    """A check of an internationalised domain."""
    secrets = {f"cb1.{domain}": SECRET for domain in (IDN, IDN_ASCII)}
    port = stage.serve(stubs.tls(pair, ComponentServer(secrets)))
    stage.house.dns.change(IDN_ASCII, records(port))
    return stage.asks(f"localhost:{port}", domain=written)


# Right, whatever they look like: L{peers.test_check_healthy} checks that nobody is accused.


def upper_case(stage: Stage) -> Pair:
    """Names in capitals are the same names (RFC 4343)."""
    return stage.house.root.issue([DOMAIN.upper(), HOST.upper()]).write(stage.directory)


def with_intermediate(stage: Stage) -> Pair:
    """A chain as it should be."""
    intermediate = stage.house.intermediate
    return intermediate.issue(NAMES).write(stage.directory, intermediate)


def with_root(stage: Stage) -> Pair:
    """A chain that ends with its root, as the original product wants it."""
    house = stage.house
    return house.intermediate.issue(NAMES).write(stage.directory, house.intermediate, house.root)


def without_usage(stage: Stage) -> Pair:
    """No extended key usage allows every use."""
    return stage.house.root.issue(NAMES, usages=()).write(stage.directory)


def server_usage(stage: Stage) -> Pair:
    """A server that never calls others needs no clientAuth."""
    return stage.house.root.issue(NAMES, usages=[SERVER]).write(stage.directory)
