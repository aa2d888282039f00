"""A revision's record: what makes a new one, what does not, and that reading it back gives the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import revision as revisions
from omni_operator.children.revision import spec_digest
from tests.unit import worlds
from tests.unit.cases import CASES, Case
from tests.unit.make import ONE_NODE, raw_spec, revision, spec
from tests.unit.scene import reread


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_record_is_read_back_as_it_was(case: Case) -> None:
    made = case.revision()
    found = reread(made)
    assert (found.name, found.spec_digest, found.plan) == (made.name, made.spec_digest, made.plan)
    assert spec_digest(found.spec) == made.spec_digest
    assert reread(found) == found


@given(spec=worlds.specs())
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


@pytest.mark.parametrize("texts", [("{", "{}"), ("{}", "{}"), ("null", "null")])
def test_a_record_that_cannot_be_read_is_a_value_error(texts: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        revisions.load(name="0", digest="0", spec_text=texts[0], plan_text=texts[1])


def test_a_record_of_a_newer_operator_is_readable() -> None:
    """A plan may have fields that this version does not know: after a downgrade the revision must be found again."""
    made = revision()
    plan_text = made.plan.model_dump_json()[:-1] + ', "invented": 1}'
    found = revisions.load(
        name=made.name,
        digest=made.spec_digest,
        spec_text=OmniDeploymentSpec.model_validate(raw_spec()).model_dump_json(by_alias=True, exclude_none=True),
        plan_text=plan_text,
    )
    assert found.plan == made.plan
