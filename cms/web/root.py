"""The root of every request: its ID, authentication, routing and log line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException

from cms.process.logs import Logger
from cms.signalflow import printable
from cms.web.application import Application
from cms.web.messages import REQUEST_ID, SAFE_HEADERS, account, host_of
from cms.web.refusal import Refused


class Root(Resource):
    """
    The root of a listener.

    @param admit: Called with each request before its route; may change its C{postpath}, and
        raises L{Refused} for a client that is not authenticated.
    @param numbers: The ids of requests, shared by the listeners of a daemon.
    """

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        application: Application,
        admit: Callable[[IRequest], Awaitable[None]],
        numbers: Iterator[int],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.application = application
        self._routes: Any = application.routes.resource()
        self._admit = admit
        self._numbers = numbers
        self._clock = clock

    def render(self, request: Any) -> int:
        """From Twisted."""
        visit = _Visit(next(self._numbers), self._clock.seconds(), host_of(request))
        request.setHeader(REQUEST_ID, str(visit.number).encode())
        for name, value in SAFE_HEADERS.items():
            request.setHeader(name, value)
        finished = request.notifyFinish()
        finished.addCallbacks(self._log, self._log_left, (request, visit), None, (request, visit))
        serving = Deferred.fromCoroutine(self._serve(request))
        serving.addErrback(self._unexpected, request, visit)
        finished.addBoth(lambda _: serving.cancel())
        return NOT_DONE_YET

    async def _serve(self, request: Any) -> None:
        try:
            await self._admit(request)
            _check_path(request)
            self._routes.render(request)
        except Refused as refused:
            _finish(request, self.application.refuse(request, refused))
        except HTTPException:
            nameless = Refused("badRequest", "the Host header is no host name")
            _finish(request, self.application.refuse(request, nameless))

    def _unexpected(self, failure: Failure, request: Any, visit: _Visit) -> None:
        if visit.over:
            return  # the client has disconnected, and its work was cancelled
        _finish(request, self.application.unexpected(request, failure))

    def _log(self, result: object, request: Any, visit: _Visit) -> None:
        visit.over = True
        path = "/" + b"/".join(request.prepath + request.postpath).decode("utf-8", "replace")
        if path in self.application.quiet and request.code == 200:
            return
        self.log.info(
            f'{self.application.label} {{request}}: {{method}} for "{{path}}"'
            " (from {peer}, by {who}): {status} in {seconds:.3f} s",
            request=visit.number,
            method=printable(request.method.decode("ascii", "replace"))[:20],
            path=printable(_without_secret(path, self.application.private))[:200],
            peer=visit.host,
            who=account(request),
            status=request.code,
            seconds=self._clock.seconds() - visit.began,
        )

    def _log_left(self, failure: Failure, request: Any, visit: _Visit) -> None:
        visit.over = True
        self.log.info(
            f"{self.application.label} {{request}}: the client left early", request=visit.number
        )


def _check_path(request: Any) -> None:
    """Klein fails on a path that is no UTF-8 (RFC 3987 3.1), which anybody can send."""
    try:
        b"/".join(request.postpath).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("badRequest", "the address is no UTF-8") from None


def _without_secret(path: str, private: Collection[str]) -> str:
    """Wherever such a path begins: a link may be mistyped in front of its secret, too."""
    for beginning in private:
        at = path.lower().find(beginning)
        if at >= 0:
            path = f"{path[: at + len(beginning)]}..."
    return path


@define
class _Visit:
    number: int
    began: float
    host: str
    over: bool = field(default=False)


def _finish(request: Any, body: bytes) -> None:
    request.write(body)
    request.finish()
