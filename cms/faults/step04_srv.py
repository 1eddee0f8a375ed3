"""Step 4, SRV: the records that lead to the XMPP server."""

from __future__ import annotations

from cms.faults.dns import dns_faults
from cms.faults.kinds import DiscoveryError, Fault, Side, StepWarning
from cms.signalflow import Step


def srv_record(record: str, port: object, host: str) -> str:
    """
    A record to copy.

    @param record: Its name, or what stands for it in a template; so the others.
    """
    return f"{record}. 300 IN SRV 10 10 {port} {host}."


_COMPONENT_RECORD = srv_record("{record}", 5223, "{host}")
_CLIENT_RECORD = srv_record("_xmpp-client._tcp.{domain}", 5222, "{host}")


SRV_NXDOMAIN = Fault(
    "srv-nxdomain",
    DiscoveryError,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "XMPP connection failed: DNS failure",
        "_xmpp-component SRV record not found",
        "NXDOMAIN for _xmpp-component._tcp",
        "server address left blank and no connection",
    ),
    cause="{record} does not exist: the DNS server {server} answered NXDOMAIN.",
    cure=(
        "Create the record, such as: {record}. 300 IN SRV 10 10 5223 <XMPP server's FQDN>. Or set"
        " server_address."
    ),
    mend=_COMPONENT_RECORD,
)
SRV_NO_DATA = Fault(
    "srv-no-data",
    DiscoveryError,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "no SRV record, although the name exists",
        "dig _xmpp-component SRV answers NOERROR with 0 records",
    ),
    cause="{record} exists in DNS but holds no SRV record (asked {server}).",
    cure=(
        "Create the record, such as: {record}. 300 IN SRV 10 10 5223 <XMPP server's FQDN>. Or set"
        " server_address."
    ),
    mend=_COMPONENT_RECORD,
)
SRV_NOT_OFFERED = Fault(
    "srv-not-offered",
    DiscoveryError,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV target is a dot",
        "'xmpp-component' service disabled by pointing to '.'",
    ),
    cause=(
        '{record} has the single target ".": this domain says that it offers no component service.'
    ),
    cure="Replace the record by one that names the XMPP server, or set server_address.",
    mend=_COMPONENT_RECORD,
)
SRV_MISSPELT = Fault(
    "srv-misspelt",
    DiscoveryError,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "_xmppcomponent._tcp SRV record is ignored",
        "the SRV record exists but is not found",
    ),
    cause="{record} does not exist, but the misspelt {misspelt} does.",
    cure="Rename the record: the label is _xmpp-component, with a hyphen.",
    mend=_COMPONENT_RECORD,
)
# Of these the record to copy lacks the host, which others may know.
RECORD_ABSENT = frozenset(
    fault.name for fault in (SRV_NXDOMAIN, SRV_NO_DATA, SRV_NOT_OFFERED, SRV_MISSPELT)
)
SRV_TARGET_ADDRESS = Fault(
    "srv-target-address",
    DiscoveryError,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV record points to an IP address",
        "host 192.0.2.1 not found (NXDOMAIN for an IP address)",
    ),
    cause=(
        "The SRV target {host} is an IP address; a target is a host name, and no host has this"
        " name."
    ),
    cure="Name the host in the SRV record, and give that host an A or AAAA record.",
    mend="{record}. 300 IN SRV 10 10 5223 xmpp1.<domain>.\nxmpp1.<domain>. 300 IN A {host}",
)
# The DNS service itself.
(
    DNS_SILENT_SRV,
    DNS_FAILED_SRV,
    DNS_REFUSED_SRV,
    DNS_TRUNCATED_SRV,
    DNS_UNREACHABLE_SRV,
    DNS_STRANGE_SRV,
) = dns_faults("srv", Step.SRV, "the SRV record", "SRV")
# What an audit finds out about one's own set-up.

OWN_SRV_ELSEWHERE = Fault(
    "own-srv-elsewhere",
    DiscoveryError,
    Step.SRV,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV record does not name this server",
        "Call Bridges connect to the other server only",
    ),
    cause="{record} leads to {targets}, but not to this server, {host}.",
    cure="Add a record for this server, or correct hostname.",
    mend="{record}. 300 IN SRV 10 10 {port} {host}.",
)
OWN_SRV_PORT = Fault(
    "own-srv-port",
    DiscoveryError,
    Step.SRV,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV record with the wrong port",
        "Connection refused: the SRV port is not the listener's",
    ),
    cause="{record} names port {port} for {host}, but this server listens on {listening}.",
    cure="Correct the port in the record, or in listen.{kind}.",
    mend="{record}. 300 IN SRV 10 10 {right} {host}.",
)
# Warnings.

SRV_CLIENT_PORT = Fault(
    "srv-client-port",
    StepWarning,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "_xmpp-component SRV points to port 5222",
        "component SRV record with the client port",
        "wrong version number (SSL3_GET_RECORD) on 5222",
    ),
    cause="the SRV record for {host} names port 5222, which is for clients; components use 5223",
    cure="Correct the port in the record.",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 {host}.",
)
SRV_TARGET_NO_NAME = Fault(
    "srv-target-no-name",
    StepWarning,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV target is not a host name",
        "underscore in the SRV target",
    ),
    cause="the SRV target {host} is not a host name",
    cure="Name a host in the record (RFC 2782), with an A or AAAA record of its own.",
)
SRV_TARGET_ALIAS = Fault(
    "srv-target-alias",
    StepWarning,
    Step.SRV,
    on=Side.LINK | Side.SERVER | Side.CHECK,
    symptoms=(
        "SRV target is a CNAME",
        "SRV record points to an alias",
    ),
    cause="the SRV target {host} is an alias for {alias}, which RFC 2782 forbids",
    cure="Name {alias} itself in the SRV record, or give {host} an A or AAAA record.",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 {alias}.",
)
SRV_TARGET_LOCAL = Fault(
    "srv-target-local",
    StepWarning,
    Step.SRV,
    on=Side.CHECK,
    symptoms=(
        "Target 'localhost' cannot be accessed from other servers",
        "SRV record points to localhost",
    ),
    cause="the SRV target {host} is this very host for everybody who asks",
    cure="Name the server's FQDN in the record; leave localhost to server_address.",
    mend="_xmpp-component._tcp.<domain>. 300 IN SRV 10 10 5223 <the server's FQDN>.",
)
SRV_SINGLE_TARGET = Fault(
    "srv-single-target",
    StepWarning,
    Step.SRV,
    on=Side.CHECK,
    symptoms=(
        "no failover: all Call Bridges lose the XMPP server at once",
        "only one _xmpp-component SRV record",
    ),
    cause="{record} names one server only: when {host} fails, no Callbridge has another to go to.",
    cure=(
        "Run a second XMPP server and add a record for it; with one server on purpose, ignore this."
    ),
    mend="{record}. 300 IN SRV 20 10 5223 <the second server's FQDN>.",
)
SRV_MISSPELT_BESIDE = Fault(
    "srv-misspelt-beside",
    StepWarning,
    Step.SRV,
    on=Side.CHECK,
    symptoms=("two SRV records, _xmpp-component and _xmppcomponent",),
    cause="Beside {record} there is the misspelt {misspelt}, which nobody looks for.",
    cure="Remove the misspelt record, or rename it if it names a server that the other does not.",
    mend="; remove this record: {misspelt}.",
)
CLIENT_SRV_MISSING = Fault(
    "client-srv-missing",
    StepWarning,
    Step.SRV,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "No _xmpp-client SRV record found",
        "Unable to connect - try again later (WebRTC)",
        "CLIENT_CONNECT_FAILED (recorder, streamer)",
        "stuck on Loading media, then back to the start page",
    ),
    cause="{record} does not exist: clients cannot find the server by the domain {domain}.",
    cure="Create the record; clients use port 5222.",
    mend=_CLIENT_RECORD,
)
CLIENT_SRV_NOT_OFFERED = Fault(
    "client-srv-not-offered",
    StepWarning,
    Step.SRV,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "'xmpp-client' service disabled by pointing to '.'",
        "clients say that the domain has no XMPP server",
    ),
    cause='{record} has the single target ".": it tells clients that there is no server.',
    cure="Replace the record by one that names the XMPP server and port 5222.",
    mend=_CLIENT_RECORD,
)
CLIENT_SRV_PORT = Fault(
    "client-srv-port",
    StepWarning,
    Step.SRV,
    on=Side.CHECK,
    symptoms=(
        "SRV target contains unknown client port 5223",
        "clients connect to the component port",
    ),
    cause="{record} names port 5223 of {host}, which is for components; clients use 5222.",
    cure="Correct the port in the record.",
    mend="{record}. 300 IN SRV {priority} {weight} 5222 {host}.",
)
DOMAIN_OF_OTHERS = Fault(
    "domain-of-others",
    StepWarning,
    Step.SRV,
    on=Side.CHECK,
    symptoms=(
        "SRV answers name someone else's server",
        "the XMPP domain is the company's main domain, used by CUCM IM&P or Jabber as well",
        "_cisco-uds or _cuplogin records in the XMPP domain",
    ),
    cause="{domain} belongs to another system as well: DNS holds {records} for it.",
    cure=(
        "Give the meetings a domain of their own below it, such as meet.{domain}: its _xmpp records"
        " would collide with those of the other system."
    ),
    mend='domain = "meet.{domain}"',
)

# What an audit finds out about one's own set-up.

OWN_SRV_MISSING = Fault(
    "own-srv-missing",
    StepWarning,
    Step.SRV,
    on=Side.SERVER | Side.CHECK,
    symptoms=(
        "No SRV record for the XMPP server",
        "Call Bridge needs a server address, because DNS names no XMPP server",
    ),
    cause=(
        "{record} does not exist: a Callbridge finds this server only where its server_address is"
        " configured."
    ),
    cure="Create the record; where every Callbridge has a server_address, ignore this.",
    mend="{record}. 300 IN SRV 10 10 {port} {host}.",
)
