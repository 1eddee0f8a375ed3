"""Certificates on disk, for the daemons and the peers alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen

from cms.trust.issue import CertificateAuthority


@frozen
class Pair:
    """
    A certificate and its key, as files.

    @ivar both: One file that holds the two, as ejabberd wants it.
    """

    certificate: Path
    key: Path
    both: Path


class Certificates:
    """
    A directory with one CA.

    @ivar trust: The CA's certificate.
    """

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self._directory = directory
        self._authority = CertificateAuthority(name)
        self.trust = directory / "ca.pem"
        self.trust.write_bytes(self._authority.certificate)

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Pair:
        """A certificate whose subjectAltName holds C{names}, hosts and addresses; else valid."""
        common_name = common_name or (names[0] if names else "nameless")
        return self._write(common_name, names, not_before=not_before, not_after=not_after)

    def issue_expired(self, *names: str) -> Pair:
        """One that was valid until yesterday."""
        now = datetime.now(UTC)
        return self._write(
            names[0],
            names,
            not_before=now - timedelta(days=10),
            not_after=now - timedelta(days=1),
        )

    def issue_future(self, *names: str) -> Pair:
        """One that is valid from tomorrow on."""
        now = datetime.now(UTC)
        return self._write(
            names[0],
            names,
            not_before=now + timedelta(days=1),
            not_after=now + timedelta(days=10),
        )

    def _write(
        self,
        common_name: str,
        names: tuple[str, ...],
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Pair:
        issued = self._authority.issue(
            common_name, names, not_before=not_before, not_after=not_after
        )
        return write_pair(self._directory, common_name, issued.certificate, issued.key)


def write_pair(directory: Path, name: str, chain: bytes, key: bytes) -> Pair:
    """
    New files for a certificate and its key.

    @param chain: PEM, the leaf first.
    """
    base = f"{len(list(directory.iterdir()))}-{name}"
    pair = Pair(*(directory / f"{base}.{suffix}" for suffix in ("crt", "key", "pem")))
    pair.certificate.write_bytes(chain)
    for path, content in ((pair.key, key), (pair.both, chain + key)):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return pair
