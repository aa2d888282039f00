"""Reads files of the user: an OmniDeployment, or Nodes, Pods and Namespaces."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from omni_operator.api.base import KIND
from omni_operator.api.invalid import sentences
from omni_operator.api.spec import OmniDeploymentSpec

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # nodes and pods of a large cluster are many megabytes
_NO_UID = "00000000-0000"


class ManifestError(ValueError):
    """A file cannot be used; the message names the file or the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An OmniDeployment of a file; `namespace` is None when it names none."""

    namespace: str | None
    name: str
    uid: str
    spec: OmniDeploymentSpec


def read(path: Path) -> Manifest:
    """The OmniDeployment of a file; other objects in it are ignored.

    Raises:
        ManifestError: There is not exactly one, or its spec is not valid.
    """
    found = [item for item in items(path) if item.get("kind") == KIND]
    if len(found) != 1:
        msg = f"{path}: {len(found)} objects of kind {KIND}; give a file with one"
        raise ManifestError(msg)
    meta = found[0].get("metadata") or {}
    if not isinstance(meta, dict) or not meta.get("name"):
        msg = f"{path}: metadata.name is missing"
        raise ManifestError(msg)
    try:
        spec = OmniDeploymentSpec.model_validate(found[0].get("spec") or {})
    except ValidationError as exc:
        raise ManifestError("\n".join(sentences(exc))) from exc
    return Manifest(namespace=meta.get("namespace"), name=meta["name"], uid=meta.get("uid", _NO_UID), spec=spec)


def items(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML or JSON file, also those inside lists; - is standard input.

    Raises:
        ManifestError: The file cannot be read, or holds something else.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        documents = [json.loads(text)] if text.startswith("{") else list(yaml.load_all(text, Loader=_LOADER))
    except (OSError, ValueError, yaml.YAMLError) as exc:
        msg = f"{path}: {exc}"
        raise ManifestError(msg) from exc
    found = []
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            msg = f"{path}: holds {type(document).__name__}, not an object with a kind"
            raise ManifestError(msg)
        found += _objects_of(document)
    return found


def _objects_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    kind = str(document.get("kind", ""))
    if not kind.endswith("List"):
        return [document]
    # Items of a typed list (NodeList) have no kind of their own.
    return [{"kind": kind.removesuffix("List"), **item} for item in document.get("items") or ()]
