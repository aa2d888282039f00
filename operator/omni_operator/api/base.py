"""What every model of the API shares: camelCase names, frozen values, structural JSON schemas.

The constraints live on the types so that the CRD, the CLI and the controller refuse the same input
with the same words.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "omni.vllm.ai"
VERSION = "v1alpha1"
KIND = "OmniDeployment"
PLURAL = "omnideployments"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """A frozen API object; names are camelCase in JSON, and an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", use_enum_values=False
    )


def rule(
    expression: str, message: str, *, field_path: str | None = None, message_expression: str | None = None
) -> dict[str, str]:
    """One CEL validation of the CRD.

    Args:
        expression: What must be true.
        message: Names the field, what is wrong and what to do.
        field_path: The field to blame, where it is not the one that carries the rule.
        message_expression: CEL for a message that also names the value to blame; `message` is used
            where it fails.
    """
    out = {"rule": expression, "message": message}
    if message_expression:
        out["messageExpression"] = message_expression
    if field_path:
        out["fieldPath"] = field_path
    return out


def in_words(pattern: str, message: str) -> dict[str, Any]:
    """Extra schema keys with a rule that says in words what a pattern demands.

    The CRD has the rule in the pattern's place.
    """
    return schema(rules=[rule(f"self.matches(r'{pattern}')", message)])


def schema(**extra: Any) -> dict[str, Any]:
    """Extra schema keys for CEL rules and for the way in which a list is merged.

    `rules` become x-kubernetes-validations; `list_type` and `list_keys` become the keys of the same
    names.
    """
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
_OBJECT_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=_OBJECT_NAME,
        json_schema_extra=in_words(
            _OBJECT_NAME,
            "the name of an object has lower-case letters, digits, '-' and '.', and begins and ends with a letter or "
            "digit; correct it",
        ),
    ),
]
QUANTITY = r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$"


def _quantity(value: str | int) -> str | int:
    if value < 0 if isinstance(value, int) else not re.match(QUANTITY, value):
        msg = f"{value!r} is not a quantity such as 500m or 2Gi"
        raise ValueError(msg)
    return value


Quantity = Annotated[
    str | StrictInt,
    Field(union_mode="left_to_right"),
    AfterValidator(_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "x-kubernetes-validations": [
                rule(
                    "type(self) == int ? self >= 0 : isQuantity(self) && !self.startsWith('-')",
                    "a quantity is a number from 0, alone or with a unit of Kubernetes: 2, 500m, 4Gi, 4G (not 4GB); "
                    "correct it",
                )
            ],
        }
    ),
]
ResourceName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]*$")
]
KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"


def key_rule(what: str) -> dict[str, str]:
    """Keys of labels and annotations are names, with or without a domain."""
    return rule(
        f"self.all(k, size(k) <= 253 && k.matches(r'{KEY}'))",
        f"{what}: a key is a name such as team or example.com/team, of letters, digits, '-', '_' and '.'; rename it",
        message_expression=f"\"{what}: the key '\" + self.filter(k, !(size(k) <= 253 && k.matches(r'{KEY}')))[0] + \"' "
        "is no name such as team or example.com/team, of letters, digits, '-', '_' and '.'; rename it\"",
    )


def value_rule(what: str) -> dict[str, str]:
    """Values of labels are short names or empty."""
    return rule(
        f"self.all(k, self[k].matches(r'{VALUE}'))",
        f"{what}: a value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or "
        "digit; change it",
        message_expression=f'"{what}: the value of \'" + self.filter(k, !self[k].matches('
        f"r'{VALUE}'))[0] + \"' is no label value: at most 63 letters, digits, '-', '_' and '.', beginning "
        'and ending with a letter or digit; change it"',
    )


def label_rules(what: str) -> list[dict[str, str]]:
    """Rules of a map of labels."""
    return [key_rule(what), value_rule(what)]


LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)]
AnnotationMap = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]
Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
