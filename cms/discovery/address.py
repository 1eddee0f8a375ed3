"""Step 3: what an operator may write as the server's address."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna
from attrs import frozen

from cms import faults

COMPONENT_PORT = 5223

_LABEL = re.compile(r"(?!-)[a-z0-9-]+(?<!-)")
_V6 = re.compile(r"[0-9A-Fa-f:.]+(%[0-9A-Za-z._~-]+)?")  # with an RFC 4007 zone, or without


@frozen
class ServerAddress:
    """
    Where to connect.

    @ivar host: A host name in ASCII (A-labels), or an IP address.
    @ivar is_ip: Which of the two.
    """

    host: str
    port: int
    is_ip: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server_address(text: str) -> ServerAddress | None:
    """
    Read C{host}, C{host:port}, C{v4}, C{v4:port}, C{[v6]} or C{[v6]:port}.

    @return: C{None} for a blank address, which means SRV.
    @raise ConfigurationError: (C{server-address-invalid}) for anything else.
    """
    written = text.strip()
    if not written:
        return None
    try:
        return parse_address(written, COMPONENT_PORT)
    except ValueError as problem:
        raise faults.SERVER_ADDRESS_INVALID.error(address=text[:300], problem=problem) from None


def parse_address(text: str, port: int) -> ServerAddress:
    """
    The same, not blank, of any service.

    @param port: Where none is written.
    @raise ValueError: with a plain sentence, when it is no address.
    """
    host, written = _split(text)
    return _address(host, port if written is None else _port(written))


def _split(text: str) -> tuple[str, str | None]:
    if "/" in text:
        raise ValueError(f'"{text}" is not a host name and port but a URL or a path')
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("the bracket is not closed before the port")
        return f"[{host}]", rest[1:] if rest else None
    if text.count(":") > 1:
        raise ValueError("an IPv6 address is written in brackets, such as [2001:db8::1]:5223")
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError(f'"{text}" is not a port from 1 to 65535')
    return int(text)


def _address(host: str, port: int) -> ServerAddress:
    if host.startswith("["):
        inner = host[1:-1]
        try:
            if _V6.fullmatch(inner):
                return ServerAddress(str(IPv6Address(inner)), port, is_ip=True)
        except AddressValueError:
            pass
        raise ValueError(f"{host} holds no IPv6 address")
    try:
        return ServerAddress(str(IPv4Address(host)), port, is_ip=True)
    except AddressValueError:
        return ServerAddress(ascii_domain(host), port, is_ip=False)


def ascii_domain(text: str) -> str:
    """
    A domain or host name as DNS and certificates hold it: A-labels, lower
    case, no trailing dot (RFC 5891).

    @raise ValueError: with a plain sentence, when it is no name.
    """
    try:
        name = idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as problem:
        # Names such as r3---x.example break IDNA's rules, but not those of DNS.
        if not text.isascii():
            raise ValueError(f'"{text}" is not a host name ({problem})') from None
        name = text
    name = name.lower().removesuffix(".")
    complaint = _complaint(name)
    if complaint:
        raise ValueError(f'"{text}" is not a host name: {complaint}')
    if name.rpartition(".")[2].isdigit():
        raise ValueError(f'"{text}" is neither an IPv4 address nor a host name')
    return name


def _complaint(name: str) -> str | None:
    """What makes an ASCII name no host name (RFC 1123 2.1), if anything does."""
    labels = name.split(".")
    checks = (
        (re.search(r"\s", name), "it holds white space"),
        ("" in labels, "a part between dots is empty"),
        (len(name) > 253, "it is longer than 253 characters"),
        (max(map(len, labels)) > 63, "a part between dots is longer than 63 characters"),
        ("_" in name, "a host name holds no underscore"),
        (
            not all(_LABEL.fullmatch(label) for label in labels),
            "only letters, digits and inner hyphens may stand between dots",
        ),
    )
    return next((complaint for wrong, complaint in checks if wrong), None)
