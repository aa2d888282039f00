"""The children and the status of an OmniDeployment, without what differs between two equal runs.

That is: names of namespaces, uids, times and nodes.
"""

from __future__ import annotations

import json
from typing import Any

from tests.api.namespace_under_test import NamespaceUnderTest

_OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "finalizers")
_SERVICE = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "sessionAffinity")
_OF_OTHERS = ("deployment.kubernetes.io/revision",)


def snapshot(space: NamespaceUnderTest, name: str = "demo") -> dict[str, Any]:
    """Children and the gist of the status, comparable between namespaces."""
    omni = space.get(name)
    children = {f"{kind} {child}": _plain(obj) for (kind, child), obj in space.children(name).items()}
    status = omni.get("status", {})
    found = {
        "children": children,
        "finalizers": omni["metadata"].get("finalizers", []),
        "conditions": {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", ())},
        "folders": sorted(entry["revision"] for entry in status.get("nodeMemory", ())),
        "edges": [edge["connector"] for edge in status.get("plan", {}).get("edges", ())],
        **{key: status.get(key) for key in ("revision", "transport", "replicasSummary", "endpoint")},
    }
    uid = omni["metadata"]["uid"]
    text = json.dumps(found).replace(uid, "UID").replace(uid.split("-")[0], "UID0")
    return json.loads(text.replace(f".{space.namespace}.svc", ".NAMESPACE.svc"))


def _plain(obj: dict[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in obj.items() if key not in {"status", "metadata"}}
    out["metadata"] = {
        key: value for key, value in obj["metadata"].items() if key not in (*_OF_THE_SERVER, "namespace")
    }
    notes = {key: value for key, value in obj["metadata"].get("annotations", {}).items() if key not in _OF_OTHERS}
    out["metadata"].pop("annotations", None)
    if notes:
        out["metadata"]["annotations"] = notes
    if "clusterIP" in out.get("spec", {}):
        headless = out["spec"]["clusterIP"] == "None"
        out["spec"] = {key: value for key, value in out["spec"].items() if key not in _SERVICE} | {"headless": headless}
    return out


def difference(one: Any, other: Any, path: str = "") -> list[str]:
    """Paths with both values, for a message a person can read."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [line for key in keys for line in difference(one.get(key), other.get(key), f"{path}.{key}")]
    return [] if one == other else [f"{path}: {json.dumps(one)[:300]} != {json.dumps(other)[:300]}"]
