"""The records of vllm-omni's releases, oldest first. Data only: a new release is one more record.

Read in the wheels of the nine stable releases (0.14.0 to 0.30.0; there are no odd minors) and run
where that was possible; a source in a comment names the module of the wheel. Each record says only
what differs from the one before it.
"""

from __future__ import annotations

from dataclasses import replace

from omni_operator.api.spec import Backend, Connector
from omni_operator.engine.flags import Flags
from omni_operator.engine.release import (
    TRANSFER_COUNTER,
    ConfigFormat,
    ConnectorRecord,
    Defect,
    HealthMeaning,
    PayloadKind,
    PayloadSender,
    PortFormula,
    Release,
)


class UnsupportedReleaseError(ValueError):
    """No record can stand for a version; the message lists those that exist."""


_SHM, _STORE = Connector.SHARED_MEMORY, Connector.MOONCAKE_STORE
_TE, _NIXL = Connector.MOONCAKE_TRANSFER_ENGINE, Connector.NIXL

# distributed/omni_connectors/connectors/*.py of each wheel: what the constructor reads from
# `extra`, without what the engine itself injects (role, stage_id, sender_host, sender_zmq_port).
_SHM_OLD = ConnectorRecord(class_name="SharedMemoryConnector", keys=frozenset({"shm_threshold_bytes"}))
_STORE_KEYS = frozenset({"host", "metadata_server", "master", "segment", "localbuf", "proto", "rdma"})
_STORE_NEW = ConnectorRecord(class_name="MooncakeStoreConnector", keys=_STORE_KEYS)
_TE_KEYS = frozenset({"host", "zmq_port", "protocol", "device_name", "memory_pool_size", "memory_pool_device"})
_TE_OLD = ConnectorRecord(class_name="MooncakeTransferEngineConnector", keys=_TE_KEYS)
_NIXL_NEW = ConnectorRecord(
    class_name="NixlConnector",
    keys=frozenset({"host", "zmq_port", "backends", "num_threads", "lease_seconds", "transfer_timeout_s"}),
)

_SERVER_PUTS = {
    # The server opens every edge's connector as a sender and each stage one as a receiver, so a
    # middle stage is no special case.
    PayloadKind.ONE_PART: frozenset({_SHM, _STORE, _TE}),
    PayloadKind.MIDDLE: frozenset({_SHM, _STORE, _TE}),
    PayloadKind.KV_CACHE: frozenset({_SHM, _STORE, _TE}),
    PayloadKind.CHUNKS: frozenset({_SHM}),
    PayloadKind.SYNCHRONOUS: frozenset({_SHM}),
    PayloadKind.PROMPT: frozenset({_SHM}),
}
# A worker has one connector for what it receives. TransferEngine takes a role, and a middle stage
# gets that of a receiver, whose put() returns (False, 0, None) (verified with 0.30). Chunks need
# connector.stage_id, which only SharedMemory and Nixl have
# (transfer_adapter/chunk_transfer_adapter.py; vllm-project/vllm-omni#7717).
_WORKERS_PUT = {
    PayloadKind.ONE_PART: frozenset({_SHM, _STORE, _TE}),
    PayloadKind.MIDDLE: frozenset({_SHM, _STORE}),
    PayloadKind.KV_CACHE: frozenset({_SHM, _STORE, _TE}),
    PayloadKind.CHUNKS: frozenset({_SHM}),
    PayloadKind.SYNCHRONOUS: frozenset({_SHM}),
    PayloadKind.PROMPT: frozenset({_SHM, _STORE, _TE}),
}
# engine/stage_init_utils.py get_stage_connector_spec of 0.18 to 0.24 returns nothing while
# async_chunk is false: 0.18 and 0.20 then open no connector (the server hands the payload on), 0.22
# and 0.24 the default one, SharedMemory, whatever the file says.
_WHOLE_IN_MEMORY = {**_WORKERS_PUT, PayloadKind.ONE_PART: frozenset({_SHM}), PayloadKind.MIDDLE: frozenset({_SHM})}
_WITH_NIXL = {kind: able | {_NIXL} for kind, able in _WORKERS_PUT.items()}

_INLINE_IGNORED = Defect(
    code="ShmThresholdIgnored",
    what="shm_threshold_bytes is not read, so a payload is never inline and both ends must share /dev/shm",
    source="distributed/omni_connectors/connectors/shm_connector.py (verified with 0.14 and 0.16)",
)
_PUT_ERRORS_LOST = Defect(
    code="StorePutErrorsLost",
    what="MooncakeStore ignores the return code of a put; a payload larger than localbuf is lost and the reader times "
    "out",
    source="connectors/mooncake_store_connector.py, verified with 0.14 to 0.18",
)
_HEALTH_SAYS_NOTHING = Defect(
    code="HealthSaysNothing",
    what="/health is 200 while a stage is dead",
    source="0.14 and 0.16: check_health does nothing for language model pipelines (verified with both)",
)
_RAY_IGNORED = Defect(
    code="RayBackendIgnored",
    what="--worker-backend ray and --ray-address are parsed and never read, so the stages run in the serving pod",
    source="entrypoints/cli/serve.py, 0.18 to 0.30",
)
_MIDDLE_STAGE = Defect(
    code="MiddleStageReceivesOnly",
    what="a stage that receives over MooncakeTransferEngine cannot send over it",
    source="utils/initialization.py get_connectors_config_for_stage (verified with 0.30)",
)
_CHUNKS_ON_MOONCAKE = Defect(
    code="ChunksNeedStageId",
    what="async_chunk over a Mooncake connector ends in AttributeError on connector.stage_id",
    source="vllm-project/vllm-omni#7717 (open); transfer_adapter/chunk_transfer_adapter.py",
)
_NO_READOPTION = Defect(
    code="StagesNotReadopted",
    what="a new head never takes headless stages of the old one; all must restart with it",
    source="engine/stage_engine_startup.py; coordinator part run",
)
_BAD_REFERENCES = Defect(
    code="BadConnectorReferencesIgnored",
    what="a connector that cannot be resolved is logged, and the stages then use SharedMemory",
    source="utils/initialization.py load_omni_transfer_config_for_model (verified with 0.30)",
)
_RDMA_FALLS_BACK = Defect(
    code="RdmaFallsBackToTcp",
    what="Mooncake without an RDMA device uses TCP and reports rdma; only the log line 'No RDMA devices found' says so",
    source="verified with mooncake 0.3.13.post1",
)
_UNACKNOWLEDGED = Defect(
    code="TcpWritesUnacknowledged",
    what="Mooncake before 0.3.12 says that a TCP write is done before it has arrived; what is read at once may be "
    "torn, or an earlier payload",
    source="kvcache-ai/Mooncake#2086, mended by #2850 (run: 0.3.11.post1 tore 30 of 100 writes of 8 MiB, and 3 of 20 "
    "puts of 1 MiB into the store; 0.3.12.post1 none of both, 0.3.13.post1 no write)",
)

_WHOLE_IGNORES_FILE = Defect(
    code="WholePayloadsIgnoreConfiguration",
    what="with async_chunk false every payload uses SharedMemory, whatever the file says",
    source="engine/stage_init_utils.py get_stage_connector_spec, 0.22 and 0.24",
)
_UNKNOWN_KEYS_REFUSED = Defect(
    code="UnknownStageKeysRefused",
    what="a key of a stage that no configuration class owns ends the start with ValueError",
    source="config/omni_config.py from_pipeline_config (0.30)",
)

_R14 = Release(
    series="0.14",
    backends=(Backend.RAY,),
    config_format=ConfigFormat.STAGE_ARGS,
    flags=Flags(
        program=("vllm", "serve"),
        config=("--stage-configs-path", "{path}"),
        ray=("--worker-backend", "ray", "--ray-address", "{address}"),
    ),
    payload_sender=PayloadSender.SERVER,
    connectors={_SHM: _SHM_OLD, _STORE: replace(_STORE_NEW, class_name="MooncakeConnector")},
    supported_connectors=_SERVER_PUTS,
    ports=None,
    ray_version="2.53.0",
    mooncake_version="0.3.8.post1",
    init_timeout_seconds=60000,
    exits_on_init_timeout=False,
    health=HealthMeaning.PROCESS,
    async_chunk_key=False,
    defects=(_INLINE_IGNORED, _PUT_ERRORS_LOST, _HEALTH_SAYS_NOTHING, _RDMA_FALLS_BACK, _UNACKNOWLEDGED),
)
_R16 = replace(
    _R14,
    series="0.16",
    connectors={_SHM: _SHM_OLD, _STORE: _STORE_NEW, _TE: _TE_OLD},
    init_timeout_seconds=600,
    async_chunk_key=True,
    defects=(
        *_R14.defects,
        Defect(
            code="SharedEntryBindsTwice",
            what="edges that share one MooncakeTransferEngine entry bind one port twice; every edge needs its own",
            source="entrypoints/omni.py (verified with 0.16)",
        ),
    ),
)
_R18 = replace(
    _R16,
    series="0.18",
    # Neither Ray nor headless: run_headless raises RuntimeError (entrypoints/cli/serve.py).
    backends=(Backend.LOCAL,),
    flags=replace(_R16.flags, ray=()),  # parsed and never read, see RayBackendIgnored
    payload_sender=PayloadSender.WORKERS,
    whole_by_server=True,
    supported_connectors=_WORKERS_PUT,
    exits_on_init_timeout=True,
    health=HealthMeaning.ORCHESTRATOR,
    defects=(_INLINE_IGNORED, _PUT_ERRORS_LOST, _RAY_IGNORED, _RDMA_FALLS_BACK, _UNACKNOWLEDGED),
)
_R20 = replace(
    _R18,
    series="0.20",
    backends=(Backend.LOCAL, Backend.HEADLESS),
    config_format=ConfigFormat.DEPLOY,
    flags=Flags(
        program=("vllm-omni", "serve"),  # the wheel has no `vllm` script from 0.20 on
        config=("--deploy-config", "{path}"),
        head=("--stage-id", "0", "-oma", "{address}", "-omp", "{port}"),
        headless=("--stage-id", "{stage}", "--headless", "-oma", "{address}", "-omp", "{port}"),
    ),
    ports=PortFormula(
        payloads=False,
        purposes={"request_forwarding": 0, "kv_transfer": 100, "orchestrator": 200},
        replica_stride=0,
        rank_stride=16,
        stages=16,
    ),
    mooncake_version="0.3.9",
    health=HealthMeaning.FIRST_REPLICAS,
    defects=(
        _INLINE_IGNORED,
        _RAY_IGNORED,
        _MIDDLE_STAGE,
        _CHUNKS_ON_MOONCAKE,
        _NO_READOPTION,
        _BAD_REFERENCES,
        _RDMA_FALLS_BACK,
        _UNACKNOWLEDGED,
    ),
)
assert _R20.ports is not None
_R22 = replace(
    _R20,
    series="0.22",
    whole_by_server=False,
    # Earlier series demand the devices of all copies by name (compute_replica_layout), and one pod
    # has them.
    copies_across_pods=True,
    supported_connectors=_WHOLE_IN_MEMORY,
    ports=replace(_R20.ports, replica_stride=1024),
    transfer_counter=TRANSFER_COUNTER,
    defects=(*_R20.defects, _WHOLE_IGNORES_FILE),
)
assert _R22.ports is not None
_R24 = replace(_R22, series="0.24")
_R26 = replace(
    _R24,
    series="0.26",
    supported_connectors=_WORKERS_PUT,
    connectors={
        _SHM: replace(_SHM_OLD, keys=frozenset()),
        _STORE: _STORE_NEW,
        _TE: replace(_TE_OLD, keys=_TE_KEYS | {"buffer_ttl_seconds"}),
    },
    ray_version="2.56.1",
    mooncake_version="0.3.11.post1",
    defects=tuple(d for d in _R24.defects if d not in {_INLINE_IGNORED, _WHOLE_IGNORES_FILE}),
)
_R28 = replace(_R26, series="0.28", health=HealthMeaning.EVERY_STAGE)
_R30 = replace(
    _R28,
    series="0.30",
    connectors={**_R28.connectors, _NIXL: _NIXL_NEW},
    supported_connectors=_WITH_NIXL,
    ports=replace(_R22.ports, payloads=True),
    mooncake_version="0.3.12.post1",
    defects=(*_R28.defects, _UNKNOWN_KEYS_REFUSED),
)

_RECORDS = (_R14, _R16, _R18, _R20, _R22, _R24, _R26, _R28, _R30)


_BY_SERIES = {record.series: record for record in _RECORDS}


def releases() -> tuple[Release, ...]:
    """All records, oldest first."""
    return _RECORDS


def numbers(version: str) -> tuple[int, ...]:
    """Major and minor of a version or a series, to compare."""
    return tuple(int(part) for part in version.split(".")[:2])


def exact_release(version: str) -> Release | None:
    """The record of a version's own series."""
    return next((record for record in _RECORDS if numbers(record.series) == numbers(version)), None)


def nearest_release(version: str) -> Release:
    """The newest record that is not newer than a version.

    It is the best approximation for a series without a record.

    Raises:
        UnsupportedReleaseError: The version is older than every record, or of another major
            version.
    """
    before = [record for record in _RECORDS if numbers(record.series) <= numbers(version)]
    if not before or numbers(before[-1].series)[0] != numbers(version)[0]:
        known = ", ".join(record.series for record in _RECORDS)
        msg = f"engine.version {version}: this operator knows vllm-omni {known}; use a version of one of these series"
        raise UnsupportedReleaseError(msg)
    return before[-1]


def release_of(series: str) -> Release:
    """The record of a series that a plan names."""
    return _BY_SERIES[series]
