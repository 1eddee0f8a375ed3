"""
An operation of the API: its address, its parameters, and what runs it.

The routes and the OpenAPI document are made from the same list of operations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import field, frozen

from cms.admin.interfaces import Selection
from cms.admin.replies import Reply
from cms.web.forms import Parameter

MOST_LIMIT = 200

SELECTION = (
    Parameter("limit", "How many to list at the most.", "integer", least=1, most=MOST_LIMIT),
    Parameter("offset", "How many to pass over.", "integer", most=1_000_000_000),
    Parameter("filter", "Only those that hold this text.", most=300),
)


@frozen
class Call:
    """
    One request for an operation, its parameters checked.

    @ivar ids: From the path.
    @ivar wants_json: The client accepts JSON rather than XML.
    """

    ids: Mapping[str, str] = field(factory=dict)
    query: Mapping[str, str] = field(factory=dict)
    form: Mapping[str, str] = field(factory=dict)
    wants_json: bool = False


@frozen
class Operation:
    """
    One method of one path.

    @ivar path: With its parameters in braces, such as C{/api/v1/users/{id}}.
    @ivar name: Its C{operationId}.
    @ivar answers: The schema of the JSON answer; C{None} for an empty body.
    @ivar raw: The content type of an answer that is neither XML nor JSON.
    @ivar reasons: The reasons for refusals, besides those of its parameters.
    @ivar open: It needs no log-in.
    @ivar statuses: Further statuses, and what each means.
    """

    method: str
    path: str
    name: str
    summary: str
    run: Callable[[Call], Reply | Awaitable[Reply]]
    query: tuple[Parameter, ...] = ()
    form: tuple[Parameter, ...] = ()
    answers: Mapping[str, Any] | None = None
    raw: str | None = None
    reasons: tuple[str, ...] = ()
    open: bool = False
    statuses: Mapping[int, str] = field(factory=dict)


def selection(query: Mapping[str, str], usual: int = 50) -> Selection:
    """The part of a list that a query asks for."""
    return Selection(
        offset=int(query.get("offset", "0")),
        limit=int(query.get("limit", str(usual))),
        filter=query.get("filter", ""),
    )
