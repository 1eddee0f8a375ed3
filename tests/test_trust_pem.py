"""PEM files that somebody cut, broke or mistook for another: the block and the lines are named."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.state.textencoding import Unreadable
from cms.trust.issue import CertificateAuthority, certificate_request
from cms.trust.pem import certificates, check_key

CA = CertificateAuthority("CA of the PEM tests")
ISSUED = CA.issue("a.example", ["a.example"])
ONE, TWO = CA.certificate, ISSUED.certificate
LINES = ONE.count(b"\n")


class CertificateFileTests(SynchronousTestCase):
    """L{certificates}."""

    def problem(self, data: bytes) -> str:
        """What is said of a file that cannot be used."""
        error: Unreadable = self.assertRaises(Unreadable, certificates, data)
        self.assertTrue(error.mend)
        return error.problem

    def test_good(self) -> None:
        """All of them, in their order, whatever stands between."""
        for data in (
            ONE + TWO,
            ONE.replace(b"\n", b"\r\n") + TWO.replace(b"\n", b"\r\n"),
            b"Subject: x\n" + ONE + b"\n# next\n" + TWO.rstrip(),
            ISSUED.key + ONE + TWO,
        ):
            self.assertEqual(2, len(certificates(data)))

    def test_broken_block(self) -> None:
        """One broken certificate among good ones is named by number and lines."""
        lines = TWO.splitlines(keepends=True)
        broken = b"".join([*lines[:3], b"!!!!\n", *lines[4:]])
        first, last = LINES + 1, LINES + len(lines)
        self.assertEqual(
            f"is broken: its certificate 2 (lines {first} to {last}) cannot be read",
            self.problem(ONE + broken + ONE),
        )
        self.assertIn(
            "its certificate 1 (lines 1 to 2)",
            self.problem(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" + ONE),
        )

    def test_cut(self) -> None:
        """A file that ends within its last block, or lacks a line in the middle."""
        begins = f"is cut: the CERTIFICATE that begins at line {LINES + 1} has no END line"
        for data in (
            ONE + TWO[: len(TWO) // 2],
            ONE + TWO[:-10],
            ONE + b"".join(TWO.splitlines(keepends=True)[:-1]) + ONE,
        ):
            self.assertEqual(begins, self.problem(data))
        without = b"".join(ONE.splitlines(keepends=True)[1:])
        self.assertEqual(
            f"has an END line without its BEGIN line (line {LINES - 1})", self.problem(without)
        )

    def test_something_else(self) -> None:
        """A file of another kind is called what it is."""
        request, key = certificate_request(["a.example"])
        der = certificates(ONE)[0].public_bytes(Encoding.DER)
        for data, said in (
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"hello", "holds no PEM certificate"),
            (key, "holds no PEM certificate: it holds PRIVATE KEY"),
            (request, "holds a certificate request and no certificate"),
            (der, "is binary (DER or PKCS#12) and not PEM"),
            (b"\xef\xbb\xbf" + ONE, "begins with a byte order mark (BOM)"),
            (ONE.decode().encode("utf-16"), "is UTF-16"),
        ):
            self.assertEqual(said, self.problem(data))

    @given(st.integers(1, len(ONE + TWO) - 2))
    def test_every_cut(self, length: int) -> None:
        """Wherever a file is cut, it is told, or what is left are whole certificates."""
        try:
            found = certificates((ONE + TWO)[:length])
        except Unreadable as error:
            self.assertTrue(error.problem)
        else:
            self.assertEqual(certificates(ONE + TWO)[: len(found)], found)

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever a file holds, nothing else is raised."""
        for read in (certificates, check_key):
            try:
                read(data)
            except Unreadable:
                continue


class KeyFileTests(SynchronousTestCase):
    """L{check_key}."""

    def test_key(self) -> None:
        """A whole key passes; a cut one, or a certificate in its place, is told."""
        check_key(ISSUED.key)
        for data, said in (
            (ISSUED.key[:-30], "is cut: the PRIVATE KEY that begins at line 1 has no END line"),
            (ONE, "holds no PEM private key: it holds CERTIFICATE"),
            (b"x", "holds no PEM private key"),
        ):
            error: Unreadable = self.assertRaises(Unreadable, check_key, data)
            self.assertEqual(said, error.problem)
