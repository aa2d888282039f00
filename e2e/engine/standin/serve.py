"""`vllm serve` and `vllm-omni serve`: the flags, waits, endpoints and answers of vllm-omni 0.16."""

import argparse
import base64
import io
import math
import os
import signal
import struct
import sys
import time
import uuid
import wave
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.error import HTTPError

from .ray import RUNTIME, take
from .web import Reply, Route, call, listen

SHM = Path("/dev/shm")
CONNECTORS = [f"{name}Connector" for name in ("MooncakeStore", "MooncakeTransferEngine", "SharedMemory", "Yuanrong")]


def read_stages(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the stages of a `--stage-configs-path` file, and the connector into each of them (of its first edge).

    Raises:
        ValueError: an edge names no known connector, or its two ends name different ones.
    """
    import yaml

    document = yaml.safe_load(path.read_text())
    stages: list[dict[str, Any]] = document["stage_args"]
    known = (document.get("runtime") or {}).get("connectors") or {}

    def resolve(reference: Any) -> dict[str, Any]:
        found = known.get(reference) if isinstance(reference, str) else reference
        if not found:
            raise ValueError(f"Undefined connector reference: {reference}")
        if found["name"] not in CONNECTORS:
            raise ValueError(f"Unknown connector: {found['name']}. Available: {CONNECTORS}")
        return dict(found)

    into = []
    for stage in stages:
        connector = {"name": "SharedMemoryConnector"}  # what an edge without a connector gets
        for source in stage.get("engine_input_source") or []:
            producer = next(s for s in stages if s["stage_id"] == source)
            ends = [(stage.get("input_connectors") or {}).get(f"from_stage_{source}")]
            ends += [(producer.get("output_connectors") or {}).get(f"to_stage_{stage['stage_id']}")]
            both = [resolve(end) for end in ends if end is not None] or [connector]
            if both[0]["name"] != both[-1]["name"]:
                raise ValueError(f"Connector type mismatch for edge {source}->{stage['stage_id']}")
            connector = both[0]
        into.append(connector)
    return stages, into


def place(address: str, count: int) -> list[str]:
    """Wait until Ray has room for `count` bundles of one GPU and one CPU; returns the agent address of each stage's node."""
    if not any(file.read_text() for file in RUNTIME.glob("*")):
        raise SystemExit("ConnectionError: Ray can not find a node on this host; run `ray start --address` here first.")
    while True:  # Ray's placement group has no timeout either
        nodes = call(f"http://{address}/standin/nodes")["data"]["result"]["result"]
        room = [
            (min(n["resources_total"].get(k, 0) for k in ("GPU", "CPU")), n["agent"])
            for n in nodes
            if n["state"] == "ALIVE"
        ]
        slots = [agent for free, agent in sorted(room, reverse=True) for _ in range(int(free))]  # PACK: fullest first
        if len(slots) >= count:
            return slots[:count]
        time.sleep(0.5)


def wait_for_store(connectors: list[dict[str, Any]]) -> None:
    """Wait up to 90 s, as Mooncake does, for the metadata server of every store."""
    stores = [c.get("extra") or {} for c in connectors if c["name"] == "MooncakeStoreConnector"]
    for url in {store.get("metadata_server", "http://127.0.0.1:8080/metadata") for store in stores}:
        until = time.monotonic() + 90
        while True:
            try:
                call(f"{url}?key=standin")
                break
            except HTTPError:  # the real master answers 404 to a key that it does not hold
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise SystemExit("RuntimeError: Mooncake setup failed: -1") from error
                time.sleep(0.5)


def sound(seconds: float = 0.2) -> str:
    """Return a 24 kHz mono WAV in base64."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 24000, 0, "NONE", ""))
        frames = (int(9000 * math.sin(i / 24000 * 440 * 2 * math.pi)) for i in range(int(seconds * 24000)))
        file.writeframes(b"".join(struct.pack("<h", frame) for frame in frames))
    return base64.b64encode(out.getvalue()).decode()


class Server:
    """Answers requests by walking through the stages, wherever they are."""

    def __init__(self, model: str, path: Path, address: str | None) -> None:
        self.model, self.requests = model, 0
        self.stages, self.connectors = read_stages(path)
        self.agents = place(address, len(self.stages)) if address else []
        wait_for_store(self.connectors)

    def chat(self, body: dict[str, Any]) -> Reply:
        """Answer POST /v1/chat/completions."""
        if (model := body.get("model", self.model)) != self.model:
            text = f"The model `{model}` does not exist."
            return 404, {"error": {"message": text, "type": "NotFoundError", "param": "model", "code": 404}}
        self.requests += 1
        name = f"chatcmpl-{uuid.uuid4().hex[:16]}"
        said = body["messages"][-1]["content"]
        text = said if isinstance(said, str) else " ".join(part.get("text", "") for part in said)
        wanted = body.get("modalities") or ["text", "audio"]
        ends = [i for i, s in enumerate(self.stages) if s.get("final_output") and s.get("final_output_type") in wanted]
        for index, connector in enumerate(
            self.connectors[: max(ends, default=-1) + 1]
        ):  # as in the engine: not further
            try:
                self._visit(index, name if index and connector["name"] == "SharedMemoryConnector" else None)
            except OSError as error:
                if not isinstance(error, HTTPError):
                    time.sleep(3600)  # the stage is gone: nobody tells the engine either, the request hangs
                cause = f"[Stage-{index}] Missing connector payload for request {name}."
                message = f"{{'request_id': '{name}', 'stage_id': {index}, 'error': '{cause} Ensure connectors ...'}}"
                error_body = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
                return 200, {"error": error_body}  # with status 200, as in the engine
        if self.requests == 1 and os.environ.get("STANDIN_LEAK_SHM") == "1":
            self._write(f"chatcmpl-{'0' * 16}")
        choices = []
        for kind in (self.stages[i]["final_output_type"] for i in ends):
            content: dict[str, Any] = {"role": "assistant", "content": f"You said: {text}", "audio": None}
            if kind == "audio":
                audio = {"id": f"audio-{name[9:]}", "data": sound(), "expires_at": int(time.time()) + 86400}
                content |= {"content": None, "audio": audio | {"transcript": ""}}
            choices.append({"index": 0, "message": content, "finish_reason": "stop"})
        usage = {"prompt_tokens": len(text), "completion_tokens": len(text) + 10, "total_tokens": 2 * len(text) + 10}
        head = {"id": name, "object": "chat.completion", "created": int(time.time()), "model": self.model}
        return 200, {**head, "choices": choices, "usage": usage}

    def _visit(self, index: int, segment: str | None) -> None:
        if segment:
            self._write(segment)
        if self.agents:
            call(f"http://{self.agents[index]}/stage/take", {"segment": segment})
        else:
            take({"segment": segment})

    @staticmethod
    def _write(name: str) -> None:  # a segment and its lock, named and protected as the engine's
        (SHM / name).touch(mode=0o600)
        (SHM / name).write_bytes(bytes(65536))
        (SHM / f"shm_{name}_lockfile.lock").touch()

    def models(self, _: dict[str, Any]) -> Reply:
        """Answer GET /v1/models."""
        return 200, {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "vllm"}]}

    def metrics(self, _: dict[str, Any]) -> Reply:
        """Answer GET /metrics."""
        return 200, f'vllm:request_success_total{{model_name="{self.model}"}} {self.requests}.0\n'


def main() -> int:
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--omni", action="store_true", required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--stage-configs-path", type=Path, required=True)
    parser.add_argument("--worker-backend", choices=["multi_process", "ray"], default="multi_process")
    parser.add_argument("--ray-address")
    parser.add_argument("--served-model-name")
    args, others = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"the stand-in ignores: {others}", flush=True)
    time.sleep(float(os.environ.get("STANDIN_START_DELAY", "0")))
    while os.environ.get("STANDIN_HANG_START") == "1":
        time.sleep(1)
    address = args.ray_address if args.worker_backend == "ray" else None
    server = Server(args.served_model_name or args.model, args.stage_configs_path, address)
    routes: dict[str, Route] = {
        "GET /health": lambda _: (200, ""),
        "GET /version": lambda _: (200, {"version": "0.16.0"}),
        "GET /v1/models": server.models,
        "GET /metrics": server.metrics,
        "POST /v1/chat/completions": server.chat,
    }
    listen(args.port, routes)
    print("All stages initialized successfully\nApplication startup complete.", flush=True)
    if after := os.environ.get("STANDIN_CRASH_AFTER"):
        Timer(float(after), os._exit, (1,)).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
