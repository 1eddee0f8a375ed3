"""Lines that cures print to be copied, run with OpenSSL itself."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from cms import faults
from peers.contract import DOMAIN
from tests.test_cures import TOOLS

HOST = f"xmpp1.{DOMAIN}"


def run(line: str, folder: Path, **filled: str) -> None:
    """Run a line as a shell does, with what was left to be filled in."""
    for key, value in filled.items():
        line = line.replace(f"<{key}>", value)
    subprocess.run(["bash", "-euc", line], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool.startswith("openssl ")])
def test_options(tool: str) -> None:
    """OpenSSL knows each option that a cure uses."""
    told = subprocess.run([*shlex.split(tool), "-help"], capture_output=True, text=True, check=True)
    known = {word for line in told.stderr.splitlines() for word in line.split()[:1]}
    # "-*" stands for any digest.
    assert set(TOOLS[tool].split()) - known - {"-sha256"} == set()


def test_new_certificate(tmp_path: Path) -> None:
    """
    The request of one cure, signed as another one says: both names are in the certificate,
    and the key that is in use is still there.
    """
    (tmp_path / "xmpp.key").write_text("in use")
    run(
        'openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj "/CN=CA"',
        tmp_path,
    )
    san = f"DNS:{DOMAIN},DNS:{HOST}"
    seen = {"peer": "p", "missing": "m", "names": "n", "wanted": "w"}
    run(faults.IDENTITY_DOMAIN_MISSING.error(domain=DOMAIN, san=san, **seen).mend, tmp_path)
    (tmp_path / "new.csr").rename(tmp_path / "xmpp.csr")
    weak = faults.CERTIFICATE_SIGNATURE_WEAK.error(peer="p", at="a", problem="x")
    run(weak.mend, tmp_path, CA="ca.pem", key="ca.key")
    leaf = x509.load_pem_x509_certificate((tmp_path / "new.crt").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DOMAIN, HOST]
    assert (tmp_path / "xmpp.key").read_text() == "in use"
