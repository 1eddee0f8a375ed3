"""The order of a chain, and what it may cost to find it."""

from __future__ import annotations

from typing import Any, cast

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from cms.trust import chain
from cms.trust.chain import MOST_SIGNATURES, path_of
from cms.trust.issue import CertificateAuthority

ROOT = CertificateAuthority("test CA")
LEAF = ROOT.issue("a.example", ["a.example"])


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Those of a file."""
    return x509.load_pem_x509_certificates(pem)


class PathTests(SynchronousTestCase):
    """L{path_of}."""

    def test_order(self) -> None:
        """The leaf, then whoever issued it, wherever it stands."""
        leaf, root = certificates(LEAF.certificate)[0], certificates(ROOT.certificate)[0]
        other = certificates(CertificateAuthority("another").certificate)[0]
        for sent in ([leaf, root], [leaf, root, other], [leaf, other, root]):
            self.assertEqual([leaf, root], path_of(sent))
        self.assertEqual([leaf], path_of([leaf, other]))
        self.assertEqual([], path_of([]))

    def test_cost(self) -> None:
        """However many certificates a peer sends, so many signatures are looked at."""
        signers: list[int] = []

        def issued_by(certificate: int, issuer: int) -> bool:
            signers.append(issuer)
            return issuer == certificate + 1

        self.patch(chain, "issued_by", issued_by)
        for sent in (
            [0, *range(300, 0, -1)],  # each is found last
            [0, *range(20, 0, -1)],
            [0, *[7] * 300],
            [*range(300)],
        ):
            signers.clear()
            path = path_of(cast("Any", sent))
            self.assertEqual([*range(len(path))], path)
            self.assertLessEqual(len(signers), MOST_SIGNATURES)
        self.assertEqual([0, 1, 2], path_of(cast("Any", [0, 2, 1])))
        self.assertEqual(MOST_SIGNATURES + 1, len(path_of(cast("Any", range(300)))))
