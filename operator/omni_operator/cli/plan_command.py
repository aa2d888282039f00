"""`omni plan`: what the operator would create; with --diff, what an edit would change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from omni_operator.children.describe import describe, summary
from omni_operator.children.render import with_record
from omni_operator.cli import svg, terminal, view
from omni_operator.cli.difference import Difference, difference, first
from omni_operator.cli.inventory import Identity
from omni_operator.cli.live_revision import read_live_revision
from omni_operator.cli.manifest import ManifestError, read
from omni_operator.cli.picture import Picture, picture
from omni_operator.cli.plan_source import (
    INVALID,
    CommandFailure,
    PlanSource,
    ProposedRevision,
    plan_file,
    plan_manifest,
)


def plan(*, file: Path, source: PlanSource, output: str) -> int:
    """Prints the plan for a file; the exit code says whether its pods can be scheduled."""
    found = plan_file(file, source)
    if isinstance(found, CommandFailure):
        return print_failure(found)
    OUTPUTS[output](found)
    return found.code


def diff(*, file: Path, source: PlanSource, against: Path | None, output: str) -> int:
    """Prints how the plan for a file differs from the active revision, or from another file's.

    Returns:
        The exit code, as of `plan`.
    """
    found = plan_file(file, source)
    if isinstance(found, CommandFailure):
        return print_failure(found)
    result = _from_file(against, found, source) if against else _from_cluster(found, source)
    if isinstance(result, CommandFailure):
        return print_failure(result)
    if output == "json":
        sys.stdout.write(json.dumps(result.data(), indent=2) + "\n")
    elif output == "yaml":
        sys.stdout.write(yaml.safe_dump(result.data(), sort_keys=False, allow_unicode=True))
    else:
        console = view.console()
        console.print(view.difference(result))
        view.notes(console, found.notes)
    return found.code


def print_failure(failure: CommandFailure) -> int:
    """Prints why there is no result; the exit code of the command."""
    view.console(stderr=True).print(failure.message, highlight=False, soft_wrap=True)
    return failure.code


def _from_file(path: Path, found: ProposedRevision, source: PlanSource) -> Difference | CommandFailure:
    try:
        manifest = read(path)
    except ManifestError as exc:
        return CommandFailure(INVALID, str(exc))
    identity = Identity(namespace=found.owner.namespace, name=manifest.name)
    other = plan_manifest(manifest, identity=identity, cluster=found.cluster, security=source.security)
    if isinstance(other, CommandFailure):
        return CommandFailure(other.code, f"{path}: {other.message}")
    return difference(other.revision, found.revision, inventory=found.cluster.inventory)


def _from_cluster(found: ProposedRevision, source: PlanSource) -> Difference:
    assert source.access is not None
    name, namespace = found.owner.name, found.owner.namespace
    live = read_live_revision(source.access, namespace=namespace, name=name)
    if live is None or live.revision is None:
        missing = live.missing_reason if live else f"there is no OmniDeployment {name} in namespace {namespace}"
        return first(found.revision, missing_reason=missing)
    return difference(live.revision, found.revision, inventory=found.cluster.inventory, spec=live.spec())


def _picture(found: ProposedRevision) -> Picture:
    revision = found.revision
    return picture(revision.plan, spec=revision.spec, inventory=found.cluster.inventory)


def _table(found: ProposedRevision) -> None:
    console = view.console()
    described = describe(found.owner, found.revision, nodes={})
    console.print(described.summary, highlight=False)
    console.print(terminal.draw(_picture(found)), soft_wrap=True)
    console.print(view.edges(described.model_dump(by_alias=True, mode="json")))
    view.notes(console, found.notes)


def _svg(found: ProposedRevision) -> None:
    title = f"{found.owner.name} in namespace {found.owner.namespace}"
    sys.stdout.write(svg.draw(_picture(found), title=title, about=summary(found.revision.plan)))


def _json(found: ProposedRevision) -> None:
    sys.stdout.write(json.dumps(found.revision.plan.model_dump(mode="json"), indent=2) + "\n")


def _yaml(found: ProposedRevision) -> None:
    sys.stdout.write(yaml.safe_dump(found.revision.plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _manifests(found: ProposedRevision) -> None:
    spec = found.revision.spec
    objects: Any = with_record(found.owner, found.revision, replicas=spec.replicas, service=spec.serving.service)
    sys.stdout.write(yaml.safe_dump_all(json.loads(json.dumps(objects)), sort_keys=False))


OUTPUTS: dict[str, Callable[[ProposedRevision], None]] = {
    "table": _table,
    "json": _json,
    "yaml": _yaml,
    "manifests": _manifests,
    "svg": _svg,
}
