"""All children of a revision, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omni_operator.api.serving_spec import ServiceSpec
from omni_operator.api.spec import Backend
from omni_operator.children import (
    config_map,
    disruption_budget,
    mooncake_master,
    network_policy,
    ray_cluster,
    services,
    serving,
)
from omni_operator.children.names import RENDERED_BY, Owner
from omni_operator.children.revision import Revision


def children(owner: Owner, revision: Revision, *, replicas: int, service: ServiceSpec) -> list[dict[str, Any]]:
    """The objects of the active revision beside its ConfigMap.

    Args:
        owner: The OmniDeployment.
        revision: The revision.
        replicas: Copies of the pipeline; 0 keeps the plan (ConfigMap) and the public Service only.
        service: How the public Service looks; it may change without a new revision.
    """
    out = [services.public(owner, revision, service, keeps_record=replicas == 0)]
    if replicas == 0:
        return out
    out += network_policy.build(owner, revision)
    out += mooncake_master.build(owner, revision)
    for replica in range(replicas):
        if revision.plan.backend is Backend.HEADLESS:
            out.append(services.head(owner, revision, replica))
        if revision.plan.has_ray and revision.plan.cluster_ref is None:
            out.append(ray_cluster.build(owner, revision, replica))
        out.append(serving.build(owner, revision, replica))
    out.append(disruption_budget.build(owner, revision, replicas))
    return out


def with_record(owner: Owner, revision: Revision, *, replicas: int, service: ServiceSpec) -> list[dict[str, Any]]:
    """The ConfigMap, which exists before anything that was made from it, and the other objects."""
    return [config_map.build(owner, revision), *children(owner, revision, replicas=replicas, service=service)]


def record_metadata(owner: Owner, revision: Revision) -> dict[str, Any]:
    """The part of a revision's ConfigMap that may be repaired.

    It is neither the data nor the record of the operator that rendered the revision's workloads.
    """
    return repairable(config_map.head(owner, revision))


def repairable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A revision's ConfigMap without what is never written again."""
    meta = record["metadata"]
    kept = {key: value for key, value in meta["annotations"].items() if key != RENDERED_BY}
    head = {key: record[key] for key in ("apiVersion", "kind")}
    return {**head, "metadata": {**meta, "annotations": kept}}
