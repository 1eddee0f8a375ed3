"""What every request passes: its id, its log-in, its way to a route, its line in the log."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import urlsplit

from attrs import define
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException

from cms.admin import http
from cms.admin.interfaces import Refused
from cms.admin.routes import Paths
from cms.process.logs import Logger
from cms.signalflow import printable

QUIET = ("/healthz", "/metrics")  # asked for every few seconds; logged only when they go wrong


class Gate(Protocol):
    """Who may come in."""

    async def admit(self, authorization: str | None, host: str) -> str:
        """
        @param authorization: The header, if there is one.
        @param host: Where the request comes from.
        @return: The name of the account.
        @raise Refused: with status 401, 429 or 503.
        """
        ...


class OpenGate:
    """For the socket that only the owner of the state directory can reach."""

    async def admit(self, authorization: str | None, host: str) -> str:
        """See L{Gate.admit}: everybody is the owner."""
        return "owner"


def trust_peer(request: Any) -> None:
    """The connection has shown whose it is: it keeps its place (L{cms.protection.connections})."""
    trust = getattr(getattr(request.channel, "transport", None), "trust_peer", None)
    if trust is not None:  # a connection of a listener
        trust()


@define
class Counter:
    """Numbers the requests of a process."""

    count: int = 0

    def next(self) -> int:
        """The next number."""
        self.count += 1
        return self.count


class Front(Resource):
    """
    The root of a listener.

    @ivar app: Its routes.
    @param counter: Shared by the listeners of a daemon.
    """

    isLeaf = True
    log = Logger()

    def __init__(
        self, app: Klein, paths: Paths, gate: Gate, counter: Counter, clock: IReactorTime
    ) -> None:
        super().__init__()
        self.app = app
        self._routes: Any = app.resource()
        self._paths = paths
        self._gate = gate
        self._counter = counter
        self._clock = clock

    def render(self, request: Any) -> int:
        """From Twisted."""
        visit = _Visit(self._counter.next(), self._clock.seconds(), host_of(request))
        request.setHeader(http.REQUEST_ID, str(visit.number).encode())
        for name, value in http.SAFE_HEADERS.items():
            request.setHeader(name, value)
        finished = request.notifyFinish()
        finished.addCallbacks(self._log, self._log_left, (request, visit), None, (request, visit))
        serving = Deferred.fromCoroutine(self._serve(request, visit))
        serving.addErrback(self._unexpected, request, visit)
        finished.addBoth(lambda _: serving.cancel())
        return NOT_DONE_YET

    async def _serve(self, request: Any, visit: _Visit) -> None:
        try:
            segments = self._paths.canonical(request.postpath)
            if not self._paths.is_open(segments):
                authorization = http.header(request, "authorization")
                visit.who = await self._gate.admit(authorization, visit.host)
                http.set_account(request, visit.who)
                trust_peer(request)
                check_origin(request)
            request.postpath = segments or [b""]
            self._routes.render(request)
        except Refused as refused:
            _finish(request, refused)
        except HTTPException:
            _finish(request, Refused("badRequest", "the Host header is no host name"))

    def _unexpected(self, failure: Failure, request: Any, visit: _Visit) -> None:
        if visit.over:
            return  # the client is gone; what it waited for was cancelled
        self.log.failure("API trace {id}: unexpected error", failure, id=visit.number)
        _finish(request, Refused("internalError", "an unexpected error", status=500))

    def _log(self, result: object, request: Any, visit: _Visit) -> None:
        visit.over = True
        path = "/" + b"/".join(request.prepath + request.postpath).decode("utf-8", "replace")
        if path in QUIET and request.code == 200:
            return
        self.log.info(
            'API trace {request}: {method} for "{path}" (from {peer}, by {who}): {status}'
            " in {seconds:.3f} s",
            request=visit.number,
            method=printable(request.method.decode("ascii", "replace"))[:20],
            path=printable(path)[:200],
            peer=visit.host,
            who=visit.who,
            status=request.code,
            seconds=self._clock.seconds() - visit.began,
        )

    def _log_left(self, failure: Failure, request: Any, visit: _Visit) -> None:
        visit.over = True
        self.log.info("API trace {request}: the client left early", request=visit.number)


@define
class _Visit:
    number: int
    began: float
    host: str
    who: str = "-"
    over: bool = False


def host_of(request: IRequest) -> str:
    """Where a request comes from; C{local} for a UNIX socket."""
    return str(getattr(request.getClientAddress(), "host", None) or "local")


def check_origin(request: IRequest) -> None:
    """
    A page of another site may send a form here, and the browser adds the
    log-in: such a request changes nothing.

    @raise Refused: with status 403.
    """
    if request.method in (b"GET", b"HEAD"):
        return
    origin, host = http.header(request, "origin"), http.header(request, "host")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower()
    if foreign or http.header(request, "sec-fetch-site") in ("cross-site", "same-site"):
        raise Refused("crossSite", "a page of another site sent this request", status=403)


def _finish(request: Any, refused: Refused) -> None:
    request.write(http.refuse(request, refused))
    request.finish()
