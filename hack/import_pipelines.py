"""Makes the catalog files of shipped pipelines from unpacked vllm-omni wheels.

Usage: python hack/import_pipelines.py [--check] FOLDER, where FOLDER holds one unpacked wheel per
release (FOLDER/0.30.0/vllm_omni). With --check nothing is written and it fails when a file is not
what it would write.

What a person has to say (what it is, which models it serves, how to warm it up, how much an edge
carries) is in pipeline_table.yaml beside this file; the rest is the wheels':

- 0.14 to 0.18: `model_executor/stage_configs/NAME.yaml` holds stages, edges (`engine_input_source`)
  and engine arguments.
- 0.20 on: stages and edges are code (a PipelineConfig per model), and `deploy/NAME.yaml` places and
  tunes them. hack/wheel_topology.py asks the wheel's own code for both; `resolve_deploy_yaml`
  merges `base_config`.

How an edge passes its data is decided, in `config/stage_config.py` of the wheels, by
`_select_processor_funcs`: with async_chunk the producer sends by
`async_chunk_process_next_stage_input_func`, without it by `custom_process_next_stage_input_func`
(the full payload), or not at all, and then the server hands the result on
(`sync_process_input_func` or `custom_process_input_func` of the consumer). `merge_pipeline_deploy`
refuses async_chunk where no stage has such a producer, and `validate_stage_async_chunk_edges`
refuses an edge of such a producer whose ends differ. `engine_args.stage_input_payload_keys` and
`omni_kv_config` (`_build_engine_args`) are what diffusion workers and KV transfer read. In 0.14
and 0.16 `distributed/omni_connectors/adapter.py` puts the input of every next stage on its edge's
connector, whatever it is.

Comments, devices, replicas and connectors are dropped from the bodies: they are what the planner
decides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OUT = HERE.parent / "operator/omni_operator/engine/pipelines"
Yaml = dict[str, Any]

# Keys of a connector's `extra` that its own class reads; the others are read by the model, and stay
# with the edge.
TRANSPORT_KEYS = frozenset({
    "backend_type", "backends", "buffer_ttl_seconds", "device_name", "get_sub_timeout_ms", "host",
    "inline_small_payloads",
    "localbuf", "master", "memory_pool_device", "memory_pool_size", "metadata_server", "num_worker_threads", "port",
    "post_batch_size", "proto", "protocol", "qp_per_transfer", "rdma", "rpc_port", "segment", "shm_threshold_bytes",
    "xgmi_num_events", "xgmi_num_streams", "zmq_port",
})  # fmt: skip
WIRING = ("devices", "num_replicas", "input_connectors", "output_connectors")
NO_SETTING = ("base_config", "pipeline", "async_chunk", "connectors", "edges", "stages", "platforms")
PLATFORMS = ("cuda", "rocm")
KINDS = {"llm_ar": "ar", "llm_generation": "generation", "diffusion": "diffusion"}


class Release:
    """The configuration of one release.

    Attributes:
        series: Release series, such as 0.30.
    """

    def __init__(self, folder: Path) -> None:
        self.series = folder.name.rpartition(".")[0]
        self._stage_configs = folder / "vllm_omni/model_executor/stage_configs"
        self._wheel: Yaml | None = None
        if _version(self.series) >= (0, 20):
            ran = subprocess.run(
                [sys.executable, HERE / "wheel_topology.py", folder], capture_output=True, text=True, check=False
            )
            if ran.returncode:
                sys.exit(f"{folder}: its configuration code cannot be run:\n{ran.stderr}")
            self._wheel = yaml.load(ran.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def pipeline(self, name: str, known: Yaml) -> Yaml | None:
        """Content of `releases` for this series; None without a file or without edges in it."""
        if self._wheel is None:
            path = self._stage_configs / f"{name}.yaml"
            found = self._from_stage_args(yaml.safe_load(path.read_text()), known) if path.exists() else None
        else:
            raw = self._wheel["deploys"].get(name)
            # 0.22 and 0.24 ship two files of the older format among them; the flag we render does
            # not read those.
            found = self._from_deploy(name, raw, known) if raw and "stage_args" not in raw else None
        # 0.14 has Qwen3-TTS as one stage, and 0.18 puts two modes of HunyuanImage-3.0 in one file,
        # which share nothing.
        return found if found and found["edges"] else None

    def _from_stage_args(self, raw: Yaml, known: Yaml) -> Yaml:
        entries: list[Yaml] = raw["stage_args"]
        runtime: Yaml = raw.get("runtime") or {}
        pairs = {(source, entry["stage_id"]) for entry in entries for source in entry.get("engine_input_source") or []}
        pairs |= {(edge["from"], edge["to"]) for edge in runtime.get("edges") or []}
        edges = []
        for producer, consumer in sorted(pairs):
            first, second = entries[producer], entries[consumer]
            hook = first["engine_args"].get("custom_process_next_stage_input_func")
            if _moves_kv_cache(first["engine_args"], second["engine_args"]):
                carries = "kv_cache"
            else:
                # From 0.18 the server hands on what no worker sends.
                carries = "payload" if hook or _version(self.series) < (0, 18) else "prompt"
            edges.append(
                {
                    **_ends(producer, consumer),
                    "carries": carries,
                    "streams": hook is not None,
                    "whole": hook is None or "custom_process_input_func" in second,
                    "max_payload_bytes": _bound(known, producer, consumer),
                    **_extra(runtime.get("connectors") or {}, first, second),
                }
            )
        stages = [
            {
                "id": entry["stage_id"],
                "name": entry["engine_args"]["model_stage"],
                "kind": _kind(entry),
                **_placed(entry.get("runtime") or {}),
            }
            for entry in entries
        ]
        body = [
            {**_without(entry, WIRING), "runtime": _without(entry.get("runtime") or {}, WIRING)} for entry in entries
        ]
        return {
            "async_chunk": bool(raw.get("async_chunk", False)),
            "stages": stages,
            "edges": edges,
            "stage_args": body,
        }

    def _from_deploy(self, name: str, raw: Yaml, known: Yaml) -> Yaml:
        assert self._wheel is not None
        topology = raw.get("pipeline") or known.get("topology") or self._registry_name(name)
        shape: list[Yaml] = self._wheel["topologies"][topology]["stages"]
        entries = {entry["stage_id"]: _hoisted(entry) for entry in raw["stages"]}
        nothing: Yaml = {}
        edges = []
        for second in shape:
            for producer in second["input_sources"]:
                first = shape[producer]
                deployed = [entries.get(end["stage_id"], nothing) for end in (first, second)]
                edges.append(
                    {
                        **_ends(producer, second["stage_id"]),
                        **_passes(first, second, deployed),
                        "max_payload_bytes": _bound(known, producer, second["stage_id"]),
                        **_extra(raw.get("connectors") or {}, *deployed),
                    }
                )
        stages = [
            {
                "id": stage["stage_id"],
                "name": stage["model_stage"],
                "kind": KINDS[stage["execution_type"]],
                **_placed(entries.get(stage["stage_id"], nothing)),
            }
            for stage in shape
        ]
        # In this order: `_merge_platforms` goes through a set.
        platforms = {name: section for name in PLATFORMS if (section := (raw.get("platforms") or {}).get(name))}
        changes = {
            name: [_without(_hoisted(s), WIRING) for s in section.get("stages") or []]
            for name, section in platforms.items()
        }
        changes = {name: [c for c in found if len(c) > 1] for name, found in changes.items()}
        settings = {name: _without(section, ("stages",)) for name, section in platforms.items()}
        body: Yaml = {
            "settings": _without(raw, NO_SETTING),
            "stages": [_without(entries.get(s["stage_id"], {"stage_id": s["stage_id"]}), WIRING) for s in shape],
            "platforms": {name: found for name, found in changes.items() if found},
            "platform_settings": {name: found for name, found in settings.items() if found},
        }
        return {
            "topology": topology,
            "async_chunk": bool(raw.get("async_chunk", True)),
            "stages": stages,
            "edges": edges,
            "deploy": {key: value for key, value in body.items() if value},
        }

    def _registry_name(self, name: str) -> str:
        """Name in the registry that a deploy file without `pipeline` stands for."""
        assert self._wheel is not None
        topologies: Yaml = self._wheel["topologies"]
        # From 0.26 a PipelineConfig names its file; before, the file is named after the registry's
        # name.
        by_file = [key for key, found in topologies.items() if found["default_deploy"] == f"{name}.yaml"]
        if name in topologies or not by_file:
            return name
        return by_file[0]


def _version(series: str) -> tuple[int, ...]:
    return tuple(map(int, series.split(".")))


def _without(raw: Yaml, keys: Iterable[str]) -> Yaml:
    return {key: value for key, value in raw.items() if key not in keys}


def _hoisted(entry: Yaml) -> Yaml:
    """A stage of a deploy file; `runtime` and `engine_args` made flat (`_parse_stage_deploy`)."""
    return {
        **_without(entry, ("runtime", "engine_args")),
        **(entry.get("engine_args") or {}),
        **(entry.get("runtime") or {}),
    }


def _kind(entry: Yaml) -> str:
    """Kind of a stage_args entry; without a type that of the scheduler (CosyVoice3 of 0.18)."""
    if entry.get("stage_type") == "diffusion":
        return "diffusion"
    args: Yaml = entry["engine_args"]
    return "generation" if "generation" in (args.get("worker_type") or args.get("scheduler_cls", "")) else "ar"


def _placed(raw: Yaml) -> Yaml:
    """Devices and replicas as shipped; 0.18 has files with a bare number."""
    devices = [int(device) for device in str(raw.get("devices", 0)).split(",")]
    replicas = int(raw.get("num_replicas", 1))
    return {"devices": devices, "replicas": replicas} if replicas > 1 else {"devices": devices}


def _moves_kv_cache(first: Yaml, second: Yaml) -> bool:
    sends, receives = first.get("omni_kv_config") or {}, second.get("omni_kv_config") or {}
    return bool(sends.get("need_send_cache") and receives.get("need_recv_cache"))


def _passes(first: Yaml, second: Yaml, deployed: list[Yaml]) -> Yaml:
    """What passes between two stages of a PipelineConfig and how, in the keys of an Edge."""
    hook, chunks = first["custom_process_next_stage_input_func"], first["async_chunk_process_next_stage_input_func"]
    # 0.20 knows no full payload: what stands there sends chunks, and does nothing without
    # async_chunk.
    if hook and hook.endswith("_async_chunk"):
        hook, chunks = None, hook
    # `_build_engine_args`: the topology's own omni_kv_config wins over the file's.
    kv = [
        {"omni_kv_config": end["omni_kv_config"] or file.get("omni_kv_config")}
        for end, file in zip((first, second), deployed, strict=True)
    ]
    if _moves_kv_cache(*kv):
        carries = "kv_cache"
    elif second.get("stage_input_payload_keys"):
        carries = "synchronous"
    elif hook or chunks or second.get("requires_full_payload_input"):
        carries = "payload"
    else:
        carries = "prompt"
    handed_on = second.get("sync_process_input_func") or second["custom_process_input_func"]
    found = {"carries": carries, "streams": bool(chunks), "whole": carries != "payload" or bool(hook or handed_on)}
    # Without a hook for whole payloads no worker sends one, so no connector is opened for it.
    return found | ({"whole_by_server": True} if carries == "payload" and found["whole"] and not hook else {})


def _ends(producer: int, consumer: int) -> Yaml:
    return {"producer": producer, "consumer": consumer}


def _bound(known: Yaml, producer: int, consumer: int) -> int:
    mebibytes: int = known["payload_mib"][f"{producer}-{consumer}"]
    return mebibytes << 20


def _extra(connectors: Yaml, first: Yaml, second: Yaml) -> Yaml:
    """Model parameters on the connector of an edge, as load_omni_transfer_config reads them."""
    ends = (
        (first.get("output_connectors") or {}, f"to_stage_{second.get('stage_id')}"),
        (
            second.get("input_connectors") or {},
            f"from_stage_{first.get('stage_id')}",
        ),
    )
    for named, key in ends:
        if key in named:
            connector = connectors[named[key]] if isinstance(named[key], str) else named[key]
            extra = _without(connector.get("extra") or {}, TRANSPORT_KEYS)
            return {"extra": extra} if extra else {}
    return {}


def _folded(found: dict[str, Yaml]) -> Iterator[tuple[str, Yaml | str]]:
    """Lines with the same content as a newer one name it instead."""
    for series, content in found.items():
        newest = max((other for other in found if found[other] == content), key=_version)
        yield series, (content if newest == series else newest)


def entries(releases: list[Release]) -> Iterator[tuple[str, str]]:
    """Name of the file and its text, for every entry of the table."""
    table: dict[str, Yaml] = yaml.safe_load((HERE / "pipeline_table.yaml").read_text())
    for name, known in table.items():
        found = {release.series: content for release in releases if (content := release.pipeline(name, known))}
        if not found:
            sys.exit(f"{name}: no release has it with more than one stage")
        data = {
            "name": name,
            "about": known["about"],
            "models": known.get("models", []),
            **({"warm_up": known["warm_up"]} if "warm_up" in known else {}),
            "releases": dict(_folded(found)),
        }
        head = (
            f"# Made by hack/import_pipelines.py from vllm-omni's own configuration files named {name} (Apache-2.0).\n"
        )
        yield f"{name}.yaml", head + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes what is equal in two places twice: the files are read by people."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> None:
    """Writes one file per pipeline, or compares."""
    parser = argparse.ArgumentParser(
        description="Makes the catalog files of shipped pipelines from unpacked vllm-omni wheels."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument("folder", type=Path, help="holds one unpacked wheel per release")
    args = parser.parse_args()
    releases = [Release(folder) for folder in sorted(args.folder.iterdir(), key=lambda f: _version(f.name))]
    stale = []
    for name, text in entries(releases):
        path = OUT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not args.check:
            path.write_text(text)
    if args.check and stale:
        sys.exit(f"not what the wheels say: {', '.join(stale)}; run hack/import_pipelines.py")


if __name__ == "__main__":
    main()
