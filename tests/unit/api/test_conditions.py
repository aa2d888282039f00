"""The table of reasons: what a person is asked to do about each."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from typing import Any

import pytest

from omni_operator.api.conditions import MESSAGE_HAS_REMEDY, Reason, Severity
from omni_operator.api.spec import Backend
from omni_operator.controller.conditions.build import build_status
from omni_operator.controller.conditions.launcher_report import TEXTS, explain
from omni_operator.controller.rollout.actions import NOTHING_DONE, ActionPlan
from omni_operator.controller.rollout.decide import Decision, Mode
from omni_operator.controller.state.build import parse
from omni_operator.controller.state.termination import parse as parse_report
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster
from tests.unit.launcher.contract import reported

WARNINGS = sorted((reason for reason in Reason if reason.severity is Severity.WARNING), key=str)
IN_THE_MESSAGE = [reason for reason in WARNINGS if reason.next_step == MESSAGE_HAS_REMEDY]
# A message has a remedy when it asks for something: one of these verbs in the imperative.
IMPERATIVE = re.compile(
    r"(?:^|: |; |, |, or |or |\(|go on: )"
    r"(?:set|use|correct|check|install|create|run|apply|add|offer|write|give|change)\b"
)


def planning(nodes: Inventory = make.TWO_NODES, **parts: Any) -> list[str]:
    error = make.refused(make.spec(**parts), nodes)
    return [f"{error.reason}: {error.message}"]


def condition(**parts: Any) -> list[str]:
    cluster = FakeCluster(spec=make.raw_spec(**parts.pop("spec", {})))
    for name, value in parts.items():
        setattr(cluster, name, value)
    cluster.reconcile()
    return [f"{c['reason']}: {c['message']}" for c in cluster.status["conditions"]]


def left_alone(**parts: Any) -> list[str]:
    """Conditions of an OmniDeployment of which something cannot be read."""
    snapshot = replace(FakeCluster().snapshot(), **parts)
    update = build_status(snapshot, Decision(mode=Mode.LEAVE), ActionPlan(), NOTHING_DONE)
    return [f"{c['reason']}: {c['message']}" for c in update.status["conditions"]]


def launcher() -> list[str]:
    reports = [parse_report(reported(code)) for code in TEXTS]
    return [f"{reason}: {text}" for reason, text in (explain(report) for report in reports if report)]


def messages() -> list[str]:
    """Messages with the reasons that they are for, by the code that makes them."""
    return [
        f"InvalidSpec: {parse(make.raw_spec(replicas=-1)).error}",
        *planning(engine={"version": "0.1.0"}),
        *planning(model={"name": "someone/unknown"}),
        *planning(engine={"backend": Backend.RAY.value, "version": "0.30.0"}),
        *planning(transport={"rdma": "Require"}),
        *planning(make.inventory(make.node("a", 0))),
        *condition(spec={"ray": {"clusterRef": {"name": "shared"}}}),
        *condition(kuberay_missing=True),
        *left_alone(unreadable=("0c0ffee0",)),
        *left_alone(pod_security=None, namespace_error="403 forbidden"),
        *launcher(),
    ]


def test_every_warning_has_a_next_step() -> None:
    assert [reason for reason in WARNINGS if not reason.next_step] == []


@pytest.mark.parametrize("reason", Reason)
def test_a_next_step_uses_known_placeholders(reason: Reason) -> None:
    fields = {name for _, name, _, _ in string.Formatter().parse(reason.next_step) if name is not None}
    assert fields <= {"name", "namespace", "message"}


def test_a_message_that_is_the_next_step_has_a_remedy() -> None:
    made = messages()
    for reason in IN_THE_MESSAGE:
        mine = [text for text in made if text.startswith(f"{reason}: ")]
        assert mine, f"no message of {reason} is made here"
        assert [text for text in mine if not IMPERATIVE.search(text)] == []
