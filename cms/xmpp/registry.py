"""Which Callbridges may register, and the secret of each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from cms.tomlfile import Secret


def proves(secret: Secret, stream_id: str, digest: str) -> bool:
    """
    Whether the digest is the handshake for this secret (XEP-0114 section 3),
    compared in constant time.
    """
    expected = hashlib.sha1((stream_id + secret.value).encode()).hexdigest()  # noqa: S324
    return hmac.compare_digest(expected.encode(), digest.strip().lower().encode())


class Registry:
    """
    The component addresses that this server knows.

    @ivar secrets: For each address the secrets that are accepted now: more
        than one while a secret is being rotated.
    """

    def __init__(self, secrets: Mapping[str, Iterable[Secret]]) -> None:
        self.secrets = {address: tuple(accepted) for address, accepted in secrets.items()}

    def __contains__(self, component: object) -> bool:
        return component in self.secrets

    def proves(self, component: str, stream_id: str, digest: str) -> bool:
        """Whether the digest is right for any secret of this component."""
        accepted = self.secrets.get(component, ())
        return sum(proves(secret, stream_id, digest) for secret in accepted) > 0


def component_address(name: str, domain: str) -> str:
    """
    The address of the Callbridge with this unique name.  A name with a dot is
    an address already (a component that is no Callbridge).
    """
    return name if "." in name else f"{name}.{domain}"
