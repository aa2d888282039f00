"""`omni plan`: what the operator would decide, without changing anything; with --diff also what that would change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from omni_operator.children.describe import describe, summary
from omni_operator.children.render import children
from omni_operator.cli import svg, terminal, view
from omni_operator.cli.decided import INVALID, Decided, No, Source, decide, decide_on
from omni_operator.cli.difference import Difference, difference, first
from omni_operator.cli.inventory import Whose
from omni_operator.cli.manifest import ManifestError, read
from omni_operator.cli.picture import Picture, picture
from omni_operator.cli.running import running


def plan(*, file: Path, source: Source, output: str) -> int:
    """Prints the plan; the exit code says whether it can be made real."""
    found = decide(file, source)
    if isinstance(found, No):
        return refuse(found)
    OUTPUTS[output](found)
    return found.code


def diff(*, file: Path, source: Source, against: Path | None, output: str) -> int:
    """Prints what would change of what runs, or of another file's plan; exit code as of the plan."""
    found = decide(file, source)
    if isinstance(found, No):
        return refuse(found)
    made = _from_file(against, found, source) if against else _from_cluster(found, source)
    if isinstance(made, No):
        return refuse(made)
    if output == "json":
        sys.stdout.write(json.dumps(made.data(), indent=2) + "\n")
    elif output == "yaml":
        sys.stdout.write(yaml.safe_dump(made.data(), sort_keys=False, allow_unicode=True))
    else:
        console = view.console()
        console.print(view.difference(made))
        view.notes(console, found.notes)
    return found.code


def refuse(no: No) -> int:
    """Prints why there is no plan."""
    view.console(stderr=True).print(no.message, highlight=False, soft_wrap=True)
    return no.code


def _from_file(path: Path, found: Decided, source: Source) -> Difference | No:
    try:
        manifest = read(path)
    except ManifestError as exc:
        return No(INVALID, str(exc))
    whose = Whose(namespace=found.owner.namespace, name=manifest.name)
    other = decide_on(manifest, whose=whose, around=found.around, security=source.security)
    if isinstance(other, No):
        return No(other.code, f"{path}: {other.message}")
    return difference(other.revision, found.revision, inventory=found.around.inventory)


def _from_cluster(found: Decided, source: Source) -> Difference:
    assert source.access is not None
    name, namespace = found.owner.name, found.owner.namespace
    runs = running(source.access, namespace=namespace, name=name)
    if runs is None or runs.revision is None:
        lacking = runs.lacking if runs else f"there is no OmniDeployment {name} in namespace {namespace}"
        return first(found.revision, lacking=lacking)
    return difference(runs.revision, found.revision, inventory=found.around.inventory, spec=runs.spec())


def drawn(found: Decided) -> Picture:
    """The picture of a plan."""
    made = found.revision
    return picture(made.plan, spec=made.spec, inventory=found.around.inventory)


def _table(found: Decided) -> None:
    console = view.console()
    described = describe(found.owner, found.revision, nodes={})
    console.print(described.summary, highlight=False)
    console.print(terminal.draw(drawn(found)), soft_wrap=True)
    console.print(view.edges(described.model_dump(by_alias=True, mode="json")))
    view.notes(console, found.notes)


def _svg(found: Decided) -> None:
    title = f"{found.owner.name} in namespace {found.owner.namespace}"
    sys.stdout.write(svg.draw(drawn(found), title=title, about=summary(found.revision.plan)))


def _json(found: Decided) -> None:
    sys.stdout.write(json.dumps(found.revision.plan.model_dump(mode="json"), indent=2) + "\n")


def _yaml(found: Decided) -> None:
    sys.stdout.write(yaml.safe_dump(found.revision.plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _manifests(found: Decided) -> None:
    made = found.revision
    objects: Any = children(found.owner, made, replicas=made.spec.replicas, service=made.spec.serving.service)
    sys.stdout.write(yaml.safe_dump_all(json.loads(json.dumps(objects)), sort_keys=False))


OUTPUTS: dict[str, Callable[[Decided], None]] = {
    "table": _table,
    "json": _json,
    "yaml": _yaml,
    "manifests": _manifests,
    "svg": _svg,
}
