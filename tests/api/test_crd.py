"""The API server accepts the CRD, and every object that the operator may apply."""

from __future__ import annotations

import ast
import copy
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries
from e2e.control_plane import ROOT, ControlPlane
from tests.api.namespace_under_test import Object, minimal

_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/omnideployments.omni.vllm.ai"
_OMNIS = "/apis/omni.vllm.ai/v1alpha1/namespaces/crd/omnideployments"
_STRICT = "?fieldValidation=Strict"
GOLDEN = sorted((ROOT / "tests/golden").glob("*/*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _namespaces(control_plane: ControlPlane) -> None:
    control_plane.ensure_namespace("crd")
    control_plane.ensure_namespace("shop")
    control_plane.ensure_namespace("shop-restricted", **{"pod-security.kubernetes.io__enforce": "restricted"})


def _schema(control_plane: ControlPlane) -> Object:
    return control_plane.get(_CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _nodes(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every schema inside a schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from _nodes(schema[key], f"{path}{mark}")


def test_the_crd_is_accepted_without_reservation(control_plane: ControlPlane) -> None:
    conditions = {c["type"]: c["status"] for c in control_plane.get(_CRD)["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


def test_every_field_is_described_where_kubectl_explain_reads(control_plane: ControlPlane) -> None:
    spec = control_plane.get("/openapi/v3/apis/omni.vllm.ai/v1alpha1")
    kind = next(s for name, s in spec["components"]["schemas"].items() if name.endswith(".OmniDeployment"))
    bare = [
        f"{path}.{name}"
        for path, schema in _nodes(kind)
        for name, child in schema.get("properties", {}).items()
        if path.startswith((".spec", ".status")) and not child.get("description")
    ]
    assert not bare
    assert kind["properties"]["spec"]["description"]


def test_kubectl_explains_a_field(control_plane: ControlPlane) -> None:
    told = " ".join(_kubectl(control_plane, "explain", "omni.spec.transport.rdma").split())
    assert "ENUM:" in told
    assert "Require" in told
    assert "falls back to TCP" in told


def test_all_rules_of_the_models_are_in_the_crd(control_plane: ControlPlane) -> None:
    """A rule on a pydantic model or type gets lost easily (a second Field hides the first)."""
    found = {
        (path, rule["message"])
        for path, s in _nodes(_schema(control_plane))
        for rule in s.get("x-kubernetes-validations", ())
    }
    paths = {path for path, _ in found}
    assert paths >= {
        "",
        ".spec.model.weights",
        ".spec.accelerator",
        ".spec.ray",
        ".spec.ray.headStartParams",
        ".spec.ray.workerStartParams",
        ".spec.ray.clusterRef.name",
        ".spec.transport",
        ".spec.transport.edges[]",
        ".spec.engine.extraArgs",
        ".spec.engine.env",
        ".spec.engine.env[]",
        ".spec.placement.labels",
        ".spec.placement.tolerations[]",
        ".spec.serving.resources",
        ".spec.serving.resources.requests{}",
        ".spec.stages[].resources.limits",
        ".spec.stages[].nodeSelector",
    }
    missing = [text for text in _messages_in_source() if not any(text in message for _, message in found)]
    assert not missing
    assert len(_messages_in_source()) >= 45


def _messages_in_source() -> list[str]:
    """The longest literal of each message of rule(...) and in_words(...) in the API package."""
    out = []
    for source in sorted((ROOT / "operator/omni_operator/api").glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"rule", "in_words"}:
                parts = [
                    c.value for c in ast.walk(node.args[1]) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                ]
                if parts:  # in_words itself passes its argument on
                    out.append(max(parts, key=len))
    return out


def test_the_least_is_accepted_and_filled_with_defaults(control_plane: ControlPlane) -> None:
    made = control_plane.ok("POST", _OMNIS + _STRICT + "&dryRun=All", minimal("least", "crd"))["spec"]
    assert made["replicas"] == 1
    assert made["suspend"] is False
    assert made["engine"]["backend"] == "Auto"
    assert made["engine"]["imagePullPolicy"] == "IfNotPresent"
    assert made["accelerator"] == {"type": "nvidia"}
    assert made["placement"]["strategy"] == "Auto"
    assert made["transport"] == {"rdma": "Prefer", "sharedMemory": "Allow", "edges": []}
    assert (made["serving"]["port"], made["ray"]["port"]) == (8091, 6399)
    assert made["serving"]["service"]["type"] == "ClusterIP"
    assert made["rollout"] == {"strategy": "Recreate", "progressDeadlineSeconds": 1800}


def test_unknown_fields_are_refused_or_dropped(control_plane: ControlPlane) -> None:
    obj = minimal("typo", "crd")
    obj["spec"]["sevring"] = {"port": 8080}
    status, answer = control_plane.call("POST", _OMNIS + _STRICT + "&dryRun=All", obj)
    assert status == 400
    assert 'unknown field "spec.sevring"' in answer["message"]
    kept = control_plane.ok("POST", _OMNIS + "?fieldValidation=Warn&dryRun=All", obj)
    assert "sevring" not in kept["spec"]


def test_what_the_spec_passes_on_is_kept_as_it_is(control_plane: ControlPlane) -> None:
    obj = minimal("opaque", "crd")
    affinity = {"podAntiAffinity": {"x": [{"y": 1}]}}
    obj["spec"]["placement"] = {"affinity": affinity}
    obj["spec"]["stages"] = [{"name": "thinker", "engineArgs": {"a": {"b": [1, 2.5, None, "c"]}}}]
    made = control_plane.ok("POST", _OMNIS + _STRICT + "&dryRun=All", obj)["spec"]
    assert made["placement"]["affinity"] == affinity
    assert made["stages"][0]["engineArgs"] == {"a": {"b": [1, 2.5, None, "c"]}}


@pytest.fixture
def live(control_plane: ControlPlane) -> Iterator[Object]:
    """An object whose status is the test's: an operator of earlier tests holds still meanwhile."""
    process = control_plane.processes.get("operator")
    running = process is not None and process.poll() is None
    if process is not None and running:
        process.send_signal(signal.SIGSTOP)
    try:
        yield control_plane.ok("POST", _OMNIS + _STRICT, minimal("live", "crd"))
        control_plane.ok("DELETE", f"{_OMNIS}/live")
    finally:
        if process is not None and running:
            process.send_signal(signal.SIGCONT)


def test_kubectl_scales_and_waits_and_lists(control_plane: ControlPlane, live: Object) -> None:
    assert "scaled" in _kubectl(control_plane, "-n", "crd", "scale", "omni/live", "--replicas=3")
    assert control_plane.get(f"{_OMNIS}/live")["spec"]["replicas"] == 3
    told = {
        "conditions": [_ready()],
        "backend": "Ray",
        "transport": "shm",
        "replicasSummary": "1/1",
        "revision": "0c0ffee0",
    }
    told |= {"endpoint": "http://live.crd.svc:8091", "replicas": 1, "selector": "omni.vllm.ai/name=live"}
    patch = "application/merge-patch+json"
    control_plane.ok("PATCH", f"{_OMNIS}/live/status", {"status": told}, content=patch)
    table = control_plane.ok("GET", f"{_OMNIS}/live", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    cells = dict(zip([c["name"] for c in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True))
    age = cells.pop("Age")
    assert age
    assert cells == {
        "Name": "live",
        "Ready": "True",
        "Reason": "Serving",
        "Backend": "Ray",
        "Transport": "shm",
        "Replicas": "1/1",
        "Endpoint": "http://live.crd.svc:8091",
        "Model": "Qwen/Qwen2.5-Omni-7B",
        "Release": "0.16.0",
        "Revision": "0c0ffee0",
    }
    wide = {c["name"] for c in table["columnDefinitions"] if c["priority"]}
    assert {"Model", "Release", "Revision"} <= wide
    assert control_plane.get(f"{_OMNIS}/live/scale")["status"] == {"replicas": 1, "selector": "omni.vllm.ai/name=live"}
    assert "live" in _kubectl(control_plane, "-n", "crd", "get", "all")


def _ready() -> Object:
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "1 of 1 replicas serve",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


def test_a_status_cannot_be_nonsense(control_plane: ControlPlane, live: Object) -> None:
    bad = {**_ready(), "status": "Maybe"}
    patch = "application/merge-patch+json"
    status, answer = control_plane.call(
        "PATCH", f"{_OMNIS}/live/status", {"status": {"conditions": [bad]}}, content=patch
    )
    assert status == 422
    assert "status.conditions[0].status" in answer["message"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_child_is_accepted_by_strict_apply(control_plane: ControlPlane, path: Any) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        control_plane.apply(obj, manager="omni-operator", dry_run=True)
        namespace = "shop-restricted" if path.parent.name == "restricted" else "shop"
        for number, template in enumerate(_templates(obj)):
            _admit(control_plane, template, f"pod-{number}", namespace)


def _templates(obj: Object) -> list[Object]:
    """The pod templates of an object, to try as Pods.

    The schema of a RayCluster validates little of its templates.
    """
    spec = obj.get("spec", {})
    if obj["kind"] == "Deployment":
        return [spec["template"]]
    if obj["kind"] == "RayCluster":
        return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    return []


def _admit(control_plane: ControlPlane, template: Object, name: str, namespace: str) -> None:
    pod = copy.deepcopy({"apiVersion": "v1", "kind": "Pod", **template})
    pod["metadata"] |= {"name": name, "namespace": namespace}
    # The control plane has no classes with the names that the golden files use.
    pod["spec"].pop("priorityClassName", None)
    pod["spec"].pop("runtimeClassName", None)
    control_plane.ok("POST", f"/api/v1/namespaces/{namespace}/pods{_STRICT}&dryRun=All", pod)


def _kubectl(control_plane: ControlPlane, *arguments: str) -> str:
    command = [str(binaries.ensure("kubectl")), f"--kubeconfig={control_plane.kubeconfig('admin')}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(control_plane.work)})
    assert done.returncode == 0, done.stderr
    return done.stdout
