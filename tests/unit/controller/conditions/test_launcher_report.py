"""Every code that a launcher writes has a reason and a sentence, with its remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_operator.api.conditions import Reason
from omni_operator.controller.conditions.launcher_report import TEXTS, explain, readable
from omni_operator.controller.state.termination import parse
from tests.unit.launcher.contract import SAMPLES, message, reported, written

RESTARTED = "all processes of this pod were ended to start anew with it"
IMAGE = Reason.ENGINE_IMAGE_MISMATCH
# Code, what differs from its sample, reason, sentence.
SENTENCES: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("EngineReleaseMismatch", {"found": "0.30.1", "expected": "0.16.0"}, IMAGE,
     "the engine image has vllm-omni 0.30.1, but engine.version is 0.16.0, by which flags, configuration "
     "and connectors were chosen; set "
     "engine.version to 0.30.1, or engine.image to one with vllm-omni 0.16"),
    ("EngineReleaseMismatch", {"found": "0.30.0rc1+cu130", "expected": "0.16.0"}, IMAGE,
     "the engine image has vllm-omni 0.30.0rc1+cu130, but engine.version is 0.16.0, by which flags, "
     "configuration and connectors were chosen; "
     "set engine.version to 0.30.0, or engine.image to one with vllm-omni 0.16"),
    ("EngineReleaseMismatch", {"found": "0.30", "expected": "0.16.0"}, IMAGE,
     "the engine image has vllm-omni 0.30, but engine.version is 0.16.0, by which flags, configuration and "
     "connectors were chosen; set "
     "engine.version to 0.30.0, or engine.image to one with vllm-omni 0.16"),
    ("MooncakeMissing", {}, IMAGE,
     "the engine image has no Mooncake, by which an edge was planned; set engine.image to one that has it, "
     "or see with `omni explain` what "
     "else would do"),
    ("MooncakeVersionMismatch", {}, IMAGE,
     "the engine image has Mooncake 0.3.11.post1, and the plan relies on 0.3.12 or later; set "
     "engine.mooncakeVersion to 0.3.11.post1, by "
     "which the plan is made anew, or engine.image to one with such a Mooncake"),
    ("MooncakeVersionMismatch", {"found": "0.3.13", "least": "", "below": "0.3.13"}, IMAGE,
     "the engine image has Mooncake 0.3.13, and the plan relies on one before 0.3.13; set "
     "engine.mooncakeVersion to 0.3.13, by which the "
     "plan is made anew, or engine.image to one with such a Mooncake"),
    ("CannotStart", {}, IMAGE,
     "stage 1 cannot start: the engine image cannot run `vllm` (No such file or directory); set "
     "engine.image to one with vllm-omni"),
    ("CannotStart", {"process": "", "command": "ray"}, IMAGE,
     "the engine image cannot run `ray` (No such file or directory); set engine.image to one with "
     "vllm-omni, Ray and bash"),
    ("RayMissing", {}, IMAGE,
     "the engine image has no Ray that /usr/bin/python3 finds; set engine.image to one with vllm-omni, Ray and bash"),
    ("RayVersionUnexpected", {}, Reason.RAY_VERSION_MISMATCH,
     "the engine image has Ray 2.53.0, but ray.version is 2.54.0, by which KubeRay chooses probes and token "
     "authentication; set ray.version "
     "to 2.53.0, or engine.image to one with Ray 2.54.0"),
    ("RayVersionUnexpected", {"found": "2.53.0.dev1", "at_least": True}, Reason.RAY_VERSION_MISMATCH,
     "the engine image has Ray 2.53.0.dev1, but this vllm-omni release is assumed to have >=2.54.0, by "
     "which KubeRay chooses probes and "
     "token authentication; set ray.version to 2.53.0, or engine.image to one with Ray >=2.54.0"),
    ("RayVersionMismatch", {}, Reason.RAY_VERSION_MISMATCH,
     "the serving image has Ray 2.52.1, the Ray cluster has 2.53.0; use one engine image for both, or set "
     "engine.image to one with Ray "
     "2.53.0"),
    ("RayVersionMismatch", {"found_python": "3.12.4", "cluster_python": "3.11.2"}, Reason.RAY_VERSION_MISMATCH,
     "the serving image has Ray 2.52.1 on Python 3.12.4, the Ray cluster has Ray 2.53.0 on Python 3.11.2; "
     "both must be equal: use one engine "
     "image for both"),
    ("RayUnreachable", {}, Reason.RAY_UNREACHABLE,
     "the Ray head at head.ns.svc:6379: Connection refused (after 600 s)"),
    ("RayUnreachable", {"what": "dashboard", "address": "http://h:8265", "detail": "HTTP 500"}, Reason.RAY_UNREACHABLE,
     "the Ray dashboard at http://h:8265: HTTP 500 (after 600 s)"),
    ("RayUnreachable", {"what": "nodes", "address": "http://h:8265", "detail": "no JSON"}, Reason.RAY_UNREACHABLE,
     "the list of nodes of the Ray dashboard at http://h:8265: no JSON (after 600 s)"),
    ("RayTokenRefused", {}, Reason.RAY_UNREACHABLE,
     "the Ray dashboard at http://head.ns.svc:8265 refuses the token: HTTP 401 Unauthorized; check ray.tokenAuth"),
    ("RayStartFailed", {}, Reason.RAY_UNREACHABLE, "`ray start`: exit code 1: raylet died (after 600 s)"),
    ("RayStartFailed", {"exit_code": None, "detail": ""}, Reason.RAY_UNREACHABLE, "`ray start`: it did not "
                                                                                  "end (after 600 s)"),
    ("RayHeadLost", {}, Reason.RAY_UNREACHABLE,
     "the Ray head at head.ns.svc:6379 could not be reached right after it was joined: Connection refused"),
    ("RayResourcesMissing", {}, Reason.RAY_RESOURCES_MISSING, "3 accelerators in Ray: Ray has 2 on 1 nodes "
                                                              "(after 600 s)"),
    ("StageLost", {}, Reason.STAGE_LOST,
     "Ray actor OmniStage (pid 3533 at 10.0.0.7) has died: its worker process has died.; the server was "
     "ended to start anew, since it would "
     "not notice"),
    ("StageLost", {"address": None, "detail": ""}, Reason.STAGE_LOST,
     "Ray actor OmniStage (pid 3533 at an unknown address) has died: Ray does not say why; the server was "
     "ended to start anew, since it "
     "would not notice"),
    ("ProcessEnded", {}, Reason.SERVER_FAILING,
     "stage 1 ended (exit code 1); all processes of this pod were ended with it"),
    ("ProcessEnded", {"exit_code": 0}, Reason.SERVER_FAILING,
     "stage 1 ended (exit code 0); all processes of this pod were ended with it"),
    ("ProcessEnded", {"exit_code": None, "signal": "SIGKILL"}, Reason.SERVER_FAILING,
     "stage 1 ended (signal SIGKILL); all processes of this pod were ended with it"),
    ("HeadRestarted", {}, Reason.SERVER_FAILING,
     f"the head at 10.0.0.9 has started anew, and takes no stages of its predecessor; {RESTARTED}"),
    ("HeadGone", {}, Reason.SERVER_FAILING, f"the head at 10.0.0.9 is gone; {RESTARTED}"),
    ("PeerLost", {}, Reason.SERVER_FAILING,
     f"the stages at 10.0.0.7 ended when they had joined, before this head could serve; {RESTARTED}"),
]  # fmt: skip


def explained(text: str) -> tuple[Reason, str]:
    report = parse(text)
    assert report is not None
    return explain(report)


@pytest.mark.parametrize(("code", "fields", "reason", "sentence"), SENTENCES)
def test_a_code_and_its_facts_make_a_sentence(code: str, fields: dict[str, Any], reason: Reason, sentence: str) -> None:
    text = reported(code, **fields)
    assert explained(text) == (reason, sentence)
    assert readable(text) == sentence


def test_every_code_that_is_written_is_explained_and_no_other() -> None:
    assert list(TEXTS) == list(message.CODES)
    assert TEXTS.keys() == {code for _, code, _ in written()}
    assert TEXTS.keys() == {code for code, *_ in SENTENCES}
    assert {code: tuple(fields) for code, fields in SAMPLES.items()} == message.CODES


@pytest.mark.parametrize(
    "text",
    [
        '{"omni": 1, "code": "OfTheFuture", "address": "a"}',
        '{"omni": 2, "code": "HeadGone", "address": "a"}',
        '{"omni": 0, "code": "HeadGone"}',
    ],
)
def test_a_code_or_a_version_that_is_not_known_is_shown_as_it_is(text: str) -> None:
    assert explained(text) == (Reason.SERVER_FAILING, text)
    assert readable(text) == text


@pytest.mark.parametrize("text", ["", "OOMKilled, exit code 137", '{"other": "json"}', '{"omni": 1, "code": "HeadGo'])
def test_what_no_launcher_has_written_is_shown_as_it_is(text: str) -> None:
    assert readable(text) == text


@pytest.mark.parametrize("code", [code for code, fields in message.CODES.items() if fields])
def test_a_report_without_its_facts_is_shown_as_it_is(code: str) -> None:
    text = json.dumps({"omni": 1, "code": code})
    assert explained(text) == (TEXTS[code][0], text)


@given(
    code=st.sampled_from(sorted(SAMPLES)),
    values=st.lists(st.none() | st.integers() | st.text() | st.lists(st.text()), min_size=4, max_size=4),
)
def test_facts_of_any_kind_make_some_text(code: str, values: list[Any]) -> None:
    fields = dict(zip(SAMPLES[code], values, strict=False))
    reason, text = explained(json.dumps({"omni": 1, "code": code, **fields}))
    assert reason is TEXTS[code][0]
    assert text
    text.encode()


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert readable('{"omni": 1, "code": "HeadGone", "address": "\\ud800"}').startswith("the head at ? is gone")
