"""A revision's record: which changes make a new one, and that reading it back is lossless."""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import names
from omni_operator.children.revision import (
    Revision,
    UnreadableRevisionError,
    copy_of,
    from_config_map,
    from_copy,
    spec_digest,
)
from omni_operator.planning.model import Plan
from tests.unit import strategies
from tests.unit.controller.fake_cluster import reread
from tests.unit.golden_cases import CASES, Case
from tests.unit.make import ONE_NODE, raw_spec, revision, spec


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_record_is_read_back_as_it_was(case: Case) -> None:
    made = case.revision()
    found = reread(made)
    assert (found.name, found.spec_digest, found.plan) == (made.name, made.spec_digest, made.plan)
    assert spec_digest(found.spec) == made.spec_digest
    assert reread(found) == found


def test_a_plan_of_an_earlier_operator_is_read() -> None:
    """Keys that were renamed keep their meaning: an upgrade of the operator makes no new plan."""
    made = revision(spec(engine={"version": "0.30.0"}), ONE_NODE).plan
    raw = made.model_dump(mode="json")
    old = {"line": raw.pop("series"), "streams": raw.pop("async_chunk"), **raw}
    old["edges"] = [{"use": edge.pop("payload_kind"), **edge} for edge in raw["edges"]]
    assert Plan.model_validate(old) == made


@given(spec=strategies.specs())
def test_digests_do_not_depend_on_how_a_spec_is_written(spec: OmniDeploymentSpec) -> None:
    short = spec.model_dump(by_alias=True, mode="json", exclude_unset=True)
    long = spec.model_dump(by_alias=True, mode="json", exclude_none=True)  # as the API server fills in defaults
    backwards = dict(reversed(long.items()))
    digests = {spec_digest(OmniDeploymentSpec.model_validate(raw)) for raw in (short, long, backwards)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "live",
    [
        {"replicas": 3},
        {"suspend": True},
        {"rollout": {"strategy": "Hold"}},
        {"serving": {"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}}},
    ],
)
def test_what_may_change_on_a_running_revision(live: dict[str, Any]) -> None:
    assert spec_digest(spec(**live)) == spec_digest(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"servedName": "other"}},
        {"engine": {"image": "other"}},
        {"serving": {"port": 9000}},
        {"transport": {"rdma": "Never"}},
        {"placement": {"priorityClassName": "high"}},
        {"ray": {"port": 6400}},
        {"stages": [{"name": "talker", "engineArgs": {"max_model_len": 1}}]},
    ],
)
def test_what_makes_a_new_revision(change: dict[str, Any]) -> None:
    assert spec_digest(spec(**change)) != spec_digest(spec())


def test_another_plan_of_the_same_spec_is_another_revision() -> None:
    one, other = revision(), revision(nodes=ONE_NODE)
    assert one.spec_digest == other.spec_digest
    assert one.name != other.name
    assert one.name == revision().name


def load(spec_text: str, plan_text: str) -> Revision:
    record = {names.SPEC_FILE: spec_text, names.PLAN_FILE: plan_text}
    return from_config_map(name="0c0ffee0", annotations={names.SPEC_DIGEST: "1-0"}, body={"data": record})


@pytest.mark.parametrize("texts", [("{", "{}"), ("{}", "{}"), ("null", "null")])
def test_a_record_that_cannot_be_read_says_so(texts: tuple[str, str]) -> None:
    with pytest.raises(UnreadableRevisionError, match=r".+"):
        load(*texts)
    with pytest.raises(UnreadableRevisionError, match=r"it has no spec\.json"):
        from_config_map(name="0", annotations={}, body={})
    with pytest.raises(UnreadableRevisionError, match=r"omni\.vllm\.ai/record"):
        from_copy(name="0", annotations={names.RECORD: "no record"}, body={})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_copy_on_other_children_is_the_record(case: Case) -> None:
    made = reread(case.revision())
    copy = copy_of(made)
    assert len(copy) < 8192, "an object may have 256 KiB of annotations in all"
    assert from_copy(name=made.name, annotations={names.RECORD: copy}, body={}) == made


def test_a_record_of_a_newer_operator_is_readable() -> None:
    """A plan may have fields that this version does not know, after a downgrade of the operator."""
    made = revision()
    plan_text = made.plan.model_dump_json()[:-1] + ', "invented": 1}'
    spec_text = OmniDeploymentSpec.model_validate(raw_spec()).model_dump_json(by_alias=True, exclude_none=True)
    found = load(spec_text[:-1] + ', "invented": {"deep": 1}}', plan_text)
    assert found.plan == made.plan


def test_a_copy_that_is_too_large_is_unreadable_and_never_in_memory() -> None:
    """Whoever may label a Deployment could otherwise end the operator: 240 KB hold 180 MB."""
    bomb = base64.b64encode(zlib.compress(b'{"name": "' + b"x" * (16 << 20) + b'"}', 9)).decode()
    tracemalloc.start()
    with pytest.raises(UnreadableRevisionError, match="larger than"):
        from_copy(name="a", annotations={names.RECORD: bomb}, body={})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("text", ["[]", "1", '{"name": 1}', "[" * 20000])
def test_a_copy_of_anything_else_is_unreadable(text: str) -> None:
    annotation = base64.b64encode(zlib.compress(text.encode())).decode()
    with pytest.raises(UnreadableRevisionError):
        from_copy(name="a", annotations={names.RECORD: annotation}, body={})
