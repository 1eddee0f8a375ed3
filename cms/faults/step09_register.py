"""Step 9, register: the stream to the component port (XEP-0114)."""

from __future__ import annotations

from cms.faults.kinds import Fault, RegistrationError, Side
from cms.faults.lines import SERVER_LOG
from cms.signalflow import Step

REGISTER_SILENT = Fault(
    "register-silent",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "TLS is up, but the server says nothing",
        "stream negotiation timed out",
    ),
    cause="{peer} accepted the connection but sent no stream header within {seconds} s.",
    cure="See whether the server hangs, and whether this is its component port.",
    mend=SERVER_LOG,
)
REGISTER_NOT_XMPP = Fault(
    "register-not-xmpp",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "invalid-namespace",
        "not-well-formed",
        "jabber:client instead of jabber:component:accept",
        "XML parse error on the component port",
    ),
    cause="{peer} answered with something that is not an XMPP component stream ({problem}).",
    cure="Connect to the component port (5223); the client port speaks another namespace.",
    mend='server_address = "<host>:5223"',
)
REGISTER_HTTP = Fault(
    "register-http",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "HTTP/1.1 400 Bad Request in place of a stream",
        "the server address is that of a web page",
    ),
    cause='{peer} is a web server: it answered the stream header with "{heard}".',
    cure=(
        "Correct the port in the SRV record or in server_address (components use 5223); a proxy"
        " before the XMPP server must pass TCP on, not HTTP."
    ),
    mend='server_address = "<host>:5223"',
)
REGISTER_OTHER_SERVICE = Fault(
    "register-other-service",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "the server address is that of a mail server (SMTPS, IMAPS)",
        "not-well-formed right after TLS",
    ),
    cause='{peer} is {service} and no XMPP component port: it said "{heard}".',
    cure=(
        "Correct the host and the port in the SRV record or in server_address (components use"
        " 5223)."
    ),
    mend='server_address = "<host>:5223"',
)
REGISTER_CLOSED = Fault(
    "register-closed",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "connection closed before the stream was opened",
        "remote host closed the connection",
    ),
    cause="{peer} closed the connection before it opened its stream ({problem}).",
    cure=(
        "Look at the XMPP server's log for this time; a port that speaks TLS but not XMPP closes,"
        " too: see that it is the component port (5223)."
    ),
    mend=SERVER_LOG,
)
REGISTER_REJECTED = Fault(
    "register-rejected",
    RegistrationError,
    Step.REGISTER,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "stream error before the handshake",
        "reconnect gets invalid-namespace or a stream error after a restart",
    ),
    cause='{peer} rejected the stream with "{condition}" ({text}).',
    cure="{advice}",
    mend=SERVER_LOG,
)
# As the XMPP server sees it.

PEER_SILENT = Fault(
    "peer-silent",
    RegistrationError,
    Step.REGISTER,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: connection-timeout",
        "connected but did not register",
    ),
    cause="{peer} connected but did not register within {seconds} s.",
    cure="See whether it is a Callbridge at all; its own log names the step at which it hangs.",
)
PEER_WRONG_NAMESPACE = Fault(
    "peer-wrong-namespace",
    RegistrationError,
    Step.REGISTER,
    on=Side.REGISTRATION,
    symptoms=(
        "invalid-namespace in the XMPP server's log",
        "a client connects to 5223",
    ),
    cause='{peer} opened a stream for "{namespace}" on the component port (invalid-namespace).',
    cure="Components speak jabber:component:accept here; clients belong on the client port.",
)
PEER_BAD_HEADER = Fault(
    "peer-bad-header",
    RegistrationError,
    Step.REGISTER,
    on=Side.REGISTRATION,
    symptoms=(
        "improper-addressing",
        "stream header without to",
    ),
    cause="{peer} sent a stream header that cannot be used: {problem} ({condition}).",
    cure="The header must name the component address in its to attribute (XEP-0114).",
)
PEER_BAD_XML = Fault(
    "peer-bad-xml",
    RegistrationError,
    Step.REGISTER,
    on=Side.REGISTRATION,
    symptoms=(
        "not-well-formed in the XMPP server's log",
        "port scanner on 5223",
    ),
    cause="{peer} sent something that is not an XMPP stream ({condition}: {problem}).",
    cure="Look at what connects there; a health probe or a port scanner does this too.",
)
PEER_OTHER_PROTOCOL = Fault(
    "peer-other-protocol",
    RegistrationError,
    Step.REGISTER,
    on=Side.REGISTRATION,
    symptoms=(
        "GET / HTTP/1.1 on 5222",
        "not-well-formed in the XMPP server's log",
        "direct TLS on a STARTTLS port",
    ),
    cause='{peer} sent {service} in place of an XMPP stream ("{heard}").',
    cure=(
        "Let it connect to the listener that it means: this one wants XMPP. A health probe that"
        " speaks HTTP belongs to /healthz of listen.api."
    ),
)
