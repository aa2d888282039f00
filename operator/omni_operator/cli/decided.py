"""One way from a file to a plan for `plan` and `explain`: read it, see the nodes, decide as the controller would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omni_operator.api.conditions import ConditionType
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision, new_revision
from omni_operator.cli.access import Access
from omni_operator.cli.inventory import Surroundings, Whose, from_cluster, from_file
from omni_operator.cli.manifest import Manifest, ManifestError, read
from omni_operator.planning.model import PodSecurity, Refused
from omni_operator.planning.plan import make_plan

OK, INVALID, MUST_WAIT, POLICY = 0, 2, 3, 4  # exit codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where nodes come from.

    Attributes:
        nodes: A file of nodes; None for those of the cluster.
        access: The cluster; None with a file.
        namespace: Namespace that was asked for; None when not.
        security: Level to plan for; the namespace's own when None.
    """

    nodes: Path | None
    access: Access | None
    namespace: str | None = None
    security: PodSecurity | None = None

    def namespace_of(self, manifest: Manifest) -> str:
        """The namespace of a manifest: its own, else the one asked for, else the context's.

        Raises:
            ManifestError: It names another than the one asked for.
        """
        if manifest.namespace and self.namespace and manifest.namespace != self.namespace:
            msg = f"metadata.namespace is {manifest.namespace}, and --namespace asks for {self.namespace}; use one of them"
            raise ManifestError(msg)
        chosen = manifest.namespace or self.namespace
        return chosen or (self.access.namespace if self.access else "default")

    def surroundings(self, whose: Whose | None = None) -> Surroundings:
        """The nodes."""
        if self.nodes is not None:
            return from_file(self.nodes, whose=whose)
        assert self.access is not None
        return from_cluster(self.access, whose=whose, security=self.security)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A revision that would be made, and what it must wait for."""

    owner: Owner
    revision: Revision
    around: Surroundings
    waits_for: str | None

    @property
    def code(self) -> int:
        """Exit code."""
        return MUST_WAIT if self.waits_for else OK

    @property
    def notes(self) -> list[str]:
        """What else a reader should know."""
        waits = [f"must wait: {self.waits_for}"] if self.waits_for else []
        return [*self.revision.plan.notes, *self.around.notes, *waits]


@dataclass(frozen=True, slots=True)
class No:
    """No plan: the exit code and the reason."""

    code: int
    message: str


def decide(file: Path, source: Source) -> Decided | No:
    """What the operator would make of a file."""
    try:
        manifest = read(file)
        whose = Whose(namespace=source.namespace_of(manifest), name=manifest.name)
        around = source.surroundings(whose)
    except ManifestError as exc:
        return No(INVALID, str(exc))
    return decide_on(manifest, whose=whose, around=around, security=source.security)


def decide_on(manifest: Manifest, *, whose: Whose, around: Surroundings, security: PodSecurity | None) -> Decided | No:
    """The same on nodes that were seen before."""
    result = make_plan(spec=manifest.spec, inventory=around.inventory, pod_security=security or around.security)
    if isinstance(result, Refused):
        code = INVALID if result.condition is ConditionType.ACCEPTED else POLICY
        return No(code, f"{result.condition}: {result.reason}: {result.message}")
    owner = Owner(namespace=whose.namespace, name=whose.name, uid=manifest.uid)
    made = new_revision(spec=manifest.spec, plan=result.plan)
    return Decided(owner=owner, revision=made, around=around, waits_for=result.waits_for)
