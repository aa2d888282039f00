"""The ways to install the operator agree: chart, kustomize base, image.

None grants more rights than tests/api uses.
"""

import functools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest

import omni_operator
from e2e.cluster import binaries, shell
from e2e.cluster.modules import KUBERNETES
from omni_operator.controller.runtime.metrics import Metrics
from omni_operator.controller.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CHART, BASE = ROOT / "charts/omni-operator", ROOT / "manifests/base"
CRD = ROOT / "crds/omni.vllm.ai_omnideployments.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OWN_LABELS = {"app.kubernetes.io/name": "omni-operator", "app.kubernetes.io/instance": "omni-operator"}
EVERYTHING = (
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "podDisruptionBudget.enabled=true",
)
NOTHING = ("metrics.service=false", "networkPolicy.enabled=false", "rbac.create=false", "serviceAccount.create=false")
DEFAULT_KINDS = {"ClusterRole", "ClusterRoleBinding", "Deployment", "NetworkPolicy", "Service", "ServiceAccount"}

Objects = dict[str, Any]


def helm(*sets: str, release: str = "omni-operator", crds: bool = False) -> str:
    argv = [str(binaries.ensure("helm")), "template", release, str(CHART), "--namespace=omni-system"]
    values = [f"crds.install={str(crds).lower()}", *sets]
    return shell.run([*argv, f"--kube-version={KUBERNETES}", *(f"--set={value}" for value in values)])


@functools.cache
def rendered(*sets: str, release: str = "omni-operator", crds: bool = False) -> Objects:
    return by_kind(helm(*sets, release=release, crds=crds))


@functools.cache
def base() -> Objects:
    return by_kind(shell.run([str(binaries.ensure("kubectl")), "kustomize", str(BASE)]))


def by_kind(text: str) -> Objects:
    found = [item for item in yaml.load_all(text, Loader=LOADER) if item]
    assert len({item["kind"] for item in found}) == len(found), "two objects of a kind"
    return {item["kind"]: item for item in found}


def pod(objects: Objects) -> Any:
    return objects["Deployment"]["spec"]["template"]["spec"]


def violations(spec: Any) -> list[str]:
    """What the Pod Security level "restricted" and a read-only root would refuse."""
    inside = spec["securityContext"]
    wanted = {
        "runAsNonRoot": inside.get("runAsNonRoot") is True,
        "seccompProfile": inside.get("seccompProfile") == {"type": "RuntimeDefault"},
        "hostNamespaces": not {"hostNetwork", "hostPID", "hostIPC"} & set(spec),
        "volumes": all(set(v) - {"name"} <= {"emptyDir", "configMap", "secret"} for v in spec.get("volumes", [])),
    }
    for container in spec["containers"] + spec.get("initContainers", []):
        own = container["securityContext"]
        wanted |= {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "overrides": not {"runAsUser", "runAsNonRoot", "seccompProfile", "privileged"} & set(own),
            "hostPorts": not any("hostPort" in port for port in container.get("ports", [])),
            "limits": "memory" in container["resources"]["limits"],
        }
    return [name for name, holds in wanted.items() if not holds]


@pytest.mark.parametrize("sets", [(), EVERYTHING, NOTHING, ("settings.httpPort=9000", "fullnameOverride=boss")])
def test_pod_is_restricted(sets: tuple[str, ...]):
    objects = rendered(*sets)
    assert violations(pod(objects)) == []
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert objects["Deployment"]["spec"]["replicas"] == 1


def test_a_weak_pod_is_noticed():
    weak = json.loads(json.dumps(pod(base())))
    del weak["securityContext"]["runAsNonRoot"], weak["containers"][0]["securityContext"]["capabilities"]
    assert violations(weak) == ["runAsNonRoot", "capabilities"]


def test_base_has_the_chart_s_pod():
    chart, plain = pod(rendered()), pod(base())
    assert violations(plain) == []
    differences = {key for key in chart.keys() | plain.keys() if chart.get(key) != plain.get(key)}
    assert differences == {"containers"}
    (ours,), (theirs,) = chart["containers"], plain["containers"]
    differences = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert differences == {"env", "imagePullPolicy"}  # values of the chart that have no counterpart in the base


def test_base_enforces_what_its_pod_fits():
    labels = base()["Namespace"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert base()["Deployment"]["metadata"]["namespace"] == base()["Namespace"]["metadata"]["name"]


@pytest.mark.parametrize("release", ["omni-operator", "other"])
def test_rights_are_those_of_the_manifests(release: str):
    role, binding = yaml.load_all((BASE / "rbac.yaml").read_text(), Loader=LOADER)
    objects = rendered(release=release)
    assert objects["ClusterRole"]["rules"] == role["rules"] == base()["ClusterRole"]["rules"]
    name = objects["ClusterRole"]["metadata"]["name"]
    assert objects["ClusterRoleBinding"]["roleRef"] == binding["roleRef"] | {"name": name}
    account = objects["ServiceAccount"]["metadata"]
    assert pod(objects)["serviceAccountName"] == account["name"]
    assert objects["ClusterRoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def test_crd_is_the_one_in_crds():
    chart = rendered(crds=True)["CustomResourceDefinition"]
    assert chart["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert chart == yaml.load(CRD.read_text(), Loader=LOADER) == base()["CustomResourceDefinition"]


@pytest.mark.parametrize(
    ("sets", "kinds"),
    [
        ((), DEFAULT_KINDS),
        (EVERYTHING, DEFAULT_KINDS | {"ServiceMonitor", "PrometheusRule", "PodDisruptionBudget"}),
        (NOTHING, {"Deployment"}),
    ],
)
def test_flags_add_and_remove_objects(sets: tuple[str, ...], kinds: set[str]):
    objects = rendered(*sets)
    assert set(objects) == kinds
    for item in objects.values():
        assert OWN_LABELS.items() <= item["metadata"]["labels"].items()
        assert {"app.kubernetes.io/managed-by", "helm.sh/chart"} <= item["metadata"]["labels"].keys()


def test_selectors_find_the_pod():
    objects = rendered(*EVERYTHING)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    spec = {kind: item.get("spec", {}) for kind, item in objects.items()}
    assert spec["Service"]["selector"].items() <= labels
    assert spec["NetworkPolicy"]["podSelector"]["matchLabels"].items() <= labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert spec[kind]["selector"]["matchLabels"].items() <= labels
    service = objects["Service"]["metadata"]["labels"].items()
    assert spec["ServiceMonitor"]["selector"]["matchLabels"].items() <= service
    assert {e["port"] for e in spec["ServiceMonitor"]["endpoints"]} == {p["name"] for p in spec["Service"]["ports"]}


def test_network_policy_opens_the_http_port_alone():
    objects = rendered("settings.httpPort=9000")
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9000}]}]
    assert policy["egress"] == [{}]
    assert pod(objects)["containers"][0]["ports"] == [{"name": "http", "containerPort": 9000}]


def test_settings_arrive(monkeypatch: pytest.MonkeyPatch):
    sets = ("settings.workers=3", "settings.resyncSeconds=45", "settings.logLevel=DEBUG", "settings.httpPort=9000")
    for variable in pod(rendered(*sets))["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    wanted = Settings(workers=3, resync_seconds=45, log_level="DEBUG", http_port=9000)
    assert Settings.from_environment() == wanted


def test_default_settings_are_the_operator_s_own(monkeypatch: pytest.MonkeyPatch):
    for variable in pod(rendered())["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    assert Settings.from_environment() == Settings()


@pytest.mark.parametrize(
    ("sets", "image"),
    [
        ((), f"ghcr.io/omni-operator/omni-operator:{omni_operator.__version__}"),
        (("image.repository=localhost:5000/mine", "image.tag=a-1"), "localhost:5000/mine:a-1"),
        (("image.tag=a", f"image.digest=sha256:{'0' * 64}"), f"ghcr.io/omni-operator/omni-operator@sha256:{'0' * 64}"),
    ],
)
def test_image_can_be_another(sets: tuple[str, ...], image: str):
    assert pod(rendered(*sets))["containers"][0]["image"] == image


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("settings.workers=0", "at '/settings/workers': minimum: got 0, want 1"),
        ("settings.workers=many", "at '/settings/workers': got string, want integer"),
        ("settings.logLevel=LOUD", "value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("settings.httpPort=80", "at '/settings/httpPort': minimum: got 80"),
        ("image.digest=abc", "at '/image/digest': 'abc' does not match pattern"),
        ("imagee.tag=1", "additional properties 'imagee' not allowed"),
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("networkPolicy=false", "at '/networkPolicy': got boolean, want object"),
        ("podLabels.helm\\.sh/chart=x", "helm.sh/chart is the chart's own label"),
    ],
)
def test_bad_values_are_refused(wrong: str, message: str):
    with pytest.raises(shell.CommandError) as caught:
        helm(wrong)
    assert message in str(caught.value)


def test_a_service_monitor_without_a_service_is_refused():
    with pytest.raises(shell.CommandError, match=r"needs metrics\.service"):
        helm("metrics.serviceMonitor.enabled=true", "metrics.service=false")


def test_alerts_name_metrics_that_exist():
    shown = generate_latest(Metrics().registry).decode()
    groups = rendered(*EVERYTHING)["PrometheusRule"]["spec"]["groups"]
    text = " ".join(rule["expr"] for group in groups for rule in group["rules"])
    named = set(re.findall(r"omni_operator_\w+", text))
    assert named
    assert {name for name in named if f"\n{name}" not in shown} == set()


def test_lint_is_silent():
    shell.run([str(binaries.ensure("helm")), "lint", "--strict", str(CHART)])


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    label = re.search(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert label
    image = pod(base())["containers"][0]["image"]
    found = [project["version"], chart["version"], chart["appVersion"], label[1], image.rpartition(":")[2]]
    assert set(found) == {omni_operator.__version__}


def pins(name: str) -> set[str]:
    return set(re.findall(r"^\S+==[^\s;]+", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_has_the_versions_that_tests_run_with():
    tested, project = pins("constraints.txt"), tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pins("constraints-runtime.txt") | pins("constraints-build.txt") <= tested
    names = {pin.partition("==")[0] for pin in pins("constraints-runtime.txt")}
    assert {re.split(r"[<>=]", line)[0] for line in project["project"]["dependencies"]} <= names
    assert set(project["build-system"]["requires"]) <= pins("constraints-build.txt")


def check_generated(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, root / "hack/generate.py", "--check"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_generated_files_are_current():
    done = check_generated(ROOT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("charts", "crds", "docs", "hack", "manifests"):
        subprocess.run(["cp", "-r", ROOT / name, tmp_path], check=True)
    frozen = "operator/omni_operator/api/frozen_defaults.json"
    (tmp_path / frozen).parent.mkdir(parents=True)
    (tmp_path / frozen).write_text((ROOT / frozen).read_text())
    return tmp_path


def test_check_names_the_difference(checkout: Path):
    rules = checkout / "charts/omni-operator/files/rules.yaml"
    rules.write_text(rules.read_text().replace("[patch]", "[patch, delete]"))
    done = check_generated(checkout)
    assert done.returncode == 1
    assert "-  verbs: [patch, delete]\n+  verbs: [patch]\n" in done.stdout


def test_a_value_without_a_comment_is_refused(checkout: Path):
    values = checkout / "charts/omni-operator/values.yaml"
    values.write_text(values.read_text().replace("  # Whether to create the ClusterRole and its binding.\n", ""))
    done = check_generated(checkout)
    assert (done.returncode, done.stderr) == (1, "error: values.yaml: rbac.create has no comment above it\n")
