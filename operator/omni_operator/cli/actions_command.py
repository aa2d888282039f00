"""`omni actions`: what the operator does next for an OmniDeployment, and what it waits for."""

from __future__ import annotations

import json
import sys

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.cli import view
from omni_operator.cli.access import Access
from omni_operator.cli.actions_report import NOT_KNOWN, ActionReport, seconds, without
from omni_operator.cli.live_snapshot import LiveSnapshot, Reader, not_owned_objects, read_live_snapshot
from omni_operator.controller.rollout.actions import ApplyChild
from omni_operator.controller.rollout.decide import decide
from omni_operator.controller.rollout.plan import plan_actions
from omni_operator.controller.rollout.rendering import Renderer
from omni_operator.planning.model import PlanError, Planned
from omni_operator.planning.planner import make_plan


def actions(access: Access, name: str, *, output: str) -> int:
    """Prints the next actions for an OmniDeployment; the exit code says whether it waits.

    Raises:
        AccessError: It does not exist, the cluster cannot be reached, or denies a request.
    """
    reader = Reader(access=access, namespace=access.namespace)
    report = action_report(reader, read_live_snapshot(reader, name))
    if output == "json":
        sys.stdout.write(json.dumps(report.data(), indent=2) + "\n")
    else:
        _print(report)
    return report.code


def action_report(reader: Reader, live: LiveSnapshot) -> ActionReport:
    """What the operator would do with a snapshot."""
    snapshot = live.snapshot

    def planned(spec: OmniDeploymentSpec) -> Planned | PlanError:
        assert snapshot.pod_security is not None
        return make_plan(spec=spec, inventory=live.inventory(), pod_security=snapshot.pod_security)

    decision = decide(snapshot, make_plan=planned, inventory=live.inventory)
    plan = plan_actions(snapshot, decision, Renderer())
    created = [action.key for action in plan.actions if isinstance(action, ApplyChild) and not action.exists]
    plan = without(plan, not_owned_objects(reader, snapshot.omni, created))
    return ActionReport(snapshot=snapshot, decision=decision, plan=plan, unreadable_reasons=live.unreadable_reasons)


def _print(report: ActionReport) -> None:
    console = view.console()
    console.print(report.heading, highlight=False, style="bold")
    if report.problem:
        console.print(report.problem, highlight=False)
    if report.steps:
        console.print(view.numbered("next:", report.steps))
    elif not report.waits and not report.problem:
        console.print(report.nothing_to_do, highlight=False)
    if report.waits:
        console.print(view.paragraph("waits:", report.waits))
    if report.plan.requeue_after is not None:
        console.print(f"next reconcile after {seconds(report.plan.requeue_after)} at the latest", highlight=False)
    view.notes(console, [NOT_KNOWN])
