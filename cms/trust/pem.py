"""
The blocks of a PEM file (RFC 7468), and what is wrong with a broken one.

Libraries only say that a broken file holds no certificate.  The errors here name the
block, its lines and the likely mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen
from cryptography import x509

from cms.state.textencoding import Unreadable, check_encoding

_BOUNDARY = re.compile(rb"^[ \t]*-----(BEGIN|END) ([A-Z0-9 ]+)-----[ \t]*\r?$", re.MULTILINE)
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_WHOLE = "Copy the whole file again, from the first BEGIN line to the last END line."


@frozen
class Block:
    """
    One block.

    @ivar label: What its boundaries say it is.
    @ivar data: The block, boundaries included.
    @ivar first: The number of its first line, from 1.
    @ivar last: That of its last line.
    """

    label: str
    data: bytes
    first: int
    last: int

    def __str__(self) -> str:
        return f"lines {self.first} to {self.last}"


def blocks(data: bytes) -> Iterator[Block]:
    """
    The blocks of a file, in their order.

    @raise Unreadable: the file is no text, or a block has no end.
    """
    _check_text(data)
    begin: re.Match[bytes] | None = None
    for found in _BOUNDARY.finditer(data):
        first = 0 if begin is None else _line(data, begin)
        if found[1] == b"BEGIN":
            if begin is not None:
                raise _cut(begin, first)
            begin = found
        elif begin is None or found[2] != begin[2]:
            line = _line(data, found)
            raise Unreadable(f"has an END line without its BEGIN line (line {line})", _WHOLE)
        else:
            label = begin[2].decode()
            yield Block(label, data[begin.start() : found.end()], first, _line(data, found))
            begin = None
    if begin is not None:
        raise _cut(begin, _line(data, begin))


def certificates(data: bytes) -> list[x509.Certificate]:
    """
    The certificates of a file, at least one; blocks of other kinds are ignored.

    @raise Unreadable: there is none, or one of them is broken.
    """
    found, others = [], []
    for block in blocks(data):
        if block.label not in _CERTIFICATES:
            others.append(block.label)
            continue
        try:
            found.append(x509.load_pem_x509_certificate(block.data))
        except ValueError:
            number = f"its certificate {len(found) + 1} ({block})"
            raise Unreadable(f"is broken: {number} cannot be read", _WHOLE) from None
    if found:
        return found
    if "CERTIFICATE REQUEST" in others or "NEW CERTIFICATE REQUEST" in others:
        raise Unreadable(
            "holds a certificate request and no certificate",
            "Send the request to a CA, and give the certificate that it answers with.",
        )
    held = f": it holds {', '.join(dict.fromkeys(others))}" if others else ""
    raise Unreadable(
        f"holds no PEM certificate{held}",
        "Give a file with one or more certificates in PEM form.",
    )


def check_key(data: bytes) -> None:
    """
    @raise Unreadable: it is not a complete PEM file with a private key.
    """
    labels = [block.label for block in blocks(data)]
    if not any(label.endswith("PRIVATE KEY") for label in labels):
        held = f": it holds {', '.join(dict.fromkeys(labels))}" if labels else ""
        raise Unreadable(
            f"holds no PEM private key{held}",
            "Give the private key of tls.certificate in PEM form.",
        )


def _check_text(data: bytes) -> None:
    if not data.strip():
        raise Unreadable("is empty", "Write the file again; perhaps the disk was full.")
    check_encoding(data)
    if data[:1] == b"\x30" and b"-----BEGIN" not in data:
        raise Unreadable(
            "is binary (DER or PKCS#12) and not PEM",
            "Convert it: openssl x509 -inform DER -in FILE -out FILE.pem, or for PKCS#12"
            " openssl pkcs12 -in FILE -nodes -out FILE.pem.",
        )


def _cut(begin: re.Match[bytes], line: int) -> Unreadable:
    label = begin[2].decode()
    return Unreadable(f"is cut: the {label} that begins at line {line} has no END line", _WHOLE)


def _line(data: bytes, boundary: re.Match[bytes]) -> int:
    return data.count(b"\n", 0, boundary.start()) + 1
