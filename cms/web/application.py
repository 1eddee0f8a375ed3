"""An application: routes, and the form of errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cms.process.logs import Logger
from cms.web.messages import Raw, answer, request_id
from cms.web.refusal import Refused


class Application(ABC):
    """
    Routes, with an answer for every exception.

    @cvar label: The beginning of each log line about a request; the request's id follows.
    @cvar quiet: Paths that are requested every few seconds, and logged only on errors.
    @cvar private: What paths begin with whose rest is a secret, in lower case: no log has it.
    @cvar too_long: The answer to a body that is longer than L{cms.web.site.MOST_BODY}.
    @cvar not_found: The cure for an address that does not exist.
    @ivar routes: More may be added before the start.
    """

    log = Logger()
    label: ClassVar[str]
    quiet: ClassVar[Collection[str]] = ()
    private: ClassVar[Collection[str]] = ()
    too_long: ClassVar[Raw]
    not_found: ClassVar[str] = ""

    def __init__(self) -> None:
        self.routes = Klein()
        self.routes.handle_errors(Exception)(self._failed)

    @abstractmethod
    def form(self, request: IRequest, refused: Refused) -> Raw:
        """A refusal in the form that this application's clients know."""

    def explain(self, request: IRequest, problem: Exception) -> Refused | None:
        """Another exception of the routes as a refusal; C{None} if it is unexpected."""
        return None

    def refuse(self, request: IRequest, refused: Refused) -> bytes:
        """Set status and headers for a refusal, and give its body."""
        return answer(request, self.form(request, refused))

    def unexpected(self, request: IRequest, failure: Failure) -> bytes:
        """The answer to an unexpected exception: it is logged, and the client gets no details."""
        self.log.failure(f"{self.label} {{id}}: unexpected error", failure, id=request_id(request))
        cause = "an unexpected error of this program"
        return self.refuse(request, Refused("internalError", cause, status=500))

    def _failed(self, request: IRequest, failure: Failure) -> bytes:
        problem: Any = failure.value
        if isinstance(problem, HTTPException):  # no route fits
            refused: Refused | None = self._unrouted(problem)
        elif isinstance(problem, Refused):
            refused = problem
        else:
            refused = self.explain(request, problem)
        if refused is None:
            return self.unexpected(request, failure)
        return self.refuse(request, refused)

    def _unrouted(self, error: HTTPException) -> Refused:
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
            return Refused("notFound", "there is no such object", self.not_found, status=404)
        return Refused("badRequest", error.name, status=400)
