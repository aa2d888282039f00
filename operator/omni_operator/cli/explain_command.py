"""`omni explain`: the choices of a plan in sentences, of a file or of what runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from omni_operator.api.status import PlanStatus
from omni_operator.children.describe import describe
from omni_operator.cli import view
from omni_operator.cli.access import Access, AccessError
from omni_operator.cli.decided import INVALID, OK, No, Source, decide
from omni_operator.cli.explain import edges_named, paragraphs
from omni_operator.cli.plan_command import refuse
from omni_operator.cli.running import Running, running
from omni_operator.planning.model import Plan


def explain_file(file: Path, *, source: Source, edge: str | None) -> int:
    """Explains what would be decided."""
    found = decide(file, source)
    if isinstance(found, No):
        return refuse(found)
    described = describe(found.owner, found.revision, nodes={})
    described.notes[:] = found.notes
    return _tell(described, detail=found.revision.plan, edge=edge)


def explain_running(access: Access, name: str, *, edge: str | None) -> int:
    """Explains what runs.

    Raises:
        AccessError: There is no such OmniDeployment, or the request failed.
    """
    runs = running(access, namespace=access.namespace, name=name)
    if runs is None:
        msg = f"there is no OmniDeployment {name} in namespace {access.namespace}; `kubectl get omni -A` lists them"
        raise AccessError(msg)
    if runs.revision is not None:
        described = describe(runs.owner, runs.revision, nodes={})
        return _tell(described, detail=runs.revision.plan, edge=edge, now=_now(runs))
    status = (runs.omni.get("status") or {}).get("plan")
    if status is None:
        raise AccessError(f"{runs.lacking}; `omni status {name}` says what it waits for")
    try:
        described = PlanStatus.model_validate(status)
    except ValidationError as exc:
        raise AccessError(f"{runs.lacking}, and status.plan is not readable either: {exc}") from exc
    return _tell(described, detail=None, edge=edge, now=_now(runs))


def _now(runs: Running) -> str:
    """Whether what runs is what was planned, as the operator judged it last."""
    conditions = (runs.omni.get("status") or {}).get("conditions") or ()
    found = next((c for c in conditions if c["type"] == "TransportAsPlanned"), None)
    if found is None:
        return ""
    return f"As it runs now: TransportAsPlanned is {found['status']} ({found['reason']}): {found['message']}"


def _tell(plan: PlanStatus, *, detail: Plan | None, edge: str | None, now: str = "") -> int:
    chosen = edges_named(edge, plan.edges) if edge else plan.edges
    if edge and not chosen:
        known = ", ".join(f"'{e.from_stage}->{e.to_stage}'" for e in plan.edges) or "none"
        return refuse(No(INVALID, f"no edge {edge}; the edges are: {known}"))
    console = view.console()
    console.print(plan.summary, highlight=False)
    if not plan.edges:
        console.print("The pipeline has one stage, and so no edge.")
    for heading, sentences in paragraphs(plan, detail=detail, edges=chosen):
        console.print()
        console.print(view.paragraph(heading, sentences))
    if now:
        console.print()
        console.print(now, highlight=False)
    return OK
