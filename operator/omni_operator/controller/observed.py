"""Everything one look at an OmniDeployment stands on, frozen, so that deciding and judging are pure functions of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omni_operator import __version__
from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.api.spec import Backend
from omni_operator.children.names import (
    COMPONENT,
    FINALIZER,
    REVISION,
    Component,
    Owner,
    folder_revision,
    node_folder,
)
from omni_operator.children.revision import Revision
from omni_operator.controller.answers import NOT_ASKED, Answers
from omni_operator.controller.evidence import NOTHING_SEEN, Evidence
from omni_operator.controller.objects import Child, Omni, Pod

_RAY = frozenset({Component.HEAD, Component.WORKER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A revision that exists: its ConfigMap was read.

    Attributes:
        revision: The revision.
        created: Creation of its ConfigMap; empty while it has none.
        rendered_by: Version of the operator that made its children.
    """

    revision: Revision
    created: str
    rendered_by: str = __version__

    @property
    def ray_pods(self) -> int:
        """Pods of the Ray cluster that each replica has of its own: head and workers; 0 when it has none."""
        plan = self.revision.plan
        return 0 if plan.cluster_ref or not plan.has_ray else 1 + sum(group.pods for group in plan.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One look.

    Attributes:
        omni: The OmniDeployment.
        owner: Its identity for children.
        known: Revisions that exist, by name.
        children: Children by kind and name.
        pods: Pods that carry its name.
        referenced: The RayCluster of ray.clusterRef, when it exists.
        kuberay_missing: The API server does not know RayClusters.
        unreadable: Revisions whose record another version of the operator wrote.
        missing_nodes: Nodes of status.nodeMemory that exist no more; their memory went with them.
        lost_nodes: Nodes of its pods and of status.nodeMemory that are not Ready, or exist no more.
    """

    omni: Omni
    owner: Owner
    known: Mapping[str, Known]
    children: Mapping[tuple[str, str], Child]
    pods: tuple[Pod, ...]
    referenced: Child | None
    kuberay_missing: bool
    missing_nodes: frozenset[str]
    lost_nodes: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()

    @property
    def has_finalizer(self) -> bool:
        """Whether deletion waits for us."""
        return FINALIZER in self.omni.finalizers

    def live_pods(self) -> tuple[Pod, ...]:
        """Pods of the pipeline that may still use anything (not sweepers)."""
        return tuple(
            p
            for p in self.pods
            if p.labels.get(COMPONENT) != Component.SWEEPER and p.phase not in {"Succeeded", "Failed"}
        )

    def folders(self) -> frozenset[tuple[str, str]]:
        """Pairs (node, folder) that may hold shared memory: what status recorded, and what pods use now."""
        recorded = {
            (str(m["node"]), str(m["revision"]))
            for m in self.omni.status.get("nodeMemory") or ()
            if folder_revision(self.owner, str(m["revision"]))  # status is not only ours to write
        }
        for pod in self.pods:
            known = self.known.get(pod.revision)
            shared = known is not None and known.revision.plan.node_shared_memory
            if (
                pod.node
                and pod.replica
                and shared
                and pod.labels.get(COMPONENT) in {Component.WORKER, Component.SERVING}
            ):
                recorded.add((pod.node, node_folder(self.owner, pod.revision, int(pod.replica))))
        return frozenset(pair for pair in recorded if pair[0] not in self.missing_nodes)

    def bereft_servers(self, active: Known) -> tuple[tuple[Pod, str], ...]:
        """Ready servers that lost what they joined, each with what that was: their /health says 200 while requests hang.

        The launcher lets a server start when Ray has all its accelerators, so while one is ready no Ray pod is missing and none
        starts unless one was lost. A store that restarted knows no client of before, in the server as in its workers; a
        server's end is that of its actors.
        """
        mine = [p for p in self.live_pods() if p.revision == active.revision.name]
        stores = [p for p in mine if p.labels.get(COMPONENT) == Component.STORE]
        found = []
        for server in mine:
            if server.labels.get(COMPONENT) != Component.SERVING or not server.ready_since or server.deleting:
                continue
            ray = [p for p in mine if p.labels.get(COMPONENT) in _RAY and p.replica == server.replica]
            youngest = max((*ray, *stores), key=lambda p: p.started, default=None)
            left = sum(p.phase == "Running" and not _leaves(p, server) for p in ray)
            if youngest is not None and youngest.started > server.ready_since:
                found.append((server, f"{who(youngest, active)} (re)started after it had joined"))
            elif left < active.ray_pods:
                found.append((server, f"{left} of the {active.ray_pods} pods of its Ray cluster are left"))
        return tuple(found)

    def sweepers(self) -> dict[str, Pod]:
        """Our sweeper pods by name."""
        uid = self.owner.uid
        return {p.name: p for p in self.pods if p.labels.get(COMPONENT) == Component.SWEEPER and p.owner_uid == uid}

    def users_of(self, folder: str) -> tuple[Pod, ...]:
        """Pods that may use a folder."""
        return tuple(
            p
            for p in self.live_pods()
            if p.replica and p.labels.get(REVISION) and node_folder(self.owner, p.revision, int(p.replica)) == folder
        )


def who(pod: Pod, active: Known) -> str:
    """A pod, with the stages that it runs where they are known, and how often it has ended."""
    group = next((g for g in active.revision.plan.groups if g.name == pod.group), None)
    known = (
        [", ".join(group.stages)]
        if group is not None and group.stages and active.revision.plan.backend is not Backend.RAY
        else []
    )
    known += [f"ended {pod.restarts} times"] if pod.restarts > 1 else []
    return f"pod {pod.name} ({'; '.join(known)})" if known else f"pod {pod.name}"


def _leaves(pod: Pod, server: Pod) -> bool:
    """Whether a pod began to end under a server.

    One that joined a pod on its way out stays until that is gone: ended before, the next would only do the same.
    """
    return pod.deleting and pod.ending_since >= server.ready_since


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition before it has a time."""

    type: ConditionType
    truth: Truth
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a look decided and did, for status and events.

    Attributes:
        accepted: Verdict on the spec.
        planned: Verdict on the plan.
        active: The revision whose children exist or are being made; None when there is none.
        replicas: Replicas of it that should run (0 when suspended).
        retiring: Revisions that are being removed.
        folders: Node folders that must still be remembered.
        foreign: Names of objects in the way that are not ours.
        refused: Errors of the API server about children.
        blockers: What the removal of a revision waits for.
        evidence: What the engine itself says of its edges.
        answers: What servers answered to their first request.
        lately: Which server was ended last, and why.
        held_back: Why a server is not made yet; empty when none is held back.
    """

    accepted: Verdict
    planned: Verdict
    active: Known | None
    replicas: int
    retiring: tuple[str, ...] = ()
    folders: frozenset[tuple[str, str]] = frozenset()
    foreign: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    evidence: Evidence = NOTHING_SEEN
    answers: Answers = NOT_ASKED
    lately: str = ""
    held_back: str = ""
