"""Step 5, address: A and AAAA of each target."""

from __future__ import annotations

from cms.faults.dns import dns_faults
from cms.faults.kinds import DiscoveryError, Fault, Side, StepWarning
from cms.signalflow import Step

# The DNS service itself.
(
    DNS_SILENT_ADDRESS,
    DNS_FAILED_ADDRESS,
    DNS_REFUSED_ADDRESS,
    DNS_TRUNCATED_ADDRESS,
    DNS_UNREACHABLE_ADDRESS,
    DNS_STRANGE_ADDRESS,
) = dns_faults("address", Step.ADDRESS, "the host", "A")
HOST_NXDOMAIN = Fault(
    "host-nxdomain",
    DiscoveryError,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "could not resolve host",
        "Name or service not known",
        "the SRV target does not resolve",
    ),
    cause="The host {host} does not exist (NXDOMAIN from {server}).",
    cure=(
        "Create an A or AAAA record for {host}, or correct the name in the SRV record or"
        " server_address."
    ),
    mend="{host}. 300 IN A <the server's address>",
)
HOST_SHORT = Fault(
    "host-short",
    DiscoveryError,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "ping xmpp1 works, but the Callbridge does not find it",
        "search domains of resolv.conf are ignored",
        "could not resolve host (a name without a dot)",
    ),
    cause=(
        "The host {host} does not exist (NXDOMAIN from {server}); it is a short name, and search"
        " domains ({search}) are not tried, because the certificate must hold the name as written."
    ),
    cure=(
        "Write the host's whole name in server_address or in the SRV record, as its certificate has"
        " it; /etc/hosts would be asked for a short name as well."
    ),
    mend='server_address = "{host}.<its domain>"',
)
HOST_NO_DATA = Fault(
    "host-no-data",
    DiscoveryError,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "host has no A or AAAA record",
        "No address associated with hostname",
    ),
    cause=(
        "The host {host} exists in DNS but has neither an A nor an AAAA record (asked {server})."
    ),
    cure="Create an A or AAAA record for {host}.",
    mend="{host}. 300 IN A <the server's address>",
)
HOST_ALIAS_BROKEN = Fault(
    "host-alias-broken",
    DiscoveryError,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "dangling CNAME",
        "alias leads to a name that does not exist",
    ),
    cause="The host {host} is an alias (CNAME) for {alias}, which leads to no address.",
    cure=(
        "Give {host} an A or AAAA record of its own; an SRV target must not be an alias (RFC 2782)."
    ),
    mend="{host}. 300 IN A <the server's address>",
)
# Warnings.

ADDRESS_FAMILY_UNKNOWN = Fault(
    "address-family-unknown",
    StepWarning,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "AAAA query fails, A query works",
        "the DNS server answers SERVFAIL for AAAA",
    ),
    cause="one address family could not be asked: {problem}",
    cure="Mend the DNS server: it answers for one of A and AAAA alone.",
)
ADDRESS_SUPPLIED = Fault(
    "address-supplied",
    StepWarning,
    Step.ADDRESS,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "additional section of the SRV answer has the address, dig for the host has none",
        "stale glue in the additional section",
    ),
    cause=(
        "{host} has addresses only in what came with the SRV answer ({addresses}); when DNS is"
        " asked for them: {problem}"
    ),
    cure="Give {host} an A or AAAA record that its own zone answers with.",
    mend="{host}. 300 IN A <the server's address>",
)

# What an audit finds out about one's own set-up.

OWN_HOST_ELSEWHERE = Fault(
    "own-host-elsewhere",
    StepWarning,
    Step.ADDRESS,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "Host does not seem to resolve to this server",
        "the FQDN points to another machine",
    ),
    cause="{host} leads to {addresses}, and none of these is an address of this host.",
    cure="Correct the A or AAAA record; behind NAT or a balancer this may be meant so.",
    mend="{host}. 300 IN A <this host's address>",
)
