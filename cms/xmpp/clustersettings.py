"""C{[cluster]} of F{xmpp.toml}: this server is one of several (docs/design/cluster.md)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import frozen

from cms.configuration.kinds import Count, Parsed, PathTo, Seconds, SecretOf, Text
from cms.configuration.section import setting
from cms.configuration.tomlfile import Secret

PORT, SENTINEL_PORT = 6379, 26379
MOST_SENTINELS = 20
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_FORMS = "Write redis://HOST:PORT/0, rediss://HOST:PORT/0 or sentinel://HOST:PORT,HOST:PORT/NAME."


@frozen
class EngineAddress:
    """
    Where the engine is.

    @ivar hosts: Host and port; of Sentinels, all of them.
    @ivar master: The name by which Sentinels know it; empty: it is asked directly.
    @ivar database: Its number.
    @ivar tls: Whether the connection is TLS from the first byte.
    """

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    tls: bool

    def __str__(self) -> str:
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        scheme = "sentinel" if self.master else "rediss" if self.tls else "redis"
        return f"{scheme}://{hosts}{f'/{self.master}' if self.master else ''}/{self.database}"


def parse_engine(text: str) -> EngineAddress:
    """
    Read C{engine}.

    @raise ValueError: it is no address of an engine.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("redis", "rediss", "sentinel"):
        raise ValueError(f'"{text}" begins with none of redis://, rediss:// and sentinel://')
    where, _, path = rest.partition("/")
    if "@" in where:
        raise ValueError("user and password do not belong here, but in user and password_file")
    usual = SENTINEL_PORT if scheme == "sentinel" else PORT
    parts = where.split(",")
    if len(parts) > (MOST_SENTINELS if scheme == "sentinel" else 1):
        raise ValueError(f'"{text}" names too many hosts')
    hosts = tuple(_host(part, usual) for part in parts)
    names = [unquote(name) for name in path.split("/") if name]
    master = names.pop(0) if scheme == "sentinel" and names else ""
    if scheme == "sentinel" and not _NAME.fullmatch(master):
        raise ValueError("it does not say which master the Sentinels are asked for")
    number = names.pop(0) if names else "0"
    if names or not re.fullmatch(r"[0-9]{1,4}", number):
        raise ValueError(f'"{path}" is no number of a database')
    return EngineAddress(hosts, master, int(number), scheme == "rediss")


def _host(text: str, usual: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise ValueError(f'"{text}": {problem}') from None
    if not host or parts.path or parts.query or parts.fragment:
        raise ValueError(f'"{text}" is no host with a port')
    return host, usual if port is None else port


def _node(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f'"{text}" is no name of up to 64 letters, digits, dots and hyphens')
    return text


@frozen(kw_only=True)
class ClusterSettings:
    """C{[cluster]}; left out, this server is alone."""

    engine: EngineAddress = setting(
        Parsed(parse_engine, _FORMS),
        "the Redis (6.2 or later) that all servers of this domain share:"
        ' `"redis://host:6379/0"`, `"rediss://..."` with TLS, or `"sentinel://h1:26379,h2:26379/NAME"`'
        " for the master that Sentinels name",
    )
    user: str = setting(Text(), "its ACL user", default="", shown="the default user")
    password: Secret | None = setting(
        SecretOf(),
        "of that user, or the path of a file that holds it alone",
        default=None,
        shown="none",
    )
    trust: Path | None = setting(
        PathTo(),
        "what the certificate of the engine is checked against",
        default=None,
        shown="the system's CAs",
    )
    node: str = setting(
        Parsed(_node, "Write a name such as xmpp1."),
        "this server's name in the cluster; each has its own",
        default="",
        shown="the hostname",
    )
    lease: float = setting(
        Seconds(2, 60),
        "without a word to the engine, after which the others hold this server for dead, and its"
        " sessions end everywhere. It renews its lease four times in that time",
        default=6.0,
        why="a failover of the engine by Sentinels takes 4, and who waits for an answer of a dead"
        " server has one within 8",
    )
    patience: float = setting(
        Seconds(1, 120),
        "for which stanzas for other servers wait while the engine is away; then they are"
        " answered with `remote-server-timeout`",
        default=15.0,
        why="a failover by Sentinels took 4 after a kill and 13 after a freeze",
    )
    window: int = setting(
        Count(64 * 1024, 64 * 1024 * 1024, "bytes"),
        "on the way to each other server that it has not acknowledged. Four times as much may"
        " wait behind them; what comes beyond is answered with an error",
        default=1024 * 1024,
        why="it bounds what the engine keeps: so much for each pair of servers",
    )
