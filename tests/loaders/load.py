"""Answers what one vllm-omni release makes of configuration files, one JSON request per line.

    python -m tests.loaders.load WHEEL_FOLDER RELEASE < requests.jsonl > answers.jsonl

Run it in a process of its own: it makes stand-ins for vLLM importable. Requests and answers:
tests/loaders/loader.py.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.loaders import edges, shims, stages
from tests.loaders.openers import Openers, factory
from tests.loaders.stages import Version


class Judge:
    """One release's code."""

    def __init__(self, folder: Path, release: str, scratch: Path) -> None:
        major, minor = release.split(".")
        self._version: Version = (int(major), int(minor))
        self._root = folder / "vllm_omni"
        self._scratch = scratch
        shims.install(folder)
        self._openers = Openers(self._version, self._root, factory())

    def about(self) -> dict[str, Any]:
        """What the release has, and which of its modules were executed so far."""
        real, stand_ins = shims.executed()
        return {
            "connectors": list(self._openers.factory.list_registered_connectors()),
            "pipelines": sorted(self._pipelines()),
            "shipped": [str(path.relative_to(self._root)) for path in self._shipped()],
            "real": real,
            "stand_ins": stand_ins,
        }

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stages and edges of one file, or the error of the release's code."""
        with _logged() as logged:
            try:
                found = self._load(request)
            except Exception as error:
                message = str(error)
                if error.__cause__ is not None:  # the factory's reason is wrapped by its callers
                    message += f" (because of {error.__cause__})"
                return {"ok": False, "error": f"{type(error).__name__}: {message}", "warnings": logged}
        return {"ok": True, **found, "warnings": logged}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        model = stages.model_folder(self._scratch, request.get("pipeline"))
        if "file" in request:
            path = self._root / request["file"]
        else:
            path = self._scratch / "config.yaml"
            path.write_text(request["config"])
        resolved, document = stages.resolve(self._version, path, model)
        expected = request.get("stages")
        if expected is not None and len(resolved) != expected:
            msg = f"{len(resolved)} stages, not {expected}"
            raise stages.RefusedError(msg)
        return {
            "edges": edges.resolve(self._openers, path, document, resolved, model),
            "stages": [_describe(stage) for stage in resolved],
        }

    def _pipelines(self) -> list[str]:
        """Names in the release's registry of pipelines (0.20 on)."""
        if self._version < (0, 20):
            return []
        registry = importlib.import_module("vllm_omni.config.pipeline_registry")
        return list(registry._OMNI_PIPELINES if self._version < (0, 24) else registry.OMNI_PIPELINES)

    def _shipped(self) -> Iterator[Path]:
        """Configurations in the wheel: stage_configs (0.14 to 0.24) and deploy (0.20 on)."""
        folders = sorted(self._root.rglob("stage_configs")) + [self._root / "deploy"]
        for folder in folders:
            yield from sorted(folder.glob("*.y*ml"))


def _describe(stage: stages.Stage) -> dict[str, Any]:
    return {
        "id": stage.id,
        "kind": stage.kind,
        "devices": stage.devices,
        "num_replicas": stage.num_replicas,
        "replica_devices": stage.replica_devices,
        "async_chunk": stage.async_chunk,
        "sources": list(stage.sources),
        "engine_args": stage.engine_args,
    }


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what is logged as a warning or worse, and Python's own warnings."""
    logged: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield logged
        logged += [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    finally:
        logging.getLogger().removeHandler(handler)


def main() -> None:
    """Answer requests until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the release's code may print
    with tempfile.TemporaryDirectory(prefix="loaders-") as scratch:
        os.environ["XCODEC1_PATH"] = scratch  # where a model's decoder lies (audex_tta, 0.26 on): else it is downloaded
        judge = Judge(Path(sys.argv[1]), sys.argv[2], Path(scratch))
        for line in sys.stdin:
            request = json.loads(line)
            answer = judge.about() if request.get("about") else judge.load(request)
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
