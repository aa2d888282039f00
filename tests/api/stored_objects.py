"""What an operator has stored in a cluster, recorded in a file and put back for a later operator.

    python -m tests.api.stored_objects VERSION     records tests/api/stored/VERSION.yaml

Recorded once for each release of the operator and never changed after that: with it a test shows
that a later operator restarts nothing (test_upgrade.py). A file has the OmniDeployments of _SPECS
when they were Ready, with their status, and of each child the fields that the operator owns.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench.scale.owned import applied_by
from e2e.control_plane import ControlPlane
from tests.api.namespace_under_test import COLLECTIONS, SHM, TCP, NamespaceUnderTest, Object
from tests.api.operator_process import Operator

STORED = Path(__file__).parent / "stored"
# Both formats of the stage configuration, every kind of child, and the memory of a node.
_SPECS: dict[str, Object] = {
    "spread": {**TCP, "replicas": 2},
    "one-node": SHM,
    "headless": {"engine": {"version": "0.30.0", "backend": "Headless"}, **TCP},
    "local": {"engine": {"version": "0.30.0", "backend": "Local"}, **SHM},
}
_NAMESPACE, _UID, _UID_START = "RECORDED-NAMESPACE", "RECORDED-UID", "RECORDED-START"
_FIRST = ("ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "RayCluster", "Deployment")


def record(space: NamespaceUnderTest) -> dict[str, list[Object]]:
    """Brings all OmniDeployments up; returns the objects of each, itself first."""
    for name, spec in _SPECS.items():
        space.create(name, **spec)
    found = {}
    for name in _SPECS:
        omni = space.ready(name)
        space.operator.settle(calm=6)
        omni = space.get(name)
        kept = {key: omni["metadata"][key] for key in ("name", "namespace", "finalizers") if key in omni["metadata"]}
        whole: list[Object] = [
            {**{key: omni[key] for key in ("apiVersion", "kind", "spec", "status")}, "metadata": kept}
        ]
        for kind in _FIRST:
            listed = space.control_plane.get(COLLECTIONS[kind].format(space.namespace))
            for item in listed["items"]:
                if item["metadata"].get("labels", {}).get("omni.vllm.ai/name") == name:
                    child = {**item, "apiVersion": listed["apiVersion"], "kind": kind}
                    whole.append(applied_by("omni-operator", child))
        text = yaml.safe_dump(whole, sort_keys=False, width=120)
        uid = omni["metadata"]["uid"]
        text = text.replace(uid, _UID).replace(uid.partition("-")[0], _UID_START).replace(space.namespace, _NAMESPACE)
        found[name] = yaml.safe_load(text)
    return found


def load(version: str) -> dict[str, list[Object]]:
    """The recorded objects by the name of their OmniDeployment."""
    found: dict[str, list[Object]] = yaml.safe_load((STORED / f"{version}.yaml").read_text())
    return found


def put_back(space: NamespaceUnderTest, objects: list[Object], *, rendered_by: str) -> None:
    """Stores recorded objects in a namespace, as the operator of `rendered_by` left them.

    No operator may run meanwhile.
    """
    control_plane = space.control_plane
    body = _in(space, objects[0], uid="")
    meta, status = body["metadata"], body.pop("status")
    name = meta["name"]
    made = control_plane.ok("POST", space.path() + "?fieldValidation=Strict", {**body, "metadata": {"name": name}})
    uid = made["metadata"]["uid"]
    head = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    if "finalizers" in meta:
        _apply(control_plane, space.path(name), {**head, "metadata": {"name": name, "finalizers": meta["finalizers"]}})
    status = _in(space, {"status": status}, uid=uid)["status"]
    _apply(control_plane, space.path(name) + "/status", {**head, "metadata": {"name": name}, "status": status})
    owner = {**head, "name": name, "uid": uid, "controller": True, "blockOwnerDeletion": True}
    for recorded in objects[1:]:
        child = _in(space, recorded, uid=uid)
        child["metadata"]["ownerReferences"] = [owner]
        path = space.child_path(child["kind"], child["metadata"]["name"])
        if child["kind"] == "ConfigMap":
            child["metadata"]["annotations"]["omni.vllm.ai/rendered-by"] = rendered_by
            control_plane.ok("POST", path.rpartition("/")[0] + "?fieldManager=omni-operator", child)
        else:
            _apply(control_plane, path, child)


def _apply(control_plane: ControlPlane, path: str, obj: Object) -> None:
    control_plane.ok(
        "PATCH", f"{path}?fieldManager=omni-operator&force=true", obj, content="application/apply-patch+yaml"
    )


def _in(space: NamespaceUnderTest, obj: Object, *, uid: str) -> Any:
    text = yaml.safe_dump(obj).replace(_NAMESPACE, space.namespace)
    return yaml.safe_load(text.replace(_UID, uid).replace(_UID_START, uid.partition("-")[0]))


def main() -> None:
    """Records the objects of this operator."""
    version = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        control_plane = ControlPlane(Path(folder) / "control-plane")
        try:
            control_plane.up(controllers=True, nodes=3, gpus=64)
            control_plane.ensure_namespace("stored-objects")
            operator = Operator(control_plane)
            operator.start()
            found = record(
                NamespaceUnderTest(control_plane=control_plane, operator=operator, namespace="stored-objects")
            )
            operator.stop()
        finally:
            control_plane.down()
    STORED.mkdir(exist_ok=True)
    text = yaml.safe_dump(found, sort_keys=False, width=120)
    (STORED / f"{version}.yaml").write_text(f"# Recorded by `python -m tests.api.stored_objects {version}`.\n{text}")


if __name__ == "__main__":
    main()
