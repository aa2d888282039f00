"""Makes the structural CRD from the pydantic models.

`python -m omni_operator.api.schema > crds/...yaml` writes it. Kubernetes accepts only *structural*
schemas (no $ref, no null types, boolean exclusive bounds), which pydantic does not write; this
module closes the gap and adds what only a CRD has: printer columns, subresources, object-level CEL.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from omni_operator.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION, rule
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.api.status import OmniDeploymentStatus

_MAX_NAME = 40  # RayCluster names end at 53 (KubeRay 1.6.2); "-<8 hex>-<replica>" is appended

_NAME_RULES = [
    rule(
        f"size(self.metadata.name) <= {_MAX_NAME}",
        f"metadata.name must have at most {_MAX_NAME} characters, since names of children are made from it; choose a "
        "shorter one",
        field_path=".metadata.name",
    ),
    rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must start with a letter and have only lower-case letters, digits and '-' (it becomes a DNS "
        "label of a Service and of a RayCluster); choose another",
        field_path=".metadata.name",
    ),
]
# Ray runs stages only in 0.14 and 0.16; later releases parse --worker-backend ray and ignore it
# (facts: vllm-omni 0.18.0 on).
_BACKEND_RULES = [
    rule(
        "self.spec.engine.backend != 'Ray' || self.spec.engine.version.matches('^0[.]1[4-7][.]')",
        "engine.backend Ray works with vllm-omni 0.14 and 0.16 only: later releases accept --worker-backend ray and "
        "ignore it; set engine.backend to Auto",
        field_path=".spec.engine.backend",
    ),
    rule(
        "!(self.spec.engine.backend in ['Headless', 'Local']) || !self.spec.engine.version.matches('^0[.]1[0-7][.]')",
        "engine.backend Headless and Local need vllm-omni 0.18 or later; set engine.backend to Auto or Ray "
        "(docs/reference/releases.md lists the releases this operator knows)",
        field_path=".spec.engine.backend",
    ),
    rule(
        "!has(self.spec.model.weights) || self.spec.model.name.startsWith(self.spec.model.weights.mountPath + "
        "(self.spec.model.weights.mountPath.endsWith('/') ? '' : '/'))",
        "model.name must be a path below model.weights.mountPath when model.weights is set, such as "
        "/models/Qwen2.5-Omni-7B; change model.name or remove model.weights",
        field_path=".spec.model.name",
        message_expression="'model.name ' + self.spec.model.name + ' must be a path below model.weights.mountPath ' + "
        "self.spec.model.weights.mountPath + ', such as /models/Qwen2.5-Omni-7B; change model.name, or remove "
        "model.weights to let the engine download the model'",
    ),
    rule(
        "self.spec.serving.port != self.spec.ray.port",
        "serving.port and ray.port must differ; change one of the two",
        field_path=".spec.serving.port",
    ),
]

_COLUMNS = [
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0, "Whether requests are served."),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0, "Why it is ready or not."),
    ("Backend", "string", ".status.backend", 0, "How the stages run."),
    ("Transport", "string", ".status.transport", 0, "How tensors travel between stages."),
    ("Replicas", "string", ".status.replicasSummary", 0, "Ready and wanted replicas of the pipeline."),
    ("Endpoint", "string", ".status.endpoint", 0, "Base URL inside the cluster."),
    ("Age", "date", ".metadata.creationTimestamp", 0, ""),
    ("Model", "string", ".spec.model.name", 1, "The model."),
    ("Release", "string", ".spec.engine.version", 1, "The vllm-omni release."),
    ("Revision", "string", ".status.revision", 1, "The active revision."),
]


class _Structural(GenerateJsonSchema):
    """Optional means absent, never null; defaults are written as JSON."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        out = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory is not None:
            value = factory()  # type: ignore[call-arg]
            out = {
                **out,
                "default": value.model_dump(by_alias=True, mode="json", exclude_none=True)
                if hasattr(value, "model_dump")
                else value,
            }
        return out


def _inline(node: Any, defs: dict[str, Any]) -> Any:
    """Replaces references and drops titles; keys beside a reference (description, default) stay."""
    if isinstance(node, list):
        return [_inline(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    if list(node) and len(node.get("allOf", [])) == 1:
        node = {**node["allOf"][0], **{k: v for k, v in node.items() if k != "allOf"}}
        return _inline(node, defs)
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _inline(item, defs) for name, item in value.items()}
        elif key == "default":
            out[key] = value
        elif key in {"title", "$defs", "propertyNames"} or (key == "additionalProperties" and value is False):
            continue
        else:
            out[key] = _inline(value, defs)
    rules = out.get("x-kubernetes-validations", ())
    if any(f"r'{out.get('pattern')}'" in entry["rule"] for entry in rules):
        del out["pattern"]  # said in words by that rule
    return out


def model_schema(model: Any) -> dict[str, Any]:
    """The structural schema of a pydantic model."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_Structural)
    out: dict[str, Any] = _inline(raw, raw.get("$defs", {}))
    return out


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as a dict."""
    spec, status = model_schema(OmniDeploymentSpec), model_schema(OmniDeploymentStatus)
    columns = []
    for name, kind, path, priority, description in _COLUMNS:
        column = {"name": name, "type": kind, "jsonPath": path, "description": description, "priority": priority}
        columns.append({k: v for k, v in column.items() if v})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/name": "omni-operator"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["omni", "omnid"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": columns,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "OmniDeployment serves an omni-modality model (text, audio, image, video) "
                            "with vllm-omni: its stages on a KubeRay RayCluster, an OpenAI-compatible server, and for "
                            "every edge between stages the connector that works where the stages run.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": f"Always {API_VERSION}."},
                                "kind": {"type": "string", "description": f"Always {KIND}."},
                                "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
                                "spec": spec,
                                "status": status,
                            },
                            "x-kubernetes-validations": _NAME_RULES + _BACKEND_RULES,
                        }
                    },
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Block style without anchors, which kubectl reads but people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml() -> str:
    """The text of the file in crds/."""
    head = "# Generated by `make generate` from operator/omni_operator/api; do not edit.\n"
    return head + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=160)


if __name__ == "__main__":
    sys.stdout.write(crd_yaml())
