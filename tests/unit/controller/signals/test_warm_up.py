"""Ready means that a request has passed: what is asked, when, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.names import Component
from omni_operator.controller.signals import warm_up as warm_ups
from omni_operator.controller.signals.warm_up import WarmUps, pause_after
from omni_operator.engine.warm_up import FirstRequest, SkippedWarmUp, error_of, first_request
from tests.unit.controller.harness import KEY, Harness
from tests.unit.make import MODEL, raw_spec, spec

SPEECH = {"path": "/v1/audio/speech", "body": '{"input": "Hello", "model": "mine"}'}


def asked_of(found: OmniDeploymentSpec, *, pipeline: str) -> FirstRequest | SkippedWarmUp:
    return first_request(found, found.serving.warm_up, pipeline=pipeline)


def test_a_known_pipeline_is_asked_by_a_chat_request() -> None:
    found = asked_of(spec(), pipeline="qwen2_5_omni")
    assert isinstance(found, FirstRequest)
    assert (found.path, found.timeout_seconds) == ("/v1/chat/completions", 600)
    assert json.loads(found.body)["model"] == MODEL


def test_what_the_user_gives_is_what_is_asked() -> None:
    found = asked_of(spec(serving={"warmUp": {**SPEECH, "timeoutSeconds": 9}}), pipeline="no_such")
    assert found == FirstRequest(path="/v1/audio/speech", body='{"model": "mine", "input": "Hello"}', timeout_seconds=9)


@pytest.mark.parametrize(
    ("parts", "pipeline", "why"),
    [
        ({"serving": {"warmUp": {"mode": "Never"}}}, "qwen2_5_omni", "mode is Never"),
        ({"engine": {"extraArgs": ["--api-key=x"]}}, "qwen2_5_omni", "--api-key keeps others from asking"),
        (
            {"engine": {"extraArgs": ["--api_key", "x"]}, "serving": {"warmUp": SPEECH}},
            "qwen2_5_omni",
            "--api-key keeps others from asking",
        ),
        ({"engine": {"env": [{"name": "VLLM_API_KEY", "value": "x"}]}}, "qwen2_5_omni", "VLLM_API_KEY keeps"),
        ({}, "indextts2", "give serving.warmUp.path and body"),
        ({}, "mine", "give serving.warmUp.path and body"),
    ],
)
def test_why_nothing_is_asked(parts: dict[str, Any], pipeline: str, why: str) -> None:
    found = asked_of(spec(**parts), pipeline=pipeline)
    assert isinstance(found, SkippedWarmUp)
    assert why in found.reason


@pytest.mark.parametrize(
    ("status", "answer", "wrong"),
    [
        (200, '{"choices": [{}]}', ""),
        (200, "RIFF....WAVE", ""),
        (200, '{"error": {"message": "stage 1 died"}}', "HTTP 200: stage 1 died"),
        (200, '{"choices": []}', "the answer is empty"),
        (400, '{"error": "no such model"}', "HTTP 400: no such model"),
        (503, "<html>busy</html>", "HTTP 503: <html>busy</html>"),
        (200, "[" * 100_000, ""),
    ],
)
def test_what_counts_as_an_answer(status: int, answer: str, wrong: str) -> None:
    assert error_of(status, answer) == wrong


@pytest.mark.parametrize("body", ["[1]", "{]", '"text"', "[" * 9000])
def test_a_body_that_is_no_object_is_refused_with_an_example(body: str) -> None:
    with pytest.raises(ValueError, match="must be a JSON object as text"):
        spec(serving={"warmUp": {"path": "/x", "body": body}})


@dataclass
class Engine:
    """A server whose answer the test decides."""

    status: int = 200
    answer: dict[str, Any] = field(default_factory=lambda: {"choices": [{}]})
    asked: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    woken: list[str] = field(default_factory=list)
    port: int = 0

    async def chat(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        await self.gate.wait()
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    found = Engine()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", found.chat)
    async with TestServer(app) as server:
        assert server.port is not None
        found.port = server.port
        yield found


pauses: list[float] = []  # how long a server is left alone after a failure


async def sleep(seconds: float) -> None:
    pauses.append(seconds)
    await asyncio.sleep(3600)


async def harness_with_server(engine: Engine, **warm_up: Any) -> Harness:
    """One whose server has just become ready."""
    harness = Harness(spec=raw_spec(serving={"port": engine.port, "warmUp": warm_up}))
    pauses.clear()
    harness.reconciler.collector.warm_ups.wake = engine.woken.append
    harness.reconciler.collector.warm_ups.sleep = sleep
    await harness.settle()
    harness.pod(Component.STORE)
    harness.pod(Component.HEAD)
    for number in range(3):
        harness.pod(Component.WORKER, number)
    harness.ray()
    harness.child_status("Deployment", harness.server, availableReplicas=1)
    harness.later()
    harness.pod(Component.SERVING, podIP="127.0.0.1")
    await harness.settle()
    return harness


async def answered(harness: Harness, engine: Engine) -> None:
    """Until the request on its way has ended."""
    for _ in range(500):
        if engine.woken:
            break
        await asyncio.sleep(0.01)
    assert engine.woken == [KEY]
    engine.woken.clear()
    await harness.settle()


def ready(harness: Harness) -> tuple[str, str]:
    found = harness.condition("Ready")
    return found["status"], found["reason"]


async def test_ready_waits_for_the_first_answer_and_no_reconcile_waits(engine: Engine) -> None:
    harness = await harness_with_server(engine)
    assert ready(harness) == ("False", "WarmingUp")
    assert harness.status["readyReplicas"] == 0
    engine.gate.set()
    await answered(harness, engine)
    assert ready(harness) == ("True", "Serving")
    assert harness.status["answered"] == [{"pod": "serving-0", "since": "2026-01-01T12:01:00Z"}]
    await harness.settle()
    assert len(engine.asked) == 1


async def test_another_process_of_the_operator_does_not_ask_again(engine: Engine) -> None:
    harness = await harness_with_server(engine)
    engine.gate.set()
    await answered(harness, engine)
    harness.reconciler.collector.warm_ups = WarmUps(wake=engine.woken.append)
    await harness.settle()
    assert ready(harness) == ("True", "Serving")
    assert len(engine.asked) == 1


async def test_a_server_that_was_unready_is_asked_again(engine: Engine) -> None:
    harness = await harness_with_server(engine)
    engine.gate.set()
    await answered(harness, engine)
    harness.later()
    harness.pod(Component.SERVING, podIP="127.0.0.1")  # ready since now
    await harness.settle()
    assert ready(harness) == ("False", "WarmingUp")
    await answered(harness, engine)
    assert ready(harness) == ("True", "Serving")
    assert len(engine.asked) == 2


async def test_a_failure_is_told_and_tried_again_later(engine: Engine) -> None:
    engine.status, engine.answer = 500, {"error": {"message": "stage talker is gone"}}
    engine.gate.set()
    harness = await harness_with_server(engine)
    await answered(harness, engine)
    assert ready(harness) == ("False", "NotServing")
    condition = harness.condition("ServingReady")
    assert condition["reason"] == "WarmUpFailed"
    assert "pod serving-0" in condition["message"]
    assert "HTTP 500: stage talker is gone" in condition["message"]
    assert ("WarmUpFailed", condition["message"]) in harness.events
    await harness.reconcile()
    assert pauses == [30]
    assert len(engine.asked) == 1


async def test_a_corrected_request_is_asked_at_once_and_makes_no_revision(engine: Engine) -> None:
    engine.status = 400
    engine.gate.set()
    harness = await harness_with_server(engine)
    await answered(harness, engine)
    before = harness.revision
    engine.status = 200
    body = json.dumps({"messages": [], "mine": True})
    warm_up = {"path": "/v1/chat/completions", "body": body}
    harness.edit(serving={"port": engine.port, "warmUp": warm_up})
    await harness.settle()
    await answered(harness, engine)
    assert ready(harness) == ("True", "Serving")
    assert harness.revision == before
    assert engine.asked[-1]["mine"] is True


async def test_what_is_on_its_way_ends_with_the_process(engine: Engine) -> None:
    harness = await harness_with_server(engine)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "warm-up of serving-0")
    await harness.reconciler.close()
    assert task.cancelled()
    assert not engine.woken


async def test_the_running_revision_is_asked_as_it_is_and_not_as_an_edit_that_is_held(engine: Engine) -> None:
    engine.gate.set()
    harness = await harness_with_server(engine)
    await answered(harness, engine)
    harness.edit(model={"name": MODEL, "servedName": "other"}, rollout={"strategy": "Hold"})
    harness.later()
    harness.pod(Component.SERVING, podIP="127.0.0.1")
    await harness.settle()
    await answered(harness, engine)
    assert harness.condition("Planned")["reason"] == "Held"
    assert [each["model"] for each in engine.asked] == [MODEL, MODEL]


async def test_whatever_an_answer_is_it_is_an_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise KeyError("what nobody thought of")

    monkeypatch.setattr(warm_ups, "error_of", broken)
    engine.gate.set()
    harness = await harness_with_server(engine)
    await answered(harness, engine)
    assert "what nobody thought of" in harness.condition("ServingReady")["message"]
    assert pauses == [30], "it will be asked again"


def test_pauses_end_somewhere() -> None:
    assert [pause_after(tries) for tries in (1, 2, 4, 5000)] == [30, 60, 240, 300]
