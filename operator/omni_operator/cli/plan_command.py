"""`omni plan`: what the operator would decide, from a file, without changing anything; nodes from a file or a cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.describe import describe
from omni_operator.children.names import Owner
from omni_operator.children.render import children
from omni_operator.children.revision import new_revision
from omni_operator.cli import view
from omni_operator.cli.access import Access
from omni_operator.cli.inventory import from_cluster, from_file
from omni_operator.planning.model import PodSecurity, Refused
from omni_operator.planning.plan import make_plan

OK, INVALID, MUST_WAIT, POLICY = 0, 2, 3, 4  # exit codes


def plan(*, file: Path, nodes: Path | None, access: Access | None, security: str | None, output: str) -> int:
    """Prints the plan; the exit code says whether it can be made real."""
    console, errors = view.console(), view.console(stderr=True)
    raw = yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
    try:
        spec = OmniDeploymentSpec.model_validate(raw["spec"])
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"])
            errors.print(f"spec.{where}: {error['msg']}", markup=False)
        return INVALID
    if nodes is not None:
        inventory, level = from_file(nodes), PodSecurity.PRIVILEGED
    else:
        assert access is not None
        inventory, level = from_cluster(access)
    result = make_plan(spec=spec, inventory=inventory, pod_security=PodSecurity(security) if security else level)
    if isinstance(result, Refused):
        errors.print(f"{result.condition}: {result.reason}: {result.message}", markup=False)
        return INVALID if result.condition == "Accepted" else POLICY
    meta = raw["metadata"]
    namespace = meta.get("namespace") or (access.namespace if access else "default")
    owner = Owner(namespace=namespace, name=meta["name"], uid=meta.get("uid", "00000000-0000"))
    revision = new_revision(spec=spec, plan=result.plan)
    if output == "table":
        described = describe(owner, revision, nodes={}).model_dump(by_alias=True, mode="json")
        console.print(view.pods(described))
        console.print(view.edges(described))
        for note in [*result.plan.notes, *([f"must wait: {result.waits_for}"] if result.waits_for else [])]:
            console.print(f"note: {note}", style="dim", markup=False)
    else:
        _print_data(output, owner, revision, spec, result.plan.model_dump(mode="json"))
    return MUST_WAIT if result.waits_for else OK


def _print_data(output: str, owner: Owner, revision: Any, spec: OmniDeploymentSpec, data: dict[str, Any]) -> None:
    if output == "json":
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    elif output == "yaml":
        sys.stdout.write(yaml.safe_dump(data, sort_keys=False))
    else:
        made = children(owner, revision, replicas=spec.replicas, service=spec.serving.service)
        sys.stdout.write(yaml.safe_dump_all(json.loads(json.dumps(made)), sort_keys=False))
