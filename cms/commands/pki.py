"""C{cms pki}: keys, certificate requests, and certificates for trying things out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from cms.commands.common import Complaint, Wrong, note
from cms.commands.pkilist import list_
from cms.discovery.address import ascii_domain
from cms.state.folder import explain_os
from cms.trust.issue import CertificateAuthority, Issued, certificate_request

LOCAL = "localhost"  # where the administration listens
_DOMAIN = click.option("--domain", required=True, help="The XMPP domain.")
_HOSTNAME = click.option("--hostname", required=True, help="The XMPP server's FQDN.")


@click.group()
def pki() -> None:
    """Keys and certificates."""


pki.add_command(list_)


@pki.command("trial")
@_DOMAIN
@_HOSTNAME
@click.option(
    "--callbridge",
    "callbridges",
    multiple=True,
    metavar="NAME",
    help="Also a certificate for this Callbridge; may be repeated.",
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def trial(domain: str, hostname: str, callbridges: tuple[str, ...], folder: Path) -> None:
    """
    Make a small CA and certificates of it in FOLDER, to try things out.

    Writes ca.pem, xmpp.crt and xmpp.key, which name both the domain and the
    hostname, and NAME.crt and NAME.key for each Callbridge.  All of them name
    localhost as well, so that the pages and the API can be reached there.  The CA's
    own key is not kept.  Nothing that exists is overwritten.  For service, have certificates
    issued by a CA that is looked after: see cms pki csr.
    """
    domain, hostname = _name(domain, "--domain"), _name(hostname, "--hostname")
    authority = CertificateAuthority(f"Trial CA for {domain}")
    files = {"ca.pem": authority.certificate}
    files |= _pair("xmpp", authority.issue(domain, _unique(domain, hostname, LOCAL)))
    for name in callbridges:
        address = _name(f"{name}.{domain}", "--callbridge")
        files |= _pair(name, authority.issue(address, [address, LOCAL]))
    _write(folder, files)


@pki.command("csr")
@click.option("--domain", help="The XMPP domain.")
@click.option("--hostname", help="The XMPP server's FQDN.")
@click.argument("basename", type=click.Path(path_type=Path))
@click.argument("attributes", nargs=-1, metavar="[CN:NAME] [subjectAltName:NAME,...]")
def csr(
    domain: str | None, hostname: str | None, basename: Path, attributes: tuple[str, ...]
) -> None:
    """
    Make a key and a certificate request that names the domain and the hostname.

    Writes BASENAME.key and BASENAME.csr.  Send the request to a CA; what comes
    back, with its intermediates below it, is the certificate of xmpp.toml.  Names
    can be given as attributes, too.
    """
    given = [("--domain", domain), ("--hostname", hostname), *_attributes(attributes)]
    names = _unique(*(_name(text, option) for option, text in given if text))
    if not attributes and not (domain and hostname):
        raise click.UsageError("give --domain and --hostname, or CN:NAME subjectAltName:NAME,...")
    request, key = certificate_request(names)
    files = {f"{basename.name}.key": key, f"{basename.name}.csr": request}
    _write(basename.parent, files)


def _attributes(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """As the original has them; a request has names alone here."""
    for text in texts:
        key, _, value = text.partition(":")
        if key.lower() not in ("cn", "subjectaltname"):
            raise Complaint(f"{text}: no attribute but CN and subjectAltName. Cure: leave it out.")
        yield from ((key, name) for name in value.split(","))


def _name(text: str, option: str) -> str:
    try:
        return ascii_domain(text)
    except ValueError as problem:
        raise Complaint(f"{option}: {problem}") from None


def _unique(*names: str) -> list[str]:
    return list(dict.fromkeys(names))


def _pair(name: str, issued: Issued) -> dict[str, bytes]:
    return {f"{name}.crt": issued.certificate, f"{name}.key": issued.key}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write new files, keys for their owner alone."""
    _check_absent(folder / name for name in files)
    path, written = folder, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            mode = 0o600 if name.endswith(".key") else 0o644
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            descriptor = os.open(path, flags, mode)
            written.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except OSError as problem:
        for made in written:  # all or nothing, so that it can be done again
            made.unlink()
        raise explain_os(path, problem) from None
    for path in written:
        note(f"wrote {path}")


def _check_absent(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise Wrong(f"{path} exists. Cure: choose another place, or remove it.")
