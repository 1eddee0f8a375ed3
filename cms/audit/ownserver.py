"""The parts of an XMPP server's configuration that are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from cms.audit.owncertificate import Names
from cms.configuration.tomlfile import Secret
from cms.discovery.address import ascii_domain
from cms.process.endpointstrings import Endpoint, NoEndpoint, parse_endpoint
from cms.trust.files import PEMFiles


@frozen
class OwnServer:
    """
    The parts of an F{xmpp.toml} that are checked.

    @ivar listen: Endpoint strings for each kind of listener.
    @ivar secrets: For each component address, the secrets accepted now.
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
        The names that the certificate must have; C{None} if only the API uses it, whose
        clients know the server already.
        """
        others = ("component", "client", "client_direct", "web")
        if self.listen.get("api") and not any(self.listen.get(kind) for kind in others):
            return None
        return Names(self.ascii_domain, ascii_domain(self.hostname))

    @property
    def is_local(self) -> bool:
        """Whether components can connect from this host only."""
        return self.knows_ports("component") and all(
            each.endpoint.is_local for each in self.listeners("component")
        )

    @property
    def is_nameless(self) -> bool:
        """Whether its name means this host on every host, as C{localhost} does."""
        return self.hostname == "localhost"

    def knows_ports(self, kind: str) -> bool:
        """Whether the port of each listener of a kind is known; a socket of systemd's is not."""
        return len(self.listeners(kind)) == len(self.listen.get(kind, ()))

    def listeners(self, *kinds: str) -> list[Listener]:
        """The TCP listeners of some kinds."""
        found = []
        for kind in kinds:
            for text in self.listen.get(kind, ()):
                with suppress(NoEndpoint):  # the start says what is wrong with it
                    endpoint = parse_endpoint(text)
                    if endpoint.port is not None:
                        found.append(Listener(kind, endpoint, endpoint.port))
        return found


@frozen
class Listener:
    """
    A TCP listener.

    @ivar kind: Its key in C{[listen]}.
    """

    kind: str
    endpoint: Endpoint
    port: int
