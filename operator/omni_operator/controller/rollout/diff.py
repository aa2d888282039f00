"""Whether a live object still says what was applied.

Every field of the intent is there with an equal value.

Fields that others or the API server added do not count, except in selectors. Lists of named things
are matched by name, since webhooks may add entries; other lists must be equal in length and order.
In a RayCluster others decide too where pods go: Kueue writes node selectors and tolerations into
its templates when it admits it, and setting ours again would wipe theirs, since the list of worker
groups is one field to server-side apply.
"""

from __future__ import annotations

from typing import Any

from omni_operator.kube.kinds import RAY_CLUSTER
from omni_operator.topology.quantity import same

# The API server merges nothing into these, and one entry too many changes what they select.
_EXACT = frozenset({"selector", "podSelector", "nodeSelector"})
_EXACT_IN_RAY_CLUSTER = _EXACT - {"nodeSelector"}
_LIST_KEYS = ("name", "type", "containerPort", "port", "mountPath", "topologyKey", "uid")


def covers(live: Any, intent: Any) -> bool:
    """Whether `live` has everything of `intent`."""
    return first_difference(live, intent) is None


def first_difference(live: Any, intent: Any) -> str | None:
    """Path of the first field that differs, for events; None when there is none."""
    kind = intent.get("kind") if isinstance(intent, dict) else None
    if isinstance(intent, dict):
        # What an object is was asked for by its path; entries of a list lack it, unlike events of a
        # watch.
        intent = {key: value for key, value in intent.items() if key not in {"apiVersion", "kind"}}
    return _difference(live, intent, "", _EXACT_IN_RAY_CLUSTER if kind == RAY_CLUSTER.kind else _EXACT)


def _difference(live: Any, intent: Any, path: str, exact: frozenset[str]) -> str | None:
    if isinstance(intent, dict):
        if not isinstance(live, dict):
            return None if not intent and live is None else path
        for key, value in intent.items():
            where = f"{path}.{key}" if path else key
            if key not in live:
                if _empty(value):
                    # the API server drops empty maps, lists and strings, and keeps every False that
                    # is rendered
                    continue
                return where
            if key in exact and live[key] != value:
                return where
            if (found := _difference(live[key], value, where, exact)) is not None:
                return found
        return None
    if isinstance(intent, list):
        return _list_difference(live, intent, path, exact)
    if live == intent:
        return None
    if (
        isinstance(live, (str, int))
        and isinstance(intent, (str, int))
        and ".resources." in f"{path}."
        and same(live, intent)
    ):
        return None
    return path


def _list_difference(live: Any, intent: list[Any], path: str, exact: frozenset[str]) -> str | None:
    if not isinstance(live, list):
        return path
    if exact is _EXACT_IN_RAY_CLUSTER and path.endswith(".tolerations"):
        lacks = any(all(_difference(one, ours, path, exact) for one in live) for ours in intent)
        return path if lacks else None
    key = next((k for k in _LIST_KEYS if intent and all(isinstance(i, dict) and k in i for i in intent)), None)
    if key is not None and len({i[key] for i in intent}) == len(intent):
        by_key = {entry.get(key): entry for entry in live if isinstance(entry, dict)}
        for item in intent:
            where = f"{path}[{item[key]}]"
            if item[key] not in by_key:
                return where
            if (found := _difference(by_key[item[key]], item, where, exact)) is not None:
                return found
        return None
    if len(live) != len(intent):
        return path
    for index, (one, other) in enumerate(zip(live, intent, strict=True)):
        if (found := _difference(one, other, f"{path}[{index}]", exact)) is not None:
            return found
    return None


def _empty(value: Any) -> bool:
    return value in ({}, [], "", None)
