"""LeaderWorkerSet's manager on the control plane, and groups of the size of a RayCluster."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.control_plane import ApiCallError, ControlPlane, free_port

COLLECTION = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/bench/leaderworkersets"
_ACCOUNT = {"kind": "User", "name": "system:serviceaccount:lws-system:lws-controller-manager"}


def start(control_plane: ControlPlane) -> None:
    """Starts the manager with the rights of its own role, and the webhooks that it needs."""
    control_plane.ensure_namespace("lws-system")
    role = yaml.safe_load(binaries.lws_role().read_text())
    role["metadata"]["name"] = "lws-manager"
    control_plane.apply(role)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "lws-manager"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lws-manager"},
        "subjects": [_ACCOUNT],
    }
    control_plane.apply(binding)
    folder = control_plane.work / "lws-certs"
    bundle = _certificate(folder)
    port = free_port()
    settings = {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "internalCertManagement": {"enable": False},
        "leaderElection": {"leaderElect": False},
        "webhook": {"port": port, "host": "127.0.0.1", "certDir": str(folder)},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{free_port()}"},
        "metrics": {"bindAddress": "0"},
    }
    (control_plane.work / "lws.yaml").write_text(json.dumps(settings))
    control_plane.spawn("lws-manager", [
        str(binaries.ensure("lws-manager")), f"--config={control_plane.work / 'lws.yaml'}",
        f"--kubeconfig={control_plane.kubeconfig('lws')}", "--zap-log-level=2",
    ])  # fmt: skip
    for hooks in _webhooks(port, bundle):
        control_plane.apply(hooks)
    probe = groups([_SMALLEST])[0][0]
    control_plane.wait("LWS answers its webhooks", lambda: _accepted(control_plane, probe), every=0.25)


def stop(control_plane: ControlPlane) -> None:
    """Ends it, with its webhooks."""
    for kind in ("mutating", "validating"):
        control_plane.ok("DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/lws")
    process = control_plane.processes.pop("lws-manager")
    process.terminate()
    process.wait(20)


def groups(clusters: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A LeaderWorkerSet for each RayCluster: as many pods, of its own templates."""
    return [[_group(cluster)] for cluster in clusters]


def ready(obj: dict[str, Any]) -> bool:
    """Whether all pods of a LeaderWorkerSet are ready."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


def _group(cluster: dict[str, Any]) -> dict[str, Any]:
    spec = cluster["spec"]
    workers = spec["workerGroupSpecs"]
    size = 1 + sum(each.get("replicas", 1) for each in workers)
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": cluster["metadata"]["name"], "namespace": "bench"},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": size,
                "leaderTemplate": {"metadata": {}, "spec": spec["headGroupSpec"]["template"]["spec"]},
                "workerTemplate": {"metadata": {}, "spec": workers[0]["template"]["spec"]},
            },
        },
    }


_POD = {"spec": {"containers": [{"name": "one", "image": "none"}]}}
_SMALLEST = {
    "metadata": {"name": "probe"},
    "spec": {"headGroupSpec": {"template": _POD}, "workerGroupSpecs": [{"replicas": 1, "template": _POD}]},
}


def _accepted(control_plane: ControlPlane, probe: dict[str, Any]) -> bool:
    try:
        control_plane.apply(probe, dry_run=True)
    except ApiCallError as exc:
        if exc.status == 500:  # the webhook does not listen yet
            return False
        raise
    return True


def _certificate(folder: Path) -> str:
    """Makes a certificate for the webhooks; returns it as a caBundle."""
    folder.mkdir(exist_ok=True)
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"),
    ], check=True, capture_output=True)  # fmt: skip
    return base64.b64encode((folder / "tls.crt").read_bytes()).decode()


def _webhooks(port: int, bundle: str) -> list[dict[str, Any]]:
    """As in LWS's config/webhook, reached by address since there is no Service's."""
    kinds = (("Mutating", "mutate", ["CREATE"]), ("Validating", "validate", ["CREATE", "UPDATE"]))
    made = []
    for kind, verb, of_pods in kinds:
        rules = (
            ("leaderworkerset", f"/{verb}-leaderworkerset-x-k8s-io-v1-leaderworkerset", "leaderworkerset.x-k8s.io",
             "leaderworkersets", ["CREATE", "UPDATE"], {}),
            ("pod", f"/{verb}--v1-pod", "", "pods", of_pods, _ONLY_LWS_PODS),
        )  # fmt: skip
        hooks = [
            {
                "name": f"{verb[0]}{name}.kb.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle},
                "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": verbs, "resources": [resource]}],
                **selector,
            }
            for name, path, group, resource, verbs, selector in rules
        ]
        made.append({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": "lws"},
            "webhooks": hooks,
        })  # fmt: skip
    return made


_ONLY_LWS_PODS = {
    "objectSelector": {"matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]}
}
