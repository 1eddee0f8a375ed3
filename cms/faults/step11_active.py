"""Step 11, active: the link, once it is up."""

from __future__ import annotations

from cms.faults.kinds import Fault, LinkError, Side, StepWarning
from cms.faults.lines import CLOCK
from cms.signalflow import Step

PEER_LIED = Fault(
    "peer-lied",
    LinkError,
    Step.ACTIVE,
    on=Side.REGISTRATION,
    symptoms=(
        "invalid-from",
        "component speaks for a foreign domain",
    ),
    cause=(
        '"{component}" sent a stanza from "{sender}", which is not its own address (invalid-from).'
    ),
    cure="A component speaks only for its own domain; correct the program behind it.",
)
NO_AUTHORITY_CURE = (
    "If it is a Callbridge, correct domain there to {domain}, and component_address if it is set."
    " If it is another program, leave it, and add a Callbridge beside it."
)
LINK_OUTSIDE_DOMAIN = Fault(
    "link-outside-domain",
    LinkError,
    Step.ACTIVE,
    on=Side.SERVER,
    symptoms=(
        "1 connected, and nobody can log in",
        "the component's address ends with another domain",
    ),
    cause=(
        '"{component}" is connected, but it is not within the domain of this server, {domain}, so'
        " it is not asked to decide log-ins."
    ),
    cure=NO_AUTHORITY_CURE,
    mend=(
        'domain = "{domain}"     # callbridge.toml, on that host\n'
        "cms xmpp callbridge del {component}     # when nothing registers as that any more"
    ),
)
LINK_NO_AUTHORITY = Fault(
    "link-no-authority",
    LinkError,
    Step.ACTIVE,
    on=Side.SERVER,
    symptoms=(
        "connected, but decides no log-ins",
        "the component is no Callbridge",
    ),
    cause='"{component}" is connected, but decides no log-ins: {problem}.',
    cure=(
        "If it is a Callbridge, compare domain there with {domain}, and the versions of both. If it"
        " is another program, leave it, and add a Callbridge beside it."
    ),
    mend="cms check --config callbridge.toml     # on that host",
)
DOMAIN_NOT_SERVED = Fault(
    "domain-not-served",
    LinkError,
    Step.ACTIVE,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "the link is up, and nobody can log in",
        "remote-server-not-found for the XMPP domain",
    ),
    cause=(
        "{peer} does not serve the domain {domain} ({problem}): the link is up, but no log-in is"
        " decided over it."
    ),
    cure=(
        "Correct domain on this side: it is the domain of the XMPP server and of its users'"
        " addresses."
    ),
    mend='domain = "<the domain of the XMPP server>"     # callbridge.toml',
)
LINK_DELETED = Fault(
    "link-deleted",
    LinkError,
    Step.ACTIVE,
    on=Side.REGISTRATION,
    symptoms=(
        "host-gone: the link was ended",
        "the Callbridge was deleted on the XMPP server",
    ),
    cause='The link of "{component}" was ended: it was deleted from the Callbridges (host-gone).',
    cure="Stop that Callbridge, or add it again with cms xmpp callbridge add.",
    mend="cms xmpp callbridge add {component}",
)
LINK_SECRET_EXPIRED = Fault(
    "link-secret-expired",
    LinkError,
    Step.ACTIVE,
    on=Side.REGISTRATION,
    symptoms=(
        "not-authorized on a link that was up",
        "the secret was rotated, and this Callbridge still has the old one",
    ),
    cause=(
        'The link of "{component}" was ended: the secret that it registered with was rotated and is'
        " not accepted any more (not-authorized)."
    ),
    cure="Give that Callbridge the secret that cms xmpp callbridge rotate printed.",
    mend="cms xmpp callbridge list --show-secrets     # on the XMPP server: compare",
)
LINK_SILENT = Fault(
    "link-silent",
    LinkError,
    Step.ACTIVE,
    on=Side.LINK | Side.REGISTRATION | Side.CHECK,
    symptoms=(
        "ping timeout",
        "Component not connected, bouncing error",
        "the link is up on one side and dead on the other",
    ),
    cause="{peer} did not answer a ping within {seconds} s: the link is dead.",
    cure="Look at the network between the two hosts and at the load of {peer}.",
)
LINK_STALLED = Fault(
    "link-stalled",
    LinkError,
    Step.ACTIVE,
    on=Side.LOGIN | Side.CALLBRIDGE | Side.SERVER,
    symptoms=(
        "send buffer full",
        "the link is up, and log-ins time out",
    ),
    cause="{peer} does not keep up: what is sent to it waits to be read.",
    cure="Look at the load of {peer}: its process may be stopped, or its host short of memory.",
)
LINK_LOST = Fault(
    "link-lost",
    LinkError,
    Step.ACTIVE,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "Connection lost",
        "Connection reset by peer",
        "the link flaps",
    ),
    cause="The connection to {peer} was lost ({problem}).",
    cure="It is tried again by itself; if it stays down, the next attempt says why.",
)
LINK_CLOSED = Fault(
    "link-closed",
    LinkError,
    Step.ACTIVE,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "system-shutdown",
        "the XMPP server was restarted",
    ),
    cause="{peer} closed the link ({problem}).",
    cure="It is tried again by itself; the server was stopped or restarted.",
)
LINK_ERROR = Fault(
    "link-error",
    LinkError,
    Step.ACTIVE,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "stream error on an active link",
        "link dropped with a stream error",
    ),
    cause='{peer} ended the link with "{condition}" ({text}).',
    cure="It is tried again by itself; the server's log says why.",
)
# Warnings.

CLOCK_APART = Fault(
    "clock-apart",
    StepWarning,
    Step.ACTIVE,
    on=Side.CHECK,
    symptoms=(
        "clock skew between Call Bridge and XMPP server",
        "ntp status: not synchronised",
    ),
    cause="The clocks of this host and of {peer} are {seconds} s apart.",
    cure="Set both by NTP: certificates and tokens are judged by the clock.",
    mend=CLOCK,
)
