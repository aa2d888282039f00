"""Ready servers that lost what they had joined: their /health says 200 while requests hang."""

from __future__ import annotations

from omni_operator.api.spec import Backend
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.snapshot import Snapshot, StoredRevision

_RAY = frozenset({Component.HEAD, Component.WORKER})


def servers_with_lost_peers(snapshot: Snapshot, active: StoredRevision) -> tuple[tuple[Pod, str], ...]:
    """Such servers, each with what it lost.

    The launcher lets a server start when Ray has all its accelerators, so while one is ready no Ray
    pod is missing and none starts unless one was lost. A Mooncake master that restarted has
    forgotten its clients, those in the server and those in the workers; ending the server ends the
    stage actors in the workers too.
    """
    # One without a controller is somebody's copy (kubectl debug --copy-to), which nobody joins.
    mine = [p for p in snapshot.pods_of(active.name) if p.owner_uid]
    stores = [p for p in mine if p.labels.get(COMPONENT) == Component.STORE]
    found = []
    for server in mine:
        if server.labels.get(COMPONENT) != Component.SERVING or not server.ready_since or server.deleting:
            continue
        ray = [p for p in mine if p.labels.get(COMPONENT) in _RAY and p.replica == server.replica]
        youngest = max((*ray, *stores), key=lambda p: p.started, default=None)
        left = sum(p.phase == "Running" and not _leaves(p, server) for p in ray)
        if youngest is not None and youngest.started > server.ready_since:
            found.append((server, f"{described(youngest, active)} (re)started after it had joined"))
        elif left < active.ray_pods:
            found.append((server, f"{left} of the {active.ray_pods} pods of its Ray cluster are left"))
    return tuple(found)


def described(pod: Pod, active: StoredRevision) -> str:
    """A pod, with the stages that it runs where they are known, and how often it has ended."""
    plan = active.revision.plan
    group = next((g for g in plan.groups if g.name == pod.group), None)
    known = []
    if group is not None and group.stages and plan.backend is not Backend.RAY:
        known.append(", ".join(group.stages))
    if pod.restarts > 1:
        known.append(f"ended {pod.restarts} times")
    return f"pod {pod.name} ({'; '.join(known)})" if known else f"pod {pod.name}"


def _leaves(pod: Pod, server: Pod) -> bool:
    """Whether a pod began to end under a server.

    One that joined a pod on its way out stays until that is gone: ended before, the next would only
    do the same.
    """
    return pod.deleting and pod.deletion_requested_at >= server.ready_since
