"""Step 7, TLS: what is wrong with a certificate that is believed all the same."""

from __future__ import annotations

from cms.faults.kinds import Fault, Side, StepWarning, TrustError
from cms.signalflow import Step

# What an audit finds out about one's own set-up.

OWN_CHAIN_INCOMPLETE = Fault(
    "own-chain-incomplete",
    TrustError,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=(
        "certificate bundle missing: clients reject, link fails",
        "unable to verify the first certificate",
    ),
    cause=(
        'The chain in {peer} ends with "{subject}", whose issuer "{issuer}" is neither in it nor'
        " trusted here."
    ),
    cure="Append the intermediate certificates to the file, each after the one that it issued.",
    mend="cat xmpp.crt intermediate.crt > chain.crt     # leaf first; tls.certificate = chain.crt",
)
# Warnings.

CERTIFICATE_EXPIRES_SOON = Fault(
    "certificate-expires-soon",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=(
        "certificate expires soon",
        "certificate expiry warning",
    ),
    cause='The certificate "{subject}" of {peer} expires in {days:day}, at {not_after}.',
    cure="Renew it now.",
    mend="openssl x509 -noout -dates -in <the certificate file>",
)
CERTIFICATE_CHAIN_ORDER = Fault(
    "certificate-chain-order",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=(
        "certificate bundle out of order",
        "some clients reject the chain, others do not",
        "root not last in the bundle",
    ),
    cause="The chain of {peer} is out of order: {order}.",
    cure=(
        "Order the certificate file: the leaf first, then each certificate after the one that it"
        " issued."
    ),
    mend="cat xmpp.crt intermediate.crt root.crt > chain.crt",
)
CERTIFICATE_CHAIN_SURPLUS = Fault(
    "certificate-chain-surplus",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=(
        "unrelated certificate in the bundle",
        "extra certificate in the chain",
    ),
    cause='The chain of {peer} holds "{subject}", which issued none of the others.',
    cure="Remove it from the certificate file.",
)
TRUST_CA_EXPIRED = Fault(
    "trust-ca-expired",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=("expired CA in the trust bundle",),
    cause=(
        'The CA "{subject}" in {path} (tls.trust) expired at {not_after}: no certificate under it'
        " is believed any more."
    ),
    cure="Replace it by the CA's current certificate, or remove it.",
    mend="openssl crl2pkcs7 -nocrl -certfile {path} | openssl pkcs7 -print_certs -noout",
)
CERTIFICATE_NO_CLIENT_USE = Fault(
    "certificate-no-client-use",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=("extended key usage: server authentication only",),
    cause=(
        'The certificate "{subject}" in {peer} allows {usages} only; where XMPP servers connect to'
        " each other it must also allow client authentication."
    ),
    cure="Issue it from a template with both Server Authentication and Client Authentication.",
    mend="extendedKeyUsage = serverAuth, clientAuth     # in the CA's template",
)
CHAIN_UNVERIFIED = Fault(
    "chain-unverified",
    StepWarning,
    Step.TLS,
    on=Side.CONFIGURED,
    symptoms=("is my certificate bundle complete?",),
    cause=(
        'Whether the chain in {peer} is complete is not known: it ends with "{subject}", issued by'
        ' "{issuer}", which is not trusted here.'
    ),
    cure=(
        "Append the intermediates if that issuer is one; name its root in tls.trust to have it"
        " checked."
    ),
    mend="openssl verify -untrusted {peer} {peer}",
)
