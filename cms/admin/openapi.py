"""The OpenAPI document of a daemon, made of the same operations as its routes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import cms
from cms.admin.operations import Operation
from cms.web.forms import FORM, Parameter

_FAILURE = {"$ref": "#/components/schemas/failureDetails"}


def document(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1 for these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": cms.__version__, "license": {"name": "MIT"}},
        "paths": paths,
        "security": [{"basic": []}],
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {"failureDetails": _failure_schema()},
        },
    }


def _failure_schema() -> dict[str, Any]:
    text = {"type": "string"}
    details = {
        "type": "object",
        "properties": {"reason": text, "parameter": text, "cause": text, "cure": text},
        "required": ["reason"],
    }
    return {
        "type": "object",
        "properties": {"failureDetails": details},
        "required": ["failureDetails"],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *(_path_parameter(name) for name in re.findall(r"{(\w+)}", operation.path)),
            *(_query_parameter(parameter) for parameter in operation.query),
        ],
        "responses": _responses(operation),
    }
    if operation.form:
        described["requestBody"] = _body(operation.form)
    if operation.open:
        described["security"] = []
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "required": parameter.required,
        "schema": parameter.schema(),
    }


def _body(form: tuple[Parameter, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            parameter.name: {"description": parameter.about, **parameter.schema()}
            for parameter in form
        },
        "additionalProperties": False,
    }
    required = [parameter.name for parameter in form if parameter.required]
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {FORM: {"schema": schema}}}


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _success(operation)}
    refusals = {
        400: "Refused; the reason is one of: " + ", ".join(_reasons(operation)) + ".",
        404: "There is no such path.",
        405: "The object has no such method.",
        413: "The body is too long.",
        429: "Too many log-ins from this address have failed.",
        500: "An unexpected error; the log has it.",
        503: "Too much is asked at the same time.",
        **operation.statuses,
    }
    if not operation.open:
        refusals[401] = "A log-in is needed."
    if operation.method != "GET":
        refusals[403] = "A page of another site sent the request."
        refusals[415] = f"The body is not {FORM}."
    for status, meaning in sorted(refusals.items()):
        responses[str(status)] = {"description": meaning, "content": _failure_content(operation)}
    return responses


def _failure_content(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _FAILURE}, "text/xml": {}}
    if operation.raw is not None:
        content.setdefault(operation.raw, {})
        content["application/json"] = {}
    return content


def _reasons(operation: Operation) -> list[str]:
    reasons = [*operation.reasons, "unknownParameter", "malformedForm"]
    for parameter in (*operation.query, *operation.form):
        reasons += [f"{parameter.name}Invalid", f"{parameter.name}Repeated"]
        if parameter.required:
            reasons.append(f"{parameter.name}Missing")
    return reasons


def _success(operation: Operation) -> dict[str, Any]:
    if operation.raw is not None:
        content: Mapping[str, Any] = {operation.raw: {}, "application/json": {}}
        return {"description": "As asked for.", "content": content}
    if operation.answers is None:
        empty = {
            "description": "Done; the body is empty.",
            "content": {"text/xml": {}},
        }
        if operation.method == "POST":
            empty["headers"] = {"Location": {"schema": {"type": "string"}}}
        return empty
    return {
        "description": "As asked for.",
        "content": {
            "application/json": {"schema": dict(operation.answers)},
            "text/xml": {},
        },
    }
