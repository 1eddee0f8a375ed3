"""
What one endpoint string of a configuration says.

Its grammar is Twisted's (L{twisted.internet.endpoints.serverFromString}): parts between
colons, some of them named, with a backslash before a sign that means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from attrs import field, frozen

from cms import faults
from cms.signalflow import StepError

_OURS = "reuseport"  # a part that Twisted's do not have
PROXIED = "haproxy:"  # before an endpoint string: the PROXY protocol is spoken there
BACKLOG = 1_024  # connections that wait to be accepted; Twisted's own is 50
_MEND = 'Write a Twisted endpoint string, such as "tcp:5223".'


class NoEndpoint(ValueError):
    """
    A string that is none, or of a kind that cannot be used.

    @ivar mend: The cure.
    """

    def __init__(self, problem: str, mend: str = _MEND) -> None:
        super().__init__(problem)
        self.mend = mend


@frozen(kw_only=True)
class Endpoint:
    """
    Where a listener listens.

    @ivar text: As it is written.
    @ivar kind: C{tcp}, C{tcp6}, C{unix} or C{systemd}.
    @ivar is_proxied: The PROXY protocol is spoken there.
    @ivar host: Of TCP: the address or name of an interface; empty for all of them.
    @ivar port: Of TCP; C{None} elsewhere.
    @ivar path: Of a UNIX socket.
    @ivar mode: Of a UNIX socket: its permissions.
    @ivar is_locked: Of a UNIX socket: whether a file beside it keeps others off.
    @ivar is_shared: Of TCP: whether other processes of this user may listen there too
        (C{SO_REUSEPORT}).
    @ivar inherited: Of systemd: what names its socket, as Twisted's parser takes it.
    """

    text: str
    kind: str
    is_proxied: bool = False
    host: str = ""
    port: int | None = None
    path: str = ""
    backlog: int = BACKLOG
    mode: int = 0o666
    is_locked: bool = True
    is_shared: bool = False
    inherited: str = field(default="", repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether its address, which no other host reaches, is written down."""
        try:
            return self.kind == "unix" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_local(self) -> bool:
        """Whether only this host reaches it, by the name of its interface too."""
        return self.is_loopback or self.host == "localhost"

    @property
    def is_bound(self) -> bool:
        """Of TCP: whether it has an address or a name, and not all addresses of this host."""
        return self.host not in ("", "0.0.0.0", "::")  # noqa: S104 - they are read

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of TCP: where this host reaches it itself."""
        return (self.host,) if self.is_bound else ("127.0.0.1", "::1")


def parse_endpoint(text: str) -> Endpoint:
    """
    Read an endpoint string.

    @raise NoEndpoint: it is none, or no listener can be of that kind.
    """
    is_proxied = text.startswith(PROXIED)
    written = text.removeprefix(PROXIED)
    kind, *parts = _split(written)
    if kind[1] is not None or kind[0] not in _KINDS:
        raise _no_kind(written.partition(":")[0])
    names, make = _KINDS[kind[0]]
    return make(
        _named(names, parts), text=text, kind=kind[0], is_proxied=is_proxied, inherited=written
    )


def read_endpoint(key: str, text: str, file: object) -> Endpoint:
    """
    Read the endpoint string of a key, such as C{listen.api}.

    @raise ConfigurationError: it is none, or no listener can be of that kind.
    """
    try:
        return parse_endpoint(text)
    except NoEndpoint as problem:
        raise faults.CONFIGURATION_VALUE.error(
            file=file,
            key=key,
            problem=f'"{text}" is no endpoint that can be used here ({problem})',
            mend=problem.mend,
        ) from None


def is_shared(text: str) -> bool:
    """Whether it is the string of a TCP port that other processes may share."""
    try:
        return parse_endpoint(text).is_shared
    except NoEndpoint:
        return False  # whoever opens it says so


def check_plain(key: str, text: str, file: object) -> None:
    """
    A listener without TLS may only be reached from this host.  A socket that
    systemd hands over is judged when it is there.

    @raise ConfigurationError: it could be reached from elsewhere.
    """
    endpoint = read_endpoint(key, text, file)
    if endpoint.kind != "systemd" and not endpoint.is_loopback:
        raise reachable(key, text, file)


def reachable(key: str, text: str, file: object) -> StepError:
    """The complaint about a listener without TLS that others reach."""
    return faults.CONFIGURATION_VALUE.error(
        file=file,
        key=key,
        problem=f"{text} has no TLS and could be reached from another host",
        mend="Add :interface=127.0.0.1, or use a unix: socket, or a listener with TLS.",
    )


def _split(text: str) -> list[tuple[str, str | None]]:
    """The parts, each with its value where it is named, without their backslashes."""
    parts: list[tuple[str, str | None]] = []
    name: str | None = None
    part = ""
    signs = iter(text)
    for sign in signs:
        if sign == "\\":
            meant = next(signs, "")
            if not meant:
                raise NoEndpoint("a backslash is its last sign")
            part += meant
        elif sign == "=" and name is None:
            name, part = part, ""
        elif sign == ":":
            parts.append((part, None) if name is None else (name, part))
            name, part = None, ""
        else:
            part += sign
    return [*parts, (part, None) if name is None else (name, part)]


def _named(names: tuple[str, ...], parts: list[tuple[str, str | None]]) -> dict[str, str]:
    """Each part by its name; those without one have theirs by their place."""
    found: dict[str, str] = {}
    places = iter(name for name in names if name != _OURS)
    for first, value in parts:
        name, said = (next(places, None), first) if value is None else (first, value)
        if name is None:
            raise NoEndpoint(f'"{said}" is one part too many')
        if name not in names:
            raise NoEndpoint(f'"{name}=" is none of {", ".join(names)}')
        if name in found:
            raise NoEndpoint(f"its {name} is there twice")
        if "\0" in said:
            raise NoEndpoint(f"a NUL is in its {name}")
        found[name] = said
    if names[0] not in found:
        raise NoEndpoint(f"its {names[0]} is missing")
    return found


def _number(named: dict[str, str], name: str, most: int, usual: int | None, base: int = 10) -> int:
    text = named.get(name, usual)
    try:
        number = text if isinstance(text, int) else int(text or "", base)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise NoEndpoint(f'"{text}" is no {name}')
    return number


def _tcp(named: dict[str, str], **about: Any) -> Endpoint:
    port = _number(named, "port", 65_535, None)
    host = named.get("interface", "::" if about["kind"] == "tcp6" else "")
    try:
        host.encode("idna")  # as the socket does, which calls its failure a TypeError
    except UnicodeError:
        raise NoEndpoint(f'"{host}" is no interface') from None
    is_shared = bool(_number(named, _OURS, 1, 0))
    return Endpoint(port=port, host=host, backlog=_backlog(named), is_shared=is_shared, **about)


def _unix(named: dict[str, str], **about: Any) -> Endpoint:
    if not named["address"]:
        raise NoEndpoint("its address is missing")  # bound, it would be one that nobody knows
    return Endpoint(
        path=named["address"],
        mode=_number(named, "mode", 0o7777, 0o666, base=8),
        is_locked=bool(_number(named, "lockfile", 1, 1)),
        backlog=_backlog(named),
        **about,
    )


def _systemd(named: dict[str, str], **about: Any) -> Endpoint:
    return Endpoint(**about)


def _backlog(named: dict[str, str]) -> int:
    return _number(named, "backlog", 65_535, BACKLOG)


# Of each kind the parts in the order in which Twisted takes those without a name.
_KINDS: dict[str, tuple[tuple[str, ...], Callable[..., Endpoint]]] = {
    "tcp": (("port", "interface", "backlog", _OURS), _tcp),
    "tcp6": (("port", "backlog", "interface", _OURS), _tcp),
    "unix": (("address", "mode", "backlog", "lockfile"), _unix),
    "systemd": (("domain", "index", "name"), _systemd),
}


def _no_kind(kind: str) -> NoEndpoint:
    mend = _MEND
    if kind in ("ssl", "tls"):
        mend = f'Write tcp: in place of {kind}:, such as "tcp:5223"; TLS is ours, see [tls].'
    elif kind == "haproxy":
        mend = "Write haproxy: once."
    kinds = ", ".join(_KINDS)
    return NoEndpoint(f"{kind}: is none of {kinds}, with or without haproxy: before it", mend)
