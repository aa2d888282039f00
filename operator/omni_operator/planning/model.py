"""The Plan and its parts.

A Plan is kept as JSON in its revision's ConfigMap, so it is a pydantic model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from omni_operator.api import ports
from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol, Strategy
from omni_operator.connectors.transport import Reach, Rejection
from omni_operator.engine.release import PayloadKind
from omni_operator.topology.namespace import PodSecurity


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def _renamed(raw: Any, names: Mapping[str, str]) -> Any:
    """The current names of keys in a plan that an earlier operator has written."""
    return {names.get(key, key): value for key, value in raw.items()} if isinstance(raw, Mapping) else raw


class TransportRejection(_Value):
    """A better transport that was not usable."""

    choice: str
    code: Rejection
    fact: str


class EdgePlan(_Value):
    """The decision for one edge; both of its ends use it.

    Attributes:
        producer: Id of the stage that sends.
        consumer: Id of the stage that receives.
        from_stage: Name of the producer.
        to_stage: Name of the consumer.
        reach: How far apart the ends are.
        payload_kind: What the edge asks of its connector.
        connector: The connector; None when the server hands results on itself.
        connector_class: Its class in the release.
        protocol: What carries the bytes.
        payload_bytes: What passes at one time, usually; 0 without a connector, and in plans that
            were made before this was kept.
        max_payload_bytes: Bound of what one request sends.
        pool_bytes: Memory pool of each end that pins one (TransferEngine); 0 for others.
        port: Base port of the producer's listener; 0 when the connector has none.
        reason: Why it was chosen.
        rejected: Better transports that were not usable.
    """

    producer: int
    consumer: int
    from_stage: str
    to_stage: str
    reach: Reach
    payload_kind: PayloadKind = PayloadKind.ONE_PART
    connector: Connector | None
    connector_class: str
    protocol: Protocol
    payload_bytes: int = 0
    max_payload_bytes: int
    pool_bytes: int = 0
    port: int = 0
    reason: str
    rejected: tuple[TransportRejection, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, raw: Any) -> Any:
        return _renamed(raw, {"use": "payload_kind"})


class Sizes(_Value):
    """Derived sizes of one pod, in bytes.

    Attributes:
        shm_bytes: Size of /dev/shm.
        object_store_bytes: Ray's object store; 0 in a pod that is no Ray node.
        memory_bytes: Memory request; holds all of this.
        pool_bytes: Pools of connectors: store segments and buffers, pinned pools of every rank.
        disk_bytes: Request of ephemeral storage: logs and caches, and what Ray spills of its object
            store.
    """

    shm_bytes: int
    object_store_bytes: int
    memory_bytes: int
    pool_bytes: int = 0
    disk_bytes: int = 0


class StagePlan(_Value):
    """Where a stage runs.

    Attributes:
        id: Its id.
        name: Its name.
        pod: Name of the worker group that runs it, or "serving"; with Ray, where it may run.
        devices: Devices that it sees in its pod; with several copies in several pods, those of one
            copy; none for one that spans pods.
        replicas: Copies.
    """

    id: int
    name: str
    pod: str
    devices: tuple[int, ...]
    replicas: int = 1


class ServingPod(_Value):
    """The serving pod: the API server, and on backends without Ray stages of its own."""

    accelerators: int = 0
    stages: tuple[str, ...] = ()
    rdma: bool = False
    sizes: Sizes


class WorkerGroup(_Value):
    """Equal worker pods; `accelerators` and `stages` are those of one pod.

    With Ray, Ray places the stages. With `spans` the pods run one stage together: its process in
    the first pod, its workers, by Ray, in all.
    """

    name: str
    pods: int
    spans: bool = False
    accelerators: int
    stages: tuple[str, ...]
    rdma: bool = False
    sizes: Sizes

    @property
    def total(self) -> int:
        """Accelerators of all its pods."""
        return self.pods * self.accelerators


class StorePlan(_Value):
    """A Mooncake store shared by all edges that use it; sizes in bytes."""

    protocol: Protocol
    segment_bytes: int
    localbuf_bytes: int
    rpc_port: int = ports.MOONCAKE_MASTER
    http_port: int = ports.MOONCAKE_METADATA
    metrics_port: int = ports.MOONCAKE_METRICS


class Domains(_Value):
    """Values of placement.topologyKey where the pods of a replica may start.

    Attributes:
        able: Domains whose nodes, if they were empty, hold a whole replica.
        free: Those of them that held one when the plan was made.
    """

    able: tuple[str, ...]
    free: tuple[str, ...]


class Plan(_Value):
    """Everything that is decided before objects are made. Equal inputs give equal plans."""

    version: str
    series: str
    pipeline: str
    backend: Backend
    strategy: Strategy
    async_chunk: bool = False
    accelerator: AcceleratorType
    accelerator_resource: str | None
    serving: ServingPod
    groups: tuple[WorkerGroup, ...]
    stages: tuple[StagePlan, ...]
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
    notes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, raw: Any) -> Any:
        return _renamed(raw, {"line": "series", "streams": "async_chunk"})

    @property
    def accelerators(self) -> int:
        """Accelerators of one replica of the pipeline."""
        return self.serving.accelerators + sum(group.total for group in self.groups)

    @property
    def has_ray(self) -> bool:
        """Whether the pipeline has a Ray cluster, its own or one that it joins."""
        return self.backend is not Backend.LOCAL

    @property
    def transport(self) -> str:
        """The transports in use, for a column: shm, or MooncakeStore/tcp."""
        by_connector = [edge for edge in self.edges if edge.connector is not None]
        used = {"shm" if e.protocol is Protocol.SHM else f"{e.connector}/{e.protocol}" for e in by_connector}
        return ", ".join(sorted(used)) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what it must wait for (None when the free accelerators can hold it)."""

    plan: Plan
    waits_for: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanError:
    """No plan; nothing may be created for it and nothing that runs is touched."""

    condition: ConditionType
    reason: Reason
    message: str
