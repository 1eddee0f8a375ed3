"""Step 7: whatever OpenSSL objects to in a chain, and what it says of our own certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from peers import pki, stubs
from peers.certs import Pair
from peers.checkstage import HOST, Stage, records
from peers.contract import DOMAIN
from peers.faultcases.case import Cases
from peers.faultcases.server import looks_at
from peers.faultcases.trust import NAMES, _anything
from peers.pki import Authority, Leaf, Validity, pem

CASES = Cases()
EXPIRED = Validity(-30, -1)
Make = Callable[[Stage], tuple[Leaf, list[Authority]]]


def case(fault: str, cause: str, cure: str, **more: Any) -> Callable[[Make], Make]:
    """A server that thinks well of its certificate; the check trusts the root of the house."""

    def add(make: Make) -> Make:
        def arrange(stage: Stage) -> list[str]:
            leaf, chain = make(stage)
            return stage.against(stage.component(leaf.write(stage.directory, *chain), _anything))

        CASES.add(fault, 7, cause, cure, arrange, **more)
        return make

    return add


def below(stage: Stage, **more: Any) -> tuple[Leaf, list[Authority]]:
    """A certificate under an intermediate that has something."""
    lower = Authority("Lower CA", stage.house.root, **more)
    return lower.issue(NAMES), [lower]


@case("certificate-root-untrusted", "the root CA at its end", "add its certificate to tls.trust")
def root_untrusted(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A whole chain of somebody else's."""
    other = Authority("Root of others")
    return other.issue(NAMES), [other]


@case("certificate-signature-wrong", "was not made with the key", "the very CA certificate")
def signature_wrong(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """The intermediate of last year, which has the same name."""
    old, new = (Authority("Lower CA", stage.house.root, identified=False) for _ in range(2))
    return new.issue(NAMES), [old]


@case(
    "certificate-refused",
    "proxy certificates not allowed",
    "issued anew without",
    also=["identity-no-san"],  # such a certificate has none
)
def proxy(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """What nobody has made a rule for: OpenSSL's words are shown."""
    return stage.house.root.issue(extensions=[pki.PROXY]), []


@case(
    "certificate-name-constraints",
    "permitted subtree violation; CN=Lower CA: only DNS:example.org",
    "name constraints allow",
)
def name_constraints(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A CA for another domain only."""
    elsewhere = x509.NameConstraints([x509.DNSName("example.org")], None)
    return below(stage, extensions=[elsewhere])


@case("certificate-issuer-no-ca", '"CN=Lower CA"', "basicConstraints CA:TRUE")
def issuer_no_ca(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """Somebody has issued a certificate with his own."""
    return below(stage, basic=pki.NO_CA)


@case("certificate-issuer-usage", "for a server: its extended key usage is", "holds serverAuth")
def issuer_usage(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A CA for e-mail."""
    mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    return below(stage, extensions=[mail])


@case("certificate-path-length", "path length constraint exceeded", "pathlen")
def path_length(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A CA that may have none below it has one."""
    last = x509.BasicConstraints(ca=True, path_length=0)
    upper = Authority("Upper CA", stage.house.root, basic=last)
    lower = Authority("Lower CA", upper)
    return lower.issue(NAMES), [lower, upper]


@case("certificate-chain-long", "longer than this side follows", "closer to the root")
def chain_long(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A path that never ends."""
    chain = [stage.house.root]
    for number in range(12):
        chain.append(Authority(f"CA {number}", chain[-1]))
    return chain[-1].issue(NAMES), chain[:0:-1]


@case("certificate-critical-extension", "unhandled critical extension", "not critical")
def critical_extension(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """Something of a private standard, marked critical."""
    return stage.house.root.issue(NAMES, extensions=[pki.UNKNOWN]), []


@case("certificate-key-usage", "its key usage is cRLSign", "digitalSignature")
def key_usage(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """A key that may sign nothing but revocations."""
    return stage.house.root.issue(NAMES, extensions=[pki.key_usage("crl_sign")]), []


@case("certificate-ca-weak", "RSA of 1024 bits", "a new certificate of this CA would not help")
def ca_weak(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """An intermediate from long ago."""
    return below(stage, key=rsa.generate_private_key(65537, 1024))


@case("certificate-signature-weak", "a hash that is too weak", "SHA-256")
def signature_weak(stage: Stage) -> tuple[Leaf, list[Authority]]:
    """SHA-1."""
    return pki.signed_with_sha1(stage.house.root, NAMES), []


@CASES.case("identity-other-sni", 8, f"shows for {DOMAIN} (SNI) does", "for xmpp1")
def other_sni(stage: Stage) -> list[str]:
    """The certificate with both names is for those who ask for the domain."""
    named, both = (
        stage.house.root.issue(names).write(stage.directory) for names in ([HOST], NAMES)
    )
    return stage.against(stage.component(named, stubs.shows_for(DOMAIN, both)))


@CASES.case(
    "identity-domain-missing", 8, f"not the XMPP domain {DOMAIN}", DOMAIN, name="no-sni-helps"
)
def no_sni_helps(stage: Stage) -> list[str]:
    """A certificate for each name, and none for both."""
    named, other = (
        stage.house.root.issue(names).write(stage.directory) for names in ([HOST], [DOMAIN])
    )
    return stage.against(stage.component(named, stubs.shows_for(DOMAIN, other)))


# What is wrong in our own tls.trust


def trusting(stage: Stage, port: int, *trusted: Authority) -> list[str]:
    """A check that trusts these."""
    trust = stage.file("bundle.pem", pem(*(ca.certificate for ca in trusted)))
    return stage.against(port, trust=trust)


@CASES.case(
    "trust-expired",
    7,
    "which this side trusts (tls.trust), expired at",
    "Replace it in tls.trust here",
    also=["trust-ca-expired"],
)
def trust_expired(stage: Stage) -> list[str]:
    """The root has expired, where it is trusted."""
    root = stage.house.root
    port = stage.component(root.issue(NAMES).write(stage.directory))
    return trusting(stage, port, root.renewed(validity=EXPIRED))


@CASES.case("trust-ca-expired", 7, "Old root", "remove it", warns=True)
def trust_ca_expired(stage: Stage) -> list[str]:
    """An old root beside the one that counts."""
    root = stage.house.root
    port = stage.component(root.issue(NAMES).write(stage.directory))
    return trusting(stage, port, root, Authority("Old root", validity=EXPIRED))


@CASES.case("trust-other-key", 7, "with another key", "current certificate into tls.trust")
def trust_other_key(stage: Stage) -> list[str]:
    """The CA was renewed, and nobody has told this side."""
    renewed = Authority("Renewed root")
    port = stage.component(renewed.issue(NAMES).write(stage.directory))
    return trusting(stage, port, Authority("Renewed root"))


# Our own certificate


def koblitz(stage: Stage) -> Pair:
    """A key on a curve that TLS does not know."""
    key = ec.generate_private_key(ec.SECP256K1())
    return stage.house.root.issue(NAMES, key=key).write(stage.directory)


def weak_intermediate(stage: Stage) -> Pair:
    """A good key under an intermediate of RSA 1024."""
    lower = Authority("Lower CA", stage.house.root, key=rsa.generate_private_key(65537, 1024))
    return lower.issue(NAMES).write(stage.directory, lower)


def rsa_pss(stage: Stage) -> Pair:
    """RSA-PSS with parameters that TLS has no scheme for."""
    certificate, key = (pki.RSA_PSS / f"never.{kind}" for kind in ("crt", "key"))
    return Pair(certificate, key, certificate)


def own(make: Callable[[Stage], Pair], *, as_server: bool) -> Callable[[Stage], list[str]]:
    """Configured, at either side."""

    def arrange(stage: Stage) -> list[str]:
        pair = make(stage)
        if as_server:
            files = {"certificate": str(pair.certificate), "key": str(pair.key)}
            return looks_at(stage, stage.changed_server(**files))
        port = stage.component()
        stage.zone(*records(port))
        return stage.configured(f"{HOST}:{port}", pair)

    return arrange


for _make, _words in (
    *((koblitz, "secp256k1"), (weak_intermediate, "RSA of 1024")),
    (rsa_pss, "saltlen"),
):
    for _as_server in (True, False):
        CASES.add(
            "own-certificate-unusable",
            2,
            _words,
            "P-256",
            own(_make, as_server=_as_server),
            name=f"own-{_make.__name__}-{'server' if _as_server else 'callbridge'}",
        )


@CASES.case("certificate-name-constraints", 7, "permitted subtree", "allow", name="own-constrained")
def own_constrained(stage: Stage) -> list[str]:
    """Our own server's certificate, of a CA for another domain."""
    elsewhere = x509.NameConstraints([x509.DNSName("example.org")], None)
    leaf, chain = below(stage, extensions=[elsewhere])
    pair = leaf.write(stage.directory, *chain)
    server = stage.changed_server(certificate=str(pair.certificate), key=str(pair.key))
    return looks_at(stage, server)


# Right, whatever it looks like: L{peers.test_check_healthy}.


def expired_copy(stage: Stage) -> Pair:
    """The root cross-signed by an older one, long ago, beside a path that is good."""
    house = stage.house
    copy = house.root.renewed(Authority("Older root"), EXPIRED)
    return house.intermediate.issue(NAMES).write(stage.directory, house.intermediate, copy)


def rsa_pss_that_fits(stage: Stage) -> Pair:
    """An RSA-PSS key."""
    key = pki.RSA_PSS / "fits.key"
    return Pair(pki.RSA_PSS / "fits.crt", key, key)
