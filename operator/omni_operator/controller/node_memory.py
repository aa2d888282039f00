"""Removes what revisions left in the memory of nodes, by a pod per folder that is bound to its node (ADR 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from omni_operator.api.spec import EngineSpec
from omni_operator.children import sweeper
from omni_operator.children.names import folder_revision
from omni_operator.controller.act import Act
from omni_operator.controller.objects import Pod
from omni_operator.controller.observed import Observed
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import POD

_FAILED_SECONDS = 30.0  # a kubelet that refuses a pod does so at once; do not make the next one at API speed


def swept(observed: Observed, *, node: str, folder: str) -> bool:
    """Whether a folder is known to be gone from a node."""
    pod = observed.sweepers().get(sweeper.name_for(observed.owner, node=node, folder=folder))
    return pod is not None and pod.phase == "Succeeded"


@dataclass(slots=True)
class NodeMemory:
    """Makes and ends sweepers."""

    kube: Kube
    now: Callable[[], datetime]

    async def clear_the_way(self, observed: Observed, desired: Iterable[str]) -> bool:
        """Ends sweepers of folders that are wanted again; True when none is left that could empty a folder in use."""
        wanted = set(desired)
        names = {sweeper.name_for(observed.owner, node=node, folder=f) for node, f in observed.folders() if f in wanted}
        found = [pod for name, pod in observed.sweepers().items() if name in names]
        for pod in found:
            if not pod.deleting:
                await self.kube.delete(POD, pod.namespace, pod.name)
        return not found

    async def sweep(self, observed: Observed, desired: Iterable[str], act: Act) -> frozenset[tuple[str, str]]:
        """Sweeps folders that nobody wants or uses any more; returns those that must still be remembered."""
        wanted, left, evidence = set(desired), set(), set()
        pods = observed.sweepers()
        for node, folder in sorted(observed.folders()):
            name = sweeper.name_for(observed.owner, node=node, folder=folder)
            pod = pods.get(name)
            if folder not in wanted and not observed.users_of(folder):
                if pod is not None and pod.phase == "Succeeded":
                    evidence.add(name)
                    continue
                await self._work(observed, pod, node=node, folder=folder, act=act)
            left.add((node, folder))
        for name, pod in pods.items():
            # While the object is being deleted, success is the evidence that lets it go; otherwise status forgets the folder.
            kept = observed.omni.deleting and name in evidence
            if pod.phase == "Succeeded" and not pod.deleting and not kept:
                await self.kube.delete(POD, pod.namespace, pod.name)
        return frozenset(left)

    async def _work(self, observed: Observed, pod: Pod | None, *, node: str, folder: str, act: Act) -> None:
        if pod is None:
            await self._start(observed, node=node, folder=folder, act=act)
            return
        if pod.trouble:
            act.blockers.append(f"pod {pod.name}, which removes shared memory from node {node}: {pod.trouble}")
        if pod.phase == "Failed" and not pod.deleting:
            age = (self.now() - datetime.fromisoformat(pod.created)).total_seconds()
            act.blockers.append(
                f"pod {pod.name}, which removes shared memory from node {node}, failed: {pod.last_words}"
            )
            if age >= _FAILED_SECONDS:
                await self.kube.delete(POD, pod.namespace, pod.name)
            else:
                act.look_again(_FAILED_SECONDS - age + 1)

    async def _start(self, observed: Observed, *, node: str, folder: str, act: Act) -> None:
        revision = folder_revision(observed.owner, folder)
        assert revision is not None
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
