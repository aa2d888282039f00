"""From a Snapshot and a Decision to everything that is to be written: all of the reconcile as data.

Pure.

The order matters and is kept by steps: the revision's record exists before what is in its way ends,
and before anything that is made from it; the finalizer is there before the first pod that shares a
node's memory; a server is younger than the Ray cluster that it joins; node memory is cleaned when
its users are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from omni_operator import __version__
from omni_operator.api.conditions import Reason
from omni_operator.children import names
from omni_operator.children.names import COMPONENT, REPLICA, REVISION, Component, node_folder
from omni_operator.controller.rollout import backoff, shared_memory, teardown
from omni_operator.controller.rollout.actions import (
    Action,
    ActionPlan,
    ApplyChild,
    Builder,
    DeleteChild,
    DeletePod,
    SetFinalizer,
    SignalRequest,
)
from omni_operator.controller.rollout.decide import Decision, Mode
from omni_operator.controller.rollout.lost_peers import servers_with_lost_peers
from omni_operator.controller.rollout.rendering import Renderer, Rendering
from omni_operator.controller.state.event import EventRecord
from omni_operator.controller.state.objects import Child, Pod
from omni_operator.controller.state.signals import DRY_RUN_REPEAT_SECONDS, ReplicaKey
from omni_operator.controller.state.snapshot import ChildKey, Snapshot, StoredRevision
from omni_operator.engine.warm_up import first_request

_REQUEUE_NAMESPACE = 1.0  # its watch is about to bring it
# of a server that has lost its peers: what it still answers is lost with the stage it waits for
_GRACE_SECONDS = 10
_CHANGE_WITHOUT_REVISION = frozenset({"Service", "PodDisruptionBudget"})
_LEFT_TO_THEIR_VERSION = frozenset({"RayCluster", "Deployment"})


def plan_actions(snapshot: Snapshot, decision: Decision, renderer: Renderer) -> ActionPlan:
    """The plan of one reconcile."""
    match decision.mode:
        case Mode.DELETE:
            return teardown.plan_deletion(snapshot)
        case Mode.LEAVE:
            waits = not snapshot.unreadable and not snapshot.namespace_error
            return ActionPlan(requeue_after=_REQUEUE_NAMESPACE if waits else None)
    return _Plan(snapshot, decision, renderer).made()


@dataclass(slots=True)
class _Plan:
    """The parts of one plan while they are collected."""

    snapshot: Snapshot
    decision: Decision
    renderer: Renderer
    builder: Builder = field(default_factory=Builder)
    _there: set[ChildKey] = field(default_factory=set)  # exists, is ours and is not about to go
    _made: set[ChildKey] = field(default_factory=set)  # is made by an action of this plan

    def made(self) -> ActionPlan:
        snapshot, builder, target = self.snapshot, self.builder, self.decision.target
        keep = target.name if target else ""
        if target is not None and not snapshot.namespace_terminating:
            # Before anything makes room for it: a plan is made once and kept.
            self._record(target)
        others = teardown.revisions_that_exist(snapshot) - {keep}
        draining = teardown.drain(builder, snapshot, others, keep=self._intended(target))
        wanted: set[str] = set()
        if target is not None:
            if target.revision.plan.node_shared_memory:
                wanted = {node_folder(snapshot.owner, keep, replica) for replica in range(self.decision.replicas)}
            free = shared_memory.cancel_cleanups(builder, snapshot, wanted)
            if wanted and not snapshot.has_finalizer:
                builder.step([SetFinalizer(present=True)])
            if free and (not builder.blocking_revisions or self._has_workloads(keep)):
                self._children(target)
        folders = shared_memory.clean(builder, snapshot, keep=wanted)
        if target is not None and not wanted and not folders and not draining and snapshot.has_finalizer:
            builder.step([SetFinalizer(present=False)])
        answer = snapshot.signals.dry_run
        refused = self.decision.rejected is not None and self.decision.rejected.reason is Reason.CHILD_REFUSED
        if answer is not None and refused and self.decision.dry_run is None:
            # One that is being asked again brings its answer itself.
            builder.requeue(DRY_RUN_REPEAT_SECONDS - (snapshot.now - answer.at).total_seconds())
        return ActionPlan(
            steps=shared_memory.with_record(builder, snapshot),
            draining=tuple(sorted(draining)),
            waits=tuple(sorted(builder.waits)),
            waits_for_child=tuple(builder.waits_for_child),
            not_owned=tuple(sorted(builder.not_owned)),
            folders=folders,
            backoff_reason=builder.backoff_reason,
            last_restart=builder.last_restart,
            dry_run=self._dry_run(),
            signals=self._signals(target),
            requeue_after=builder.requeue_after,
        )

    def _rendering(self, target: StoredRevision, *, replicas: int) -> Rendering:
        service = (self.decision.spec or target.revision.spec).serving.service
        return self.renderer.render(self.snapshot.owner, target.revision, replicas=replicas, service=service)

    def _children(self, target: StoredRevision) -> None:
        if self.snapshot.namespace_terminating:
            return  # its controller removes what exists, and nothing can be made
        rendering = self._rendering(target, replicas=self.decision.replicas)
        record = _key(rendering.record)
        if record not in self._there | self._made:
            return
        held = self._servers_to_end(target)
        others = [intent for intent in rendering.others if not _is_server(intent)]
        self.builder.step(self._applied(target, others, requires={record}))
        # Younger than what they join, and not without it: a server that joined nothing would be
        # ended at once.
        servers = [i for i in rendering.others if _is_server(i) and _replica(i) not in held]
        self.builder.step(self._applied(target, servers, requires={record}))
        intended = self._intended(target)
        extra = [
            child
            for key, child in self.snapshot.children.items()
            if child.labels.get(REVISION) == target.name and self.snapshot.is_owned(child) and key not in intended
        ]
        teardown.end(self.builder, self.snapshot, extra)

    def _intended(self, target: StoredRevision | None) -> frozenset[ChildKey]:
        """Children of the target by their names, whatever revision their label says."""
        if target is None:
            return frozenset()
        rendering = self._rendering(target, replicas=self.decision.replicas)
        return frozenset(_key(intent) for intent in (rendering.record, *rendering.others))

    def _has_workloads(self, revision: str) -> bool:
        """Whether anything that makes pods exists of a revision."""
        return any(
            child.kind in teardown.WITH_PODS and child.labels.get(REVISION) == revision
            for child in self.snapshot.children.values()
        )

    def _record(self, target: StoredRevision) -> None:
        """The ConfigMap; of one that exists only what may be repaired.

        Not its data, nor who rendered its workloads.
        """
        intent = self._rendering(target, replicas=self.decision.replicas).record
        key = _key(intent)
        live = self.snapshot.children.get(key)
        if live is None:
            complete = self.renderer.record(self.snapshot.owner, target.revision)
            self.builder.step([ApplyChild(intent=complete, exists=False, event=self._gone(complete))])
            self._made.add(key)
            return
        self.builder.step(self._applied(target, [intent], requires=set()))

    def _applied(
        self, target: StoredRevision, intents: Iterable[Mapping[str, Any]], *, requires: set[ChildKey]
    ) -> list[Action]:
        """Actions for children that are missing or differ; objects of others are left alone."""
        out: list[Action] = []
        for intent in intents:
            key = _key(intent)
            needs = requires | self._joined_by(target, intent)
            live = self.snapshot.children.get(key)
            if live is not None and not self.snapshot.is_owned(live):
                self.builder.not_owned.add(" ".join(key))
                continue
            if live is not None and live.deleting:
                self.builder.waits_for_child.append(
                    f"{' '.join(key)} is made again when the one that is there has gone"
                )
                continue
            if missing := sorted(needs - self._there - self._made):
                if live is None:
                    self.builder.waits_for_child.append(f"{' '.join(key)} waits for {' '.join(missing[0])}")
                continue
            if live is None:
                self._made.add(key)
                requirements = frozenset(needs & self._made)
                out.append(ApplyChild(intent=intent, exists=False, event=self._gone(intent), requires=requirements))
                continue
            self._there.add(key)
            if key[0] in _LEFT_TO_THEIR_VERSION and target.revision.rendered_by != __version__:
                continue  # an upgrade of the operator must not restart servers
            path = self.renderer.difference(self.snapshot.owner, live, intent)
            if path is not None:
                reason = "Updated" if key[0] in _CHANGE_WITHOUT_REVISION else "Repaired"
                text = f"{' '.join(key)}: {path} was not as intended and has been set again"
                out.append(ApplyChild(intent=intent, exists=True, event=EventRecord(False, reason, text)))
        return out

    def _joined_by(self, target: StoredRevision, intent: Mapping[str, Any]) -> set[ChildKey]:
        """The Ray cluster that a server joins, where it is the replica's own."""
        if not _is_server(intent) or not target.ray_pods:
            return set()
        return {("RayCluster", names.ray_cluster(self.snapshot.owner, target.name, int(_replica(intent))))}

    def _gone(self, intent: Mapping[str, Any]) -> EventRecord | None:
        """The event for a child that existed when status was written.

        When Ready is True, each of status.readyReplicas has had all of its children.
        """
        status, labels = self.snapshot.omni.status, intent["metadata"].get("labels") or {}
        if labels.get(REVISION, status.get("revision")) != status.get("revision"):
            return None
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
        if not ready or int(labels.get(REPLICA, 0)) >= status.get("readyReplicas", 0):
            return None
        return EventRecord(False, "Repaired", f"{' '.join(_key(intent))} was gone and has been made again")

    def _servers_to_end(self, target: StoredRevision) -> set[str]:
        """Ends servers that joined what is no more.

        Returns the replicas whose server must not be made now.

        A new head does not know an old raylet, and a stage actor whose pod restarted stays dead,
        while /health says 200 (verified with 0.16).
        """
        snapshot, builder, held = self.snapshot, self.builder, set[str]()
        restarts = snapshot.signals.restarts
        for number in map(str, range(self.decision.replicas)):
            record = restarts.get(ReplicaKey(target.name, number))
            if record is None:
                continue
            builder.last_restart = builder.last_restart or backoff.last_restart(record)
            if left := backoff.wait_left(record, now=snapshot.now):
                held.add(number)
                builder.requeue(left)
                builder.backoff_reason = builder.backoff_reason or backoff.backoff_reason(record)
        actions: list[Action] = []
        for replica in range(self.decision.replicas if target.ray_pods else 0):
            server = snapshot.children.get(("Deployment", names.serving(snapshot.owner, target.name, replica)))
            if server is None or not snapshot.is_owned(server):
                continue
            cluster = names.ray_cluster(snapshot.owner, target.name, replica)
            joined = snapshot.children.get(("RayCluster", cluster))
            if joined is None:
                # This reconcile makes it, or finds that only its labels were changed.
                held.add(str(replica))
            elif joined.created > server.created:
                held.add(str(replica))
                if not server.deleting:
                    text = (
                        f"Deployment {server.name}: ended, since RayCluster {cluster} is a new one; it is made "
                        "again to join it"
                    )
                    actions.append(_ended(server, EventRecord(False, "Repaired", text)))
        for pod, why in servers_with_lost_peers(snapshot, target):
            if pod.replica not in held and (action := self._end_server(target, pod, why)) is not None:
                actions.append(action)
                if isinstance(action, DeleteChild):
                    held.add(pod.replica)
        builder.step(actions)
        return held

    def _end_server(self, target: StoredRevision, pod: Pod, why: str) -> Action | None:
        """Ends a server at once, since it cannot answer.

        Its whole Deployment when the next must not be made yet.
        """
        snapshot, key = self.snapshot, ReplicaKey(target.name, pod.replica)
        before = snapshot.signals.restarts.get(key)
        if before is not None and before.pod == pod.name:
            return None  # the watch has not brought that it is ending
        lasted = (snapshot.now - datetime.fromisoformat(pod.ready_since)).total_seconds()
        record = backoff.next_record(before, pod=pod.name, why=why, lasted=lasted, now=snapshot.now)
        event = EventRecord(True, "ServerRestarted", f"pod {pod.name}: ended, since {why}")
        self.builder.last_restart = backoff.last_restart(record)
        server = snapshot.children.get(("Deployment", names.serving(snapshot.owner, target.name, int(pod.replica))))
        if (pause := backoff.pause_of(record)) and server is not None:
            self.builder.backoff_reason = backoff.backoff_reason(record)
            self.builder.requeue(pause)
            return _ended(server, event, restart=(key, record))
        return DeletePod(
            namespace=pod.namespace,
            name=pod.name,
            uid=pod.uid,
            grace_seconds=_GRACE_SECONDS,
            event=event,
            restart=(key, record),
        )

    def _dry_run(self) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
        """The children of a revision that is to take over, for the dry run."""
        if (wanted := self.decision.dry_run) is None:
            return None
        assert self.decision.spec is not None
        replicas, service = self.decision.replicas, self.decision.spec.serving.service
        owner = self.snapshot.owner
        rendering = Renderer().render(owner, wanted.revision, replicas=replicas, service=service)
        return wanted.name, (self.renderer.record(owner, wanted.revision), *rendering.others)

    def _signals(self, target: StoredRevision | None) -> SignalRequest | None:
        if target is None or not self.decision.replicas:
            return None
        wanted = (self.decision.spec or target.revision.spec).serving.warm_up
        plan = target.revision.plan
        return SignalRequest(warm_up=first_request(target.revision.spec, wanted, pipeline=plan.pipeline))


def _ended(server: Child, event: EventRecord, *, restart: Any = None) -> DeleteChild:
    return DeleteChild(
        kind=server.kind, namespace=server.namespace, name=server.name, uid=server.uid, event=event, restart=restart
    )


def _key(intent: Mapping[str, Any]) -> ChildKey:
    return intent["kind"], intent["metadata"]["name"]


def _is_server(intent: Mapping[str, Any]) -> bool:
    return bool(intent["metadata"]["labels"].get(COMPONENT) == Component.SERVING)


def _replica(intent: Mapping[str, Any]) -> str:
    return str(intent["metadata"]["labels"].get(REPLICA, ""))
