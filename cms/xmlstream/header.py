"""The header that opens a stream (RFC 6120 4.7)."""

from __future__ import annotations

import os
from functools import lru_cache

from cms.xmlstream import ns
from cms.xmlstream.serialize import quote_attribute


@lru_cache(maxsize=256)
def header(namespace: str, attributes: tuple[tuple[str, str | None], ...]) -> str:
    """Its beginning; what ends the tag, and an id, are to follow."""
    written = "".join(
        f" {key}={quote_attribute(value)}" for key, value in attributes if value is not None
    )
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{namespace}'"
        f" xmlns:stream='{ns.STREAMS}'{written}"
    )


def new_stream_id() -> str:
    """An identifier nobody can guess (RFC 6120 4.7.3)."""
    return os.urandom(16).hex()
