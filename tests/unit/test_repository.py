"""Files that must agree with each other, and rules of the Kubernetes API that no tool checks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_operator.api.base import GROUP, PLURAL
from omni_operator.api.conditions import Reason
from omni_operator.api.schema import crd, crd_yaml, model_schema
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.api.status import OmniDeploymentStatus

ROOT = Path(__file__).parent.parent.parent
Schema = dict[str, Any]


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema below one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


SCHEMAS = dict(walk(model_schema(OmniDeploymentSpec), "spec")) | dict(
    walk(model_schema(OmniDeploymentStatus), "status")
)


def with_type(kind: str) -> dict[str, Schema]:
    return {path: schema for path, schema in SCHEMAS.items() if schema.get("type") == kind}


def test_the_source_root_does_not_shadow_python() -> None:
    """A package there would be `import operator` for everybody who has the folder on the path."""
    assert (ROOT / "operator/omni_operator/__init__.py").exists()
    assert not (ROOT / "operator/__init__.py").exists()


def test_the_crd_is_what_the_models_say() -> None:
    kept = (ROOT / f"crds/{GROUP}_{PLURAL}.yaml").read_text()
    assert kept == crd_yaml(), "run `make generate`"
    assert yaml.safe_load(kept) == crd()


def test_every_field_is_described() -> None:
    fields = {path: schema for path, schema in SCHEMAS.items() if not path.endswith(("[]", "{}"))}
    assert len(fields) > 100
    assert [path for path, schema in fields.items() if not schema.get("description")] == []
    assert [path for path, schema in fields.items() if not schema["description"].rstrip().endswith((".", ")"))] == []


def test_everything_has_a_type_or_is_int_or_string() -> None:
    missing = [
        p for p, s in SCHEMAS.items() if not isinstance(s.get("type"), str) and not s.get("x-kubernetes-int-or-string")
    ]
    assert missing == []


def test_lists_say_how_they_merge_and_how_long_they_may_be() -> None:
    arrays = with_type("array")
    assert len(arrays) >= 15
    for path, schema in arrays.items():
        assert schema.get("x-kubernetes-list-type") in {"map", "set", "atomic"}, path
        assert schema.get("maxItems", 0) > 0, path


def test_lists_of_the_map_kind_have_keys_that_are_always_there() -> None:
    for path, schema in with_type("array").items():
        if schema.get("x-kubernetes-list-type") == "map":
            item = schema["items"]
            for key in schema["x-kubernetes-list-map-keys"]:
                assert item["properties"][key]["type"] == "string", path
                assert key in item["required"] or "default" in item["properties"][key], f"{path}: {key}"


def test_texts_are_bounded() -> None:
    texts = with_type("string") | {p: s for p, s in SCHEMAS.items() if s.get("x-kubernetes-int-or-string")}
    assert [p for p, s in texts.items() if "enum" not in s and not 0 < s.get("maxLength", 0) <= 32768] == []


def test_maps_are_bounded() -> None:
    maps = {path: schema for path, schema in with_type("object").items() if "additionalProperties" in schema}
    assert maps
    assert [path for path, schema in maps.items() if not 0 < schema.get("maxProperties", 0) <= 256] == []


def test_numbers_of_the_spec_are_whole_and_bounded() -> None:
    assert with_type("number") == {}
    integers = {path: schema for path, schema in with_type("integer").items() if path.startswith("spec")}
    assert [path for path, schema in integers.items() if not {"minimum", "maximum"} <= schema.keys()] == []


def test_only_what_is_meant_to_be_opaque_is() -> None:
    opaque = {path for path, schema in SCHEMAS.items() if schema.get("x-kubernetes-preserve-unknown-fields")}
    assert opaque == {
        "spec.engine.env[].valueFrom",
        "spec.model.definition.edges[].extra",
        "spec.model.definition.settings",
        "spec.model.definition.stages[].config",
        "spec.placement.affinity",
        "spec.stages[].engineArgs",
    }
    closed = {p for p, s in with_type("object").items() if "properties" not in s and "additionalProperties" not in s}
    assert closed == opaque


def test_names_are_camel_case_and_none_is_a_phase() -> None:
    for path in SCHEMAS:
        name = path.rsplit(".", 1)[-1].rstrip("[]{}")
        assert name.isalpha() or "[]" in path, path
        assert name[0].islower(), path
        assert name not in {"phase", "state"}, path


@pytest.mark.parametrize("key", ["$ref", "$defs", "anyOf", "oneOf", "const", "title", "nullable", "exclusiveMinimum"])
def test_the_schema_is_structural(key: str) -> None:
    assert [path for path, schema in SCHEMAS.items() if key in schema] == []


def test_null_is_nowhere() -> None:
    assert [path for path, schema in SCHEMAS.items() if "default" in schema and schema["default"] is None] == []


def test_defaults_are_what_the_models_have() -> None:
    """The schema's defaults (API server) are those of the models (controller, CLI)."""
    schema = model_schema(OmniDeploymentSpec)

    def filled(node: Schema, value: Any) -> Any:
        if node.get("type") != "object" or "properties" not in node or not isinstance(value, dict):
            return value
        given = {name: child["default"] for name, child in node["properties"].items() if "default" in child} | value
        return {name: filled(node["properties"][name], child) for name, child in given.items()}

    least = {"model": {"name": "m"}, "engine": {"version": "0.16.0"}}
    spec = OmniDeploymentSpec.model_validate(least)
    assert filled(schema, least) == spec.model_dump(by_alias=True, mode="json", exclude_none=True)


def test_validation_messages_say_what_to_do() -> None:
    rules = [rule for schema in SCHEMAS.values() for rule in schema.get("x-kubernetes-validations", ())]
    rules += crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    assert len(rules) >= 15
    remedies = (
        "remove",
        "change",
        "choose",
        "set ",
        "such as",
        "rename",
        "delete",
        "needs",
        "names of",
        "raise",
        "correct",
    )
    assert [rule["message"] for rule in rules if not any(word in rule["message"] for word in remedies)] == []
    pairs = {(rule["rule"], rule["message"]) for rule in rules}  # fields may share a rule, such as names and quantities
    assert len({message for _, message in pairs}) == len(pairs)


def test_reasons_are_words_and_explained() -> None:
    assert all(reason.value.isalpha() and reason.value[0].isupper() for reason in Reason)
    assert all(reason.explanation.endswith(".") for reason in Reason)
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_a_reconcile_reads_as_one_sentence() -> None:
    """The steps are those of docs/explanation/architecture.md."""
    tree = ast.parse((ROOT / "operator/omni_operator/controller/reconcile.py").read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    found = functions["reconcile"]
    assert found.end_lineno is not None
    assert found.end_lineno - found.lineno < 40
    nodes = sorted((n for n in ast.walk(found) if isinstance(n, ast.Call)), key=lambda node: node.lineno)
    calls = [ast.unparse(node.func) for node in nodes]
    steps = ["self.snapshots.take", "self._decide", "plan_actions", "self._executor.execute", "build_status"]
    assert [call for call in calls if call in steps] == steps
