"""
The system's files about names: F{/etc/resolv.conf} and F{/etc/hosts}.

They are read again for each question, so that a change needs no restart.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from cms.discovery.nameservers import Server

RESOLV_CONF, HOSTS = Path("/etc/resolv.conf"), Path("/etc/hosts")
DNS_PORT = 53
MOST_SERVERS = 3  # of a resolv.conf, as the C library has it
MOST_HOSTS_BYTES = 4 * 1024 * 1024


def system_servers(resolv_conf: Path) -> list[Server]:
    """
    The first three C{nameserver} lines of a F{resolv.conf}, or the local host if there
    is none.  C{options} and C{search} are not used.
    """
    found: list[Server] = []
    for words in _lines(resolv_conf):
        match words:
            case ["nameserver", address, *_] if is_ip(address):
                found.append((str(ip_address(address)), DNS_PORT))
    return found[:MOST_SERVERS] or [("127.0.0.1", DNS_PORT)]


def system_search(resolv_conf: Path) -> list[str]:
    """The search domains of a F{resolv.conf}; the last line counts."""
    found: list[str] = []
    for words in _lines(resolv_conf):
        match words:
            case ["search" | "domain", *domains]:
                found = [domain.rstrip(".") for domain in domains if domain.rstrip(".")]
    return found


def _lines(file: Path) -> list[list[str]]:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return []
    return [line.split() for line in text.splitlines()]


def addresses_in(hosts: Path, name: str) -> tuple[str, ...]:
    """
    The addresses of a name in a F{hosts} file, in its order (hosts(5)).  If there are
    any, DNS is asked for neither address family, as with C{getaddrinfo}.

    @param name: In ASCII; case does not count.
    """
    try:
        with hosts.open("rb") as file:
            text = file.read(MOST_HOSTS_BYTES).decode("utf-8", "replace").lower()
    except OSError:
        return ()
    if name not in text:
        return ()
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if name in names and is_ip(address):
            found.append(str(ip_address(address)))
    return tuple(dict.fromkeys(found))


def is_ip(text: str) -> bool:
    """Whether it is an IP address, with a zone (RFC 4007) or without."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
