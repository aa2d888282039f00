"""Validation errors of a spec in the CRD's own words: the field, the value, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from omni_operator.api.schema import model_schema
from omni_operator.api.spec import OmniDeploymentSpec

_LONGEST = 80


def sentences(error: ValidationError) -> Iterator[str]:
    """A line per fault."""
    schema = _schema()
    seen: set[str] = set()
    for fault in error.errors(include_url=False):
        where = _fields(schema, fault)
        if (path := _path(where)) not in seen:  # there is one for each form that a field may have
            seen.add(path)
            yield f"{path}: {_what(fault, _at(schema, where), known=_at(schema, where[:-1]))}"


@cache
def _schema() -> Mapping[str, Any]:
    return model_schema(OmniDeploymentSpec)


def _fields(schema: Mapping[str, Any], fault: ErrorDetails) -> list[int | str]:
    """Where a fault is; pydantic also names the forms of a union, which are no fields."""
    where: list[int | str] = []
    for part in fault["loc"]:
        parent = _at(schema, where)
        if isinstance(part, int) or part in parent.get("properties", {}) or "additionalProperties" in parent:
            where.append(part)
    return [*where, fault["loc"][-1]] if fault["type"] == "extra_forbidden" else where


def _at(schema: Mapping[str, Any], where: Sequence[int | str]) -> Mapping[str, Any]:
    """The schema of a field; empty where it has none."""
    here: Mapping[str, Any] = schema
    for part in where:
        if isinstance(part, int):
            here = here.get("items", {})
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        if not isinstance(here, Mapping):
            return {}
    return here


def _path(where: Sequence[int | str]) -> str:
    out = "spec"
    for part in where:
        out += f"[{part}]" if isinstance(part, int) else f".{part}"
    return out


def _what(fault: ErrorDetails, field: Mapping[str, Any], *, known: Mapping[str, Any]) -> str:
    given = "" if fault["type"] == "missing" else f" (it is {_short(fault['input'])})"
    if fault["type"] == "extra_forbidden":
        name, names = str(fault["loc"][-1]), list(known.get("properties", {}))
        near = difflib.get_close_matches(name, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
        return f"there is no such field; {remedy}"
    if fault["type"] == "missing":
        return f"is needed: {field.get('description', 'give it')}"
    if choices := field.get("enum"):
        return f"must be one of {', '.join(map(str, choices))}{given}; use one of these"
    rules = field.get("x-kubernetes-validations") or ()
    if rules and fault["type"] in {"string_pattern_mismatch", "value_error"}:
        return f"{rules[0]['message']}{given}"
    if fault["type"] == "string_type" and isinstance(fault["input"], int | float):
        return f"must be text{given}; put it in quotes"
    return f"{fault['msg'].removeprefix('Value error, ')}{given}; correct it"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
