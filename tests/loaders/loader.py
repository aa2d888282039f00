"""`Loader`: a process that loads configuration files with the code of one release."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from tests.loaders import wheels

_CHECKOUT = Path(__file__).parents[2]
_PATIENCE = 120  # seconds for one answer; the first one of a process takes a few, on a busy machine more


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a connector that is opened.

    Attributes:
        purpose: payload or kv; of the formula: request_forwarding, kv_transfer or orchestrator.
        key: zmq_port (it listens there) or sender_zmq_port (it calls there).
    """

    purpose: str
    key: str
    replica: int
    rank: int
    port: int


@dataclass(frozen=True, slots=True)
class End:
    """The connector that one end of an edge opens; a stage has one for the payloads of all edges.

    Attributes:
        role: sender, receiver, auto, or None where the release gives no role (0.14 never does).
        connector: Class name.
        extra: As the constructor gets it, at replica 0 and rank 0.
        opened_by: chunk adapter, model runner, KV transfer manager; with 0.14 and 0.16 also server
            and stage.
        ports: Of every replica and tensor-parallel rank.
    """

    role: str | None
    connector: str
    extra: dict[str, Any]
    opened_by: tuple[str, ...]
    ports: tuple[Port, ...]

    @classmethod
    def of(cls, found: dict[str, Any] | None) -> End | None:
        """An end of an answer, if there is one."""
        if found is None:
            return None
        ports = tuple(Port(**port) for port in found["ports"])
        return cls(found["role"], found["connector"], found["extra"], tuple(found["opened_by"]), ports)


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the file or of the pipeline.

    Attributes:
        connector: Class name in the release's OmniTransferConfig; None when the file says nothing
            of the edge.
        extra: Its settings there, without role and ports.
        sender: The payload sender (the first of `opened_by`); None when payloads are part of
            requests, without a connector.
        producer: What the producing side opens for payloads.
        consumer: What the consuming side opens for payloads.
        kv_producer: What the producing stage opens for KV caches.
        kv_consumer: What the consuming stage opens for KV caches.
        formula: Ports of create_connectors_from_config (0.20 on), also of purposes that nobody
            opens.
    """

    from_stage: int
    to_stage: int
    connector: str | None
    extra: dict[str, Any]
    sender: str | None
    producer: End | None
    consumer: End | None
    kv_producer: End | None
    kv_consumer: End | None
    formula: tuple[Port, ...]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Edge:
        """An edge of an answer."""
        return cls(
            from_stage=found["from"],
            to_stage=found["to"],
            connector=found["connector"],
            extra=found["extra"],
            sender=found["sender"],
            producer=End.of(found["producer"]),
            consumer=End.of(found["consumer"]),
            kv_producer=End.of(found["kv_producer"]),
            kv_consumer=End.of(found["kv_consumer"]),
            formula=tuple(Port(**port) for port in found["formula"]),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as resolved.

    Attributes:
        kind: llm or diffusion.
        devices: As the file says, such as "0,1".
        replica_devices: Devices of each replica, where there are several (0.20 on).
        async_chunk: Whether this stage streams chunks.
        sources: Ids of the stages that feed it.
        engine_args: Without the model's path.
    """

    id: int
    kind: str
    devices: str | None
    num_replicas: int
    replica_devices: tuple[str | None, ...]
    async_chunk: bool
    sources: tuple[int, ...]
    engine_args: dict[str, Any]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Stage:
        """A stage of an answer."""
        found = {**found, "replica_devices": tuple(found["replica_devices"]), "sources": tuple(found["sources"])}
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a release makes of a file; `error` is "Type: message" of its exception, or None.

    Attributes:
        warnings: What it logged as a warning or worse, and Python warnings.
    """

    error: str | None
    edges: tuple[Edge, ...]
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the release takes the file."""
        return self.error is None

    def edge(self, from_stage: int, to_stage: int) -> Edge:
        """The edge between two stages."""
        return next(e for e in self.edges if (e.from_stage, e.to_stage) == (from_stage, to_stage))


@dataclass(frozen=True, slots=True)
class About:
    """A release.

    Attributes:
        connectors: Class names that its factory accepts, aliases included.
        pipelines: Names in its registry (0.20 on).
        shipped: Its configuration files, relative to the package.
        real: Modules of the wheel that were executed so far.
        stand_ins: Modules that only stand in (tests/loaders/shims.py).
    """

    connectors: tuple[str, ...]
    pipelines: tuple[str, ...]
    shipped: tuple[str, ...]
    real: tuple[str, ...]
    stand_ins: tuple[str, ...]


class Loader:
    """The loaders of one release in a process that ends with the `with` block; for one thread."""

    def __init__(self, wheel: wheels.Wheel) -> None:
        self.wheel = wheel
        self.folder = wheels.folder(wheel)
        self._errors: IO[str] | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.loaders.load", str(self.folder), self.wheel.release],
            cwd=_CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._errors is not None
        try:
            self._process.communicate(timeout=10)  # closes its input, which ends it
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()

    def load(self, config: str, pipeline: str | None, stages: int | None = None) -> Loaded:
        """What the release makes of a file's text.

        Args:
            config: The file.
            pipeline: The model type that the model's config.json names, a name of the registry
                (0.20 on); None without one.
            stages: How many stages there should be; another number is an error.
        """
        return self._loaded({"config": config, "pipeline": pipeline, "stages": stages})

    def load_shipped(self, file: str, pipeline: str | None, stages: int | None = None) -> Loaded:
        """As `load`, for a file of the wheel itself (of `About.shipped`)."""
        return self._loaded({"file": file, "pipeline": pipeline, "stages": stages})

    def text(self, file: str) -> str:
        """A shipped file."""
        return (self.folder / "vllm_omni" / file).read_text()

    def about(self) -> About:
        """What the release has."""
        return About(**{key: tuple(value) for key, value in self._ask({"about": True}).items()})

    def _loaded(self, request: dict[str, Any]) -> Loaded:
        found = self._ask(request)
        return Loaded(
            error=found.get("error"),
            edges=tuple(Edge.of(edge) for edge in found.get("edges", ())),
            stages=tuple(Stage.of(stage) for stage in found.get("stages", ())),
            warnings=tuple(found["warnings"]),
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._dead("it ended")
        if not select.select([process.stdout], [], [], _PATIENCE)[0]:
            self._dead(f"no answer within {_PATIENCE} s")
        line = process.stdout.readline()
        if not line:
            self._dead("it ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def _dead(self, why: str) -> None:
        assert self._errors is not None
        self._errors.seek(0)
        msg = f"the loader of vllm-omni {self.wheel.version}: {why}; it said {self._errors.read()[-2000:]}"
        raise RuntimeError(msg)
