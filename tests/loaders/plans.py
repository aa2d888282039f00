"""Plans for one release: pipelines x nodes x policies."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import stage_config
from omni_operator.children.revision import new_revision
from omni_operator.engine.pipeline import Pipeline, catalog
from omni_operator.planning.model import Plan, Planned
from omni_operator.planning.planner import make_plan
from tests.unit import make
from tests.unit.make import OWNER, PRIVILEGED, inventory, node

NODES = {
    "one large node": inventory(node("a", 16)),
    "one each": inventory(*(node(name, 1) for name in "abcdefgh")),
    "four and ones": inventory(node("a", 4), node("b", 4), node("c", 1), node("d", 1)),
    "two and two": inventory(*(node(name, 2) for name in "abcd")),
    "with rdma": inventory(*(node(name, 1, rdma=4) for name in "abcdefgh")),
    "large with rdma": inventory(*(node(name, 4, rdma=4) for name in "abc")),
}
ENGINES: tuple[dict[str, Any], ...] = (
    {},
    {"nixl": True},
    {"backend": "Headless"},
    {"backend": "Headless", "nixl": True},
    {"backend": "Headless", "mooncakeVersion": "0.3.12.post1"},
    {"backend": "Headless", "mooncakeVersion": "0.3.13.post1"},
    {"backend": "Local"},
)
TRANSPORTS: tuple[dict[str, Any], ...] = ({}, {"rdma": "Never"}, {"rdmaDevice": "mlx5_0"})
WISHES: tuple[dict[str, Any] | None, ...] = (
    None,
    {"connector": "MooncakeStore"},
    {"connector": "MooncakeTransferEngine"},
    {"connector": "Nixl"},
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A plan with its configuration file, and what it is about in a line."""

    about: str
    pipeline: Pipeline
    plan: Plan
    text: str


def plans(series: str, *, most: int) -> list[Rendered]:
    """Different configurations of a release series, for all its pipelines; at most so many."""
    queues = [_of_pipeline(entry.releases[series]) for entry in catalog().values() if series in entry.releases]
    found: dict[str, Rendered] = {}
    while queues and len(found) < most:
        for queue in list(queues):
            made = next((each for each in queue if each.text not in found), None)
            if made is None:
                queues.remove(queue)
            elif len(found) < most:
                found[made.text] = made
    return list(found.values())


def _of_pipeline(pipeline: Pipeline) -> Iterator[Rendered]:
    alone = [{"name": stage.name, "accelerators": stage.accelerators} for stage in pipeline.stages]
    copies = [{"name": pipeline.stages[-1].name, "replicas": 2}]
    args = ([{"name": pipeline.stages[0].name, "engineArgs": {"max_num_seqs": count}}] for count in range(3, 9))
    shapes: tuple[list[dict[str, Any]], ...] = ([], alone, copies, *args)
    cases = list(itertools.product(shapes, WISHES, NODES.items(), ENGINES, TRANSPORTS))
    random.Random(pipeline.name).shuffle(cases)  # a few of each pipeline are taken, and all kinds are to be among them
    for stages, wish, (where, nodes), engine, transport in cases:
        rules = dict(transport)
        if wish is not None:
            ends = [(pipeline.stage(e.producer).name, pipeline.stage(e.consumer).name) for e in pipeline.edges]
            rules["edges"] = [{"from": one, "to": other, **wish} for one, other in ends]
        spec = make.spec(
            model={"name": "m", "pipeline": pipeline.name},
            engine={"version": f"{pipeline.series}.0", **engine},
            transport=rules,
            stages=stages,
        )
        result = make_plan(spec=spec, inventory=nodes, pod_security=PRIVILEGED)
        if isinstance(result, Planned):
            about = f"{pipeline.name} on {where}: {engine} {rules} {stages}"
            yield Rendered(about, pipeline, result.plan, _text(spec, result.plan))


def _text(spec: OmniDeploymentSpec, plan: Plan) -> str:
    return stage_config.render(OWNER, new_revision(spec=spec, plan=plan))
