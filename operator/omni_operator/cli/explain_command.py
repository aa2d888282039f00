"""`omni explain`: the choices of a plan in sentences, for a file or for the active revision."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from omni_operator.api.status import PlanStatus
from omni_operator.children.describe import describe
from omni_operator.cli import view
from omni_operator.cli.access import Access, AccessError
from omni_operator.cli.explain import edges_named, paragraphs
from omni_operator.cli.live_revision import LiveRevision, read_live_revision
from omni_operator.cli.plan_command import print_failure
from omni_operator.cli.plan_source import INVALID, OK, CommandFailure, PlanSource, plan_file
from omni_operator.planning.model import Plan


def explain_file(file: Path, *, source: PlanSource, edge: str | None) -> int:
    """Explains the plan for the OmniDeployment of a file."""
    found = plan_file(file, source)
    if isinstance(found, CommandFailure):
        return print_failure(found)
    described = describe(found.owner, found.revision, nodes={})
    described.notes[:] = found.notes
    return _print(described, detail=found.revision.plan, edge=edge)


def explain_live(access: Access, name: str, *, edge: str | None) -> int:
    """Explains the plan of the active revision.

    Raises:
        AccessError: There is no such OmniDeployment, or the request failed.
    """
    live = read_live_revision(access, namespace=access.namespace, name=name)
    if live is None:
        msg = f"there is no OmniDeployment {name} in namespace {access.namespace}; `kubectl get omni -A` lists them"
        raise AccessError(msg)
    if live.revision is not None:
        described = describe(live.owner, live.revision, nodes={})
        return _print(described, detail=live.revision.plan, edge=edge, now=_transport_condition(live))
    status = (live.omni.get("status") or {}).get("plan")
    if status is None:
        raise AccessError(f"{live.missing_reason}; `omni status {name}` says what it waits for")
    try:
        described = PlanStatus.model_validate(status)
    except ValidationError as exc:
        raise AccessError(f"{live.missing_reason}, and status.plan is not readable either: {exc}") from exc
    return _print(described, detail=None, edge=edge, now=_transport_condition(live))


def _transport_condition(live: LiveRevision) -> str:
    """The condition that compares the transports that run with the plan."""
    conditions = (live.omni.get("status") or {}).get("conditions") or ()
    found = next((c for c in conditions if c["type"] == "TransportAsPlanned"), None)
    if found is None:
        return ""
    return f"As it live now: TransportAsPlanned is {found['status']} ({found['reason']}): {found['message']}"


def _print(plan: PlanStatus, *, detail: Plan | None, edge: str | None, now: str = "") -> int:
    chosen = edges_named(edge, plan.edges) if edge else plan.edges
    if edge and not chosen:
        names = ", ".join(f"'{e.from_stage}->{e.to_stage}'" for e in plan.edges) or "none"
        return print_failure(CommandFailure(INVALID, f"no edge {edge}; the edges are: {names}"))
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
