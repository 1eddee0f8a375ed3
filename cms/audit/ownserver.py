"""What an XMPP server's set-up is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen

from cms.audit.owncertificate import Names
from cms.configuration.tomlfile import Secret
from cms.discovery.address import ascii_domain
from cms.trust.files import PEMFiles


@frozen
class OwnServer:
    """
    The parts of an F{xmpp.toml} that others meet.

    @ivar listen: Endpoint strings for each kind of listener.
    @ivar secrets: For each component address what is accepted now.
    """

    file: Path
    domain: str
    hostname: str
    state_dir: Path
    files: PEMFiles
    listen: Mapping[str, Sequence[str]]
    secrets: Mapping[str, Sequence[Secret]]

    @property
    def ascii_domain(self) -> str:
        """As DNS and certificates hold it."""
        return ascii_domain(self.domain)

    @property
    def names(self) -> Names | None:
        """
        What the certificate must name.  That of the administration alone is for
        whoever knows the server already.
        """
        others = ("component", "client", "client_direct")
        if self.listen.get("api") and not any(self.listen.get(kind) for kind in others):
            return None
        return Names(self.ascii_domain, ascii_domain(self.hostname))

    @property
    def is_local(self) -> bool:
        """Whether components can come from this very host only."""
        return self.knows_ports("component") and all(
            each.is_local for each in self.endpoints("component")
        )

    @property
    def is_nameless(self) -> bool:
        """Whether it goes by a name that means another host to everybody else."""
        return self.hostname == "localhost"

    def knows_ports(self, kind: str) -> bool:
        """Whether each listener of a kind says its port; a socket of systemd's does not."""
        return len(self.endpoints(kind)) == len(self.listen.get(kind, ()))

    def endpoints(self, *kinds: str) -> list[Endpoint]:
        """The TCP listeners of some kinds."""
        every = [(kind, text) for kind in kinds for text in self.listen.get(kind, ())]
        parsed = [parse_endpoint(kind, text) for kind, text in every]
        return [endpoint for endpoint in parsed if endpoint is not None]


@frozen
class Endpoint:
    """
    A TCP listener.

    @ivar interface: Empty for all addresses of this host.
    """

    kind: str
    text: str
    port: int
    interface: str

    @property
    def is_local(self) -> bool:
        """Whether only this host can reach it."""
        try:
            return bool(self.interface) and ip_address(self.interface).is_loopback
        except ValueError:
            return self.interface == "localhost"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this host reaches it itself."""
        if self.interface in ("", "0.0.0.0", "::"):  # noqa: S104 - it is read, not bound
            return ("127.0.0.1", "::1")
        return (self.interface,)


def parse_endpoint(kind: str, text: str) -> Endpoint | None:
    """The port and interface of a Twisted endpoint string; C{None} for what is not TCP."""
    parts = [part.replace("\0", ":") for part in text.replace("\\:", "\0").split(":")]
    if parts[0] not in ("tcp", "tcp6", "tcp4"):
        return None
    named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
    plain = [part for part in parts[1:] if "=" not in part]
    port = named.get("port", plain[0] if plain else "")
    if not port.isdigit():
        return None
    return Endpoint(kind, text, int(port), named.get("interface", ""))
