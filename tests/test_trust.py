"""Steps 7 and 8: the permanent table of certificates, with real OpenSSL handshakes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL._util import lib
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from cms import faults
from cms.check.probes.port import client_hello
from cms.signalflow import Step, StepError
from cms.trust.client import ServerVerification
from cms.trust.connection import (
    explain_handshake,
    only_looked,
    openssl_words,
    tls_evidence,
    tls_exporter,
)
from cms.trust.files import PEMFiles
from cms.trust.issue import CertificateAuthority, Issued
from cms.trust.server import PeerCertificates, ServerTrust
from cms.trust.verdict import Verdict

DOMAIN, HOST = "meet.example.com", "xmpp1.meet.example.com"
CA = CertificateAuthority("test CA")
OTHER_CA = CertificateAuthority("another CA")
NOW = datetime.now(UTC)
GOOD = CA.issue(HOST, [DOMAIN, HOST])
CLIENT = CA.issue("cb1", ["cb1.meet.example.com"])


@implementer(IHandshakeListener)
class End(Protocol):
    """One end of a connection: says hello at once and notes what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.shook = False
        self.reason: Failure | None = None
        self.connection: Any = None

    def connectionMade(self) -> None:
        """Speak before the handshake is complete."""
        assert self.transport is not None
        self.transport.write(b"hello")

    def handshakeCompleted(self) -> None:
        """Note it."""
        self.shook = True
        self.connection = self.transport.getHandle()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Note it."""
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Note it."""
        self.reason = reason


class Wire(StringTransport):
    """A transport that can be lost."""

    lost = False

    def abortConnection(self) -> None:
        """Close."""
        self.loseConnection()


class TLSTestCase(SynchronousTestCase):
    """Runs handshakes in memory."""

    def setUp(self) -> None:
        """A folder for PEM files."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def put(self, name: str, content: bytes) -> Path:
        """A file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def files(self, issued: Issued | None, trust: bytes | None = CA.certificate) -> PEMFiles:
        """PEM files for one side."""
        return PEMFiles(
            "test.toml",
            self.put("trust.pem", trust) if trust is not None else None,
            self.put("own.crt", issued.certificate) if issued else None,
            self.put("own.key", issued.key) if issued else None,
        )

    def server(
        self, issued: Issued = GOOD, peers: PeerCertificates = "off", **options: Any
    ) -> ServerTrust:
        """The server's side."""
        return ServerTrust(self.files(issued), peers=peers, **options)

    def verification(
        self, issued: Issued | None = None, host: str = HOST, **options: Any
    ) -> ServerVerification:
        """The Callbridge's side."""
        context = self.files(issued).context()
        if "most" in options:
            context.set_max_proto_version(options.pop("most"))
        arguments: dict[str, Any] = {
            "domain": DOMAIN,
            "host_is_ip": False,
            "peer": "the server",
            **options,
        }
        return ServerVerification(context, host=host, **arguments)

    def shake(self, client: ServerVerification, server: ServerTrust) -> tuple[End, End]:
        """Let both sides talk until nothing moves any more."""
        clock = Clock()
        ends = []
        for creator, is_client in ((client, True), (server.for_peer("the peer"), False)):
            end = End()
            factory = TLSMemoryBIOFactory(creator, is_client, _Factory(end), clock=clock)
            protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40000))
            assert protocol is not None
            wire = Wire()
            protocol.makeConnection(wire)
            ends.append((end, protocol, wire))
        (c, c_tls, c_wire), (s, s_tls, s_wire) = ends
        for _ in range(30):
            clock.advance(0.1)
            for wire, other_wire, other in ((c_wire, s_wire, s_tls), (s_wire, c_wire, c_tls)):
                data = wire.value()
                wire.clear()
                if data and not other_wire.lost:
                    other.dataReceived(data)
                if wire.disconnecting and not other_wire.lost:
                    other_wire.lost = True
                    other.connectionLost(Failure(ConnectionLost()))
        for _, protocol, wire in ends:
            if wire.disconnecting and not wire.lost:
                wire.lost = True
                protocol.connectionLost(Failure(ConnectionDone()))
        return c, s


class _Factory(Factory):
    """Gives out one protocol."""

    noisy = False

    def __init__(self, end: End) -> None:
        self.end = end

    def buildProtocol(self, address: object) -> End:
        """The protocol."""
        return self.end


def issue(
    names: Iterable[str] = (DOMAIN, HOST), ca: CertificateAuthority = CA, **options: Any
) -> Issued:
    """A certificate with the server's name as its common name."""
    return ca.issue(HOST, names, **options)


MALFORMED_SAN = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("2.5.29.17"), b"\x30\x03\x82\x05ab"
)
BAD_NAME = x509.SubjectAlternativeName([x509.DNSName("10.0.0.1"), x509.DNSName(DOMAIN)])


class ServerCertificateTests(TLSTestCase):
    """What a Callbridge makes of a server's certificate."""

    def fault(self, issued: Issued, **options: Any) -> str | None:
        """The fault that it finds, after making sure that nothing leaked."""
        verification = self.verification(**options)
        client, server = self.shake(verification, self.server(issued))
        error = verification.verdict.error
        self.assertEqual(error is None, client.shook)
        if error is not None:
            self.assertEqual(b"", server.heard, "bytes reached a server that was refused")
            self.assertEqual(b"", client.heard, "bytes of a refused server were believed")
            assert client.reason is not None
            told = explain_handshake(
                client.reason, peer="", presented=False, verdict=verification.verdict
            )
            self.assertIs(error, told)
            return error.fault
        self.assertEqual((b"hello", b"hello"), (client.heard, server.heard))
        return None

    def test_table(self) -> None:
        """The permanent table: every row names its own fault."""
        day = timedelta(days=1)
        for issued, fault in (
            (issue(), None),
            (issue([DOMAIN, "*.meet.example.com"]), None),
            (issue([DOMAIN.upper(), HOST]), None),
            (issue([DOMAIN]), "identity-host-missing"),
            (issue([HOST]), "identity-domain-missing"),
            (issue(["other.example.com"]), "identity-both-missing"),
            (issue(["*.example.com"]), "identity-host-missing"),
            (issue([]), "identity-no-san"),
            (issue([], extensions=[MALFORMED_SAN]), "identity-malformed"),
            (issue([], extensions=[BAD_NAME]), "identity-malformed"),
            (issue(ca=OTHER_CA), "certificate-untrusted"),
            (issue(not_before=NOW - 3 * day, not_after=NOW - day), "certificate-expired"),
            (issue(not_before=NOW + day, not_after=NOW + 3 * day), "certificate-not-yet-valid"),
        ):
            self.assertEqual(fault, self.fault(issued), fault)

    def test_ip_address(self) -> None:
        """Connected to an address, the certificate must hold that address."""
        for names, host, fault in (
            ([DOMAIN, "192.0.2.1"], "192.0.2.1", None),
            ([DOMAIN, "2001:db8::1"], "2001:db8::1", None),
            ([DOMAIN, "192.0.2.2"], "192.0.2.1", "identity-host-missing"),
            (["192.0.2.1"], "192.0.2.1", "identity-domain-missing"),
        ):
            self.assertEqual(fault, self.fault(issue(names), host=host, host_is_ip=True))

    def test_host_is_the_domain(self) -> None:
        """One name is enough where the host is the domain itself."""
        self.assertIsNone(self.fault(issue([DOMAIN]), host=DOMAIN))
        missing = self.fault(issue([HOST]), host=DOMAIN)
        self.assertIn(missing, ("identity-host-missing", "identity-domain-missing"))

    def test_localhost(self) -> None:
        """A single box on localhost works."""
        self.assertIsNone(self.fault(issue([DOMAIN, "localhost"]), host="localhost"))

    def test_steps_and_evidence(self) -> None:
        """Trust fails at step 7, names at step 8, and the report shows the names."""
        verification = self.verification()
        self.shake(verification, self.server(issue([HOST])))
        error = verification.verdict.error
        assert isinstance(error, StepError)
        self.assertEqual(Step.IDENTITY, error.step)
        self.assertIn(f"DNS:{HOST}", error.cause)
        self.assertIn(DOMAIN, error.cure)
        verification = self.verification()
        self.shake(verification, self.server(issue(ca=OTHER_CA)))
        assert verification.verdict.error is not None
        self.assertEqual(Step.TLS, verification.verdict.error.step)

    def test_any_exception_refuses(self) -> None:
        """Whatever goes wrong in the check, the answer is no."""

        def check(certificate: object) -> None:
            raise KeyError("a bug")

        verdict = Verdict("peer", check)
        verification = self.verification()
        verification.verdict = verdict
        client, server = self.shake(verification, self.server())
        self.assertFalse(client.shook)
        self.assertEqual(b"", server.heard)
        self.assertEqual("identity-malformed", verdict.error and verdict.error.fault)

    def test_sni(self) -> None:
        """The host is named to the server, an address is not."""
        client = self.verification().clientConnectionForTLS(None)
        self.assertIsNotNone(client)
        _, server = self.shake(self.verification(), self.server())
        self.assertEqual(HOST.encode(), server.connection.get_servername())

    def test_tls_1_1_is_refused(self) -> None:
        """Nothing below TLS 1.2, on either side."""
        for old_side in ("client", "server"):
            for version in (SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION):
                verification, server = self.verification(), self.server()
                # OpenSSL's own security level must not be what refuses it.
                for each in (verification._context, server._context):
                    each.set_cipher_list(b"ALL:@SECLEVEL=0")
                old = verification._context if old_side == "client" else server._context
                old.set_min_proto_version(SSL.TLS1_VERSION)
                old.set_max_proto_version(version)
                client, _ = self.shake(verification, server)
                self.assertEqual(version == SSL.TLS1_2_VERSION, client.shook, old_side)


class SuiteTests(TLSTestCase):
    """RFC 9325 4: forward secrecy and authenticated encryption, on either side."""

    def test_offered(self) -> None:
        """Each suite of TLS 1.2 is ECDHE with an AEAD; each of TLS 1.3 is one anyway."""
        for context in (self.verification()._context, self.server()._context):
            offered = SSL.Connection(context, None).get_cipher_list()
            older = [name for name in offered if not name.startswith("TLS_")]
            self.assertEqual(9, len(offered))
            self.assertEqual(6, len(older))
            for name in older:
                self.assertRegex(name, "^ECDHE-(ECDSA|RSA)-(AES[0-9]+-GCM-|CHACHA20-POLY1305)")

    def test_others_refused(self) -> None:
        """CBC, RSA key transport and no authentication fail, whichever side insists."""
        for suite in (
            *("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-CCM8"),
            *("AES128-GCM-SHA256", "AES256-SHA", "AECDH-AES128-SHA", "ECDHE-ECDSA-NULL-SHA"),
            "DHE-RSA-AES128-GCM-SHA256",
        ):
            for insists in ("client", "server"):
                verification, server = self.verification(), self.server()
                side = verification._context if insists == "client" else server._context
                side.set_max_proto_version(SSL.TLS1_2_VERSION)
                side.set_cipher_list(f"{suite}:@SECLEVEL=0".encode())
                client, _ = self.shake(verification, server)
                self.assertFalse(client.shook, (suite, insists))

    def test_groups(self) -> None:
        """Key exchange by elliptic curves; what takes a multiple of the time is not offered."""
        for group, agreed in (
            *((b"X25519", True), (b"P-256", True), (b"P-384", True), (b"P-521", True)),
            *((b"ffdhe2048", False), (b"ffdhe4096", False), (b"X448", False)),
        ):
            verification = self.verification()
            set_groups = lib.SSL_CTX_set1_curves_list
            self.assertEqual(1, set_groups(verification._context._context, group))
            client, _ = self.shake(verification, self.server())
            self.assertEqual(agreed, client.shook, group)

    def test_no_resumption(self) -> None:
        """A session is never taken up again: the peer's certificate would not be looked at."""
        server, verification = self.server(), self.verification()
        client, _ = self.shake(verification, server)
        session = client.connection.get_session()
        make = verification.clientConnectionForTLS

        def resume(protocol: object) -> SSL.Connection:
            connection = make(protocol)
            connection.set_session(session)
            return connection

        self.patch(verification, "clientConnectionForTLS", resume)
        client, _ = self.shake(verification, server)
        self.assertTrue(client.shook)
        self.assertEqual(0, lib.SSL_session_reused(client.connection._ssl))


class PeerCertificateTests(TLSTestCase):
    """What the server makes of a Callbridge's certificate."""

    def test_table(self) -> None:
        """{none, valid, untrusted, expired} x {required, optional, off} x {1.2, 1.3}."""
        day = timedelta(days=1)
        old = CA.issue("cb1", ["cb1"], not_before=NOW - 3 * day, not_after=NOW - day)
        stranger = OTHER_CA.issue("cb1", ["cb1"])
        for issued, required, optional in (
            (None, False, True),
            (CLIENT, True, True),
            (stranger, False, False),
            (old, False, False),
        ):
            for peers, accepted in (("required", required), ("optional", optional), ("off", True)):
                for most in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
                    verification = self.verification(issued, most=most)
                    server_trust = self.server(peers=peers)  # type: ignore[arg-type]
                    client, server = self.shake(verification, server_trust)
                    self.assertEqual(accepted, server.shook, (peers, most))
                    self.assertEqual(b"hello" if accepted else b"", server.heard)
                    if not accepted:
                        assert client.reason is not None
                        self.explained(client.reason, verification, issued is not None)

    def explained(self, reason: Failure, verification: ServerVerification, presented: bool) -> None:
        """The Callbridge learns that its certificate is the reason."""
        error = explain_handshake(
            reason, peer="s", presented=presented, verdict=verification.verdict
        )
        wanted = "refused" if presented else "required"
        self.assertEqual(f"tls-client-certificate-{wanted}", error.fault)

    def test_evidence(self) -> None:
        """The facts of the peer's certificate are there for the log."""
        _, server = self.shake(self.verification(CLIENT), self.server(peers="optional"))
        evidence = tls_evidence(server.connection)
        self.assertEqual("TLSv1.3", evidence["protocol"])
        self.assertEqual("CN=cb1", evidence["certificate"])
        self.assertEqual("DNS:cb1.meet.example.com", evidence["names"])

    def test_reload(self) -> None:
        """New files serve new connections; wrong ones leave the old in force."""
        server = self.server()
        self.put("own.crt", issue([HOST]).certificate)
        self.assertRaises(faults.ConfigurationError, server.reload)
        client, _ = self.shake(self.verification(), server)
        self.assertTrue(client.shook)
        server = self.server()
        replaced = issue([HOST])
        self.put("own.crt", replaced.certificate)
        self.put("own.key", replaced.key)
        server.reload()
        verification = self.verification()
        self.shake(verification, server)
        self.assertEqual(
            "identity-domain-missing",
            verification.verdict.error and verification.verdict.error.fault,
        )


class LookTests(TLSTestCase):
    """Who only looks whether a port is open."""

    def looked(self, sent: bytes, reason: Exception) -> bool:
        """Whether a peer that has sent so much, and then left, only looked."""
        connection = self.server().connection(Verdict("peer"))
        connection.set_accept_state()
        if sent:
            connection.bio_write(sent)
        with contextlib.suppress(SSL.Error):
            connection.do_handshake()
        return only_looked(connection, Failure(reason))

    def test_table(self) -> None:
        """By what came, and how it ended."""
        hello = client_hello()
        for sent, reason, expected in (
            (b"", ConnectionDone(), True),
            (b"", ConnectionLost(), True),
            (hello[:100], ConnectionLost(), True),
            (hello, ConnectionLost(), False),
            (b"", SSL.Error([("", "", "wrong version number")]), False),
        ):
            with self.subTest(size=len(sent), reason=reason):
                self.assertIs(expected, self.looked(sent, reason))

    def test_without_tls(self) -> None:
        """There is no hello to wait for."""
        self.assertFalse(only_looked(None, Failure(ConnectionDone())))


class ALPNTests(TLSTestCase):
    """RFC 7301 and XEP-0368."""

    def shaken(self, *offered: bytes) -> tuple[End, End]:
        """A handshake of a client that offers these protocols."""
        verification = self.verification()
        if offered:
            verification._context.set_alpn_protos(list(offered))
        return self.shake(verification, self.server(alpn=b"xmpp-client"))

    def test_chosen(self) -> None:
        """XMPP is chosen wherever it is offered; without an offer there is no choice."""
        for offered in ((b"xmpp-client",), (b"http/1.1", b"xmpp-client")):
            client, _ = self.shaken(*offered)
            self.assertEqual(b"xmpp-client", client.connection.get_alpn_proto_negotiated())
        client, _ = self.shaken()
        self.assertTrue(client.shook)

    def test_other_protocols(self) -> None:
        """Whoever offers other protocols only is refused with the alert that says so."""
        client, server = self.shaken(b"http/1.1")
        self.assertFalse(client.shook or server.shook)
        assert client.reason is not None
        self.assertIn("no application protocol", openssl_words(client.reason))
        assert server.reason is not None
        self.assertEqual("no protocol of ours was offered", openssl_words(server.reason))


class ChannelBindingTests(TLSTestCase):
    """RFC 9266."""

    def test_both_sides_agree(self) -> None:
        """Under TLS 1.3 both sides export the same 32 bytes, fresh each time."""
        client, server = self.shake(self.verification(), self.server())
        binding = tls_exporter(client.connection)
        self.assertEqual(binding, tls_exporter(server.connection))
        # RFC 9266 2, spelled out: a label of our own would fit ourselves alone.
        label = b"EXPORTER-Channel-Binding"
        self.assertEqual(binding, client.connection.export_keying_material(label, 32, b""))
        other, _ = self.shake(self.verification(), self.server())
        self.assertNotEqual(binding, tls_exporter(other.connection))

    def test_not_below_1_3(self) -> None:
        """Below TLS 1.3 there is none."""
        client, _ = self.shake(self.verification(most=SSL.TLS1_2_VERSION), self.server())
        self.assertIsNone(tls_exporter(client.connection))
        self.assertIsNone(tls_exporter(None))


class FilesTests(TLSTestCase):
    """Every wrong file is a clear complaint."""

    def complaint(self, files: PEMFiles) -> str:
        """What is said."""
        error = self.assertRaises(faults.ConfigurationError, files.context)
        return f"{error.cause} {error.cure}"

    def test_complaints(self) -> None:
        """The complaint names the file, the key and the cure."""
        crt, key = self.put("a.crt", GOOD.certificate), self.put("a.key", GOOD.key)
        other = self.put("b.key", CLIENT.key)
        text = self.put("text", b"hello")
        missing = self.folder / "missing"
        for files, key_name, problem in (
            (PEMFiles("f.toml", missing, None, None), "tls.trust", "No such file"),
            (PEMFiles("f.toml", missing, None, None, section="[x] y:"), "[x] y: trust", "such"),
            (PEMFiles("f.toml", text, None, None), "tls.trust", "no PEM certificate"),
            (PEMFiles("f.toml", None, crt, None), "tls.key", "is missing"),
            (PEMFiles("f.toml", None, None, key), "tls.certificate", "is missing"),
            (PEMFiles("f.toml", None, text, key), "tls.certificate", "no PEM certificate"),
            (PEMFiles("f.toml", None, crt, text), "tls.key", "no PEM private key"),
            (PEMFiles("f.toml", None, crt, other), "tls.key", "does not fit"),
            (PEMFiles("f.toml", None, crt, self.folder), "tls.key", "Is a directory"),
        ):
            said = self.complaint(files)
            self.assertIn("f.toml", said)
            self.assertIn(key_name, said)
            self.assertIn(problem, said)

    def test_not_tls(self) -> None:
        """Plain text on the TLS port is told apart from a closed connection."""
        for said in (
            b"<stream:stream xmlns='x'>",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
        ):
            verification = self.verification()
            end = End()
            factory = TLSMemoryBIOFactory(verification, True, _Factory(end), clock=Clock())
            protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40000))
            assert protocol is not None
            protocol.makeConnection(Wire())
            protocol.dataReceived(said)
            protocol.connectionLost(Failure(ConnectionDone()))
            assert end.reason is not None
            error = explain_handshake(end.reason, peer="p", presented=False)
            self.assertEqual("tls-not-spoken", error.fault, said)
