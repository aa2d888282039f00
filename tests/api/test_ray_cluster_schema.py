"""Our RayClusters against KubeRay's own CRD: KubeRay would drop an unknown field silently.

It needs no server, but the CRDs, which are built here for the servers of the other tests.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema.protocols import Validator
from openapi_schema_validator import OAS30Validator

from e2e.cluster import binaries
from tests.unit.golden_cases import CASES, Case

CLUSTERS = {name: case for name, case in CASES.items() if case.revision().plan.cluster_ref is None}


def strict(schema: Any) -> Any:
    """The schema with unknown fields as errors, and without the extensions of Kubernetes."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {}
    out = {key: strict(value) for key, value in schema.items() if not key.startswith("x-") and key != "default"}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


@pytest.fixture(scope="module")
def validator() -> Validator:
    (built,) = [path for path in binaries.kuberay_crds() if path.name == "ray.io_rayclusters.yaml"]
    definition = yaml.load(built.read_text(), Loader=yaml.CSafeLoader)
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    made: Validator = OAS30Validator(schema)
    return made


@pytest.mark.parametrize("case", CLUSTERS.values(), ids=CLUSTERS)
def test_kuberay_knows_every_field(case: Case, validator: Validator) -> None:
    for obj in case.children():
        if obj["kind"] == "RayCluster":
            assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)] == []


@pytest.mark.parametrize(
    "path", [("spec", "rayVerson"), ("spec", "headGroupSpec", "template", "spec", "enableServiceLink")]
)
def test_a_misspelt_field_is_found(path: tuple[str, ...], validator: Validator) -> None:
    (obj,) = [obj for obj in CASES["two-nodes-tcp"].children() if obj["kind"] == "RayCluster"]
    inner = obj
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = True
    assert [error.message for error in validator.iter_errors(obj)] != []
