"""Whatever OpenSSL objects to, told in its words; and what becomes of our own certificates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.audit.owncertificate import judge_own, judge_trust
from cms.fast.openssl import verify_words
from cms.signalflow import StepError
from cms.trust.client import ServerVerification
from cms.trust.connection import peer_expiry
from cms.trust.files import PEMFiles
from cms.trust.identity import check_identity
from cms.trust.refusals import Presented, Refusal, Role
from cms.trust.server import ServerTrust
from cms.trust.verdict import Verdict
from peers import pki
from peers.pki import Authority, Leaf, Validity, pem, signed_with_sha1
from tests.test_trust import DOMAIN, HOST, TLSTestCase

NAMES = (DOMAIN, HOST)
EXPIRED = Validity(-30, -1)
ROOT = Authority("Root")
LOWER = Authority("Lower CA", ROOT)
WEAK = rsa.generate_private_key(65537, 1024)
NOW = datetime.now(UTC)
ELSEWHERE = x509.NameConstraints([x509.DNSName("example.org")], None)
NOT_HERE = x509.NameConstraints(None, [x509.DNSName(DOMAIN)])


def below(**more: Any) -> tuple[Leaf, list[Authority]]:
    """A good certificate under an intermediate that has something."""
    lower = Authority("Lower CA", ROOT, **more)
    return lower.issue(NAMES), [lower]


def leaf(ca: Authority = ROOT, **more: Any) -> tuple[Leaf, list[Authority]]:
    """A certificate right under a root, which has something."""
    return ca.issue(**{"names": NAMES, **more}), []


def under(root: Authority) -> tuple[Leaf, list[Authority]]:
    """A good certificate under an intermediate under this root, which is sent too."""
    lower = Authority("Lower CA", root)
    return lower.issue(NAMES), [lower, root]


def long_chain() -> tuple[Leaf, list[Authority]]:
    """More CAs than anybody follows."""
    chain = [ROOT]
    for number in range(12):
        chain.append(Authority(f"CA {number}", chain[-1]))
    return chain[-1].issue(NAMES), chain[:0:-1]


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """A handshake in memory, as far as it goes."""
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(10):
        for end, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.Error):
                end.do_handshake()
            with contextlib.suppress(SSL.Error):
                other.bio_write(end.bio_read(1 << 20))


def lax(leaf: Leaf, chain: Sequence[Authority]) -> SSL.Context:
    """A peer that thinks well of whatever it has."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.use_certificate(leaf.certificate)
    for ca in chain:
        context.add_extra_chain_cert(ca.certificate)
    context.use_privatekey(leaf.key)
    return context


class RefusalTests(TLSTestCase):
    """Each refusal by a handshake with a certificate that brings it about."""

    def files_trusting(self, *trusted: Authority) -> PEMFiles:
        """No certificate of our own."""
        trust = pem(*(ca.certificate for ca in trusted))
        return PEMFiles("test.toml", self.put("trust.pem", trust), None, None)

    def refused(
        self, role: Role, leaf: Leaf, chain: Sequence[Authority], *trusted: Authority
    ) -> StepError | None:
        """What our side says of such a peer."""
        files = self.files_trusting(*trusted)
        context = files.context()
        if role == "client":
            issued = ROOT.issue(NAMES)
            context.use_certificate(issued.certificate)
            context.use_privatekey(issued.key)
        verdict = Verdict("the peer", trusted=files.trusted, role=role)
        ours, theirs = SSL.Connection(context, None), SSL.Connection(lax(leaf, chain), None)
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        ours.set_verify(mode, verdict.callback)
        theirs.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        client, server = (ours, theirs) if role == "server" else (theirs, ours)
        shake(client, server)
        return verdict.error

    def test_table(self) -> None:
        """Every row: the entry, OpenSSL's code, the depth, and whose certificate it is."""
        renewed = Authority("Root")  # the same name, another key
        nameless, also = (Authority("Root", identified=False) for _ in range(2))
        lower, namesake = (Authority("Lower CA", ROOT, identified=False) for _ in range(2))
        short = Authority("Root", basic=x509.BasicConstraints(ca=True, path_length=0))
        mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        any_use = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
        revokes, unknown = [pki.key_usage("crl_sign")], [pki.UNKNOWN]
        for fault, code, depth, at, (certificate, chain), trusted in (
            ("self-signed", 18, 0, "self-signed", (pki.self_signed(NAMES), []), ROOT),
            ("root-untrusted", 19, 2, "Other", under(Authority("Other")), ROOT),
            ("untrusted", 20, 0, "xmpp", leaf(Authority("Strange")), ROOT),
            ("intermediate-missing", 20, 0, "xmpp", leaf(Authority("Issuing CA")), ROOT),
            ("trust-other-key", 20, 0, "xmpp", leaf(), renewed),
            ("trust-other-key", 7, 0, "xmpp", leaf(nameless), also),
            ("signature-wrong", 7, 0, "xmpp", (lower.issue(NAMES), [namesake]), ROOT),
            ("expired", 10, 0, "xmpp", leaf(validity=EXPIRED), ROOT),
            ("not-yet-valid", 9, 1, "Lower CA", below(validity=Validity(1, 9)), ROOT),
            ("intermediate-expired", 10, 1, "Lower CA", below(validity=EXPIRED), ROOT),
            ("trust-expired", 10, 2, "Root", below(), ROOT.renewed(validity=EXPIRED)),
            ("issuer-no-ca", 79, 1, "Lower CA", below(basic=pki.NO_CA), ROOT),
            ("issuer-no-ca", 79, 1, "Lower CA", below(extensions=revokes), ROOT),
            ("issuer-usage", 26, 1, "Lower CA", below(extensions=[mail]), ROOT),
            ("path-length", 25, 2, "Root", under(short), short),
            ("chain-long", 22, 11, "CA 1", long_chain(), ROOT),
            ("critical-extension", 34, 1, "Lower CA", below(extensions=unknown), ROOT),
            ("critical-extension", 34, 0, "xmpp", leaf(extensions=unknown), ROOT),
            ("name-constraints", 47, 0, "xmpp", below(extensions=[ELSEWHERE]), ROOT),
            ("name-constraints", 48, 0, "xmpp", below(extensions=[NOT_HERE]), ROOT),
            ("key-usage", 26, 0, "xmpp", leaf(extensions=revokes), ROOT),
            ("usage-server", 26, 0, "xmpp", leaf(usages=[pki.CLIENT]), ROOT),
            ("usage-server", 26, 0, "xmpp", leaf(usages=[any_use]), ROOT),  # means none to OpenSSL
            ("weak", 66, 0, "xmpp", leaf(key=WEAK), ROOT),
            ("ca-weak", 67, 1, "Lower CA", below(key=WEAK), ROOT),
            ("signature-weak", 68, 0, "xmpp", (signed_with_sha1(ROOT, NAMES), []), ROOT),
            ("refused", 40, 0, "xmpp", leaf(names=(), extensions=[pki.PROXY]), ROOT),
        ):
            error = self.refused("server", certificate, chain, trusted)
            assert error is not None, fault
            seen = error.evidence
            name = fault if fault.startswith("trust-") else f"certificate-{fault}"
            self.assertEqual(
                (name, str(code), str(depth), f"CN={at}", verify_words(code)),
                (error.fault, seen["code"], seen["depth"], seen["at"], seen["openssl"]),
            )
            self.assertEqual(7, int(error.step))

    def test_good(self) -> None:
        """What is right is believed, a copy that expired beside it or not."""
        expired = ROOT.renewed(Authority("Old root"), EXPIRED)
        for certificate, chain in (leaf(), below(), (LOWER.issue(NAMES), [LOWER, expired])):
            self.assertIsNone(self.refused("server", certificate, chain, ROOT))
            self.assertIsNone(self.refused("client", certificate, chain, ROOT))

    def test_clients(self) -> None:
        """A Callbridge's certificate is judged as a client's, and called one."""
        for certificate, chain, fault in (
            (*leaf(usages=[pki.SERVER]), "certificate-usage-client"),
            (*leaf(Authority("Strange")), "certificate-untrusted"),
            (*leaf(validity=EXPIRED), "certificate-expired"),
            (*below(extensions=[ELSEWHERE]), "certificate-name-constraints"),
        ):
            error = self.refused("client", certificate, chain, ROOT)
            assert error is not None, fault
            self.assertEqual(fault, error.fault)
            self.assertEqual("CN=xmpp", error.evidence["certificate"])

    def test_whose_fault(self) -> None:
        """Words that differ by whose files are to be mended, and what they hold."""
        expired_root = self.refused("server", *below(), ROOT.renewed(validity=EXPIRED))
        assert expired_root is not None
        self.assertIsInstance(expired_root, faults.ConfigurationError)
        self.assertIn('"CN=Root", which this side trusts', expired_root.cause)
        constrained = self.refused("server", *below(extensions=[ELSEWHERE]), ROOT)
        assert constrained is not None
        self.assertIn("CN=Lower CA: only DNS:example.org", constrained.cause)
        weak = self.refused("server", *below(key=WEAK), ROOT)
        assert weak is not None
        self.assertIn("RSA of 1024 bits", weak.cause)

    def test_every_code(self) -> None:
        """Whatever OpenSSL knows how to refuse has an entry, with its words in it."""
        certificate = leaf()[0]
        presented = Presented("p", (certificate.certificate,), "server", ())
        known = [code for code in range(1, 200) if "unknown" not in verify_words(code)]
        self.assertGreater(len(known), 90)
        for code in known:
            error = presented.explain(Refusal(code, 0, certificate.certificate))
            self.assertEqual(verify_words(code), error.evidence["openssl"])
        for code in (3, 8, 12, 23, 43, 46):  # what no setting of ours asks for, told all the same
            error = presented.explain(Refusal(code, 0, certificate.certificate))
            self.assertEqual("certificate-refused", error.fault)
            self.assertIn(verify_words(code), error.cause)


class OwnTests(TLSTestCase):
    """What is said of a certificate of ours before any peer says it."""

    def own(
        self,
        certificate: Leaf,
        chain: Sequence[Authority] = (),
        trusted: Sequence[Authority] = (ROOT,),
        role: Role = "server",
    ) -> PEMFiles:
        """It is configured."""
        pair = certificate.write(self.folder, *chain)
        trust = self.put("trust.pem", pem(*(ca.certificate for ca in trusted)))
        return PEMFiles("test.toml", trust, pair.certificate, pair.key, role=role)

    def problems(self, files: PEMFiles, now: datetime | None = None) -> list[str]:
        """The failures that are found."""
        judgement = judge_own(files, now or datetime.now(UTC))
        assert judgement is not None
        return [failure.fault for failure in judgement.failures]

    def test_unusable(self) -> None:
        """What nobody can use, whatever he trusts, stops the start and says why."""
        koblitz = ec.generate_private_key(ec.SECP256K1())
        for files in (
            self.own(ROOT.issue(NAMES, key=koblitz)),
            self.own(ROOT.issue(NAMES, key=koblitz), role="client"),
            self.own(ROOT.issue(NAMES, key=WEAK)),
            self.own(*below(key=WEAK)),
            self.own(signed_with_sha1(ROOT, NAMES)),
            self.pss("never", "server"),
            self.pss("never", "client"),
        ):
            error = self.assertRaises(faults.ConfigurationError, files.context)
            self.assertEqual("own-certificate-unusable", error.fault)
            self.assertIn(
                f"test.toml: tls.certificate: nobody can use {files.certificate}", str(error)
            )
        self.assertIn("saltlen", str(error))

    def pss(self, name: str, role: Role) -> PEMFiles:
        """An RSA-PSS key with its parameters."""
        pair = [pki.RSA_PSS / f"{name}.{kind}" for kind in ("crt", "key")]
        return PEMFiles("test.toml", pair[0], *pair, role=role)

    def test_rsa_pss(self) -> None:
        """RSA-PSS works, as a server and as a client."""
        for role in get_args(Role):
            self.assertEqual([], self.problems(self.pss("fits", role)))
        files = self.pss("fits", "server")
        client, _ = self.shake(self.verification_of(files), ServerTrust(files))
        self.assertTrue(client.shook)

    def verification_of(self, files: PEMFiles) -> ServerVerification:
        """A Callbridge that trusts what they trust."""
        context = PEMFiles("test.toml", files.trust, None, None).context()
        return ServerVerification(context, domain=DOMAIN, host=HOST, host_is_ip=False, peer="p")

    def test_reload(self) -> None:
        """What cannot be used does not replace what can."""
        good = self.own(*leaf())
        server = ServerTrust(good)
        expires = server.expires
        unusable = self.own(*below(key=WEAK))
        for old, new in (
            (good.certificate, unusable.certificate),
            (good.key, unusable.key),
        ):
            assert old is not None
            assert new is not None
            old.write_bytes(new.read_bytes())
        self.assertRaises(faults.ConfigurationError, server.reload)
        self.assertEqual(expires, server.expires)
        client, _ = self.shake(self.verification_of(good), server)
        self.assertTrue(client.shook)

    def test_failures(self) -> None:
        """What peers refuse is known before, in both roles."""
        for (certificate, chain), role, fault in (
            (leaf(), "server", None),
            (leaf(), "client", None),
            (leaf(validity=EXPIRED), "server", "certificate-expired"),
            (leaf(validity=Validity(1, 9)), "client", "certificate-not-yet-valid"),
            (below(validity=EXPIRED), "server", "certificate-intermediate-expired"),
            (below(validity=EXPIRED), "client", "certificate-intermediate-expired"),
            (leaf(usages=[pki.CLIENT]), "server", "certificate-usage-server"),
            (leaf(usages=[pki.SERVER]), "client", "certificate-usage-client"),
            (leaf(extensions=[pki.key_usage("crl_sign")]), "server", "certificate-key-usage"),
            (below(extensions=[ELSEWHERE]), "server", "certificate-name-constraints"),
            (below(basic=pki.NO_CA), "client", "certificate-issuer-no-ca"),
            ((LOWER.issue(NAMES), []), "client", None),
            ((Authority("Issuing CA", ROOT).issue(NAMES), []), "server", "own-chain-incomplete"),
            ((LOWER.issue(NAMES), [ROOT, LOWER]), "server", "certificate-chain-order"),
            ((ROOT.issue(NAMES), [LOWER]), "server", "certificate-chain-surplus"),
        ):
            files = self.own(certificate, chain, role=role)  # type: ignore[arg-type]
            self.assertEqual([fault] if fault else [], self.problems(files), fault)

    def test_expired_copy(self) -> None:
        """An expired copy of a good root does no harm, and no date of it is told."""
        copy = ROOT.renewed(Authority("Old root"), EXPIRED)
        soon = ROOT.renewed(Authority("Old root"), Validity(-30, 9))
        certificate = LOWER.issue(NAMES, validity=Validity(-1, 60))
        for chain, trusted in (
            ([LOWER, copy], [ROOT]),
            ([LOWER, soon], [ROOT]),
            ([LOWER, soon], [Authority("Other")]),
            ([LOWER, copy, ROOT], [Authority("Other")]),
            ([LOWER, copy], [Authority("Other")]),
        ):
            files = self.own(certificate, chain, trusted)
            judgement = judge_own(files, NOW)
            assert judgement is not None
            told = {problem.fault for problem in judgement.problems}
            self.assertLessEqual(told, {"chain-unverified"})
            assert files.expires is not None
            days = (files.expires - datetime.now(UTC).timestamp()) / 86400
            self.assertEqual(60, round(days))

    def test_expired_trust(self) -> None:
        """The path ends at a CA of our own bundle that has expired."""
        old = ROOT.renewed(validity=EXPIRED)
        files = self.own(*leaf(), trusted=[old])
        self.assertEqual(["trust-expired"], self.problems(files))
        self.assertEqual(["trust-ca-expired"], [d.fault for d in judge_trust(files, NOW)])
        both = self.own(*leaf(), trusted=[old, ROOT])
        self.assertEqual([], self.problems(both))
        self.assertEqual([], judge_trust(both, NOW))

    def test_no_clock(self) -> None:
        """Where this host's clock cannot be right, no date is judged."""
        judgement = judge_own(self.own(*leaf(validity=EXPIRED)), None)
        assert judgement is not None
        self.assertEqual(((), ()), (judgement.failures, judgement.warnings))

    def test_metric_of_a_peer(self) -> None:
        """A link's expiry is that of the path that was believed."""
        copy = ROOT.renewed(Authority("Old root"), EXPIRED)
        certificate = LOWER.issue(NAMES, validity=Validity(-1, 60))
        files = self.own(certificate, [LOWER, copy])
        client, _ = self.shake(self.verification_of(files), ServerTrust(files))
        expires = peer_expiry(client.connection)
        self.assertEqual(certificate.certificate.not_valid_after_utc.timestamp(), expires)


class NameTests(SynchronousTestCase):
    """What names a certificate has, and which of them count."""

    def said(self, *names: x509.GeneralName) -> StepError:
        """What is missing in a certificate with these names."""
        san = x509.SubjectAlternativeName(names)
        certificate = ROOT.issue(san=san).certificate
        error: StepError = self.assertRaises(
            StepError,
            *(check_identity, certificate),
            domain=DOMAIN,
            host=HOST,
            host_is_ip=False,
            peer="p",
        )
        return error

    def test_names_that_do_not_count(self) -> None:
        """XmppAddr, SRV-ID and mail addresses are shown as what they are; none is a DNS name."""
        xmpp = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")  # RFC 6120 13.7.1.4
        srv = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7")  # RFC 4985
        address = x509.OtherName(xmpp, bytes([12, len(DOMAIN)]) + DOMAIN.encode())
        service = f"_xmpp-server.{DOMAIN}"
        record = x509.OtherName(srv, bytes([22, len(service)]) + service.encode())
        for names, shown in (
            ([address], f"XmppAddr:{DOMAIN}"),
            ([record], f"SRV:{service}"),
            ([x509.RFC822Name(f"ops@{DOMAIN}")], f"email:ops@{DOMAIN}"),
        ):
            error = self.said(*names)
            self.assertEqual("identity-both-missing", error.fault)
            self.assertIn(f"names {shown}, but neither", error.cause)
