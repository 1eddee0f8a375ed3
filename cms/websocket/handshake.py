"""The opening handshake of a WebSocket, of a request that was read already (RFC 6455 4.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from attrs import frozen
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeaderValue, InvalidOrigin, NegotiationError
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

SUBPROTOCOL: Final = "xmpp"  # RFC 7395 3.1
_VERSION: Final = "Sec-WebSocket-Version"
_LOG = logging.getLogger("cms.websocket.handshake")
_LOG.disabled = True  # the access log has the answer


@frozen
class Answer:
    """
    What is answered.

    @ivar status: 101, or that of a refusal.
    @ivar head: All bytes of an answer with 101.
    @ivar problem: Why the request is refused.
    @ivar headers: What the refusal must have.
    @ivar is_foreign: It is refused because of where its page comes from.
    """

    status: int
    head: bytes = b""
    problem: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    is_foreign: bool = False


def answer(
    method: bytes,
    path: str,
    version: bytes,
    headers: Iterable[tuple[str, str]],
    origins: Iterable[str],
) -> Answer:
    """
    The answer to a request.

    @param version: Of HTTP, as the request says.
    @param origins: From where a browser's page may come.  A program that is no browser sends
        no C{Origin}.
    """
    protocol = ServerProtocol(
        origins=[None, *map(Origin, origins)],
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        select_subprotocol=_select,
        logger=_LOG,
    )
    request = Request(path, Headers(headers), method.decode(), version.decode())
    response = protocol.accept(request)
    if response.status_code == 101:
        protocol.send_response(response)
        return Answer(101, b"".join(protocol.data_to_send()))
    error = protocol.handshake_exc
    if isinstance(error, InvalidHeaderValue) and error.name == _VERSION:  # 4.4
        return Answer(426, b"", str(error), (("Upgrade", "websocket"), (_VERSION, "13")))
    told = tuple(
        (name, value)
        for name, value in response.headers.raw_items()
        if name in ("Upgrade", "Allow")
    )
    status = int(response.status_code)
    return Answer(status, b"", str(error), told, isinstance(error, InvalidOrigin))


def _select(_: ServerProtocol, asked: object) -> Subprotocol | None:
    """Only C{xmpp}; to a client that asks for none, none is said (RFC 6455 4.2.2)."""
    names = list(asked) if isinstance(asked, (list, tuple)) else []
    if SUBPROTOCOL in names:
        return Subprotocol(SUBPROTOCOL)
    if names:
        raise NegotiationError(f"the only sub-protocol is {SUBPROTOCOL}")
    return None
