"""What counts as a change of a child by others.

Our fields, and nothing that the API server or a webhook adds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from omni_operator.controller.rollout.diff import covers, first_difference
from tests.unit.golden_cases import CASES

CHILDREN = {
    f"{case}: {obj['kind']} {obj['metadata']['name']}": obj
    for case in ("everything", "one-node-shm")
    for obj in CASES[case].children()
}
DEPLOYMENT = CHILDREN["everything: Deployment omni-0c0ffee0-0-serve"]
CLUSTER = CHILDREN["everything: RayCluster omni-0c0ffee0-0"]
SERVICE = CHILDREN["everything: Service omni"]
POLICY = CHILDREN["everything: NetworkPolicy omni-0c0ffee0"]


def _with_defaults(value: Any) -> Any:
    """As if the API server had filled in fields everywhere and dropped what is empty."""
    if isinstance(value, dict):
        kept = {
            key: copy.deepcopy(item)
            if key.endswith("elector")
            else _with_defaults(item)  # nothing is added to selectors
            for key, item in value.items()
            if item not in ({}, [], "", None)
        }
        return {**kept, "defaulted": "by the server"}
    return [_with_defaults(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("intent", CHILDREN.values(), ids=CHILDREN)
def test_what_the_server_adds_is_no_diff(intent: dict[str, Any]) -> None:
    assert first_difference(copy.deepcopy(intent), intent) is None
    listed = {key: value for key, value in intent.items() if key not in {"apiVersion", "kind"}}
    # entries of a list lack them (kube-apiserver 1.36, run)
    assert first_difference(listed, intent) is None
    assert first_difference(_with_defaults(intent), intent) is None


def _spec(obj: Any) -> Any:
    return obj["spec"]["template"]["spec"]


def _add_sidecar(live: Any) -> None:
    _spec(live)["containers"].insert(0, {"name": "mesh", "image": "mesh"})
    _spec(live)["volumes"].append({"name": "mesh", "emptyDir": {}})
    _spec(live)["containers"][1]["env"].insert(0, {"name": "MESH", "value": "1"})


def _rewrite_quantity(live: Any) -> None:
    requests = _spec(live)["containers"][0]["resources"]["requests"]
    requests["cpu"] = "2000m"
    assert DEPLOYMENT["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "2"


@pytest.mark.parametrize("change", [_add_sidecar, _rewrite_quantity])
def test_webhooks_and_other_spellings_are_no_diff(change: Callable[[Any], None]) -> None:
    live = copy.deepcopy(DEPLOYMENT)
    change(live)
    assert live != DEPLOYMENT
    assert covers(live, DEPLOYMENT)


def _admit(live: Any) -> None:
    """What Kueue writes into a RayCluster that it admits to a flavour of nodes."""
    for group in (live["spec"]["headGroupSpec"], *live["spec"]["workerGroupSpecs"]):
        template = group["template"]
        template["spec"]["nodeSelector"]["cloud/instance-type"] = "a100"
        template["spec"]["tolerations"].insert(0, {"key": "spot", "operator": "Exists", "effect": "NoSchedule"})
        template["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/topology"}]
        template["metadata"]["labels"]["kueue.x-k8s.io/podset"] = "stages"
        template["metadata"]["annotations"]["kueue.x-k8s.io/workload"] = "raycluster-1"
    live["spec"]["suspend"] = False


def test_where_others_send_the_pods_of_a_ray_cluster_is_no_diff() -> None:
    live = copy.deepcopy(CLUSTER)
    _admit(live)
    assert first_difference(live, CLUSTER) is None
    del live["spec"]["workerGroupSpecs"][0]["template"]["spec"]["nodeSelector"]["pool"]
    assert first_difference(live, CLUSTER) == f"{IN_GROUP}.spec.nodeSelector.pool"


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(live: Any) -> None:
        for step in path[:-1]:
            live = live[step]
        if to is None:
            del live[path[-1]]
        else:
            live[path[-1]] = to

    return change


CONTAINER = ("spec", "template", "spec", "containers", 0)
GROUP = ("spec", "workerGroupSpecs", 0, "template")


TCP, UDP = {"port": 1, "p": "TCP"}, {"port": 1, "p": "UDP"}
IN_SERVER, IN_GROUP = "spec.template.spec.containers[server]", "spec.workerGroupSpecs[0].template"
HEAD = ("spec", "headGroupSpec", "rayStartParams")
REPLICA, TEAM, POD = "omni.vllm.ai/replica", "example.com/team", ("spec", "template", "spec")
NO_TOKEN = "automountServiceAccountToken"


@pytest.mark.parametrize(
    ("intent", "change", "path"),
    [
        (DEPLOYMENT, _set("spec", "replicas", to=2), "spec.replicas"),
        (DEPLOYMENT, _set(*CONTAINER, "image", to="other"), f"{IN_SERVER}.image"),
        (DEPLOYMENT, _set(*CONTAINER, "command", 2, to="--x"), f"{IN_SERVER}.command[2]"),
        (DEPLOYMENT, _set(*CONTAINER, "command", to=["sleep"]), f"{IN_SERVER}.command"),
        (DEPLOYMENT, _set(*CONTAINER, "env", 1, "value", to="x"), f"{IN_SERVER}.env[VLLM_HOST_IP].value"),
        (DEPLOYMENT, _set(*CONTAINER, "env", 1, to=None), f"{IN_SERVER}.env[VLLM_HOST_IP]"),
        (DEPLOYMENT, _set(*CONTAINER, "resources", "limits", "cpu", to="3"), f"{IN_SERVER}.resources.limits.cpu"),
        (DEPLOYMENT, _set(*CONTAINER, "livenessProbe", to=None), f"{IN_SERVER}.livenessProbe"),
        (DEPLOYMENT, _set("metadata", "labels", REPLICA, to="9"), f"metadata.labels.{REPLICA}"),
        (DEPLOYMENT, _set("metadata", "ownerReferences", to=None), "metadata.ownerReferences"),
        (DEPLOYMENT, _set("spec", "template", "spec", "affinity", to=None), "spec.template.spec.affinity"),
        (DEPLOYMENT, _set("spec", "template", "spec", NO_TOKEN, to=None), f"spec.template.spec.{NO_TOKEN}"),
        (CLUSTER, _set("spec", "workerGroupSpecs", 0, "replicas", to=1), "spec.workerGroupSpecs[0].replicas"),
        (CLUSTER, _set("spec", "workerGroupSpecs", to=[]), "spec.workerGroupSpecs"),
        (CLUSTER, _set(*HEAD, "num-gpus", to="1"), "spec.headGroupSpec.rayStartParams.num-gpus"),
        (CLUSTER, _set(*GROUP, "spec", "nodeSelector", "pool", to="cpu"), f"{IN_GROUP}.spec.nodeSelector.pool"),
        (CLUSTER, _set(*GROUP, "spec", "tolerations", to=[]), f"{IN_GROUP}.spec.tolerations"),
        (CLUSTER, _set(*GROUP, "spec", "tolerations", 0, "effect", to="NoExecute"), f"{IN_GROUP}.spec.tolerations"),
        (CLUSTER, _set(*GROUP, "metadata", "annotations", TEAM, to="x"), f"{IN_GROUP}.metadata.annotations.{TEAM}"),
        (DEPLOYMENT, _set(*POD, "nodeSelector", "one-more", to="x"), "spec.template.spec.nodeSelector"),
        (DEPLOYMENT, _set("spec", "template", "spec", "tolerations", to=[{}, {}]), "spec.template.spec.tolerations"),
        (SERVICE, _set("spec", "type", to="NodePort"), "spec.type"),
        (SERVICE, _set("spec", "selector", "omni.vllm.ai/revision", to="old"), "spec.selector"),
        (SERVICE, _set("spec", "selector", "one-more", to="label"), "spec.selector"),
        (POLICY, _set("spec", "ingress", to=[{}, *POLICY["spec"]["ingress"]]), "spec.ingress"),
    ],
)  # fmt: skip
def test_changes_of_our_fields_are_found_and_named(
    intent: dict[str, Any], change: Callable[[Any], None], path: str
) -> None:
    live = _with_defaults(intent)
    change(live)
    assert first_difference(live, intent) == path


def _falses(value: Any, key: str = "") -> set[str]:
    if isinstance(value, dict):
        return {found for k, item in value.items() for found in _falses(item, k)}
    if isinstance(value, list):
        return {found for item in value for found in _falses(item, key)}
    return {key} if value is False or (value == 0 and not isinstance(value, bool)) else set()


def test_false_is_rendered_only_where_the_api_server_keeps_it() -> None:
    """These are pointers in its types.

    A plain bool or number is dropped, and would look like diff for ever.
    """
    rendered = {found for case in CASES.values() for obj in case.children() for found in _falses(obj)}
    pointers = {
        "automountServiceAccountToken",
        "enableServiceLinks",
        "allowPrivilegeEscalation",
        "blockOwnerDeletion",
        "runAsUser",
    }
    assert rendered <= pointers | {"minAvailable"}


@pytest.mark.parametrize(
    ("live", "intent", "equal"),
    [
        ({}, {"a": {}, "b": [], "c": "", "d": None}, True),
        ({}, {"a": False}, False),
        ({}, {"a": 0}, False),
        ({}, {"a": True}, False),
        ({"a": "5"}, {"a": 5}, False),
        ({"a": None}, {"a": {}}, True),
        ({"a": "x"}, {"a": {"b": 1}}, False),
        ({"a": {"b": 1}}, {"a": [1]}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [{"name": "x", "v": 1}, {"name": "y"}]}, {"a": [{"name": "y"}, {"name": "x", "v": 1}]}, True),
        ({"a": [TCP, UDP]}, {"a": [TCP, UDP]}, True),
        ({"a": [UDP, TCP]}, {"a": [TCP, UDP]}, False),
    ],
)  # fmt: skip
def test_small_differences(live: dict[str, Any], intent: dict[str, Any], equal: bool) -> None:
    assert covers(live, intent) is equal
