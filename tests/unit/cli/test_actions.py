"""`omni actions`: the next actions for an OmniDeployment, what it waits for, exit codes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omni_operator import __version__
from omni_operator.api.base import GROUP, PLURAL, VERSION
from omni_operator.children import config_map, names
from omni_operator.children.names import COMPONENT, FINALIZER, NAME, REPLICA, REVISION, Component, node_folder
from omni_operator.children.render import children
from omni_operator.children.revision import Revision
from omni_operator.kube.kinds import BY_KIND, CHILD_KINDS
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.cli.fake_cluster import Cli, FakeAccess, manifest, namespace_object, pod_object, responses
from tests.unit.make import GPU, ONE_NODE, OWNER, TWO_NODES, inventory, node

PAGE = Path(__file__).parents[3] / "docs/how-to/see-what-it-does-next.md"
BEGUN = "2026-01-01T12:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "1 of 1 replicas serve"}
Object = dict[str, Any]


@dataclass
class LiveCluster:
    """One OmniDeployment with children and pods as the API server returns them."""

    nodes: Inventory = TWO_NODES
    spec: Object = field(default_factory=make.raw_spec)
    status: Object = field(default_factory=dict)
    metadata: Object = field(default_factory=dict)
    children: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)

    def run(self, revision: Revision, *, active: bool = True) -> None:
        """Adds the children of a revision."""
        spec = revision.spec
        rendered = children(OWNER, revision, replicas=spec.replicas, service=spec.serving.service)
        for intent in (config_map.build(OWNER, revision), *rendered):
            self.add(intent)
        if active:
            self.status = {"revision": revision.name, "conditions": [READY], "readyReplicas": 1, **self.status}

    def add(self, intent: Object) -> Object:
        """Adds a child as the API server keeps it."""
        child = copy.deepcopy(intent)
        name = f"{child['kind']}-{child['metadata']['name']}"
        child["metadata"] |= {"uid": name, "resourceVersion": "7", "creationTimestamp": BEGUN}
        self.children = [c for c in self.children if c["metadata"]["uid"] != name] + [child]
        return child

    def child(self, kind: str, name: str) -> Object:
        return next(c for c in self.children if c["kind"] == kind and c["metadata"]["name"] == name)

    def remove(self, child: Object) -> None:
        self.children.remove(child)

    def pod(self, component: Component, revision: Revision, *, on: str = "a", **parts: Any) -> Object:
        """Adds a pod that runs."""
        name = f"omni-{revision.name}-0-{component.value}"
        pod = pod_object(name, on=on, requests={GPU: 1}, namespace=OWNER.namespace, omni=OWNER.name)
        pod["metadata"] |= {"uid": name, "resourceVersion": "7", "creationTimestamp": BEGUN, **parts}
        pod["metadata"]["labels"] |= {COMPONENT: component.value, REVISION: revision.name, REPLICA: "0"}
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": BEGUN}]
        self.pods.append(pod)
        return pod

    def access(self, *denied: str) -> FakeAccess:
        """Its API server, which answers 403 to requests of the paths in `denied`."""
        omni = manifest(self.spec)
        omni["metadata"] |= {"uid": OWNER.uid, "resourceVersion": "7", "generation": 1, **self.metadata}
        omni["status"] = self.status
        found = responses(self.nodes, *self.pods, namespaces=(namespace_object(OWNER.namespace),))
        for raw in (*found["/api/v1/nodes"]["items"], found[f"/api/v1/namespaces/{OWNER.namespace}"]):
            raw["metadata"]["resourceVersion"] = "7"
        for resource in CHILD_KINDS:
            items = [_item(c) for c in self.children if c["kind"] == resource.kind and NAME in c["metadata"]["labels"]]
            found[resource.path(OWNER.namespace)] = {"items": items}
        for child in self.children:
            found[BY_KIND[child["kind"]].path(OWNER.namespace, child["metadata"]["name"])] = child
        found[f"/api/v1/namespaces/{OWNER.namespace}/pods"] = {"items": self.pods}
        found[f"/apis/{GROUP}/{VERSION}/namespaces/{OWNER.namespace}/{PLURAL}/{OWNER.name}"] = omni
        return FakeAccess({**found, **self.others, **dict.fromkeys(denied, 403)})

    def actions(self, omni: Cli, *args: str, denied: Iterable[str] = ()) -> int:
        """Runs `omni actions`; its exit code."""
        omni.on(self.access(*denied))
        return omni("actions", OWNER.name, "-n", OWNER.namespace, *args)

    def data(self, omni: Cli) -> Any:
        self.actions(omni, "-o", "json")
        return json.loads(omni.out)


def _item(child: Object) -> Object:
    """An entry of a list, which has no kind of its own."""
    return {key: value for key, value in child.items() if key not in {"apiVersion", "kind"}}


def ready_cluster(nodes: Inventory = TWO_NODES, **parts: Any) -> tuple[LiveCluster, Revision]:
    """A cluster with a Ready revision."""
    revision = make.revision(make.spec(**parts), nodes)
    cluster = LiveCluster(nodes=nodes, spec=make.raw_spec(**parts))
    cluster.run(revision)
    if revision.plan.node_shared_memory:
        folder = node_folder(OWNER, revision.name, 0)
        cluster.status["nodeMemory"] = [{"node": "a", "revision": folder}]
        cluster.metadata["finalizers"] = [FINALIZER]
    return cluster, revision


def deletion_that_waits() -> LiveCluster:
    """A deletion after all pods have ended; their shared memory is still on a node."""
    cluster, _ = ready_cluster(ONE_NODE)
    cluster.metadata["deletionTimestamp"] = BEGUN
    cluster.children = [c for c in cluster.children if c["kind"] == "ConfigMap"]
    return cluster


def draining() -> LiveCluster:
    """An OmniDeployment after an edit: a pod of the earlier revision has not ended yet."""
    new, old = make.revision(), make.revision(make.spec(model={"servedName": "before"}))
    cluster = LiveCluster(status={"revision": new.name})
    cluster.add(config_map.build(OWNER, old))
    ends = {"deletionTimestamp": "2999-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}
    cluster.pod(Component.SERVING, old, **ends)
    return cluster


def edited_service() -> LiveCluster:
    """A Ready OmniDeployment whose Service somebody edited."""
    cluster, _ = ready_cluster()
    cluster.child("Service", OWNER.name)["spec"]["ports"][0]["port"] = 80
    return cluster


def test_a_new_object_gets_all_its_children(omni: Cli) -> None:
    cluster = LiveCluster()
    assert cluster.actions(omni) == 0
    lines = omni.out.splitlines()
    revision = make.revision()
    assert lines[0].startswith(f"shop/omni: revision {revision.name} (new), qwen2_5_omni on vllm-omni 0.16.0")
    assert "next:" in lines
    assert f" 1. create ConfigMap omni-{revision.name}" in [line.rstrip() for line in lines]
    steps = cluster.data(omni)["actions"]
    assert {action["action"] for action in steps} == {"CreateChild"}
    assert steps[-1]["object"] == f"Deployment {names.serving(OWNER, revision.name, 0)}"
    assert steps[-1]["step"] == 3
    assert "waits:" not in omni.out


def test_a_ready_object_has_nothing_to_do(omni: Cli) -> None:
    cluster, revision = ready_cluster()
    assert cluster.actions(omni) == 0
    assert f"revision {revision.name} (active)" in omni.out
    assert "\nnothing to do\n" in omni.out
    assert "note: only the operator's process has its history of restarts" in omni.out
    assert cluster.data(omni)["actions"] == []


def test_a_revision_that_starts_has_nothing_to_do_and_says_what_is_not_ready(omni: Cli) -> None:
    cluster, _ = ready_cluster()
    cluster.status["conditions"] = [{"type": "Ready", "status": "False", "reason": "RayStarting", "message": "0 of 3"}]
    assert cluster.actions(omni) == 0
    assert "nothing to do; status has Ready False: RayStarting: 0 of 3\n" in omni.out


def test_a_child_that_differs_is_applied_and_the_field_is_named(omni: Cli) -> None:
    cluster = edited_service()
    assert cluster.actions(omni) == 0
    assert " 1. apply Service omni, since spec.ports[http].port differs\n" in omni.out
    (action,) = cluster.data(omni)["actions"]
    assert action == {
        "step": 1,
        "action": "ApplyChild",
        "text": "apply Service omni",
        "object": "Service omni",
        "path": "spec.ports[http].port",
    }


def test_children_of_another_version_of_the_operator_are_not_applied(omni: Cli) -> None:
    cluster, revision = ready_cluster()
    record = cluster.child("ConfigMap", f"omni-{revision.name}")
    record["metadata"]["annotations"][names.RENDERED_BY] = f"{__version__}-before"
    cluster.child("Deployment", names.serving(OWNER, revision.name, 0))["spec"]["replicas"] = 5
    assert cluster.actions(omni) == 0
    assert "\nnothing to do\n" in omni.out


def test_a_draining_revision_waits_for_its_pod(omni: Cli) -> None:
    cluster = draining()
    (pod,) = (p["metadata"]["name"] for p in cluster.pods)
    assert cluster.actions(omni) == 3
    assert f"is being removed; it waits for pod {pod} on node a\n" in omni.out
    assert f"revision {make.revision().name} (new)" in omni.out
    assert f"\n 1. create ConfigMap {OWNER.name}-{make.revision().name}\n" in omni.out, "its plan is kept from now on"
    assert " 2. " not in omni.out
    assert "next reconcile after " in omni.out
    data = cluster.data(omni)
    assert data["waits"] == [f"pod {pod} on node a"]
    assert len(data["draining"]) == 1
    assert data["requeueAfterSeconds"] > 60


@pytest.mark.parametrize("labels", [{}, names.labels(OWNER, Component.SERVICE)], ids=["plain", "with our labels"])
def test_a_service_of_somebody_else_is_not_owned(omni: Cli, labels: dict[str, str]) -> None:
    cluster, _ = ready_cluster()
    service = cluster.child("Service", OWNER.name)
    service["metadata"] |= {"labels": labels, "ownerReferences": []}
    assert cluster.actions(omni) == 3
    assert "Service omni exists and belongs to somebody else; delete or rename it" in omni.out
    assert "create Service omni\n" not in omni.out
    assert cluster.data(omni)["notOwned"] == ["Service omni"]


def test_children_that_require_one_that_is_not_owned_are_not_created(omni: Cli) -> None:
    cluster = LiveCluster()
    name = f"omni-{make.revision().name}"
    path = BY_KIND["ConfigMap"].path(OWNER.namespace, name)
    cluster.others = {
        path: {"metadata": {"name": name, "namespace": OWNER.namespace, "uid": "x", "resourceVersion": "1"}}
    }
    assert cluster.actions(omni) == 3
    assert "create" not in omni.out
    assert f"ConfigMap {name} exists and belongs to somebody else" in omni.out


def test_a_deletion_waits_for_shared_memory(omni: Cli) -> None:
    cluster = deletion_that_waits()
    assert cluster.actions(omni) == 3
    assert omni.out.startswith(f"shop/omni is being deleted since {BEGUN}\n")
    assert "which removes" in omni.out
    assert "it waits for shared memory on node a\n" in omni.out
    data = cluster.data(omni)
    assert data["mode"] == "Delete"
    assert [action["action"] for action in data["actions"]] == ["CreateCleanupPod"]
    assert data["waits"] == ["shared memory on node a"]


def test_an_edit_is_asked_about_by_a_dry_run_first(omni: Cli) -> None:
    cluster, revision = ready_cluster()
    cluster.spec = make.raw_spec(model={"servedName": "edited"})
    assert cluster.actions(omni) == 0
    assert "1. ask the API server by a dry run about " in omni.out
    assert f"which replaces {revision.name} once none of them is refused" in omni.out.replace("\n    ", " ")
    asked = cluster.data(omni)["dryRun"]
    assert asked["revision"] == make.revision(make.spec(model={"servedName": "edited"})).name
    assert f"ConfigMap omni-{asked['revision']}" in asked["objects"]
    refused = {
        "type": "Accepted",
        "status": "False",
        "reason": "ChildRefused",
        "message": "quota",
        "observedGeneration": 1,
    }
    cluster.status["conditions"] = [refused]
    assert cluster.actions(omni) == 3
    assert "status has Accepted: ChildRefused: quota" in omni.out


def test_an_edit_that_is_held_waits(omni: Cli) -> None:
    cluster, revision = ready_cluster()
    cluster.spec = make.raw_spec(model={"servedName": "edited"}, rollout={"strategy": "Hold"})
    assert cluster.actions(omni) == 3
    assert f"rollout.strategy is Hold: revision {revision.name} stays" in omni.out


@pytest.mark.parametrize(
    ("parts", "code", "words"),
    [
        ({"replicas": -1}, 2, "the spec is not accepted: InvalidSpec: spec.replicas"),
        ({"transport": {"rdma": "Require"}}, 4, "the spec cannot be planned: PolicyCannotBeMet: "),
    ],
)
def test_a_spec_without_a_plan_has_the_exit_code_of_plan(omni: Cli, parts: Object, code: int, words: str) -> None:
    cluster = LiveCluster(spec=make.raw_spec(**parts))
    assert cluster.actions(omni) == code
    assert words in omni.out
    assert "shop/omni: no revision\n" in omni.out


def test_missing_capacity_is_waited_for(omni: Cli) -> None:
    cluster = LiveCluster(nodes=inventory(node("a", 4)))
    busy = pod_object("training", on="a", requests={GPU: 4}, namespace="research")
    cluster.others = {"/api/v1/pods": {"items": [busy]}}
    assert cluster.actions(omni) == 3
    assert "create ConfigMap" in omni.out
    assert cluster.data(omni)["waitsForCapacity"]


def test_a_record_that_is_unreadable_ends_with_2(omni: Cli) -> None:
    cluster, revision = ready_cluster()
    del cluster.child("ConfigMap", f"omni-{revision.name}")["data"][names.PLAN_FILE]
    assert cluster.actions(omni) == 2
    assert (
        f"the record of revision {revision.name} is unreadable (ConfigMap omni-{revision.name}: it has no plan.json)"
        in (omni.out.replace("\n", " "))
    )
    assert cluster.data(omni)["unreadable"] == [revision.name]


def test_without_kuberay_the_ray_cluster_is_created_all_the_same(omni: Cli) -> None:
    cluster = LiveCluster(others={BY_KIND["RayCluster"].path(OWNER.namespace): 404})
    assert cluster.actions(omni) == 0
    assert "create RayCluster" in omni.out


def test_denied_requests_are_named_together(omni: Cli) -> None:
    cluster, _ = ready_cluster()
    denied = (
        "/api/v1/nodes",
        f"/api/v1/namespaces/{OWNER.namespace}/pods",
        BY_KIND["RayCluster"].path(OWNER.namespace),
    )
    assert cluster.actions(omni, denied=denied) == 1
    assert (
        "you may not list rayclusters.ray.io in namespace shop, nor list pods in namespace shop, nor list nodes"
        in omni.err
    )
    assert "kubectl auth can-i list rayclusters.ray.io)" in omni.err


def test_pods_of_all_namespaces_are_read_only_for_a_new_plan(omni: Cli) -> None:
    cluster, _ = ready_cluster()
    assert cluster.actions(omni, denied=["/api/v1/pods"]) == 0
    cluster.spec = make.raw_spec(model={"servedName": "edited"})
    assert cluster.actions(omni, denied=["/api/v1/pods"]) == 1
    assert (
        "a plan must be made now, for which the pods on all nodes count; you may not list pods in all namespaces"
        in omni.err
    )


def test_an_object_that_does_not_exist_ends_with_1(omni: Cli) -> None:
    omni.on(LiveCluster().access())
    assert omni("actions", "other", "-n", OWNER.namespace) == 1
    assert "there is no OmniDeployment other in namespace shop" in omni.err


def test_help_has_the_exit_codes(omni: Cli) -> None:
    assert omni("actions", "--help") == 0
    assert "  3  it waits for something\n" in omni.out


@pytest.mark.parametrize("make_cluster", [LiveCluster, edited_service, draining, deletion_that_waits])
def test_the_page_has_the_real_output(
    omni: Cli, make_cluster: Any, update_golden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    cluster = make_cluster()
    for pod in cluster.pods:
        pod["metadata"].pop("deletionTimestamp", None)  # the time that is left would be printed
    code = cluster.actions(omni)
    printed = "\n".join(line.rstrip() for line in omni.out.splitlines())
    name = make_cluster.__name__
    text = PAGE.read_text()
    start, end = f"<!-- {name} -->\n", "<!-- end -->\n"
    head, _, rest = text.partition(start)
    old, _, tail = rest.partition(end)
    block = f'```console\n$ kubectl omni actions omni -n shop; echo "exit code $?"\n{printed}\nexit code {code}\n```\n'
    if update_golden:
        PAGE.write_text(f"{head}{start}{block}{end}{tail}")
    else:
        assert old == block, "pytest --update-golden"
