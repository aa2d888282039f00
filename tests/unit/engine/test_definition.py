"""Pipelines that users describe themselves are planned and rendered like the catalog's."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from omni_operator.api.conditions import Reason
from omni_operator.children import stage_config
from tests.unit.make import OWNER, inventory, node, planned, refused, revision, spec

TWO: dict[str, Any] = {
    "stages": [
        {"name": "writer", "accelerators": 2, "config": {"max_num_seqs": 4, "tensor_parallel_size": 2}},
        {"name": "singer", "kind": "Generation", "config": {"enforce_eager": True}},
    ],
    "edges": [{"from": "writer", "to": "singer", "inChunks": True, "maxPayloadMiB": 64, "extra": {"frames": 25}}],
    "settings": {"trust_remote_code": True},
}


def model(version: str = "0.30.0", **changes: Any) -> Any:
    return spec(
        model={"name": "acme/opera", "pipeline": "opera", "definition": {**TWO, **changes}}, engine={"version": version}
    )


def test_it_is_planned_and_rendered() -> None:
    nodes = inventory(node("a", 2), node("b", 1))
    made = planned(model(), nodes)
    assert [(stage.name, stage.pod, stage.devices) for stage in made.stages] == [
        ("writer", "serving", (0, 1)),
        ("singer", "stage-1", (0,)),
    ]
    assert made.edges[0].max_payload_bytes == 64 << 20
    document = yaml.safe_load(stage_config.render(OWNER, revision(model(), nodes)))
    assert document["pipeline"] == "opera"
    assert document["trust_remote_code"] is True
    assert document["connectors"]["edge_0_1"]["extra"]["frames"] == 25
    assert [stage["devices"] for stage in document["stages"]] == ["0,1", "0"]


def test_stages_that_share_stay_in_one_pod() -> None:
    stages = [TWO["stages"][0], {**TWO["stages"][1], "sharesWith": "writer"}]
    made = planned(model(stages=stages), inventory(node("a", 2)))
    assert made.accelerators == 2
    assert made.stages[1].devices == (0,)


def test_the_older_format_needs_engine_args() -> None:
    found = refused(model("0.16.0"), inventory(node("a", 4)))
    assert found.reason is Reason.UNKNOWN_PIPELINE
    assert "model.definition.stages[writer].config: vllm-omni 0.16 reads stage_args" in found.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"edges": [{"from": "singer", "to": "writer"}]}, "an edge goes from an earlier stage to a later one"),
        ({"stages": [{**TWO["stages"][0], "sharesWith": "singer"}, TWO["stages"][1]]}, "sharesWith singer"),
        ({"stages": [{"name": "writer", "config": {"devices": "0"}}, TWO["stages"][1]]}, "config.devices"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], words: str) -> None:
    found = refused(model(**changes), inventory(node("a", 4)))
    assert words in found.message
