"""Step 12, login: a user directory is asked, and cannot answer."""

from __future__ import annotations

from cms.faults.kinds import DirectoryFault, Fault, Side
from cms.signalflow import Step

_STATUS = "cms callbridge directory status --config callbridge.toml"

# The way to a server.

LDAP_UNREACHABLE = Fault(
    "ldap-unreachable",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "temporary-auth-failure for all users of a directory",
        "Can't contact LDAP server (-1)",
        "LDAP: connection refused, timeout, no such host",
    ),
    cause="No server of the directory {directory} can be used: {problem}",
    cure=(
        "Start a server, let its port through, or correct servers or domain of this [[directory]];"
        " what is wrong with one that answers, its own log says. Its users get a temporary failure"
        " until then; users of other directories log in."
    ),
    mend=_STATUS,
)
LDAP_SILENT = Fault(
    "ldap-silent",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "log-ins take seconds, and then fail for now",
        "the LDAP server accepts connections and does not answer",
        "Timed out (-5)",
    ),
    cause="{peer} did not answer within {seconds} s ({doing}).",
    cure=(
        "See what keeps that server: load, disk, a search without an index (the attributes of"
        " jidMapping need one). Another server of the list is asked meanwhile."
    ),
    mend=_STATUS,
)
LDAP_BROKEN = Fault(
    "ldap-broken",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "the connection to the LDAP server was lost",
        "no LDAP at this port",
        "Server is unavailable (52)",
    ),
    cause="{peer}: {problem} ({doing}).",
    cure=(
        "See whether its name in servers is right, whether it runs, and whether its port speaks"
        " LDAP: ldap:// is STARTTLS at port 389, ldaps:// is TLS from the first byte at port 636."
        " If all of this is right, the server itself is broken, or none of yours: see its own log."
    ),
    mend=_STATUS,
)
LDAP_NO_STARTTLS = Fault(
    "ldap-no-starttls",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "unsupported extended operation",
        "Protocol error (2) at STARTTLS",
        "the LDAP server has no certificate",
        "the LDAP server closes the connection during the TLS handshake",
    ),
    cause="{peer} does not do STARTTLS: {problem}. No password is ever sent there without TLS.",
    cure=(
        "Give that server a certificate and key (a domain controller of Active Directory has none"
        " until it is given one), or write ldaps:// if it speaks TLS at such a port alone."
    ),
    mend=(
        "olcTLSCertificateFile: /etc/ldap/server.crt     # OpenLDAP, cn=config\n"
        "olcTLSCertificateKeyFile: /etc/ldap/server.key"
    ),
)
LDAP_UNTRUSTED = Fault(
    "ldap-untrusted",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "certificate verify failed",
        "TLS: hostname does not match the certificate",
        "Connect error (-11)",
    ),
    cause="TLS with {peer} failed: {problem}",
    cure=(
        "Put the CA of that certificate into the file of trust; give the server another one if it"
        " has expired, or was not made for servers."
    ),
    mend='trust = "ldap-ca.pem"     # of this [[directory]]',
)
LDAP_CERTIFICATE_NAME = Fault(
    "ldap-certificate-name",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "hostname does not match the certificate",
        "the LDAP server was moved behind another name",
    ),
    cause="the certificate of {peer} names {names}, and not {host}.",
    cure=(
        "Write the server in servers as its certificate names it, or give it a certificate with"
        " {san}."
    ),
)
LDAP_BUSY = Fault(
    "ldap-busy",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE,
    symptoms=(
        "many log-ins at once fail for now",
        "too many look-ups wait for the directory",
    ),
    cause="Too many log-ins wait for the directory {directory} already ({waiting}).",
    cure=(
        "They succeed when clients try again. If it stays, the servers are slow, or"
        " most_connections of this [[directory]] is too small."
    ),
)

# What a server says.

LDAP_REFUSED = Fault(
    "ldap-refused",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "Insufficient access (50)",
        "Server is unwilling to perform (53)",
        "Strong(er) authentication required (8)",
        "Busy (51)",
    ),
    cause="{peer} refuses the {doing}: {problem}.",
    cure=(
        "Let the account of bind_name search below base with this filter and read the attributes"
        " of the mappings; without bind_name give one, since Active Directory answers nobody. The"
        " server's own log says what it objects to."
    ),
)
LDAP_ENTRY_TOO_LARGE = Fault(
    "ldap-entry-too-large",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "one user of a directory gets temporary-auth-failure, all others log in",
        "an entry is longer than 131072 bytes",
    ),
    cause="The entry {dn} is passed over: {problem}.",
    cure=(
        "See who filled it, and take out of it what is too much in the attributes of the mappings,"
        " uid among them. All other users log in."
    ),
)
LDAP_AMBIGUOUS = Fault(
    "ldap-ambiguous",
    DirectoryFault,
    Step.LOGIN,
    on=Side.CALLBRIDGE | Side.CHECK,
    symptoms=(
        "two people with the same name: neither can log in",
        "several entries fit one address",
    ),
    cause="In the directory {directory} more than one entry has the address {address}.",
    cure=(
        "Let jidMapping use an attribute that each person has for himself, or narrow base and"
        " filter."
    ),
)
