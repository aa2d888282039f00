"""`omni status` with failing pods: the report on each, and the next step."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION
from omni_operator.cli.access import AccessError
from omni_operator.cli.advice import next_step
from omni_operator.cli.pod_report import PodReport, pod_report, pod_reports, tree
from omni_operator.cli.view import console, deployment
from tests.unit.launcher.contract import reported

PLAN = {
    "summary": "three stages",
    "pods": [
        {"name": "head", "role": "head"},
        {"name": "talker", "role": "workers", "stages": ["talker"]},
        {"name": "serving", "role": "serving", "stages": ["thinker"]},
    ],
    "edges": [],
}


def raw(component: str, *, group: str = "", replica: str = "0", revision: str = "aaaa", **parts: Any) -> dict[str, Any]:
    labels = {NAME: "omni", COMPONENT: component, REVISION: revision}
    labels |= {"ray.io/group": group} if group else {}
    labels |= {REPLICA: replica} if replica else {}
    meta = {"name": parts.pop("name", f"{component}-{replica}"), "namespace": "ns", "labels": labels}
    meta |= parts.pop("metadata", {})
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"running": {}}}],
    }
    return {"metadata": meta, "spec": {"nodeName": parts.pop("node", "a")}, "status": {**status, **parts}}


def container(*, restarts: int = 0, waiting: str = "", message: str = "", code: int = 1) -> list[dict[str, Any]]:
    state = {"waiting": {"reason": waiting, "message": "back-off 40s"}} if waiting else {"running": {}}
    before = {"terminated": {"exitCode": code, "reason": "Error", "message": message}} if restarts else {}
    return [{"name": "ray-worker", "restartCount": restarts, "state": state, "lastState": before}]


UNREADY = [{"type": "Ready", "status": "False"}]
CRASHING = raw(
    "worker",
    group="talker",
    conditions=UNREADY,
    containerStatuses=container(restarts=4, waiting="CrashLoopBackOff", message=reported("ProcessEnded")),
)


def rendered(*pods: dict[str, Any], lost: dict[str, str] | None = None) -> str:
    out = StringIO()
    found = [pod_report(each, unready_nodes=lost or {}) for each in pods]
    Console(file=out, width=160).print(tree({"plan": PLAN, "revision": "aaaa"}, found))
    return out.getvalue()


def test_every_pod_has_stages_node_restarts_and_termination_message() -> None:
    text = rendered(raw("serving"), CRASHING, raw("head", containerStatuses=container(restarts=1, message="killed")))
    assert "revision aaaa  three stages" in text
    assert "✔ serving (thinker)  serving-0  on a  ready" in text
    assert "✘ worker (talker)  worker-0  on a  CrashLoopBackOff  4 restarts" in text
    assert "stage 1 ended (exit code 1)" in text
    assert "✔ head  head-0  on a  ready  1 restart\n" in text
    assert "last ended: killed" in text


@pytest.mark.parametrize(
    ("pod", "lost", "line"),
    [
        (raw("serving", conditions=UNREADY), {}, "… serving (thinker)  serving-0  on a  starting"),
        (
            raw("serving", node="b"),
            {"b": "NodeStatusUnknown"},
            "✘ serving (thinker)  serving-0  on b  its node is not Ready",
        ),
        (raw("serving", metadata={"deletionTimestamp": "x"}), {}, "… serving (thinker)  serving-0  on a  ending"),
        (
            raw(
                "serving",
                node="",
                phase="Pending",
                conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}],
                containerStatuses=[],
            ),
            {},
            "… serving (thinker)  serving-0  on no node  not placed",
        ),
        (
            raw("serving", phase="Pending", conditions=UNREADY, containerStatuses=container(waiting="ErrImagePull")),
            {},
            "✘ serving (thinker)  serving-0  on a  ErrImagePull",
        ),
    ],
    ids=["starting", "lost node", "ending", "not placed", "no image"],
)  # fmt: skip
def test_states(pod: dict[str, Any], lost: dict[str, str], line: str) -> None:
    assert line in rendered(pod, lost=lost)


def test_replicas_and_other_revisions_are_separate_branches() -> None:
    text = rendered(
        raw("serving"),
        raw("serving", replica="1"),
        raw("store", replica=""),
        raw("serving", revision="bbbb", name="old"),
    )
    lines = [line.lstrip("│├└─ ") for line in text.splitlines()]
    assert lines[1] == "replica 0"
    assert lines[3] == "replica 1"
    assert lines[5].startswith("✔ store")
    assert lines[6] == "of other revisions"
    assert "old" in lines[7]
    assert "no pods" in rendered()


def omni(reason: str, *, status: str = "False", **others: tuple[str, str]) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": status, "reason": reason, "message": "the message"}]
    conditions += [{"type": k, "status": s, "reason": r, "message": "other"} for k, (s, r) in others.items()]
    spec = {"model": {"name": "m"}, "engine": {"version": "0.30.0"}}
    found = {"conditions": conditions, "revision": "aaaa", "endpoint": "http://omni", "plan": PLAN}
    return {"metadata": {"name": "omni", "namespace": "ns"}, "spec": spec, "status": found}


def reports(*pods: dict[str, Any], lost: dict[str, str] | None = None) -> tuple[PodReport, ...]:
    return tuple(pod_report(each, unready_nodes=lost or {}) for each in pods)


@pytest.mark.parametrize(
    ("found", "pods", "step"),
    [
        (omni("Serving", status="True"), (), "omni chat omni -n ns"),
        (
            omni("Serving", status="True", TransportAsPlanned=("False", "TransportDegraded")),
            (),
            "serves, but slower than planned",
        ),
        (omni("Serving", status="True", Accepted=("False", "InvalidSpec")), (), "kubectl edit omni omni"),
        (
            omni("ServingEarlierSpec", status="True", Planned=("False", "PolicyCannotBeMet")),
            (),
            "the current spec cannot be planned (above)",
        ),
        (omni("ServingEarlierSpec", status="True", Planned=("False", "Held")), (), "set rollout.strategy to Recreate"),
        (omni("NotServing", ServingReady=("False", "EngineImageMismatch")), reports(CRASHING), "other"),
        (omni("RayClusterMissing", RayClusterReady=("False", "RayClusterMissing")), reports(CRASHING), "other"),
        (omni("NotServing"), reports(raw("serving"), CRASHING), "kubectl logs -n ns worker-0 -c ray-worker --previous"),
        (omni("NotServing"), reports(raw("worker", node="b"), lost={"b": "x"}), "bring node b back"),
        (
            omni("NotServing"),
            reports(raw("serving", conditions=UNREADY, containerStatuses=container(waiting="ErrImagePull"))),
            "kubectl describe pod -n ns serving-0",
        ),
        (omni("WarmingUp"), reports(raw("serving", phase="Failed", conditions=UNREADY)), "wait for the answer"),
        (omni("WarmingUp"), (), "wait for the answer to the first request"),
        (omni("NotServing", ServingReady=("False", "WarmUpFailed")), (), "correct serving.warmUp"),
        (omni("NotServing", ServingReady=("False", "StageLost")), (), "all stages restart"),
        (omni("NotServing", ServingReady=("False", "StoreNotReady")), (), "component=store"),
        (omni("NotServing", RayClusterReady=("False", "Unschedulable")), (), "kubectl omni inventory"),
        (omni("Degraded", TransportAsPlanned=("False", "TransportDegraded")), (), "kubectl omni explain omni"),
        (omni("NoLayout"), (), "the message"),
    ],
)
def test_the_next_step(found: dict[str, Any], pods: tuple[PodReport, ...], step: str) -> None:
    assert step in next_step(found, pods)


class Api:
    """An API server that may deny a request."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied

    def request(self, _: str, path: str) -> dict[str, Any]:
        kind = "nodes" if "/nodes/" in path else "pods"
        if kind in self.denied:
            msg = "forbidden"
            raise AccessError(msg, status=403)
        node = {
            "metadata": {"name": "a"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "R"}]},
        }
        return node if kind == "nodes" else {"items": [raw("worker", group="talker"), raw("serving")]}


def test_a_denied_list_is_left_out() -> None:
    def states(*denied: str) -> list[tuple[str, str]] | None:
        api: Any = Api(*denied)
        found = pod_reports(api, "ns", "omni")
        return None if found is None else [(pod.component, pod.state) for pod in found]

    assert states() == [("serving", "its node is not Ready"), ("worker", "its node is not Ready")]
    assert states("nodes") == [("serving", "ready"), ("worker", "ready")]
    assert states("pods") is None
    out = StringIO()
    Console(file=out, width=160).print(deployment(omni("Serving", status="True"), None))
    assert "workers" in out.getvalue()


def test_brackets_are_printed_and_not_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages have addresses, stages and paths in brackets."""
    monkeypatch.setenv("COLUMNS", "250")
    found = omni("NotServing")
    said = "stages[vocoder] of [fd00::1]:53, no space in [/dev/shm] :x:"
    for condition in found["status"]["conditions"]:
        condition["message"] = said
    edges = [{**edge, "reason": said} for edge in PLAN["edges"]]
    status = {**found["status"], "plan": {**PLAN, "edges": edges}}
    console().print(deployment({**found, "status": status}, None))
    assert capsys.readouterr().out.count(said) == 2 + len(edges)
