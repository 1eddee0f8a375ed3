"""C{cms pki list}: the certificates, keys and requests of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from cms.commands.certificates import now
from cms.commands.common import JSON, Complaint, Wrong, print_json
from cms.commands.configfile import find_all
from cms.signalflow import printable
from cms.state.textencoding import Unreadable
from cms.trust.facts import CertificateFacts
from cms.trust.pem import blocks

_ENDINGS = (".crt", ".cer", ".pem", ".key", ".csr")
_MOST_FILES, _MOST_BYTES = 1_000, 1 << 20


@click.command("list")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@JSON
def list_(folder: Path | None, as_json: bool) -> None:
    """
    List the certificates, keys and requests in FOLDER, and until when they are good.

    Without FOLDER it is the one that holds the configuration.  Files that end in
    .crt, .cer, .pem, .key and .csr are looked at; no key is shown.  Exit status 1
    when a certificate has expired, or a file cannot be read.
    """
    folder = folder or find_all(())[0].parent
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in _ENDINGS)
    except OSError as problem:
        raise Complaint(f"{folder}: {problem.strerror}. Cure: name another folder.") from None
    moment = now()
    found = [facts for file in files[:_MOST_FILES] for facts in _file(file, moment)]
    if as_json:
        print_json(found)
    else:
        for facts in found:
            click.echo(_line(facts))
    for facts in found:
        if "problem" in facts:
            told = f"{facts['file']}: {facts['problem']}"
            raise Wrong(f"{told}. Cure: replace it, and reload the daemon (docs/operate.md).")


def _file(file: Path, moment: datetime) -> Iterator[dict[str, Any]]:
    """What is in a file, a part a line."""
    name = {"file": file.name}
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES)
        for block in blocks(data):
            yield {**name, **_block(block.label, block.data, moment)}
    except OSError as problem:
        yield {**name, "kind": "unknown", "problem": f"it cannot be read ({problem.strerror})"}
    except Unreadable as problem:
        yield {**name, "kind": "unknown", "problem": f"it {problem.problem}"}
    except ValueError:
        yield {**name, "kind": "unknown", "problem": "it is broken"}


def _block(label: str, data: bytes, moment: datetime) -> dict[str, Any]:
    if label.endswith("PRIVATE KEY"):
        return {"kind": "key"}
    if label.endswith("CERTIFICATE REQUEST"):
        request = x509.load_pem_x509_csr(data)
        return {"kind": "request", "subject": request.subject.rfc4514_string()}
    if not label.endswith("CERTIFICATE"):
        return {"kind": label.lower()}
    facts = CertificateFacts.of(x509.load_pem_x509_certificate(data))
    found = {
        "kind": "certificate",
        "subject": facts.subject,
        "names": list(facts.names),
        "notAfter": f"{facts.not_after:%Y-%m-%dT%H:%M:%SZ}",
    }
    if facts.not_after <= moment:
        found["problem"] = "it has expired"
    return found


def _line(facts: dict[str, Any]) -> str:
    parts = [facts["file"], facts["kind"], facts.get("subject", "")]
    parts.append(", ".join(facts.get("names", ())))
    if "notAfter" in facts:
        parts.append(f"until {facts['notAfter']}")
    if "problem" in facts:
        parts.append(facts["problem"].upper())
    return printable("  ".join(part for part in parts if part))
