"""
The catalogue's warnings: what works, but by luck.

They are entries like those of L{cms.faults.failures}, in the same catalogue, and never
stop anything.
"""

from __future__ import annotations

from cms.faults.failures import Doubt, Fault, _fault
from cms.signalflow import Step


def _doubt(name: str, step: Step, cause: str, cure: str) -> Fault:
    return _fault(name, Doubt, step, cause, cure)


# Steps 2 and 3, configuration.

EQUAL_SECRETS = _doubt(
    "equal-secrets",
    Step.CONFIGURATION,
    "{names} have the same secret: whoever knows one can speak for the others.",
    "Give each Callbridge a secret of its own, here and in its callbridge.toml.",
)
NO_CALLBRIDGE_KNOWN = _doubt(
    "no-callbridge-known",
    Step.CONFIGURATION,
    "This server knows no Callbridge: none can register, and nobody can log in.",
    "Add one, and give it the same secret in its callbridge.toml.",
)
FILES_FEW = _doubt(
    "files-few",
    Step.CONFIGURATION,
    "{file}: each listener gets {given} places, where {asked} are wanted ({key}): the daemon may"
    " open {limit} files.",
    "Raise the limit of files and restart the daemon, or set {key} to what is enough here.",
)
UNPROTECTED = _doubt(
    "unprotected",
    Step.TLS,
    "tls.unprotected is set: this link has NO TLS, and nobody checks who the server is.",
    "Use a component port with TLS, and remove tls.unprotected.",
)
CLOCK_APART = _doubt(
    "clock-apart",
    Step.ACTIVE,
    "The clocks of this host and of {peer} are {seconds} s apart.",
    "Set both by NTP: certificates and tokens are judged by the clock.",
)

# Step 4, SRV.

SRV_CLIENT_PORT = _doubt(
    "srv-client-port",
    Step.SRV,
    "the SRV record for {host} names port 5222, which is for clients; components use 5223",
    "Correct the port in the record.",
)
SRV_TARGET_NO_NAME = _doubt(
    "srv-target-no-name",
    Step.SRV,
    "the SRV target {host} is not a host name",
    "Name a host in the record (RFC 2782), with an A or AAAA record of its own.",
)
SRV_TARGET_ALIAS = _doubt(
    "srv-target-alias",
    Step.SRV,
    "the SRV target {host} is an alias for {alias}, which RFC 2782 forbids",
    "Name {alias} itself in the SRV record, or give {host} an A or AAAA record.",
)
SRV_TARGET_LOCAL = _doubt(
    "srv-target-local",
    Step.SRV,
    "the SRV target {host} is this very host for everybody who asks",
    "Name the server's FQDN in the record; leave localhost to server_address.",
)
SRV_SINGLE_TARGET = _doubt(
    "srv-single-target",
    Step.SRV,
    "{record} names one server only: when {host} fails, no Callbridge has another to go to.",
    "Run a second XMPP server and add a record for it; with one server on purpose, ignore this.",
)
SRV_MISSPELT_BESIDE = _doubt(
    "srv-misspelt-beside",
    Step.SRV,
    "Beside {record} there is the misspelt {misspelt}, which nobody looks for.",
    "Remove the misspelt record, or rename it if it names a server that the other does not.",
)
CLIENT_SRV_MISSING = _doubt(
    "client-srv-missing",
    Step.SRV,
    "{record} does not exist: clients cannot find the server by the domain {domain}.",
    "Create the record; clients use port 5222.",
)
CLIENT_SRV_NOT_OFFERED = _doubt(
    "client-srv-not-offered",
    Step.SRV,
    '{record} has the single target ".": it tells clients that there is no server.',
    "Replace the record by one that names the XMPP server and port 5222.",
)
CLIENT_SRV_PORT = _doubt(
    "client-srv-port",
    Step.SRV,
    "{record} names port 5223 of {host}, which is for components; clients use 5222.",
    "Correct the port in the record.",
)
DOMAIN_OF_OTHERS = _doubt(
    "domain-of-others",
    Step.SRV,
    "{domain} belongs to another system as well: DNS holds {records} for it.",
    "Give the meetings a domain of their own below it, such as meet.{domain}: its _xmpp records"
    " would collide with those of the other system.",
)

# Steps 5 and 6, addresses.

ADDRESS_FAMILY_UNKNOWN = _doubt(
    "address-family-unknown",
    Step.ADDRESS,
    "one address family could not be asked: {problem}",
    "Mend the DNS server: it answers for one of A and AAAA alone.",
)
ADDRESS_SUPPLIED = _doubt(
    "address-supplied",
    Step.ADDRESS,
    "{host} has addresses only in what came with the SRV answer ({addresses}); when DNS is asked"
    " for them: {problem}",
    "Give {host} an A or AAAA record that its own zone answers with.",
)
ADDRESS_DEAD = _doubt(
    "address-dead",
    Step.CONNECT,
    "{host} has the address {address}, which cannot be connected to ({problem}); another one can.",
    "Mend the way to {address}, or remove it from DNS: it costs time at each attempt.",
)
ADDRESS_FAILS = _doubt(
    "address-fails",
    Step.TLS,
    "{peer} has the address {address}, which takes connections and then fails: {problem};"
    " another one works.",
    "Mend the server at {address}, or remove that address from DNS: it costs time whenever it is"
    " tried first.",
)
TARGET_FAILS = _doubt(
    "target-fails",
    Step.CONNECT,
    "{peer} fails, and another target works: {problem}",
    "{mend}",
)
IPV6_DEAD = _doubt(
    "ipv6-dead",
    Step.CONNECT,
    "{host} has the IPv6 address {address}, which cannot be connected to ({problem}); IPv4 can.",
    "Mend IPv6 between the two hosts, let the server listen on it, or remove the AAAA record.",
)

# Steps 7 and 8, TLS and certificates.

TLS_1_2_ONLY = _doubt(
    "tls-1.2-only",
    Step.TLS,
    "{peer} speaks TLS 1.2 at the most.",
    "Enable TLS 1.3 on the server: it hides certificates, and -PLUS log-ins need it.",
)
CERTIFICATE_EXPIRES_SOON = _doubt(
    "certificate-expires-soon",
    Step.TLS,
    'The certificate "{subject}" of {peer} expires in {days} days, at {not_after}.',
    "Renew it now.",
)
CERTIFICATE_CHAIN_ORDER = _doubt(
    "certificate-chain-order",
    Step.TLS,
    "The chain of {peer} is out of order: {order}.",
    "Order the certificate file: the leaf first, then each certificate after the one that it"
    " issued.",
)
CERTIFICATE_CHAIN_SURPLUS = _doubt(
    "certificate-chain-surplus",
    Step.TLS,
    'The chain of {peer} holds "{subject}", which issued none of the others.',
    "Remove it from the certificate file.",
)
TRUST_CA_EXPIRED = _doubt(
    "trust-ca-expired",
    Step.TLS,
    'The CA "{subject}" in {path} (tls.trust) expired at {not_after}: no certificate under it is'
    " believed any more.",
    "Replace it by the CA's current certificate, or remove it.",
)
CERTIFICATE_NO_CLIENT_USE = _doubt(
    "certificate-no-client-use",
    Step.TLS,
    'The certificate "{subject}" in {peer} allows {usages} only; where XMPP servers connect to'
    " each other it must also allow client authentication.",
    "Issue it from a template with both Server Authentication and Client Authentication.",
)
CHAIN_UNVERIFIED = _doubt(
    "chain-unverified",
    Step.TLS,
    'Whether the chain in {peer} is complete is not known: it ends with "{subject}", issued by'
    ' "{issuer}", which is not trusted here.',
    "Append the intermediates if that issuer is one; name its root in tls.trust to have it"
    " checked.",
)
IDENTITY_WILDCARD = _doubt(
    "identity-wildcard",
    Step.IDENTITY,
    "The certificate of {peer} covers {covered} by a wildcard only ({names}).",
    "Name the XMPP domain and the server themselves: not every peer believes a wildcard.",
)

# The XMPP server's own set-up (cms check --server).

OWN_SRV_MISSING = _doubt(
    "own-srv-missing",
    Step.SRV,
    "{record} does not exist: a Callbridge finds this server only where its server_address is"
    " configured.",
    "Create the record; where every Callbridge has a server_address, ignore this.",
)
OWN_HOST_ELSEWHERE = _doubt(
    "own-host-elsewhere",
    Step.ADDRESS,
    "{host} leads to {addresses}, and none of these is an address of this host.",
    "Correct the A or AAAA record; behind NAT or a balancer this may be meant so.",
)
OWN_LISTENER_LOCAL = _doubt(
    "own-listener-local",
    Step.CONNECT,
    "{record} sends others to port {port}, but listen.{kind} is open on this host alone.",
    "Open the listener on all addresses.",
)
