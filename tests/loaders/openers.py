"""The connectors that the processes of a stage open, by the release's own code (child process).

Only the constructors are replaced: they need a network, a GPU or a library. A recorder stands in
the factory's registry under every registered name, so a name that the release does not know fails
as in the engine.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.loaders import excerpt, shims
from tests.loaders.stages import Stage, Version, plain

CONNECTORS = "vllm_omni.distributed.omni_connectors"
MIXIN = "vllm_omni.worker.omni_connector_model_runner_mixin"


@dataclass(frozen=True, slots=True)
class Opened:
    """A connector as its constructor was called."""

    name: str
    extra: dict[str, Any]

    @property
    def role(self) -> str | None:
        """sender, receiver, auto, or None where the release gives no role."""
        found = self.extra.get("role")
        return None if found is None else str(found)


def factory() -> Any:
    """OmniConnectorFactory with recorders as constructors."""
    found = importlib.import_module(f"{CONNECTORS}.factory").OmniConnectorFactory
    for name in list(found._registry):
        found._registry[name] = functools.partial(_record, name)
    return found


def _record(name: str, config: dict[str, Any]) -> Opened:
    return Opened(name, plain(config))


def workers(stage: Stage) -> Iterator[tuple[int, int]]:
    """Every replica and rank of a stage; the release's code runs as the one that is yielded."""
    before = os.environ.get("VLLM_OMNI_REPLICA_ID")
    try:
        for replica in range(max(1, stage.num_replicas)):
            for rank in range(stage.tensor_parallel):
                os.environ["VLLM_OMNI_REPLICA_ID"] = str(replica)  # get_omni_replica_id (0.22 on)
                shims.Rank.rank, shims.Rank.size = rank, stage.tensor_parallel
                yield replica, rank
    finally:
        shims.Rank.rank, shims.Rank.size = 0, 1
        os.environ.pop("VLLM_OMNI_REPLICA_ID", None)
        if before is not None:
            os.environ["VLLM_OMNI_REPLICA_ID"] = before


@dataclass(frozen=True, slots=True)
class Openers:
    """The code of one release that opens connectors."""

    version: Version
    root: Path  # .../vllm_omni
    factory: Any

    def model_config(self, stage: Stage, spec: dict[str, Any]) -> Any:
        """The part of OmniModelConfig that decides on connectors.

        `stage_connector_config` is made by OmniEngineArgs.create_model_config
        (vllm_omni.engine.arg_utils, all releases), whose other statements need vLLM.
        """
        arguments = SimpleNamespace(stage_connector_spec=spec, stage_id=stage.id)
        made = excerpt.run(
            self.root / "engine" / "arg_utils.py",
            start="stage_connector_config = {",
            end="stage_connector_config['extra']['stage_id']",
            names={"self": arguments},
        )["stage_connector_config"]
        args = stage.engine_args
        return SimpleNamespace(
            stage_connector_config=made,
            stage_id=stage.id,
            async_chunk=stage.async_chunk,
            model_arch=args.get("model_arch"),
            custom_process_next_stage_input_func=args.get("custom_process_next_stage_input_func"),
            requires_full_payload_input=args.get("requires_full_payload_input", False),
            supports_native_mrv2_data_plane=args.get("supports_native_mrv2_data_plane", False),
        )

    def payload(self, stage: Stage, spec: dict[str, Any]) -> dict[str, Callable[[], Opened]]:
        """Names of functions that open the connector of the stage's payloads; empty without one.

        Chunks: OmniChunkTransferAdapter in the scheduler (0.16 on; in 0.14 the scheduler itself),
        when async_chunk is on. Whole payloads: the model runner (0.22 on). A diffusion stage has
        neither.
        """
        if stage.kind == "diffusion":
            return {}
        config = self.model_config(stage, spec)
        native = bool(stage.engine_args.get("use_v2_model_runner")) and config.supports_native_mrv2_data_plane
        found: dict[str, Callable[[], Opened]] = {}
        if stage.async_chunk and not native:  # OmniSchedulerMixin._init_omni_io_scheduling_state in 0.30
            found["chunk adapter"] = functools.partial(self._chunk_adapter, config)
        if self.version >= (0, 22) and self._runner_opens(stage, config, native=native):
            mixin = importlib.import_module(MIXIN).OmniConnectorModelRunnerMixin
            found["model runner"] = functools.partial(mixin._create_connector, config)
        return found

    def _chunk_adapter(self, config: Any) -> Opened:
        if self.version < (0, 16):  # OmniARScheduler.__init__; OmniGenerationScheduler has the same lines
            scheduler = SimpleNamespace()
            spec = importlib.import_module(f"{CONNECTORS}.utils.config").ConnectorSpec
            excerpt.run(
                self.root / "core" / "sched" / "omni_ar_scheduler.py",
                start="connector_config = model_config.stage_connector_config",
                end="self.omni_connector = ",
                names={
                    "self": scheduler,
                    "model_config": config,
                    "ConnectorSpec": spec,
                    "OmniConnectorFactory": self.factory,
                },
            )
            return _opened(scheduler.omni_connector)
        adapter = importlib.import_module(f"{CONNECTORS}.transfer_adapter.chunk_transfer_adapter")
        return _opened(adapter.OmniChunkTransferAdapter.create_connector(config))

    def _runner_opens(self, stage: Stage, config: Any, *, native: bool) -> bool:
        """Whether the stage's model runner opens a connector of its own.

        0.22 to 0.26: a list of architectures in `__init__` of GPUARModelRunner and
        GPUGenerationModelRunner (0.26: or a role). 0.28, 0.30: needs_omni_connector, and
        _should_create_payload_connector inside init_omni_connectors. 0.30 with
        OmniRunnerDataPlane: it always calls init_omni_connectors.
        """
        mixin = importlib.import_module(MIXIN)
        module = importlib.import_module(f"{CONNECTORS}.utils.config")
        calls: list[Any] = []
        runner = SimpleNamespace(
            model_config=config,
            vllm_config=None,
            kv_transfer_manager=None,
            init_omni_connectors=lambda *args, **kwargs: calls.append(kwargs),
        )
        start = "_OMNI_CONNECTOR_INIT_ARCHS = " if self.version < (0, 28) else "if needs_omni_connector("
        if native:
            calls.append(None)
        else:
            kind = "generation" if stage.engine_args.get("worker_type") == "generation" else "ar"
            names = {"self": runner, "get_stage_connector_role": getattr(module, "get_stage_connector_role", None)}
            names["needs_omni_connector"] = getattr(mixin, "needs_omni_connector", None)
            source = self.root / "worker" / f"gpu_{kind}_model_runner.py"
            excerpt.run(source, start=start, end="self.init_omni_connectors(", names=names)
        if not calls:
            return False
        if self.version < (0, 28):
            return True
        runtime = (
            mixin
            if self.version < (0, 30)
            else importlib.import_module(f"{CONNECTORS}.model_runner.omni_connector_runtime")
        )
        return bool(runtime._should_create_payload_connector(config))

    def kv(self, stage: Stage, transfer: Any) -> tuple[str, Callable[[], Opened]] | None:
        """Role of a stage in a KV transfer, and the opener; None without `omni_kv_config`.

        resolve_omni_kv_config_for_stage, inject_omni_kv_config and OmniKVTransferManager.connector
        (all releases).
        """
        given = stage.engine_args.get("omni_kv_config") or {}
        role = "sender" if given.get("need_send_cache") else "receiver" if given.get("need_recv_cache") else None
        initialization = importlib.import_module(f"{CONNECTORS}.utils.initialization")
        connector, producer, consumer = initialization.resolve_omni_kv_config_for_stage(transfer, stage.id)
        if role is None or not connector:
            return None
        holder = SimpleNamespace(engine_args={"omni_kv_config": dict(given)})
        utils = importlib.import_module("vllm_omni.entrypoints.utils")
        utils.inject_omni_kv_config(holder, connector, producer, consumer)
        config = {"stage_id": stage.id, **holder.engine_args["omni_kv_config"]}
        return role, functools.partial(self._kv_connector, config)

    def _kv_connector(self, config: dict[str, Any]) -> Opened:
        manager = importlib.import_module(f"{CONNECTORS}.kv_transfer_manager").OmniKVTransferManager
        made = manager.from_od_config(SimpleNamespace(omni_kv_config=config)).connector
        if made is None:  # the manager swallows the reason; it is among the warnings
            msg = f"OmniKVTransferManager opens no connector for {config['connector_config']}"
            raise ValueError(msg)
        return _opened(made)


def _opened(found: Any) -> Opened:
    assert isinstance(found, Opened), found
    return found
