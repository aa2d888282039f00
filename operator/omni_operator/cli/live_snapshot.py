"""The Snapshot of an OmniDeployment, read from the cluster with the rights of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from omni_operator.children.names import MANAGED_BY, MANAGER, NAME, REVISION
from omni_operator.children.revision import Revision, UnreadableRevisionError
from omni_operator.cli.access import Access, AccessError
from omni_operator.cli.inventory import ACTIVE_PODS, Identity, inventory_of
from omni_operator.controller.state import decode
from omni_operator.controller.state.build import build_snapshot, parse, referenced_cluster
from omni_operator.controller.state.objects import Child, NamespaceObject, Omni
from omni_operator.controller.state.signals import NO_SIGNALS, DryRunResult, Signals
from omni_operator.controller.state.snapshot import ChildKey, Snapshot
from omni_operator.kube.kinds import CHILD_KINDS, NAMESPACE, NODE, POD, RAY_CLUSTER, Resource
from omni_operator.topology.inventory import Inventory


@dataclass(slots=True)
class Reader:
    """Reads the objects of one OmniDeployment.

    Attributes:
        access: The cluster.
        namespace: Namespace of the OmniDeployment.
        denied: What the user may not read, as `VERB RESOURCE` with the namespace.
    """

    access: Access
    namespace: str
    denied: list[str] = field(default_factory=list)

    def items(self, resource: Resource, *, selector: str = "") -> list[dict[str, Any]] | None:
        """Objects of the namespace or of the cluster; None when the API server has no such kind."""
        query = {"labelSelector": selector} if selector else {}
        namespace = self.namespace if resource.namespaced else None
        try:
            return self.access.list(resource.path(namespace), **query)
        except AccessError as exc:
            if exc.status == 404:
                return None
            self._deny(exc, "list", resource, namespace)
            return []

    def get(self, resource: Resource, name: str) -> dict[str, Any] | None:
        """An object; None when it does not exist."""
        namespace = self.namespace if resource.namespaced else None
        try:
            found: dict[str, Any] = self.access.request("GET", resource.path(namespace, name))
        except AccessError as exc:
            if exc.status != 404:
                self._deny(exc, "get", resource, namespace)
            return None
        return found

    def active_pods(self) -> list[dict[str, Any]]:
        """Pods of all namespaces that have not ended.

        Raises:
            AccessError: The cluster cannot be reached, or denies it.
        """
        try:
            return self.access.list(POD.path(), fieldSelector=ACTIVE_PODS)
        except AccessError as exc:
            self._deny(exc, "list", POD, None)
            self.check("a plan must be made now, for which the pods on all nodes count")
            raise

    def check(self, purpose: str) -> None:
        """Ends when a request was denied.

        Raises:
            AccessError: What the user may not read.
        """
        if self.denied:
            msg = (
                f"{purpose}; you may not {', nor '.join(self.denied)}; ask for a role with these rights "
                f"(kubectl auth can-i {self.denied[0].partition(' in ')[0]})"
            )
            raise AccessError(msg, status=403)

    def _deny(self, exc: AccessError, verb: str, resource: Resource, namespace: str | None) -> None:
        """Notes a request that was denied; raises every other error."""
        if exc.status != 403:
            raise exc
        group, slash, _ = resource.api_version.rpartition("/")
        kind = f"{resource.plural}.{group}" if slash else resource.plural
        where = f" in namespace {namespace}" if namespace else " in all namespaces" if resource.namespaced else ""
        self.denied.append(f"{verb} {kind}{where}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSnapshot:
    """An OmniDeployment with all objects that the operator reads for it.

    Attributes:
        snapshot: The snapshot, without the signals that only the operator's process has.
        unreadable_reasons: Why records of revisions are unreadable, by name of the revision.
        inventory: Reads the capacity of the nodes.
    """

    snapshot: Snapshot
    unreadable_reasons: dict[str, str]
    inventory: Callable[[], Inventory]


def read_live_snapshot(reader: Reader, name: str, *, now: datetime | None = None) -> LiveSnapshot:
    """Reads an OmniDeployment, its children and pods, the nodes and the namespace.

    Raises:
        AccessError: It does not exist, the cluster cannot be reached, or denies a request.
    """
    omni = decode.omni(reader.access.omni(name, namespace=reader.namespace))
    children, kuberay_missing = _children(reader, name)
    pods = [decode.pod(raw) for raw in reader.items(POD, selector=f"{NAME}={name}") or ()]
    raw_nodes = reader.items(NODE) or []
    nodes = {found.name: found for found in map(decode.node, raw_nodes)}
    namespace = _namespace(reader)
    reference = referenced_cluster(omni)
    cluster = reader.get(RAY_CLUSTER, reference) if reference and not kuberay_missing else None
    reader.check("the next actions depend on objects that cannot be read")
    reasons: dict[str, str] = {}

    def load_record(child: Child, load: Callable[..., Revision]) -> Revision | None:
        revision = child.labels.get(REVISION, "")
        try:
            return load(name=revision, annotations=child.annotations, body=child.body)
        except UnreadableRevisionError as exc:
            reasons[revision] = f"{child.kind} {child.name}: {exc}"
            return None

    @cache
    def inventory() -> Inventory:
        identity = Identity(namespace=omni.namespace, name=omni.name)
        return inventory_of(raw_nodes, reader.active_pods(), identity)

    moment = now or datetime.now(UTC)
    snapshot = build_snapshot(
        omni,
        now=moment,
        parsed=parse(omni.spec),
        children=children,
        pods=sorted((pod for pod in pods if pod.omni == name), key=lambda pod: pod.name),
        node=nodes.get,
        namespace=namespace,
        load_record=load_record,
        signals=_signals(omni, moment),
        referenced=decode.child(RAY_CLUSTER.kind, cluster) if cluster else None,
        kuberay_missing=kuberay_missing,
    )
    return LiveSnapshot(snapshot=snapshot, unreadable_reasons=reasons, inventory=inventory)


def _signals(omni: Omni, now: datetime) -> Signals:
    """That no object of the revision in status was refused.

    Status names a new revision as soon as its dry run has passed. Until an earlier revision is
    removed it has no ConfigMap, and without the answer it would seem to need a dry run first.
    """
    name = str(omni.status.get("revision") or "")
    return Signals(dry_run=DryRunResult(revision=name, errors=(), at=now)) if name else NO_SIGNALS


def _children(reader: Reader, name: str) -> tuple[dict[ChildKey, Child], bool]:
    """Objects with the labels of a child, and whether RayClusters are unknown to the API server."""
    found: dict[ChildKey, Child] = {}
    missing = False
    for resource in CHILD_KINDS:
        items = reader.items(resource, selector=f"{MANAGED_BY}={MANAGER},{NAME}={name}")
        if items is None and resource is RAY_CLUSTER:
            missing = True
        for raw in items or ():
            child = decode.child(resource.kind, raw)
            found[child.kind, child.name] = child
    return found, missing


def _namespace(reader: Reader) -> NamespaceObject | None:
    raw = reader.get(NAMESPACE, reader.namespace)
    return decode.namespace(raw) if raw is not None else None


def not_owned_objects(reader: Reader, omni: Omni, keys: list[ChildKey]) -> list[ChildKey]:
    """Which of the children to create have the name of an existing object of another owner.

    Such an object has no labels of a child as a rule. What the user may not read is left out.
    """
    kinds = {resource.kind: resource for resource in CHILD_KINDS}
    out = []
    for kind, name in keys:
        raw = reader.get(kinds[kind], name)
        if raw is not None and decode.child(kind, raw).owner_uid != omni.uid:
            out.append((kind, name))
    return out
