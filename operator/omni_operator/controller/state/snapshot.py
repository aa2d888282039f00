"""Everything that one reconcile of an OmniDeployment is decided on, frozen.

So that deciding and judging are pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.names import COMPONENT, FINALIZER, Component, Owner, folder_revision, node_folder
from omni_operator.children.revision import Revision
from omni_operator.controller.state.objects import Child, Omni, Pod
from omni_operator.controller.state.signals import NO_SIGNALS, Signals
from omni_operator.topology.namespace import PodSecurity

ChildKey = tuple[str, str]  # kind and name
NodeFolder = tuple[str, str]  # name of a node, and of a folder below NODE_SHM_PARENT
_USES_SHARED_MEMORY = frozenset({Component.WORKER, Component.SERVING})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevision:
    """A revision that exists: its ConfigMap was read.

    One that was only decided has no `created` yet.

    Attributes:
        revision: The revision.
        created: Creation of its ConfigMap; empty while it has none.
    """

    revision: Revision
    created: str

    @property
    def name(self) -> str:
        """Name of the revision."""
        return self.revision.name

    @property
    def ray_pods(self) -> int:
        """Pods of the Ray cluster that each replica has of its own: head and workers.

        0 when it has none.
        """
        plan = self.revision.plan
        return 0 if plan.cluster_ref or not plan.has_ray else 1 + sum(group.pods for group in plan.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSpec:
    """The live spec as the models read it.

    Attributes:
        spec: The spec; None when it is not valid.
        error: Why it is not: the fields, the values and the remedies.
        ignored: Fields that this operator does not know (a newer one has run); they change nothing.
        digest: Digest of the part that makes a revision.
    """

    spec: OmniDeploymentSpec | None
    error: str = ""
    ignored: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of one OmniDeployment at one moment.

    Attributes:
        omni: The OmniDeployment.
        owner: Its identity for children.
        parsed: Its spec.
        now: The moment; decisions about time use nothing else.
        revisions: Revisions that exist, by name.
        children: Children by kind and name.
        pods: Pods that carry its name, by name.
        referenced: The RayCluster of ray.clusterRef, when it exists.
        kuberay_missing: The API server does not know RayClusters.
        unreadable: Revisions whose record another version of the operator wrote.
        missing_nodes: Nodes of status.nodeMemory that exist no more; their memory went with them.
        lost_nodes: Nodes of its pods and of status.nodeMemory that are not Ready, or exist no more.
        pod_security: Level that the namespace enforces; None while the namespace is not known.
        namespace_error: Why the namespace is not known; empty while its watch is about to bring it.
        namespace_terminating: The namespace is being deleted, so nothing can be made in it.
        signals: Results of background work, and the history of restarts.
    """

    omni: Omni
    owner: Owner
    parsed: ParsedSpec
    now: datetime
    revisions: Mapping[str, StoredRevision]
    children: Mapping[ChildKey, Child]
    pods: tuple[Pod, ...]
    referenced: Child | None = None
    kuberay_missing: bool = False
    unreadable: tuple[str, ...] = ()
    missing_nodes: frozenset[str] = frozenset()
    lost_nodes: frozenset[str] = frozenset()
    pod_security: PodSecurity | None = PodSecurity.PRIVILEGED
    namespace_error: str = ""
    namespace_terminating: bool = False
    signals: Signals = NO_SIGNALS
    live_pods: tuple[Pod, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Pods of the pipeline that may still use anything.

        Not cleanup pods, and none that has ended.
        """
        live = (p for p in self.pods if p.labels.get(COMPONENT) != Component.CLEANUP)
        object.__setattr__(self, "live_pods", tuple(p for p in live if p.phase not in {"Succeeded", "Failed"}))

    @property
    def has_finalizer(self) -> bool:
        """Whether deletion waits for the operator."""
        return FINALIZER in self.omni.finalizers

    def is_owned(self, child: Child) -> bool:
        """Whether a child belongs to this very OmniDeployment."""
        return child.owner_uid == self.owner.uid

    def pods_of(self, revision: str) -> tuple[Pod, ...]:
        """Live pods of a revision."""
        return tuple(p for p in self.live_pods if p.revision == revision)

    def recorded_folders(self) -> frozenset[NodeFolder]:
        """What status.nodeMemory says.

        Entries that are no folder of this OmniDeployment do not count, since others may write
        status.
        """
        return frozenset(
            (str(entry["node"]), str(entry["revision"]))
            for entry in self.omni.status.get("nodeMemory") or ()
            if folder_revision(self.owner, str(entry["revision"]))
        )

    def folders(self) -> frozenset[NodeFolder]:
        """Folders that may hold shared memory.

        Those that status recorded, and those that pods use now.
        """
        found = set(self.recorded_folders())
        for pod in self.pods:
            stored = self.revisions.get(pod.revision)
            if stored is None or not stored.revision.plan.node_shared_memory or not pod.node or not pod.replica:
                continue
            if pod.labels.get(COMPONENT) in _USES_SHARED_MEMORY:
                found.add((pod.node, node_folder(self.owner, pod.revision, int(pod.replica))))
        return frozenset(pair for pair in found if pair[0] not in self.missing_nodes)

    def cleanup_pods(self) -> dict[str, Pod]:
        """Our cleanup pods by name."""
        mine = (p for p in self.pods if p.labels.get(COMPONENT) == Component.CLEANUP)
        return {p.name: p for p in mine if p.owner_uid == self.owner.uid}

    def users_of(self, folder: str) -> tuple[Pod, ...]:
        """Pods that may use a folder."""
        return tuple(
            p
            for p in self.live_pods
            if p.replica and p.revision and node_folder(self.owner, p.revision, int(p.replica)) == folder
        )
