"""What must hold of every child of every case, whatever else changes in the goldens."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_operator.api.spec import Backend
from omni_operator.children import command, names, ray_cluster, serving
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import parse
from tests.unit import make
from tests.unit.golden_cases import CASES, LONGEST, LONGEST_STORE, Case
from tests.unit.make import OWNER, RDMA_NODES, revision, spec
from tests.unit.pods import pods_of, templates

ALL = {**CASES, "longest": LONGEST, "longest-store": LONGEST_STORE}
every_case = pytest.mark.parametrize("case", ALL.values(), ids=ALL)


def pod_specs(obj: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Labels and spec of every pod an object stands for."""
    if obj["kind"] == "Pod":
        yield obj["metadata"]["labels"], obj["spec"]
    for _, template in templates(obj):
        yield template["metadata"]["labels"], template["spec"]


@every_case
def test_names_and_labels_fit(case: Case) -> None:
    for obj in case.children():
        longest = 53 if obj["kind"] == "RayCluster" else 63  # KubeRay 1.6.2 refuses longer RayClusters
        assert len(obj["metadata"]["name"]) <= longest
        for labels in (obj["metadata"]["labels"], *(labels for labels, _ in pod_specs(obj))):
            assert all(len(value) <= 63 for value in labels.values())


def test_the_longest_names_are_among_them() -> None:
    assert f"{'a' * 40}-0c0ffee0-31" in {obj["metadata"]["name"] for obj in LONGEST.children()}
    head = names.head_address(LONGEST.owner, names.ray_cluster(LONGEST.owner, "0c0ffee0", 31))
    assert len(head.split(".")[0]) <= 63
    assert any("-store" in obj["metadata"]["name"] for obj in LONGEST_STORE.children())


@every_case
def test_every_child_has_its_owner_and_says_whose_it_is(case: Case) -> None:
    for obj in case.children():
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("OmniDeployment", OWNER.uid, True)
        assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "omni-operator"
        assert obj["metadata"]["labels"]["omni.vllm.ai/name"] == owner["name"]


@every_case
def test_only_kuberay_writes_its_cluster_label(case: Case) -> None:
    """KubeRay deletes pods by ray.io/cluster alone (1.6.2)."""
    for obj in case.children():
        for labels in (obj["metadata"]["labels"], *(labels for labels, _ in pod_specs(obj))):
            assert not [label for label in labels if label.startswith("ray.io/")]


@every_case
def test_pods_get_no_token_of_the_api_and_no_service_links(case: Case) -> None:
    for obj in case.children():
        for _, pod in pod_specs(obj):
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False


@every_case
def test_requests_are_within_limits_and_devices_are_both(case: Case) -> None:
    for obj in case.children():
        for _, pod in pod_specs(obj):
            for container in pod["containers"]:
                requests, limits = container["resources"]["requests"], container["resources"].get("limits", {})
                assert {"cpu", "memory"} <= requests.keys()
                for resource, limit in limits.items():
                    assert parse(requests[resource]) <= parse(limit), resource
                    if "/" in resource:
                        assert requests[resource] == limit


@every_case
def test_mounts_have_volumes_and_memory_is_bounded(case: Case) -> None:
    for obj in case.children():
        for _, pod in pod_specs(obj):
            volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
            used = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", ())}
            assert used == volumes.keys()
            for volume in volumes.values():
                if "emptyDir" in volume:
                    assert parse(volume["emptyDir"]["sizeLimit"]) > 0


@pytest.mark.parametrize("name", CASES)
def test_host_paths_only_for_shared_memory(name: str) -> None:
    case = CASES[name]
    found = {
        volume["hostPath"]["path"]
        for obj in case.children()
        for _, pod in pod_specs(obj)
        for volume in pod.get("volumes", ())
        if "hostPath" in volume
    }
    folder = f"{names.NODE_SHM_PARENT}/{names.node_folder(case.owner, '0c0ffee0', 0)}"
    shared = case.revision().plan.node_shared_memory
    assert {path for path in found if path != "/dev/shm"} <= {f"{folder[:-1]}{n}" for n in range(case.spec.replicas)}
    assert bool(found) == shared
    assert ("/dev/shm" in found) == bool(case.cleanup_folders)


def test_both_ends_of_shared_memory_mount_one_folder_and_replicas_do_not_share_it() -> None:
    made = revision(spec(replicas=2), make.inventory(make.node("a", 6)))
    assert made.plan.node_shared_memory

    def folders(replica: int) -> list[str]:
        cluster, server = ray_cluster.build(OWNER, made, replica), serving.build(OWNER, made, replica)
        pods = [cluster["spec"]["workerGroupSpecs"][0]["template"], server["spec"]["template"]]
        return [v["hostPath"]["path"] for pod in pods for v in pod["spec"]["volumes"] if "hostPath" in v]

    assert len(folders(0)) == 2
    assert len(set(folders(0))) == 1
    assert set(folders(0)).isdisjoint(folders(1))


def test_the_head_runs_no_stage_and_listens_at_the_address_of_servers() -> None:
    head = ray_cluster.build(OWNER, revision(), 0)["spec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["rayStartParams"]["num-gpus"] == "0"
    assert head["rayStartParams"]["port"] == "6399"
    assert {p["containerPort"] for p in head["template"]["spec"]["containers"][0]["ports"]} >= {6399, 8265}
    assert command.ray_address(OWNER, revision(), 0).endswith("-head-svc.shop.svc:6399")


def _own_ray(case: Case) -> bool:
    plan = case.revision().plan
    return plan.backend is Backend.RAY and plan.cluster_ref is None


@pytest.mark.parametrize("name", [n for n in CASES if _own_ray(CASES[n])])
def test_ray_gets_one_accelerator_and_one_cpu_per_stage(name: str) -> None:
    made = CASES[name].revision()
    (group,) = ray_cluster.build(OWNER, made, 0)["spec"]["workerGroupSpecs"]
    params = group["rayStartParams"]
    assert params["num-gpus"] == params["num-cpus"]
    assert int(params["num-gpus"]) * group["replicas"] == made.plan.accelerators
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    server = serving.build(OWNER, made, 0)["spec"]["template"]["spec"]["containers"][0]
    assert f"--accelerators={made.plan.accelerators}" in server["command"]


def test_user_start_params_cannot_replace_ours() -> None:
    params = {"num-gpus": "8", "port": "1", "num-cpus": "9"}
    made = revision(spec(ray={"headStartParams": params, "workerStartParams": params}))
    cluster = ray_cluster.build(OWNER, made, 0)["spec"]
    assert (
        cluster["headGroupSpec"]["rayStartParams"].items() >= {"num-gpus": "0", "num-cpus": "0", "port": "6399"}.items()
    )
    assert cluster["workerGroupSpecs"][0]["rayStartParams"]["num-gpus"] == "1"


def _paths_of(value: Any, word: str, path: str = "") -> Iterator[str]:
    """Where a word is in JSON, also in JSON and YAML kept as text, and in the compressed record."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            if key == names.RECORD:
                record = json.loads(zlib.decompress(base64.b64decode(child)))
                yield from _paths_of({f"{part}.json": record[part] for part in ("spec", "plan")}, word, path)
                continue
            yield from _paths_of(json.loads(child) if key.endswith(".json") else child, word, f"{path}.{key}")
    elif isinstance(value, list):
        for child in value:
            yield from _paths_of(child, word, f"{path}[]")
    elif word in str(value):
        yield path


SECRETS = {
    "HF_TOKEN": {"secretKeyRef": {"name": "hugging-face", "key": "hub"}},
    "S3_KEY": {"secretKeyRef": {"name": "s3", "key": "key"}},
}


def test_secrets_are_references_everywhere() -> None:
    """Each variable has the Secret's name and no value; the server also has the token of Ray."""
    seen = []
    for obj in CASES["everything"].children():
        for labels, pod in pod_specs(obj):
            component = labels[names.COMPONENT]
            if component == "store":
                continue
            found = {v["name"]: v for v in pod["containers"][0]["env"] if v["name"] in {*SECRETS, "RAY_AUTH_TOKEN"}}
            token = found.pop("RAY_AUTH_TOKEN", None)
            assert found == {name: {"name": name, "valueFrom": source} for name, source in SECRETS.items()}
            assert (token is not None) == (component == "serving")
            if token is not None:
                assert token["valueFrom"]["secretKeyRef"]["key"] == "auth_token"
                assert token.keys() == {"name", "valueFrom"}
            seen.append(component)
    assert set(seen) == {"head", "worker", "serving"}


@pytest.mark.parametrize(
    ("word", "places"),
    [
        ("hugging-face", {".spec.json.model.tokenSecret.name", ".valueFrom.secretKeyRef.name"}),
        ("s3", {".spec.json.engine.env[].valueFrom.secretKeyRef.name", ".valueFrom.secretKeyRef.name"}),
        # A literal is kept as it is (SECURITY.md).
        ("http://proxy:3128", {".spec.json.engine.env[].value", ".env[].value"}),
    ],
)
def test_a_secret_is_named_by_references_only(word: str, places: set[str]) -> None:
    found = {path for obj in CASES["everything"].children() for path in _paths_of(obj, word)}
    assert {place for place in places if any(path.endswith(place) for path in found)} == places
    assert [path for path in found if not path.endswith(tuple(places))] == []


def test_the_operator_cannot_read_secrets() -> None:
    """What it cannot read it cannot write anywhere."""
    manifest = yaml.safe_load_all((Path(__file__).parents[3] / "manifests/base/rbac.yaml").read_text())
    rules = [rule for obj in manifest if obj["kind"] in {"Role", "ClusterRole"} for rule in obj["rules"]]
    assert len(rules) > 3
    assert [rule for rule in rules if {"secrets", "*"} & set(rule.get("resources", ()))] == []


def test_tokens_reach_the_server_only_when_the_cluster_has_them() -> None:
    def variables(**ray: Any) -> set[str]:
        server = serving.build(OWNER, revision(spec(ray=ray)), 0)["spec"]["template"]["spec"]["containers"][0]
        return {variable["name"] for variable in server["env"]}

    assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= variables()
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & variables(tokenAuth="Disabled")
    assert "authOptions" not in ray_cluster.build(OWNER, revision(spec(ray={"tokenAuth": "Disabled"})), 0)["spec"]


@pytest.mark.parametrize(
    ("cluster", "secret"),
    [
        ("a" * 50, "a" * 50),
        ("ab" + "c" * 50, "c" * 50),
        ("ab" + "1" + "c" * 49, "r" + "c" * 49),
        ("a-" + "-" + "c" * 49, "r" + "c" * 49),
    ],
)
def test_the_token_secret_is_named_as_kuberay_names_it(cluster: str, secret: str) -> None:
    """utils.CheckName of KubeRay 1.6.2: the last 50 characters, never a digit or dash first."""
    assert command.token_secret(cluster) == secret


def _restricted_violations(pod: Mapping[str, Any]) -> list[str]:
    """Pod security standard `restricted`, what pods of ours could break of it."""
    found = [
        f"volume {v['name']}"
        for v in pod.get("volumes", ())
        if not v.keys() & {"emptyDir", "configMap", "persistentVolumeClaim"}
    ]
    found += [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    for container in pod["containers"]:
        security = container.get("securityContext", {})
        capabilities = security.get("capabilities", {})
        wanted = {
            "runAsNonRoot": security.get("runAsNonRoot") is True and security.get("runAsUser") != 0,
            "privilege escalation": security.get("allowPrivilegeEscalation") is False,
            "seccomp": security.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "drop ALL": capabilities.get("drop") == ["ALL"],
            "capabilities": set(capabilities.get("add", ())) <= {"NET_BIND_SERVICE"},
            "host ports": not any("hostPort" in port for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {name}" for name, ok in wanted.items() if not ok]
    return found


def test_restricted_namespaces_get_pods_they_admit() -> None:
    made = revision(spec(), RDMA_NODES, security=PodSecurity.RESTRICTED)
    pods = pods_of(OWNER, made, 1)
    assert len(pods) == 6  # head, three workers, server, store
    assert [_restricted_violations(pod.spec) for pod in pods] == [[]] * 6
    assert _restricted_violations(pods_of(OWNER, revision(spec(), RDMA_NODES), 1)[0].spec)  # the check can fail
