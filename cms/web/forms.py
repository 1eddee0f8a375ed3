"""The parameters of a request: a form in its body, or a query in its address."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from attrs import evolve, frozen

from cms.web.refusal import Refused, wrong

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 32
_LINE_ENDS = str.maketrans("", "", "\r\n")


@frozen
class Parameter:
    """
    One parameter that a request may have.

    @ivar kind: C{string}, C{integer} or C{boolean}.
    @ivar least: Of an integer; for a string the least number of characters.
    @ivar most: Likewise.
    @ivar choices: The allowed strings, if they are limited.
    @ivar secret: Whether it must not be shown again, nor logged.
    @ivar lines: Whether a string may have several lines.
    """

    name: str
    about: str
    kind: str = "string"
    required: bool = False
    secret: bool = False
    least: int = 0
    most: int = 1_023
    choices: tuple[str, ...] = ()
    lines: bool = False

    @property
    def optional(self) -> Parameter:
        """The same, which may be left out."""
        return evolve(self, required=False)

    def check(self, value: str) -> str:
        """
        The value, if it is valid.

        @raise Refused: it is not.
        """
        if self.choices and value not in self.choices:
            problem = f"is none of {', '.join(self.choices)}"
            raise self._wrong(problem, "Give one of them, or leave it out.")
        if self.kind == "boolean":
            if value.lower() not in ("true", "false"):
                raise self._wrong("is neither true nor false", "Say which.")
            return value.lower()
        if self.kind == "integer":
            self._check_integer(value)
        elif not self.least <= len(value) <= self.most:
            problem = f"has {len(value)} characters"
            raise self._wrong(problem, f"Give {self.least} to {self.most}.")
        elif not self._is_shown(value):
            problem = "holds characters that cannot be printed"
            raise self._wrong(problem, "Write it in letters, digits and signs.")
        return value

    def _is_shown(self, value: str) -> bool:
        return (value.translate(_LINE_ENDS) if self.lines else value).isprintable()

    def _check_integer(self, value: str) -> None:
        digits = value.isascii() and value.isdigit() and len(value) <= 12
        if not digits or not self.least <= int(value) <= self.most:
            problem = f"is no whole number from {self.least} to {self.most}"
            raise self._wrong(problem, "Give one.")

    def _wrong(self, problem: str, cure: str) -> Refused:
        return wrong(self.name, problem, cure, named=" ")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        if self.kind == "boolean":
            return {"type": "boolean"}
        if self.kind == "integer":
            return {"type": "integer", "minimum": self.least, "maximum": self.most}
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        schema: dict[str, Any] = {"type": "string", "maxLength": self.most}
        if self.least:
            schema["minLength"] = self.least
        if self.secret:
            schema.update(format="password", writeOnly=True)
        return schema


def read_form(
    content_type: str | None, body: bytes, known: tuple[Parameter, ...]
) -> dict[str, str]:
    """
    The parameters in the body of a request.

    @raise Refused: it is no form, or a parameter is unknown, repeated, missing
        or out of bounds.
    """
    kind = media_type(content_type)
    if body.strip() and kind != FORM:
        cause = f"the body is {kind[:100] or 'of no type'}"
        raise Refused("formExpected", cause, f"Send {FORM}.", status=415)
    return read_pairs(body, known)


def read_pairs(encoded: bytes, known: tuple[Parameter, ...]) -> dict[str, str]:
    """
    Parameters in their urlencoded form.

    Case does not matter in names.  Characters that clients leave unencoded (spaces, C{@})
    are accepted.

    @raise Refused: as L{read_form}.
    """
    names = {parameter.name.lower(): parameter for parameter in known}
    found: dict[str, str] = {}
    for name, value in pairs(encoded):
        parameter = names.get(name.lower())
        if parameter is None:
            shown = name[:60] if name.isprintable() else "?"
            cure = f"Known here: {', '.join(p.name for p in known) or 'none'}."
            raise Refused("unknownParameter", f'there is no parameter "{shown}"', cure)
        if parameter.name in found:
            cause = f"{parameter.name} is given twice"
            raise Refused(
                f"{parameter.name}Repeated", cause, "Give it once.", parameter=parameter.name
            )
        found[parameter.name] = parameter.check(value)
    for parameter in known:
        if parameter.required and parameter.name not in found:
            cause = f"{parameter.name} is missing"
            raise Refused(f"{parameter.name}Missing", cause, "Give it.", parameter=parameter.name)
    return found


def pairs(encoded: bytes) -> list[tuple[str, str]]:
    """
    Names and values as they were sent.

    @raise Refused: they are not UTF-8, or too many.
    """
    try:
        return parse_qsl(
            encoded.decode("utf-8").strip("\r\n"),
            keep_blank_values=True,
            max_num_fields=MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        cause = f"the parameters are not UTF-8, or more than {MOST_FIELDS}"
        raise Refused("malformedForm", cause, f"Send {FORM} in UTF-8.") from None


def media_type(content_type: str | None) -> str:
    """Of a C{Content-Type} header, without its parameters; a body without one is a form."""
    return (content_type or FORM).partition(";")[0].strip().lower()
