"""C{[web]} of F{xmpp.toml}: what those see who come with a browser, and who may come."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from cms.configuration.kinds import Flag, Many, Parsed, PathTo, Text
from cms.configuration.section import setting

_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_ORIGIN_CURE = 'Write scheme, host and port if it is not the usual one: "https://www.example.com".'


def parse_origin(text: str) -> str:
    """
    An origin as browsers write it (RFC 6454 6.2).

    @raise ValueError: it is none.
    """
    try:
        parts = urlsplit(text.lower())
        port = parts.port
    except ValueError:
        raise ValueError(f'"{text}" is no origin') from None
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise ValueError(f'"{text}" is no origin')
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f'"{text}" is more than an origin')
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, usual) else f":{port}")


def _up_to(most: int, *, least: int = 0) -> Parsed[str]:
    def parse(text: str) -> str:
        if not least <= len(text) <= most or not text.isprintable():
            raise ValueError(f"it is not {least} to {most} printable characters")
        return text

    return Parsed(parse, "Write a shorter text, in one line.")


@frozen(kw_only=True)
class DoorSettings:
    """C{[web]}: for those who come with a browser."""

    title: str = setting(
        _up_to(80, least=1), "the name of the service, on every page", default="Meetings"
    )
    text: str = setting(
        _up_to(500), "a line below it, such as whom to call if something fails", default=""
    )
    logo: Path | None = setting(
        PathTo(),
        "a picture above it: a file that ends in `.svg`, `.png`, `.jpg` or `.webp`, of 256 KiB at"
        " most",
        default=None,
        shown="none",
    )
    enabled: bool = setting(
        Flag(),
        "whether pages are shown and guests admitted. The WebSocket is there in any case, for"
        " the programs of users",
        default=True,
    )
    url: str | None = setting(
        Parsed(parse_origin, _ORIGIN_CURE, Text()),
        "where browsers reach this listener: `https://meet.example.com`; to be given if a proxy"
        " does not pass on the `Host` that they ask for",
        default=None,
        shown="what the request asks for",
    )
    origins: tuple[str, ...] = setting(
        Many(Parsed(parse_origin, _ORIGIN_CURE), "origins"),
        "other sites whose pages may use the WebSocket: `https://www.example.com`. A page of this"
        " listener may, and so may a program that is no browser",
        default=(),
    )
