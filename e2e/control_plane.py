"""A Kubernetes control plane without kubelets, on loopback: for tests of the API and for benches.

`ControlPlane(folder).up()` starts etcd and kube-apiserver (RBAC on, admission as in a cluster);
`up(controllers=True)` adds kube-controller-manager, kube-scheduler, KWOK (fake nodes whose pods
become Ready) and KubeRay's operator. All addresses are loopback ones, those of fake pods too, so
that nothing that is sent to a pod leaves this machine.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e import servers_join
from e2e.answerer import Loopback
from e2e.cluster import binaries

ROOT = Path(__file__).parent.parent
OPERATOR_USER = "system:serviceaccount:omni-system:omni-operator"
# name -> (user, groups). The operators under test have exactly the rights of their manifests; the
# rest of the control plane has all.
_USERS = {
    "admin": ("admin", "system:masters"),
    "operator": (OPERATOR_USER, "system:serviceaccounts,system:serviceaccounts:omni-system"),
    "kuberay": ("system:serviceaccount:kuberay-system:kuberay-operator", "system:serviceaccounts"),
    "lws": ("system:serviceaccount:lws-system:lws-controller-manager", "system:serviceaccounts"),
    "kcm": ("system:kube-controller-manager", "system:masters"),
    "scheduler": ("system:kube-scheduler", "system:masters"),
    "kwok": ("kwok", "system:masters"),
}
_UNVERIFIED = ssl._create_unverified_context()
# The API server refuses EndpointSlices with loopback addresses, so their controllers would only
# fail, over and over.
_CONTROLLERS = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # KubeRay's CRDs are 4 MB: one second instead of four


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ApiCallError(RuntimeError):
    """The API server answered with an error; `status` and `message` are its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ControlPlane:
    """The processes and how to talk to them."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.tokens = {name: secrets.token_hex(16) for name in _USERS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.loopback: Loopback | None = None
        self.joining: servers_join.ServersJoin | None = None

    def up(
        self,
        *,
        controllers: bool = False,
        nodes: int = 0,
        gpus: int = 8,
        audit: bool = False,
        audited: Sequence[str] = (),
        qps: int = 200,
        crds: Sequence[Path] = (),
    ) -> None:
        """Starts everything and waits until it answers.

        Args:
            controllers: Also start controller manager, scheduler, KWOK and KubeRay.
            nodes: Fake nodes to make.
            gpus: nvidia.com/gpu of each.
            audit: Write an audit log (work/audit.log) with a line per request.
            audited: Users (keys of _USERS) whose requests alone are in it; all if empty.
            qps: Client limit of controller manager and scheduler; their defaults (20 and 50) slow
                Deployments 3.5 times.
            crds: More CustomResourceDefinitions; the garbage collector knows only what is there
                before it.
        """
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self._start_api(audit=audit, audited=audited)
        for crd in [*binaries.kuberay_crds(), *crds, *sorted((ROOT / "crds").glob("*.yaml"))]:
            self.apply(yaml.load(crd.read_text(), Loader=_LOADER))
        self.wait("CRDs", lambda: self.call("GET", "/apis/omni.vllm.ai/v1alpha1/omnideployments")[0] == 200)
        for manifest in (ROOT / "manifests/base/rbac.yaml", ROOT / "e2e/cluster/manifests/kuberay.yaml"):
            for obj in yaml.safe_load_all(manifest.read_text()):
                if obj and obj["kind"] in {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Namespace"}:
                    self.ensure_namespace(obj["metadata"].get("namespace"))
                    self.apply(obj)
        if controllers:
            # The garbage collector looks for kinds when it starts, and then every 30 s only.
            self.wait("discovery", self._all_discovered)
            self._start_controllers(qps=qps)
        for index in range(nodes):
            self.add_node(f"node-{index:03d}", {"nvidia.com/gpu": gpus}, zone=f"zone-{index % 3}")
        if controllers and nodes:
            self.wait("nodes", lambda: sum(_ready(n) for n in self.get("/api/v1/nodes")["items"]) == nodes)
        self.ensure_namespace("default")

    def down(self) -> None:
        """Ends the processes started here, newest first."""
        if self.joining is not None:
            self.joining.stop()
            self.joining = None
        if self.loopback is not None:
            self.loopback.close()
            self.loopback = None
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(8)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.processes = {}
        shutil.rmtree(self.work / "etcd", ignore_errors=True)

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig for one of the users."""
        path = self.work / f"{user}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "control-plane", "cluster": {"server": self.server, "insecure-skip-tls-verify": True}}
            ],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "control-plane", "context": {"cluster": "control-plane", "user": user}}],
            "current-context": "control-plane",
        }
        path.write_text(json.dumps(config))
        return path

    def spawn(self, name: str, command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a process; its output goes to a file in the work folder."""
        with (self.work / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.processes[name] = process
        return process

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
        user: str = "admin",
    ) -> tuple[int, Any]:
        """Status and parsed answer of one request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self.tokens[user]}")
        request.add_header("Content-Type", content)
        request.add_header("Accept", accept)
        try:
            with urllib.request.urlopen(request, context=_UNVERIFIED, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text[:1] in {b"{", b"["} else text.decode()
        except urllib.error.HTTPError as exc:
            text = exc.read()
            return exc.code, json.loads(text) if text[:1] == b"{" else text.decode()

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The answer of a request that must succeed."""
        status, answer = self.call(method, path, body, **options)
        if status >= 400:
            raise ApiCallError(status, answer["message"] if isinstance(answer, dict) else answer)
        return answer

    def get(self, path: str) -> Any:
        """A GET that must succeed."""
        return self.ok("GET", path)

    def apply(self, obj: dict[str, Any], *, manager: str = "kubectl", dry_run: bool = False) -> Any:
        """Server-side apply, strict."""
        query = f"?fieldManager={manager}&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.ok("PATCH", path_of(obj) + query, obj, content="application/apply-patch+yaml")

    def ensure_namespace(self, name: str | None, **labels: str) -> None:
        """A namespace with labels."""
        if name:
            meta = {"name": name, "labels": {key.replace("__", "/"): value for key, value in labels.items()}}
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

    def add_node(self, name: str, resources: dict[str, int], *, zone: str = "zone-0", **labels: str) -> None:
        """A node that is Ready; with controllers KWOK keeps it so."""
        sizes = {
            "cpu": "128",
            "memory": "1Ti",
            "pods": "1000",
            "ephemeral-storage": "1Ti",
            **{k: str(v) for k, v in resources.items()},
        }
        named = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone, "type": "kwok", **labels}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": named, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        }
        self.ok("POST", "/api/v1/nodes", node)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fake"}
        status = {"status": {"allocatable": sizes, "capacity": sizes, "conditions": [ready]}}
        self.ok("PATCH", f"/api/v1/nodes/{name}/status", status, content="application/merge-patch+json")

    def wait(self, what: str, test: Callable[[], Any], *, seconds: float = 60, every: float = 0.1) -> Any:
        """The first true answer of `test`; its errors of connection count as not yet."""
        end = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < end:
            ended = [name for name, process in self.processes.items() if process.poll() not in {None, -9}]
            if ended:
                msg = f"ended early: {ended}; see the logs in {self.work}"
                raise RuntimeError(msg)
            try:
                if last := test():
                    return last
            except (OSError, ApiCallError) as exc:
                last = exc
            time.sleep(every)
        msg = f"{what}: not within {seconds} s (last: {last})"
        raise TimeoutError(msg)

    def _start_api(self, *, audit: bool, audited: Sequence[str]) -> None:
        client, peer = free_port(), free_port()
        lines = [f'{self.tokens[name]},{user},{name},"{groups}"' for name, (user, groups) in _USERS.items()]
        (self.work / "tokens.csv").write_text("\n".join(lines))
        key = self.work / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        url = f"http://127.0.0.1:{client}"
        self.spawn("etcd", [
            str(binaries.ensure("etcd")), "--data-dir", str(self.work / "etcd"), "--unsafe-no-fsync",
            f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", f"--initial-cluster=default=http://127.0.0.1:{peer}",
        ])  # fmt: skip
        command = [
            str(binaries.ensure("kube-apiserver")), f"--etcd-servers={url}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.port}", "--endpoint-reconciler-type=none",
            f"--cert-dir={self.work / 'certs'}", f"--token-auth-file={self.work / 'tokens.csv'}",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://control-plane",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",
        ]  # fmt: skip
        if audit:
            users = {"users": [_USERS[name][0] for name in audited]} if audited else {}
            policy = {
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived"],
                "rules": [{"level": "Metadata", **users}, {"level": "None"}],
            }
            (self.work / "audit.yaml").write_text(json.dumps(policy))
            command += [
                f"--audit-policy-file={self.work / 'audit.yaml'}",
                f"--audit-log-path={self.work / 'audit.log'}",
            ]
        self.spawn("kube-apiserver", command)
        self.wait("API server", lambda: self.call("GET", "/readyz")[0] == 200)

    def _all_discovered(self) -> bool:
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        groups = self.ok("GET", "/apis", accept=accept)["items"]
        found = {
            f"{r['resource']}.{g['metadata']['name']}" for g in groups for v in g["versions"] for r in v["resources"]
        }
        crds = self.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
        return {crd["metadata"]["name"] for crd in crds} <= found

    def _start_controllers(self, *, qps: int) -> None:
        limits = [f"--kube-api-qps={qps}", f"--kube-api-burst={2 * qps}"]
        kcm = str(self.kubeconfig("kcm"))
        self.spawn("kube-controller-manager", [
            str(binaries.ensure("kube-controller-manager")), "--leader-elect=false", "--bind-address=127.0.0.1",
            f"--controllers={_CONTROLLERS}", f"--secure-port={free_port()}", f"--cert-dir={self.work / 'kcm-certs'}",
            *limits, f"--kubeconfig={kcm}",
            f"--authentication-kubeconfig={kcm}", f"--authorization-kubeconfig={kcm}",
            f"--service-account-private-key-file={self.work / 'sa.key'}",
            f"--root-ca-file={self.work / 'certs/apiserver.crt'}",
        ])  # fmt: skip
        scheduler = str(self.kubeconfig("scheduler"))
        config = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": scheduler, "qps": qps, "burst": 2 * qps},
        }
        (self.work / "scheduler.yaml").write_text(json.dumps(config))
        self.spawn("kube-scheduler", [
            str(binaries.ensure("kube-scheduler")), f"--config={self.work / 'scheduler.yaml'}",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={self.work / 'scheduler-certs'}",
            f"--authentication-kubeconfig={scheduler}", f"--authorization-kubeconfig={scheduler}",
        ])  # fmt: skip
        stages = binaries.kwok_stages()
        wanted = (
            "node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
            "pod/fast/pod-complete", "pod/fast/pod-delete",
        )  # fmt: skip
        self.loopback = Loopback()
        self.spawn("kwok", [
            str(binaries.ensure("kwok")), f"--kubeconfig={self.kubeconfig('kwok')}", "--manage-all-nodes",
            f"--cidr={self.loopback.cidr}", "--node-ip=127.0.0.1", "--node-lease-duration-seconds=40",
            *[f"--config={stages / f'{name}.yaml'}" for name in wanted], f"--config={self._cleanup_stage(stages)}",
            *[f"--config={path}" for path in servers_join.stages(stages / "pod/fast/pod-ready.yaml", self.work)],
        ])  # fmt: skip
        self.joining = servers_join.ServersJoin(
            port=self.port, token=self.tokens["admin"], patch=self._merge, loopback=self.loopback
        )
        self.joining.start()
        self.spawn("ray-operator", [
            str(binaries.ensure("ray-operator")), f"-kubeconfig={self.kubeconfig('kuberay')}",
            "-enable-leader-election=false", "-metrics-addr=0", f"-health-probe-bind-address=127.0.0.1:{free_port()}",
            "-reconcile-concurrency=2",
        ])  # fmt: skip

    def _merge(self, path: str, body: Any) -> Any:
        return self.ok("PATCH", path, body, content="application/merge-patch+json")

    def _cleanup_stage(self, stages: Path) -> Path:
        """A KWOK stage in which the pods that remove shared memory end well.

        KWOK's own ends pods of Jobs only.
        """
        stage = yaml.safe_load((stages / "pod/fast/pod-complete.yaml").read_text())
        stage["metadata"]["name"] = "cleanup-complete"
        expressions = stage["spec"]["selector"]["matchExpressions"]
        expressions[-1] = {"key": '.metadata.labels["omni.vllm.ai/component"]', "operator": "In", "values": ["cleanup"]}
        path = self.work / "cleanup-complete.yaml"
        path.write_text(yaml.safe_dump(stage))
        return path


def _ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions") or ()
    return not node["spec"].get("taints") and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


_PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "CustomResourceDefinition": "customresourcedefinitions",
}
_CLUSTERED = {
    "Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition",
    "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
}  # fmt: skip


def path_of(obj: dict[str, Any]) -> str:
    """Path of an object."""
    version, kind, meta = obj["apiVersion"], obj["kind"], obj["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = "" if kind in _CLUSTERED else f"/namespaces/{meta.get('namespace', 'default')}"
    return f"{prefix}{namespace}/{_PLURALS.get(kind, kind.lower() + 's')}/{meta['name']}"
