"""Defaults of the spec as they were when each field was introduced.

A revision's digest leaves them out. A default may change in a later operator; a running pipeline
must not restart for that. So the digest does not compare with the defaults of today but with
`frozen_defaults.json`, in which a field stays as it was first written. `hack/generate.py` adds
fields that are new and changes none that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from omni_operator.api.schema import model_schema
from omni_operator.api.spec import OmniDeploymentSpec

_FILE = "frozen_defaults.json"


@cache
def frozen_defaults() -> Mapping[str, Any]:
    """Defaults by path; `[]` is any entry of a list, as in placement.tolerations[].operator."""
    found: dict[str, Any] = json.loads(resources.files("omni_operator.api").joinpath(_FILE).read_text())
    return found


def defaults_now() -> dict[str, Any]:
    """The same of the models as they are now."""
    return dict(_defaults(_schema(), ""))


def _defaults(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, part in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        if "default" in part and not isinstance(part["default"], (dict, list)):
            yield where, part["default"]
        yield from _defaults(part, where)
        yield from _defaults(part.get("items", {}), f"{where}[]")


def without_defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a spec without its defaults.

    A field that equals its frozen default is left out, and an object that is empty then. Entries of
    lists, and objects that the schema leaves open (engineArgs, affinity), are kept as they are.
    """
    found: dict[str, Any] = _without(spec, _schema(), "")
    return found


@cache
def _schema() -> Mapping[str, Any]:
    return model_schema(OmniDeploymentSpec)


def _without(value: Any, schema: Mapping[str, Any], path: str) -> Any:
    if isinstance(value, dict) and "properties" in schema:
        kept = {}
        for name, part in value.items():
            where = f"{path}.{name}" if path else name
            left = _without(part, schema["properties"].get(name, {}), where)
            if left in ({}, [], None) or (where in frozen_defaults() and left == frozen_defaults()[where]):
                continue
            kept[name] = left
        return kept
    if isinstance(value, list):
        return [_without(entry, schema.get("items", {}), f"{path}[]") for entry in value]
    return value
