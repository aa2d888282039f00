"""Edges to try: a plan, its rendered configuration, and both ends by the release's own loader."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from e2e import cluster_under_test
from omni_operator.api.spec import Connector, OmniDeploymentSpec
from omni_operator.children import stage_config
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision, new_revision
from omni_operator.connectors.mooncake import mooncake_acknowledges
from omni_operator.connectors.transport import Transport
from omni_operator.engine.pipeline import catalog
from omni_operator.planning.model import EdgePlan, PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity
from tests.loaders.loader import End, Loader
from tests.loaders.wheels import pinned
from tests.unit.make import inventory, node

IMAGES = {"0.16": cluster_under_test.ENGINE, "0.30": cluster_under_test.MODERN}
ENGINES: dict[str, dict[str, Any]] = {
    "0.16": {"version": "0.16.0", "mooncakeVersion": "0.3.11.post1"},
    "0.30": {"version": "0.30.0", "mooncakeVersion": "0.3.12.post1", "nixl": True},
}
# Between put and get lies a server's hop in a real pipeline; a Mooncake that does not wait for its
# writes needs it (TcpWritesUnacknowledged).
HOP_SECONDS = 0.5
ONE, TWO = inventory(node("a", 4)), inventory(node("a", 1), node("b", 1))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Where an edge is planned.

    Attributes:
        engine: Key of ENGINES and IMAGES.
        pipeline: Of the catalog.
        nodes: What the planner sees.
        edge: Producer and consumer.
        forced: Connector that transport.edges asks for; empty for the planner's own choice.
        payload: What transport.edges says that a transfer over any edge carries, in bytes; 0 for
            the planner's own assumption.
    """

    engine: str
    pipeline: str
    nodes: Inventory
    edge: tuple[int, int] = (0, 1)
    forced: str = ""
    payload: int = 0

    def forcing(self, connector: str) -> Scenario:
        """The same with a connector by override."""
        return dataclasses.replace(self, forced=connector)

    def telling(self, payload: int) -> Scenario:
        """The same with a payload that is known."""
        return dataclasses.replace(self, payload=payload)

    def __str__(self) -> str:
        where = "one node" if len(self.nodes.nodes) == 1 else "two nodes"
        return f"{self.engine} {self.pipeline} {self.edge[0]}->{self.edge[1]} {where}"


@dataclass(frozen=True, slots=True)
class Laid:
    """A scenario's edge, with its ends as the release opens them."""

    scenario: Scenario
    owner: Owner
    revision: Revision
    edge: EdgePlan
    producer: End
    consumer: End

    @property
    def transport(self) -> str:
        """Such as SharedMemory/shm."""
        assert self.edge.connector is not None
        return str(Transport(self.edge.connector, self.edge.protocol))

    def end(self, which: End) -> dict[str, Any]:
        """What the probe opens."""
        ends, mooncake = [self.edge.producer, self.edge.consumer], ENGINES[self.scenario.engine]["mooncakeVersion"]
        torn = self.edge.connector is Connector.MOONCAKE_STORE and not mooncake_acknowledges(mooncake)
        return {"connector": which.connector, "extra": which.extra, "edge": ends, "pause": HOP_SECONDS if torn else 0}


def plan(scenario: Scenario, owner: Owner) -> Laid | PlanError:
    """The plan of a scenario, and its edge; PlanError if, for an override, it is not feasible."""
    spec = OmniDeploymentSpec.model_validate(_spec(scenario))
    found = make_plan(spec=spec, inventory=scenario.nodes, pod_security=PodSecurity.PRIVILEGED)
    if isinstance(found, PlanError):
        return found
    assert isinstance(found, Planned)
    revision = new_revision(spec=spec, plan=found.plan)
    edge = next(e for e in found.plan.edges if (e.producer, e.consumer) == scenario.edge)
    producer, consumer = _ends(scenario, stage_config.render(owner, revision), revision)
    return Laid(scenario, owner, revision, edge, producer, consumer)


def _spec(scenario: Scenario) -> dict[str, Any]:
    engine = {**ENGINES[scenario.engine], "image": IMAGES[scenario.engine]}
    out: dict[str, Any] = {"model": {"name": "a/model", "pipeline": scenario.pipeline}, "engine": engine}
    pipeline = catalog()[scenario.pipeline].releases[engine["version"].rpartition(".")[0]]
    if len(pipeline.stages) <= len(scenario.nodes.nodes):  # a node for each, so that the edge is between them
        out["stages"] = [{"name": stage.name, "accelerators": 1} for stage in pipeline.stages]
    said: list[dict[str, Any]] = []
    for edge in pipeline.edges:
        ends = edge.producer, edge.consumer
        wish: dict[str, Any] = {"payload": scenario.payload} if scenario.payload else {}
        wish |= {"connector": scenario.forced} if scenario.forced and ends == scenario.edge else {}
        said += (
            [dict(zip(("from", "to"), (pipeline.stage(end).name for end in ends), strict=True)) | wish] if wish else []
        )
    if said:
        out["transport"] = {"edges": said}
    return out


def _ends(scenario: Scenario, text: str, revision: Revision) -> tuple[End, End]:
    line = revision.plan.series
    wheel = next(wheel for wheel in pinned() if wheel.release == line)
    with Loader(wheel) as loader:
        answer = loader.load(text, revision.plan.pipeline, stages=len(revision.plan.stages))
    assert answer.ok, answer.error
    edge = answer.edge(*scenario.edge)
    assert edge.producer is not None, edge
    assert edge.consumer is not None, edge
    return edge.producer, edge.consumer
