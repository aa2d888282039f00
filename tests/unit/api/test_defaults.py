"""Frozen defaults: what a revision's digest leaves out does not change with the operator."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.defaults import defaults_now, frozen_defaults, without_defaults
from omni_operator.children.revision import canonical, spec_digest
from tests.unit import make


def test_every_default_is_frozen() -> None:
    """`make generate` adds those of new fields; a default that changes in the models stays."""
    assert set(defaults_now()) <= set(frozen_defaults())


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"transport": {"rdma": "Prefer", "edges": []}, "placement": {"labels": {}}}, {}),
        ({"transport": {"rdma": "Never"}}, {"transport": {"rdma": "Never"}}),
        ({"stages": [{"name": "talker", "engineArgs": {"a": None, "b": []}}]},) * 2,  # open objects stay whole
        (
            {"placement": {"tolerations": [{"operator": "Equal", "key": "a"}, {"operator": "Exists"}]}},
            {"placement": {"tolerations": [{"key": "a"}, {"operator": "Exists"}]}},
        ),
        ({"ofTomorrow": {"deep": 1}}, {"ofTomorrow": {"deep": 1}}),
    ],
)
def test_what_equals_its_frozen_default_is_left_out(spec: dict[str, Any], kept: dict[str, Any]) -> None:
    assert without_defaults(spec) == kept


def test_a_default_that_changes_makes_no_new_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of an earlier operator has the old default in it; now that is no difference."""
    before = make.spec()
    after = make.spec(transport={"rdma": "Prefer"}, serving={"port": 8091})
    assert spec_digest(before) == spec_digest(after)
    frozen = {**frozen_defaults(), "transport.rdma": "Never"}  # as if today's default had been another one at first
    monkeypatch.setattr("omni_operator.api.defaults.frozen_defaults", lambda: frozen)
    assert canonical(before) == canonical(after)
    assert canonical(before)["transport"] == {"rdma": "Prefer"}


def test_a_digest_says_how_it_was_made() -> None:
    assert spec_digest(make.spec()).startswith("1-")
