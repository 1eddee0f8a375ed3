"""JSON Schema for the answers of the operations."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}


def record(properties: dict[str, Schema], *required: str) -> Schema:
    """An object; those named are always there."""
    return {"type": "object", "properties": properties, "required": list(required)}


def named(name: str, schema: Schema) -> Schema:
    """The document of one object."""
    return record({name: schema}, name)


def listing(name: str, item: str, schema: Schema) -> Schema:
    """The document of a list."""
    inner = record({"total": WHOLE, item: {"type": "array", "items": schema}}, "total", item)
    return record({name: inner}, name)


FAULT = record(
    {
        "fault": TEXT,
        "step": WHOLE,
        "name": TEXT,
        "cause": TEXT,
        "cure": TEXT,
        "mend": TEXT,
        "evidence": {"type": "object"},
    },
    *("fault", "step", "name", "cause", "cure"),
)
STEP = record(
    {
        "step": WHOLE,
        "name": TEXT,
        "began": TIME,
        "result": {"enum": ["running", "passed", "failed", "skipped"]},
        "seconds": {"type": ["number", "null"]},
        "evidence": {"type": "object"},
        "warnings": {"type": "array", "items": TEXT},
        "failure": {"anyOf": [FAULT, {"type": "null"}]},
    },
    *("step", "name", "began", "result"),
)
ATTEMPT = record(
    {
        "id": TEXT,
        "kind": {"enum": ["link", "login"]},
        "began": TIME,
        "reached": WHOLE,
        "failure": FAULT,
        "steps": {"type": "array", "items": STEP},
    },
    *("id", "kind", "began", "reached", "steps"),
)
