"""Step 8, identity: what the certificate's subjectAltName has to cover."""

from __future__ import annotations

from cms.faults.kinds import Fault, Side, StepWarning, TrustError
from cms.signalflow import Step

_NEW_CERTIFICATE = (
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout new.key"
    ' -out new.csr -subj "/CN={domain}" -addext "subjectAltName={san}"'
    ' -addext "extendedKeyUsage=serverAuth,clientAuth"'
    "\n# new.csr goes to the CA; tls.key and tls.certificate change together, once it has answered"
)

IDENTITY_NO_SAN = Fault(
    "identity-no-san",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "certificate has no subjectAltName, only a common name",
        "x509: certificate relies on legacy Common Name field",
        "hostname mismatch although the CN is right",
    ),
    cause=(
        'The certificate "{subject}" of {peer} has no subjectAltName; its common name does not'
        " count."
    ),
    cure="Issue a certificate whose subjectAltName holds: {wanted}.",
    mend=_NEW_CERTIFICATE,
)
WEB_CERTIFICATE_NAME = Fault(
    "web-certificate-name",
    TrustError,
    Step.IDENTITY,
    on=Side.CHECK,
    symptoms=(
        "NET::ERR_CERT_COMMON_NAME_INVALID",
        "SSL_ERROR_BAD_CERT_DOMAIN",
        "the certificate is for another host",
    ),
    cause="Browsers refuse {peer}: its certificate names {names}, not {host}.",
    cure=(
        "Issue a certificate whose subjectAltName also holds {san}, or open the pages by a name"
        " that it has."
    ),
    mend="openssl s_client -connect {peer} </dev/null | openssl x509 -noout -ext subjectAltName",
)
IDENTITY_MALFORMED = Fault(
    "identity-malformed",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "subjectAltName cannot be parsed",
        "error parsing asn1 value in the certificate",
    ),
    cause="The names in the certificate of {peer} cannot be read: {problem}.",
    cure="Issue a certificate whose subjectAltName holds: {wanted}.",
    mend=_NEW_CERTIFICATE,
)
IDENTITY_DOMAIN_MISSING = Fault(
    "identity-domain-missing",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "certificate error: the SAN lacks the XMPP domain",
        "hostname mismatch, certificate is not valid for meet.example.com",
        "host-only certificate, certificate of the parent domain",
    ),
    cause="The certificate of {peer} names {names}, but not the XMPP domain {missing}.",
    cure="Issue a certificate whose subjectAltName also holds DNS:{missing}.",
    mend=_NEW_CERTIFICATE,
)
IDENTITY_OTHER_DOMAIN = Fault(
    "identity-other-domain",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "hostname mismatch: the certificate names another XMPP domain",
        "domain is misspelt, or is the parent domain, in callbridge.toml",
    ),
    cause=(
        "The certificate of {peer} names {names}: this server, but not the XMPP domain {missing};"
        " perhaps the domain is {other}."
    ),
    cure=(
        "If {other} is the XMPP domain, correct domain on this side. Only if {missing} is right,"
        " issue a certificate whose subjectAltName also holds DNS:{missing}."
    ),
    mend='domain = "{other}"     # callbridge.toml',
)
IDENTITY_HOST_MISSING = Fault(
    "identity-host-missing",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "certificate error: the SAN lacks the server's FQDN",
        "hostname mismatch, certificate is not valid for xmpp1.meet.example.com",
        "certificate holds the domain but not the node",
    ),
    cause="The certificate of {peer} names {names}, but not the server {missing}.",
    cure=(
        "Issue a certificate whose subjectAltName also holds {missing}, or connect by a name it"
        " holds."
    ),
    mend=_NEW_CERTIFICATE,
)
IDENTITY_BOTH_MISSING = Fault(
    "identity-both-missing",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "certificate of another host",
        "hostname mismatch",
        "ERR_CERT_COMMON_NAME_INVALID",
    ),
    cause=(
        "The certificate of {peer} names {names}, but neither the XMPP domain nor the server:"
        " {missing}."
    ),
    cure=(
        "Check domain here, and that this is the right server; if both are right, issue a"
        " certificate whose subjectAltName holds both names."
    ),
    mend=_NEW_CERTIFICATE,
)
IDENTITY_OTHER_SNI = Fault(
    "identity-other-sni",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.CHECK,
    symptoms=(
        "the wrong certificate is shown, although the right one is installed",
        "SNI: another certificate for another name",
    ),
    cause=(
        "The certificate that {peer} shows when it is asked for {host} does not do, but the one"
        " that it shows for {other} (SNI) does, which names {names}. Of the first: {refused}"
    ),
    cure=(
        "Let the server show that certificate when it is asked for {host} too, or make it the one"
        " that it shows by default: a Callbridge asks for the server that it connects to."
    ),
    mend=(
        "openssl s_client -connect {peer} -servername {host} </dev/null\n"
        "openssl s_client -connect {peer} -servername {other} </dev/null     # this one is right"
    ),
)
IDENTITY_TRAILING_DOT = Fault(
    "identity-trailing-dot",
    TrustError,
    Step.IDENTITY,
    on=Side.LINK | Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "hostname mismatch although the name is in the SAN",
        "SAN with a trailing dot",
    ),
    cause="The certificate of {peer} names {names}; a name that ends with a dot matches nothing.",
    cure="Issue a certificate whose subjectAltName holds, without trailing dots: {wanted}.",
    mend=_NEW_CERTIFICATE,
)
# Warnings.

IDENTITY_WILDCARD = Fault(
    "identity-wildcard",
    StepWarning,
    Step.IDENTITY,
    on=Side.SERVER | Side.CHECK | Side.COMMAND,
    symptoms=(
        "wildcard certificate for the XMPP server",
        "*.example.com works here and not there",
    ),
    cause="The certificate of {peer} covers {covered} by a wildcard only ({names}).",
    cure="Name the XMPP domain and the server themselves: not every peer believes a wildcard.",
    mend=_NEW_CERTIFICATE,
)
