"""The operations as routes: authentication, and reading of parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Protocol

from twisted.web.iweb import IRequest

from cms.admin.operations import Call, Operation
from cms.admin.replies import XML, failure_xml, refusal, to_raw
from cms.signalflow import StepError
from cms.state.database import StoreUnusable
from cms.web import messages
from cms.web.application import Application
from cms.web.forms import read_form, read_pairs
from cms.web.messages import Raw
from cms.web.refusal import Refused


class Gate(Protocol):
    """Authenticates requests."""

    async def admit(self, authorization: str | None, host: str) -> str:
        """
        @param authorization: The header, if there is one.
        @param host: Where the request comes from.
        @return: The name of the account.
        @raise Refused: with status 401, 429 or 503.
        """
        ...


class OpenGate:
    """The gate of the socket, which only the owner of the state directory can reach."""

    async def admit(self, authorization: str | None, host: str) -> str:
        """See L{Gate.admit}: every request is the owner's."""
        return "owner"


class ApiApplication(Application):
    """
    An application with these operations.  Further routes may be added to it;
    they are behind the same log-in.
    """

    label = "API trace"
    quiet = ("/healthz", "/metrics")
    too_long = Raw(failure_xml("bodyTooLong"), XML)
    not_found = "GET /api/v1/openapi.json lists what there is."

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__()
        self._paths = Paths(operations)
        for operation in operations:
            self._add(operation)

    def admission(self, gate: Gate) -> Callable[[IRequest], Awaitable[None]]:
        """Authentication by this gate, for the root of a listener."""

        async def admit(request: Any) -> None:
            segments = self._paths.canonical(request.postpath)
            if not self._paths.is_open(segments):
                authorization = messages.header(request, "authorization")
                who = await gate.admit(authorization, messages.host_of(request))
                messages.set_account(request, who)
                messages.trust_peer(request)
                messages.check_origin(request)
            request.postpath = segments or [b""]

        return admit

    def form(self, request: IRequest, refused: Refused) -> Raw:
        """See L{Application.form}: XML or JSON, as the client asks."""
        return refusal(refused, as_json=_wants_json(request))

    def explain(self, request: IRequest, problem: Exception) -> Refused | None:
        """See L{Application.explain}: for errors of the roles that have a cause and a cure."""
        fault = problem.fault if isinstance(problem, StoreUnusable) else problem
        if not isinstance(fault, StepError):
            return None
        self.log.error(
            "API trace {id}: {cause} Cure: {cure}",
            id=messages.request_id(request),
            **fault.fields,
        )
        return Refused("notStored", fault.cause, fault.cure, status=500)

    def _add(self, operation: Operation) -> None:
        path = operation.path.replace("{", "<").replace("}", ">")

        async def run(request: IRequest, **ids: str) -> bytes:
            as_json = _wants_json(request)
            call = Call(
                ids=ids,
                query=read_pairs(messages.query_of(request), operation.query),
                form=_form(request, operation),
                wants_json=as_json,
            )
            reply = operation.run(call)
            replied = await reply if isawaitable(reply) else reply
            return messages.answer(request, to_raw(replied, as_json=as_json))

        self.routes.route(path, methods=[operation.method], endpoint=operation.name)(run)


def _wants_json(request: IRequest) -> bool:
    return messages.wants_json(messages.header(request, "accept"))


def _form(request: IRequest, operation: Operation) -> dict[str, str]:
    if operation.method in ("GET", "HEAD"):
        return {}  # ignore what existing API clients send along
    body = request.content.read()
    return read_form(messages.header(request, "content-type"), body, operation.form)


class Paths:
    """Turns paths as clients write them into those of the operations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        paths = {operation.path for operation in operations}
        # Fixed words go before parameters.
        self._known = [path.strip("/").split("/") for path in sorted(paths, key=_rank)]
        self._open = {operation.path.strip("/") for operation in operations if operation.open}

    def canonical(self, written: Sequence[bytes]) -> list[bytes]:
        """
        The segments of a path as in the operations.  Case does not matter, nor do empty
        segments: existing API clients write C{//api/v1/...}.

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
