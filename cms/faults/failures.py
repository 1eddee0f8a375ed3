"""
Every way in which a step can fail: the error classes and the fault catalogue.

A L{Fault} is one entry of the catalogue: its name, its step, what it means and
what mends it.  C{FAULT.error(...)} makes the exception, whose class says who
can act on it.  The words of the cause and the cure are written here once; the
log, the status page and C{cms check} show the same object.
"""

from __future__ import annotations

import re
import shlex

from attrs import evolve, field, frozen

from cms.faults.remedies import LOGIN_ADVICE, LOGIN_OTHERWISE, REMEDIES, Remedy
from cms.signalflow import Step, StepError, printable


class ConfigurationError(StepError):
    """This machine's own settings or files are wrong."""

    blames = "configuration"


class DiscoveryError(StepError):
    """DNS did not lead to an address (steps 3 to 5)."""

    blames = "dns"


class ConnectError(StepError):
    """No TCP connection came about (step 6)."""

    blames = "network"


class TrustError(StepError):
    """The peer could not be believed (steps 7 and 8)."""

    blames = "certificates"


class RegistrationError(StepError):
    """The XMPP server did not accept the registration (steps 9 and 10)."""

    blames = "peer"


class CredentialsRefused(RegistrationError):
    """The XMPP server refused this unique ID or secret: trying another target,
    or hurrying, would not help."""

    blames = "credentials"


class LinkError(StepError):
    """An active link ended (step 11)."""

    blames = "peer"


class LoginError(StepError):
    """A client's log-in could not be served (steps 1 and 12)."""

    blames = "login"


class Doubt(StepError):
    """It works, but by luck: a warning (L{cms.faults.warnings})."""

    blames = "luck"


# Given with the evidence, but words of ours and not seen anywhere.
_WORDS = ("advice", "mend")


_PLAIN = re.compile(r"[\w.:@%+,/=\[\]-]*")
_SHELL = re.compile(r"[a-z][a-z0-9_]*( [^=]|$)")  # a command; key = value is a setting


class _Seen(dict[str, str]):
    """Evidence; what is not known shows as something to fill in."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


def _copied(template: str, seen: dict[str, str]) -> str:
    """
    Lines to copy, filled in.  Peers' words are among the evidence: in a shell what is not
    plain is quoted, and where that cannot be it is left to be filled in.
    """
    lines = []
    for line in template.split("\n"):
        command, mark, comment = line.partition("     # ")
        quotes = _SHELL.match(command) is not None and not set("\"'") & set(command)
        fit = {
            key: value if _PLAIN.fullmatch(value) else shlex.quote(value)
            for key, value in seen.items()
            if quotes or _PLAIN.fullmatch(value)
        }
        lines.append(command.format_map(_Seen(fit)) + mark + comment.format_map(_Seen(seen)))
    return "\n".join(lines)


@frozen
class Fault:
    """
    One entry of the catalogue.

    @ivar name: Stable, for C{cms explain} and alerts.
    @ivar cause: A format string over the evidence.
    @ivar cure: A format string over the evidence.
    """

    name: str
    kind: type[StepError] = field(repr=False)
    step: Step
    cause: str = field(repr=False)
    cure: str = field(repr=False)

    def error(self, **evidence: object) -> StepError:
        """
        The exception for this fault.

        @param evidence: What was seen, at least each name that the cause and
            the cure mention.
        @raise KeyError: when one of those is missing.
        """
        seen = {key: printable(str(value)) for key, value in evidence.items()}
        return self.kind(
            self.name,
            self.step,
            self.cause.format_map(seen),
            self.cure.format_map(seen),
            {key: value for key, value in seen.items() if key not in _WORDS},
            mend=_copied(self.remedy.mend, seen),
        )

    def at(self, step: Step) -> Fault:
        """The same entry at the step where it happened, if that is another one."""
        return evolve(self, step=step)

    @property
    def remedy(self) -> Remedy:
        """What people see when it happens, and what mends it, ready to be copied."""
        return REMEDIES.get(self.name, Remedy())

    @property
    def is_doubt(self) -> bool:
        """Whether it is a warning and not a failure."""
        return issubclass(self.kind, Doubt)


CATALOGUE: dict[str, Fault] = {}


def _fault(name: str, kind: type[StepError], step: Step, cause: str, cure: str) -> Fault:
    fault = Fault(name, kind, step, cause, cure)
    if CATALOGUE.setdefault(name, fault) is not fault:
        raise ValueError(f"two faults are named {name}")
    return fault


# Step 2, configuration, and the start of either daemon.

CONFIGURATION_FILE = _fault(
    "configuration-file",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file} cannot be read: {problem}.",
    "Give --config a readable TOML file; docs/configuration.md has one to start from.",
)
CONFIGURATION_ENCODING = _fault(
    "configuration-encoding",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file} {problem}, so it is not read.",
    "{mend}",
)
CONFIGURATION_VALUE = _fault(
    "configuration-value",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file}: {key}: {problem}.",
    "{mend}",
)
CONFIGURATION_OF_XMPP_SERVER = _fault(
    "configuration-of-xmpp-server",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file} is the configuration of an XMPP server, and a Callbridge's is wanted here.",
    "Give --config a callbridge.toml. Of an xmpp.toml: cms check --server, cms xmpp and"
    " twistd cms-xmpp.",
)
CONFIGURATION_OF_CALLBRIDGE = _fault(
    "configuration-of-callbridge",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file} is the configuration of a Callbridge, and an XMPP server's is wanted here.",
    "Give --config an xmpp.toml. Of a callbridge.toml: cms check without --server, cms callbridge"
    " and twistd cms-callbridge.",
)
STATE_FULL = _fault(
    "state-full",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} cannot be written: there is no room left on its disk.",
    "Make room on the disk of {folder}, and do it again; what was stored before is whole.",
)
STATE_READ_ONLY = _fault(
    "state-read-only",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} cannot be written: its file system is mounted read-only.",
    "Look at the kernel's log for why (a disk with errors is made so), mount it writable,"
    " and do it again.",
)
STATE_FORBIDDEN = _fault(
    "state-forbidden",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} cannot be used by this user ({user}).",
    "Run it as the owner of the state directory.",
)
STATE_BUSY = _fault(
    "state-busy",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} is being written by another process, and stayed so for {seconds} s.",
    "Do it again when that process is done.",
)
STATE_DAMAGED = _fault(
    "state-damaged",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} is damaged: {problem}.",
    "Stop the daemon, put a backup in its place (docs/operate.md says how), and start it.",
)
STATE_UNSAFE = _fault(
    "state-unsafe",
    ConfigurationError,
    Step.CONFIGURATION,
    "{problem}.",
    "{mend}",
)
STATE_UNUSABLE = _fault(
    "state-unusable",
    ConfigurationError,
    Step.CONFIGURATION,
    "{path} cannot be used: {problem}.",
    "Look at the disk of {folder} and at the kernel's log (dmesg).",
)
FILES_RUN_OUT = _fault(
    "files-run-out",
    ConfigurationError,
    Step.CONFIGURATION,
    "Connections are closed unheard: the daemon has as many files open as it may ({limit}).",
    "Raise the limit of files, and restart it.",
)
LISTEN_FAILED = _fault(
    "listen-failed",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file}: {key}: cannot listen on {endpoint}: {problem}.",
    "Free the port, name another one, or allow this user to open it.",
)

PROXY_MISSING = _fault(
    "proxy-missing",
    StepError,
    Step.CONNECT,
    "{key}: {peer} sent no header of the PROXY protocol, which haproxy: awaits there ({problem}).",
    "Let the proxy send it (HAProxy: send-proxy-v2; nginx: proxy_protocol on), or write the"
    " endpoint without haproxy: if clients connect themselves.",
)
PROXY_UNTRUSTED = _fault(
    "proxy-untrusted",
    StepError,
    Step.CONNECT,
    "{key}: {peer} may not say who its clients are, so its connection was closed.",
    "If it is your proxy, add its address to listen.proxies; clients belong on a listener without"
    " haproxy:.",
)
PROXY_UNEXPECTED = _fault(
    "proxy-unexpected",
    StepError,
    Step.CONNECT,
    "{peer} began with a header of the PROXY protocol, which is not awaited there.",
    "Write haproxy: before the endpoint of that listener, such as haproxy:tcp:5223, or let the"
    " proxy send no header.",
)

INTERNAL = _fault(
    "internal",
    StepError,
    Step.CONFIGURATION,
    "An unexpected error of this program: {problem}. It is no fault of the other side.",
    "Report it to whoever maintains cms, with the traceback (the daemon's log around this moment);"
    " a daemon goes on by itself, and tries its link again.",
)

CHECK_UNFINISHED = _fault(
    "check-unfinished",
    StepError,
    Step.CONFIGURATION,
    "The check did not end within its {seconds} s; it was waiting for {waiting}.",
    "Look at what it waited for; --timeout gives each stage more time.",
)

# Step 3, port.

SERVER_ADDRESS_INVALID = _fault(
    "server-address-invalid",
    ConfigurationError,
    Step.PORT,
    'The server address "{address}" cannot be read: {problem}.',
    "Write host, host:port, [v6] or [v6]:port, or leave it empty to use SRV.",
)

# Step 4, SRV.

SRV_NXDOMAIN = _fault(
    "srv-nxdomain",
    DiscoveryError,
    Step.SRV,
    "{record} does not exist: the DNS server {server} answered NXDOMAIN.",
    "Create the record, such as: {record}. 300 IN SRV 10 10 5223 <XMPP server's FQDN>."
    " Or set server_address.",
)
SRV_NO_DATA = _fault(
    "srv-no-data",
    DiscoveryError,
    Step.SRV,
    "{record} exists in DNS but holds no SRV record (asked {server}).",
    "Create the record, such as: {record}. 300 IN SRV 10 10 5223 <XMPP server's FQDN>."
    " Or set server_address.",
)
SRV_NOT_OFFERED = _fault(
    "srv-not-offered",
    DiscoveryError,
    Step.SRV,
    '{record} has the single target ".": this domain says that it offers no component service.',
    "Replace the record by one that names the XMPP server, or set server_address.",
)
SRV_MISSPELT = _fault(
    "srv-misspelt",
    DiscoveryError,
    Step.SRV,
    "{record} does not exist, but the misspelt {misspelt} does.",
    "Rename the record: the label is _xmpp-component, with a hyphen.",
)
SRV_TARGET_ADDRESS = _fault(
    "srv-target-address",
    DiscoveryError,
    Step.SRV,
    "The SRV target {host} is an IP address; a target is a host name, and no host has this name.",
    "Name the host in the SRV record, and give that host an A or AAAA record.",
)

# Steps 4 and 5, the DNS service itself.  The step is where it was noticed.


def _dns_faults(suffix: str, step: Step) -> tuple[Fault, Fault, Fault, Fault, Fault, Fault]:
    return (
        _fault(
            f"dns-silent-{suffix}",
            DiscoveryError,
            step,
            "The DNS server {server} did not answer the question for {name} within {seconds} s.",
            "Start the DNS server, let UDP and TCP port 53 through, or correct dns.servers.",
        ),
        _fault(
            f"dns-failed-{suffix}",
            DiscoveryError,
            step,
            "The DNS server {server} answered the question for {name} with {rcode}.",
            "Look at the DNS server's own log: its zone or its way upstream is broken.",
        ),
        _fault(
            f"dns-refused-{suffix}",
            DiscoveryError,
            step,
            "The DNS server {server} refuses to answer for {name} (REFUSED).",
            "Allow this host to query it, or name a DNS server that serves this domain.",
        ),
        _fault(
            f"dns-truncated-{suffix}",
            DiscoveryError,
            step,
            "The answer for {name} was truncated, and the DNS server {server} could not be"
            " asked again over TCP: {problem}.",
            "Let TCP port 53 through to the DNS server.",
        ),
        _fault(
            f"dns-unreachable-{suffix}",
            DiscoveryError,
            step,
            "The question for {name} could not be sent to the DNS server {server}: {problem}.",
            "Mend this host's route to the DNS server, or correct dns.servers.",
        ),
        _fault(
            f"dns-strange-{suffix}",
            DiscoveryError,
            step,
            "The DNS server {server} did not answer the question for {name}; what came from its"
            " address does not belong to the question: {problem}.",
            "Ask another DNS server (dns.servers): this one, or a middlebox before it, mixes"
            " answers up, or somebody forges them.",
        ),
    )


(
    DNS_SILENT_SRV,
    DNS_FAILED_SRV,
    DNS_REFUSED_SRV,
    DNS_TRUNCATED_SRV,
    DNS_UNREACHABLE_SRV,
    DNS_STRANGE_SRV,
) = _dns_faults("srv", Step.SRV)
(
    DNS_SILENT_ADDRESS,
    DNS_FAILED_ADDRESS,
    DNS_REFUSED_ADDRESS,
    DNS_TRUNCATED_ADDRESS,
    DNS_UNREACHABLE_ADDRESS,
    DNS_STRANGE_ADDRESS,
) = _dns_faults("address", Step.ADDRESS)

# Step 5, address.

HOST_NXDOMAIN = _fault(
    "host-nxdomain",
    DiscoveryError,
    Step.ADDRESS,
    "The host {host} does not exist (NXDOMAIN from {server}).",
    "Create an A or AAAA record for {host}, or correct the name in the SRV record"
    " or server_address.",
)
HOST_SHORT = _fault(
    "host-short",
    DiscoveryError,
    Step.ADDRESS,
    "The host {host} does not exist (NXDOMAIN from {server}); it is a short name, and search"
    " domains ({search}) are not tried, because the certificate must hold the name as written.",
    "Write the host's whole name in server_address or in the SRV record, as its certificate has"
    " it; /etc/hosts would be asked for a short name as well.",
)
HOST_NO_DATA = _fault(
    "host-no-data",
    DiscoveryError,
    Step.ADDRESS,
    "The host {host} exists in DNS but has neither an A nor an AAAA record (asked {server}).",
    "Create an A or AAAA record for {host}.",
)
HOST_ALIAS_BROKEN = _fault(
    "host-alias-broken",
    DiscoveryError,
    Step.ADDRESS,
    "The host {host} is an alias (CNAME) for {alias}, which leads to no address.",
    "Give {host} an A or AAAA record of its own; an SRV target must not be an alias (RFC 2782).",
)

# Step 6, connect.

CONNECT_REFUSED = _fault(
    "connect-refused",
    ConnectError,
    Step.CONNECT,
    "{address} refused the connection: nothing listens on port {port} there.",
    "Start the XMPP server, or correct the port (components use 5223).",
)
CONNECT_TIMEOUT = _fault(
    "connect-timeout",
    ConnectError,
    Step.CONNECT,
    "{address} did not answer on port {port} within {seconds} s.",
    "Open TCP port {port} in the firewall between this host and {address}.",
)
CONNECT_UNREACHABLE = _fault(
    "connect-unreachable",
    ConnectError,
    Step.CONNECT,
    "{address} cannot be reached: {problem}.",
    "Mend the route to {address}, or the address in DNS.",
)

# Step 7, TLS.

TLS_NOT_SPOKEN = _fault(
    "tls-not-spoken",
    TrustError,
    Step.TLS,
    "{peer} does not speak TLS on this port ({problem}).",
    "Use the port with TLS from the first byte (5223, not the client port 5222), or enable TLS"
    " on the server's component listener.",
)
TLS_SILENT = _fault(
    "tls-silent",
    TrustError,
    Step.TLS,
    "{peer} accepted the connection but did not finish the TLS handshake within {seconds} s.",
    "See whether the server hangs or a middlebox swallows TLS; check that the port is 5223.",
)
TLS_CLOSED = _fault(
    "tls-closed",
    TrustError,
    Step.TLS,
    "{peer} closed the connection during the TLS handshake ({problem}).",
    "Look at the XMPP server's log; a middlebox that inspects TLS does the same, and so does a"
    " port that expects the PROXY protocol, or another protocol, first.",
)
TLS_RESET = _fault(
    "tls-reset",
    TrustError,
    Step.TLS,
    "{peer} reset the connection during the TLS handshake ({problem}).",
    "A middlebox or firewall that inspects TLS does this: let port {port} through it untouched."
    " Otherwise look at the XMPP server's log.",
)
TLS_TOO_OLD = _fault(
    "tls-too-old",
    TrustError,
    Step.TLS,
    "{peer} speaks no version of TLS that is still safe ({problem}).",
    "Allow TLS 1.2 and TLS 1.3 on the XMPP server (RFC 8996 forbids the older ones).",
)
TLS_NAME_UNKNOWN = _fault(
    "tls-name-unknown",
    TrustError,
    Step.TLS,
    "{peer} has no certificate for the name that it was asked for ({problem}).",
    "Give the XMPP server a certificate for this name, or connect by a name it knows.",
)
TLS_CLIENT_PORT = _fault(
    "tls-client-port",
    TrustError,
    Step.TLS,
    "{peer} is the port for clients: it speaks XMPP with STARTTLS, not TLS from the first byte.",
    "Use the component port, 5223, in the SRV record or in server_address.",
)
TLS_HTTP = _fault(
    "tls-http",
    TrustError,
    Step.TLS,
    '{peer} is a web server: it answered TLS with plain HTTP ("{heard}").',
    "Correct the port in the SRV record or in server_address (components use 5223); a proxy before"
    " the XMPP server must pass TCP on, not HTTP.",
)
TLS_OTHER_SERVICE = _fault(
    "tls-other-service",
    TrustError,
    Step.TLS,
    '{peer} is {service} and no XMPP server: it said "{heard}".',
    "Correct the host and the port in the SRV record or in server_address (components use 5223);"
    " a proxy in between adds nothing of its own on this side.",
)
TLS_SERVER_PORT = _fault(
    "tls-server-port",
    TrustError,
    Step.TLS,
    "{peer} is the port for other XMPP servers, which speaks XMPP with STARTTLS, not TLS from the"
    ' first byte (it said "{heard}").',
    "Use the component port, 5223, in the SRV record or in server_address.",
)
TLS_PLAIN_COMPONENT = _fault(
    "tls-plain-component",
    TrustError,
    Step.TLS,
    "{peer} is a component port, but one without TLS.",
    "Enable TLS on it, or put a TLS proxy before it; on one and the same host tls.unprotected"
    " does without.",
)
TLS_FAILED = _fault(
    "tls-failed",
    TrustError,
    Step.TLS,
    "The TLS handshake with {peer} failed: {problem}.",
    "Both sides must share a protocol of TLS 1.2 or later and a cipher.",
)
TLS_ALERT = _fault(
    "tls-alert",
    TrustError,
    Step.TLS,
    "{peer} speaks TLS, and broke the handshake off with an alert ({problem}).",
    "Look at the log of what listens there for this time: it names the reason. Something else than"
    " the XMPP server, which wants another name or protocol, does this too.",
)
TLS_CLIENT_CERTIFICATE_REQUIRED = _fault(
    "tls-client-certificate-required",
    TrustError,
    Step.TLS,
    "{peer} demands a certificate from this Callbridge and got none ({problem}).",
    "Set tls.certificate and tls.key to a certificate that the server's tls.trust accepts.",
)
TLS_CLIENT_CERTIFICATE_REFUSED = _fault(
    "tls-client-certificate-refused",
    TrustError,
    Step.TLS,
    "{peer} refused this Callbridge's certificate ({problem}).",
    "Renew the certificate, or add its CA to the server's tls.trust.",
)
CERTIFICATE_UNTRUSTED = _fault(
    "certificate-untrusted",
    TrustError,
    Step.TLS,
    'The certificate of {peer} ("{subject}", issued by "{issuer}") is not signed by a CA that'
    " this side trusts ({problem}).",
    "Add the issuing CA to tls.trust, or give the peer's certificate its intermediates.",
)
CERTIFICATE_ROOT_UNTRUSTED = _fault(
    "certificate-root-untrusted",
    TrustError,
    Step.TLS,
    'The chain of {peer} is whole, but this side does not trust the root CA at its end, "{at}"'
    " ({problem}).",
    "If that CA is to be believed, add its certificate to tls.trust here, after comparing the"
    " fingerprint; otherwise have the peer's certificate issued by a CA that is trusted.",
)
TRUST_OTHER_KEY = _fault(
    "trust-other-key",
    TrustError,
    Step.TLS,
    'The certificate "{at}" of {peer} is issued by "{issuer}"; tls.trust here holds a CA of that'
    " name, but with another key ({problem}).",
    "Take the CA's current certificate into tls.trust. If it is there beside an older one of the"
    " same name, OpenSSL takes the first unless both have key identifiers: remove the older one."
    " Where the peer has old certificates of a CA that was renewed, renew those.",
)
CERTIFICATE_SIGNATURE_WRONG = _fault(
    "certificate-signature-wrong",
    TrustError,
    Step.TLS,
    'The signature of the certificate "{at}" in the chain of {peer} was not made with the key of'
    ' its issuer "{issuer}" ({problem}).',
    "Put into the peer's certificate file the very CA certificate that issued this one: another"
    " of the same name, older or newer, has another key.",
)
CERTIFICATE_REFUSED = _fault(
    "certificate-refused",
    TrustError,
    Step.TLS,
    'OpenSSL refuses the certificate of {peer}: {openssl} (code {code}), at depth {depth}, "{at}".',
    "Have the certificate at that depth issued anew without what OpenSSL names; openssl verify,"
    " run with the same files, says the same.",
)
CERTIFICATE_NAME_CONSTRAINTS = _fault(
    "certificate-name-constraints",
    TrustError,
    Step.TLS,
    'The certificate "{at}" of {peer} names {names}, which a CA above it may not issue for'
    " ({problem}; {constraints}).",
    "Issue it by a CA whose name constraints allow these names, or with names that they allow.",
)
CERTIFICATE_ISSUER_NO_CA = _fault(
    "certificate-issuer-no-ca",
    TrustError,
    Step.TLS,
    'The certificate "{at}" in the chain of {peer} has signed another one, but is no CA'
    " ({problem}; key usage {key_usages}).",
    "Have the certificate below it issued by a CA: one with basicConstraints CA:TRUE and, if its"
    " key usage is limited, keyCertSign.",
)
CERTIFICATE_ISSUER_USAGE = _fault(
    "certificate-issuer-usage",
    TrustError,
    Step.TLS,
    'The CA "{at}" above the certificate of {peer} may not issue certificates for a {role}: its'
    " extended key usage is {usages}.",
    "Have the certificate issued by a CA whose extended key usage is not limited, or holds {use}.",
)
CERTIFICATE_PATH_LENGTH = _fault(
    "certificate-path-length",
    TrustError,
    Step.TLS,
    'Between the CA "{at}" and the certificate of {peer} stand more CAs than its path length'
    " allows ({problem}).",
    "Have the certificate issued by a CA that stands higher, or that upper CA issued anew with a"
    " longer path length (pathlen).",
)
CERTIFICATE_CHAIN_LONG = _fault(
    "certificate-chain-long",
    TrustError,
    Step.TLS,
    "The chain of {peer} is longer than this side follows ({problem}).",
    "Have the certificate issued by a CA that is closer to the root: a path of up to ten CAs is"
    " followed.",
)
CERTIFICATE_CRITICAL_EXTENSION = _fault(
    "certificate-critical-extension",
    TrustError,
    Step.TLS,
    'The certificate "{at}" in the chain of {peer} has a critical extension that OpenSSL does not'
    " know ({problem}); critical are {extensions}.",
    "Issue it without that extension, or with the extension not critical.",
)
CERTIFICATE_KEY_USAGE = _fault(
    "certificate-key-usage",
    TrustError,
    Step.TLS,
    'The key of the certificate "{at}" of {peer} may not be used for TLS: its key usage is'
    " {key_usages} ({problem}).",
    "Issue it with the key usage digitalSignature.",
)
TRUST_EXPIRED = _fault(
    "trust-expired",
    ConfigurationError,
    Step.TLS,
    'The CA "{subject}", which this side trusts (tls.trust), expired at {not_after}; the'
    " certificate of {peer} was issued under it.",
    "Replace it in tls.trust here by the CA's current certificate; if it looks valid, set this"
    " host's clock (NTP).",
)
CERTIFICATE_SELF_SIGNED = _fault(
    "certificate-self-signed",
    TrustError,
    Step.TLS,
    'The certificate of {peer} ("{subject}") is signed by itself, and this side does not trust it.',
    "Let a CA that is trusted issue it; for a trial add the certificate itself to tls.trust.",
)
CERTIFICATE_INTERMEDIATE_MISSING = _fault(
    "certificate-intermediate-missing",
    TrustError,
    Step.TLS,
    'The certificate of {peer} ("{subject}") came without the intermediate certificate of its'
    ' issuer "{issuer}".',
    "Append the intermediate certificates to the server's certificate file, after the leaf.",
)
CERTIFICATE_INTERMEDIATE_EXPIRED = _fault(
    "certificate-intermediate-expired",
    TrustError,
    Step.TLS,
    'The certificate of {peer} is good, but the intermediate "{subject}" above it expired at'
    " {not_after}.",
    "Replace the intermediate in the server's certificate file by the CA's current one.",
)
CERTIFICATE_USAGE_SERVER = _fault(
    "certificate-usage-server",
    TrustError,
    Step.TLS,
    'The certificate "{subject}" of {peer} may not be used by a server: its extended key usage'
    " is {usages}.",
    "Issue it from a template with both Server Authentication and Client Authentication.",
)
CERTIFICATE_USAGE_CLIENT = _fault(
    "certificate-usage-client",
    TrustError,
    Step.TLS,
    'The certificate "{subject}" of {peer} may not be used by a client: its extended key usage'
    " is {usages}.",
    "Issue it from a template with both Server Authentication and Client Authentication.",
)
CERTIFICATE_WEAK = _fault(
    "certificate-weak",
    TrustError,
    Step.TLS,
    'The key of the certificate "{subject}" of {peer}, {key}, is too weak to be believed'
    " ({problem}).",
    "Issue it anew with a P-256 key or RSA of 2,048 bits or more.",
)
CERTIFICATE_CA_WEAK = _fault(
    "certificate-ca-weak",
    TrustError,
    Step.TLS,
    'The key of the CA "{at}" above the certificate of {peer}, {key}, is too weak to be believed'
    " ({problem}).",
    "Have the certificate issued by a CA with a P-256 key or RSA of 2,048 bits or more: a new"
    " certificate of this CA would not help.",
)
CERTIFICATE_SIGNATURE_WEAK = _fault(
    "certificate-signature-weak",
    TrustError,
    Step.TLS,
    'The certificate "{at}" in the chain of {peer} is signed with a hash that is too weak'
    " ({problem}).",
    "Have its CA issue it anew, signed with SHA-256 or better; the key may stay.",
)
CERTIFICATE_EXPIRED = _fault(
    "certificate-expired",
    TrustError,
    Step.TLS,
    'The certificate "{subject}" of {peer} expired at {not_after}.',
    "Renew the certificate; if it looks valid, set this host's clock (NTP).",
)
CERTIFICATE_NOT_YET_VALID = _fault(
    "certificate-not-yet-valid",
    TrustError,
    Step.TLS,
    'The certificate "{subject}" of {peer} is valid only from {not_before}.',
    "Set the clocks of both hosts (NTP), or wait until then.",
)

# Step 8, identity.

IDENTITY_NO_SAN = _fault(
    "identity-no-san",
    TrustError,
    Step.IDENTITY,
    'The certificate "{subject}" of {peer} has no subjectAltName; its common name does not count.',
    "Issue a certificate whose subjectAltName holds: {wanted}.",
)
IDENTITY_MALFORMED = _fault(
    "identity-malformed",
    TrustError,
    Step.IDENTITY,
    "The names in the certificate of {peer} cannot be read: {problem}.",
    "Issue a certificate whose subjectAltName holds: {wanted}.",
)
IDENTITY_DOMAIN_MISSING = _fault(
    "identity-domain-missing",
    TrustError,
    Step.IDENTITY,
    "The certificate of {peer} names {names}, but not the XMPP domain {missing}.",
    "Issue a certificate whose subjectAltName also holds DNS:{missing}.",
)
IDENTITY_OTHER_DOMAIN = _fault(
    "identity-other-domain",
    TrustError,
    Step.IDENTITY,
    "The certificate of {peer} names {names}: this server, but not the XMPP domain {missing};"
    " perhaps the domain is {other}.",
    "If {other} is the XMPP domain, correct domain on this side. Only if {missing} is right, issue"
    " a certificate whose subjectAltName also holds DNS:{missing}.",
)
IDENTITY_HOST_MISSING = _fault(
    "identity-host-missing",
    TrustError,
    Step.IDENTITY,
    "The certificate of {peer} names {names}, but not the server {missing}.",
    "Issue a certificate whose subjectAltName also holds {missing}, or connect by a name it holds.",
)
IDENTITY_BOTH_MISSING = _fault(
    "identity-both-missing",
    TrustError,
    Step.IDENTITY,
    "The certificate of {peer} names {names}, but neither the XMPP domain nor the server:"
    " {missing}.",
    "Check domain here, and that this is the right server; if both are right, issue a certificate"
    " whose subjectAltName holds both names.",
)
IDENTITY_OTHER_SNI = _fault(
    "identity-other-sni",
    TrustError,
    Step.IDENTITY,
    "The certificate that {peer} shows when it is asked for {host} does not do, but the one that"
    " it shows for {other} (SNI) does, which names {names}. Of the first: {refused}",
    "Let the server show that certificate when it is asked for {host} too, or make it the one"
    " that it shows by default: a Callbridge asks for the server that it connects to.",
)
IDENTITY_TRAILING_DOT = _fault(
    "identity-trailing-dot",
    TrustError,
    Step.IDENTITY,
    "The certificate of {peer} names {names}; a name that ends with a dot matches nothing.",
    "Issue a certificate whose subjectAltName holds, without trailing dots: {wanted}.",
)

# Step 9, register.

REGISTER_SILENT = _fault(
    "register-silent",
    RegistrationError,
    Step.REGISTER,
    "{peer} accepted the connection but sent no stream header within {seconds} s.",
    "See whether the server hangs, and whether this is its component port.",
)
REGISTER_NOT_XMPP = _fault(
    "register-not-xmpp",
    RegistrationError,
    Step.REGISTER,
    "{peer} answered with something that is not an XMPP component stream ({problem}).",
    "Connect to the component port (5223); the client port speaks another namespace.",
)
REGISTER_HTTP = _fault(
    "register-http",
    RegistrationError,
    Step.REGISTER,
    '{peer} is a web server: it answered the stream header with "{heard}".',
    "Correct the port in the SRV record or in server_address (components use 5223); a proxy before"
    " the XMPP server must pass TCP on, not HTTP.",
)
REGISTER_OTHER_SERVICE = _fault(
    "register-other-service",
    RegistrationError,
    Step.REGISTER,
    '{peer} is {service} and no XMPP component port: it said "{heard}".',
    "Correct the host and the port in the SRV record or in server_address (components use 5223).",
)
REGISTER_CLOSED = _fault(
    "register-closed",
    RegistrationError,
    Step.REGISTER,
    "{peer} closed the connection before it opened its stream ({problem}).",
    "Look at the XMPP server's log for this time; a port that speaks TLS but not XMPP closes, too:"
    " see that it is the component port (5223).",
)
REGISTER_REJECTED = _fault(
    "register-rejected",
    RegistrationError,
    Step.REGISTER,
    '{peer} rejected the stream with "{condition}" ({text}).',
    "{advice}",
)

# Step 10, registered.

REGISTERED_SILENT = _fault(
    "registered-silent",
    RegistrationError,
    Step.REGISTERED,
    "{peer} did not answer the registration within {seconds} s.",
    "See whether the server hangs; its log tells whether it saw {component}.",
)
REGISTERED_CLOSED = _fault(
    "registered-closed",
    RegistrationError,
    Step.REGISTERED,
    "{peer} closed the connection instead of answering the registration of {component}"
    " ({problem}).",
    "Look at the XMPP server's log for this time; it may have refused the secret without saying"
    " so.",
)
UNKNOWN_ID = _fault(
    "unknown-id",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} does not know the component "{component}" (host-unknown).',
    "Add this Callbridge on the XMPP server (cms xmpp callbridge add), or correct unique_name"
    " and domain.",
)
DOMAIN_MISMATCH = _fault(
    "domain-mismatch",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} serves the domain {served}, and "{component}" is not within it (host-unknown).',
    "If {served} is the XMPP domain, correct domain on this side, and component_address if it is"
    " set.",
)
WRONG_SECRET = _fault(
    "wrong-secret",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} refused the secret of "{component}" (not-authorized).',
    "Copy the secret that the XMPP server holds for this Callbridge into shared_secret;"
    " ejabberd says the same of an ID that it does not know.",
)
ALREADY_CONNECTED = _fault(
    "already-connected",
    RegistrationError,
    Step.REGISTERED,
    '{peer} already has a live link for "{component}" (conflict); the secret is right.',
    "Give each Callbridge its own unique_name, or stop the other one.",
)
REGISTRATION_REJECTED = _fault(
    "registration-rejected",
    RegistrationError,
    Step.REGISTERED,
    '{peer} answered the registration with "{condition}" ({text}).',
    "{advice}",
)
REGISTRATION_SLOWED = _fault(
    "registration-slowed",
    RegistrationError,
    Step.REGISTERED,
    "{peer} has had too many failed registrations and is refused for {seconds} s.",
    "Correct the secret on that host, then wait; other hosts are not affected.",
)

# Steps 7 to 10 as the XMPP server sees them.

PEER_SILENT = _fault(
    "peer-silent",
    RegistrationError,
    Step.REGISTER,
    "{peer} connected but did not register within {seconds} s.",
    "See whether it is a Callbridge at all; its own log names the step at which it hangs.",
)
PEER_CERTIFICATE = _fault(
    "peer-certificate",
    TrustError,
    Step.TLS,
    "{peer} did not complete the TLS handshake ({problem}).",
    "The peer's own log says why it refused; if its certificate was refused here, add its CA to"
    " tls.trust.",
)
PEER_WRONG_NAMESPACE = _fault(
    "peer-wrong-namespace",
    RegistrationError,
    Step.REGISTER,
    '{peer} opened a stream for "{namespace}" on the component port (invalid-namespace).',
    "Components speak jabber:component:accept here; clients belong on the client port.",
)
PEER_BAD_HEADER = _fault(
    "peer-bad-header",
    RegistrationError,
    Step.REGISTER,
    "{peer} sent a stream header that cannot be used: {problem} ({condition}).",
    "The header must name the component address in its to attribute (XEP-0114).",
)
PEER_BAD_XML = _fault(
    "peer-bad-xml",
    RegistrationError,
    Step.REGISTER,
    "{peer} sent something that is not an XMPP stream ({condition}: {problem}).",
    "Look at what connects there; a health probe or a port scanner does this too.",
)
PEER_NOT_TLS = _fault(
    "peer-not-tls",
    TrustError,
    Step.TLS,
    '{peer} did not speak TLS, but sent {service} ("{heard}").',
    "Let it connect to the listener that it means: this one wants TLS from the first byte. A proxy"
    " before it adds no PROXY protocol unless the listener expects it.",
)
PEER_OTHER_PROTOCOL = _fault(
    "peer-other-protocol",
    RegistrationError,
    Step.REGISTER,
    '{peer} sent {service} in place of an XMPP stream ("{heard}").',
    "Let it connect to the listener that it means: this one wants XMPP. A health probe that speaks"
    " HTTP belongs to /healthz of listen.api.",
)
PEER_UNKNOWN_ID = _fault(
    "peer-unknown-id",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} asked for "{component}", which is no Callbridge of this server (host-unknown).',
    "Add it with cms xmpp callbridge add, or correct unique_name and domain on that Callbridge.",
)
PEER_OTHER_DOMAIN = _fault(
    "peer-other-domain",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} asked for "{component}", which is not within the domain of this server, {domain}'
    " (host-unknown).",
    "If it is a Callbridge, correct domain there to {domain}, and component_address if it is set."
    " Another program may have such an address: add it by its whole address (cms xmpp callbridge"
    " add); it decides no log-ins.",
)
PEER_WRONG_SECRET = _fault(
    "peer-wrong-secret",
    CredentialsRefused,
    Step.REGISTERED,
    '{peer} gave a wrong secret for "{component}" (not-authorized).',
    "Make the secret on that Callbridge equal to the one that this server holds for it.",
)
PEER_UNREGISTERED = _fault(
    "peer-unregistered",
    RegistrationError,
    Step.REGISTERED,
    "{peer} sent {name} before it was registered (not-authorized).",
    "A component sends its handshake first (XEP-0114).",
)
PEER_CONFLICT = _fault(
    "peer-conflict",
    RegistrationError,
    Step.REGISTERED,
    '{peer} registered "{component}", whose link from {other} is alive (conflict).',
    "Give each Callbridge its own unique_name, or stop one of the two.",
)
PEER_REFUSED = _fault(
    "peer-refused",
    RegistrationError,
    Step.REGISTERED,
    "{peer} failed too often and is refused for {seconds} s more.",
    "Correct the secret or the password there; it is heard again after that time.",
)

# Step 11, active.

PEER_LIED = _fault(
    "peer-lied",
    LinkError,
    Step.ACTIVE,
    '"{component}" sent a stanza from "{sender}", which is not its own address (invalid-from).',
    "A component speaks only for its own domain; correct the program behind it.",
)
NO_AUTHORITY_CURE = (
    "If it is a Callbridge, correct domain there to {domain}, and component_address if it is set."
    " If it is another program, leave it, and add a Callbridge beside it."
)
LINK_OUTSIDE_DOMAIN = _fault(
    "link-outside-domain",
    LinkError,
    Step.ACTIVE,
    '"{component}" is connected, but it is not within the domain of this server, {domain}, so it'
    " is not asked to decide log-ins.",
    NO_AUTHORITY_CURE,
)
LINK_NO_AUTHORITY = _fault(
    "link-no-authority",
    LinkError,
    Step.ACTIVE,
    '"{component}" is connected, but decides no log-ins: {problem}.',
    "If it is a Callbridge, compare domain there with {domain}, and the versions of both. If it is"
    " another program, leave it, and add a Callbridge beside it.",
)
DOMAIN_NOT_SERVED = _fault(
    "domain-not-served",
    LinkError,
    Step.ACTIVE,
    "{peer} does not serve the domain {domain} ({problem}): the link is up, but no log-in is"
    " decided over it.",
    "Correct domain on this side: it is the domain of the XMPP server and of its users' addresses.",
)
LINK_DELETED = _fault(
    "link-deleted",
    LinkError,
    Step.ACTIVE,
    'The link of "{component}" was ended: it was deleted from the Callbridges (host-gone).',
    "Stop that Callbridge, or add it again with cms xmpp callbridge add.",
)
LINK_SECRET_EXPIRED = _fault(
    "link-secret-expired",
    LinkError,
    Step.ACTIVE,
    'The link of "{component}" was ended: the secret that it registered with was rotated and is'
    " not accepted any more (not-authorized).",
    "Give that Callbridge the secret that cms xmpp callbridge rotate printed.",
)
LINK_SILENT = _fault(
    "link-silent",
    LinkError,
    Step.ACTIVE,
    "{peer} did not answer a ping within {seconds} s: the link is dead.",
    "Look at the network between the two hosts and at the load of {peer}.",
)
LINK_STALLED = _fault(
    "link-stalled",
    LinkError,
    Step.ACTIVE,
    "{peer} does not keep up: what is sent to it waits to be read.",
    "Look at the load of {peer}: its process may be stopped, or its host short of memory.",
)
LINK_LOST = _fault(
    "link-lost",
    LinkError,
    Step.ACTIVE,
    "The connection to {peer} was lost ({problem}).",
    "It is tried again by itself; if it stays down, the next attempt says why.",
)
LINK_CLOSED = _fault(
    "link-closed",
    LinkError,
    Step.ACTIVE,
    "{peer} closed the link ({problem}).",
    "It is tried again by itself; the server was stopped or restarted.",
)
LINK_ERROR = _fault(
    "link-error",
    LinkError,
    Step.ACTIVE,
    '{peer} ended the link with "{condition}" ({text}).',
    "It is tried again by itself; the server's log says why.",
)

# Steps 1 and 12, log-in.

NO_CALLBRIDGE = _fault(
    "no-callbridge",
    LoginError,
    Step.LINK_BEFORE_LOGIN,
    "No Callbridge is connected, so no log-in can be decided.",
    "Start a Callbridge; its own log names the step at which its link fails.",
)
NO_AUTHORITY = _fault(
    "no-authority",
    LoginError,
    Step.LINK_BEFORE_LOGIN,
    "What is connected to the XMPP server decides no log-ins: {problem}",
    "{mend}",
)
LOGIN_LINK_LOST = _fault(
    "login-link-lost",
    LoginError,
    Step.LOGIN,
    "The Callbridge {component} was lost in the middle of the log-in.",
    "Try again; another Callbridge, or the same one when it is back, decides anew.",
)
LOGIN_SILENT = _fault(
    "login-silent",
    LoginError,
    Step.LOGIN,
    "The Callbridge {component} did not decide the log-in within {seconds} s.",
    "Look at the load and the user directory of that Callbridge.",
)
LOGIN_BAD_ANSWER = _fault(
    "login-bad-answer",
    LoginError,
    Step.LOGIN,
    "The Callbridge {component} gave no usable answer ({problem}).",
    "Run the same version of both halves; the log of that Callbridge says more.",
)
LOGIN_UNDECIDED = _fault(
    "login-undecided",
    LoginError,
    Step.LOGIN,
    "The Callbridge {component} could not decide the log-in: {problem}.",
    "Look at the log of that Callbridge: its user directory fails, or more log in at once than"
    " it takes. The client's program tries again by itself.",
)
LOGIN_UNUSABLE = _fault(
    "login-unusable",
    LoginError,
    Step.LOGIN,
    "The client's log-in could not be used ({condition}).",
    "Look at the client: it has to choose one of the mechanisms offered, and to end what it began.",
)
LOGIN_REFUSED = _fault(
    "login-refused",
    LoginError,
    Step.LOGIN,
    "The Callbridge {component} refused the log-in ({condition}).",
    "{mend}",
)


def login_refused(component: str, condition: str) -> StepError:
    """A Callbridge said no with this condition (RFC 6120 6.5)."""
    mend = LOGIN_ADVICE.get(condition, LOGIN_OTHERWISE)
    return LOGIN_REFUSED.error(component=component, condition=condition, mend=mend)


# Step 12 as the client sees it.

LOGIN_DENIED = _fault(
    "login-denied",
    LoginError,
    Step.LOGIN,
    "{peer} refused the log-in of {user} ({condition}): nothing is wrong with the link;"
    " who decides log-ins there, the Callbridge, said no.",
    "Check the user name and the password; cms callbridge user list shows who exists.",
)
LOGIN_SLOWED = _fault(
    "login-slowed",
    LoginError,
    Step.LOGIN,
    "{peer} does not look at the log-in of {user} now ({text}): wrong passwords came before, from"
    " this address or for this account.",
    "Wait that long, and log in with the right password: until then it is refused like a wrong one."
    " If it was not you, the Callbridge's log names the address of who guesses.",
)
LOGIN_TEMPORARY = _fault(
    "login-temporary",
    LoginError,
    Step.LOGIN,
    "{peer} could not decide the log-in of {user} ({condition}: {text}).",
    "Try again; if it stays, the log of the XMPP server names the Callbridge that did not answer.",
)
LOGIN_DISABLED = _fault(
    "login-disabled",
    LoginError,
    Step.LOGIN,
    "{peer} knows {user}, but the account is not allowed to log in ({condition}).",
    "Enable the account on the Callbridge's host (cms callbridge user enable); where its password"
    " has expired, set another one (cms callbridge user passwd).",
)
LOGIN_NO_MECHANISM = _fault(
    "login-no-mechanism",
    LoginError,
    Step.LOGIN,
    "{peer} offers no log-in mechanism that this client has: {offered}.",
    "Enable SCRAM-SHA-256 or SCRAM-SHA-1 on the server.",
)
LOGIN_NO_STARTTLS = _fault(
    "login-no-starttls",
    LoginError,
    Step.LOGIN,
    "{peer} does not offer STARTTLS, and a password is not sent without TLS.",
    "Give the client listener a certificate, and require STARTTLS on it.",
)
LOGIN_WRONG_DOMAIN = _fault(
    "login-wrong-domain",
    LoginError,
    Step.LOGIN,
    "{peer} does not serve the domain {domain} ({condition}).",
    "Use one domain everywhere: in the XMPP server, the Callbridge, DNS and the user's address.",
)
LOGIN_UNREACHABLE = _fault(
    "login-unreachable",
    LoginError,
    Step.LOGIN,
    "The client port of the XMPP server cannot be reached: {problem}",
    "Start the client listener, or let TCP port {port} through.",
)
LOGIN_UNTRUSTED = _fault(
    "login-untrusted",
    LoginError,
    Step.LOGIN,
    "A client does not believe the server: {problem}",
    "{mend}",
)
LOGIN_TIMEOUT = _fault(
    "login-timeout",
    LoginError,
    Step.LOGIN,
    "{peer} did not complete the log-in within {seconds} s; it was waiting for {waiting}.",
    "See whether the XMPP server hangs, and whether its Callbridge answers.",
)
LOGIN_BROKEN = _fault(
    "login-broken",
    LoginError,
    Step.LOGIN,
    "The log-in at {peer} broke off ({problem}).",
    "The log of the XMPP server for this time says why.",
)

# What cms check --server finds out about the server's own set-up.

OWN_CERTIFICATE_UNUSABLE = _fault(
    "own-certificate-unusable",
    ConfigurationError,
    Step.CONFIGURATION,
    "{file}: tls.certificate: nobody can use {path}: a TLS handshake with it, tried in memory,"
    " fails ({problem}). Its keys: {keys}.",
    "Issue it anew with a key that every peer can use, P-256 or RSA of 2,048 bits (an RSA-PSS key"
    " without parameters), by CAs with such keys that sign with SHA-256.",
)
OWN_CHAIN_INCOMPLETE = _fault(
    "own-chain-incomplete",
    TrustError,
    Step.TLS,
    'The chain in {peer} ends with "{subject}", whose issuer "{issuer}" is neither in it nor'
    " trusted here.",
    "Append the intermediate certificates to the file, each after the one that it issued.",
)
OWN_SRV_ELSEWHERE = _fault(
    "own-srv-elsewhere",
    DiscoveryError,
    Step.SRV,
    "{record} leads to {targets}, but not to this server, {host}.",
    "Add a record for this server, or correct hostname.",
)
OWN_SRV_PORT = _fault(
    "own-srv-port",
    DiscoveryError,
    Step.SRV,
    "{record} names port {port} for {host}, but this server listens on {listening}.",
    "Correct the port in the record, or in listen.{kind}.",
)
OWN_LISTENER_DEAD = _fault(
    "own-listener-dead",
    ConnectError,
    Step.CONNECT,
    "The listener {endpoint} (listen.{kind}) of the running server cannot be reached at"
    " {address}: {problem}.",
    "Look whether the server runs, and at the firewall of this host.",
)
CLOCK_WRONG = _fault(
    "clock-wrong",
    ConfigurationError,
    Step.CONFIGURATION,
    "This host's clock says {now}, which cannot be: {problem}.",
    "Set the clock, and keep it set with NTP.",
)
