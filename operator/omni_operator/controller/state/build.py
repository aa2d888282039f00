"""Builds a Snapshot from decoded objects.

For the controller, which has them in caches, and for the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from omni_operator.api.invalid import sentences
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import names, revision
from omni_operator.children.names import COMPONENT, REVISION, Component, Owner
from omni_operator.children.revision import Revision
from omni_operator.controller.state.objects import Child, NamespaceObject, NodeObject, Omni, Pod
from omni_operator.controller.state.signals import Server, Signals, WarmUpResult
from omni_operator.controller.state.snapshot import ChildKey, ParsedSpec, Snapshot, StoredRevision

# A revision from the record that a child keeps, by one of the two loaders of
# `children/revision.py`; None when it is unreadable.
LoadRecord = Callable[[Child, Callable[..., Revision]], Revision | None]


def build_snapshot(
    omni: Omni,
    *,
    now: datetime,
    parsed: ParsedSpec,
    children: Mapping[ChildKey, Child],
    pods: Sequence[Pod],
    node: Callable[[str], NodeObject | None],
    namespace: NamespaceObject | None,
    load_record: LoadRecord,
    signals: Signals,
    referenced: Child | None = None,
    kuberay_missing: bool = False,
    namespace_error: str = "",
) -> Snapshot:
    """The snapshot of one OmniDeployment.

    Args:
        omni: The OmniDeployment.
        now: The moment.
        parsed: Its spec.
        children: All objects with its labels, by kind and name.
        pods: All pods with its name, sorted by name.
        node: The node of a name; None for one that does not exist.
        namespace: Its namespace; None while it is not known.
        load_record: Reads a revision's record.
        signals: Results of background work.
        referenced: The RayCluster of `referenced_cluster`, when it exists.
        kuberay_missing: The API server does not know RayClusters.
        namespace_error: Why the namespace is not known.
    """
    recorded = {str(entry["node"]) for entry in omni.status.get("nodeMemory") or ()}
    revisions, unreadable = _revisions(omni, children, load_record)

    def is_lost(name: str) -> bool:
        found = node(name)
        return found is None or not found.node.ready

    return Snapshot(
        omni=omni,
        owner=Owner(namespace=omni.namespace, name=omni.name, uid=omni.uid),
        parsed=parsed,
        now=now,
        revisions=revisions,
        children=children,
        pods=tuple(pods),
        referenced=referenced,
        kuberay_missing=kuberay_missing,
        unreadable=unreadable,
        missing_nodes=frozenset(name for name in recorded if node(name) is None),
        lost_nodes=frozenset(name for name in recorded | {p.node for p in pods if p.node} if is_lost(name)),
        pod_security=namespace.pod_security if namespace else None,
        namespace_error="" if namespace else namespace_error,
        namespace_terminating=namespace is not None and namespace.terminating,
        signals=_with_answered(signals, omni),
    )


def referenced_cluster(omni: Omni) -> str:
    """Name of the RayCluster of ray.clusterRef; empty when there is none."""
    reference = (omni.spec.get("ray") or {}).get("clusterRef") or {}
    return str(reference["name"]) if reference else ""


def parse(raw: dict[str, Any]) -> ParsedSpec:
    """The spec of an OmniDeployment.

    A field that is not known is ignored: the API server drops such fields unless the CRD is of a
    newer operator, and then an older one must go on with what it knows.
    """
    ignored: tuple[str, ...] = ()
    try:
        spec = OmniDeploymentSpec.model_validate(raw)
    except ValidationError as exc:
        unknown = [fault for fault in exc.errors(include_url=False) if fault["type"] == "extra_forbidden"]
        if len(unknown) != exc.error_count():
            return ParsedSpec(spec=None, error="; ".join(sentences(exc)))
        ignored = tuple(sorted(".".join(str(part) for part in fault["loc"]) for fault in unknown))
        spec = OmniDeploymentSpec.model_validate(raw, extra="ignore")
    return ParsedSpec(spec=spec, ignored=ignored, digest=revision.spec_digest(spec))


def _revisions(
    omni: Omni, children: Mapping[ChildKey, Child], load_record: LoadRecord
) -> tuple[dict[str, StoredRevision], tuple[str, ...]]:
    """The revisions that exist, by name, and those whose record is unreadable."""
    found: dict[str, StoredRevision] = {}
    unreadable: set[str] = set()
    copies: list[Child] = []
    for child in children.values():
        if child.owner_uid != omni.uid:
            continue
        if child.kind == "ConfigMap" and child.labels.get(COMPONENT) == Component.CONFIG:
            name = child.labels.get(REVISION, "")
            if (made := load_record(child, revision.from_config_map)) is None:
                unreadable.add(name)
            else:
                found[name] = StoredRevision(revision=made, created=child.created)
        elif names.RECORD in child.annotations and not child.deleting:
            copies.append(child)
    for child in copies:  # a record that somebody deleted comes back from the copy that its children keep
        if child.labels.get(REVISION, "") in found.keys() | unreadable:
            continue
        made = load_record(child, revision.from_copy)
        if made is not None and made.name not in found.keys() | unreadable:
            found[made.name] = StoredRevision(revision=made, created="")
    return found, tuple(sorted(unreadable))


def _with_answered(signals: Signals, omni: Omni) -> Signals:
    """The signals, and what status knows of servers whose request has passed.

    So another process of the operator does not ask them again.
    """
    passed: dict[Server, WarmUpResult] = {
        (str(entry["pod"]), str(entry["since"])): WarmUpResult(passed=True)
        for entry in omni.status.get("answered") or ()
    }
    return replace(signals, warm_up={**passed, **signals.warm_up}) if passed else signals
