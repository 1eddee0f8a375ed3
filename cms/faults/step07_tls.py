"""Step 7, TLS: the handshake, as far as it is not about certificates."""

from __future__ import annotations

from cms.faults.kinds import Fault, Side, StepWarning, TrustError
from cms.signalflow import Step

_LOOK_AT_TLS = "openssl s_client -connect {peer} -showcerts </dev/null"

TLS_NOT_SPOKEN = Fault(
    "tls-not-spoken",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "wrong version number",
        "SSL routines: packet length too long",
        "handshake error on outgoing connection",
    ),
    cause="{peer} does not speak TLS on this port ({problem}).",
    cure=(
        "Use the port with TLS from the first byte (5223, not the client port 5222), or enable TLS"
        " on the server's component listener."
    ),
    mend=_LOOK_AT_TLS,
)
TLS_SILENT = Fault(
    "tls-silent",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "TLS handshake timed out",
        "connected, and then nothing happens",
    ),
    cause=(
        "{peer} accepted the connection but did not finish the TLS handshake within {seconds} s."
    ),
    cure="See whether the server hangs or a middlebox swallows TLS; check that the port is 5223.",
    mend=_LOOK_AT_TLS,
)
TLS_CLOSED = Fault(
    "tls-closed",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "unexpected EOF during the TLS handshake",
        "the connection was closed in the TLS handshake",
        "handshake error 104",
    ),
    cause="{peer} closed the connection during the TLS handshake ({problem}).",
    cure=(
        "Look at the XMPP server's log; a middlebox that inspects TLS does the same, and so does a"
        " port that expects the PROXY protocol, or another protocol, first."
    ),
    mend=_LOOK_AT_TLS,
)
TLS_RESET = Fault(
    "tls-reset",
    TrustError,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "Connection reset by peer after ClientHello",
        "handshake error 104 on outgoing connection",
        "TLS works from one network and not from the other (middlebox, TLS inspection)",
    ),
    cause="{peer} reset the connection during the TLS handshake ({problem}).",
    cure=(
        "A middlebox or firewall that inspects TLS does this: let port {port} through it untouched."
        " Otherwise look at the XMPP server's log."
    ),
    mend=_LOOK_AT_TLS,
)
TLS_TOO_OLD = Fault(
    "tls-too-old",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "tlsv1 alert protocol version",
        "unsupported protocol: the server speaks TLS 1.0 or 1.1 only",
    ),
    cause="{peer} speaks no version of TLS that is still safe ({problem}).",
    cure="Allow TLS 1.2 and TLS 1.3 on the XMPP server (RFC 8996 forbids the older ones).",
    mend="openssl s_client -connect {peer} -tls1_2 </dev/null",
)
TLS_NAME_UNKNOWN = Fault(
    "tls-name-unknown",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "tlsv1 unrecognized name",
        "SNI: no certificate for this host name",
    ),
    cause="{peer} has no certificate for the name that it was asked for ({problem}).",
    cure="Give the XMPP server a certificate for this name, or connect by a name it knows.",
    mend="openssl s_client -connect {peer} -servername <domain> </dev/null",
)
TLS_CLIENT_PORT = Fault(
    "tls-client-port",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "wrong version number on port 5222",
        "the component connects to the client port",
        "STARTTLS port used for a component",
    ),
    cause=(
        "{peer} is the port for clients: it speaks XMPP with STARTTLS, not TLS from the first byte."
    ),
    cure="Use the component port, 5223, in the SRV record or in server_address.",
    mend=(
        'server_address = "<host>:5223"\n'
        "_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 <host>."
    ),
)
TLS_HTTP = Fault(
    "tls-http",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "http request, wrong version number: a web server answers on this port",
        "HTTP/1.1 400 Bad Request in answer to TLS",
    ),
    cause='{peer} is a web server: it answered TLS with plain HTTP ("{heard}").',
    cure=(
        "Correct the port in the SRV record or in server_address (components use 5223); a proxy"
        " before the XMPP server must pass TCP on, not HTTP."
    ),
    mend='server_address = "<host>:5223"',
)
TLS_OTHER_SERVICE = Fault(
    "tls-other-service",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "wrong version number: SSH or SMTP answers on this port",
        "the SRV record names the wrong port",
    ),
    cause='{peer} is {service} and no XMPP server: it said "{heard}".',
    cure=(
        "Correct the host and the port in the SRV record or in server_address (components use"
        " 5223); a proxy in between adds nothing of its own on this side."
    ),
    mend='server_address = "<host>:5223"',
)
TLS_SERVER_PORT = Fault(
    "tls-server-port",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "wrong version number on port 5269",
        "the component connects to the port for other XMPP servers",
    ),
    cause=(
        "{peer} is the port for other XMPP servers, which speaks XMPP with STARTTLS, not TLS from"
        ' the first byte (it said "{heard}").'
    ),
    cure="Use the component port, 5223, in the SRV record or in server_address.",
    mend='server_address = "<host>:5223"',
)
TLS_PLAIN_COMPONENT = Fault(
    "tls-plain-component",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "wrong version number on port 5347 or 5275",
        "Prosody component port has no TLS",
        "component_ports without SSL",
    ),
    cause="{peer} is a component port, but one without TLS.",
    cure=(
        "Enable TLS on it, or put a TLS proxy before it; on one and the same host tls.unprotected"
        " does without."
    ),
    mend="[tls]\nunprotected = true     # callbridge.toml; only on one and the same host",
)
TLS_FAILED = Fault(
    "tls-failed",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "handshake failure",
        "no shared cipher",
        "sslv3 alert handshake failure",
    ),
    cause="The TLS handshake with {peer} failed: {problem}.",
    cure="Both sides must share a protocol of TLS 1.2 or later and a cipher.",
    mend=_LOOK_AT_TLS,
)
TLS_ALERT = Fault(
    "tls-alert",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "tlsv1 alert internal error",
        "alert no application protocol",
    ),
    cause="{peer} speaks TLS, and broke the handshake off with an alert ({problem}).",
    cure=(
        "Look at the log of what listens there for this time: it names the reason. Something else"
        " than the XMPP server, which wants another name or protocol, does this too."
    ),
    mend=_LOOK_AT_TLS,
)
TLS_CLIENT_CERTIFICATE_REQUIRED = Fault(
    "tls-client-certificate-required",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "tlsv13 alert certificate required",
        "peer did not return a certificate",
        "mutual TLS: the server wants a client certificate",
    ),
    cause="{peer} demands a certificate from this Callbridge and got none ({problem}).",
    cure="Set tls.certificate and tls.key to a certificate that the server's tls.trust accepts.",
    mend=('[tls]\ncertificate = "cb1.crt"\nkey = "cb1.key"'),
)
TLS_CLIENT_CERTIFICATE_REFUSED = Fault(
    "tls-client-certificate-refused",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "tlsv1 alert unknown ca",
        "sslv3 alert bad certificate",
        "alert certificate expired, from the server",
    ),
    cause="{peer} refused this Callbridge's certificate ({problem}).",
    cure="Renew the certificate, or add its CA to the server's tls.trust.",
    mend="cat <the CA of this Callbridge's certificate> >> ca.pem     # on the server: tls.trust",
)
# As the XMPP server sees it.

PEER_CERTIFICATE = Fault(
    "peer-certificate",
    TrustError,
    Step.TLS,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: TLS handshake not completed",
        "alert unknown ca in the XMPP server's log",
    ),
    cause="{peer} did not complete the TLS handshake ({problem}).",
    cure=(
        "The peer's own log says why it refused; if its certificate was refused here, add its CA to"
        " tls.trust."
    ),
)
PEER_NOT_TLS = Fault(
    "peer-not-tls",
    TrustError,
    Step.TLS,
    on=Side.REGISTRATION,
    symptoms=(
        "http request, wrong version number in the XMPP server's log",
        "a client with STARTTLS, or a health probe, on a port with TLS from the first byte",
    ),
    cause='{peer} did not speak TLS, but sent {service} ("{heard}").',
    cure=(
        "Let it connect to the listener that it means: this one wants TLS from the first byte. A"
        " proxy before it adds no PROXY protocol unless the listener expects it."
    ),
)
# Warnings.

UNPROTECTED = Fault(
    "unprotected",
    StepWarning,
    Step.TLS,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "component link without TLS",
        "disable-certificate-verification = true",
    ),
    cause="tls.unprotected is set: this link has NO TLS, and nobody checks who the server is.",
    cure="Use a component port with TLS, and remove tls.unprotected.",
    mend="[tls]\nunprotected = false",
)
ADDRESS_FAILS = Fault(
    "address-fails",
    StepWarning,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "the link comes up at the second try only",
        "IPv6 accepts the connection and then says nothing",
    ),
    cause=(
        "{peer} has the address {address}, which takes connections and then fails: {problem};"
        " another one works."
    ),
    cure=(
        "Mend the server at {address}, or remove that address from DNS: it costs time whenever it"
        " is tried first."
    ),
    mend="openssl s_client -connect {address}:5223 </dev/null",
)
TLS_1_2_ONLY = Fault(
    "tls-1.2-only",
    StepWarning,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "TLSv1.2 is negotiated although TLS 1.3 is there",
        "no -PLUS mechanism, no channel binding",
    ),
    cause="{peer} speaks TLS 1.2 at the most.",
    cure="Enable TLS 1.3 on the server: it hides certificates, and -PLUS log-ins need it.",
)
