"""What the XMPP server serves to browsers: the WebSocket (RFC 7395), and how it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.web.iweb import IRequest

from cms import faults
from cms.door import hostmeta
from cms.door.interfaces import Server
from cms.door.joining import Joining
from cms.door.pages import PRIVATE
from cms.door.settings import DoorSettings
from cms.process.logs import LineLimiter
from cms.web.application import Application
from cms.web.messages import Raw, answer, header
from cms.web.refusal import Refused
from cms.websocket import handshake

WEBSOCKET = "/xmpp-websocket"
JSON = "application/json"
_NOT_PASSED = (426, 505)  # what is answered to a request that asks for no upgrade, or to HTTP/1.0
COUNTED = tuple(
    fault.name for fault in (faults.ORIGIN_REFUSED, faults.WEBSOCKET_NOT_PASSED, faults.DOOR_CLOSED)
)
_HERE = ("localhost", "127.", "[::1]")  # how the names of this host begin


class DoorApplication(Application):
    """
    The routes of C{listen.web}.

    @ivar settings: C{[web]}.
    @ivar refused: How many requests were refused for each of these faults.
    @param seconds: A clock, monotonic.
    """

    label = "web request"
    private = (PRIVATE,)
    too_long = Raw(b'{"reason": "bad-request", "text": "the body is too long"}', JSON)

    def __init__(
        self, settings: DoorSettings, server: Server, seconds: Callable[[], float]
    ) -> None:
        super().__init__()
        self.settings = settings
        self._server = server
        self._lines = LineLimiter(seconds)
        self.refused = dict.fromkeys(COUNTED, 0)
        origins = self.origins_for
        Joining(server, origins, self._tell_foreign, enabled=settings.enabled).add_to(self.routes)
        self.routes.route(WEBSOCKET, methods=["GET"])(self.open_websocket)
        self.routes.route("/.well-known/host-meta", methods=["GET"])(self.host_meta)
        self.routes.route("/.well-known/host-meta.json", methods=["GET"])(self.host_meta_json)

    async def admit(self, request: IRequest) -> None:
        """Everybody: a stream logs in by itself, and a guest shows what he has."""

    def form(self, request: IRequest, refused: Refused) -> Raw:
        """See L{Application.form}: for scripts."""
        if refused.reason in self.refused:
            self.refused[refused.reason] += 1
        body = json.dumps({"reason": refused.reason, "text": refused.cause}).encode()
        return Raw(body, JSON, refused.status, refused.headers)

    # how it is found, XEP-0156

    def host_meta(self, request: IRequest) -> bytes:
        """As XML."""
        return answer(request, hostmeta.as_xrd(self.websocket_address(request)))

    def host_meta_json(self, request: IRequest) -> bytes:
        """As JSON."""
        return answer(request, hostmeta.as_jrd(self.websocket_address(request)))

    def websocket_address(self, request: IRequest) -> str:
        """Where the sender of a request reaches the WebSocket."""
        return "ws" + self.own_origin(request).removeprefix("http") + WEBSOCKET

    def own_origin(self, request: Any) -> str:
        """
        The origin of our own pages, for the sender of a request.

        A request without TLS has come over a proxy with TLS, unless it is for this host.
        """
        if self.settings.url is not None:
            return self.settings.url
        host = (header(request, "host") or "localhost").lower()
        secure = request.isSecure() or not host.startswith(_HERE)
        return f"{'https' if secure else 'http'}://{host}"

    # the WebSocket

    def open_websocket(self, request: Any) -> bytes | None:
        """
        Answer the opening handshake; then the connection is no HTTP any more.

        @raise Refused: it is none, or of a page that may not.
        """
        if header(request, "transfer-encoding") is not None or request.content.read(1):
            raise Refused("no-websocket", "the request has a body")
        if self._server.is_shut:
            cause = "this server is about to be stopped; the others of its domain are there"
            raise Refused(faults.SERVER_DRAINING.name, cause, status=503)
        origins = self.origins_for(request)
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        said = handshake.answer(
            *(request.method, WEBSOCKET, request.clientproto),
            *(fields, origins),
        )
        if said.status == 101:
            connection = request.channel.transport.admitted
            request.upgrade(said.head, self._server.open_stream(connection))
            return None
        if said.is_foreign:
            self._tell_foreign(request)
        reason = faults.ORIGIN_REFUSED.name if said.is_foreign else "no-websocket"
        if not said.is_foreign and header(request, "sec-websocket-key") is not None:
            reason = self._tell_not_passed(request, said.status) or reason
        raise Refused(reason, said.problem, status=said.status, headers=dict(said.headers))

    def _tell_not_passed(self, request: Any, status: int) -> str:
        """
        A browser has asked for a WebSocket, and HTTP/1.0 or a request without C{Upgrade} has
        arrived: a proxy has changed it.

        @return: The fault; empty if something else is wrong.
        """
        upgrade, connection = (header(request, name) or "" for name in ("upgrade", "connection"))
        asks = "websocket" in upgrade.lower() and "upgrade" in connection.lower()
        if status not in _NOT_PASSED or (asks and request.clientproto != b"HTTP/1.0"):
            return ""
        url = self.websocket_address(request)
        fault = faults.WEBSOCKET_NOT_PASSED.error(url=url, status=status)
        if self._lines.allows():
            self.log.warn("{cause} Cure: {cure}", **fault.fields)
        return fault.fault

    def origins_for(self, request: IRequest) -> list[str]:
        """Whose pages may do what ours do: our own, and those that the operator named."""
        return [self.own_origin(request), *self.settings.origins]

    def _tell_foreign(self, request: IRequest) -> None:
        own = self.own_origin(request)
        fault = faults.ORIGIN_REFUSED.error(origin=header(request, "origin"), own=own)
        if self._lines.allows():
            self.log.warn("{cause} Cure: {cure}", **fault.fields)
