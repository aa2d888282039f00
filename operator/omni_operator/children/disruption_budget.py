"""The PodDisruptionBudget of a revision: a drain takes its pods one at a time, not all at once.

A count, not a percentage: the pods have two kinds of controllers, and the API supports only minAvailable numbers then.
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import names
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision


def build(owner: Owner, revision: Revision, replicas: int) -> dict[str, Any]:
    """The PodDisruptionBudget."""
    plan = revision.plan
    ray_pods = 0 if plan.cluster_ref else 1 + sum(group.pods for group in plan.groups)
    pods = replicas * (1 + ray_pods) + (1 if plan.store else 0)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(owner, names.base(owner, revision.name), Component.POLICY, revision=revision.name),
        "spec": {
            "minAvailable": pods - 1,
            # A pipeline with a broken pod serves nobody, so it must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {
                "matchLabels": names.selector(owner, None, revision=revision.name),
                "matchExpressions": [
                    {"key": names.COMPONENT, "operator": "NotIn", "values": [Component.SWEEPER.value]}
                ],
            },
        },
    }
