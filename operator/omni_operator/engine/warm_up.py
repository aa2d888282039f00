"""The warm-up request of a server; an answer to it means that a request passed every stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from omni_operator.api.serving_spec import WarmUpMode, WarmUpSpec
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.engine.flags import flag_of
from omni_operator.engine.pipeline import WarmUp, catalog

# Either makes vLLM ask for a key, which the operator does not have.
_KEYS = ("--api-key", "VLLM_API_KEY")
_CHAT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRequest:
    """A POST to a server."""

    path: str
    body: str
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class SkippedWarmUp:
    """Why a server is not asked."""

    reason: str


def first_request(spec: OmniDeploymentSpec, wanted: WarmUpSpec, *, pipeline: str) -> FirstRequest | SkippedWarmUp:
    """The request for the servers of a revision, or why there is none.

    Args:
        spec: The revision's.
        wanted: serving.warmUp as it is now.
        pipeline: The pipeline's name in the catalog or in the spec.
    """
    if wanted.mode is WarmUpMode.NEVER:
        return SkippedWarmUp("serving.warmUp.mode is Never")
    flags = [flag_of(arg) for arg in spec.engine.extra_args]
    given = [*flags, *(env.name for env in spec.engine.env)]
    if found := next((key for key in _KEYS if key in given), None):
        return SkippedWarmUp(f"{found} keeps others from asking")
    if wanted.path is not None and wanted.body is not None:
        path, body = wanted.path, json.loads(wanted.body)
    else:
        if _known(spec, pipeline) is not WarmUp.CHAT:
            return SkippedWarmUp("no request is known that warms this pipeline up; give serving.warmUp.path and body")
        path, body = "/v1/chat/completions", _CHAT
    request = {"model": spec.model.served_name or spec.model.name, **body}
    return FirstRequest(path=path, body=json.dumps(request), timeout_seconds=wanted.timeout_seconds)


def error_of(status: int, answer: str) -> str:
    """The error in an answer; empty when there is none.

    vllm-omni reports errors of stages in an answer of status 200 (verified with 0.16).
    """
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):  # audio, a page of a proxy, or the beginning of something long
        found = None
    error = found.get("error") if isinstance(found, dict) else None
    if status < 300 and not error:
        if isinstance(found, dict) and found.get("choices") == []:
            return "the answer is empty"
        return ""
    words = error.get("message") if isinstance(error, dict) else error
    return f"HTTP {status}: {str(words or answer).strip()[:300]}"


def _known(spec: OmniDeploymentSpec, pipeline: str) -> WarmUp | None:
    entry = None if spec.model.definition is not None else catalog().get(pipeline)
    return entry.warm_up if entry else None
