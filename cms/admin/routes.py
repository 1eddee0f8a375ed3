"""The operations as routes of a Klein application."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cms.admin import http
from cms.admin.forms import read_form, read_pairs
from cms.admin.interfaces import Refused
from cms.admin.operations import Call, Operation
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.state.database import StoreUnusable

log = Logger()


def make_app(operations: Sequence[Operation]) -> Klein:
    """
    An application with these operations.  Further routes may be added to it;
    they are behind the same log-in.
    """
    app = Klein()
    for operation in operations:
        _add(app, operation)

    @app.handle_errors(Refused)
    def refused(request: IRequest, failure: Failure) -> bytes:
        problem: Any = failure.value
        return http.refuse(request, problem)

    @app.handle_errors(HTTPException)
    def unrouted(request: IRequest, failure: Failure) -> bytes:
        problem: Any = failure.value
        return http.refuse(request, _explain(problem))

    @app.handle_errors(StoreUnusable, StepError)
    def not_done(request: IRequest, failure: Failure) -> bytes:
        problem: Any = failure.value
        fault = problem.fault if isinstance(problem, StoreUnusable) else problem
        log.error(
            "API trace {id}: {cause} Cure: {cure}",
            id=http.request_id(request),
            step=int(fault.step),
            fault=fault.fault,
            cause=fault.cause,
            cure=fault.cure,
        )
        return http.refuse(request, Refused("notStored", fault.cause, fault.cure, status=500))

    @app.handle_errors(Exception)
    def unexpected(request: IRequest, failure: Failure) -> bytes:
        log.failure("API trace {id}: unexpected error", failure, id=http.request_id(request))
        cause = "an unexpected error of this program"
        return http.refuse(request, Refused("internalError", cause, status=500))

    return app


def _add(app: Klein, operation: Operation) -> None:
    path = operation.path.replace("{", "<").replace("}", ">")

    async def run(request: IRequest, **ids: str) -> bytes:
        call = Call(
            ids=ids,
            query=read_pairs(request.uri.partition(b"?")[2], operation.query),
            form=_form(request, operation),
            wants_json=http.wants_json(http.header(request, "accept")),
        )
        reply = operation.run(call)
        return http.render(request, await reply if isawaitable(reply) else reply)

    app.route(path, methods=[operation.method], endpoint=operation.name)(run)


def _form(request: IRequest, operation: Operation) -> dict[str, str]:
    if operation.method in ("GET", "HEAD"):
        return {}  # what a client of the field sends along is not looked at
    body = request.content.read()
    return read_form(http.header(request, "content-type"), body, operation.form)


def _explain(error: HTTPException) -> Refused:
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return Refused(
            "methodNotAllowed",
            "this object has no such method",
            f"Use one of {allowed}.",
            status=405,
            headers={"allow": allowed},
        )
    if error.code == 404:
        cure = "GET /api/v1/openapi.json lists what there is."
        return Refused("notFound", "there is no such object", cure, status=404)
    return Refused("badRequest", error.name, status=400)


class Paths:
    """Addresses as clients write them, made into those of the operations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        paths = {operation.path for operation in operations}
        # Fixed words go before parameters.
        self._known = [path.strip("/").split("/") for path in sorted(paths, key=_rank)]
        self._open = {operation.path.strip("/") for operation in operations if operation.open}

    def canonical(self, written: Sequence[bytes]) -> list[bytes]:
        """
        The segments of a path as the operations have them.  Case does not
        matter, nor do empty segments: clients of the field write C{//api/v1/...}.

        @raise Refused: the path is not UTF-8.
        """
        segments = [segment for segment in written if segment]
        try:
            texts = [segment.decode("utf-8") for segment in segments]
        except UnicodeDecodeError:
            raise Refused("notFound", "the path is not UTF-8", status=404) from None
        for known in self._known:
            if len(known) == len(texts) and all(map(_fits, known, texts)):
                pairs = zip(known, segments, strict=True)
                return [s if k.startswith("{") else k.encode() for k, s in pairs]
        return segments

    def is_open(self, segments: Sequence[bytes]) -> bool:
        """Whether this address needs no log-in."""
        return b"/".join(segments).decode("utf-8", "replace") in self._open


def _rank(path: str) -> tuple[bool, str]:
    return "{" in path, path


def _fits(known: str, written: str) -> bool:
    return known.startswith("{") or known.lower() == written.lower()
