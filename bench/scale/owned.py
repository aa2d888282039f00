"""The very object that a manager applied, taken back out of what the API server made of it.

metadata.managedFields names every field of a manager, so nothing needs to be rendered a second time
here, and defaults that the server filled in are not applied as if somebody had wished them.
"""

from __future__ import annotations

import json
from typing import Any

_META = ("name", "namespace")


def applied_by(manager: str, obj: dict[str, Any]) -> dict[str, Any]:
    """`obj` with the fields of `manager` alone.

    Its owner is left out, being gone when this is applied again.
    """
    out: dict[str, Any] = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    for entry in obj["metadata"]["managedFields"]:
        if entry["manager"] == manager and not entry.get("subresource"):
            out |= _owned(obj, entry["fieldsV1"])
    out["metadata"] = {**out.get("metadata", {}), **{key: obj["metadata"][key] for key in _META}}
    out["metadata"].pop("ownerReferences", None)
    return out


def _owned(value: Any, fields: dict[str, Any]) -> Any:
    inner = {key: below for key, below in fields.items() if key != "."}
    if not inner:
        return value
    if isinstance(value, dict):
        return {key[2:]: _owned(value[key[2:]], below) for key, below in inner.items() if key[2:] in value}
    return [_owned(item, below) for item in value if (below := _of_item(item, inner)) is not None]


def _of_item(item: Any, fields: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of one item of a list; None when it is not the manager's."""
    for key, below in fields.items():
        kind, _, text = key.partition(":")
        wanted = json.loads(text)
        if kind == "v" and item == wanted:
            return {}
        if kind == "k" and all(item.get(name) == value for name, value in wanted.items()):
            return below
    return None
