"""One look: everything about an OmniDeployment that the cache knows. Reads memory only."""

from __future__ import annotations

import logging

from omni_operator.children import names, revision
from omni_operator.children.names import COMPONENT, REVISION, Component, Owner
from omni_operator.controller.cache import Cache
from omni_operator.controller.objects import Child, Omni
from omni_operator.controller.observed import Known, Observed

_log = logging.getLogger(__name__)


def observe(cache: Cache, omni: Omni) -> Observed:
    """The look."""
    children = cache.children_of(omni.key)
    reference = (omni.spec.get("ray") or {}).get("clusterRef") or {}
    clusters = cache.children["RayCluster"]
    recorded = {str(m["node"]) for m in omni.status.get("nodeMemory") or ()}
    known, unreadable = _known(omni, children)
    pods = cache.pods_of(omni.key)
    return Observed(
        omni=omni,
        owner=Owner(namespace=omni.namespace, name=omni.name, uid=omni.uid),
        known=known,
        children=children,
        pods=pods,
        referenced=clusters.get(omni.namespace, reference["name"]) if reference else None,
        kuberay_missing=clusters.missing,
        unreadable=unreadable,
        missing_nodes=frozenset(name for name in recorded if cache.nodes.get("", name) is None),
        lost_nodes=frozenset(name for name in recorded | {p.node for p in pods if p.node} if _is_lost(cache, name)),
    )


def _is_lost(cache: Cache, name: str) -> bool:
    found = cache.nodes.get("", name)
    return found is None or not found.node.ready


def _known(omni: Omni, children: dict[tuple[str, str], Child]) -> tuple[dict[str, Known], tuple[str, ...]]:
    found, unreadable = {}, []
    for child in children.values():
        if child.kind != "ConfigMap" or child.labels.get(COMPONENT) != Component.CONFIG or child.owner_uid != omni.uid:
            continue
        name, data = child.labels.get(REVISION, ""), child.body.get("data") or {}
        try:
            made = revision.load(
                name=name,
                digest=child.annotations.get(names.SPEC_DIGEST, ""),
                spec_text=data[names.SPEC_FILE],
                plan_text=data[names.PLAN_FILE],
                checks_image=names.IMAGE_CHECK_FILE in data,
            )
        except (KeyError, ValueError):
            _log.exception("ConfigMap %s/%s is not a revision that this operator can read", child.namespace, child.name)
            unreadable.append(name)
            continue
        found[name] = Known(
            revision=made, created=child.created, rendered_by=child.annotations.get(names.RENDERED_BY, "")
        )
    return found, tuple(unreadable)
