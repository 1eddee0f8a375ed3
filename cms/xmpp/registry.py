"""Which Callbridges may register, and the secrets of each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping

from cms.configuration.tomlfile import Secret
from cms.xmlstream.jid import MalformedJID, parse_jid

NAME_CURE = "Write a name without a domain part, such as cb1, or the address of a component."


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

    def __iter__(self) -> Iterator[str]:
        return iter(self.secrets)

    def proved(self, component: str, stream_id: str, digest: str) -> Secret | None:
        """The secret of this component that the digest is right for."""
        accepted = self.secrets.get(component, ())
        # Try all, so that the time does not tell which one it was.
        right = [secret for secret in accepted if proves(secret, stream_id, digest)]
        return right[0] if right else None

    def accepts(self, component: str, secret: Secret | None) -> bool:
        """Whether the secret that a component proved is still accepted."""
        return secret in self.secrets.get(component, ())


def component_address(name: str, domain: str) -> str:
    """
    The address of the Callbridge with this unique name.  A name with a dot is
    an address already (a component that is no Callbridge).

    @param domain: The XMPP domain, prepared.
    @raise ValueError: it makes no component address; the text says why.
    """
    try:
        address = parse_jid(name if "." in name else f"{name}.{domain}")
    except MalformedJID as problem:
        raise ValueError(f'"{name}": {problem}') from None
    if address.full() != address.host or address.host == domain:
        raise ValueError(f'"{name}" is no component address')
    return str(address.host)


def component_name(address: str, domain: str) -> str:
    """The shortest name that L{component_address} makes this address of."""
    name = address.removesuffix(f".{domain}")
    return address if "." in name else name
