"""Removes what revisions left in the memory of nodes, by a pod per folder that is bound to its node (ADR 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from omni_operator.api.spec import EngineSpec
from omni_operator.children import sweeper
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller.act import Act
from omni_operator.controller.observed import Observed
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import POD


def swept(observed: Observed, *, node: str, folder: str) -> bool:
    """Whether a folder is known to be gone from a node."""
    name = sweeper.name_for(observed.owner, node=node, folder=folder)
    return any(p.name == name and p.phase == "Succeeded" for p in observed.pods)


@dataclass(slots=True)
class NodeMemory:
    """Makes and ends sweepers."""

    kube: Kube

    async def sweep(self, observed: Observed, desired: Iterable[str], act: Act) -> frozenset[tuple[str, str]]:
        """Sweeps folders that nobody wants or uses any more; returns those that must still be remembered."""
        wanted, left, needed = set(desired), set(), set()
        pods = {p.name: p for p in observed.pods if p.labels.get(COMPONENT) == Component.SWEEPER}
        for node, folder in sorted(observed.folders()):
            name = sweeper.name_for(observed.owner, node=node, folder=folder)
            pod = pods.get(name)
            if folder in wanted or observed.users_of(folder):
                left.add((node, folder))
            elif pod is None:
                left.add((node, folder))
                needed.add(name)
                await self._start(observed, node=node, folder=folder, act=act)
            elif pod.phase == "Succeeded":
                if observed.omni.deleting:  # its success is the evidence that lets the object go
                    needed.add(name)
            elif pod.phase == "Failed" and not pod.deleting:
                left.add((node, folder))
                await self.kube.delete(POD, pod.namespace, pod.name)
            else:
                left.add((node, folder))
                needed.add(name)
        for name, pod in pods.items():
            if name not in needed and pod.phase == "Succeeded" and not pod.deleting:
                await self.kube.delete(POD, pod.namespace, pod.name)
        return frozenset(left)

    async def _start(self, observed: Observed, *, node: str, folder: str, act: Act) -> None:
        revision = folder.split("-")[1]
        known = observed.known.get(revision)
        # Whoever deletes in the foreground (kubectl's --cascade) has the record of the revision deleted before the sweep.
        engine = known.revision.spec.engine if known else EngineSpec.model_validate(observed.omni.spec["engine"])
        pod = sweeper.build(observed.owner, engine, revision=revision, node=node, folder=folder)
        try:
            await self.kube.create(POD, pod)
        except ApiError as exc:
            if exc.namespace_ends:
                act.namespace_ends = True
            elif not exc.conflict:
                act.refused.append(f"sweeper for {folder} on {node}: {exc.message}")
