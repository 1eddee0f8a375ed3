"""
Step 7, TLS: why the certificate of a peer, or our own, is not believed.
L{cms.faults.step07_warnings} has what is wrong with one that is believed.
"""

from __future__ import annotations

from cms.faults.kinds import ConfigurationError, Fault, Side, TrustError
from cms.faults.lines import CLOCK
from cms.signalflow import Step

CERTIFICATE_UNTRUSTED = Fault(
    "certificate-untrusted",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate verify failed: unable to get local issuer certificate",
        "PKIX path building failed",
    ),
    cause=(
        'The certificate of {peer} ("{subject}", issued by "{issuer}") is not signed by a CA that'
        " this side trusts ({problem})."
    ),
    cure="Add the issuing CA to tls.trust, or give the peer's certificate its intermediates.",
    mend="cat <the CA that issued it> >> ca.pem     # tls.trust",
)
CERTIFICATE_ROOT_UNTRUSTED = Fault(
    "certificate-root-untrusted",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "self-signed certificate in certificate chain",
        "SELF_SIGNED_CERT_IN_CHAIN",
        "the private root CA is not trusted",
    ),
    cause=(
        'The chain of {peer} is whole, but this side does not trust the root CA at its end, "{at}"'
        " ({problem})."
    ),
    cure=(
        "If that CA is to be believed, add its certificate to tls.trust here, after comparing the"
        " fingerprint; otherwise have the peer's certificate issued by a CA that is trusted."
    ),
    mend="cat <the root certificate> >> ca.pem     # tls.trust; sha256 {fingerprint}",
)
TRUST_OTHER_KEY = Fault(
    "trust-other-key",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate signature failure, after the CA was renewed",
        "authority and subject key identifier mismatch",
        "the CA has the right name, but the chain is not trusted",
    ),
    cause=(
        'The certificate "{at}" of {peer} is issued by "{issuer}"; tls.trust here holds a CA of'
        " that name, but with another key ({problem})."
    ),
    cure=(
        "Take the CA's current certificate into tls.trust. If it is there beside an older one of"
        " the same name, OpenSSL takes the first unless both have key identifiers: remove the older"
        " one. Where the peer has old certificates of a CA that was renewed, renew those."
    ),
    mend=(
        "openssl x509 -noout -subject -ext subjectKeyIdentifier -in ca.pem\n"
        "cat <the CA's current certificate> >> ca.pem     # tls.trust"
    ),
)
CERTIFICATE_SIGNATURE_WRONG = Fault(
    "certificate-signature-wrong",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate signature failure",
        "the intermediate has the right name and the wrong key",
    ),
    cause=(
        'The signature of the certificate "{at}" in the chain of {peer} was not made with the key'
        ' of its issuer "{issuer}" ({problem}).'
    ),
    cure=(
        "Put into the peer's certificate file the very CA certificate that issued this one: another"
        " of the same name, older or newer, has another key."
    ),
    mend="cat xmpp.crt <the intermediate that issued it> > chain.crt",
)
CERTIFICATE_REFUSED = Fault(
    "certificate-refused",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate verify failed",
        "certificate revoked, proxy certificates not allowed, RFC 3779 resource",
    ),
    cause=(
        "OpenSSL refuses the certificate of {peer}: {openssl} (code {code}), at depth {depth},"
        ' "{at}".'
    ),
    cure=(
        "Have the certificate at that depth issued anew without what OpenSSL names; openssl verify,"
        " run with the same files, says the same."
    ),
    mend="openssl verify -purpose ssl{role} -CAfile ca.pem -untrusted chain.crt xmpp.crt",
)
CERTIFICATE_NAME_CONSTRAINTS = Fault(
    "certificate-name-constraints",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "permitted subtree violation",
        "excluded subtree violation",
        "the company CA may issue for its own domain only (name constraints)",
    ),
    cause=(
        'The certificate "{at}" of {peer} names {names}, which a CA above it may not issue for'
        " ({problem}; {constraints})."
    ),
    cure=(
        "Issue it by a CA whose name constraints allow these names, or with names that they allow."
    ),
    mend="openssl x509 -noout -ext nameConstraints -in <the CA's certificate>",
)
CERTIFICATE_ISSUER_NO_CA = Fault(
    "certificate-issuer-no-ca",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "invalid CA certificate",
        "key usage does not include certificate signing",
        "issuer certificate doesn't have a public key",
        "the intermediate lacks basicConstraints CA:TRUE",
    ),
    cause=(
        'The certificate "{at}" in the chain of {peer} has signed another one, but is no CA'
        " ({problem}; key usage {key_usages})."
    ),
    cure=(
        "Have the certificate below it issued by a CA: one with basicConstraints CA:TRUE and, if"
        " its key usage is limited, keyCertSign."
    ),
    mend=(
        "basicConstraints = critical, CA:TRUE     # of the intermediate\n"
        "keyUsage = critical, keyCertSign, cRLSign"
    ),
)
CERTIFICATE_ISSUER_USAGE = Fault(
    "certificate-issuer-usage",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "unsuitable certificate purpose, at depth 1",
        "the intermediate CA is for e-mail or code signing",
    ),
    cause=(
        'The CA "{at}" above the certificate of {peer} may not issue certificates for a {role}: its'
        " extended key usage is {usages}."
    ),
    cure=(
        "Have the certificate issued by a CA whose extended key usage is not limited, or holds"
        " {use}."
    ),
    mend="openssl x509 -noout -ext extendedKeyUsage -in <the CA's certificate>",
)
CERTIFICATE_PATH_LENGTH = Fault(
    "certificate-path-length",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "path length constraint exceeded",
        "pathlen:0, and yet a CA below it",
    ),
    cause=(
        'Between the CA "{at}" and the certificate of {peer} stand more CAs than its path length'
        " allows ({problem})."
    ),
    cure=(
        "Have the certificate issued by a CA that stands higher, or that upper CA issued anew with"
        " a longer path length (pathlen)."
    ),
    mend="openssl x509 -noout -ext basicConstraints -in <the CA's certificate>",
)
CERTIFICATE_CHAIN_LONG = Fault(
    "certificate-chain-long",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=("certificate chain too long",),
    cause="The chain of {peer} is longer than this side follows ({problem}).",
    cure=(
        "Have the certificate issued by a CA that is closer to the root: a path of up to ten CAs is"
        " followed."
    ),
)
CERTIFICATE_CRITICAL_EXTENSION = Fault(
    "certificate-critical-extension",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=("unhandled critical extension",),
    cause=(
        'The certificate "{at}" in the chain of {peer} has a critical extension that OpenSSL does'
        " not know ({problem}); critical are {extensions}."
    ),
    cure="Issue it without that extension, or with the extension not critical.",
    mend="openssl s_client -connect {peer} -showcerts </dev/null | openssl x509 -noout -text",
)
CERTIFICATE_KEY_USAGE = Fault(
    "certificate-key-usage",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "unsuitable certificate purpose, although the extended key usage is right",
        "key usage does not include digital signature",
    ),
    cause=(
        'The key of the certificate "{at}" of {peer} may not be used for TLS: its key usage is'
        " {key_usages} ({problem})."
    ),
    cure="Issue it with the key usage digitalSignature.",
    mend="keyUsage = critical, digitalSignature     # in the CA's template",
)
TRUST_EXPIRED = Fault(
    "trust-expired",
    ConfigurationError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate has expired, but the server's certificates are all new",
        "the root in tls.trust has expired",
    ),
    cause=(
        'The CA "{subject}", which this side trusts (tls.trust), expired at {not_after}; the'
        " certificate of {peer} was issued under it."
    ),
    cure=(
        "Replace it in tls.trust here by the CA's current certificate; if it looks valid, set this"
        " host's clock (NTP)."
    ),
    mend=(
        "openssl crl2pkcs7 -nocrl -certfile ca.pem | openssl pkcs7 -print_certs -noout     #"
        " tls.trust"
    ),
)
CERTIFICATE_SELF_SIGNED = Fault(
    "certificate-self-signed",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate verify failed: self-signed certificate",
        "DEPTH_ZERO_SELF_SIGNED_CERT",
        "PKIX path building failed",
    ),
    cause=(
        'The certificate of {peer} ("{subject}") is signed by itself, and this side does not trust'
        " it."
    ),
    cure="Let a CA that is trusted issue it; for a trial add the certificate itself to tls.trust.",
    mend=(
        "openssl s_client -connect {peer} </dev/null | openssl x509 -out peer.pem\n"
        "openssl x509 -in peer.pem -noout -subject -fingerprint -sha256     # compare it there\n"
        "cat peer.pem >> ca.pem     # tls.trust; only if they are the same"
    ),
)
CERTIFICATE_INTERMEDIATE_MISSING = Fault(
    "certificate-intermediate-missing",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "unable to verify the first certificate",
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        "works in the browser, but not here (the browser fetches intermediates)",
        "certificate bundle missing",
    ),
    cause=(
        'The certificate of {peer} ("{subject}") came without the intermediate certificate of its'
        ' issuer "{issuer}".'
    ),
    cure="Append the intermediate certificates to the server's certificate file, after the leaf.",
    mend="cat xmpp.crt intermediate.crt > chain.crt     # leaf first; tls.certificate = chain.crt",
)
CERTIFICATE_INTERMEDIATE_EXPIRED = Fault(
    "certificate-intermediate-expired",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate has expired, but the server's certificate is new",
        "expired intermediate, expired cross-signed root",
    ),
    cause=(
        'The certificate of {peer} is good, but the intermediate "{subject}" above it expired at'
        " {not_after}."
    ),
    cure="Replace the intermediate in the server's certificate file by the CA's current one.",
    mend="cat xmpp.crt <the current intermediate> > chain.crt",
)
CERTIFICATE_USAGE_SERVER = Fault(
    "certificate-usage-server",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.CONFIGURED,
    symptoms=(
        "unsuitable certificate purpose",
        "unsupported certificate purpose",
        "extended key usage lacks serverAuth: the CA template is wrong",
    ),
    cause=(
        'The certificate "{subject}" of {peer} may not be used by a server: its extended key usage'
        " is {usages}."
    ),
    cure="Issue it from a template with both Server Authentication and Client Authentication.",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
CERTIFICATE_USAGE_CLIENT = Fault(
    "certificate-usage-client",
    TrustError,
    Step.TLS,
    on=Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "sslv3 alert unsupported certificate",
        "extended key usage lacks clientAuth",
        "common problem: the CA template does not issue the right key usage",
    ),
    cause=(
        'The certificate "{subject}" of {peer} may not be used by a client: its extended key usage'
        " is {usages}."
    ),
    cure="Issue it from a template with both Server Authentication and Client Authentication.",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
CERTIFICATE_WEAK = Fault(
    "certificate-weak",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "EE certificate key too weak",
        "ee key too small",
        "RSA 1024",
    ),
    cause=(
        'The key of the certificate "{subject}" of {peer}, {key}, is too weak to be believed'
        " ({problem})."
    ),
    cure="Issue it anew with a P-256 key or RSA of 2,048 bits or more.",
    mend=(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key     # for a"
        " new certificate: the old key stays until it is there"
    ),
)
CERTIFICATE_CA_WEAK = Fault(
    "certificate-ca-weak",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "CA certificate key too weak",
        "ca key too small",
        "an old CA with RSA 1024",
    ),
    cause=(
        'The key of the CA "{at}" above the certificate of {peer}, {key}, is too weak to be'
        " believed ({problem})."
    ),
    cure=(
        "Have the certificate issued by a CA with a P-256 key or RSA of 2,048 bits or more: a new"
        " certificate of this CA would not help."
    ),
    mend="openssl x509 -noout -text -in <the CA's certificate> | grep 'Public-Key'",
)
CERTIFICATE_SIGNATURE_WEAK = Fault(
    "certificate-signature-weak",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "CA signature digest algorithm too weak",
        "ca md too weak",
        "SHA-1 or MD5 certificate",
    ),
    cause=(
        'The certificate "{at}" in the chain of {peer} is signed with a hash that is too weak'
        " ({problem})."
    ),
    cure="Have its CA issue it anew, signed with SHA-256 or better; the key may stay.",
    mend=(
        "openssl x509 -req -sha256 -copy_extensions copy -in xmpp.csr -CA <CA> -CAkey <key> -out"
        " new.crt     # by the CA; without -copy_extensions the names would be lost"
    ),
)
CERTIFICATE_EXPIRED = Fault(
    "certificate-expired",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate has expired",
        "certificate verify failed: certificate has expired",
        "XMPP worked until today",
    ),
    cause='The certificate "{subject}" of {peer} expired at {not_after}.',
    cure="Renew the certificate; if it looks valid, set this host's clock (NTP).",
    mend="openssl s_client -connect {peer} </dev/null 2>/dev/null | openssl x509 -noout -dates",
)
CERTIFICATE_NOT_YET_VALID = Fault(
    "certificate-not-yet-valid",
    TrustError,
    Step.TLS,
    on=Side.LINK | Side.REGISTRATION | Side.CONFIGURED,
    symptoms=(
        "certificate is not yet valid",
        "clock or NTP wrong",
    ),
    cause='The certificate "{subject}" of {peer} is valid only from {not_before}.',
    cure="Set the clocks of both hosts (NTP), or wait until then.",
    mend=CLOCK,
)
