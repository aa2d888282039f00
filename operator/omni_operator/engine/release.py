"""What a vllm-omni release can do: the model of a record.

The records themselves are data (`releases.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from omni_operator.api.spec import Backend, Connector
from omni_operator.engine.flags import Flags

# What Mooncake logs when it cannot use the RDMA that it was asked for; it then uses TCP, and still
# says rdma (the first with 0.3.13.post1: run; the second is a string of its library).
RDMA_FALLBACK = re.compile(r"no rdma devices found|no available rnic", re.IGNORECASE)

# 0.22 on counts payloads by from_stage and to_stage (vllm_omni/metrics, run with 0.30).
TRANSFER_COUNTER = re.compile(r"vllm_omni:transfer_\w+_count")
OWNED_STAGE_KEYS = ("stage_id", "devices", "num_replicas", "input_connectors", "output_connectors", "async_chunk")


class ConfigFormat(StrEnum):
    """Shape of the stage configuration file."""

    STAGE_ARGS = "stage_args"
    DEPLOY = "deploy"


class PayloadSender(StrEnum):
    """Who puts a payload on an edge's connector."""

    SERVER = "server"
    WORKERS = "workers"


class PayloadKind(StrEnum):
    """What an edge asks of a connector, in one release and one plan.

    Attributes:
        ONE_PART: One payload per request, from a stage that only sends to one that only receives.
        MIDDLE: As ONE_PART, and an end of the edge is a stage that both receives and sends.
        CHUNKS: A payload in pieces while it is made (`async_chunk: true`).
        KV_CACHE: A KV cache, sent per rank.
        SYNCHRONOUS: A payload that a diffusion worker waits for with a deadline.
        PROMPT: Nothing; the server hands the result on.
    """

    ONE_PART = "whole"
    MIDDLE = "middle"
    CHUNKS = "chunks"
    KV_CACHE = "kv_cache"
    SYNCHRONOUS = "synchronous"
    PROMPT = "prompt"


class HealthMeaning(StrEnum):
    """What 200 on /health says."""

    PROCESS = "the server process answers"
    ORCHESTRATOR = "the orchestrator lives"
    FIRST_REPLICAS = "the orchestrator lives, and the first replica of every stage"
    EVERY_STAGE = "the orchestrator lives, and a replica of every stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorRecord:
    """A connector as a release has it.

    Attributes:
        class_name: Name that the release's factory knows.
        keys: Keys of its own that the release reads from `extra`; only these are rendered.
    """

    class_name: str
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFormula:
    """The port that a connector binds: base + purpose + replica*stride + rank*stride + stage.

    Attributes:
        payloads: Whether connectors of payloads use it too; before 0.30 only those of KV caches do,
            and a payload's binds the configured port as it is.
        purposes: Offset by purpose.
        replica_stride: Added per replica of a stage; 0 where the release has no such term.
        rank_stride: Added per tensor-parallel rank.
        stages: Stages that the formula keeps apart.
    """

    payloads: bool
    purposes: Mapping[str, int]
    replica_stride: int
    rank_stride: int
    stages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A known fault of a release that plans work around.

    Attributes:
        code: Short name.
        what: What happens.
        source: Where it was seen: an issue, a pull request, or the release that was run.
    """

    code: str
    what: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A vllm-omni release series.

    Attributes:
        series: Major and minor, such as "0.16".
        backends: Backends that work, in the order that Auto prefers them.
        config_format: Format of the stage configuration.
        flags: Its command line.
        owned_stage_keys: Keys of a stage's configuration that the operator writes, so that nobody
            else may.
        payload_sender: Who puts payloads on connectors.
        whole_by_server: Whether a payload that is not streamed is handed on by the server, whatever
            the configuration says.
        copies_across_pods: Whether the copies of a stage may be in several pods, each with the
            devices of one copy.
        connectors: Connectors that it has.
        supported_connectors: Connectors that work across pods, by what the edge asks; SharedMemory
            only where memory is shared.
        ports: How connectors compute their ports; None where each entry's port is taken as it is.
        ray_version: Ray version to assume in the image when the spec does not say (the release's
            own development pin, or the newest with which it was run).
        mooncake_version: Mooncake version to assume in the image (development pin).
        init_timeout_seconds: Default of --init-timeout.
        exits_on_init_timeout: Whether the server ends when stages are not ready in time; otherwise
            it serves without them.
        health: What 200 on /health says.
        transfer_counter: Metrics of /metrics that count payloads by from_stage and to_stage; None
            where it counts none.
        async_chunk_key: Whether the configuration has a top-level `async_chunk`.
        rdma_fallback: Log line by which Mooncake says that it uses TCP although RDMA was asked for.
        defects: Known faults.
    """

    series: str
    backends: tuple[Backend, ...]
    config_format: ConfigFormat
    flags: Flags
    owned_stage_keys: tuple[str, ...] = OWNED_STAGE_KEYS
    payload_sender: PayloadSender
    whole_by_server: bool = False
    copies_across_pods: bool = False
    connectors: Mapping[Connector, ConnectorRecord]
    supported_connectors: Mapping[PayloadKind, frozenset[Connector]]
    ports: PortFormula | None
    ray_version: str
    mooncake_version: str
    init_timeout_seconds: int = 600
    exits_on_init_timeout: bool = True
    health: HealthMeaning
    transfer_counter: re.Pattern[str] | None = None
    async_chunk_key: bool = True
    rdma_fallback: re.Pattern[str] = RDMA_FALLBACK
    defects: tuple[Defect, ...] = field(default=())

    def mooncake(self, stated: str | None) -> str:
        """Version of Mooncake in the image: what the spec states, or else the release's pin."""
        return stated or self.mooncake_version


def ray_has_token_auth(ray_version: str) -> bool:
    """Whether Ray knows RAY_AUTH_MODE=token (2.52.0 on; KubeRay 1.6.2 checks the same)."""
    major, minor = (int(part) for part in ray_version.split(".")[:2])
    return (major, minor) >= (2, 52)
