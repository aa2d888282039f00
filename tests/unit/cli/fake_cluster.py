"""Runs `omni` in the test's process, on files or on a fake cluster of plain objects."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_operator.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION
from omni_operator.children import config_map, names
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.cli import main as command_line
from omni_operator.cli.access import Access, AccessError
from omni_operator.topology.inventory import Inventory, Node
from tests.unit.make import OWNER

Object = dict[str, Any]


class FakeAccess(Access):
    """Responses of the API server by path; a number is an error of that HTTP status."""

    def __init__(self, responses: Mapping[str, Any], *, namespace: str = "default") -> None:
        self.responses = dict(responses)
        self.namespace = namespace
        self.requested: list[str] = []

    def request(self, method: str, path: str, **_: Any) -> Any:
        assert method == "GET", "plan, explain and inventory only read"
        self.requested.append(path)
        found = self.responses.get(path.partition("?")[0], 404)
        if isinstance(found, int):
            raise AccessError(f"{method} {path}: {found}", status=found)
        return found


class Cli:
    """Runs `omni`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._monkeypatch, self._capsys, self.folder = monkeypatch, capsys, folder
        self.out = self.err = ""

    def __call__(self, *args: str | Path) -> int:
        """Runs `omni` and returns its exit code; `out` and `err` have its output."""
        self._monkeypatch.setattr(sys, "argv", ["omni", *(str(arg) for arg in args)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        self.out, self.err = self._capsys.readouterr()
        if isinstance(ended.value.code, str):  # the interpreter writes the message and exits with 1
            self.err += ended.value.code
            return 1
        return int(ended.value.code or 0)

    def on(self, access: FakeAccess) -> None:
        """Makes the following commands use a fake cluster."""

        def make(*, context: str | None, namespace: str | None) -> FakeAccess:
            access.namespace = namespace or access.namespace
            return access

        self._monkeypatch.setattr(command_line, "Access", make)

    def file(self, name: str, *objects: Object) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump_all(objects, sort_keys=False))
        return path


def manifest(spec: Object, *, name: str = OWNER.name, namespace: str | None = OWNER.namespace) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}


def node_object(node: Node) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": dict(node.labels)},
        "spec": {
            "unschedulable": node.cordoned,
            "taints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in node.taints],
        },
        "status": {
            "allocatable": {resource: str(count) for resource, count in node.allocatable.items()},
            "conditions": [{"type": "Ready", "status": str(node.ready)}],
        },
    }


def node_list(nodes: Inventory) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": [node_object(node) for node in nodes.nodes]}


def pod_object(
    name: str, *, on: str, requests: Mapping[str, int], namespace: str = "default", omni: str = ""
) -> Object:
    labels = {names.NAME: omni} if omni else {}
    limits = {resource: str(count) for resource, count in requests.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"},
    }


def namespace_object(name: str, level: str = "") -> Object:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def responses(nodes: Inventory, *pods: Object, namespaces: tuple[Object, ...] = ()) -> dict[str, Any]:
    """Responses of a cluster without OmniDeployments."""
    found: dict[str, Any] = {
        "/api/v1/nodes": {"items": [node_object(node) for node in nodes.nodes]},
        "/api/v1/pods": {"items": list(pods)},
    }
    return found | {f"/api/v1/namespaces/{n['metadata']['name']}": n for n in namespaces}


def deployed(
    revision: Revision | None, *, spec: Object, owner: Owner = OWNER, status: Object | None = None
) -> dict[str, Any]:
    """Responses for an OmniDeployment and the ConfigMap of its active revision."""
    omni = manifest(spec, name=owner.name, namespace=owner.namespace)
    omni["metadata"]["uid"] = owner.uid
    omni["status"] = {**({"revision": revision.name} if revision else {}), **(status or {})}
    found = {f"/apis/{GROUP}/{VERSION}/namespaces/{owner.namespace}/{PLURAL}/{owner.name}": omni}
    if revision:
        kept = config_map.build(owner, revision)
        found[f"/api/v1/namespaces/{owner.namespace}/configmaps/{kept['metadata']['name']}"] = kept
    return found
