"""What every model of the API shares: camelCase names, frozen values, and types whose JSON schema is structural.

The constraints live on the types so that the CRD, the CLI and the controller refuse the same input with the same words.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "omni.vllm.ai"
VERSION = "v1alpha1"
KIND = "OmniDeployment"
PLURAL = "omnideployments"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """A frozen API object: unknown fields are refused, names are camelCase in JSON and snake_case in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", use_enum_values=False
    )


def rule(expression: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """One CEL validation of the CRD; `message` must name the field, what is wrong and what to do."""
    out = {"rule": expression, "message": message}
    if field_path:
        out["fieldPath"] = field_path
    return out


def schema(**extra: Any) -> dict[str, Any]:
    """Extra schema keys: `rules` become x-kubernetes-validations, `list_type`/`list_keys` the list's merge behaviour."""
    out: dict[str, Any] = {}
    if rules := extra.pop("rules", None):
        out["x-kubernetes-validations"] = rules
    if list_type := extra.pop("list_type", None):
        out["x-kubernetes-list-type"] = list_type
    if keys := extra.pop("list_keys", None):
        out["x-kubernetes-list-map-keys"] = keys
    out.update(extra)
    return out


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)


def _quantity(value: str | int) -> str | int:
    if isinstance(value, str) and not re.match(QUANTITY, value):
        msg = f"{value!r} is not a quantity such as 500m or 2Gi"
        raise ValueError(msg)
    return value


Quantity = Annotated[
    str | int,
    Field(union_mode="left_to_right"),
    AfterValidator(_quantity),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": QUANTITY, "maxLength": 32}),
]
ResourceName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]*$")
]
LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]
Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
