"""The Plan and its parts. A Plan is kept as JSON in its revision's ConfigMap, so it is a pydantic model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol, Strategy
from omni_operator.engine.connector import Rejection


class Reach(StrEnum):
    """How far apart the two ends of an edge are, as the pods are constrained."""

    SAME_POD = "SamePod"
    SAME_NODE = "SameNode"
    CROSS_NODE = "CrossNode"


class PodSecurity(StrEnum):
    """Pod security level that a namespace enforces (label pod-security.kubernetes.io/enforce)."""

    PRIVILEGED = "privileged"
    BASELINE = "baseline"
    RESTRICTED = "restricted"

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> PodSecurity:
        """The level of a namespace with these labels; without the label everything is permitted."""
        level = labels.get("pod-security.kubernetes.io/enforce", cls.PRIVILEGED.value)
        return cls(level) if level in set(cls) else cls.PRIVILEGED


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Rejected(_Value):
    """A better transport that was not usable."""

    choice: str
    code: Rejection
    fact: str


class EdgePlan(_Value):
    """The decision for one edge; both of its ends use it."""

    producer: int
    consumer: int
    from_stage: str
    to_stage: str
    reach: Reach
    connector: Connector
    connector_class: str
    protocol: Protocol
    max_payload_bytes: int
    reason: str
    rejected: tuple[Rejected, ...] = ()


class WorkerGroup(_Value):
    """Equal worker pods; `accelerators` and `stages` count for one pod (with Ray, stages are placed by Ray)."""

    name: str
    pods: int
    accelerators: int
    stages: tuple[str, ...]


class StorePlan(_Value):
    """A Mooncake store shared by all edges that use it; sizes in bytes."""

    protocol: Protocol
    segment_bytes: int
    localbuf_bytes: int
    rpc_port: int = 50051
    http_port: int = 8080
    metrics_port: int = 9003


class Domains(_Value):
    """Values of placement.topologyKey; pods of a replica start in one of `able`, and rather in one of `free`.

    Attributes:
        able: Domains whose nodes, if they were empty, hold a whole replica.
        free: Those of them that held one when the plan was made.
    """

    able: tuple[str, ...]
    free: tuple[str, ...]


class Sizes(_Value):
    """Derived sizes of one pod, in bytes; memory_bytes holds all of it, pools are those of a store."""

    shm_bytes: int
    object_store_bytes: int
    memory_bytes: int
    pool_bytes: int = 0


class Plan(_Value):
    """Everything that is decided before objects are made. Equal inputs give equal plans."""

    version: str
    line: str
    pipeline: str
    backend: Backend
    strategy: Strategy
    accelerator: AcceleratorType
    accelerator_resource: str | None
    groups: tuple[WorkerGroup, ...]
    edges: tuple[EdgePlan, ...]
    store: StorePlan | None
    rdma_resource: str | None
    node_shared_memory: bool
    pod_security: PodSecurity
    ray_version: str
    token_auth: bool
    cluster_ref: str | None
    topology_key: str | None
    domains: Domains | None = None
    worker_sizes: Sizes
    serving_sizes: Sizes
    notes: tuple[str, ...] = ()

    @property
    def accelerators(self) -> int:
        """Accelerators of one replica of the pipeline."""
        return sum(group.pods * group.accelerators for group in self.groups)

    @property
    def transport(self) -> str:
        """The transports in use, for a column: shm, or MooncakeStore/tcp."""
        used = {"shm" if e.protocol is Protocol.SHM else f"{e.connector}/{e.protocol}" for e in self.edges}
        return ", ".join(sorted(used)) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what it must wait for (None when the free accelerators can hold it)."""

    plan: Plan
    waits_for: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No plan; nothing may be created for it and nothing that runs is touched."""

    condition: ConditionType
    reason: Reason
    message: str
