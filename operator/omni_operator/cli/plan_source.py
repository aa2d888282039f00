"""From a manifest file to a plan, for `omni plan` and `omni explain`.

The nodes come from a file or from a cluster; the planner that decides is the controller's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omni_operator.api.conditions import ConditionType
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision, new_revision
from omni_operator.cli.access import Access
from omni_operator.cli.inventory import ClusterView, Identity, from_cluster, from_file
from omni_operator.cli.manifest import Manifest, ManifestError, read
from omni_operator.planning.model import PlanError
from omni_operator.planning.planner import make_plan
from omni_operator.topology.namespace import PodSecurity

OK, INVALID, MUST_WAIT, POLICY = 0, 2, 3, 4  # exit codes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """Where the nodes and the pod security level of a plan come from.

    Attributes:
        nodes: File with nodes; None to read the nodes of the cluster.
        access: The cluster; None when a file is given.
        namespace: Namespace from the command line; None when not given.
        security: Pod security level from the command line; None for the level of the namespace.
    """

    nodes: Path | None
    access: Access | None
    namespace: str | None = None
    security: PodSecurity | None = None

    def namespace_of(self, manifest: Manifest) -> str:
        """The namespace to plan for: the manifest's, else the command line's, else the context's.

        Raises:
            ManifestError: The manifest and the command line name different namespaces.
        """
        if manifest.namespace and self.namespace and manifest.namespace != self.namespace:
            msg = (
                f"metadata.namespace is {manifest.namespace}, and --namespace asks for {self.namespace}; "
                "use one of them"
            )
            raise ManifestError(msg)
        chosen = manifest.namespace or self.namespace
        return chosen or (self.access.namespace if self.access else "default")

    def cluster_view(self, identity: Identity | None = None) -> ClusterView:
        """The nodes and the pod security level to plan with."""
        if self.nodes is not None:
            return from_file(self.nodes, identity=identity)
        assert self.access is not None
        return from_cluster(self.access, identity=identity, security=self.security)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedRevision:
    """A revision that the operator would create, and the capacity that its pods would wait for."""

    owner: Owner
    revision: Revision
    cluster: ClusterView
    waits_for: str | None

    @property
    def code(self) -> int:
        """Exit code of the command."""
        return MUST_WAIT if self.waits_for else OK

    @property
    def notes(self) -> list[str]:
        """Notes of the plan, assumptions about the cluster, and the missing capacity."""
        waits = [f"must wait: {self.waits_for}"] if self.waits_for else []
        return [*self.revision.plan.notes, *self.cluster.notes, *waits]


@dataclass(frozen=True, slots=True)
class CommandFailure:
    """Why a command has no result: its exit code and the message for the user."""

    code: int
    message: str


def plan_file(file: Path, source: PlanSource) -> ProposedRevision | CommandFailure:
    """Plans the OmniDeployment of a file as the operator would."""
    try:
        manifest = read(file)
        identity = Identity(namespace=source.namespace_of(manifest), name=manifest.name)
        cluster = source.cluster_view(identity)
    except ManifestError as exc:
        return CommandFailure(INVALID, str(exc))
    return plan_manifest(manifest, identity=identity, cluster=cluster, security=source.security)


def plan_manifest(
    manifest: Manifest, *, identity: Identity, cluster: ClusterView, security: PodSecurity | None
) -> ProposedRevision | CommandFailure:
    """Plans an OmniDeployment on a cluster that was read before."""
    level = security or cluster.security
    result = make_plan(spec=manifest.spec, inventory=cluster.inventory, pod_security=level)
    if isinstance(result, PlanError):
        code = INVALID if result.condition is ConditionType.ACCEPTED else POLICY
        return CommandFailure(code, f"{result.condition}: {result.reason}: {result.message}")
    owner = Owner(namespace=identity.namespace, name=identity.name, uid=manifest.uid)
    revision = new_revision(spec=manifest.spec, plan=result.plan)
    return ProposedRevision(owner=owner, revision=revision, cluster=cluster, waits_for=result.waits_for)
