"""The programs' files, the contract of their messages, and what the sources write."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import omni_operator

FOLDER = Path(omni_operator.__file__).parent / "launcher"
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if path.name not in {"__init__.py", "message.py"})
# Every call that names a code.
_REPORTS = frozenset({"report", "reason", "GiveUpError", "MismatchError"})


def load(name: str) -> ModuleType:
    """A file of the launcher as a module; nothing outside the launcher imports it otherwise."""
    spec = importlib.util.spec_from_file_location(f"launcher_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


message = load("message")
SAMPLES: dict[str, dict[str, Any]] = {
    "EngineReleaseMismatch": {"found": "0.28.0", "expected": "0.30.0"},
    "MooncakeMissing": {},
    "MooncakeVersionMismatch": {"found": "0.3.11.post1", "least": "0.3.12", "below": ""},
    "CannotStart": {"process": "stage 1", "command": "vllm", "detail": "No such file or directory"},
    "RayMissing": {"python": "/usr/bin/python3"},
    "RayVersionUnexpected": {"found": "2.53.0", "expected": "2.54.0", "at_least": False},
    "RayVersionMismatch": {"found": "2.52.1", "found_python": None, "cluster": "2.53.0", "cluster_python": None},
    "RayUnreachable": {"what": "head", "address": "head.ns.svc:6379", "seconds": 600.0, "detail": "Connection refused"},
    "RayTokenRefused": {"address": "http://head.ns.svc:8265", "status": 401, "detail": "Unauthorized"},
    "RayStartFailed": {"exit_code": 1, "seconds": 600.0, "detail": "raylet died"},
    "RayHeadLost": {"address": "head.ns.svc:6379", "detail": "Connection refused"},
    "RayResourcesMissing": {"needed": 3, "found": 2, "nodes": 1, "seconds": 600.0},
    "StageLost": {"actor": "OmniStage", "pid": 3533, "address": "10.0.0.7", "detail": "its worker process has died."},
    "ProcessEnded": {"process": "stage 1", "exit_code": 1, "signal": None},
    "HeadRestarted": {"address": "10.0.0.9"},
    "HeadGone": {"address": "10.0.0.9"},
    "PeerLost": {"address": "10.0.0.7"},
}


def reported(code: str, **fields: Any) -> str:
    """A termination message as a program writes it."""
    return str(message.encode(code, {**SAMPLES[code], **fields}))


def written() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Program, code and fields of every call that reports something."""
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in _REPORTS:
                    yield path.name, str(node.args[0].value), tuple(str(keyword.arg) for keyword in node.keywords)
