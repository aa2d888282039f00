"""The PodDisruptionBudget of a revision: a drain takes the pods of one replica at a time.

A count, not a percentage: the pods have two kinds of controllers, and the API supports only
minAvailable numbers then.
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import names
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision


def build(owner: Owner, revision: Revision, replicas: int) -> dict[str, Any]:
    """The PodDisruptionBudget.

    A replica goes as a whole: with one pod gone it serves nobody, but its other pods are healthy to
    the API, and a budget that held them would hold the drain for ever, since on one node the server
    cannot go elsewhere before its worker does. A single replica is therefore not held at all, and
    neither is the store, which has no second.
    """
    plan = revision.plan
    ray_pods = 0 if plan.cluster_ref or not plan.has_ray else 1 + sum(group.pods for group in plan.groups)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(owner, names.base(owner, revision.name), Component.POLICY, revision=revision.name),
        "spec": {
            "minAvailable": (replicas - 1) * (1 + ray_pods),
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {
                "matchLabels": names.selector(owner, None, revision=revision.name),
                "matchExpressions": [
                    {
                        "key": names.COMPONENT,
                        "operator": "NotIn",
                        "values": [Component.STORE.value, Component.CLEANUP.value],
                    }
                ],
            },
        },
    }
