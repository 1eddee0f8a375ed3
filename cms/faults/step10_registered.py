"""Step 10, registered: the XMPP server judges ID and secret."""

from __future__ import annotations

from cms.faults.kinds import CredentialsRefused, Fault, RegistrationError, Side
from cms.faults.lines import SERVER_LOG
from cms.signalflow import Step

REGISTERED_SILENT = Fault(
    "registered-silent",
    RegistrationError,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "the handshake is never answered",
        "component connected but not authenticated",
    ),
    cause="{peer} did not answer the registration within {seconds} s.",
    cure="See whether the server hangs; its log tells whether it saw {component}.",
    mend=SERVER_LOG,
)
REGISTERED_CLOSED = Fault(
    "registered-closed",
    RegistrationError,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "connection closed after the handshake",
        "component is disconnected without an error",
    ),
    cause=(
        "{peer} closed the connection instead of answering the registration of {component}"
        " ({problem})."
    ),
    cure=(
        "Look at the XMPP server's log for this time; it may have refused the secret without saying"
        " so."
    ),
    mend=SERVER_LOG,
)
UNKNOWN_ID = Fault(
    "unknown-id",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "host-unknown",
        "does not match any configured external components",
        "Call Bridge name unknown to the XMPP server",
    ),
    cause='{peer} does not know the component "{component}" (host-unknown).',
    cure=(
        "Add this Callbridge on the XMPP server (cms xmpp callbridge add), or correct unique_name"
        " and domain."
    ),
    mend="cms xmpp callbridge add {component}",
)
DOMAIN_MISMATCH = Fault(
    "domain-mismatch",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "host-unknown, although the name was added",
        "XMPP domain mismatch between Call Bridge and XMPP server",
    ),
    cause='{peer} serves the domain {served}, and "{component}" is not within it (host-unknown).',
    cure=(
        "If {served} is the XMPP domain, correct domain on this side, and component_address if it"
        " is set."
    ),
    mend='domain = "{served}"     # callbridge.toml',
)
WRONG_SECRET = Fault(
    "wrong-secret",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "authentication failure",
        "not-authorized: Given token does not match calculated token",
        "Component authentication failed",
        "component secret mismatch",
    ),
    cause='{peer} refused the secret of "{component}" (not-authorized).',
    cure=(
        "Give this Callbridge the secret that the XMPP server holds for it: cms callbridge"
        " secret, or shared_secret and a restart;"
        " ejabberd says the same of an ID that it does not know."
    ),
    mend="cms xmpp callbridge list --show-secrets     # on the XMPP server: compare",
)
ALREADY_CONNECTED = Fault(
    "already-connected",
    RegistrationError,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "conflict: Component already connected",
        "Second component attempted to connect, denying connection",
        "two Call Bridges with the same unique name",
    ),
    cause='{peer} already has a live link for "{component}" (conflict); the secret is right.',
    cure="Give each Callbridge its own unique_name, or stop the other one.",
    mend='unique_name = "<another name>"',
)
REGISTRATION_REJECTED = Fault(
    "registration-rejected",
    RegistrationError,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "stream error after the handshake",
        "internal-server-error, resource-constraint",
    ),
    cause='{peer} answered the registration with "{condition}" ({text}).',
    cure="{advice}",
    mend=SERVER_LOG,
)
REGISTRATION_SLOWED = Fault(
    "registration-slowed",
    RegistrationError,
    Step.REGISTERED,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "too many failures, refused",
        "policy-violation after many wrong secrets",
    ),
    cause="{peer} has had too many failed registrations and is refused for {seconds} s.",
    cure="Correct the secret on that host, then wait; other hosts are not affected.",
)
# As the XMPP server sees it.

PEER_UNKNOWN_ID = Fault(
    "peer-unknown-id",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: host-unknown",
        "Call Bridge name not configured",
    ),
    cause='{peer} asked for "{component}", which is no Callbridge of this server (host-unknown).',
    cure=(
        "Add it with cms xmpp callbridge add, or correct unique_name and domain on that Callbridge."
    ),
    mend="cms xmpp callbridge add {component}",
)
PEER_OTHER_DOMAIN = Fault(
    "peer-other-domain",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: host-unknown, the address ends with another domain",
        "XMPP domain mismatch between Call Bridge and XMPP server",
    ),
    cause=(
        '{peer} asked for "{component}", which is not within the domain of this server, {domain}'
        " (host-unknown)."
    ),
    cure=(
        "If it is a Callbridge, correct domain there to {domain}, and component_address if it is"
        " set. Another program may have such an address: add it by its whole address (cms xmpp"
        " callbridge add); it decides no log-ins."
    ),
    mend='domain = "{domain}"     # callbridge.toml, on that host',
)
PEER_WRONG_SECRET = Fault(
    "peer-wrong-secret",
    CredentialsRefused,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: not-authorized",
        "wrong component secret",
    ),
    cause='{peer} gave a wrong secret for "{component}" (not-authorized).',
    cure="Make the secret on that Callbridge equal to the one that this server holds for it.",
    mend="cms xmpp callbridge list --show-secrets     # the one that this server holds",
)
PEER_UNREGISTERED = Fault(
    "peer-unregistered",
    RegistrationError,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "stanza before the handshake",
        "component refused: not-authorized",
    ),
    cause="{peer} sent {name} before it was registered (not-authorized).",
    cure="A component sends its handshake first (XEP-0114).",
)
PEER_CONFLICT = Fault(
    "peer-conflict",
    RegistrationError,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: conflict",
        "duplicate unique name",
    ),
    cause='{peer} registered "{component}", whose link from {other} is alive (conflict).',
    cure="Give each Callbridge its own unique_name, or stop one of the two.",
)
PEER_REFUSED = Fault(
    "peer-refused",
    RegistrationError,
    Step.REGISTERED,
    on=Side.REGISTRATION,
    symptoms=(
        "component refused: policy-violation",
        "brute force on the component port",
    ),
    cause="{peer} failed too often and is refused for {seconds} s more.",
    cure="Correct the secret or the password there; it is heard again after that time.",
)
