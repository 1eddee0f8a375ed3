"""Step 7, TLS: what keeps a browser from the pages, or makes it warn of them."""

from __future__ import annotations

from cms.faults.kinds import Fault, Side, StepWarning, TrustError
from cms.signalflow import Step

WEB_NOT_TLS = Fault(
    "web-not-tls",
    TrustError,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "ERR_SSL_PROTOCOL_ERROR",
        "SSL_ERROR_RX_RECORD_TOO_LONG",
        "wrong version number: plain HTTP on the port for HTTPS",
    ),
    cause="{url} begins with https, and plain HTTP answers on that port.",
    cure=(
        "Let the proxy end TLS on this port, or open the port as listen.web, which has TLS;"
        " listen.web_plain is for a proxy, not for browsers."
    ),
    mend='web = ["tcp:{port}"]     # xmpp.toml, [listen]',
)
WEB_NOT_PLAIN = Fault(
    "web-not-plain",
    TrustError,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "400 The plain HTTP request was sent to HTTPS port",
        "ERR_EMPTY_RESPONSE",
        "http in place of https",
    ),
    cause="{url} begins with http, and the port answers with TLS.",
    cure="Write https, in links too; a proxy that speaks no TLS belongs before listen.web_plain.",
    mend='web_plain = ["tcp:5280:interface=127.0.0.1"]     # xmpp.toml, [listen]',
)
WEB_INSECURE = Fault(
    "web-insecure",
    TrustError,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "crypto.subtle is undefined",
        "the page opens and cannot log in: Not secure",
        "microphone and camera are not offered",
    ),
    cause=(
        "{url} has no TLS: over plain HTTP browsers give a page no cryptography, microphone or"
        " camera, unless it comes from their own computer."
    ),
    cure="Serve it by https: by listen.web with a certificate, or by a proxy that ends TLS.",
    mend='web = ["tcp:443"]     # xmpp.toml, [listen]',
)
WEB_CERTIFICATE_UNTRUSTED = Fault(
    "web-certificate-untrusted",
    TrustError,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "NET::ERR_CERT_AUTHORITY_INVALID",
        "SEC_ERROR_UNKNOWN_ISSUER",
        "Your connection is not private",
    ),
    cause="Browsers do not trust {peer}: {problem}",
    cure=(
        "Use the certificate of a public CA: it can check a host of your own network by DNS. With"
        " a CA of your own, install it on every computer that joins, and name it with --trust."
    ),
    mend="openssl s_client -connect {peer} -showcerts </dev/null     # what is shown to browsers",
)
WEB_CERTIFICATE_PRIVATE = Fault(
    "web-certificate-private",
    StepWarning,
    Step.TLS,
    on=Side.CHECK,
    symptoms=(
        "guests get a certificate warning, colleagues do not",
        "works in the office, Your connection is not private elsewhere",
    ),
    cause=(
        'The certificate of {peer} is of a CA of your own ("{issuer}"): browsers that were not'
        " given this CA warn before the page."
    ),
    cure="For guests from elsewhere use the certificate of a public CA.",
)
