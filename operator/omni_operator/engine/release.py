"""What a vllm-omni release can do: the model of a record. The records themselves are data (`records.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from omni_operator.api.spec import Backend, Connector


class ConfigFormat(StrEnum):
    """Shape of the stage configuration file."""

    STAGE_ARGS = "stage_args"
    DEPLOY = "deploy"


class Mover(StrEnum):
    """Who puts a payload on an edge's connector."""

    SERVER = "server"
    WORKERS = "workers"


class EdgeUse(StrEnum):
    """What an edge asks of a connector, in one release and one plan.

    Attributes:
        WHOLE: One payload per request, between a stage that only sends and one that only receives.
        MIDDLE: As WHOLE, and an end of the edge is a stage that both receives and sends.
        CHUNKS: A payload in pieces while it is made (`async_chunk: true`).
        KV_CACHE: A KV cache, sent per rank.
        SYNCHRONOUS: A payload that a diffusion worker waits for with a deadline.
        PROMPT: Nothing; the server hands the result on.
    """

    WHOLE = "whole"
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
    """How connectors compute the port they bind: base + purpose + replica*stride + rank*stride + stage.

    Attributes:
        payloads: Whether connectors of payloads use it too; before 0.30 only those of KV caches do, and a payload's binds the
            configured port as it is.
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
        source: Where it was seen: an issue, a pull request, or "run".
    """

    code: str
    what: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A vllm-omni release line.

    Attributes:
        line: Major and minor, such as "0.16".
        backends: Backends that work, in the order that Auto prefers them.
        config_format: Format of the stage configuration.
        config_flag: Flag that takes the configuration.
        serve: Start of the serving command line.
        mover: Who puts payloads on connectors.
        whole_by_server: Whether a payload that is not streamed is handed on by the server, whatever the configuration says.
        copies_apart: Whether the copies of a stage may be in several pods, each with the devices of one copy.
        connectors: Connectors that it has.
        carriers: Connectors that work across pods, by what the edge asks; SharedMemory only where memory is shared.
        ports: How connectors compute their ports; None where each entry's port is taken as it is.
        ray_version: Ray version to assume in the image when the spec does not say (the release's own development pin, or the
            newest with which it was run).
        mooncake_version: Mooncake version to assume in the image (development pin).
        init_timeout_seconds: Default of --init-timeout.
        exits_on_init_timeout: Whether the server ends when stages are not ready in time; otherwise it serves without them.
        health: What 200 on /health says.
        metrics: Whether /metrics has vllm_omni:* (transfers per edge).
        async_chunk_key: Whether the configuration has a top-level `async_chunk`.
        defects: Known faults.
    """

    line: str
    backends: tuple[Backend, ...]
    config_format: ConfigFormat
    config_flag: str
    serve: tuple[str, ...]
    mover: Mover
    whole_by_server: bool = False
    copies_apart: bool = False
    connectors: Mapping[Connector, ConnectorRecord]
    carriers: Mapping[EdgeUse, frozenset[Connector]]
    ports: PortFormula | None
    ray_version: str
    mooncake_version: str
    init_timeout_seconds: int = 600
    exits_on_init_timeout: bool = True
    health: HealthMeaning
    metrics: bool = False
    async_chunk_key: bool = True
    defects: tuple[Defect, ...] = field(default=())

    def mooncake(self, stated: str | None) -> str:
        """Version of Mooncake in the image: what the spec states, or else the release's pin."""
        return stated or self.mooncake_version


# mooncake 0.3.13 removed ReplicateConfig.with_soft_pin, which the store connector of every release calls (run).
MOONCAKE_STORE_BELOW = (0, 3, 13)
# Before, a write over TCP is reported as done when the sender's kernel has it, and its reader may find what was there before
# (kvcache-ai/Mooncake#2086, mended by #2850; run: 30 of 100 writes of 8 MiB were torn with 0.3.11.post1, none with 0.3.12.post1).
MOONCAKE_ACKNOWLEDGES_FROM = (0, 3, 12)


def mooncake_has_store(version: str) -> bool:
    """Whether MooncakeStoreConnector can be built with a Mooncake version."""
    return _three(version) < MOONCAKE_STORE_BELOW


def mooncake_acknowledges(version: str) -> bool:
    """Whether a payload that a Mooncake version has sent over TCP has arrived."""
    return _three(version) >= MOONCAKE_ACKNOWLEDGES_FROM


def _three(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def ray_has_token_auth(ray_version: str) -> bool:
    """Whether a Ray version knows RAY_AUTH_MODE=token (2.52.0 on; KubeRay 1.6.2 validates the same bound)."""
    major, minor = (int(part) for part in ray_version.split(".")[:2])
    return (major, minor) >= (2, 52)
